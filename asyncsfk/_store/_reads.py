"""What is looked for in the file, and what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

R = TypeVar("R")

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
        floor: Its pages have ids from here on; lower ones are of an older showcase.
        stamps: Which of the runs that were under way then have finished it.
        status: Of its outcome; ``None`` while it is under way.
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
        """Tell whether a run has finished it."""
        return str(run_id) in self.stamps.split()


_TABLES: Final = {AttemptRow: "attempt", PageRow: "page", Showcase: "showcase"}


def select(kind: type[AttemptRow | PageRow | Showcase], rest: str) -> str:
    """Return the SQL that finds rows of a kind."""
    return f"SELECT {', '.join(kind._fields)} FROM {_TABLES[kind]} {rest}"  # noqa: S608 - our own words


def typed(kind: type[R], row: tuple[Any, ...]) -> R:
    """Return a row as what it should be: SQLite takes any value for any column.

    Raises:
        msgspec.ValidationError: It is none of that kind; see `made_sense_of`.
    """
    # Bytes are bytes, and never base64.
    return msgspec.convert(row, kind, builtin_types=(bytes,))


class Find(msgspec.Struct, frozen=True):
    """Look for the newest page under a key, from an id on, and take it if it is new enough.

    Attributes:
        key: What was asked for, as `Page` has it.
        showcase: Handle and region of the showcase whose page it is, if it is one.
        floor: The lowest id.
        since: The earliest time that it may be of.
        alone: Take also pages outside of their showcase; else only those of the showcase from
            ``floor`` on.
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
        # Asked of the newest alone: there may be thousands that are older still.
        return None if found is None or found.received < self.since else found


class Begun(NamedTuple):
    """A showcase that is there, as far as that goes.

    Attributes:
        showcase: What is known of it.
        page: The id of its first page, if that is there.
        received: When that was received.
        is_blocked: Whether there is a page of it that could not be decoded.
    """

    showcase: Showcase
    page: int | None
    received: float | None
    is_blocked: bool


class FindShowcase(NamedTuple):
    """Look how far a showcase has come."""

    handle: str
    region: str
    first: bytes

    @classmethod
    def read(
        cls, connection: sqlite3.Connection, asked: Sequence[FindShowcase]
    ) -> list[Begun | None]:
        """Find some together."""
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
    """Return what each finds; showcases are looked for together."""
    showcases = iter(
        FindShowcase.read(connection, [one for one in reads if isinstance(one, FindShowcase)])
    )
    return [one.read(connection) if isinstance(one, Find) else next(showcases) for one in reads]
