"""`Budget` against a plain model of it, its queue, and several threads at once."""

import asyncio
import random
import threading
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asyncsfk import Budget, BudgetReachedError, InvalidArgumentError
from tests.support import turns

ROUTES = st.sampled_from(["pages", "profiles"])


async def reserve_in_time(budget, price, route=""):
    """Reserve as the client does: if other reservations are in the way, wait for them."""
    while True:
        reservation = budget.reserve(price, route=route)
        if reservation is not None:
            return reservation
        await budget.room(price, route=route)


@dataclass(eq=False)
class Line:
    """What the model remembers of a reservation."""

    amount: int
    route: str


class Model:
    """A budget, as plainly as can be."""

    def __init__(self, ceiling, charged, maybe):
        self.ceiling = ceiling
        self.charged = charged
        self.maybe = maybe
        self.lines = []
        self.prices = {}

    @property
    def reserved(self):
        return sum(line.amount for line in self.lines)

    @property
    def left(self):
        if self.ceiling is None:
            return None
        return max(0, self.ceiling - self.charged - self.maybe - self.reserved)

    def price(self, least, route):
        return max(least, self.prices.get(route, 0))

    def is_refused(self, price, route):
        price = self.price(price, route)
        return bool(price and self.ceiling and self.charged + self.maybe + price > self.ceiling)

    def has_room(self, price, route):
        price = self.price(price, route)
        return self.ceiling is None or not price or self.taken + price <= self.ceiling

    @property
    def taken(self):
        return self.charged + self.maybe + self.reserved

    def reserve(self, price, route):
        line = Line(self.price(price, route), route)
        self.lines.append(line)
        return line

    def settle(self, line, charged, maybe):
        self.lines.remove(line)
        self.charged += charged
        self.maybe += maybe
        if line.amount >= charged:
            return False
        self.prices[line.route] = charged
        for other in self.lines:
            if other.route == line.route:
                other.amount = max(other.amount, charged)
        return True


class BudgetMachine(RuleBasedStateMachine):
    """Does the same to a budget and to its model; some wait in the budget's queue meanwhile."""

    @initialize(
        ceiling=st.none() | st.integers(1, 12), charged=st.integers(0, 4), maybe=st.integers(0, 4)
    )
    def begin(self, ceiling, charged, maybe):
        self.loop = asyncio.new_event_loop()
        self.budget = Budget(ceiling, charged=charged, maybe=maybe)
        self.model = Model(ceiling, charged, maybe)
        self.held = []
        self.waiting = {}

    def teardown(self):
        for task in self.waiting:
            task.cancel()
        self._let_the_loop_run()
        self.loop.close()

    @rule(price=st.integers(0, 4), route=ROUTES)
    def reserve(self, price, route):
        if self.model.is_refused(price, route):
            with pytest.raises(BudgetReachedError, match="ceiling"):
                self.budget.reserve(price, route=route)
            return
        reservation = self.budget.reserve(price, route=route)
        if self.model.has_room(price, route):
            self._hold(reservation, price, route)
        else:
            assert reservation is None

    @rule(price=st.integers(1, 4), route=ROUTES)
    def wait(self, price, route):
        task = self.loop.create_task(reserve_in_time(self.budget, price, route))
        self.waiting[task] = (price, route)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 99))
    def leave(self, which):
        list(self.waiting)[which % len(self.waiting)].cancel()

    @precondition(lambda self: self.held)
    @rule(
        which=st.integers(0, 99),
        charged=st.integers(0, 6),
        maybe=st.integers(0, 3),
        again=st.booleans(),
    )
    def settle(self, which, charged, maybe, again):
        reservation, line = self.held.pop(which % len(self.held))
        assert reservation.settle(charged, maybe) is self.model.settle(line, charged, maybe)
        if again:
            assert reservation.settle(9, 9) is False
            reservation.hold()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def release(self, which):
        reservation, line = self.held.pop(which % len(self.held))
        reservation.release()
        self.model.settle(line, 0, 0)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def hold(self, which):
        reservation, line = self.held.pop(which % len(self.held))
        reservation.hold()
        self.model.settle(line, 0, line.amount)

    @invariant()
    def agrees(self):
        self._let_the_loop_run()
        budget, model = self.budget, self.model
        assert (budget.charged, budget.maybe, budget.reserved, budget.left) == (
            *(model.charged, model.maybe, model.reserved),
            model.left,
        )
        for route in ("pages", "profiles"):
            assert budget.price(1, route=route) == model.price(1, route)

    @invariant()
    def never_leaves_everybody_waiting(self):
        """Of those that wait, one at least has no room now and is not refused for good."""
        if self.waiting:
            assert self.model.lines
            assert any(
                not self.model.has_room(*wanted) and not self.model.is_refused(*wanted)
                for wanted in self.waiting.values()
            )

    def _let_the_loop_run(self):
        """Let those in the queue go as far as they come, and enter what they got."""
        if self.waiting:
            self.loop.run_until_complete(turns(4 + 4 * len(self.waiting)))
        for task in [task for task in self.waiting if task.done()]:
            price, route = self.waiting.pop(task)
            if task.cancelled():
                continue
            if task.exception() is not None:
                assert isinstance(task.exception(), BudgetReachedError)
                assert self.model.is_refused(price, route)
                continue
            assert self.model.has_room(price, route)
            self._hold(task.result(), price, route)

    def _hold(self, reservation, price, route):
        line = self.model.reserve(price, route)
        assert reservation.credits == line.amount
        self.held.append((reservation, line))


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=150, stateful_step_count=40)


