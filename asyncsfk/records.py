"""What an archive tells of what it holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec

from asyncsfk import _replay, _wire
from asyncsfk._checks import check_count
from asyncsfk._packing import CANNOT_UNPACK, unpack
from asyncsfk._text import abridged
from asyncsfk.config import DEFAULT_MAX_BODY_BYTES
from asyncsfk.errors import Details
from asyncsfk.usage import Usage  # noqa: TC001 - msgspec looks it up

if TYPE_CHECKING:
    from asyncsfk._store._reads import AttemptRow, PageRow
    from asyncsfk.models import Answer


__all__ = ["ArchiveInfo", "ArchivedAnswer", "LedgerEntry"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ArchivedAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An answer that was paid for, as it is kept.

    Attributes:
        route: The route's template.
        handle: The creator, product or other subject.
        region: The region that was asked for, of a showcase.
        cursor: What led to it: a cursor, or the number of a page of reviews.
        query: The parameters that it was asked for with, percent-encoded; ``None`` for a showcase's
            page, which has region and cursor, and for what an older version kept.
        request_id: The API's id of the answer.
        charged: Credits charged for it.
        maybe: Credits maybe charged for it, where it did not say.
        received: When it came.
        decoded: Whether it could be decoded when it came, or by `Archive.salvage` since.
        encoding: How ``raw`` is packed: ``gzip``, or nothing.
        raw: The body as it is kept: as it came over the wire, unless it was plain and packed here,
            or the key was struck out of it.
    """

    route: str
    handle: str | None
    region: str | None
    cursor: str | None
    query: str | None
    request_id: str | None
    charged: int
    maybe: int
    received: datetime
    decoded: bool
    encoding: str
    raw: bytes

    def __repr__(self) -> str:
        return abridged(self)

    @property
    def params(self) -> dict[str, str] | None:
        """The parameters of ``query`` by their names."""
        return None if self.query is None else dict(parse_qsl(self.query))

    def body(self, *, max_body_bytes: int = DEFAULT_MAX_BODY_BYTES) -> bytes:
        """Return the body unpacked.

        Args:
            max_body_bytes: The largest body, once unpacked.

        Raises:
            UndecodableError: It cannot be unpacked.
            BodyTooLargeError: It is over ``max_body_bytes``.
            InvalidArgumentError: That is not a whole number of 1 or more.
        """
        check_count("max_body_bytes", max_body_bytes)
        try:
            return unpack(self.encoding, self.raw, max_body_bytes)
        except CANNOT_UNPACK as error:
            raise _wire.not_unpacked(error, Details(body=self.raw), max_body_bytes) from error

    def decode(self, *, max_body_bytes: int = DEFAULT_MAX_BODY_BYTES) -> Answer:
        """Return it as a call returns it: a `ShowcasePage`, `TikTokLookup`, `Reply`, ...

        A showcase's page is ``number`` 1, as that of a single call; `Archive.pages` counts them.

        Args:
            max_body_bytes: The largest body, once unpacked.

        Raises:
            UndecodableError: This version cannot decode it either.
            BodyTooLargeError: It is over ``max_body_bytes`` once unpacked.
            InvalidArgumentError: That is not a whole number of 1 or more.
        """
        check_count("max_body_bytes", max_body_bytes)
        return _replay.decode(
            self.route,
            self.encoding,
            self.raw,
            handle=self.handle,
            region=self.region,
            cursor=self.cursor,
            max_body_bytes=max_body_bytes,
        )


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One request, and what it cost.

    Attributes:
        at: When it ended.
        route: The route's template; empty for what a process that died left behind.
        handle: What it was about.
        attempt: 1 for the first attempt of a call; 0 for what was not a request of its own.
        status: HTTP status, if an answer came.
        error: Name of the error's class, or ``ProcessDied`` for what a process that died left
            behind; ``None`` for a good answer.
        charged: Credits charged for certain.
        maybe: Credits that may have been charged.
        bytes: Body bytes received.
        seconds: How long it took, if that is known.
        request_id: The API's id of the answer.
    """

    at: datetime
    route: str
    handle: str | None
    attempt: int
    status: int | None
    error: str | None
    charged: int
    maybe: int
    bytes: int
    seconds: float | None
    request_id: str | None


class ArchiveInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an archive holds.

    Attributes:
        path: Where it is.
        size: Its size in bytes.
        origin: The API's origin whose answers it holds.
        complete: How many showcases runs have left complete; `partial` and `failed` likewise.
        under_way: How many showcases no run has brought to an end, as when it was left, killed or
            told to `stop`, though it may have called them partial.
        answers: How many answers it holds, of all routes.
        undecodable: How many of them could not be decoded; see `Archive.salvage`.
        usage: What all of it has cost; counts no products.
        unsettled: Credits that may be charged on top: at most so many for requests that are under
            way just now, or were when a process died.
        first: When the first request ended, if there was one.
        last: When the last one did.
    """

    path: str
    size: int
    origin: str | None
    complete: int
    partial: int
    failed: int
    under_way: int
    answers: int
    undecodable: int
    usage: Usage
    unsettled: int
    first: datetime | None
    last: datetime | None


def answer_of(row: PageRow) -> ArchivedAnswer:
    """Return the answer that a row describes."""
    return ArchivedAnswer(
        route=row.route,
        handle=row.handle,
        region=row.region,
        cursor=row.cursor,
        query=row.query,
        request_id=row.request_id,
        charged=row.charged,
        maybe=row.maybe,
        received=_moment(row.received),
        decoded=bool(row.decoded),
        encoding=row.encoding,
        raw=row.body,
    )


def entry_of(row: AttemptRow) -> LedgerEntry:
    """Return the line of the ledger that a row describes."""
    return LedgerEntry(
        at=_moment(row.at),
        route=row.route,
        handle=row.handle,
        attempt=row.number,
        status=row.status,
        error=row.failure,
        charged=row.charged,
        maybe=row.maybe,
        bytes=row.bytes,
        seconds=row.seconds,
        request_id=row.request_id,
    )


def when(stamp: float | None) -> datetime | None:
    """Return the time that a column holds."""
    return None if stamp is None else _moment(stamp)


def _moment(stamp: float) -> datetime:
    """Return the time that is so many seconds after 1970.

    Reckoned here: the operating system refuses some times, on Windows all before 1970.
    """
    return _EPOCH + timedelta(seconds=stamp)
