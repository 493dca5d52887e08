"""What the command line asks the operating system about files."""

from __future__ import annotations

import codecs
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TextIO

from asyncsfk.cli._exit import no_stream

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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


def utf16(start: bytes) -> str | None:
    """Return what to do about text in UTF-16, if a file begins as that does.

    Windows' PowerShell writes it to a file, and spreadsheets call it "Unicode text".
    """
    return "it is in UTF-16: save it as UTF-8" if start.startswith(_UTF16) else None


def is_descriptor(path: str) -> bool:
    """Tell whether a name is that of something which is open already, such as ``/dev/stdout``."""
    return re.match(r"/dev/(stdout|stderr|fd/)|/proc/[^/]+/fd/", os.path.normpath(path)) is not None


def is_same_file(one: str, other: str) -> bool:
    """Tell whether two names lead to the same file, there already or not."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
