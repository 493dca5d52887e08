"""Whole tables, iterated some rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from asyncsfk._store._reads import AttemptRow, PageRow, Showcase

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_AT_ONCE: Final = 200


def showcases(
    connection: sqlite3.Connection, handle: str | None, region: str | None
) -> Iterator[Showcase]:
    """Iterate showcases, of one creator or all, in one region or any."""
    wanted = {"handle": handle, "region": region}
    given = [value for value in wanted.values() if value is not None]
    of_these = "".join(f"{name} = ? AND " for name, value in wanted.items() if value is not None)
    query = Showcase.select(f"WHERE {of_these}id > ? ORDER BY id LIMIT ?")
    return (Showcase(*row) for row in _rows(connection, query, *given))


def pages(connection: sqlite3.Connection) -> Iterator[PageRow]:
    """Iterate all pages, one at a time: their bodies may be large."""
    query = PageRow.select("WHERE id > ? ORDER BY id LIMIT ?")
    return (PageRow(*row) for row in _rows(connection, query, at_once=1))


def undecoded_pages(connection: sqlite3.Connection) -> Iterator[PageRow]:
    """Iterate the pages that could not be decoded, one at a time."""
    query = PageRow.select("WHERE NOT decoded AND id > ? ORDER BY id LIMIT ?")
    return (PageRow(*row) for row in _rows(connection, query, at_once=1))


def attempts(connection: sqlite3.Connection) -> Iterator[AttemptRow]:
    """Iterate the ledger."""
    query = AttemptRow.select("WHERE id > ? ORDER BY id LIMIT ?")
    return (AttemptRow(*row) for row in _rows(connection, query))


def _rows(
    connection: sqlite3.Connection, query: str, *given: str, at_once: int = _AT_ONCE
) -> Iterator[tuple[Any, ...]]:
    """Iterate rows, the first column of which is their id, some at a time.

    A query that stays open would keep a writer from ever taking its log back into the file.
    """
    last = 0
    while rows := connection.execute(query, (*given, last, at_once)).fetchall():
        yield from rows
        last = rows[-1][0]
