"""Who may write an archive: one process at a time, and none that is dead."""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
import sys
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from asyncsfk._store._forks import Identity, identify
from asyncsfk._store._schema import reading
from asyncsfk._store._sqlite import check_journal, check_not_inherited, shown
from asyncsfk.errors import ArchiveError, ArchiveWriteError


class FileLock:
    """An exclusive lock beside a file, which the operating system gives back when we die.

    It is a transaction, held open, of an empty SQLite database: the one lock that is the same on
    every system and file system that the archive itself works on.
    """

    def __init__(self, path: Path) -> None:
        self._beside = path
        self._path = path
        self._file: Identity | None = None
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> bool:
        """Take the lock, unless somebody has it.

        Raises:
            ArchiveWriteError: There can be no lock file, or others would not find it.
            ArchiveError: This process cannot use the file, whoever has the lock.
        """
        check_not_inherited(self._beside)
        # Beside the file itself, whatever links lead to it.
        real = Path(os.path.realpath(self._beside))
        with suppress(FileNotFoundError):
            found = real.stat()
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                # Whoever comes by the other one finds neither this lock nor SQLite's log: both
                # would write, and what is in one's log would be lost to the other.
                raise ArchiveWriteError(
                    f"{shown(self._beside)} cannot be used: its file has another name, a hard "
                    "link; remove that, or put a copy in the place of one of them"
                )
        self._path = real.with_name(f"{real.name}-lock")
        if self._path.is_symlink():
            # Somebody may have put it there to have a file made, or locked, wherever it leads.
            raise ArchiveWriteError(
                f"{shown(self._beside)} cannot be used: its lock, {shown(self._path)}, is a link"
            )
        check_journal(self._path)
        while True:
            before = self._identity()
            connection = self._begin()
            if connection is None:
                return False
            # What is there before and after is what was opened between.
            if before is not None and self._identity() == before:
                self._connection, self._file = connection, before[:2]
                return True
            if before is None:
                self._share_with_whoever_shares(real)
            # It was not there, or whoever held it before removed the file that we had opened.
            connection.close()

    def _begin(self) -> sqlite3.Connection | None:
        """Open the lock file and take the lock of what was opened, unless somebody has it."""
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(
                    closing(
                        sqlite3.connect(
                            self._path, isolation_level=None, timeout=0.0, check_same_thread=False
                        )
                    )
                )
                # Without a journal: one holder's could be taken for the next one's.
                connection.execute("PRAGMA journal_mode = MEMORY")
                # Not exclusive: who comes in the same moment, and only looks, would be in the way.
                connection.execute("BEGIN IMMEDIATE")
                # Of a file that we may not write SQLite grants it to everybody. Never committed.
                connection.execute("PRAGMA user_version = 1")
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                    return None
                # Nothing is wrong with the archive itself.
                raise ArchiveWriteError(
                    f"{shown(self._beside)} cannot be used: no lock can be had at "
                    f"{shown(self._path)}: {self._objection() or error}"
                ) from error
            stack.pop_all()
        return connection

    def _objection(self) -> str | None:
        """Return why there can be no such file, where that is why: SQLite does not say it."""
        try:
            # Not one that is there: to close it would give back a lock of our own that is on it.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
        except OSError as error:
            return None if isinstance(error, FileExistsError) else error.strerror
        return None

    def is_replaced(self) -> bool:
        """Tell whether somebody may have another by now, since the file of ours was removed."""
        return identify(self._path) not in (None, self._file)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._connection is not None:
            # Before it is given back, so that nobody can have taken it meanwhile.
            self._remove()
            self._connection.close()
            self._connection = None
            if sys.platform == "win32":
                # There nobody removes what is open: not we before, and not who has it by now.
                self._remove()

    def _remove(self) -> None:
        if not self.is_replaced():
            with suppress(OSError):
                self._path.unlink()

    def _share_with_whoever_shares(self, file: Path) -> None:
        """Let those take the lock who may write the file, as SQLite does with what is beside it."""
        # There may be no file yet, and on Windows there are no owners.
        with suppress(OSError, AttributeError):
            of_file = file.stat()
            # Nor through a link that has come since, for root to give away a file.
            lock = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                os.fchmod(lock, stat.S_IMODE(of_file.st_mode))
                os.fchown(lock, of_file.st_uid, of_file.st_gid)
            finally:
                # It takes our lock away, which counts for nothing yet.
                os.close(lock)

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # A number that is given back is soon another file's.
        return found.st_dev, found.st_ino, found.st_ctime_ns


def holder(path: Path) -> str:
    """Name who has an archive open, as far as the archive itself tells."""
    with suppress(ArchiveError), reading(path) as connection:
        row = connection.execute(
            "SELECT pid, host, began FROM session WHERE ended IS NULL ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            began = datetime.fromtimestamp(row[2], UTC)
            who = f"process {row[0]} on {row[1]}, since {began:%Y-%m-%d %H:%M:%S} UTC"
            if (row[0], row[1]) == (os.getpid(), platform.node()):
                who += ", which is this one: its runs and calls can share one Archive object"
            return who
    return "a process that has just begun"
