"""A ceiling of credits: reserved before a request is sent, settled when its price is known."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from asyncsfk._checks import check_count, check_limit
from asyncsfk._text import described
from asyncsfk.errors import BudgetReachedError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["Budget", "Reservation"]


class Budget:
    """Credits that may be spent, shared by all runs, clients and threads that are given it.

    ::

        budget = Budget(5_000)
        async with Client(max_credits=budget) as one, Client(other_key, max_credits=budget) as two:
            ...

    At every instant ``charged + maybe + reserved <= max_credits``: a request is sent only after
    the most that it can cost has been reserved. Only a price that the API raises without notice
    can pass the ceiling, by the requests then under way; from the first such answer on, the new
    price is what is reserved.

    Args:
        max_credits: The ceiling; ``None`` only counts.
        charged: Credits that count as charged from the start, such as ``archive.usage().charged``.
        maybe: Credits that count as maybe charged from the start.

    Raises:
        InvalidArgumentError: A number is negative, too large or not a whole number, or the ceiling
            is below 1.
    """

    def __init__(self, max_credits: int | None = None, *, charged: int = 0, maybe: int = 0) -> None:
        check_limit("max_credits", max_credits)
        check_count("charged", charged, least=0)
        check_count("maybe", maybe, least=0)
        self._max = max_credits
        self._before = charged + maybe
        self._charged = charged
        self._maybe = maybe
        self._reserved = 0
        self._prices: dict[str, int] = {}
        self._open: set[Reservation] = set()
        # By the future of each, oldest first: any of thousands can leave at once.
        self._waiting: OrderedDict[asyncio.Future[None], tuple[int, str]] = OrderedDict()
        # What those who were woken, and have not gone on yet, are going to take: otherwise each of
        # many releases at once would wake others for the same room.
        self._promised: dict[asyncio.Future[None], int] = {}
        # Clients in several threads may share a budget.
        self._lock = Lock()

    def __repr__(self) -> str:
        ceiling = "no ceiling" if self._max is None else f"of {self._max}"
        return (
            f"<Budget {ceiling}: {self._charged} charged, {self._maybe} maybe, "
            f"{self._reserved} reserved>"
        )

    def __reduce__(self) -> str:
        # Neither of two copies would know what the other spends.
        raise TypeError("a Budget cannot be copied or pickled: give each process a part of it")

    @property
    def max_credits(self) -> int | None:
        """The ceiling; ``None`` if there is none."""
        return self._max

    @property
    def charged(self) -> int:
        """Credits charged for certain."""
        return self._charged

    @property
    def maybe(self) -> int:
        """Credits that may have been charged; they stay counted, for nobody can know."""
        return self._maybe

    @property
    def reserved(self) -> int:
        """Credits set aside for requests that are under way."""
        return self._reserved

    @property
    def left(self) -> int | None:
        """Credits that can still be reserved; ``None`` if there is no ceiling."""
        return None if self._max is None else max(0, self._max - self._taken)

    def price(self, credits: int, *, route: str = "") -> int:
        """Return the most that a request should cost, by what its route was ever seen to cost.

        Args:
            credits: The most that it should cost by itself.
            route: Same as in `reserve`.

        Raises:
            InvalidArgumentError: An argument is unusable.
        """
        _check_price(credits, route)
        return self._price(credits, route)

    def reserve(self, credits: int, *, route: str = "") -> Reservation | None:
        """Set credits aside for one request, at once.

        Args:
            credits: The most that the request should cost; if its route was ever seen to cost
                more, that counts.
            route: Requests of one route are priced alike; without it no price is learned.

        Returns:
            The reservation, or ``None`` if other reservations are in the way, which may yet be
            released.

        Raises:
            BudgetReachedError: What has been spent leaves no room, whatever becomes of those.
            InvalidArgumentError: ``credits`` is negative, too large or not a whole number, or
                ``route`` is not a string.
        """
        _check_price(credits, route)
        return self._reserve(credits, route)

    async def room(self, credits: int, *, route: str = "") -> None:
        """Wait until so many credits could be reserved, or would be refused for good.

        Args:
            credits: Same as in `reserve`.
            route: Same as in `reserve`.

        Raises:
            InvalidArgumentError: Same as in `reserve`.
        """
        _check_price(credits, route)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            price = self._price(credits, route)
            if self._has_room(price) or self._is_out_of_reach(price):
                return
            self._waiting[waiter] = credits, route
        try:
            await waiter
        except asyncio.CancelledError:
            with self._lock:
                self._waiting.pop(waiter, None)
                self._promised.pop(waiter, None)
                # This waiter may just have been woken, and will not use the room: wake the next.
                self._wake_waiting()
            raise
        with self._lock:
            self._promised.pop(waiter, None)
        # The caller may not use this room, if another of its budgets is full: the next may.
        waiter.get_loop().call_soon(self._wake_next)

    def _price(self, credits: int, route: str) -> int:
        return max(credits, self._prices.get(route, 0))

    def _reserve(self, credits: int, route: str) -> Reservation | None:
        with self._lock:
            price = self._price(credits, route)
            if not self._has_room(price):
                if self._is_out_of_reach(price):
                    # Told, since even a run that has bought nothing may be at its job's ceiling.
                    before = f" ({self._before:,} of them before)" if self._before else ""
                    raise BudgetReachedError(
                        f"the ceiling of {self._max:,} credits is reached: {self._charged:,} are "
                        f"charged, {self._maybe:,} more maybe{before}, and the next request may "
                        f"cost {price}"
                    )
                return None
            self._reserved += price
            reservation = Reservation(self, price, route)
            self._open.add(reservation)
            return reservation

    @property
    def _taken(self) -> int:
        return self._charged + self._maybe + self._reserved

    def _has_room(self, price: int) -> bool:
        return not price or self._max is None or self._taken + price <= self._max

    def _is_out_of_reach(self, price: int) -> bool:
        return self._max is not None and self._charged + self._maybe + price > self._max

    def _close(self, reservation: Reservation, charged: int, maybe: int) -> bool:
        with self._lock:
            if reservation not in self._open:
                return False
            self._open.discard(reservation)
            self._reserved -= reservation.credits
            self._charged += charged
            self._maybe += maybe
            # A request without a route is free by contract: whatever it cost is no new price.
            news = reservation.credits < charged and reservation.route != ""
            if news:
                self._raise_price(reservation.route, charged)
            if self._waiting:
                self._wake_waiting()
            return news

    def _raise_price(self, route: str, price: int) -> None:
        """Take note that a route costs more than was known; those under way reserve it too."""
        self._prices[route] = price
        for other in self._open:
            if other.route == route and other.credits < price:
                self._reserved += price - other.credits
                other.credits = price

    def _wake_waiting(self) -> None:
        """Wake waiters, oldest first, until one has no room now but may have some later."""
        if not self._waiting:
            return
        spare = 0 if self._max is None else self._max - self._taken - self._promised_credits()
        while self._waiting:
            waiter, (credits, route) = next(iter(self._waiting.items()))
            loop = waiter.get_loop()
            price = self._price(credits, route)
            is_room = price <= spare
            # A loop that does not run may never do so again: its waiter is in nobody's way. Should
            # it go on after all, the waiter looks anew.
            if loop.is_running():
                if not is_room and not self._is_out_of_reach(price):
                    return
                if is_room:
                    spare -= price
                    self._promised[waiter] = price
            del self._waiting[waiter]
            with suppress(RuntimeError):  # its loop has been closed
                loop.call_soon_threadsafe(_wake, waiter)

    def _promised_credits(self) -> int:
        # In a loop that has ended nobody goes on.
        for waiter in tuple(self._promised):
            if not waiter.get_loop().is_running():
                del self._promised[waiter]
        return sum(self._promised.values())

    def _wake_next(self) -> None:
        with self._lock:
            self._wake_waiting()


class Reservation:
    """Credits set aside for one request; made by `Budget.reserve`, ended exactly once.

    Attributes:
        credits: How many.
        route: What they are for.
    """

    __slots__ = ("_budget", "credits", "route")

    def __init__(self, budget: Budget, credits: int, route: str) -> None:
        self._budget = budget
        self.credits = credits
        self.route = route

    def __repr__(self) -> str:
        return f"<Reservation of {self.credits}>"

    def settle(self, charged: int, maybe: int = 0) -> bool:
        """Count what the request cost; tell if that is more than anything its route cost before.

        Args:
            charged: Credits charged for certain, which may be more than were reserved.
            maybe: Credits that may have been charged.

        Raises:
            InvalidArgumentError: A number is negative, too large or not a whole number.
        """
        check_count("charged", charged, least=0)
        check_count("maybe", maybe, least=0)
        return self._close(charged, maybe)

    def release(self) -> None:
        """Give the credits back: nothing was charged."""
        self.settle(0)

    def hold(self) -> None:
        """Keep the credits counted as maybe charged: the answer is unknown."""
        self.settle(0, self.credits)

    def _close(self, charged: int, maybe: int) -> bool:
        return self._budget._close(self, charged, maybe)  # noqa: SLF001 - of this module


class Reservations:
    """One request's reservations, one in each of several budgets."""

    __slots__ = ("_budgets", "_reservations")

    def __init__(self, reservations: Sequence[Reservation], budgets: Sequence[Budget]) -> None:
        self._reservations = reservations
        self._budgets = budgets

    @property
    def credits(self) -> int:
        """The most that the request can cost."""
        # Nearly always; the generator below would take longer than all the rest of it.
        if len(self._reservations) == 1:
            return self._reservations[0].credits
        return max(reservation.credits for reservation in self._reservations)

    def covers(self, budgets: Sequence[Budget]) -> bool:
        """Tell whether all of some budgets are among those reserved in."""
        return budgets == self._budgets or set(budgets) <= set(self._budgets)

    def settle(self, charged: int, maybe: int) -> bool:
        """Count the cost in all of the budgets; tell whether it raises the price in any."""
        news = False
        for one in self._reservations:
            news |= one._close(charged, maybe)  # noqa: SLF001 - of this module
        return news

    def release(self) -> None:
        """Give all back, unless it was settled."""
        for reservation in self._reservations:
            reservation.release()


async def reserve_all(
    budgets_of: Callable[[], Sequence[Budget]],
    credits: int,
    route: str,
) -> Reservations:
    """Reserve credits in all of some budgets; wait where others' reservations are in the way.

    Nothing is held while waiting, so that budgets shared in any order cannot block one another.

    Args:
        budgets_of: Gives the budgets, which may be others after a wait.
        credits: The most that the request should cost.
        route: Same as in `Budget.reserve`.

    Raises:
        BudgetReachedError: One of them is reached.
    """
    while True:
        budgets = budgets_of()
        price = credits
        for budget in budgets:
            price = budget._price(price, route)  # noqa: SLF001 - of this module
        taken: list[Reservation] = []
        reserved = Reservations(taken, budgets)
        try:
            for budget in budgets:
                reservation = budget._reserve(price, route)  # noqa: SLF001 - of this module
                if reservation is None:
                    break
                taken.append(reservation)
            else:
                return reserved
        except BaseException:
            reserved.release()
            raise
        reserved.release()
        await budget.room(price, route=route)


def _check_price(credits: int, route: str) -> None:
    check_count("credits", credits, least=0)
    if not isinstance(route, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgumentError(f"route must be a string, not {described(route)}")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
