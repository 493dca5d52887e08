"""Tells those who found no pages of a showcase when others keep some, so that they look again."""

from __future__ import annotations

from typing import Self


class Watch:
    """Sees, within a ``with``, whether others keep pages of one showcase.

    Attributes:
        is_alone: Whether nobody else has kept one so far.
    """

    __slots__ = ("_among", "_showcase", "is_alone")

    def __init__(
        self, showcase: tuple[str, str], among: dict[tuple[str, str], list[Watch]]
    ) -> None:
        self._showcase = showcase
        self._among = among
        self.is_alone = True

    def __enter__(self) -> Self:
        self._among.setdefault(self._showcase, []).append(self)
        return self

    def __exit__(self, *_: object) -> None:
        watches = self._among[self._showcase]
        watches.remove(self)
        if not watches:
            del self._among[self._showcase]


class Watches:
    """Tells those who watch a showcase about pages of it that others keep."""

    def __init__(self) -> None:
        self._watches: dict[tuple[str, str], list[Watch]] = {}

    def watching(self, handle: str, region: str) -> Watch:
        """Return a watch of a showcase, which is told of pages while it is entered."""
        return Watch((handle, region), self._watches)

    def tell(self, handle: str, region: str, by: Watch | None) -> None:
        """Tell all watches of a showcase except ``by`` that a page of it is being kept."""
        for watch in self._watches.get((handle, region), ()):
            if watch is not by:
                watch.is_alone = False
