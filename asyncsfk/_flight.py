"""Single flight: concurrent calls for the same thing share one piece of work."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from asyncsfk.errors import ClientStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.waiters: list[asyncio.Future[T]] = []


class SingleFlight(Generic[T]):
    """Runs each piece of work in a task of its own, once for all who ask for it meanwhile.

    A caller that is cancelled leaves the others their work; when the last one has left, the work
    is cancelled too, and that caller does not return before it has ended.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    async def do(
        self, key: Hashable, work: Callable[[], Coroutine[None, None, T]]
    ) -> tuple[T, bool]:
        """Return the result of ``work``, and whether this call was the one that began it.

        Raises:
            ClientStateError: `aclose` ended the work.
        """
        flight = self._flights.get(key)
        leads = flight is None
        if flight is None:
            task = asyncio.create_task(work())
            flight = self._flights[key] = _Flight(task)
            self._tasks.add(task)
            # A callback, since a task that is cancelled before its first step runs no code at all.
            task.add_done_callback(partial(self._land, key, flight))
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        flight.waiters.append(waiter)
        try:
            return await waiter, leads
        except asyncio.CancelledError:
            flight.waiters.remove(waiter)
            if not flight.waiters:
                await self._abandon(key, flight)
            raise

    async def aclose(self) -> None:
        """Cancel all work and wait for its end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _abandon(self, key: Hashable, flight: _Flight[T]) -> None:
        self._forget(key, flight)
        flight.task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait({flight.task})

    def _forget(self, key: Hashable, flight: _Flight[T]) -> None:
        # An abandoned flight may have been followed by a new one under the same key.
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _land(self, key: Hashable, flight: _Flight[T], task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        self._forget(key, flight)
        waiters = [waiter for waiter in flight.waiters if not waiter.done()]
        if task.cancelled():
            error: BaseException | None = ClientStateError("the client was closed under the call")
        else:
            error = task.exception()
        for waiter in waiters:
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(task.result())
