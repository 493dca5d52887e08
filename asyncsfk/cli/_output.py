"""JSON lines, written whole and as they come."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TextIO

import msgspec

from asyncsfk.cli._exit import BrokenFileError, UnusableFileError
from asyncsfk.cli._threads import call_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from asyncsfk import Outcome, Product, ShowcasePage, Usage

_encode = msgspec.json.encode


class _Writable(Protocol):
    def write(self, data: memoryview, /) -> int | None: ...
    def isatty(self) -> bool: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class LineWriter:
    """Writes lines to the end of a file or, under the name ``-``, to stdout.

    What `write` is given arrives whole, unless the reader went away or was not waited for.

    Raises:
        UnusableFileError: The file cannot be opened, or another process is writing it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._is_stdout = path == "-"
        self._is_cut = False
        self._outdated: tuple[dict[str, int], ...] = ()
        self._file: _Writable
        # Unbuffered: nothing is locked should we leave while a write is waiting for its reader.
        if self._is_stdout:
            stdout = standard_stream(sys.stdout, "stdout")
            self._file = getattr(stdout, "raw", stdout)
        else:
            try:
                # Closed in __exit__.
                self._file = open(path, "ab", buffering=0)  # noqa: PTH123, SIM115
            except OSError as error:
                raise UnusableFileError(path, error) from error
        self._may_block = not is_regular(self._file)
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

    @property
    def _is_ours(self) -> bool:
        """Whether it is a plain file; what the shell has opened may be there to be added to."""
        return not self._is_stdout and not self._may_block and not is_descriptor(self.path)

    def renew(self, outdated: dict[str, int], *others: dict[str, int]) -> None:
        """Have the file emptied at the first line, or by `empty_outdated`; until then it stays.

        Args:
            outdated: The open files, by name, that are emptied together: at the first line for any.
            others: Further files that are emptied with it, but not the other way round.

        Raises:
            UnusableFileError: It may only grow.
        """
        self._outdated = (outdated, *others)
        if self._is_ours:
            file = self._file.fileno()
            try:
                os.truncate(file, os.fstat(file).st_size)
            except OSError as error:
                raise UnusableFileError(self.path, error) from error
            outdated[self.path] = file

    def empty_outdated(self) -> None:
        """Empty the files that are to be renewed together.

        Raises:
            BrokenFileError: One cannot be.
        """
        for outdated in self._outdated:
            while outdated:
                path, file = outdated.popitem()
                try:
                    os.truncate(file, 0)
                except OSError as error:
                    raise BrokenFileError("empty", path, error.strerror or str(error)) from error

    @property
    def is_terminal(self) -> bool:
        """Whether somebody is looking at the lines as they come."""
        return self._file.isatty()

    @property
    def is_cut(self) -> bool:
        """Whether lines were left half written, perhaps, since their reader did not take them."""
        return self._is_cut

    async def write(self, lines: Iterable[bytes]) -> None:
        """Write lines; returns when they are out of our hands.

        A pipe's reader may take its time, so this waits in a thread. Cancellation waits for it,
        so that lines stay whole; being cancelled again does not.
        """
        if not (data := b"".join(lines)):
            return
        if not self._may_block:
            # To hand a page to a thread takes longer than to write it.
            self.write_now(data)
            return
        writing = call_in_thread(partial(self.write_now, data), name="asyncsfk lines")
        try:
            await asyncio.wait({writing})
        except asyncio.CancelledError:
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                self._is_cut = not writing.done()
                writing.cancel()
                raise
            writing.result()
            raise
        writing.result()

    def write_now(self, lines: bytes) -> None:
        """Write lines; waits here until they are out of our hands."""
        left = memoryview(lines)
        try:
            if left:
                self.empty_outdated()
            while left:
                written = self._file.write(left)
                if written is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                left = left[written:]
        except BrokenPipeError:
            raise
        except OSError as error:
            # The disk is full, say.
            if self._is_ours:
                # What is added to it later must not begin in the middle of a line.
                with suppress(OSError):
                    file = self._file.fileno()
                    os.ftruncate(file, os.fstat(file).st_size - (len(lines) - len(left)))
            name = "stdout" if self._is_stdout else self.path
            raise BrokenFileError("write", name, error.strerror or str(error)) from error


class _Numbered(Protocol):
    def fileno(self) -> int: ...


def is_regular(file: _Numbered) -> bool:
    """Tell whether something open is a plain file, which keeps nobody waiting."""
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError):
        return False


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
        raise UnusableFileError(name, OSError(errno.EBADF, os.strerror(errno.EBADF)))
    return stream.buffer


def product_line(handle: str, position: int | None, product: Product) -> bytes:
    """Return a product as the API names its fields, after its handle and position."""
    # A product's JSON is never empty: it has an id.
    return b'{"handle":%b,"position":%b,%b\n' % (
        _encode(handle),
        _encode(position),
        product.to_json()[1:],
    )


def page_lines(page: ShowcasePage, first: int | None) -> list[bytes]:
    """Return the lines of a page whose first product stands at a position, if that is known."""
    return [
        product_line(page.handle, None if first is None else first + at, product)
        for at, product in enumerate(page.products)
    ]


def outcome_line(outcome: Outcome) -> bytes:
    """Return an outcome with all that is needed to go on, but for its products."""
    told = outcome.to_dict()
    del told["products"]
    return json_line(told)


def json_line(value: object) -> bytes:
    """Return a line of JSON."""
    return _encode(value) + b"\n"


def pretty(value: msgspec.Struct) -> bytes:
    """Return an answer as indented JSON."""
    from asyncsfk import Answer

    if isinstance(value, Answer):
        told = value.to_dict()
        # Of the call rather than of what was asked.
        del told["usage"], told["cached"]
        return indented(told)
    return indented(value)


def indented(value: object) -> bytes:
    """Return indented JSON."""
    return msgspec.json.format(_encode(value), indent=2)


def cost(usage: Usage) -> str:
    """Return what came and what it cost, in words."""
    maybe = f", {usage.maybe:,} more maybe charged" if usage.maybe else ""
    archived = f" ({usage.archived:,} of them from the archive)" if usage.archived else ""
    return (
        f"{counted(usage.pages, 'page')}{archived}, {counted(usage.products, 'product')}, "
        f"{counted(usage.charged, 'credit')} charged{maybe}"
    )


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Return a number of things in words."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def listed(counts: Mapping[str, int]) -> str:
    """Return how many there are of what there is, in words."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def is_descriptor(path: str) -> bool:
    """Tell whether a name is that of something which is open already, such as ``/dev/stdout``."""
    return re.match(r"/dev/(stdout|stderr|fd/)|/proc/[^/]+/fd/", os.path.normpath(path)) is not None


def is_same_file(one: str, other: str) -> bool:
    """Tell whether two names lead to the same file, there already or not."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
