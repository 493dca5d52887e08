"""What an archive holds -> models and outcomes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from asyncsfk import _reading, _routes, _wire
from asyncsfk._packing import ACCEPTED
from asyncsfk._page_cache import find
from asyncsfk._paging import Chain
from asyncsfk.errors import (
    BodyTooLargeError,
    Details,
    PaginationError,
    RunStoppedError,
    SfkError,
    UndecodableError,
)
from asyncsfk.models import InstagramLookup, TikTokLookup
from asyncsfk.outcomes import Outcome
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from asyncsfk._messages import Received
    from asyncsfk._store._reads import Showcase
    from asyncsfk.models import Answer, Product, ShowcasePage
    from asyncsfk.outcomes import Status

CANNOT_DECODE: Final = (UndecodableError, BodyTooLargeError)
_LOOKUPS: Final[dict[str, type[Answer]]] = {
    _routes.TIKTOK_PROFILE: TikTokLookup,
    _routes.INSTAGRAM_PROFILE: InstagramLookup,
}


def decode(
    route: str,
    encoding: str,
    raw: bytes,
    *,
    handle: str | None,
    region: str | None,
    cursor: str | None,
    max_body_bytes: int,
) -> Answer:
    """Return a kept answer as its route's model.

    Raises:
        UndecodableError: It is not the JSON of its route.
        BodyTooLargeError: It is over ``max_body_bytes`` once unpacked.
    """
    received = _wire.read_kept(
        _routes.decoder_of(route), encoding, raw, max_body_bytes=max_body_bytes
    )
    if isinstance(received, SfkError):
        where: dict[str, object] = {"cursor": cursor}
        if route == _routes.REVIEWS and cursor:
            # It is a number, unless the file was tampered with.
            with suppress(ValueError):
                where = {"page": int(cursor)}
        raise received.evolve(handle=handle, route=route, **where)
    if route == _routes.SHOWCASE:
        return _showcase_page(received, handle=handle or "", region=region, cursor=cursor, number=1)
    if route == _routes.REVIEWS:
        return _reading.review_page(received, Usage(pages=1, archived=1))
    if (model := _LOOKUPS.get(route)) is not None:
        return _reading.answer(received, model)
    return _reading.reply(received)


def _showcase_page(
    received: Received, *, handle: str, region: str | None, cursor: str | None, number: int
) -> ShowcasePage:
    usage = Usage(pages=1, products=len(received.data.products or ()), archived=1)
    return _reading.showcase_page(
        received, usage, handle=handle, region=region, cursor=cursor, number=number
    )


def pages(
    connection: sqlite3.Connection, showcase: Showcase, *, retried: int | None = None
) -> Iterator[ShowcasePage]:
    """Iterate the pages of a showcase, as far as they are kept and can be decoded.

    Args:
        connection: To the file.
        showcase: Whose.
        retried: If given, pages that could not be decoded when they came are tried again if their
            bodies are no larger than this; otherwise they are left to a run, or to `salvage`.
    """
    # If the last page leads nowhere new, it is for the outcome to say so.
    with suppress(PaginationError):
        yield from _followed(connection, showcase, retried=retried)


def _followed(
    connection: sqlite3.Connection, showcase: Showcase, *, retried: int | None
) -> Iterator[ShowcasePage]:
    """Iterate the pages of a showcase; see `pages`.

    Raises:
        PaginationError: The last of them leads nowhere new.
    """
    region = showcase.region or None
    chain: Chain[str] = Chain(None, None)
    cursor: str | None = None
    number = 1
    while True:
        request = _routes.showcase(showcase.handle, cursor=cursor, region=region)
        row = find(request, floor=showcase.floor, alone=False).read(connection)
        limit = ACCEPTED if row is not None and row.decoded else retried
        if row is None or limit is None:
            return
        received = _wire.read_kept(request.decoder, row.encoding, row.body, max_body_bytes=limit)
        if isinstance(received, SfkError):
            return
        page = _showcase_page(
            received, handle=showcase.handle, region=region, cursor=cursor, number=number
        )
        yield page
        following = chain.advance(page.next_cursor, has_more=page.has_more, empty=not page.products)
        if following is None:
            return
        cursor, number = following, number + 1


def told(showcase: Showcase) -> Outcome | None:
    """Return the outcome that a run has put on file, without products, if one has.

    Raises:
        ValueError: What is on file is no outcome; see `made_sense_of`.
    """
    if showcase.outcome is None:
        return None
    try:
        return Outcome.from_json(showcase.outcome)
    except UndecodableError as error:
        raise ValueError(error.message) from error


def goes_on(connection: sqlite3.Connection, showcase: Showcase, ended: Outcome | None) -> bool:
    """Tell whether the page that a showcase's outcome names as the next is on file."""
    if ended is None or ended.next_cursor is None:
        return False
    following = _routes.showcase(
        showcase.handle, cursor=ended.next_cursor, region=showcase.region or None
    )
    return find(following, floor=showcase.floor, alone=False).read(connection) is not None


