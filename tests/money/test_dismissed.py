"""Who bears the cost when a caller is stopped, leaves or is cancelled and others share it."""

import asyncio

import pytest

from asyncsfk import (
    Budget,
    ClientStateError,
    RequestFinished,
    RequestRetried,
    Retry,
    RunStoppedError,
    UnavailableError,
    Usage,
)
from asyncsfk.simulator import Fault
from tests.support import client_of, failure, outcomes_of

HANDLE = "mrbeast.5products"


async def test_a_run_that_only_joined_answers_for_nothing_when_it_is_stopped(sim, client):
    """The cost stays with the run in whose budget it was reserved, even if that run has left."""
    async with (
        client.showcases([HANDLE], max_credits=3) as first,
        client.showcases([HANDLE], max_credits=3) as second,
        client.showcases([HANDLE], max_credits=3) as third,
    ):
        tasks = []
        for run in (first, second, third):
            tasks.append(asyncio.create_task(outcomes_of(run)))
            await asyncio.sleep(0.1)
        await first.aclose()
        second.stop(now=True)
        (stopped,) = await tasks[1]
        assert isinstance(stopped.error, RunStoppedError)
        assert stopped.usage == stopped.error.usage == second.usage == Usage()
        (outcome,) = await tasks[2]
        assert (outcome.status, outcome.usage.charged) == ("complete", 0)
        await asyncio.wait(tasks)
        assert tasks[0].exception() is not None
    assert (first.budget.charged, first.usage.charged, first.usage.maybe) == (1, 1, 0)
    assert sim.ledger.charged == client.usage.charged == client.budget.charged == 1
    assert second.budget.charged == third.budget.charged == client.usage.maybe == 0


@pytest.mark.parametrize("moment", [RequestFinished, RequestRetried])
async def test_one_who_is_cancelled_as_it_is_let_go_is_no_trouble_for_the_others(sim, moment):
    """A stopped run whose worker is cancelled as a request fails leaves others that request."""
    sim.add_fault(Fault.status(503, times=1))
    workers = []

    def handles():
        workers.append(asyncio.current_task())
        yield HANDLE

    def on_event(event):
        if isinstance(event, moment) and event.error is not None:
            workers[0].cancel()

    async with (
        client_of(sim, on_event=on_event, retry=Retry()) as client,
        client.showcases(handles(), concurrency=1) as run,
    ):
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.3)
        call = asyncio.create_task(client.showcase_page(HANDLE))
        await asyncio.sleep(0.3)
        run.stop()
        assert len((await call).products) == 5
        await failure(outcomes, ClientStateError)
    assert sim.ledger.requests == 2


async def test_of_several_who_pay_alike_the_last_to_leave_answers(sim, client):
    """A call that is left in the air by all is in the usage of the run that left it last."""
    call = asyncio.create_task(client.showcase_page(HANDLE))
    await asyncio.sleep(0.2)
    async with client.showcases([HANDLE]) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.sleep(0.2)
    await asyncio.wait({call, outcomes})
    assert outcomes.exception() is not None
    assert run.usage.maybe == client.usage.maybe == sim.ledger.charged == 1


async def test_who_leaves_last_answers_for_nothing_that_another_ceiling_was_reserved_for(
    sim, client
):
    """The cost of a request that all have left goes to the run that had reserved it."""
    async with client.showcases([HANDLE], max_credits=3) as first:
        began = asyncio.create_task(outcomes_of(first))
        await asyncio.sleep(0.2)
        async with client.showcases([HANDLE], max_credits=3) as second:
            joined = asyncio.create_task(outcomes_of(second))
            await asyncio.sleep(0.2)
            await first.aclose()
            await asyncio.sleep(0.2)
    await asyncio.wait({began, joined})
    assert began.exception()
    assert joined.exception()
    assert first.usage.maybe == first.budget.maybe == client.usage.maybe == sim.ledger.charged == 1
    assert (second.usage, second.budget.maybe) == (Usage(), 0)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("now", [False, True])
