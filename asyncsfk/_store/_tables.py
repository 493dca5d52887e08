"""The file's tables, as writes fill them: rows gather, and many go in with one statement."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_MOST_PARAMETERS: Final = 999  # that every SQLite accepts


class Insert:
    """Puts rows into a table.

    Args:
        table: Its name.
        columns: The names of its columns.
        last: SQL for a row's last column, if that is not simply a value that is given.
        conflict: SQL for what becomes of a row that is there already.
    """

    def __init__(self, table: str, columns: str, *, last: str = "?", conflict: str = "") -> None:
        self._head = f"INSERT INTO {table} ({columns}) VALUES "  # noqa: S608 - our own words
        self._row = f"({'?, ' * (len(columns.split()) - 1)}{last})"
        self._tail = f" {conflict}"
        self._most_rows = 1 << (_MOST_PARAMETERS // self._row.count("?")).bit_length() - 1

    def execute(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Put rows in; return the id of the last."""
        at, last = 0, 0
        while left := len(rows) - at:
            # Powers of two: few statements, and few different texts for SQLite to prepare.
            count = min(self._most_rows, 1 << left.bit_length() - 1)
            sql = f"{self._head}{', '.join([self._row] * count)}{self._tail}"
            some = chain.from_iterable(rows[at : at + count])
            last = connection.execute(sql, tuple(some)).lastrowid or 0
            at += count
        return last


ATTEMPTS: Final = Insert(
    "attempt",
    "at, seconds, route, handle, number, status, failure, charged, maybe, bytes, request_id",
)
PAGES: Final = Insert(
    "page",
    "key, route, handle, region, cursor, request_id, charged, maybe, received, decoded, encoding, "
    "body, apart, query, part_of",
    last="(SELECT id FROM showcase WHERE handle = ? AND region = ?)",
)
OPENED: Final = Insert("showcase", "handle, region", conflict="ON CONFLICT DO NOTHING")
# An outcome without pages does not replace one that has pages on file (buying these afresh may have
# failed), nor does one of an older showcase, which was bought afresh meanwhile. If no outcome is
# given, the one that is there stays.
_STAYS: Final = (
    "excluded.outcome IS NULL OR floor > excluded.floor OR excluded.status = 'failed' "
    "AND ifnull(status, 'failed') != 'failed'"
)
FINISHED: Final = Insert(
    "showcase",
    "handle, region, floor, stamps, status, finished, outcome",
    # SQLite before 3.35 has to be told the columns.
    conflict="ON CONFLICT (handle, region) DO UPDATE SET stamps = excluded.stamps, "
    + ", ".join(
        f"{name} = CASE WHEN {_STAYS} THEN {name} ELSE excluded.{name} END"
        for name in ("status", "finished", "outcome")
    ),
)

_ORDER: Final = (ATTEMPTS, OPENED, PAGES, FINISHED)


class Tables:
    """The file's tables, within a transaction.

    With a statement for each row, the interpreter's lock would be released and taken for each, in
    competition with the event loop's thread. A table's rows are put in in the order in which they
    were added, and showcases before their pages.

    Args:
        connection: What to write to.

    Attributes:
        last_page: The highest id of a page put in, or 0.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._rows: dict[Insert, list[tuple[Any, ...]]] = {}
        self.last_page = 0

    def add(self, insert: Insert, row: tuple[Any, ...]) -> None:
        """Add a row, to go in at the next `flush`."""
        self._rows.setdefault(insert, []).append(row)

    def flush(self) -> sqlite3.Connection:
        """Put in what has gathered; return the connection, for statements that must see it."""
        gathered, self._rows = self._rows, {}
        for insert in _ORDER:
            if rows := gathered.get(insert):
                last = insert.execute(self._connection, rows)
                if insert is PAGES:
                    self.last_page = last
        return self._connection
