"""Ctrl-C, SIGTERM and SIGHUP during a fetch: first an orderly end, then a quick one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from asyncsfk.cli._exit import on_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncsfk import ShowcaseRun

NOTICE: Final = "Stopping: what has been asked for will land. Ctrl-C again leaves at once."
_PATIENCE: Final = 0.3
# Seconds within which another signal is taken for an echo: the terminal signals all of us, and then
# a shell or wrapper may pass its own signal on to us.
_ECHO: Final = 0.3


class Interruption:
    """While this is entered, the first signal ends a run in good order, and the second at once.

    The first stops the run: the loop over it then ends by itself, once all that was paid for has
    been taken in. After the second nothing is waited for: if a slow reader of the output holds the
    loop up, the task is cancelled again and again until `loop_is_over`. After this was left, each
    signal cancels the task.

    Args:
        run: What is stopped.
        on_first: Called at the first signal.

    Attributes:
        signals: How many came.
    """

    def __init__(self, run: ShowcaseRun, *, on_first: Callable[[], object]) -> None:
        self._run = run
        self._on_first = on_first
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._is_over = False
        self._is_left = False
        self._last = -_ECHO
        self.signals = 0

    def __enter__(self) -> Self:
        on_signals(self._take)
        return self

    def __exit__(self, *_: object) -> None:
        # The handlers stay, so that an echo is still ignored.
        self._is_left = True

    def stop(self) -> None:
        """Stop the run as the first signal would; after this, the first ends it at once."""
        self.signals = max(self.signals, 1)
        self._run.stop()

    def loop_is_over(self) -> None:
        """Stop cancelling on our own: what follows the loop must be able to end as it should."""
        self._is_over = True

    def _take(self) -> None:
        now = self._loop.time()
        if now < self._last + _ECHO:
            return
        self._last = now
        self.signals += 1
        if self._is_left:
            # The run is over, and things are being closed: that goes on through one cancellation.
            self._cancel()
        elif self.signals == 1:
            self._run.stop()
            self._on_first()
        elif self.signals == 2:  # noqa: PLR2004 - the second
            self._run.stop(now=True)
            self._loop.call_later(_PATIENCE, self._press_on)
        else:
            self._cancel()

    def _press_on(self) -> None:
        if not self._is_over:
            self._cancel()
            self._loop.call_later(_PATIENCE, self._press_on)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
