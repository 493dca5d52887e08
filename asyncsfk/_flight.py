"""Single flight: concurrent calls for the same thing share one piece of work."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from asyncsfk.errors import ClientStateError
from asyncsfk.usage import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("cost", "task", "waiters")

    def __init__(self, task: asyncio.Task[T], cost: Meter) -> None:
        self.task = task
        self.cost = cost
        self.waiters: list[asyncio.Future[tuple[T, bool]]] = []


class SingleFlight(Generic[T]):
    """Runs each piece of work in a task of its own, once for all who ask for it meanwhile.

    A caller that is cancelled leaves the others their work; when the last one has left, the work
    is cancelled too, and that caller does not return before it has ended. At any time it is the
    oldest caller still there who answers for the cost.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    async def do(
        self,
        key: Hashable,
        work: Callable[[Meter], Coroutine[None, None, T]],
        meter: Meter | None,
    ) -> tuple[T, bool]:
        """Return the result of ``work``, and whether this caller answers for its cost.

        Args:
            key: What the work is for.
            work: Does it; counts what it costs in the meter that it is given.
            meter: Gets that cost if this caller answers for it, even when it is cancelled.

        Raises:
            ClientStateError: `aclose` ended the work before it began.
        """
        flight = self._flights.get(key)
        if flight is None:
            cost = Meter()
            flight = self._flights[key] = _Flight(asyncio.create_task(work(cost)), cost)
            self._tasks.add(flight.task)
            # A callback, since a task that is cancelled before its first step runs no code at all.
            flight.task.add_done_callback(partial(self._land, key, flight))
        waiter: asyncio.Future[tuple[T, bool]] = asyncio.get_running_loop().create_future()
        flight.waiters.append(waiter)
        try:
            result, answers = await waiter
        except asyncio.CancelledError:
            flight.waiters.remove(waiter)
            if not flight.waiters:
                await self._abandon(key, flight)
                if meter is not None:
                    meter.add(flight.cost.usage)
            raise
        if answers and meter is not None:
            meter.add(flight.cost.usage)
        return result, answers

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
        error = None if task.cancelled() else task.exception()
        answers = True
        for waiter in flight.waiters:
            if waiter.done():
                # Cancelled in this very moment: the next one answers.
                continue
            if task.cancelled():
                waiter.set_exception(ClientStateError("the client was closed under the call"))
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result((task.result(), answers))
            answers = False