@pytest.mark.parametrize("number", [-1, 0.5, True, None])
async def test_what_is_no_number_of_credits_is_refused(number):
    """Nothing that would lower the count of credits can be reserved or settled."""
    budget = Budget(3)
    for asked in (budget.reserve, budget.price, budget.room):
        with pytest.raises(InvalidArgumentError, match="credits"):
            await asked(number)
    reservation = budget.reserve(2)
    for numbers in ((number, 0), (0, number)):
        with pytest.raises(InvalidArgumentError):
            reservation.settle(*numbers)
    assert (budget.charged, budget.maybe, budget.reserved, budget.left) == (0, 0, 2, 1)


@pytest.mark.parametrize("route", [None, 5, ["r"], b"r"], ids=repr)
async def test_what_is_no_route_is_refused(route):
    """Otherwise a price would be learned that no request ever asks for."""
    budget = Budget(3)
    for asked in (budget.reserve, budget.price, budget.room):
        with pytest.raises(InvalidArgumentError, match="route"):
            await asked(1, route=route)
    assert budget.reserved == 0


async def test_one_that_is_refused_makes_way_for_the_next():
    """A waiter that wants more than there will ever be does not block those that want less."""
    budget = Budget(3)
    all_of_it = budget.reserve(3)
    first = asyncio.create_task(reserve_in_time(budget, 3))
    second = asyncio.create_task(reserve_in_time(budget, 1))
    await asyncio.sleep(1)
    all_of_it.settle(1)
    with pytest.raises(BudgetReachedError):
        await first
    assert (await asyncio.wait_for(second, 1)).credits == 1


async def test_one_that_takes_nothing_makes_way_for_the_next():
    """A waiter that is woken but no longer wants the room does not keep it from the others."""
    budget = Budget(1)
    all_of_it = budget.reserve(1)
    first = asyncio.create_task(budget.room(1))
    others = [asyncio.create_task(budget.room(1)) for _ in range(3)]
    await asyncio.sleep(1)
    all_of_it.release()
    await asyncio.wait_for(asyncio.gather(first, *others), 1)
    assert budget.left == 1


async def test_those_who_wait_are_served_in_turn():
    """The oldest waiter is served first, and one that wants much is not overtaken."""
    budget = Budget(4)
    held = [budget.reserve(1) for _ in range(4)]
    served = []

    async def want(name, price):
        reservation = await reserve_in_time(budget, price)
        served.append(name)
        return reservation

    tasks = []
    for name, price in (("one", 1), ("three", 3), ("another", 1)):
        tasks.append(asyncio.create_task(want(name, price)))
        await asyncio.sleep(1)
    for reservation in held:
        reservation.release()
        await asyncio.sleep(1)
    assert served == ["one", "three"]
    for task in tasks[:2]:
        task.result().release()
    await tasks[2]
    assert budget.reserved == 1


async def test_leaving_the_queue_leaves_nothing_behind():
    """A waiter cancelled while it waits, or just as it is woken, is out of the way."""
    for moment in range(6):
        budget = Budget(1)
        held = budget.reserve(1)
        tasks = [asyncio.create_task(reserve_in_time(budget, 1)) for _ in range(3)]
        await asyncio.sleep(1)
        held.release()
        await turns(moment)
        tasks[0].cancel()
        await asyncio.sleep(1)
        if not tasks[0].cancelled():
            tasks[0].result().release()
        reservation = await asyncio.wait_for(tasks[1], 1)
        assert budget.reserved == 1
        reservation.settle(1)
        with pytest.raises(BudgetReachedError):
            await tasks[2]
        assert (budget.charged, budget.reserved) == (1, 0)


