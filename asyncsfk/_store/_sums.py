"""What the whole file adds up to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import sqlite3


_MOST: Final = 1 << 62


def note(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a fact about the whole file, if it is known."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


class Totals(NamedTuple):
    """What the ledger adds up to."""

    requests: int
    retries: int
    charged: int
    maybe: int
    bytes: int
    pages: int

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Totals:
        """Add the ledger up."""
        sums = connection.execute(
            "SELECT count(*) FILTER (WHERE number > 0), count(*) FILTER (WHERE number > 1), "
            "ifnull(sum(charged), 0), ifnull(sum(maybe), 0), ifnull(sum(bytes), 0), "
            "(SELECT count(*) FROM page) FROM attempt"
        ).fetchone()
        return cls(*sums)


def prices(connection: sqlite3.Connection) -> dict[str, int]:
    """Return what a request of each route was ever charged, where that is more than a credit."""
    return dict(
        connection.execute(
            "SELECT route, max(charged) FROM attempt WHERE charged > 1 GROUP BY route"
        ).fetchall()
    )


class Summary(NamedTuple):
    """What the file holds, in numbers.

    Attributes:
        notes: Facts about the whole file.
        statuses: How many showcases are of each status, or ``under_way``.
        undecodable: How many pages could not be decoded.
        exposed: Credits that requests under way, or those of a process that died, may cost.
        first: When the first request ended.
        last: When the last one did.
    """

    notes: dict[str, str]
    statuses: dict[str, int]
    undecodable: int
    exposed: int
    first: float | None
    last: float | None

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Summary:
        """Count."""
        notes = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        statuses = connection.execute(
            "SELECT ifnull(status, 'under_way'), count(*) FROM showcase GROUP BY 1"
        ).fetchall()
        undecodable = connection.execute("SELECT count(*) FROM page WHERE NOT decoded").fetchone()
        exposed = connection.execute(
            "SELECT ifnull(sum(exposed), 0) FROM session WHERE ended IS NULL"
        ).fetchone()
        times = connection.execute("SELECT min(at), max(at) FROM attempt").fetchone()
        return cls(notes, dict(statuses), undecodable[0], exposed[0], *times)


class Past(NamedTuple):
    """What showcases in the file came to so far, and how long requests took.

    Attributes:
        pages: How many pages they have on average.
        empty: Which part of them is empty.
        seconds: How long a request takes on average.
    """

    pages: float | None = None
    empty: float | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, connection: sqlite3.Connection, max_pages: int | None) -> Past:
        """Average, with at most so many pages a showcase."""
        most = min(max_pages or _MOST, _MOST)
        pages, empty = connection.execute(
            # Partial ones have a page more at least; without them long showcases, which are
            # complete last, would be missing. Those that were wanted no further say nothing of
            # what more of them there is.
            "SELECT avg(min(pages, ?)), avg(products = 0) FROM (SELECT "
            "json_extract(CAST(outcome AS TEXT), '$.pages') + (status = 'partial') AS pages, "
            "json_extract(CAST(outcome AS TEXT), '$.usage.products') AS products, "
            "status = 'complete' AND json_extract(CAST(outcome AS TEXT), '$.nextCursor') IS NOT "
            "NULL AS is_cut FROM showcase WHERE status IN ('complete', 'partial')) "
            "WHERE NOT is_cut OR pages >= ?",
            (most, most),
        ).fetchone()
        (seconds,) = connection.execute(
            "SELECT avg(seconds) FROM attempt WHERE failure IS NULL AND number > 0"
        ).fetchone()
        return cls(pages, empty, seconds)
