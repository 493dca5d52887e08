"""Requests that are shared, and callers that leave them, in awkward moments."""

import asyncio
from contextlib import suppress

import pytest

from asyncsfk import ClientStateError, Retry, Timeout
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import client_of, failure, outcomes_of, turns

HANDLE = "mrbeast.5products"


@pytest.mark.parametrize("way", ["stop", "leave"])
@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(2))
async def test_who_joins_what_its_beginner_leaves_before_it_has_begun(
    sim, client, way, before, after
):
    """A call that joins a run's request just as the run is left gets its page."""
    async with client.showcases([HANDLE], max_credits=3) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await turns(before)
        call = asyncio.create_task(client.showcase_page(HANDLE))
        await turns(after)
        if way == "stop":
            run.stop(now=True)
        else:
            leaving = asyncio.create_task(run.aclose())
        assert len((await call).products) == 5
        if way == "leave":
            await leaving
        await asyncio.gather(outcomes, return_exceptions=True)
    assert client.budget.reserved == run.budget.reserved == 0
    assert client.usage.charged <= sim.ledger.charged <= client.usage.charged + client.usage.maybe


async def test_what_is_left_twice_ends_and_is_in_nobodys_way(archive):
    """A call that is cancelled again while it lands ends its request; the next one begins anew."""
    faults = [Fault.hang(charged=True, requests={1})]
    async with Simulator(faults=faults) as sim, client_of(sim, timeout=Timeout(grace=50)) as client:
        call = asyncio.create_task(client.showcase_page(HANDLE, archive=archive))
        await asyncio.sleep(1)
        call.cancel()
        await asyncio.sleep(1)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        assert (await client.showcase_page(HANDLE, archive=archive)).usage.charged == 1
        assert "open, 0 requests in flight" in repr(client)
        assert (client.usage.maybe, sim.ledger.charged) == (1, 2)


@pytest.mark.parametrize("later", range(5))
async def test_who_comes_as_a_call_is_left_twice(archive, later):
    """A call for a page whose request is just being given up still gets the page."""
    async with (
        Simulator(latency=Latency.fixed(5)) as sim,
        client_of(sim, timeout=Timeout(grace=50)) as client,
    ):
        left = asyncio.create_task(client.showcase_page(HANDLE, archive=archive))
        await asyncio.sleep(1)
        left.cancel()
        await asyncio.sleep(1)
        left.cancel()
        await turns(later)
        assert len((await client.showcase_page(HANDLE)).products) == 5
        assert left.cancelled()


async def test_a_client_that_is_closed_as_calls_begin(sim):
    """Each caller is told of the closing, whether its request had begun or not."""
    calls = []

    async def ask():
        for _ in range(20):
            calls.append(asyncio.create_task(listings.pop().collect()))
            await asyncio.sleep(0)

    async with client_of(sim) as client, asyncio.timeout(5):
        # Made before the closing, they can be iterated as long as there is anything to send with.
        listings = [client.showcase(f"c{number}") for number in range(40)]
        asking = asyncio.create_task(ask())
        await asyncio.gather(client.aclose(), ask(), asking)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {ClientStateError}


async def test_closing_the_client_tries_nothing_again(archive):
    """A request that fails while it may land is not sent again; its caller is told at once."""
    async with Simulator(
        latency=Latency.fixed(1), faults=[Fault.status(502, charge=1, times=1)]
    ) as sim:
        async with client_of(sim, retry=Retry(backoff=0.1, max_backoff=0.1)) as client:
            call = asyncio.create_task(client.showcase_page(HANDLE, archive=archive))
            await asyncio.sleep(0.5)
        error = await failure(call, ClientStateError)
        assert (error.attempts, error.usage.maybe, sim.ledger.requests) == (1, 1, 1)


async def test_by_cancelling_all_tasks_but_the_callers(sim, client):
    """All that share a request cancelled from outside are told, and one of them what it cost."""
    others = asyncio.all_tasks()
    calls = [asyncio.create_task(client.showcase_page(HANDLE)) for _ in range(3)]
    await asyncio.sleep(0.5)
    for task in asyncio.all_tasks() - others - set(calls):
        task.cancel()
    errors = [await failure(call, ClientStateError) for call in calls]
    assert sorted(error.usage.maybe for error in errors) == [0, 0, 1]
    assert client.usage.maybe == sim.ledger.charged == 1


@pytest.mark.parametrize("moment", range(4))
async def test_who_leaves_as_the_client_is_closed_does_not_change_what_others_are_told(sim, moment):
    """However it ends, the other caller is told that the client was closed."""
    sim.add_fault(Fault.status(503, retry_after="60", times=1))
    async with client_of(sim, retry=Retry()) as client:
        leaver, other = (asyncio.create_task(client.showcase_page(HANDLE)) for _ in range(2))
        await asyncio.sleep(5)

        async def leave():
            await turns(moment)
            leaver.cancel()

        leaving = asyncio.create_task(leave())
        closing = asyncio.create_task(client.aclose())
        error = await failure(other)
        assert type(error) is ClientStateError
        await asyncio.wait({leaver, leaving, closing})
