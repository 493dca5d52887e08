"""What the command line asks the operating system about files."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from asyncsfk.cli._exit import no_stream


class _Numbered(Protocol):
    def fileno(self) -> int: ...


def is_regular(file: _Numbered) -> bool:
    """Tell whether something open is a plain file, which keeps nobody waiting."""
    return stat.S_ISREG(_mode(file))


def is_pipe(file: _Numbered) -> bool:
    """Tell whether something open is a pipe."""
    return stat.S_ISFIFO(_mode(file))


def is_named_pipe(path: str) -> bool:
    """Tell whether a name is that of a pipe which is in a folder, to be opened from two ends."""
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode) and not is_descriptor(path)
    except (OSError, ValueError):
        return False


def _mode(file: _Numbered) -> int:
    try:
        return os.fstat(file.fileno()).st_mode
    except (OSError, ValueError):
        return 0


def lock(file: _Numbered) -> None:
    """Keep other processes from writing a file too, as long as it is open; blocks nobody.

    Raises:
        BlockingIOError: Another one is writing it.
    """
    # Where there is no such lock nobody is kept out.
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            return


def standard_stream(stream: TextIO | None, name: str) -> BinaryIO:
    """Return the bytes below stdin or stdout.

    Raises:
        UnusableFileError: The shell gave us none.
    """
    if stream is None:
        raise no_stream(name)
    return stream.buffer


def is_descriptor(path: str) -> bool:
    """Tell whether a name is that of something which is open already, such as ``/dev/stdout``."""
    return re.match(r"/dev/(stdout|stderr|fd/)|/proc/[^/]+/fd/", os.path.normpath(path)) is not None


def is_same_file(one: str, other: str) -> bool:
    """Tell whether two names lead to the same file, there already or not."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
