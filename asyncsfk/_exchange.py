"""One request under way and its answer, in whatever way aiohttp is made to send it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import msgspec

from asyncsfk._watchdog import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from asyncsfk._watchdog import Watchdog


class Head(msgspec.Struct, frozen=True):
    """What comes of an answer before its body.

    Attributes:
        status: Its status.
        headers: Its headers.
        content: What the body is read from.
    """

    status: int
    headers: Mapping[str, str]
    content: aiohttp.StreamReader

    def __repr__(self) -> str:
        # It is in frames that tracebacks show, and the API may have echoed the key.
        return f"<Head {self.status}>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("status", self.status)]


class Exchange(Watch):
    """One request under way, which is sent once; keeps its deadlines.

    Attributes:
        head: What has come of the answer.
    """

    __slots__ = ("head",)

    def __init__(self, dog: Watchdog) -> None:
        super().__init__(dog)
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

    async def read(self, head: Head, limit: int) -> bytes:
        """Read the body; of one that is longer than the limit only a little more than that."""
        pieces: list[bytes] = []
        while limit >= 0 and (piece := await head.content.readany()):
            pieces.append(piece)
            limit -= len(piece)
        return b"".join(pieces)

    def progress(self) -> int | None:
        """Return a number that grows from 0 as an answer comes; ``None`` until it can come."""
        if self.head is not None:
            return 1 + self.head.content.total_bytes
        return 0 if self.is_sent() else None
