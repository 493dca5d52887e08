"""What goes into the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from asyncsfk._packing import GZIP, WORTH_PACKING, pack
from asyncsfk._store._reads import Find
from asyncsfk._store._tables import ATTEMPTS, FINISHED, OPENED, PAGES

if TYPE_CHECKING:
    import sqlite3

    from asyncsfk._store._tables import Tables
    from asyncsfk._store._watch import Watch

_MOST: Final = 1 << 40
_NONE: Final = (None, None)
_WORTH_KEEPING: Final = 0.8  # of its size


class Write(Protocol):
    """Something to be written, within a transaction of others."""

    def apply(self, tables: Tables) -> None:
        """Write it."""


class Exposed:
    """What a request may be charged while nobody can tell, one of those that are under way."""

    __slots__ = ("credits",)

    def __init__(self, credits: int) -> None:
        self.credits = credits


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as the ledger keeps it.

    Attributes:
        at: When it ended, in seconds since 1970.
        seconds: How long it took; ``None`` for what was not measured.
        number: 1 for the first attempt of a call.
        status: HTTP status, if an answer came.
        failure: Name of the error's class; ``None`` for a good answer.
        bytes: Body bytes received.
        exposed: What was exposed for it, which is not kept; ``None`` if that is nothing.
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
        key: What was asked for, shortened to 16 bytes.
        region: As it was asked for.
        decoded: Whether this version could decode it.
        encoding: Of the body: ``gzip``, or nothing for a plain one.
        body: As it came over the wire.
        line: The ledger's, on the attempt that got it.
        showcase: Handle and region of the showcase that it is a page of, if it is.
        query: What was asked with, percent-encoded, where region and cursor do not tell.
        opens: It may be the first of its showcase in the file.
        floor: Where it begins a showcase anew: pages below this id are of an older one.
        apart: It was bought at another time than the showcase that is there, and is left out of it
            if that has this page already.
        unless_from: It is not written if a page with its key is there, with an id from this on.
        unless_since: And received from this time on, in seconds since 1970.
        by: What sees who keeps it, if anything does; it need not be told.
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
    floor: int | None = None
    apart: bool = False
    unless_from: int | None = None
    unless_since: float = 0.0
    by: Watch | None = None

    def apply(self, tables: Tables) -> None:
        """Write it and its line of the ledger."""
        line = self.line
        line.apply(tables)
        if self.unless_from is not None:
            same = Find(self.key, self.showcase, floor=self.unless_from, since=self.unless_since)
            if same.read(tables.flush()) is not None:
                return
        if self.opens and self.showcase is not None:
            tables.add(OPENED, self.showcase)
            if self.floor is not None:
                tables.flush().execute(
                    "UPDATE showcase SET floor = ?, status = NULL, outcome = NULL "
                    "WHERE handle = ? AND region = ?",
                    (self.floor, *self.showcase),
                )
        encoding, body = _packed(self.encoding, self.body)
        # Nor does what cannot be read take the place of what can.
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
        """Tell whether the showcase that is there has a page under this key."""
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
        others: Which others are under way: what they have finished stays noted.
        outcome: As JSON, without its products; ``None`` leaves the one that is there.
    """

    handle: str
    region: str
    run_id: int
    others: frozenset[int]
    status: str
    finished: float
    outcome: bytes | None

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
        tables.add(
            FINISHED,
            (
                self.handle,
                self.region,
                " ".join(stamps),
                self.status,
                self.finished,
                self.outcome,
            ),
        )


class Exposure(msgspec.Struct, frozen=True):
    """How many credits requests under way may cost, should we die before their answers.

    Attributes:
        session: Whose.
        credits: How many.
        is_all: No more than that; else at least so many, for of two that were begun at once the
            smaller may come last.
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
    """A page that can be decoded after all, or is to be taken for one that cannot."""

    id: int
    can_be: bool = True

    def apply(self, tables: Tables) -> None:
        """Write it."""
        tables.flush().execute("UPDATE page SET decoded = ? WHERE id = ?", (self.can_be, self.id))


def _bounded(credits: int) -> int:
    """Return a number of credits that SQLite can hold, and add up: the API's have no bound."""
    return min(credits, _MOST)


def _packed(encoding: str, body: bytes) -> tuple[str, bytes]:
    """Return a plain body packed, where that pays."""
    if encoding or len(body) < WORTH_PACKING:
        return encoding, body
    packed = pack(body)
    return (GZIP, packed) if len(packed) < len(body) * _WORTH_KEEPING else (encoding, body)
