"""Queries for rows of the file, and the rows that they find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

R = TypeVar("R")

LOST: Final = "lost"
_MOST_ASKED: Final = 64


class AttemptRow(NamedTuple):
    """A line of the ledger; see `LedgerLine`."""

    id: int
    at: float
    route: str
    handle: str | None
    number: int
    status: int | None
    failure: str | None
    charged: int
    maybe: int
    bytes: int
    seconds: float | None
    request_id: str | None


class PageRow(NamedTuple):
    """A page as it is kept; see `Page`."""

    id: int
    route: str
    handle: str | None
    region: str | None
    cursor: str | None
    request_id: str | None
    charged: int
    maybe: int
    received: float
    decoded: int
    encoding: str
    body: bytes
    query: str | None


class Showcase(NamedTuple):
    """How far a creator's showcase has come, as it is kept.

    Attributes:
        floor: The lowest id of its pages; those with lower ids belong to an older showcase.
        stamps: The ids of runs that finished it: the last one, and those then still under way; and
            `LOST` if the last one failed at the first page and may have been charged. Its outcome
            may not have taken the place of an earlier one.
        status: The status of its outcome; ``None`` while it is under way.
        outcome: The outcome as JSON, without its products.
    """

    id: int
    handle: str
    region: str
    floor: int
    stamps: str
    status: str | None
    outcome: bytes | None

    def is_finished_by(self, run_id: int) -> bool:
        """Tell whether a run finished it."""
        return str(run_id) in self.stamps.split()

    @property
    def was_lost(self) -> bool:
        """Whether the last run failed at the first page, and may have been charged."""
        return LOST in self.stamps.split()


_TABLES: Final = {AttemptRow: "attempt", PageRow: "page", Showcase: "showcase"}


def select(kind: type[AttemptRow | PageRow | Showcase], rest: str) -> str:
    """Return the SQL that finds rows of a kind."""
    return f"SELECT {', '.join(kind._fields)} FROM {_TABLES[kind]} {rest}"  # noqa: S608 - our own words


def typed(kind: type[R], row: tuple[Any, ...]) -> R:
    """Check a row's types and return it as its kind: SQLite takes any value for any column.

    Raises:
        msgspec.ValidationError: It does not fit; see `made_sense_of`.
    """
    # Otherwise msgspec would take text for base64 where bytes belong.
    return msgspec.convert(row, kind, builtin_types=(bytes,))


class Find(msgspec.Struct, frozen=True):
    """Look for the newest page with a key, from an id on, and take it if it is new enough.

    Attributes:
        key: `Page.key`: what was asked for.
        showcase: Handle and region of its showcase, if it is a showcase's page.
        floor: The lowest id that will do.
        since: The earliest time of receipt that will do.
        alone: Also take pages that stand apart from their showcase, or are of one begun later;
            otherwise only those of the showcase that begins at ``floor``.
    """

    key: bytes
    showcase: tuple[str, str] | None
    floor: int
    since: float = 0.0
    alone: bool = True

    def read(self, connection: sqlite3.Connection) -> PageRow | None:
        """Find it."""
        whose, names = "IS NULL", self.showcase or ()
        if names:
            whose = "= (SELECT id FROM showcase WHERE handle = ? AND region = ?)"
        row = connection.execute(
            select(
                PageRow,
                f"WHERE part_of {whose} AND key = ? AND id >= ? "  # noqa: S608 - our own words
                "AND (? OR NOT apart AND NOT EXISTS "
                # Not of a showcase that was bought afresh since.
                "(SELECT 1 FROM showcase WHERE showcase.id = part_of AND floor > ? AND "
                "page.id >= floor)) ORDER BY id DESC LIMIT 1",
            ),
            (*names, self.key, self.floor, self.alone, self.floor),
        ).fetchone()
        found = None if row is None else typed(PageRow, row)
        # Not asked in SQL: that would go through what may be thousands of older pages.
        return None if found is None or found.received < self.since else found


class Begun(NamedTuple):
    """A showcase that is on file, at least in part.

    Attributes:
        showcase: What is known of it.
        page: The id of its first page, if that is on file.
        received: When that page was received.
        is_blocked: Whether one of its pages could not be decoded.
    """

    showcase: Showcase
    page: int | None
    received: float | None
    is_blocked: bool


class FindShowcase(NamedTuple):
    """Look how far a showcase has come; ``first`` is the key of its first page."""

    handle: str
    region: str
    first: bytes

    @classmethod
    def read(
        cls, connection: sqlite3.Connection, asked: Sequence[FindShowcase]
    ) -> list[Begun | None]:
        """Find several in one query."""
        columns = ", ".join(f"showcase.{name}" for name in Showcase._fields)
        found: dict[int, Begun] = {}
        for start in range(0, len(asked), _MOST_ASKED):
            some = asked[start : start + _MOST_ASKED]
            rows = ", ".join(["(?, ?, ?, ?)"] * len(some))
            given = [value for at, one in enumerate(some, start) for value in (at, *one)]
            for at, page, received, is_blocked, *values in connection.execute(
                f"WITH asked (at, wanted, part, first) AS (VALUES {rows}) "  # noqa: S608 - our own words
                "SELECT at, began.id, began.received, EXISTS (SELECT 1 "
                "FROM page WHERE part_of = showcase.id AND page.id >= floor AND NOT apart AND NOT "
                f"decoded), {columns} "
                "FROM asked JOIN showcase ON showcase.handle = wanted AND showcase.region = part "
                "LEFT JOIN page AS began ON began.id = (SELECT max(id) FROM page WHERE "
                "part_of = showcase.id AND key = first)",
                given,
            ):
                found[at] = typed(Begun, (values, page, received, bool(is_blocked)))
        return [found.get(at) for at in range(len(asked))]


Read = Find | FindShowcase


def read_all(connection: sqlite3.Connection, reads: Sequence[Read]) -> list[Any]:
    """Return what each read finds; all showcases are looked for in one go."""
    showcases = iter(
        FindShowcase.read(connection, [one for one in reads if isinstance(one, FindShowcase)])
    )
    return [one.read(connection) if isinstance(one, Find) else next(showcases) for one in reads]
