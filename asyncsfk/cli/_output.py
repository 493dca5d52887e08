"""JSON lines, written whole and as they come."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

import click
import msgspec

from asyncsfk.cli._exit import UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from asyncsfk import Outcome, Product, ShowcasePage, Usage

_encode = msgspec.json.encode


class LineWriter:
    """Writes lines to a file or, under the name ``-``, to stdout.

    What `write` is given arrives whole, unless the reader went away.

    Raises:
        UnusableFileError: The file cannot be opened.
    """

    def __init__(self, path: str, *, append: bool = False) -> None:
        self.path = path
        self._is_stdout = path == "-"
        self._file: BinaryIO
        if self._is_stdout:
            self._file = standard_stream(sys.stdout, path)
        else:
            try:
                # Closed in __exit__.
                self._file = open(path, "ab" if append else "wb")  # noqa: PTH123, SIM115
            except OSError as error:
                raise UnusableFileError(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_stdout:
            self._file.close()

    @property
    def is_terminal(self) -> bool:
        """Whether somebody is looking at the lines as they come."""
        return self._file.isatty()

    async def write(self, lines: Iterable[bytes]) -> None:
        """Write lines; returns when they are out of our hands.

        A pipe's reader may take its time, so this waits in a thread. Cancellation waits for it:
        lines stay whole.
        """
        if not (data := b"".join(lines)):
            return
        writing = asyncio.get_running_loop().run_in_executor(None, self.write_now, data)
        try:
            await asyncio.wait({writing})
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            writing.result()
            raise
        writing.result()

    def write_now(self, lines: bytes) -> None:
        """Write lines; waits here until they are out of our hands."""
        try:
            self._file.write(lines)
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            # The disk is full, say.
            raise click.FileError(self.path, error.strerror or str(error)) from error


def standard_stream(stream: TextIO | None, path: str) -> BinaryIO:
    """Return the bytes below stdin or stdout.

    Raises:
        UnusableFileError: The shell gave us none.
    """
    if stream is None:
        raise UnusableFileError(path, OSError(errno.EBADF, os.strerror(errno.EBADF)))
    return stream.buffer


def product_line(handle: str, position: int, product: Product) -> bytes:
    """Return a product as the API names its fields, after its handle and position."""
    # A product's JSON is never empty: it has an id.
    return b'{"handle":%b,"position":%d,%b\n' % (
        _encode(handle),
        position,
        product.to_json()[1:],
    )


def page_lines(page: ShowcasePage, first: int) -> list[bytes]:
    """Return the lines of a page whose first product stands at a position."""
    return [
        product_line(page.handle, position, product)
        for position, product in enumerate(page.products, first)
    ]


def outcome_line(outcome: Outcome) -> bytes:
    """Return an outcome with all that is needed to go on, but for its products."""
    told = outcome.to_dict()
    del told["products"]
    return _encode(told) + b"\n"


def pretty(value: msgspec.Struct) -> str:
    """Return an answer as indented JSON."""
    from asyncsfk import Answer  # noqa: PLC0415 - loads the models

    if isinstance(value, Answer):
        told = value.to_dict()
        # Of the call rather than of what was asked.
        del told["usage"], told["cached"]
        return _indented(told)
    return _indented(value)


def _indented(value: object) -> str:
    return msgspec.json.format(_encode(value), indent=2).decode()


def cost(usage: Usage) -> str:
    """Return what came and what it cost, in words."""
    maybe = f", {usage.maybe:,} more maybe charged" if usage.maybe else ""
    return (
        f"{counted(usage.pages, 'page')}, {counted(usage.products, 'product')}, "
        f"{counted(usage.charged, 'credit')} charged{maybe}"
    )


def counted(number: int, thing: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def is_same_file(one: str, other: str) -> bool:
    """Tell whether two names lead to the same existing file."""
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
