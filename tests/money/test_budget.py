"""For tests/money: a budget by itself, how callers wait for it, and what it refuses."""

import asyncio
import copy
import pickle

import pytest

from asyncsfk import Budget, BudgetReachedError, InvalidArgumentError
from tests.support import turns


@pytest.mark.parametrize("ceiling", [0, -1, 1.5, "5", True, 10**20], ids=repr)
def test_what_is_no_ceiling_is_refused(ceiling):
    """A ceiling is a whole number of 1 or more, or there is none."""
    with pytest.raises(InvalidArgumentError, match="max_credits"):
        Budget(ceiling)


@pytest.mark.parametrize("number", [-1, 1.5, "5", None], ids=repr)
@pytest.mark.parametrize("name", ["charged", "maybe"])
def test_what_is_no_number_of_credits_spent_before_is_refused(name, number):
    """Credits spent before are a whole number of 0 or more."""
    with pytest.raises(InvalidArgumentError, match=name):
        Budget(5, **{name: number})


def test_it_shows_where_it_stands():
    """Its repr has all four figures."""
    budget = Budget(7, charged=1, maybe=2)
    budget.reserve(3)
    assert repr(budget) == "<Budget of 7: 1 charged, 2 maybe, 3 reserved>"
    assert repr(Budget()) == "<Budget no ceiling: 0 charged, 0 maybe, 0 reserved>"


@pytest.mark.parametrize("twice", [copy.copy, copy.deepcopy, pickle.dumps])
def test_there_is_no_second_one_of_a_ceiling(twice):
    """Credits spent from a copy would not be missing in the original."""
    with pytest.raises(TypeError, match="each process a part"):
        twice(Budget(7))


def test_without_a_route_no_price_is_learned():
    """The charge is counted, but the next request is reserved at the old price."""
    budget = Budget(10)
    assert not budget.reserve(0).settle(3)
    assert not budget.reserve(1).settle(3)
    assert (budget.reserve(0).credits, budget.reserve(1).credits) == (0, 1)
    assert (budget.charged, budget.reserved) == (6, 1)


def test_a_price_that_rises_takes_nothing_from_who_has_reserved_more():
    """Another archive may know of a higher price: what is reserved by that stays as it is."""
    budget = Budget(9)
    more = budget.reserve(5, route="r")
    assert budget.reserve(1, route="r").settle(3)
    assert (more.credits, budget.reserved, budget.left) == (5, 5, 1)


async def test_who_need_not_wait_for_room_does_not():
    """`room` returns at once if there is room or never will be, even after a rise in price."""
    async with asyncio.timeout(1):
        await Budget().room(1_000)
        budget = Budget(4)
        await budget.room(4)
        await budget.room(5)
        budget = Budget(5)
        assert budget.reserve(1, route="r").settle(2)
        budget.reserve(2, route="r").settle(2)
        budget.reserve(1)
        # At a credit it would be waited for; at two it is refused for good.
        await budget.room(1, route="r")
        with pytest.raises(BudgetReachedError):
            budget.reserve(1, route="r")
        budget = Budget(10)
        first, _ = (budget.reserve(1, route="r") for _ in range(2))
        # The reservations have risen past the ceiling, but a free request still gets one.
        assert first.settle(7)
        await budget.room(0)
        assert budget.reserve(0) is not None


async def test_who_waits_is_refused_as_soon_as_a_price_rises_out_of_reach():
    """And not only once all requests under way have ended."""
    budget = Budget(4)
    first, second = (budget.reserve(1, route="r") for _ in range(2))
    other = budget.reserve(2)
    waiting = asyncio.create_task(budget.room(1, route="r"))
    await asyncio.sleep(1)
    assert not waiting.done()
    first.settle(3)
    await asyncio.sleep(1)
    assert waiting.done()
    with pytest.raises(BudgetReachedError):
        budget.reserve(1, route="r")
    second.release()
    other.release()


async def test_who_was_not_served_keeps_the_place_in_the_queue():
    """No more waiters are woken than there is room for, so none falls behind a later one."""
    budget = Budget(2)
    held = [budget.reserve(1), budget.reserve(1)]
    served = []

    async def take(name, credits):
        while (reservation := budget.reserve(credits)) is None:
            await budget.room(credits)
        served.append(name)
        held.append(reservation)

    tasks = [asyncio.create_task(take(*one)) for one in (("a", 1), ("b", 1), ("large", 2))]
    await asyncio.sleep(1)
    for expected in (["a"], ["a", "b"]):
        held.pop(0).release()
        await asyncio.sleep(1)
        assert served == expected
    while held:
        held.pop(0).release()
        await asyncio.sleep(1)
    assert served == ["a", "b", "large"]
    await asyncio.gather(*tasks)


async def test_each_of_many_that_wait_is_woken_about_once():
    """Room that is given back bit by bit is offered to one at a time, not to all over again."""
    waits = 0

    async def take(budget):
        nonlocal waits
        while (reservation := budget.reserve(1)) is None:
            waits += 1
            await budget.room(1)
        return reservation

    count = 1_000
    budget = Budget(count)
    held = [budget.reserve(1) for _ in range(count)]
    waiting = [asyncio.create_task(take(budget)) for _ in range(count)]
    await turns(1)
    for reservation in held:
        reservation.release()
        await turns(1)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert budget.reserved == count
    assert waits < 2 * count
