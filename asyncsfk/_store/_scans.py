"""Whole tables, iterated a few rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from asyncsfk._store._reads import AttemptRow, PageRow, Showcase, select, typed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

R = TypeVar("R", AttemptRow, PageRow, Showcase)

_AT_ONCE: Final = 200


def showcases(
    connection: sqlite3.Connection, handle: str | None, region: str | None
) -> Iterator[Showcase]:
    """Iterate the showcases of one creator or all, in one region or any."""
    wanted = {"handle": handle, "region": region}
    given = {name: value for name, value in wanted.items() if value is not None}
    which = "".join(f"{name} = ? AND " for name in given)
    return _rows(connection, Showcase, which, *given.values())


def pages(connection: sqlite3.Connection) -> Iterator[PageRow]:
    """Iterate all pages, one at a time: their bodies may be large."""
    return _rows(connection, PageRow, at_once=1)


def undecoded_pages(connection: sqlite3.Connection) -> Iterator[PageRow]:
    """Iterate the pages that could not be decoded, one at a time."""
    return _rows(connection, PageRow, "decoded = 0 AND ", at_once=1)


def attempts(connection: sqlite3.Connection) -> Iterator[AttemptRow]:
    """Iterate the ledger."""
    return _rows(connection, AttemptRow)


def _rows(
    connection: sqlite3.Connection,
    kind: type[R],
    which: str = "",
    *given: str,
    at_once: int = _AT_ONCE,
) -> Iterator[R]:
    """Iterate rows of a kind in the order of their ids, in a query for some rows at a time.

    One that stayed open would keep the writer from ever copying its whole log into the file.
    """
    query = select(kind, f"WHERE {which}id > ? ORDER BY id LIMIT ?")
    last = 0
    while rows := connection.execute(query, (*given, last, at_once)).fetchall():
        yield from (typed(kind, row) for row in rows)
        last = rows[-1][0]
