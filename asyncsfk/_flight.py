"""Single flight: concurrent calls for the same thing share one piece of work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import msgspec

from asyncsfk._terms import Payer
from asyncsfk.errors import ClientStateError, Details, RunStoppedError
from asyncsfk.usage import Meter, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from asyncsfk._page_cache import PageCache
    from asyncsfk.budget import Reservations
    from asyncsfk.errors import SfkError

T = TypeVar("T")


class Landing(msgspec.Struct, Generic[T], frozen=True):
    """What a caller gets from a flight.

    Attributes:
        result: What the work returned.
        answers: Whether this caller answers for its cost.
        began: Whether this caller began the flight, or needed none.
        was_stopped: Whether this caller was stopped, and waited only for what was in the air.
    """

    result: T
    answers: bool = False
    began: bool = True
    was_stopped: bool = False


class _Waiter(Generic[T]):
    """One caller; a ``verdict`` is why it was stopped: it waits only for what is in the air.

    One that is refused would have the work ended, but for others who wait for it.
    """

    __slots__ = ("began", "done", "is_refused", "payer", "verdict")

    def __init__(self, payer: Payer, *, began: bool) -> None:
        self.payer = payer
        self.began = began
        self.done: asyncio.Future[Landing[T]] = asyncio.get_running_loop().create_future()
        self.verdict: SfkError | None = None
        self.is_refused = False


class Flight(Generic[T]):
    """One piece of work, as seen by the code that does it.

    Attributes:
        key: What it is for.
        payer: In whose budgets the cost is reserved. A caller with the same budgets that leaves
            takes this place, so that the last to leave answers for the cost.
        cost: What it has cost so far.
        has_begun: Whether it runs.
        is_buying: Whether it has to be paid for: no answer on file will do.
        in_air: Whether it is being paid for just now: a request or its answer could be lost.
        at_stake: What is reserved for the request on its way, until its cost is known.
        lost_in: In which row of losses it first lost an answer, if it did; see `_attempt`.
        caches: Where its callers keep what it brings; with any, it may land when nobody waits.
        ended: Why it was told to end, if it was; a caller that joins it even then begins anew.
        waiters: The callers that wait for it, oldest first.
        abandoned: How many times all callers have left it.
        task: The task that does it.
    """

    __slots__ = (
        "abandoned",
        "at_stake",
        "caches",
        "cost",
        "ended",
        "has_begun",
        "in_air",
        "is_buying",
        "key",
        "lost_in",
        "payer",
        "task",
        "waiters",
    )

    def __init__(self, key: Hashable, payer: Payer) -> None:
        self.key = key
        self.payer = payer
        self.cost = Meter()
        self.has_begun = False
        self.is_buying = False
        self.in_air = False
        self.at_stake: Reservations | None = None
        self.lost_in: int | None = None
        self.caches: list[PageCache] = []
        self.ended: SfkError | None = None
        # A dict, since any of thousands can leave at once.
        self.waiters: dict[_Waiter[T], None] = {}
        self.abandoned = 0
        self.task: asyncio.Task[Any]

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it who has not been stopped."""
        # Asked several times a request, and `any` would make a generator each time.
        for waiter in self.waiters:  # noqa: SIM110 - see above
            if waiter.verdict is None:
                return True
        return False

    @property
    def verdict(self) -> SfkError | None:
        """Why it is to end, if it was told to, or if all its callers have been stopped."""
        if self.ended is None and self.waiters and not self.is_wanted:
            return next(iter(self.waiters)).verdict
        return self.ended

    @property
    def is_paid_for(self) -> bool:
        """Whether a caller waits for it in whose budgets a further request could be reserved."""
        return any(map(self._pays, self.waiters))

    @property
    def may_land(self) -> bool:
        """Whether it is given time to land when nobody waits for it."""
        return self.in_air and bool(self.caches)

    def end(self, verdict: SfkError) -> None:
        """Tell it to end, and why."""
        self.ended = verdict
        # Otherwise it sees that as it begins; a task that is cancelled by then would run no code.
        if self.has_begun:
            self.task.cancel()

    def dismiss(self) -> None:
        """Let go of the callers that have been stopped, if others still want it."""
        if not self.is_wanted:
            return
        attempts = self.cost.usage.requests + (self.at_stake is not None)
        for waiter in tuple(self.waiters):
            if waiter.verdict is None:
                continue
            self.leave(waiter)
            # It may have been cancelled in this very moment.
            if not waiter.done.done():
                is_last = self._pays(waiter) and not self.is_paid_for
                usage = self._charge(waiter.payer) if is_last else Usage()
                waiter.done.set_exception(waiter.verdict.evolve(usage=usage, attempts=attempts))

    def leave(self, waiter: _Waiter[T]) -> None:
        """Let a caller go; the last one to leave answers for the cost."""
        del self.waiters[waiter]
        if waiter.payer.budgets == self.payer.budgets:
            self.payer = waiter.payer

    def heir(self, waiters: list[_Waiter[T]]) -> _Waiter[T] | None:
        """Return the first of these callers that can answer for the cost, if one can."""
        return next(filter(self._pays, waiters), None)

    def _pays(self, waiter: _Waiter[T]) -> bool:
        # Whoever began it does in any case: its budgets may have changed since the reservation.
        return waiter.began or waiter.payer.budgets == self.payer.budgets

    def _charge(self, payer: Payer) -> Usage:
        """Make a caller that leaves answer for the cost so far, and return that cost."""
        cost = self.cost.usage
        if self.at_stake is not None:
            cost += Usage(requests=1, maybe=self.at_stake.credits)
        if payer.meter is not None:
            payer.meter.add(cost)
        # Nobody else answers for it, not even a later caller with the same budgets.
        self.payer = Payer(own=())
        return cost


