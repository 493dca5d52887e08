"""A few in each turn of the event loop, so that what comes in a bunch does not stay together."""

from __future__ import annotations

import asyncio
from collections import deque


class TurnLimiter:
    """Lets a few pass in each turn of the event loop, the others in the turns after it, in order.

    Otherwise hundreds that come at once would go through all stages together for ever after: all
    answers are decoded before the first of the next requests is sent, so that those are sent, and
    answered, together again. The last of them waits for the work of all others, each time; and the
    objects that one stage makes in a wave, and the next drops, set off the garbage collector.

    Must be made and used inside one running event loop.
    """

    # A lower number takes more CPU at a width of 50, a higher one at 500.
    _MOST = 8

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a place in this turn and tell whether there was one; if not, `wait`."""
        # While anybody waits, all of this turn's places are taken.
        if self._passed >= self._MOST:
            return False
        self._count()
        return True

    async def wait(self) -> None:
        """Pass in one of the next turns."""
        place: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(place)
        await place

    def _count(self) -> None:
        if not self._passed:
            self._loop.call_soon(self._turn)
        self._passed += 1

    def _turn(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < self._MOST:
            place = self._waiting.popleft()
            # One that was cancelled meanwhile is still in the queue.
            if not place.done():
                self._count()
                place.set_result(None)
