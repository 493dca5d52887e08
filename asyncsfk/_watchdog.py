"""The deadlines of all requests under way, on one timer.

Two timers a request, made and cancelled, would be a large part of what a request costs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_LOOKS: Final = 8
"""The watchdog looks at least so many times within the shorter of its two times."""
_MOMENT: Final = 0.01
"""Seconds until it looks again at a request whose time is up, and only then can end it."""


class Watchdog:
    """Watches requests; has a timer only while there are any.

    Must be made and used inside one running event loop.

    Args:
        total: Seconds that a request may take.
        quiet: Seconds that a request may receive nothing; noticed up to an eighth later.
    """

    def __init__(self, *, total: float, quiet: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._total = total
        self._quiet = quiet
        self._interval = min(total, quiet) / _LOOKS
        self._deadlines: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = 0.0

    def deadlines(self) -> tuple[float, float]:
        """Return until when a request that begins now may take, and until when it may be silent."""
        now = self._loop.time()
        return now + self._total, now + self._quiet

    def add(self, deadline: Deadline) -> None:
        """Begin to watch a request."""
        self._deadlines.add(deadline)
        if self._timer is None:
            self._set_timer(self._loop.time() + self._interval)

    def discard(self, deadline: Deadline) -> None:
        """Watch it no longer."""
        self._deadlines.discard(deadline)

    def close(self) -> None:
        """Watch no longer; nothing is added after that."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        again = now + self._interval
        late = now - self._looks_at
        if late > self._interval:
            # The event loop was held up; what has come meanwhile has yet to be read.
            for deadline in self._deadlines:
                deadline.postpone(late)
        for deadline in tuple(self._deadlines):
            until = deadline.look(now + self._quiet)
            is_late = until <= now
            if is_late and deadline.is_late:
                self._deadlines.discard(deadline)
                deadline.expire()
                continue
            # Not ended at once: an answer may have just come, or while the event loop was held up.
            # It is paid for, and will be read before the next look.
            deadline.is_late = is_late
            again = min(again, now + _MOMENT if is_late else until)
        self._timer = None
        if self._deadlines:
            self._set_timer(again)

    def _set_timer(self, when: float) -> None:
        self._looks_at = when
        self._timer = self._loop.call_at(when, self._look)


class Deadline:
    """One request's deadlines, counted from now; the request runs in its ``with``.

    The ``with`` ends with a `TimeoutError` if a deadline passes meanwhile.

    Args:
        watchdog: Watches it.
        progress: Returns a number that grows from 0 with what is received; ``None`` while nothing
            can come yet, since connecting has a timeout of its own.

    Attributes:
        is_late: Whether its time was up at the last look.
    """

    __slots__ = (
        "_due",
        "_failure",
        "_progress",
        "_quiet_until",
        "_seen",
        "_task",
        "_watchdog",
        "is_late",
    )

    def __init__(self, watchdog: Watchdog, progress: Callable[[], int | None]) -> None:
        self._watchdog = watchdog
        self._progress = progress
        self._due, self._quiet_until = watchdog.deadlines()
        self._seen: int | None = 0
        self.is_late = False
        self._failure: TimeoutError | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checkers
        self._task = task
        self._watchdog.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watchdog.discard(self)
        if self._failure is None:
            return
        # If not, somebody else has cancelled the task as well, and that still has to take effect.
        is_ours = self._task.uncancel() == 0
        if is_ours and kind is asyncio.CancelledError:
            raise self._failure from error

    def postpone(self, seconds: float) -> None:
        """Give it so much longer."""
        self._due += seconds
        self._quiet_until += seconds

    def look(self, quiet_until: float) -> float:
        """Return when its time is up if nothing more is received.

        Args:
            quiet_until: Until when it may be silent if something has come since the last look.
        """
        seen = self._progress()
        if seen is None or seen != self._seen:
            self._quiet_until = quiet_until
        self._seen = seen
        return min(self._due, self._quiet_until)

    def expire(self) -> None:
        """End the request."""
        silent = self._quiet_until < self._due
        self._failure = TimeoutError("nothing came for too long" if silent else "it took too long")
        self._task.cancel()
