"""Work for one thread, done in batches: the event loop never blocks, and pays once per batch."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from asyncsfk._shield import to_the_end, wait_out
from asyncsfk.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

_ENOUGH: Final = 50  # a batch of so many items starts at once


class Batches(Generic[T]):
    """Hands items to a function in a thread of its own, all that have gathered at once.

    Must be made inside the running event loop.

    Args:
        work: Does a batch and returns a result for each item; what it raises fails them all.
        name: The thread's name.
        gather: Called for each item; returns how many seconds the batch may wait for more items,
            counted from its first. 0 starts it at once.
        after: Called in the event loop when a batch is done or has failed, before the futures of
            its items are set.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[Any]],
        *,
        name: str,
        gather: Callable[[], float],
        after: Callable[[Sequence[T], BaseException | None], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._work = work
        self._after = after
        self._gather = gather
        self._waiting: list[tuple[T, asyncio.Future[Any]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Future[Sequence[Any]] | None = None

    def submit(self, item: T) -> asyncio.Future[Any]:
        """Put an item into the next batch; the future need not be awaited."""
        done: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((item, done))
        self._schedule()
        return done

    async def run(self, function: Callable[[], R]) -> R:
        """Call a function in the thread, and wait for its end even when cancelled.

        Raises:
            ArchiveError: The thread cannot be started.
        """
        # The running event loop, not `self._loop`: that one may have ended.
        return await to_the_end(self._hand_over(asyncio.get_running_loop(), function))

    async def flush(self) -> None:
        """Wait until all that was submitted is done, despite a first cancellation."""
        await wait_out(self._next)

    def _next(self) -> asyncio.Future[Any] | None:
        """Return the batch under way; start one if there is none and items are waiting."""
        if self._running is None and self._waiting:
            self._start()
        return self._running

    def close(self) -> None:
        """Let the thread end once it has done what it was given."""
        self._executor.shutdown(wait=False)

    def _schedule(self) -> None:
        if self._running is not None:
            return
        seconds = self._gather()
        if not seconds or len(self._waiting) >= _ENOUGH:
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(seconds, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        items = [item for item, _ in batch]
        self._running = self._hand_over(self._loop, partial(self._work, items))
        self._running.add_done_callback(partial(self._finish, batch, items))

    def _hand_over(
        self, loop: asyncio.AbstractEventLoop, function: Callable[[], R]
    ) -> asyncio.Future[R]:
        """Have the thread call a function; if there can be no thread, the future fails."""
        try:
            return loop.run_in_executor(self._executor, function)
        except RuntimeError as error:
            # No thread can be started, or the main thread has ended: then Python accepts no more
            # work for threads, though an event loop in another may go on. This may run in a timer:
            # if it raised, those who wait for the batch would never hear of it.
            failed: asyncio.Future[R] = loop.create_future()
            failed.set_exception(ArchiveError(f"no thread can be started for the archive: {error}"))
            return failed

    def _finish(
        self,
        batch: list[tuple[T, asyncio.Future[Any]]],
        items: list[T],
        running: asyncio.Future[Sequence[Any]],
    ) -> None:
        self._running = None
        error = running.exception()
        if self._after is not None:
            self._after(items, error)
        results = [None] * len(batch) if error is not None else running.result()
        for (_, done), result in zip(batch, results, strict=True):
            if done.done():
                continue
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)
                # Not everybody waits, and asyncio complains of an error that nobody retrieved.
                done.exception()
        if self._waiting:
            self._schedule()
