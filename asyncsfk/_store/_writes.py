"""What is written into the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from asyncsfk._packing import GZIP, WORTH_PACKING, pack
from asyncsfk._store._reads import LOST
from asyncsfk._store._tables import ATTEMPTS, FINISHED, OPENED, PAGES

if TYPE_CHECKING:
    import sqlite3

    from asyncsfk._store._exposed import Exposed
    from asyncsfk._store._reads import Find
    from asyncsfk._store._tables import Tables
    from asyncsfk._store._watch import Watch

_MOST: Final = 1 << 40
_NONE: Final = (None, None)
_WORTH_KEEPING: Final = 0.8  # of its size: a body that packs no better is kept plain


class Write(Protocol):
    """Something to be written, together with others in one transaction."""

    def apply(self, tables: Tables) -> None:
        """Write it."""


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as the ledger keeps it.

    Attributes:
        at: When it ended, in seconds since 1970.
        seconds: How long it took; ``None`` if that was not measured.
        number: 1 for the first attempt of a call.
        status: HTTP status, if an answer came.
        failure: Name of the error's class; ``None`` for a good answer.
        bytes: Body bytes received.
        exposed: What was exposed for it, if anything; this is not written.
    """

    at: float
    seconds: float | None
    route: str
    handle: str | None
    number: int
    status: int | None
    failure: str | None
    charged: int
    maybe: int
    bytes: int = 0
    request_id: str | None = None
    exposed: Exposed | None = None

    def apply(self, tables: Tables) -> None:
        """Write it."""
        tables.add(
            ATTEMPTS,
            (
                self.at,
                self.seconds,
                self.route,
                self.handle,
                self.number,
                self.status,
                self.failure,
                _bounded(self.charged),
                _bounded(self.maybe),
                self.bytes,
                self.request_id,
            ),
        )


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that was paid for, with the ledger's line on the attempt that got it.

    Attributes:
        key: What was asked for, hashed to 16 bytes.
        region: The region that was asked for.
        decoded: Whether this version could decode it.
        encoding: How the body is packed: ``gzip``, or empty for a plain one.
        body: The body as it came over the wire.
        line: The ledger's line on the attempt that got it.
        showcase: Handle and region of its showcase, if it is a showcase's page.
        query: The query that was asked with, percent-encoded, unless region and cursor tell it.
        opens: Whether it may be the first page of its showcase in the file.
        anew: Given if it begins its showcase anew: a first page with a lower id is of the older.
        apart: Whether it was bought at another time than the showcase on file, and so is left out
            of it if that has this page already.
        unless: It is not written if this finds a page.
        by: The watch of whoever keeps it, if there is one, which is not told.
    """

    key: bytes
    region: str | None
    cursor: str | None
    decoded: bool
    encoding: str
    body: bytes
    line: LedgerLine
    showcase: tuple[str, str] | None = None
    query: str | None = None
    opens: bool = False
    anew: int | None = None
    apart: bool = False
    unless: Find | None = None
    by: Watch | None = None

    def apply(self, tables: Tables) -> None:
        """Write it and its line of the ledger."""
        line = self.line
        line.apply(tables)
        if self.unless is not None and self.unless.read(tables.flush()) is not None:
            return
        if self.opens and self.showcase is not None:
            tables.add(OPENED, self.showcase)
            if self.anew is not None:
                # Whoever was faster has begun it: theirs is new enough. What came before that or
                # this page is of the older showcase, whenever it was bought.
                tables.flush().execute(
                    "UPDATE showcase SET status = NULL, outcome = NULL, floor = ifnull("
                    "(SELECT min(id) FROM page WHERE part_of = showcase.id AND key = ? "
                    "AND page.id >= ?), (SELECT ifnull(max(id), 0) + 1 FROM page)) "
                    "WHERE handle = ? AND region = ?",
                    (self.key, self.anew, *self.showcase),
                )
        encoding, body = _packed(self.encoding, self.body)
        # A page that cannot be decoded must not take the place of one that can, either.
        is_extra = self.apart or not self.decoded
        tables.add(
            PAGES,
            (
                self.key,
                line.route,
                line.handle,
                self.region,
                self.cursor,
                line.request_id,
                _bounded(line.charged),
                _bounded(line.maybe),
                line.at,
                self.decoded,
                encoding,
                body,
                is_extra and self._is_there(tables.flush()),
                self.query,
                *(self.showcase or _NONE),
            ),
        )

    def _is_there(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the showcase on file has a page with this key."""
        row = connection.execute(
            "SELECT 1 FROM page JOIN showcase ON part_of = showcase.id WHERE showcase.handle = ? "
            "AND showcase.region = ? AND key = ? AND NOT apart AND page.id >= floor LIMIT 1",
            (*(self.showcase or _NONE), self.key),
        ).fetchone()
        return row is not None


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """That a run has finished a showcase, and with what outcome.

    Attributes:
        run_id: Which run.
        others: The other runs under way; if they finished the showcase, that stays noted.
        floor: No page of its showcase has a lower id: if the one on file was begun later, the
            outcome is not of that.
        outcome: The outcome as JSON, without its products; ``None`` leaves the one that is there.
        was_lost: Whether it failed at the first page, and may have been charged.
    """

    handle: str
    region: str
    run_id: int
    others: frozenset[int]
    floor: int
    status: str
    finished: float
    outcome: bytes | None
    was_lost: bool

    def apply(self, tables: Tables) -> None:
        """Write it."""
        stamps = [str(self.run_id)]
        if self.others:
            row = (
                tables.flush()
                .execute(
                    "SELECT stamps FROM showcase WHERE handle = ? AND region = ?",
                    (self.handle, self.region),
                )
                .fetchone()
            )
            noted: list[str] = [] if row is None else row[0].split()
            others = {str(run_id) for run_id in self.others}
            stamps += [run_id for run_id in noted if run_id in others]
        if self.was_lost:
            stamps.append(LOST)
        tables.add(
            FINISHED,
            (
                self.handle,
                self.region,
                self.floor,
                " ".join(stamps),
                self.status,
                self.finished,
                self.outcome,
            ),
        )


