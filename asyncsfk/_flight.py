"""Single flight: concurrent calls for the same thing share one piece of work."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import anyio

from asyncsfk.errors import ClientStateError
from asyncsfk.usage import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from asyncsfk._payer import Payer
    from asyncsfk.errors import SfkError

T = TypeVar("T")


class Landing(NamedTuple, Generic[T]):
    """What a caller gets of a flight.

    Attributes:
        result: What the work returned.
        answers: Whether this caller answers for its cost.
        began: Whether this caller began it.
    """

    result: T
    answers: bool
    began: bool


class _Waiter(NamedTuple, Generic[T]):
    done: asyncio.Future[Landing[T]]
    payer: Payer
    began: bool


class Flight(Generic[T]):
    """One piece of work, as those see it who do it.

    Attributes:
        cost: What it has cost so far.
        has_begun: Whether it runs; until then it can be told to end, but not be cancelled.
        in_air: Whether it is being paid for just now.
        keeps: Whether what is in the air is worth landing when nobody waits for it.
        verdict: Why it is to end, once it is.
    """

    __slots__ = (
        "cost",
        "has_begun",
        "in_air",
        "keeps",
        "payer",
        "task",
        "verdict",
        "waiters",
    )

    def __init__(self, payer: Payer) -> None:
        self.payer = payer
        self.cost = Meter()
        self.has_begun = False
        self.in_air = False
        self.keeps = False
        self.verdict: SfkError | None = None
        self.waiters: list[_Waiter[T]] = []
        self.task: asyncio.Task[T]

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for it, and nothing has ended it."""
        return self.verdict is None and bool(self.waiters)

    @property
    def may_land(self) -> bool:
        """Whether it is given time to land though nobody waits for it."""
        return self.in_air and self.keeps

    def pays(self, payer: Payer) -> bool:
        """Tell whether its cost was reserved in the budgets of a payer."""
        return payer.budgets == self.payer.budgets


class SingleFlight(Generic[T]):
    """Runs each piece of work in a task of its own, once for all who ask for it meanwhile.

    A caller that is cancelled leaves the others their work; when the last one has left, the work
    is cancelled too, and that caller does not return before it has ended. At any time it is the
    oldest caller still there who answers for the cost, of those in whose budgets it was reserved.

    Args:
        grace: Seconds that work is given to land when everybody has left it in the air.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._flights: dict[Hashable, Flight[T]] = {}
        self._all: set[Flight[T]] = set()

    async def do(
        self,
        key: Hashable,
        work: Callable[[Flight[T]], Coroutine[None, None, T]],
        payer: Payer,
    ) -> Landing[T]:
        """Return what comes of the work.

        Args:
            key: What the work is for.
            work: Does it, counts its cost in the flight's, and tells when it is in the air.
            payer: Its meter gets that cost if this caller answers for it, even when cancelled.

        Raises:
            ClientStateError: `aclose` ended the work before it began.
        """
        flight = self._flights.get(key)
        began = flight is None
        if flight is None:
            flight = self._flights[key] = Flight(payer)
            self._all.add(flight)
            flight.task = asyncio.create_task(work(flight))
            # A callback, since a task that is cancelled before its first step runs no code at all.
            flight.task.add_done_callback(partial(self._land, key, flight))
        waiter = _Waiter[T](asyncio.get_running_loop().create_future(), payer, began)
        flight.waiters.append(waiter)
        try:
            return await waiter.done
        except asyncio.CancelledError:
            flight.waiters.remove(waiter)
            if flight.pays(payer):
                flight.payer = payer
            if not flight.waiters:
                await self._abandon(key, flight)
            raise

    def end(self, payer: Payer, verdict: SfkError) -> None:
        """End the work that a payer began: what is in the air lands, the rest is cancelled."""
        self._end([flight for flight in self._all if flight.payer.meter is payer.meter], verdict)

    def drop(self, payer: Payer) -> None:
        """Cancel the work that a payer began and that `end` has left in the air."""
        for flight in self._all:
            if flight.payer.meter is payer.meter and flight.verdict is not None:
                flight.task.cancel()

    async def aclose(self, verdict: SfkError) -> None:
        """End all work, and wait until it has landed."""
        with anyio.CancelScope(shield=True):
            self._end(list(self._all), verdict)
            await self._wait({flight.task for flight in self._all if flight.may_land}, self._grace)
            tasks = {flight.task for flight in self._all}
            for task in tasks:
                task.cancel()
            await self._wait(tasks, None)

    def _end(self, flights: list[Flight[T]], verdict: SfkError) -> None:
        for flight in flights:
            flight.verdict = verdict
            if flight.has_begun and not flight.in_air:
                flight.task.cancel()

    async def _abandon(self, key: Hashable, flight: Flight[T]) -> None:
        with anyio.CancelScope(shield=True):
            if flight.may_land and self._grace:
                try:
                    await self._wait({flight.task}, self._grace)
                finally:
                    # Unless somebody came for it meanwhile.
                    if not flight.waiters:
                        self._forget(key, flight)
                        flight.task.cancel()
                if flight.waiters:
                    return
            self._forget(key, flight)
            flight.task.cancel()
            await self._wait({flight.task}, None)

    async def _wait(self, tasks: set[asyncio.Task[T]], seconds: float | None) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _forget(self, key: Hashable, flight: Flight[T]) -> None:
        # An abandoned flight may have been followed by a new one under the same key.
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _land(self, key: Hashable, flight: Flight[T], task: asyncio.Task[T]) -> None:
        self._all.discard(flight)
        self._forget(key, flight)
        error = None if task.cancelled() else task.exception()
        # Those cancelled in this very moment are still among them.
        waiters = [waiter for waiter in flight.waiters if not waiter.done.done()]
        heir = next((waiter for waiter in waiters if flight.pays(waiter.payer)), None)
        meter = (heir.payer if heir is not None else flight.payer).meter
        if meter is not None:
            meter.add(flight.cost.usage)
        for waiter in waiters:
            if task.cancelled():
                waiter.done.set_exception(ClientStateError("the client was closed under the call"))
            elif error is not None:
                waiter.done.set_exception(error)
            else:
                waiter.done.set_result(Landing(task.result(), waiter is heir, waiter.began))
