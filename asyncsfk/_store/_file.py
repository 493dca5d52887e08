"""An archive's file, which only we may write, as its threads see it: everything here blocks."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from asyncsfk._store._forks import Identity, identify
from asyncsfk._store._lock import FileLock, locked_by_another
from asyncsfk._store._reads import Read, read_all
from asyncsfk._store._schema import prepare, size_of
from asyncsfk._store._sqlite import (
    SQLITE_ERRORS,
    beside,
    connect,
    is_there,
    made_sense_of,
    shown,
    translate,
    translated,
)
from asyncsfk._store._sums import Spent, exposed, notes, prices, spent
from asyncsfk._store._tables import Tables
from asyncsfk._store._writes import LedgerLine, Write
from asyncsfk._version import __version__
from asyncsfk.errors import ArchiveError, ArchiveWriteError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Sequence
    from pathlib import Path

Durability = Literal["full", "normal"]

_UNKNOWN: Final = sys.maxsize
# From this many bytes on the log is copied into the file even if that means waiting for readers.
_LONG_LOG: Final = 32 << 20
_SYNCHRONOUS: Final[dict[Durability, str]] = {"full": "FULL", "normal": "NORMAL"}


class File:
    """An archive's file: locked, opened and closed, written by one thread and read by another.

    Args:
        path: Where it is or will be. Absolute, since the process may change its working directory.
        durability: ``full`` survives a power failure, ``normal`` only the death of the process.

    Attributes:
        session: The id of this opening.
        notes: Facts about the whole file.
        last_page: The highest id of a page.
        was_empty: Whether it held no showcase when it was opened.
        prices: The most that a request of each route was charged, if that is more than a credit.
        broken: Why nothing can be written any more.
        is_contested: Whether another process may be writing it, as of the last commit.
        room: Bytes that its disk had left for it after the last commit, as far as can be known.
    """

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path = path
        self._durability: Durability = durability
        self._lock = FileLock(path)
        self._connections: dict[str, sqlite3.Connection] = {}
        # The file, and the log of what is not in it yet: both must stay the same while it is open.
        self._places: dict[Path, Identity | None] = {}
        self._log = path  # until it is open
        self._long_log = _LONG_LOG
        self.session = 0
        self.notes: dict[str, str] = {}
        self.last_page = 0
        self.was_empty = False
        self.prices: dict[str, int] = {}
        self.broken: ArchiveError | None = None
        self.is_contested = False
        self.room = _UNKNOWN

    def acquire(self, *, is_last: bool) -> bool:
        """Take the lock; return whether it was free.

        Raises:
            ArchiveLockedError: It was not, and this was the last try.
            ArchiveError: The lock cannot be made or used.
        """
        folder = self._path.parent
        if not os.path.isdir(folder):  # noqa: PTH112 - raises nothing
            raise ArchiveWriteError(f"no folder {shown(folder)} for {shown(self._path)}")
        with translated(self._path):
            if self._lock.acquire():
                return True
        if is_last:
            raise locked_by_another(self._path)
        return False

    def open(self) -> Spent:
        """Open the file to write and to read, making it if need be; return what it has cost.

        Raises:
            ArchiveError: It cannot be used.
        """
        with translated(self._path), made_sense_of(self._path):
            connection = self._connections["writer"] = connect(self._path, "rwc")
            # Only a new file takes it. A body of some KB then needs little more than its own size.
            connection.execute("PRAGMA page_size = 8192")
            # In KiB: a commit of many large pages fits, so none of it is written ahead of time.
            connection.execute("PRAGMA cache_size = -8192")
            prepare(connection, self._path)
            # Only now that it is known to be ours, since this is written into the file.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[self._durability]}")
            if self._durability == "full":
                # Only macOS needs it: there the disk might otherwise keep a commit in its cache.
                connection.execute("PRAGMA fullfsync = ON")
            now = time.time()
            connection.execute("BEGIN IMMEDIATE")
            _end_dead_sessions(connection, now)
            # The host's name not by `platform`: on Windows that asks WMI for more, which can hang,
            # or end the process in Python 3.12.
            session = connection.execute(
                "INSERT INTO session (began, pid, host, version, exposed) VALUES (?, ?, ?, ?, 0)",
                (now, os.getpid(), socket.gethostname(), __version__),
            ).lastrowid
            connection.execute("COMMIT")
            self._log = beside(self._path, "wal")
            self._places = {place: identify(place) for place in (self._path, self._log)}
            self.session = session or 0
            self.notes = notes(connection)
            self.last_page = connection.execute("SELECT ifnull(max(id), 0) FROM page").fetchone()[0]
            last = connection.execute("SELECT max(id) FROM showcase").fetchone()
            self.was_empty = last[0] is None
            sums = spent(connection)
            if sums.highest > 1:
                self.prices = prices(connection)
            self.look_for_room()
            # By this thread, which closes it: the reading one might open it only after that.
            self._connections["reader"] = connect(self._path, "ro")
            return sums

    def write(self, batch: Sequence[Write]) -> list[Any]:
        """Commit writes together; the result of each is ``None``.

        Raises:
            ArchiveError: None of them was committed, and none will be any more.
        """
        for place, identity in self._places.items():
            if self.broken is None and identify(place) != identity:
                # A commit would now be lost, or land elsewhere, without an error.
                self.broken = ArchiveWriteError(
                    f"{shown(place)} was moved or removed while it was open"
                )
        if self.broken is not None:
            raise self.broken
        connection = self._connections["writer"]
        try:
            connection.execute("BEGIN IMMEDIATE")
            tables = Tables(connection)
            for write in batch:
                write.apply(tables)
            tables.flush()
            connection.execute("COMMIT")
        except BaseException as error:
            with suppress(*SQLITE_ERRORS):
                connection.rollback()
            if isinstance(error, SQLITE_ERRORS):
                self.broken = translate(error, self._path)
                raise self.broken from error
            raise
        self._take_back_a_long_log(connection)
        self.look_for_room()
        self.is_contested = self._lock.is_replaced()
        # Here, since those who submitted the writes may be gone.
        self.last_page = max(self.last_page, tables.last_page)
        return [None] * len(batch)

    def _take_back_a_long_log(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the file, and begin it anew, once it has grown long.

        SQLite copies it every 8 MB, but begins it anew only at a moment when nobody is reading.
        Where readers overlap, as those of a dashboard may, that moment never comes. So this waits
        for those who are reading now; those who come later read from the file itself.
        """
        with suppress(OSError, *SQLITE_ERRORS):
            size = self._log.stat().st_size
            if size >= self._long_log:
                is_busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                # A reader that takes minutes, to make a copy say, is not waited for every time.
                self._long_log = 2 * size if is_busy else _LONG_LOG

    def look_for_room(self) -> None:
        """See how much room the disk has."""
        room = _UNKNOWN
        with suppress(OSError):
            # Of the file, not of its folder: the path may be a link to another disk.
            disk = shutil.disk_usage(self._path)
            # Some file systems report sizes of zero.
            if disk.total:
                room = max(0, disk.free - self._growth())
        # In one assignment, since the event loop may read it at any time.
        self.room = room

    def _growth(self) -> int:
        """Return by how many bytes the file will grow when its log is copied into it.

        SQLite copies it at a commit of its choosing, which may be that of requests in the air.
        """
        with suppress(*SQLITE_ERRORS, KeyError):
            size = size_of(self._connections["writer"])
            return max(0, size - self._path.stat().st_size)
        return 0

    def read(self, batch: Sequence[Read]) -> list[Any]:
        """Return what each read finds, in order.

        Raises:
            ArchiveError: The file cannot be read.
        """
        with translated(self._path), made_sense_of(self._path):
            return read_all(self._connections["reader"], batch)

    def close(self, *, is_landed: bool) -> None:
        """Close the file and give the lock back.

        Args:
            is_landed: Whether the ledger has every request. If not, the file is left as if we had
                died: the next to open it counts what was exposed as maybe.

        Raises:
            ArchiveError: The end could not be written; what was committed is there.
        """
        with translated(self._path), ExitStack() as stack:
            stack.callback(self._lock.release)
            reader = self._connections.pop("reader", None)
            writer = self._connections.pop("writer", None)
            if reader is not None and writer is not None and self._has_anothers_log():
                # The last connection to close copies its log into the file: ours would overwrite
                # their work. One that has only read does not: so the reader reads, and closes last.
                stack.enter_context(closing(reader))
                with closing(writer), suppress(*SQLITE_ERRORS):
                    notes(reader)
                raise self.broken or ArchiveWriteError(
                    f"the log of {shown(self._path)} was removed while it was open, and is "
                    "another's by now: what was bought meanwhile may be lost"
                )
            if reader is not None:
                reader.close()
            if writer is not None:
                self._close_writer(writer, is_landed=is_landed)

    def _has_anothers_log(self) -> bool:
        """Tell whether our log was removed, and somebody has begun another for the same file."""
        is_ours = identify(self._path) == self._places.get(self._path)
        return is_ours and identify(self._log) not in (None, self._places.get(self._log))

    def _close_writer(self, writer: sqlite3.Connection, *, is_landed: bool) -> None:
        with closing(writer):
            if not self.session:
                return
            if is_landed and self.broken is None:
                writer.execute(
                    "UPDATE session SET ended = ?, exposed = 0 WHERE id = ?",
                    (time.time(), self.session),
                )
            # One plain file, which can be copied; readers are soon done with a query. The log that
            # a moved file left behind would be taken for that of one put in its place.
            with suppress(*SQLITE_ERRORS):
                writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            is_ours = identify(self._path) in (None, self._places.get(self._path))
            if self.broken is None and is_ours:
                # So that it can be read where nothing can be written. If others have it open, it
                # stays in WAL mode. Only if it is ours: SQLite removes the log by its name.
                with suppress(*SQLITE_ERRORS):
                    writer.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def writing(path: Path) -> Generator[sqlite3.Connection]:
    """Open an existing archive for a few changes, without a thread; blocks.

    Raises:
        ArchiveError: There is none, somebody has it open, or it cannot be used.
    """
    lock = FileLock(path)
    with translated(path), made_sense_of(path):
        if not is_there(path):
            raise ArchiveError(f"there is no archive {shown(path)}")
        if not lock.acquire():
            raise locked_by_another(path)
        try:
            with closing(connect(path, "rwc")) as connection:
                prepare(connection, path)
                yield connection
        finally:
            lock.release()


def _end_dead_sessions(connection: sqlite3.Connection, now: float) -> None:
    """End the sessions of processes that died; enter their requests under way as maybe charged.

    Raises:
        msgspec.ValidationError: The file says what cannot be of them; see `made_sense_of`.
    """
    if maybe := exposed(connection):
        tables = Tables(connection)
        LedgerLine(
            at=now,
            seconds=None,
            route="",
            handle=None,
            number=0,
            status=None,
            failure="ProcessDied",
            charged=0,
            maybe=maybe,
        ).apply(tables)
        tables.flush()
    connection.execute("UPDATE session SET ended = ?, exposed = 0 WHERE ended IS NULL", (now,))
