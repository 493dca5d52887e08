"""What the command line asks the operating system about files."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OPEN_FILES: Final = 10_240
"""More than any of our runs needs, and the most that macOS lets a process ask for."""


class _Numbered(Protocol):
    def fileno(self) -> int: ...


def is_regular(file: _Numbered) -> bool:
    """Tell whether an open file is a plain one, which never waits for another process."""
    return stat.S_ISREG(_mode(file))


def is_pipe(file: _Numbered) -> bool:
    """Tell whether an open file is a pipe."""
    return stat.S_ISFIFO(_mode(file))


@contextmanager
def telling_of_closed_pipes(file: _Numbered | None) -> Generator[None]:
    """Raise `BrokenPipeError` on Windows, too, where a pipe is written whose reader went away.

    Windows calls that an invalid argument, and Python passes it on as such.
    """
    try:
        yield
    except OSError as error:
        is_told_otherwise = sys.platform == "win32" and error.errno == errno.EINVAL
        if is_told_otherwise and error.filename is None and file is not None and is_pipe(file):
            raise BrokenPipeError(*error.args) from error
        raise


def _mode(file: _Numbered) -> int:
    try:
        return os.fstat(file.fileno()).st_mode
    except (OSError, ValueError):
        return 0


def allow_open_files() -> None:
    """Let this process have as many files open as the system lets it, at most 10,240.

    Each request under way is one. Shells start programs with far less than they may ask for: often
    1,024, on macOS 256.
    """
    # On a system without such a limit there is nothing to raise.
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def lock(file: _Numbered) -> None:
    """Keep other commands of ours from writing a file while it is open here; does not wait.

    Raises:
        BlockingIOError: Another one is writing it.
    """
    # On a system without such locks nobody is kept out.
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return


def utf16(start: bytes) -> str | None:
    """Return what to do about a file, if it begins as one in UTF-16 does.

    Windows PowerShell writes such files when redirected; spreadsheets call them "Unicode text".
    """
    return "it is in UTF-16: save it as UTF-8" if start.startswith(_UTF16) else None


def is_descriptor(path: str) -> bool:
    """Tell whether a name stands for a file that is open already, such as ``/dev/stdout``."""
    return re.match(r"/dev/(stdout|stderr|fd/)|/proc/[^/]+/fd/", os.path.normpath(path)) is not None


def is_same_file(one: str, other: str) -> bool:
    """Tell whether two names lead to the same file, whether or not it exists yet."""
    with suppress(OSError):
        return Path(one).samefile(other)
    with suppress(OSError):
        return os.path.realpath(one) == os.path.realpath(other)
    # The current folder was removed, so neither can be opened by a relative name.
    return one == other