class SingleFlight(Generic[T]):
    """Runs each piece of work once, in a task of its own, for all who ask for it meanwhile.

    A caller that is cancelled does not take the work from the others. When the last one leaves,
    the work is cancelled too, and that caller returns only once it has ended. Of the callers in
    whose budgets the cost was reserved, the oldest one still there answers for it.

    Args:
        grace: Seconds that work in the air is given to land when everybody has left it.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._flights: dict[Hashable, Flight[T]] = {}
        # Also those that nobody can join any more.
        self._all: dict[asyncio.Task[None], Flight[T]] = {}

    def employs(self, task: asyncio.Task[Any] | None) -> bool:
        """Tell whether a task does some of the work."""
        return task in self._all

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether work is under way that a caller can join."""
        return key in self._flights

    def hold(self, key: Hashable, cache: PageCache) -> None:
        """Let the work under way land, for a caller that may yet join it."""
        self._flights[key].caches.append(cache)

    async def do(
        self,
        key: Hashable,
        work: Callable[[Flight[T]], Coroutine[None, None, T]],
        payer: Payer,
        cache: PageCache | None,
    ) -> Landing[T]:
        """Return what comes of the work.

        Args:
            key: What the work is for.
            work: Does it, adds its cost to the flight's, and tells the flight when it is in the
                air.
            payer: Its meter gets that cost if this caller answers for it, even when cancelled.
            cache: Where this caller keeps what comes of it.

        Raises:
            ClientStateError: `aclose` ended the work before it began.
        """
        flight = self._flights.get(key)
        waiter: _Waiter[T] = _Waiter(payer, began=flight is None)
        if flight is None:
            flight = self._begin(key, work, waiter)
        else:
            flight.waiters[waiter] = None
        if cache is not None:
            flight.caches.append(cache)
        try:
            return await waiter.done
        except asyncio.CancelledError:
            if waiter in flight.waiters:
                flight.leave(waiter)
            if not flight.waiters:
                await self._abandon(flight)
            else:
                self._end_unpaid(flight)
            raise

    def stop(self, payer: Payer, verdict: SfkError, *, now: bool) -> None:
        """Let a payer's callers wait only for what is in the air or, ``now``, not even for that.

        Callers with nothing left to wait for get the verdict; so does work that nobody else wants.
        """
        for flight in tuple(self._all.values()):
            mine = [waiter for waiter in flight.waiters if waiter.payer.meter is payer.meter]
            for waiter in mine:
                waiter.verdict = verdict
            if not mine or (flight.in_air and not now):
                continue
            if flight.is_wanted:
                flight.dismiss()
                self._end_unpaid(flight)
            else:
                flight.end(verdict)

    def _end_unpaid(self, flight: Flight[T]) -> None:
        """End a flight if none of its callers has the budgets to pay for it: they begin anew."""
        if flight.verdict is None and not flight.in_air and not flight.is_paid_for:
            flight.end(RunStoppedError("whoever asked for it first has left"))

    def end_others(
        self, flight: Flight[T] | None, verdict: SfkError, payer: Payer | None = None
    ) -> None:
        """End with a verdict all other work that still waits to be paid for.

        Args:
            flight: The work to spare, if any.
            verdict: Why the rest ends.
            payer: End only work that no others wait for than callers of this payer and of those
                for whom this was called before.
        """
        for other in tuple(self._all.values()):
            if other is flight or other.in_air or not other.is_buying:
                continue
            if payer is not None:
                for waiter in other.waiters:
                    waiter.is_refused |= waiter.payer.meter is payer.meter
            if payer is None or all(waiter.is_refused for waiter in other.waiters):
                other.end(verdict)

    async def aclose(self, verdict: SfkError) -> None:
        """End all work, and wait until it has landed; to be run in a task of its own."""
        for task, flight in self._all.items():
            flight.ended = verdict
            if not flight.in_air:
                task.cancel()
        if landing := [task for task, flight in self._all.items() if flight.may_land]:
            await asyncio.wait(landing, timeout=self._grace)
        if left := tuple(self._all):
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    def _begin(
        self,
        key: Hashable,
        work: Callable[[Flight[T]], Coroutine[None, None, T]],
        waiter: _Waiter[T],
    ) -> Flight[T]:
        flight = self._flights[key] = Flight(key, waiter.payer)
        flight.waiters[waiter] = None
        task = asyncio.create_task(self._fly(flight, work))
        # With an eager task factory it has begun by now, and perhaps ended.
        if not flight.has_begun:
            self._all[task], flight.task = flight, task
            task.add_done_callback(self._fall_unbegun)
        return flight

    async def _abandon(self, flight: Flight[T]) -> None:
        flight.abandoned += 1
        mine = flight.abandoned
        with anyio.CancelScope(shield=True):
            try:
                if flight.may_land:
                    await asyncio.wait({flight.task}, timeout=self._grace)
            finally:
                # A caller may have joined meanwhile and, if it has left again, begun the grace
                # anew.
                is_over = not flight.waiters and flight.abandoned == mine
                if is_over:
                    self._forget(flight)
                    flight.task.cancel()
            if is_over:
                await asyncio.wait({flight.task})

    def _forget(self, flight: Flight[T]) -> None:
        # An abandoned flight may have been followed by a new one under the same key.
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    async def _fly(
        self, flight: Flight[T], work: Callable[[Flight[T]], Coroutine[None, None, T]]
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checkers
        # A task that begins eagerly runs before `create_task` has returned it to `_begin`.
        self._all[task], flight.task, flight.has_begun = flight, task, True
        task.remove_done_callback(self._fall_unbegun)
        try:
            result = await work(flight)
        except BaseException as error:
            self._fall(flight, error)
            if isinstance(error, Exception):
                return  # it is raised to all who wait for it
            raise
        waiters, heir = self._land(flight)
        for waiter in waiters:
            waiter.done.set_result(
                Landing(result, waiter is heir, waiter.began, waiter.verdict is not None)
            )

    def _fall_unbegun(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step runs no code at all.
        self._fall(self._all[task], None)

    def _fall(self, flight: Flight[T], error: BaseException | None) -> None:
        """End a flight that came to nothing."""
        waiters, heir = self._land(flight)
        for waiter in waiters:
            cost = flight.cost.usage
            known = Details(usage=cost if waiter is heir else Usage(), attempts=cost.requests)
            closed = ClientStateError("the client was closed under the call", known)
            waiter.done.set_exception(error if isinstance(error, Exception) else closed)

    def _land(self, flight: Flight[T]) -> tuple[list[_Waiter[T]], _Waiter[T] | None]:
        """End a flight and count its cost; return its callers, and which of them answers for it."""
        del self._all[flight.task]
        self._forget(flight)
        # Callers that were cancelled in this very moment are still in the list.
        waiters = [waiter for waiter in flight.waiters if not waiter.done.done()]
        heir = flight.heir(waiters)
        meter = (heir.payer if heir is not None else flight.payer).meter
        if meter is not None:
            meter.add(flight.cost.usage)
        return waiters, heir