async def test_a_stopped_run_counts_its_requests(sim, client, now, is_shared):
    """Whether others go on with the same request or not, the error tells how many were made."""
    sim.add_fault(Fault.status(502, charge=1, times=1))
    async with client.showcases([HANDLE]) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.1)
        calls = [asyncio.create_task(client.showcase_page(HANDLE))] if is_shared else []
        await asyncio.sleep(0.1)
        run.stop(now=now)
        (outcome,) = await outcomes
        assert isinstance(outcome.error, RunStoppedError)
        assert outcome.error.attempts == 1
        for call in calls:
            assert len((await call).products) == 5


@pytest.mark.parametrize("now", [False, True])
async def test_a_stopped_run_says_what_went_wrong_before(sim, client, now):
    """Its error counts the attempts that were made, and the last one's failure is its cause."""
    sim.add_fault(Fault.status(503, retry_after="60"))
    async with client.showcases([HANDLE]) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.3 if not now else 100)
        run.stop(now=now)
        (outcome,) = await outcomes
    assert isinstance(outcome.error, RunStoppedError)
    assert outcome.error.attempts == outcome.usage.requests == sim.ledger.requests
    if not now:
        assert isinstance(outcome.error.__cause__, UnavailableError)


async def test_what_is_not_waited_for_may_have_cost_what_its_route_costs(sim, client):
    """A run that is stopped at once, while another waits on, counts the price that was seen."""
    sim.add_fault(Fault.price(3))
    await client.showcase_page("other.1products")
    async with client.showcases([HANDLE], max_credits=5) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.3)
        call = asyncio.create_task(client.showcase_page(HANDLE))
        await asyncio.sleep(0.3)
        run.stop(now=True)
        (outcome,) = await outcomes
        assert outcome.usage.maybe == run.usage.maybe == 3
        await call
    assert client.usage.charged == sim.ledger.charged == 6


async def test_what_is_not_waited_for_may_have_cost_what_its_route_has_come_to_cost(sim, client):
    """Also if that price was seen only while the request was on its way."""
    sim.add_fault(Fault.price(3))
    first = asyncio.create_task(client.showcase_page("other.1products"))
    await asyncio.sleep(0.3)
    async with client.showcases([HANDLE], max_credits=5) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.3)
        call = asyncio.create_task(client.showcase_page(HANDLE))
        await first
        run.stop(now=True)
        (outcome,) = await outcomes
        assert outcome.usage.maybe == run.usage.maybe == 3
        await call
    assert client.usage.charged == sim.ledger.charged == 6


async def test_who_is_stopped_in_the_moment_of_the_answer_counts_it_once(sim):
    """A run that is stopped at once as the answer comes knows what that cost, and no more."""

    def on_event(event):
        if isinstance(event, RequestFinished):
            run.stop(now=True)

    async with (
        client_of(sim, on_event=on_event) as client,
        client.showcases([HANDLE], max_credits=5) as run,
    ):
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.3)
        call = asyncio.create_task(client.showcase_page(HANDLE))
        await outcomes
        assert (run.usage.requests, run.usage.charged, run.usage.maybe) == (1, 1, 0)
        assert run.budget.charged == 1
        assert (await call).usage == Usage(pages=1, products=5)
    assert sim.ledger.charged == client.usage.charged == 1


async def test_what_a_run_answered_for_as_it_was_let_go_is_no_later_ones(sim, client):
    """A run that shares its budget, and joins only then, does not count the request once more."""
    budget = Budget(10)
    async with (
        client.showcases([HANDLE], max_credits=budget) as first,
        client.showcases([HANDLE], max_credits=budget) as second,
    ):
        began = asyncio.create_task(outcomes_of(first))
        await asyncio.sleep(0.2)
        call = asyncio.create_task(client.showcase_page(HANDLE))
        await asyncio.sleep(0.2)
        first.stop(now=True)
        await began
        (outcome,) = await outcomes_of(second)
        await call
    assert (first.usage.requests, first.usage.maybe) == (1, 1)
    assert (outcome.status, outcome.usage.requests, second.usage.requests) == ("complete", 0, 0)
    assert sim.ledger.charged == client.usage.charged == budget.charged == 1
    assert (client.usage.requests, budget.reserved) == (1, 0)
