"""How many requests are on their way, and when the next may start."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import anyio

from asyncsfk._retry import SPREAD
from asyncsfk._turn_limiter import TurnLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiolimiter import AsyncLimiter


class Gate:
    """Lets requests through one by one: at most ``width`` at once, none during a pause.

    In one turn of the event loop only a few begin.

    The width adapts as TCP's window does: halved when the API pushes back, growing with each
    success until it is back at the ceiling. A pause is a deadline shared by all, so there is
    nothing to reopen and nothing that could stay shut.

    Args:
        ceiling: The width that the caller allows.
        limiter: How many requests may start per time, if that is limited.
        longest_pause: The longest pause, in seconds, unless the API asks for a longer one.
        clock: The event loop's clock, in seconds.
        rng: Gives 0 <= x < 1.
    """

    _SHRINK = 0.5
    # Exact in binary: sums of it are not rounded.
    _GROW = 0.25
    _FIRST_PAUSE = 0.5
    _LONGEST_PAUSE = 30.0
    # At a high rate, what takes so many seconds is no wait.
    _MOMENT = 0.01

    def __init__(
        self,
        ceiling: int,
        *,
        limiter: AsyncLimiter | None,
        longest_pause: float,
        clock: Callable[[], float],
        rng: Callable[[], float],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ceiling = ceiling
        self._width = float(ceiling)
        self._limiter = limiter
        # After a longer pause one outage would be taken for two (see `_outage`).
        self._longest_pause = min(longest_pause, self._LONGEST_PAUSE)
        self._clock = clock
        self._rng = rng
        # Places taken, also by calls that still wait for the rate or the end of a pause.
        self._active = 0
        self._in_flight = 0
        self._turns = TurnLimiter()
        # Oldest first; a dict, since any of thousands can leave at once.
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._resume_at = 0.0
        self._told_until = 0.0
        self._narrowed_at = -1.0
        self._strikes = 0

    @property
    def in_flight(self) -> int:
        """How many requests were let through, and have not left."""
        return self._in_flight

    @property
    def width(self) -> int:
        """How many requests may be inside at once, just now."""
        return int(self._width)

    @property
    def paused_for(self) -> float:
        """Seconds until requests may start again."""
        return max(0.0, self._resume_at - self._clock())

    def may_start(self, entered: float) -> bool:
        """Tell whether a request that was let through may start even now, if it has waited since.

        Args:
            entered: When it was let through.
        """
        if (limiter := self._limiter) is not None:
            # Others may have had their turns at the rate since, and would start together with it.
            in_turn = max(limiter.time_period / limiter.max_rate, self._MOMENT)
            if self._clock() - entered > in_turn:
                return False
        return self._is_open

    def set_ceiling(self, ceiling: int) -> None:
        """Change the width that the caller allows; a width at the old ceiling follows."""
        if self._width >= self._ceiling:
            self._width = float(ceiling)
        self._ceiling = ceiling
        self._width = min(self._width, float(ceiling))
        self._admit()

    async def enter(self) -> float:
        """Wait for a place, the end of any pause, and the rate; then `leave` must follow.

        Returns:
            When it was let through.
        """
        while True:
            # Nobody is overtaken: there is no room while anybody waits.
            if self._has_room:
                self._active += 1
            else:
                await self._queue()
            try:
                if not self._turns.take():
                    await self._turns.wait()
                is_free = self._limiter is None and self._is_open
                if is_free or await self._wait_for_start():
                    self._in_flight += 1
                    return self._clock()
            except BaseException:
                self._give_place()
                raise
            # The width shrank while this call waited: it queues again, behind the others.
            self._give_place()

    def leave(self) -> None:
        """Give the place to the next."""
        self._in_flight -= 1
        self._give_place()

    def succeeded(self) -> None:
        """Take note of an answer that was not a pushback: the next `leave` may find more width."""
        self._strikes = 0
        self._width = min(float(self._ceiling), self._width + self._GROW)

    def push_back(self, seconds: float | None, started: float) -> bool:
        """Pause all requests and narrow the width.

        Args:
            seconds: How long the API asked to wait. If it did not, or refuses again after that,
                the pause is no shorter than one that grows with each pushback in a row.
            started: When the refused request was sent. Many requests refused at once are one
                pushback: only those sent after the last narrowing narrow again.

        Returns:
            Whether this is worth telling: the width is narrower, or the pause noticeably longer.
        """
        now = self._clock()
        news = started > self._narrowed_at
        if news:
            self._narrowed_at = now
            self._strikes += 1
            self._width = max(1.0, self._width * self._SHRINK)
            # An API that refuses again has asked for too little.
            if seconds is None or self._strikes > 1:
                longest = self._FIRST_PAUSE * 2.0 ** min(self._strikes - 1, 64)
                grown = min(self._longest_pause, longest) * (0.5 + 0.5 * self._rng())
                seconds = max(seconds or 0.0, grown)
        resume_at = now + (seconds or 0.0)
        self._resume_at = max(self._resume_at, resume_at)
        # Many requests refused at once each move the pause's end by a moment: that is told once.
        if news or resume_at > max(now, self._told_until):
            news, self._told_until = True, self._resume_at + SPREAD
        return news

    @property
    def _is_open(self) -> bool:
        """Whether there is no pause, and the width has not shrunk below the places taken."""
        return self._clock() >= self._resume_at and self._active <= int(self._width)

    @property
    def _has_room(self) -> bool:
        return self._active < int(self._width)

    async def _queue(self) -> None:
        place: asyncio.Future[None] = self._loop.create_future()
        self._waiters[place] = None
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._waiters.pop(place, None)
            else:
                # The place had just been given when the cancellation came; pass it on.
                self._give_place()
            raise

    def _give_place(self) -> None:
        self._active -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiters and self._has_room:
            place, _ = self._waiters.popitem(last=False)
            # A call that was just cancelled may still be in the queue.
            if not place.done():
                self._active += 1
                place.set_result(None)

    async def _wait_for_start(self) -> bool:
        """Wait for the end of any pause and for the rate; tell if there is still a place."""
        while True:
            # The deadline may move during the sleep; an event would need somebody to set it.
            while (wait := self._resume_at - self._clock()) > 0:  # noqa: ASYNC110
                await anyio.sleep(wait + self._rng() * SPREAD)
            if self._active > int(self._width):
                return False
            if self._limiter is None:
                return True
            await self._limiter.acquire()
            if self._is_open:
                return True
