"""SQLite connections to an archive's file, and SQLite's errors turned into ours."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from asyncsfk._store import _forks
from asyncsfk._text import writable
from asyncsfk.errors import ArchiveError, ArchiveFormatError, ArchiveWriteError

if TYPE_CHECKING:
    from collections.abc import Generator

Mode = Literal["ro", "rwc"]

_PATIENCE: Final = 10.0  # seconds, to wait for another connection that is writing
# How a journal ends that names another file, which SQLite removes with it: the one by which a
# transaction over several files is committed at once.
_NAMES_ANOTHER: Final = bytes.fromhex("d9d505f920a163d7")

#: What SQLite raises. It may have run out of memory where Python has not.
SQLITE_ERRORS: Final = (sqlite3.Error, MemoryError)


def shown(path: Path) -> str:
    """Return a path as text that can be printed: a file's name need not be valid Unicode."""
    return writable(str(path))


def translate(
    error: sqlite3.Error | MemoryError, path: Path, kind: type[ArchiveError] = ArchiveWriteError
) -> ArchiveError:
    """Return our error for one of SQLite's: of the kind given, unless the file is damaged."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")):
        return ArchiveFormatError(f"{shown(path)} is damaged, or not an archive: {error}")
    return kind(f"{shown(path)} cannot be used: {str(error) or 'out of memory'}")


@contextmanager
def translated(path: Path, kind: type[ArchiveError] = ArchiveWriteError) -> Generator[None]:
    """Turn errors of SQLite and of the operating system into ours."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise translate(error, path, kind) from error
    except OSError as error:
        raise kind(f"{shown(path)} cannot be used: {error.strerror or error}") from error


@contextmanager
def made_sense_of(path: Path) -> Generator[None]:
    """Report a file as damaged if its rows, though valid for SQLite, are none that we write."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:
        raise ArchiveFormatError(f"{shown(path)} is damaged: {error}") from error


def check_not_inherited(path: Path) -> None:
    """Refuse a file that was open when this process was forked.

    Raises:
        ArchiveError: It was.
    """
    if _forks.is_inherited(path):
        raise ArchiveError(
            f"{shown(path)} was open when this process was forked, and cannot be used in it: "
            "start processes by `spawn` or `forkserver`"
        )


def check_journal(path: Path) -> None:
    """Refuse a database whose journal would do harm.

    SQLite removes the file that is named at the end of a journal. Ours never name one, but a
    journal that came with somebody else's archive can name any file there is.

    Raises:
        ArchiveFormatError: It would.
    """
    journal = beside(path, "journal")
    harm = None
    # What cannot be read is for SQLite to say.
    with suppress(OSError):
        if journal.is_fifo():
            harm = "it is a pipe, which would be waited for"
        elif journal.is_file():
            with journal.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - len(_NAMES_ANOTHER)))
                if file.read() == _NAMES_ANOTHER:
                    harm = "it names another file, which would be removed"
    if harm is not None:
        raise ArchiveFormatError(f"{shown(journal)} is not the journal of an archive: {harm}")


def _check_log(path: Path) -> None:
    """Refuse a database that is empty or not there yet, if there is a log for it.

    SQLite would remove the log, without a word, and with it what was bought last before a kill: the
    file itself was moved since, and can be put back.

    Raises:
        ArchiveError: It would.
    """
    log = beside(path, "wal")
    # What cannot be read is for SQLite to say.
    with suppress(OSError):
        if log.stat().st_size > 0 and not is_begun(path):
            raise ArchiveError(
                f"{shown(path)} is gone, or empty, but not its log {shown(log)}, which has what "
                "was bought last: put the archive back, or remove its log to begin anew"
            )


def connect(path: Path, mode: Mode, *, immutable: bool = False) -> sqlite3.Connection:
    """Open an archive's database for use by one thread at a time; transactions are explicit.

    Raises:
        ArchiveError: This process cannot use it, or only its log is there.
    """
    check_not_inherited(path)
    check_journal(path)
    _check_log(path)
    flag = "&immutable=1" if immutable else ""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}{flag}",
        uri=True,
        isolation_level=None,
        timeout=_PATIENCE,
        check_same_thread=False,
        factory=_forks.Connection,
    )
    _forks.remember(connection, path)
    # Temporary files could fail: no room, no right to write, or too many open files.
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def beside(path: Path, name: str) -> Path:
    """Return a file that SQLite keeps beside a database; ``path`` may be a link to that."""
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}-{name}")


def is_there(path: Path) -> bool:
    """Tell whether there is a file.

    Raises:
        ArchiveError: The operating system does not tell.
    """
    with translated(path, ArchiveError), suppress(FileNotFoundError, NotADirectoryError):
        path.stat()
        return True
    return False


def is_begun(path: Path) -> bool:
    """Tell whether there is more than the empty file of a process that died while making it.

    Raises:
        ArchiveError: The operating system does not tell.
    """
    with translated(path, ArchiveError), suppress(FileNotFoundError, NotADirectoryError):
        found = path.stat()
        return found.st_size > 0 or not stat.S_ISREG(found.st_mode)
    return False