class Exposure(msgspec.Struct, frozen=True):
    """How many credits requests under way may cost, in case we die before their answers come.

    Attributes:
        session: The id of our session.
        credits: How many.
        is_all: Whether it is exactly that. Otherwise it is at least that: of two that were begun at
            once, the smaller may be written last, and must not replace the larger.
    """

    session: int
    credits: int
    is_all: bool = False

    def apply(self, tables: Tables) -> None:
        """Write it."""
        exposed = "?" if self.is_all else "max(exposed, ?)"
        tables.flush().execute(
            f"UPDATE session SET exposed = {exposed} WHERE id = ?",  # noqa: S608 - our own words
            (_bounded(self.credits), self.session),
        )


class Note(msgspec.Struct, frozen=True):
    """A fact about the whole file."""

    name: str
    value: str

    def apply(self, tables: Tables) -> None:
        """Write it."""
        tables.flush().execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (self.name, self.value))


class Decoded(msgspec.Struct, frozen=True):
    """Whether a page can be decoded, where that differs from what the file says."""

    id: int
    can_be: bool = True

    def apply(self, tables: Tables) -> None:
        """Write it."""
        tables.flush().execute("UPDATE page SET decoded = ? WHERE id = ?", (self.can_be, self.id))


def _bounded(credits: int) -> int:
    """Limit a number of credits to what SQLite can hold and add up: the API sets no limit."""
    return min(credits, _MOST)


def _packed(encoding: str, body: bytes) -> tuple[str, bytes]:
    """Pack a plain body if that pays; return its encoding and the body."""
    if encoding or len(body) < WORTH_PACKING:
        return encoding, body
    packed = pack(body)
    return (GZIP, packed) if len(packed) < len(body) * _WORTH_KEEPING else (encoding, body)
