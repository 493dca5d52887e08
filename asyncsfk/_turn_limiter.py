"""A few in each turn of the event loop, so that what comes in a bunch does not stay one."""

from __future__ import annotations

import asyncio
from collections import deque


class TurnLimiter:
    """Lets a few pass in each turn of the event loop, the others in the turns after it, in order.

    Where hundreds come at once, all would go through the same stages at the same time ever after:
    all answers are decoded before the first of the next requests is sent, and those are sent, and
    answered, together again. Who comes last waits for all the work of that, each time; and each
    wave of what one stage makes and another drops sets the garbage collector to work.

    Must be made and used inside one running event loop.
    """

    # Fewer take more CPU at a width of 50, more of them at 500.
    _MOST = 8

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Pass in this turn, if that is possible; if not, `wait`."""
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
            # Who was cancelled meanwhile is still in the queue.
            if not place.done():
                self._count()
                place.set_result(None)
