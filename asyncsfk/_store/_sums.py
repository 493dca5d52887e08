"""Sums over the whole file."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import msgspec

from asyncsfk._store._lengths import Lengths
from asyncsfk._store._reads import typed
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

# Of credits that were given back nobody knows: they would raise the ceiling of whoever goes on.
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


def notes(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the facts about the whole file."""
    return dict(connection.execute("SELECT name, value FROM meta").fetchall())


def usage(connection: sqlite3.Connection) -> Usage:
    """Return what the ledger adds up to."""
    row = connection.execute(
        "SELECT ifnull(sum(number > 0), 0), ifnull(sum(number > 1), 0), "
        "ifnull(sum(charged), 0), ifnull(sum(maybe), 0), ifnull(sum(bytes), 0), "
        "(SELECT count(*) FROM page) FROM attempt"
    ).fetchone()
    # SQLite sums up what is no number, too, but then the sum is no integer, and refused here.
    requests, retries, charged, maybe, size, pages = typed(tuple[_Count, ...], row)
    return Usage(
        requests=requests,
        retries=retries,
        charged=charged,
        maybe=maybe,
        bytes=size,
        pages=pages,
    )


class Spent(NamedTuple):
    """What the ledger adds up to in credits, and the most that a request was charged."""

    charged: _Count
    maybe: _Count
    highest: _Count


def spent(connection: sqlite3.Connection) -> Spent:
    """Return what was spent, by the ledger."""
    row = connection.execute(
        "SELECT ifnull(sum(charged), 0), ifnull(sum(maybe), 0), ifnull(max(charged), 0) "
        "FROM attempt"
    ).fetchone()
    return typed(Spent, row)


def prices(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the most that a request of each route was charged, if that is more than a credit."""
    highest: dict[str, int] = {}
    # No GROUP BY: to sort them, SQLite would hold every such line of the ledger in memory.
    for route, charged in connection.execute(
        "SELECT DISTINCT route, charged FROM attempt WHERE charged > 1"
    ):
        highest[route] = max(charged, highest.get(route, 0))
    return highest


def exposed(connection: sqlite3.Connection) -> int:
    """Return the credits that requests under way, or those of a process that died, may cost."""
    rows = connection.execute("SELECT exposed FROM session WHERE ended IS NULL")
    # One by one: in a sum of SQLite's, what one session gave back would not show.
    return sum(typed(tuple[_Count], row)[0] for row in rows)


class Summary(NamedTuple):
    """What the file holds, in numbers.

    Attributes:
        notes: Facts about the whole file.
        statuses: How many showcases have each status, or are ``under_way``.
        undecodable: How many pages could not be decoded.
        exposed: Credits that requests under way, or those of a process that died, may cost.
        first: When the first request ended.
        last: When the last one did.
    """

    notes: dict[str, str]
    statuses: Counter[str]
    undecodable: int
    exposed: int
    first: float | None
    last: float | None

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Summary:
        """Count."""
        # Counted here: to group them, SQLite would hold a row for each showcase in memory.
        rows = connection.execute("SELECT ifnull(status, 'under_way') FROM showcase")
        statuses = Counter(status for (status,) in rows)
        undecodable = connection.execute("SELECT count(*) FROM page WHERE decoded = 0").fetchone()
        times = connection.execute("SELECT min(at), max(at) FROM attempt").fetchone()
        return cls(notes(connection), statuses, undecodable[0], exposed(connection), *times)


class Past(NamedTuple):
    """How many pages showcases in the file have, what requests cost, and how long these took.

    Attributes:
        lengths: How many pages showcases have.
        empty: The share of showcases that are empty; ``None`` if there are none.
        seconds: How long a request takes on average.
        latest: For some routes, what the latest request that cost something was charged.
        highest: For each route, the most that a request was charged, if more than a credit.
    """

    lengths: Lengths
    empty: float | None
    seconds: float | None
    latest: dict[str, int]
    highest: dict[str, int]

    @classmethod
    def read(
        cls, connection: sqlite3.Connection, max_pages: int | None, routes: Sequence[str]
    ) -> Past:
        """Look at the first ``max_pages`` pages of showcases, and at what some routes cost."""
        (empty,) = connection.execute(
            "SELECT avg(json_extract(CAST(outcome AS TEXT), '$.usage.products') = 0) FROM showcase "
            "WHERE status IN ('complete', 'partial')"
        ).fetchone()
        (seconds,) = connection.execute(
            "SELECT avg(seconds) FROM attempt WHERE failure IS NULL"
        ).fetchone()
        highest = prices(connection)
        return cls(
            lengths=Lengths.read(connection, max_pages or sys.maxsize),
            empty=empty,
            seconds=seconds,
            # A route that never cost more than a credit is not looked up: that reads the ledger.
            latest={route: _latest(connection, route) for route in routes if route in highest},
            highest=highest,
        )


def _latest(connection: sqlite3.Connection, route: str) -> int:
    row = connection.execute(
        "SELECT charged FROM attempt WHERE route = ? AND charged > 0 ORDER BY id DESC LIMIT 1",
        (route,),
    ).fetchone()
    (price,) = typed(tuple[int], row)
    return price
