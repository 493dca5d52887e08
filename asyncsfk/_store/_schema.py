"""The file's schema: how it is made, checked, migrated and opened for reading."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from asyncsfk._store._sqlite import beside, connect, is_there, made_sense_of, shown, translated
from asyncsfk.errors import ArchiveError, ArchiveFormatError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

APPLICATION_ID: Final = 0x53464B41
"""SQLite's mark for what a database belongs to: "SFKA"."""

# A new file goes through all steps, an older one through those it lacks. A step is never changed
# once it was released.
_STEPS: Final = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE session (
        id INTEGER PRIMARY KEY,
        began REAL NOT NULL,
        ended REAL,
        pid INTEGER NOT NULL,
        host TEXT NOT NULL,
        version TEXT NOT NULL,
        exposed INTEGER NOT NULL
    );
    CREATE TABLE attempt (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        route TEXT NOT NULL,
        handle TEXT,
        number INTEGER NOT NULL,
        status INTEGER,
        failure TEXT,
        charged INTEGER NOT NULL,
        maybe INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        request_id TEXT
    );
    CREATE TABLE page (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        route TEXT NOT NULL,
        handle TEXT,
        region TEXT,
        cursor TEXT,
        request_id TEXT,
        charged INTEGER NOT NULL,
        maybe INTEGER NOT NULL,
        received REAL NOT NULL,
        decoded INTEGER NOT NULL,
        encoding TEXT NOT NULL,
        body BLOB NOT NULL,
        apart INTEGER NOT NULL
    );
    CREATE INDEX page_key ON page (key);
    CREATE TABLE showcase (
        id INTEGER PRIMARY KEY,
        handle TEXT NOT NULL,
        region TEXT NOT NULL,
        floor INTEGER NOT NULL DEFAULT 0,
        stamps TEXT NOT NULL DEFAULT '',
        status TEXT,
        finished REAL,
        outcome BLOB,
        UNIQUE (handle, region)
    );
    """,
    # How long requests took, for forecasts.
    """
    ALTER TABLE attempt ADD COLUMN seconds REAL;
    """,
    # Pages are indexed by showcase first, and showcases under way are neighbours in the index. By
    # key alone each new page would go somewhere else, so in a large file every commit would write
    # as many pages of the index as it has new pages.
    """
    ALTER TABLE page ADD COLUMN part_of INTEGER;
    UPDATE page SET part_of = (
        SELECT id FROM showcase
        WHERE showcase.handle = page.handle AND showcase.region = ifnull(page.region, '')
    ) WHERE route LIKE '%/showcase-products';
    DROP INDEX page_key;
    CREATE INDEX page_of ON page (part_of, key);
    """,
    # On other routes only the key, a hash, told which query an answer belongs to.
    """
    ALTER TABLE page ADD COLUMN query TEXT;
    """,
    # So that these few are counted and salvaged without reading all the others.
    """
    CREATE INDEX page_undecoded ON page (decoded) WHERE decoded = 0;
    """,
)
VERSION: Final = len(_STEPS)


_TABLES: Final = ("meta", "session", "attempt", "page", "showcase")
_HARMFUL: Final = (
    "SELECT name FROM main.sqlite_master WHERE type = 'trigger' "  # noqa: S608 - our own words
    f"OR lower(name) IN {_TABLES} AND ifnull(sql, '') NOT LIKE 'CREATE TABLE %'"
)
Column: TypeAlias = tuple[str, str, str, int, int, int]


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a new file an archive, or check that it is one and bring it up to date.

    Raises:
        ArchiveFormatError: It is not an archive, is of a newer version, or is damaged.
    """
    version = 0 if _is_empty(connection) else check(connection, path)
    _check_whole(connection, path)
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for step in _STEPS[version:]:
        for statement in step.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of an archive's schema.

    Raises:
        ArchiveFormatError: It is not an archive, or one of a newer version.
    """
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ArchiveFormatError(f"{shown(path)} is a database of something else, not an archive")
    version = _pragma(connection, "user_version")
    if not 0 < version <= VERSION:
        raise ArchiveFormatError(
            f"{shown(path)} is of version {version}; this asyncsfk knows versions up to {VERSION}: "
            "upgrade it to use this archive"
        )
    _check_tables(connection, path, version)
    return version


def _check_tables(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Refuse what only looks like our tables, as somebody else can make it to do harm.

    A view or a trigger can have SQLite busy for ever, where no Ctrl-C reaches it, and a column
    that is computed fills the memory. Further tables and columns do nothing to ours, and an index
    of somebody's own at most slows down who writes.

    Raises:
        ArchiveFormatError: It is not what we made.
    """
    odd = [name for (name,) in connection.execute(_HARMFUL)]
    if not odd:
        # Only now: what a virtual table reads to tell its columns can be such a view, too.
        odd = sorted({column[0] for column in _columns(version) - _columns_of(connection)})
    if odd:
        raise ArchiveFormatError(
            f"{shown(path)} is not an archive, or was tampered with: {odd[0]!r} is not ours"
        )


