"""One request under way and its answer, in whatever way aiohttp is made to send it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

HEADER_BYTES: Final = 64 * 1024
"""The longest header that is accepted: proxies may add some over aiohttp's own limit."""


class Head(msgspec.Struct, frozen=True):
    """The part of an answer that comes before its body.

    Attributes:
        status: Its status.
        headers: Its headers.
        content: What the body is read from.
    """

    status: int
    headers: Mapping[str, str]
    content: aiohttp.StreamReader

    def __repr__(self) -> str:
        # Tracebacks can show it, and the API may have echoed the key in a header.
        return f"<Head {self.status}>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("status", self.status)]


class Exchange(ABC):
    """One request, which is sent once, and its answer.

    Attributes:
        head: What has come of the answer.
    """

    __slots__ = ("head",)

    def __init__(self) -> None:
        self.head: Head | None = None

    @abstractmethod
    async def send(self) -> Head:
        """Send it, and wait for the answer's head."""

    @abstractmethod
    def is_sent(self) -> bool:
        """Tell whether it is on its way, so that an answer can come."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back if all of the answer was read, and close it if not."""

    async def read(self, limit: int) -> bytes:
        """Read the body; if it is longer than the limit, only a little more than that."""
        assert self.head is not None  # noqa: S101 - for the type checkers
        content, size = self.head.content, 0
        pieces: list[bytes] = []
        while size <= limit and not content.at_eof():
            piece = await content.readany()
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def progress(self) -> int | None:
        """Return a number that grows from 0 as an answer comes; ``None`` until one can come."""
        if self.head is not None:
            return 1 + self.head.content.total_bytes
        return 0 if self.is_sent() else None