async def test_what_is_given_back_is_not_kept_for_one_that_has_left():
    """A waiter that was cancelled before there was any room does not take it when it comes."""
    budget = Budget(1)
    held = budget.reserve(1)
    left, stays = (asyncio.create_task(reserve_in_time(budget, 1)) for _ in range(2))
    await asyncio.sleep(1)
    left.cancel()
    await asyncio.sleep(1)
    held.release()
    async with asyncio.timeout(1):
        (await stays).release()
        (await reserve_in_time(budget, 1)).release()


@pytest.mark.parametrize("end", ["closed", "stopped"])
@pytest.mark.parametrize("price", [1, 3])
def test_a_loop_that_has_ended_is_passed_over(end, price):
    """A waiter whose loop is gone does not take the room of the one behind it.

    Nor does it keep its place in the queue, if it waits for more than there is room for.
    """
    budget = Budget(3)
    others = budget.reserve(2)
    held = budget.reserve(1)

    async def begin_to_wait():
        waiting = asyncio.get_running_loop().create_task(budget.room(price))
        await asyncio.sleep(0)
        return waiting

    gone = asyncio.new_event_loop()
    lost = gone.run_until_complete(begin_to_wait())
    # Without cancelling it, which `asyncio.run` would do.
    if end == "closed":
        lost.get_coro().close()
        gone.close()

    async def go_on():
        behind = asyncio.create_task(budget.room(1))
        await asyncio.sleep(0)
        held.release()
        await asyncio.wait_for(behind, 5)

    asyncio.run(go_on())
    assert budget.left == 1
    others.release()
    if end == "stopped":
        # Should it go on after all, so does the waiter.
        gone.run_until_complete(lost)
        gone.close()


def test_what_was_offered_in_a_loop_that_has_ended_is_offered_again():
    """A waiter whose loop ended just as it was woken keeps its room from nobody."""
    budget = Budget(1)

    async def wake_one():
        held = budget.reserve(1)
        waiting = asyncio.get_running_loop().create_task(budget.room(1))
        await asyncio.sleep(0)
        held.release()
        return waiting

    async def go_on():
        held = budget.reserve(1)
        behind = asyncio.create_task(budget.room(1))
        await asyncio.sleep(0)
        held.release()
        await asyncio.wait_for(behind, 5)

    gone = asyncio.new_event_loop()
    woken = gone.run_until_complete(wake_one())
    assert not woken.done()
    asyncio.run(go_on())
    gone.run_until_complete(woken)
    gone.close()


class Witness:
    """Counts what threads hold, never more than the budget itself does."""

    def __init__(self, ceiling):
        self._lock = threading.Lock()
        self._ceiling = ceiling
        self._taken = 0
        self.charged = 0
        self.maybe = 0
        self.most = 0

    def took(self, price):
        with self._lock:
            self._taken += price
            self.most = max(self.most, self._taken)
            assert self._taken <= self._ceiling

    def end(self, reservation, fate):
        if fate == "release":
            with self._lock:
                self._taken -= reservation.credits
            reservation.release()
            return
        # What was spent stays taken.
        if fate == "hold":
            reservation.hold()
        else:
            reservation.settle(reservation.credits)
        with self._lock:
            if fate == "hold":
                self.maybe += reservation.credits
            else:
                self.charged += reservation.credits


@pytest.mark.parametrize("prices", [(1,), (1, 2, 5)])
def test_many_threads_never_pass_the_ceiling(prices):
    """Tasks of several loops in several threads share a budget to its last credit."""
    ceiling, threads, tasks = 4_000, 4, 12
    budget, witness = Budget(ceiling), Witness(ceiling)
    failures = []

    async def spend(rng):
        while True:
            price = rng.choice(prices)
            try:
                reservation = await reserve_in_time(budget, price)
            except BudgetReachedError:
                if price == min(prices):
                    return
                continue
            witness.took(price)
            await turns(rng.randrange(3))
            fate = rng.choices(["release", "hold", "settle"], [5, 1, 2])[0]
            witness.end(reservation, fate)

    async def work(seed):
        rngs = [random.Random(f"{seed}:{task}") for task in range(tasks)]
        await asyncio.wait_for(asyncio.gather(*map(spend, rngs)), 20)

    def run(seed):
        try:
            asyncio.run(work(seed))
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    workers = [threading.Thread(target=run, args=[seed]) for seed in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert (budget.charged, budget.maybe, budget.reserved) == (witness.charged, witness.maybe, 0)
    assert budget.charged + budget.maybe == ceiling
    assert budget.left == 0
    assert witness.most == ceiling
