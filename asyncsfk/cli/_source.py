"""Handles from the command line and from a file, read as they are needed."""

from __future__ import annotations

import os
import re
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from asyncsfk.cli._exit import BrokenFileError, UnusableFileError, standard_stream
from asyncsfk.cli._files import is_regular, utf16
from asyncsfk.cli._threads import call_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Self

_CHUNK: Final = 1 << 16
# The first bytes of files made by gzip and zstd. Files of zip (spreadsheets too), bzip2 and xz are
# known by a zero byte near their beginning; bzip2's "BZh" could also be the beginning of a name.
_PACKED_STARTS: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
# Found in tables and JSON, but in no handle.
_SEPARATORS: Final = frozenset(',;\t"{[')


class HandleFile:
    """A file of handles, one a line; blank lines and those that begin with ``#`` are skipped.

    Args:
        path: Its name; ``-`` is stdin.

    Raises:
        UnusableFileError: It cannot be opened, or is not a list.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._name = "stdin" if path == "-" else path
        # Unbuffered: a pipe's first lines can be read before its last are written, and no buffer
        # stays locked if we leave while a read is waiting.
        if path == "-":
            self._file = standard_stream(sys.stdin, "stdin")
        else:
            try:
                self._file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 - see __exit__
            except OSError as error:
                raise UnusableFileError(path, error) from error
        self._look_in()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._path != "-":
            self._file.close()

    def _look_in(self) -> None:
        """Refuse a file that is not a list, if one can look into it without using it up."""
        if not is_regular(self._file):
            return
        with suppress(OSError):
            start = self._file.seek(0, os.SEEK_CUR)
            chunk = self._read_now()
            self._file.seek(start)
            if objection := _objection(chunk):
                self.__exit__()
                raise UnusableFileError(self._name, objection)

    async def count(self) -> int | None:
        """Count the handles; ``None`` for a pipe and the like, whose handles are yet to come."""
        if not is_regular(self._file):
            return None
        # Perhaps not 0: others may have read from stdin before us.
        start = self._file.seek(0, os.SEEK_CUR)
        count = 0
        async for _ in self.handles():
            count += 1
        self._file.seek(start)
        return count

    async def handles(self, first: Sequence[str] = ()) -> AsyncIterator[str]:
        """Give the handles, those of ``first`` before those of the file.

        Raises:
            BrokenFileError: The file cannot be read.
        """
        for handle in first:
            yield handle
        rest, chunk = b"", await self._read()
        if objection := _objection(chunk):
            raise BrokenFileError("read", self._name, objection)
        while chunk:
            # Some programs end lines with a carriage return alone.
            *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            if len(rest) > _CHUNK:
                raise BrokenFileError(
                    "read", self._name, "not a list of handles: a line has no end"
                )
            for line in lines:
                if handle := _handle(line):
                    yield handle
            chunk = await self._read()
        if handle := _handle(rest):
            yield handle

    async def _read(self) -> bytes:
        try:
            # In a thread, since stdin may stay silent for ever.
            return await call_in_thread(self._read_now, name="asyncsfk handles")
        except OSError as error:
            raise BrokenFileError("read", self._name, error) from error

    def _read_now(self) -> bytes:
        while (chunk := self._file.read(_CHUNK)) is None:
            # Another process that shares this file has made it non-blocking: nothing has come yet,
            # but the list has not ended.
            select.select([self._file.fileno()], [], [])
        return chunk


def _objection(chunk: bytes) -> str | None:
    """Return why a file that begins like this cannot be a list of handles, if it cannot."""
    if objection := utf16(chunk):
        return objection
    if b"\0" in chunk or chunk.startswith(_PACKED_STARTS):
        return "it is not text: unpack it, or save it as text"
    lines = chunk.replace(b"\r", b"\n").split(b"\n")
    first: str = next((handle for line in lines if (handle := _handle(line))), "")
    # Only as far as ? or #: what follows these in a profile's URL may have separators.
    if _SEPARATORS & set(re.split("[?#]", first, maxsplit=1)[0]):
        return "it must have one handle a line: take the column of handles out first"
    return None


def _handle(line: bytes) -> str:
    # Some editors begin a file with a byte order mark.
    text = line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    return "" if text.startswith("#") else text
