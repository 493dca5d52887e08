"""JSON lines, written whole and as they come."""

from __future__ import annotations

import asyncio
import os
import select
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from asyncsfk.cli._exit import BrokenFileError, UnusableFileError, standard_stream
from asyncsfk.cli._files import (
    is_descriptor,
    is_pipe,
    is_regular,
    lock,
    telling_of_closed_pipes,
)
from asyncsfk.cli._format import harmless
from asyncsfk.cli._threads import call_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self


class LineWriter:
    """Writes lines to the end of a file or, under the name ``-``, to stdout.

    What `write` is given arrives whole, unless the reader went away or was not waited for.

    Attributes:
        name: Its name, in words.
        is_cut: Whether lines may be half written, since their reader did not take them in time.

    Raises:
        UnusableFileError: The file cannot be opened, or another process is writing it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_stdout = path == "-"
        self.name = "stdout" if self._is_stdout else path
        self.is_cut = False
        self._written = 0
        self._outdated: tuple[dict[str, int], ...] = ()
        # Unbuffered: a buffer would stay locked if we leave while a write waits for its reader.
        if self._is_stdout:
            self._file = standard_stream(sys.stdout, "stdout")
        else:
            try:
                # Closed in __exit__.
                self._file = open(path, "ab", buffering=0)  # noqa: PTH123, SIM115
            except OSError as error:
                raise UnusableFileError(path, error) from error
        self._may_block = not is_regular(self._file)
        # A plain file that we opened: one of the shell's may be meant to grow.
        self._is_ours = not (self._is_stdout or self._may_block or is_descriptor(path))
        # Some file systems do not count the names of a file.
        self._has_counted_names = self._is_ours and self._names() > 0
        # A process that was killed may have left half a line at the end of a plain file.
        self._is_whole = not self._is_ours
        if self._is_ours:
            try:
                lock(self._file)
            except BlockingIOError as error:
                self._file.close()
                raise UnusableFileError(path, "another process is writing it") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_stdout:
            self._file.close()

    def renew(self, outdated: dict[str, int], *others: dict[str, int]) -> None:
        """Have the file emptied before its first line, or by `empty_outdated`; until then it stays.

        Args:
            outdated: The open files, by name, that are emptied together: at the first line for any.
            others: Further files, emptied at the first line for these, but not the other way round.

        Raises:
            UnusableFileError: The file can only be appended to.
        """
        self._outdated = (outdated, *others)
        if self._is_ours:
            file = self._file.fileno()
            try:
                os.truncate(file, os.fstat(file).st_size)
            except OSError as error:
                raise UnusableFileError(self._path, error) from error
            outdated[self._path] = file

    def empty_outdated(self) -> None:
        """Empty the files that are to be renewed together.

        Raises:
            BrokenFileError: One of them cannot be emptied.
        """
        for outdated in self._outdated:
            while outdated:
                path, file = outdated.popitem()
                try:
                    os.truncate(file, 0)
                except OSError as error:
                    raise BrokenFileError("empty", path, error) from error

    @property
    def is_terminal(self) -> bool:
        """Whether somebody is looking at the lines as they come."""
        return self._file.isatty()

    @property
    def is_misplaced(self) -> bool:
        """Whether a plain file is not under its name any more, or not all that was written to it.

        Another program may have moved, removed, replaced or cut it, such as one that rotates logs.
        What got no line lacks none, whatever became of it.
        """
        if not self._is_ours or not self._written:
            return False
        try:
            named, ours = os.stat(self._path), os.fstat(self._file.fileno())  # noqa: PTH116 - any name
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            # Nobody can tell, as where its folder must not be looked into any more.
            return False
        return not os.path.samestat(named, ours) or ours.st_size < self._written

    async def write(self, lines: Iterable[bytes]) -> None:
        """Write lines; returns when they are out of our hands.

        A pipe's reader may take its time, so this waits in a thread. Cancellation waits for it,
        so that lines stay whole; being cancelled again does not.
        """
        data = b"".join(lines)
        # A plain file: handing a page to a thread would take longer than writing it.
        if not self._may_block:
            self.write_now(data)
            return
        left = self._write_what_fits(memoryview(data))
        if not left:
            return
        try:
            writing = call_in_thread(partial(self.write_now, left), name="asyncsfk lines")
        except OSError as error:
            raise BrokenFileError("write", self.name, error) from error
        try:
            await asyncio.wait({writing})
        except asyncio.CancelledError:
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                self.is_cut = not writing.done()
                writing.cancel()
                raise
            writing.result()
            raise
        writing.result()

    def _write_what_fits(self, lines: memoryview) -> memoryview:
        """Write as much as a pipe takes without a wait; return what is left.

        A pipe that reports room has room for `PIPE_BUF` bytes at least (POSIX.1, `write`).
        """
        if sys.platform != "win32" and is_pipe(self._file):
            poll = select.poll()
            poll.register(self._file.fileno(), select.POLLOUT)
            while lines and poll.poll(0):
                self.write_now(lines[: select.PIPE_BUF])
                lines = lines[select.PIPE_BUF :]
        return lines

    def write_now(self, lines: bytes | memoryview) -> None:
        """Write lines; blocks until they are out of our hands."""
        if self._may_block and self.is_terminal:
            lines = harmless(bytes(lines))
        left = memoryview(lines)
        try:
            if left:
                if self._has_counted_names and not self._names():
                    # More may be paid for, and nobody could ever read it.
                    raise BrokenFileError("write", self.name, "it was removed or replaced")
                self.empty_outdated()
                if not self._is_whole and not _ends_a_line(self._path):
                    self._file.write(b"\n")
                self._is_whole = True
            while left:
                with telling_of_closed_pipes(self._file):
                    written = self._file.write(left)
                if written is None:
                    # Another process that shares this end of the pipe has made it non-blocking.
                    # The reader is merely slow, so wait for it here.
                    select.select([], [self._file.fileno()], [])
                else:
                    left = left[written:]
                    self._written += written
        except BrokenPipeError:
            raise
        except OSError as error:
            # For example, the disk is full.
            if self._is_ours:
                # Take back what was written: lines appended later must not begin inside of one.
                with suppress(OSError):
                    file = self._file.fileno()
                    os.ftruncate(file, os.fstat(file).st_size - (len(lines) - len(left)))
            raise BrokenFileError("write", self.name, error) from error

    def _names(self) -> int:
        return os.fstat(self._file.fileno()).st_nlink


def _ends_a_line(path: str) -> bool:
    """Tell whether what is appended to a file begins a line; assumed if it cannot be read."""
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - as it is opened to be written
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")
    return True
