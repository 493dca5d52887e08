"""Who else keeps pages of a showcase, so that those who think there are none look again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class Watch:
    """Sees whether others keep pages of one showcase.

    Attributes:
        is_alone: Whether nobody has so far.
    """

    __slots__ = ("is_alone",)

    def __init__(self) -> None:
        self.is_alone = True


class Watches:
    """Tells those who watch a showcase of pages that others keep."""

    def __init__(self) -> None:
        self._watches: dict[tuple[str, str], list[Watch]] = {}

    @contextmanager
    def watching(self, handle: str, region: str) -> Generator[Watch]:
        """Watch a showcase while the body runs."""
        watch = Watch()
        watches = self._watches.setdefault((handle, region), [])
        watches.append(watch)
        try:
            yield watch
        finally:
            watches.remove(watch)
            if not watches:
                self._watches.pop((handle, region), None)

    def tell(self, handle: str, region: str, by: Watch | None) -> None:
        """Tell all but one that a page of a showcase is being kept."""
        for watch in self._watches.get((handle, region), ()):
            if watch is not by:
                watch.is_alone = False
