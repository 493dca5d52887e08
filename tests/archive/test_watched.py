"""What a run sees of pages that others keep meanwhile, and what a closing waits for."""

import asyncio

import anyio

from asyncsfk import Archive, BudgetReachedError
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import beside, held, run_of, writers_held_up
from tests.support import client_of, failure

LONG = "long.90products"


async def test_a_page_that_is_being_kept_while_a_run_looks_is_not_bought_again(path):
    """A page that is being kept as a run comes to its creator is found once it is wanted."""
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        first = await client.showcase_page(LONG)
        second = asyncio.create_task(
            client.showcase_page(LONG, cursor=first.next_cursor, archive=archive)
        )
        # With these, the exposure on file covers one more request.
        others = [
            asyncio.create_task(client.showcase_page(f"c{n}", archive=archive)) for n in range(4)
        ]
        await asyncio.sleep(0.9)
        with writers_held_up(path):
            await asyncio.sleep(0.15)
            running = asyncio.create_task(run_of(client, [LONG], archive=archive, max_pages=2))
            await asyncio.sleep(0.1)
            assert (sim.ledger.requests, second.done()) == (7, False)
        run, outcomes = await running
        assert (run.usage.charged, outcomes[LONG].pages) == (1, 2)
        assert (await second).usage.charged == 1
        await asyncio.gather(*others)
        assert sim.ledger.charged == 7


async def test_pages_that_another_clients_run_keeps_meanwhile_are_not_bought_again(path):
    """A run that began with nothing on file finds what another client's run has kept since."""
    faults = [Fault.delay(Latency.fixed(20), requests=[2])]
    async with (
        Simulator(latency=Latency.fixed(1), faults=faults) as sim,
        client_of(sim) as one,
        client_of(sim) as other,
        Archive(path) as archive,
    ):
        running = asyncio.create_task(run_of(one, [LONG], archive=archive))
        await asyncio.sleep(0.5)
        run, outcomes = await run_of(other, [LONG], archive=archive)
        await running
        # Both had asked for the first page before either answer came.
        assert (run.usage.charged, run.usage.archived, outcomes[LONG].pages) == (1, 4, 5)
        assert sim.ledger.charged == 5 + 1


async def test_a_price_that_fell_is_not_forgotten(path):
    """All clients of an archive reserve the highest price that a route ever had."""
    faults = [Fault.price(3, times=1), Fault.price(2, times=1)]
    async with Simulator(faults=faults) as sim, Archive(path) as archive:
        async with client_of(sim) as client:
            for handle in ("a", "b"):
                await client.showcase_page(handle, archive=archive)
        async with client_of(sim, max_credits=2) as poor:
            await failure(poor.showcase_page("c", archive=archive), BudgetReachedError)
        assert sim.ledger.charged == 5


async def test_closing_in_a_scope_that_is_cancelled_waits_for_what_is_in_the_air(path):
    """Closing an archive in a cancelled scope still waits for what is on its way."""
    async with Simulator(latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        archive = Archive(path)
        await archive.open()
        call = asyncio.create_task(client.showcase_page("a", archive=archive))
        with anyio.move_on_after(0.5):
            await asyncio.sleep(0.1)
            await archive.aclose()
        assert beside(path) == []
        assert (await call).usage.charged == 1
    usage = await held(path, "usage")
    assert (usage.charged, usage.maybe, usage.pages) == (1, 0, 1)
