"""Bounded workers over an iterator -> a stream of results; knows only a callable."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextvars import Context, copy_context
from functools import partial
from types import coroutine
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

import anyio

from asyncsfk.errors import ClientStateError

In = TypeVar("In")
Out = TypeVar("Out")

Put: TypeAlias = Callable[[Out], Awaitable[None]]
"""Hands one result to the consumer; waits while the consumer is behind."""


ENDED: Final = "the run has ended: its `async with` was left, or its client was closed"


class _End:
    """What follows the last result."""


_END: Final = _End()
_YIELD_EVERY: Final = 64  # items


class FanOut(Generic[In, Out]):
    """Works on many items at once and streams their results as they come.

    Items are pulled one by one, when a worker is free; results wait in a queue of ``width``
    places, so that a slow consumer slows the workers. Nothing runs before the first result is
    asked for.

    The workers live in a task of their own, outside the consumer's cancel scopes: only `cancel`
    and `aclose` cut them short, and `aclose` leaves no task behind.

    Args:
        items: Where the items come from. An error of the iterator is raised after the results of
            the items before it.
        work: Works on an item and puts its results.
        width: How many items to work on at once.
        ordered: Put the results in the order of the items; a worker that is early waits its turn.
    """

    def __init__(
        self,
        items: Iterable[In] | AsyncIterable[In],
        work: Callable[[In, Put[Out]], Awaitable[None]],
        *,
        width: int,
        ordered: bool = False,
    ) -> None:
        self._items = _puller(items)
        self._work = work
        self._width = width
        self._ordered = ordered
        self._results: asyncio.Queue[Out | _End] = asyncio.Queue(width)
        self._supervisor: asyncio.Task[None] | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._hired = 0
        self._is_hiring = False
        self._pulled = 0
        self._last_turn: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._is_closing = False
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Out:
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise())
        if self._is_over and self._results.empty():
            # The supervisor found no room for it.
            self._results.put_nowait(_END)
        result = await self._results.get()
        if isinstance(result, _End):
            # Put back, so that the next call ends, too.
            self._results.put_nowait(result)
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        return result

    def stop(self) -> None:
        """Pull no further item; what has been begun goes on to its end."""
        self._items.stop()

    def employs(self, task: asyncio.Task[Any] | None) -> bool:
        """Tell whether a task is one of its workers, which cannot wait for their own end."""
        return task in self._workers

    def cancel(self) -> None:
        """Begin to stop all work; `aclose` must follow."""
        if self._supervisor is not None and not self._is_closing:
            self._supervisor.cancel()
            # This cancels again and again, in case the iterator swallows the first cancellation.
            self._items.stop()
        self._is_closing = True

    async def aclose(self) -> None:
        """Stop all work at once and wait for its end; to be run in a task of its own."""
        self.cancel()
        # One from an event loop that has ended is done, and cannot be awaited in this one.
        if self._supervisor is not None and not self._supervisor.done():
            await asyncio.wait({self._supervisor})
        # Tell a consumer that still waits for a result, or asks for another.
        while not self._results.empty():
            self._results.get_nowait()
        self._error = self._error or ClientStateError(ENDED)
        self._results.put_nowait(_END)

    async def _supervise(self) -> None:
        try:
            async with asyncio.TaskGroup() as workers:
                self._hire(workers)
        except BaseExceptionGroup as group:
            # A bug of ours, or of a hook in a borrowed session: it ends the stream.
            self._error = group.exceptions[0]
        except asyncio.CancelledError as error:
            if self._is_closing:
                raise
            # Somebody cancelled this task, but perhaps not the consumer's, which must be told.
            self._error = _cut_short(error)
        except BaseException as error:  # noqa: BLE001 - it has ended the event loop already
            # `SystemExit` from a callback, say. Raised here as well, it would keep asyncio from
            # letting the other tasks finish.
            self._error = error
        # Without waiting for room: the consumer may never make any.
        self._is_over = True
        if not self._results.full():
            self._results.put_nowait(_END)

    def _hire(self, workers: asyncio.TaskGroup) -> None:
        if self._hired < self._width:
            self._hired += 1
            self._is_hiring = True
            self._workers.add(workers.create_task(self._run_worker(workers)))
            self._is_hiring = False

    async def _run_worker(self, workers: asyncio.TaskGroup) -> None:
        try:
            if self._is_hiring:
                # It begins eagerly, within the one that hires it: the item of that one comes first.
                await asyncio.sleep(0)
            while not isinstance(item := await self._pull(), _End):
                # One more worker for each item that turns up: few items need few workers.
                self._hire(workers)
                if self._ordered:
                    await self._work_in_turn(item)
                else:
                    await self._work(item, self._results.put)
        except asyncio.CancelledError as error:
            if not self._is_closing:
                # Cancelled from outside: the stream must not silently lack items.
                self._error = _cut_short(error)
                self._items.stop()
            raise

    async def _pull(self) -> In | _End:
        """Return the next item; an error of the iterator is noted, and counts as the end."""
        self._pulled += 1
        if self._pulled % _YIELD_EVERY == 0:
            # An iterator that never has to wait must not starve the event loop.
            await asyncio.sleep(0)
        item: In | _End = _END
        try:
            item = await self._items.pull()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that the iterator awaits was cancelled, not this worker.
            self._error = error
        except BaseException as error:  # noqa: BLE001 - the consumer's own, raised to it later
            # Even `SystemExit`: raised in a worker, it would end the event loop at once.
            self._error = error
        if self._is_closing:
            # The iterator swallowed our cancellation, as `wait_for` can before Python 3.12.
            raise asyncio.CancelledError
        if isinstance(item, _End):
            # Before another worker could ask once more.
            self._items.stop()
        return item

    async def _work_in_turn(self, item: In) -> None:
        # The futures that end the turn before, if there was one, and this one.
        before, mine = self._last_turn, asyncio.get_running_loop().create_future()
        self._last_turn = mine

        async def put(result: Out) -> None:
            if before is not None:
                await before
            await self._results.put(result)

        try:
            await self._work(item, put)
            if before is not None:
                await before
        finally:
            if not mine.done():
                mine.set_result(None)


def _cut_short(error: asyncio.CancelledError) -> ClientStateError:
    state = ClientStateError(
        "a worker was cancelled from outside, perhaps by an `asyncio.timeout` or cancel scope that "
        "the async iterator of items holds across a `yield`: see PEP 789"
    )
    state.__cause__ = error
    return state


def _puller(items: Iterable[In] | AsyncIterable[In]) -> _Puller[In] | _AsyncPuller[In]:
    return _AsyncPuller(aiter(items)) if isinstance(items, AsyncIterable) else _Puller(iter(items))


@coroutine
def _awaited_in(context: Context, awaitable: Awaitable[In]) -> Generator[Any, None, In]:
    """Await something in the given context, whichever task it is that awaits."""
    steps = awaitable.__await__()
    step: Callable[[], Any] = partial(next, steps)
    while True:
        try:
            waits_for = context.run(step)
        except StopIteration as end:
            item: In = end.value
            return item
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001 - it is the awaitable's
            step = partial(steps.throw, error)
        else:
            step = partial(next, steps)


class _Puller(Generic[In]):
    """Gives the items of an iterator one by one to many workers.

    The iterator always runs in one context, a copy of the consumer's: a generator may set and
    reset context variables around its ``yield``.
    """

    def __init__(self, iterator: Iterator[In]) -> None:
        self._iterator = iterator
        self._context = copy_context()
        self._stopped = False

    async def pull(self) -> In | _End:
        return _END if self._stopped else self._context.run(next, self._iterator, _END)

    def stop(self) -> None:
        self._stopped = True


class _AsyncPuller(Generic[In]):
    """The same for an async iterator, which may take its time, and bears only one call at once."""

    def __init__(self, iterator: AsyncIterator[In]) -> None:
        self._iterator = iterator
        self._context = copy_context()
        self._lock = asyncio.Lock()
        self._stopped = False
        self._waiting: anyio.CancelScope | None = None

    async def pull(self) -> In | _End:
        async with self._lock:
            if self._stopped:
                return _END
            try:
                with anyio.CancelScope() as self._waiting:
                    return await _awaited_in(self._context, anext(self._iterator))
            except StopAsyncIteration:
                pass
            finally:
                self._waiting = None
            return _END

    def stop(self) -> None:
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
