"""Tells those who found no pages of a showcase when others keep some, so that they look again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class Watch:
    """Sees whether others keep pages of one showcase.

    Attributes:
        is_alone: Whether nobody else has kept one so far.
    """

    __slots__ = ("is_alone",)

    def __init__(self) -> None:
        self.is_alone = True


class Watches:
    """Tells those who watch a showcase about pages of it that others keep."""

    def __init__(self) -> None:
        self._watches: dict[tuple[str, str], list[Watch]] = {}

    @contextmanager
    def watching(self, handle: str, region: str) -> Generator[Watch]:
        """Watch a showcase within a ``with``."""
        watch, watches = Watch(), self._watches.setdefault((handle, region), [])
        watches.append(watch)
        try:
            yield watch
        finally:
            watches.remove(watch)
            if not watches:
                del self._watches[handle, region]

    def tell(self, handle: str, region: str, by: Watch | None) -> None:
        """Tell all watches of a showcase except ``by`` that a page of it is being kept."""
        for watch in self._watches.get((handle, region), ()):
            if watch is not by:
                watch.is_alone = False
