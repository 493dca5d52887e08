"""Tells an API that cannot be reached at all from a single connection that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from asyncsfk.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncsfk.errors import ConnectionFailedError


# Attempts that are so many seconds apart, our own pauses included, belong to different outages.
_LULL: Final = 90.0


class Outage:
    """Knows for how long no connection could be made, while somebody was trying.

    Args:
        patience: Seconds after which the API is taken for unreachable.
        longest: The most seconds that an attempt tries to connect for.
        clock: The event loop's clock, in seconds.
    """

    def __init__(self, patience: float, longest: float, clock: Callable[[], float]) -> None:
        self._patience = patience
        self._longest = longest
        self._clock = clock
        self._since: float | None = None
        self._last = 0.0

    def end(self) -> None:
        """Take note of a connection that was made."""
        self._since = None

    def judge(self, error: ConnectionFailedError, started: float) -> ConnectionFailedError:
        """Return a failure to connect; as an `UnreachableError` once patience has run out.

        Args:
            error: How it failed.
            started: When the attempt began.
        """
        now = self._clock()
        # If it took longer than that, not all of it was trying: the process was stopped, or others
        # had all the places of a borrowed pool.
        latest = max(started, now - self._longest)
        if self._since is None or started - self._last > _LULL:
            self._since = latest
        else:
            self._since = min(self._since + latest - started, latest)
        self._last = now
        seconds = now - self._since
        if seconds < self._patience:
            return error
        return UnreachableError(f"out of reach for {seconds:.0f} s: {error.message}", error.details)