def outcome(
    connection: sqlite3.Connection, showcase: Showcase, *, products: bool = True
) -> Outcome:
    """Return what became of a creator, with its products if wanted."""
    kept = _gathered(connection, showcase, products=products)
    ended = told(showcase)
    return _under_way(showcase, kept) if ended is None else _with_pages(ended, kept)


def so_far(connection: sqlite3.Connection, showcase: Showcase, *, retried: int) -> Outcome:
    """Return what became of a creator by its pages alone, without products; see `pages`."""
    kept = _gathered(connection, showcase, products=False, retried=retried)
    return _under_way(showcase, kept)


class _Kept(NamedTuple):
    """What the pages of a showcase add up to, as far as they are kept."""

    usage: Usage
    products: tuple[Product, ...]
    last: ShowcasePage | None
    misled: PaginationError | None


def _gathered(
    connection: sqlite3.Connection,
    showcase: Showcase,
    *,
    products: bool,
    retried: int | None = None,
) -> _Kept:
    usage, last, misled = Usage(), None, None
    found: list[Product] = []
    try:
        for last in _followed(connection, showcase, retried=retried):
            usage += last.usage
            if products:
                found += last.products
    except PaginationError as error:
        assert last is not None  # noqa: S101 - for the type checkers: it is what leads nowhere
        misled = error.evolve(
            handle=last.handle,
            route=_routes.SHOWCASE,
            request_id=last.request_id,
            cursor=last.cursor,
        )
    return _Kept(usage, tuple(found), last, misled)


def _with_pages(ended: Outcome, kept: _Kept) -> Outcome:
    """Return an outcome with the products that are on file, perhaps more than it had.

    Others may have gone on from there since, even to the end of the showcase.
    """
    pages, last = kept.usage.pages, kept.last
    usage = msgspec.structs.replace(ended.usage, pages=pages, products=kept.usage.products)
    now = msgspec.structs.replace(ended, products=kept.products, pages=pages, usage=usage)
    if last is None or pages == ended.pages:
        return now
    if kept.misled is not None:
        return msgspec.structs.replace(
            now, status="partial", error=kept.misled, next_cursor=kept.misled.cursor
        )
    if not last.has_more:
        return msgspec.structs.replace(now, status="complete", error=None, next_cursor=None)
    now = msgspec.structs.replace(now, next_cursor=last.next_cursor)
    if ended.status == "complete":
        return now
    # Where a page could not be had, or not be decoded, and is there by now, that is no reason more.
    error = ended.error if pages < ended.pages else _cut_short(last.handle, last.next_cursor)
    return msgspec.structs.replace(now, status="partial", error=error)


def _under_way(showcase: Showcase, kept: _Kept) -> Outcome:
    """Return what became of a creator for whom no run has put an outcome on file."""
    last = kept.last
    status: Status = "complete"
    cursor: str | None = None
    error: SfkError | None = None
    if kept.misled is not None:
        status, error, cursor = "partial", kept.misled, kept.misled.cursor
    elif last is None or last.has_more:
        status = "failed" if last is None else "partial"
        cursor = None if last is None else last.next_cursor
        error = _cut_short(showcase.handle, cursor)
    return Outcome(
        handle=showcase.handle,
        status=status,
        region=showcase.region or None,
        products=kept.products,
        pages=kept.usage.pages,
        usage=kept.usage,
        next_cursor=cursor,
        error=error,
    )


def _cut_short(handle: str, cursor: str | None) -> RunStoppedError:
    return RunStoppedError(
        "under way when the archive was last written", Details(handle=handle, cursor=cursor)
    )


def outcomes(connection: sqlite3.Connection, showcase: Showcase) -> Iterator[Outcome]:
    """Iterate what became of a creator: one outcome."""
    yield outcome(connection, showcase)


def errors(connection: sqlite3.Connection, showcase: Showcase) -> Iterator[Outcome]:
    """Iterate what became of a creator if it is not complete, without its products."""
    if showcase.status == "complete" and not goes_on(connection, showcase, told(showcase)):
        return
    found = outcome(connection, showcase, products=False)
    # One for which no outcome is on file can be complete all the same; and one that a limit has
    # completed can have been led nowhere since.
    if found.status != "complete":
        yield found
