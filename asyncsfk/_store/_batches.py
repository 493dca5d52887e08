"""Work for one thread, done in batches: the event loop never waits, and pays once a batch."""

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

_ENOUGH: Final = 50  # so many items wait for no more


class Batches(Generic[T]):
    """Hands items to a function in a thread of its own, as many at once as have gathered.

    Must be made inside the running event loop.

    Args:
        work: Does a batch and returns a result for each item; what it raises fails them all.
        name: The thread's.
        gather: Asked at each item how many seconds its batch may wait for company, from its first
            item on; 0 for none.
        after: Called in the event loop when a batch is done or has failed, before the futures of
            its items are.
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
        """Call a function in the thread; waits for its end even when cancelled.

        Raises:
            ArchiveError: There can be no thread.
        """
        # In whatever event loop: the one that it was made in may have ended.
        return await to_the_end(self._hand_over(asyncio.get_running_loop(), function))

    async def flush(self) -> None:
        """Wait until all that was submitted is done; who is cancelled waits all the same, once."""
        await wait_out(self._next)

    def _next(self) -> asyncio.Future[Any] | None:
        """Return the batch under way, having begun one if something waits."""
        if self._running is None and self._waiting:
            self._start()
        return self._running

    def close(self) -> None:
        """End the thread, once it has done what it was given."""
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
        """Let the thread call a function; where there can be no thread, the future says so."""
        try:
            return loop.run_in_executor(self._executor, function)
        except RuntimeError as error:
            # Or Python is ending: it takes no more work for threads once the main one has ended,
            # though another's event loop may go on. Raised here, in a timer say, nobody who waits
            # for the batch would ever hear of it.
            failed: asyncio.Future[R] = loop.create_future()
            failed.set_exception(ArchiveError(f"no thread can be had for the archive: {error}"))
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
                # Not everybody waits; asyncio would complain of an error that nobody took.
                done.exception()
        if self._waiting:
            self._schedule()
