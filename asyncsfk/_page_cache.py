"""An archive as a call's cache: where answers are kept, and which kept ones will do."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec

from asyncsfk._packing import CANNOT_UNPACK, encoding_of, unpack, unpack_some
from asyncsfk._store._reads import Find
from asyncsfk._store._writes import LedgerLine, Page
from asyncsfk.errors import SfkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncsfk._messages import Meta, Received, Request, Response
    from asyncsfk._store._exposed import Exposed
    from asyncsfk._store._reads import PageRow
    from asyncsfk._store._store import Store
    from asyncsfk._store._watch import Watch
    from asyncsfk.config import ApiKey
    from asyncsfk.usage import Usage


_SEARCHED: Final = 4  # times the largest body: how far a refused body is searched for the key


class PageCache(msgspec.Struct, frozen=True, kw_only=True):
    """An archive as a call's cache: where answers are kept, and which kept ones will do.

    Attributes:
        store: The archive's file.
        offline: Why nothing must be sent: what is not kept fails with this.
        floor: Kept pages with lower ids will not do.
        since: Nor will those received before this, in seconds since 1970.
        look: Whether to look at all: there may be pages that will do.
        alone: Whether this is a call for a single page. A page that it buys afresh, and that the
            showcase on file has, stays apart; but a first page starts the showcase over.
        watch: Sees what others keep of the showcase.
        anew: If given, a showcase begins anew: a first page below this id is of an older one.
        has_failed: Whether this very call has failed before, by what the archive says, and may have
            been charged then: if it does so again, that says nothing of the API.
        take_over: Called with the id of a page with which others have begun the showcase anew;
            without it, such a page will not do.
    """

    store: Store
    offline: SfkError | None = None
    floor: int = 0
    since: float = 0.0
    look: bool = True
    alone: bool = True
    anew: int | None = None
    watch: Watch | None = None
    has_failed: bool = False
    take_over: Callable[[int], None] | None = None

    async def find(self, request: Request) -> PageRow | None:
        """Return the kept answer to a request, if there is one that will do.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        if not self.look:
            return None
        alone = self.alone or self.take_over is not None
        row = await self.store.find(find(request, floor=self.floor, since=self.since, alone=alone))
        return row if row is not None and self.takes(row) else None

    def takes(self, row: PageRow) -> bool:
        """Take a kept page, if it will do; tell whether it does."""
        will_do = row.id >= self.floor and row.received >= self.since
        if will_do and self.take_over is not None:
            self.take_over(row.id)
        return will_do

    def put(
        self,
        request: Request,
        response: Response,
        result: Received | SfkError,
        line: LedgerLine,
        *,
        api_key: ApiKey | None,
        max_body_bytes: int,
        once: bool = False,
    ) -> Awaitable[None]:
        """Keep an answer that was paid for, decoded or not; it is on file once this was awaited.

        Args:
            request: What was asked for.
            response: What came.
            result: What was made of it.
            line: The ledger's line on the attempt that got it.
            api_key: Struck out of the body, in case it was echoed.
            max_body_bytes: The largest body, once unpacked.
            once: Keep it only if there is none yet that will do.

        Raises:
            ArchiveError: It cannot be kept.
        """
        anew, apart = self.anew, False
        if self.alone and request.is_showcase and (self.floor or self.since):
            if request.cursor is None:
                anew = self.store.last_page + 1
            else:
                apart = True
        encoding, body = _without_key(response, result, api_key, max_body_bytes)
        return self.store.keep(
            Page(
                key=key_of(request),
                region=request.region,
                cursor=request.cursor if request.page is None else str(request.page),
                decoded=not isinstance(result, SfkError),
                encoding=encoding,
                body=body,
                line=line,
                showcase=request.showcase,
                query=_query_of(request, api_key),
                opens=self.alone or request.cursor is None,
                anew=anew,
                apart=apart,
                unless=find(request, floor=self.floor, since=self.since) if once else None,
                by=self.watch,
            )
        )


def find(request: Request, *, floor: int, since: float = 0.0, alone: bool = True) -> Find:
    """Return what finds the newest kept answer to a request; see `Find`."""
    return Find(key_of(request), request.showcase, floor=floor, since=since, alone=alone)


def key_of(request: Request) -> bytes:
    """Return what a request asks for, shortened to a key."""
    return blake2b(request.target.encode(), digest_size=16).digest()


def line_of(
    request: Request,
    usage: Usage,
    *,
    number: int,
    status: int | None,
    answer: SfkError | Meta | None,
    seconds: float | None = None,
    failure: str | None = None,
    exposed: Exposed | None = None,
) -> LedgerLine:
    """Return the ledger's line on an attempt that has just ended."""
    return LedgerLine(
        at=time.time(),
        seconds=seconds,
        route=request.route,
        handle=request.handle,
        number=number,
        status=status,
        failure=failure,
        charged=usage.charged,
        maybe=usage.maybe,
        bytes=usage.bytes,
        request_id=None if answer is None else answer.request_id,
        exposed=exposed,
    )


def _query_of(request: Request, api_key: ApiKey | None) -> str | None:
    """Return a request's query, unless region and cursor tell it, or the API key is in it."""
    if request.is_showcase:
        return None
    query = request.target.partition("?")[2]
    plain = unquote(query)
    return query if api_key is None or api_key.redact(plain) is plain else None


def _without_key(
    response: Response, result: Received | SfkError, api_key: ApiKey | None, max_body_bytes: int
) -> tuple[str, bytes]:
    """Return how a body is packed, and the body itself: as it came, unless the key is in it."""
    encoding = encoding_of(response.headers)
    if api_key is None:
        return encoding, response.body
    if isinstance(result, SfkError):
        try:
            plain = unpack(encoding, response.body, max_body_bytes)
        except CANNOT_UNPACK:
            plain = unpack_some(response.body, _SEARCHED * max_body_bytes)
    else:
        plain = result.body
    clean = api_key.redact_bytes(plain)
    if clean is not plain:
        return "", clean
    return encoding, plain if plain is response.body else api_key.redact_bytes(response.body)
