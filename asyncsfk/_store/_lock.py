"""The lock of an archive: one process may write it at a time, and a dead one locks out nobody."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import sys
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from asyncsfk._store._forks import Identity, identify
from asyncsfk._store._schema import reading
from asyncsfk._store._sqlite import check_journal, check_not_inherited, shown
from asyncsfk.errors import ArchiveError, ArchiveLockedError, ArchiveWriteError


class FileLock:
    """An exclusive lock beside a file, which the operating system releases when we die.

    It is a transaction, held open, in an empty SQLite database: the one kind of lock that works
    alike on every system and file system that the archive itself works on.
    """

    def __init__(self, path: Path) -> None:
        self._beside = path
        self._path = path
        self._file: Identity | None = None
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> bool:
        """Take the lock; return whether it was free.

        Raises:
            ArchiveWriteError: There can be no lock file, or others might not find it.
            ArchiveError: This process cannot use the file, whoever has the lock.
        """
        check_not_inherited(self._beside)
        # Beside the file itself, so that those who come by another symbolic link find it, too.
        real = Path(os.path.realpath(self._beside))
        with suppress(FileNotFoundError):
            found = real.stat()
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                # A process that opens it by the other name finds neither this lock nor SQLite's
                # log: both would write, each without what is in the other's log.
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
            # If it is the same file before and after, it is the one that was opened in between.
            if before is not None and self._identity() == before:
                self._connection, self._file = connection, before[:2]
                return True
            if before is None:
                self._share_with_whoever_shares(real)
            # It was not there before, or its last holder removed the file that we had opened.
            connection.close()

    def _begin(self) -> sqlite3.Connection | None:
        """Open the lock file and lock it; return ``None`` if somebody has it locked."""
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(
                    closing(
                        sqlite3.connect(
                            self._path, isolation_level=None, timeout=0.0, check_same_thread=False
                        )
                    )
                )
                # No journal file: a dead holder's could be taken for that of the next holder.
                connection.execute("PRAGMA journal_mode = MEMORY")
                # Not EXCLUSIVE: that would fail if another process looks at the lock just then.
                connection.execute("BEGIN IMMEDIATE")
                # Where we may not write the file, that succeeds even if others have done the same;
                # only a write fails. This one is never committed.
                connection.execute("PRAGMA user_version = 1")
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                    return None
                # Not `translate`: nothing is wrong with the archive itself.
                raise ArchiveWriteError(
                    f"{shown(self._beside)} cannot be used: no lock can be taken at "
                    f"{shown(self._path)}: {self._objection() or error}"
                ) from error
            stack.pop_all()
        return connection

    def _objection(self) -> str | None:
        """Return why the lock file cannot be made, if that is the reason; SQLite does not say."""
        try:
            # Only if it is not there yet: closing one that is would drop any lock of ours on it.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
        except OSError as error:
            return None if isinstance(error, FileExistsError) else error.strerror
        return None

    def is_replaced(self) -> bool:
        """Tell whether our lock file was replaced, so that somebody else may hold the new one."""
        return identify(self._path) not in (None, self._file)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._connection is not None:
            # Before it is given back: later the file could be locked by somebody else.
            self._remove()
            self._connection.close()
            self._connection = None
            if sys.platform == "win32":
                # Windows removes no open file: above it was ours, and here it may be another's.
                self._remove()

    def _remove(self) -> None:
        if not self.is_replaced():
            with suppress(OSError):
                self._path.unlink()

    def _share_with_whoever_shares(self, file: Path) -> None:
        """Give the lock file the archive's owner and mode, as SQLite does with files beside it."""
        # There may be no archive yet, and on Windows there are no owners.
        with suppress(OSError, AttributeError):
            of_file = file.stat()
            # Nor through a link put there since: it could make root give away another file.
            lock = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                os.fchmod(lock, stat.S_IMODE(of_file.st_mode))
                os.fchown(lock, of_file.st_uid, of_file.st_gid)
            finally:
                # This also drops our lock, which we do not rely on yet: it is taken anew.
                os.close(lock)

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # With the time, since the inode number of a removed file is soon used for another.
        return found.st_dev, found.st_ino, found.st_ctime_ns


def locked_by_another(path: Path) -> ArchiveLockedError:
    """Return the error that names who has an archive open, as far as the archive itself tells."""
    who = "a process that has just begun"
    with suppress(ArchiveError), reading(path) as connection:
        row = connection.execute(
            "SELECT pid, host, began FROM session WHERE ended IS NULL ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            began = datetime.fromtimestamp(row[2], UTC)
            who = f"process {row[0]} on {row[1]}, since {began:%Y-%m-%d %H:%M:%S} UTC"
            if (row[0], row[1]) == (os.getpid(), socket.gethostname()):
                who += ", which is this one: its runs and calls can share one Archive object"
    return ArchiveLockedError(f"{shown(path)} is being written by {who}")