@cache
def _columns(version: int) -> frozenset[Column]:
    """Return the columns of the tables of a version."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for step in _STEPS[:version]:
            connection.executescript(step)
        return _columns_of(connection)


def _columns_of(connection: sqlite3.Connection) -> frozenset[Column]:
    found: set[Column] = set()
    for table in _TABLES:
        # Of each: name, type, whether it may be null, its place in the key, whether it is computed.
        rows = connection.execute(f"PRAGMA main.table_xinfo({table})")
        found |= {(table, *row[1:4], *row[5:]) for row in rows}
    return frozenset(found)


@contextmanager
def reading(path: Path) -> Generator[sqlite3.Connection]:
    """Open an archive for reading only; somebody else may be writing it meanwhile.

    Raises:
        ArchiveError: There is none, or it cannot be read.
    """
    with translated(path, ArchiveError), made_sense_of(path):
        if not is_there(path):
            raise ArchiveError(f"there is no archive {shown(path)}")
        if not path.is_file():
            # Opening a pipe would wait for ever.
            raise ArchiveFormatError(f"{shown(path)} is not a file")
        with closing(_connect_to_read(path)) as connection:
            if _is_empty(connection):
                raise ArchiveFormatError(f"{shown(path)} is empty, or just being made")
            if check(connection, path) < VERSION:
                raise ArchiveFormatError(
                    f"{shown(path)} is of an older version: open it once for writing, which brings "
                    "it up to date, by `async with Archive(...)` or `asyncsfk archive salvage`"
                )
            yield connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    connection = connect(path, "ro")
    try:
        _pragma(connection, "user_version")
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
            # A process was killed during a commit; only a connection that may write can undo it.
            with closing(connect(path, "rwc")) as writer:
                _pragma(writer, "user_version")
            return connect(path, "ro")
        # In a folder that cannot be written SQLite cannot make its own files. Where there is no log
        # either, nobody is writing, so the file can be read without them.
        if not _cannot_make_files(error) or not os.access(path, os.R_OK):
            raise
        if not _is_whole(path):
            raise ArchiveError(
                f"{shown(path)} cannot be read: {error}; a process is just opening it, or died "
                "while it had it open: try again, or as a user who may write to its folder"
            ) from error
        return connect(path, "ro", immutable=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _cannot_make_files(error: sqlite3.Error) -> bool:
    # The first on a medium that cannot be written, the second in a folder that we may not write.
    code = error.sqlite_errorcode
    return code & 0xFF == sqlite3.SQLITE_CANTOPEN or code == sqlite3.SQLITE_READONLY_DIRECTORY


def _is_whole(path: Path) -> bool:
    """Tell whether a file is all of its database: no log or journal holds a part of it.

    Nor will one soon: who is about to write the file has its lock by now.
    """
    if beside(path, "lock").exists():
        return False
    logs = [beside(path, name) for name in ("wal", "journal")]
    return not any(file.exists() and file.stat().st_size for file in logs)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return (
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        and _pragma(connection, "application_id") == 0
    )


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that was cut short; SQLite notices only when it reads the missing part."""
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    size = size_of(connection)
    if not busy and path.stat().st_size < size:
        raise ArchiveFormatError(
            f"{shown(path)} is damaged: it has {path.stat().st_size} bytes, and should have {size}"
        )


def size_of(connection: sqlite3.Connection) -> int:
    """Return how many bytes a database has, including what is only in its log so far."""
    return _pragma(connection, "page_count") * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
