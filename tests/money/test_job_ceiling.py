"""The ceiling of a job: all runs that write to an archive, one after the other or at once."""

import asyncio
from collections import Counter

import pytest

from asyncsfk import Archive, Budget, BudgetReachedError, Retry, ShowcasePage
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import disk
from tests.money.accounts import (
    assert_one_each,
    assert_stopped_at_the_ceiling,
    assert_true,
    creators,
    pages_of,
    spent_in,
)
from tests.support import client_of, failure, outcomes_of, run_through


@pytest.fixture
def page_size():
    return 5


@pytest.fixture
async def client(sim):
    async with client_of(sim, concurrency=10) as client:
        yield client


def job(path):
    return Archive(path, durability="normal")


async def test_earlier_runs_count(sim, client, path):
    """The same ceiling again buys nothing more; a higher one buys the difference, nothing twice."""
    handles = creators(40)
    wanted = sum(pages_of(sim, handle) for handle in handles)
    have = 0
    for ceiling in (20, 20, 35, 36, wanted, wanted):
        run, outcomes = await run_through(client, handles, archive=job(path), max_credits=ceiling)
        assert_one_each(handles, outcomes)
        assert_true(sim, outcomes)
        assert_stopped_at_the_ceiling(outcomes)
        assert sim.ledger.charged == ceiling
        assert run.usage.charged == ceiling - have
        assert (run.budget.charged, run.budget.reserved) == (ceiling, 0)
        # What is on file is handed out, whatever the ceiling.
        assert sum(outcome.usage.archived for outcome in outcomes) == have
        assert sum(outcome.pages for outcome in outcomes) == ceiling
        assert await spent_in(path) == (ceiling, 0)
        have = ceiling
    assert {outcome.status for outcome in outcomes} == {"complete"}
    assert sim.ledger.paid_twice() == {}


async def test_what_is_unknown_counts_in_later_runs_too(sim, path):
    """Credits that may have been charged once count against the job's ceiling for good."""
    sim.add_fault(Fault.close(charged=True, times=4))
    handles = creators(12, most=1)
    async with client_of(sim) as client:
        run, _ = await run_through(client, handles, archive=job(path), max_credits=6)
        assert (run.budget.charged, run.budget.maybe) == (2, 4)
        run, _ = await run_through(client, handles, archive=job(path), max_credits=6)
        assert run.usage.charged == 0
        assert isinstance(run.stopped, BudgetReachedError)
        assert "2 are charged, 4 more maybe (6 of them before)" in str(run.stopped)
        run, _ = await run_through(client, handles, archive=job(path), max_credits=9)
        assert (run.budget.charged, run.budget.maybe, run.usage.charged) == (5, 4, 3)
    assert sim.ledger.charged == 9


async def test_a_budget_of_ones_own_counts_no_earlier_runs(sim, client, path):
    """A `Budget` counts only what it is told of, such as what an archive has cost."""
    handles = creators(40, most=1)
    await run_through(client, handles, archive=job(path), max_credits=10)
    budget = Budget(10)
    await run_through(client, handles, archive=job(path), max_credits=budget)
    assert (budget.charged, sim.ledger.charged) == (10, 20)
    charged, maybe = await spent_in(path)
    told = Budget(25, charged=charged, maybe=maybe)
    await run_through(client, handles, archive=job(path), max_credits=told)
    assert (told.charged, sim.ledger.charged) == (25, 25)


async def test_a_run_that_is_given_anothers_ceiling_leaves_it_in_place(sim, client, path):
    """When the run that was given it ends, the run that it came from is still bound by it."""
    async with (
        job(path) as archive,
        client.showcases(creators(100, most=1), archive=archive, max_credits=10) as one,
    ):
        await run_through(client, ["d.5products"], archive=archive, max_credits=one.budget)
        outcomes = [outcome async for outcome in one]
    assert sim.ledger.charged == one.budget.charged == 10
    assert_stopped_at_the_ceiling(outcomes)


async def test_two_runs_at_once_share_it(sim, client, path):
    """Runs that write to one open archive together spend no more than the ceiling of either."""
    async with job(path) as archive:
        results = await asyncio.gather(
            run_through(client, creators(30), archive=archive, max_credits=40),
            run_through(client, creators(30, name="d"), archive=archive, max_credits=40),
        )
        assert sim.ledger.charged == 40
        # When runs are over, their ceilings bind nobody.
        await client.showcase_page("shop", archive=archive)
    assert sum(run.usage.charged for run, _ in results) == 40
    assert min(run.usage.charged for run, _ in results) > 0
    for run, outcomes in results:
        assert run.budget.reserved == 0
        assert_true(sim, outcomes)
        assert_stopped_at_the_ceiling(outcomes)
    assert await spent_in(path) == (41, 0)


async def test_the_lowest_ceiling_binds_all_while_it_lasts(sim, client, path):
    """A run beside another with a lower ceiling does not carry the job past that."""

    async def run_of(name, ceiling):
        run, _ = await run_through(
            client, creators(30, name=name), archive=archive, max_credits=ceiling
        )
        return run, sim.ledger.charged

    async with job(path) as archive:
        (high, _), (low, charged) = await asyncio.gather(run_of("c", 40), run_of("d", 25))
    assert charged == low.budget.charged == 25
    assert isinstance(low.stopped, BudgetReachedError)
    assert 25 <= high.budget.charged == sim.ledger.charged <= 40


async def test_two_clients_at_once_share_it(sim, path):
    """The runs of two clients share a ceiling too."""
    async with (
        job(path) as archive,
        client_of(sim, concurrency=15) as one,
        client_of(sim, concurrency=15) as other,
    ):
        results = await asyncio.gather(
            run_through(one, creators(40), archive=archive, max_credits=30),
            run_through(other, creators(40), archive=archive, max_credits=30),
        )
        # Both work on the same creators: what one has bought, the other finds.
        for _, outcomes in results:
            assert_true(sim, outcomes)
    assert sim.ledger.charged == 30
    assert await spent_in(path) == (30, 0)


async def test_whoever_writes_to_it_is_bound(sim, client, path):
    """Single calls, and runs without a ceiling, count in the ceiling of the run beside them."""
    async with job(path) as archive:
        async with client.showcases(
            creators(30, most=1), archive=archive, max_credits=12, concurrency=1
        ) as run:
            await anext(run)
            await client.tiktok_profile("mrbeast", archive=archive)
            _, beside = await run_through(client, creators(5, name="d", most=1), archive=archive)
            assert {outcome.status for outcome in beside} == {"complete"}
            outcomes = await outcomes_of(run)
            assert (run.budget.charged, sim.ledger.charged) == (12, 12)
            assert Counter(outcome.status for outcome in outcomes)["complete"] == 5
            await failure(client.tiktok_profile("other", archive=archive), BudgetReachedError)
            _, refused = await run_through(client, creators(5, name="e"), archive=archive)
            assert {outcome.status for outcome in refused} == {"skipped"}
            # A call that does not use the archive is not bound.
            await client.tiktok_profile("free.of.it")
        # Nor is anybody bound by a run that has ended.
        await client.tiktok_profile("other", archive=archive)
    assert sim.ledger.charged == 14
    assert await spent_in(path) == (13, 0)


async def test_what_is_on_file_costs_nothing_at_the_ceiling(sim, path):
    """Single calls are answered from the archive where a purchase would be refused."""
    async with client_of(sim, max_credits=2) as poor, job(path) as archive:
        page = await poor.showcase_page("a.12products", archive=archive)
        await poor.showcase_page("a.12products", cursor=page.next_cursor, archive=archive)
        again = await poor.showcase("a.12products", archive=archive, max_pages=2).collect()
        assert len(again) == 10
        await failure(poor.showcase("a.12products", archive=archive).collect(), BudgetReachedError)
    assert sim.ledger.charged == 2


async def test_a_run_is_bound_by_what_was_in_the_air_before_it(sim, client, path):
    """Requests that another run had sent before this one began count in its ceiling."""
    async with (
        job(path) as archive,
        client.showcases(creators(50, most=1), archive=archive, concurrency=50) as unbound,
    ):
        under_way = asyncio.create_task(outcomes_of(unbound))
        await asyncio.sleep(0.5)
        assert sim.ledger.in_flight == 50
        bound, _ = await run_through(
            client, creators(50, most=1, name="d"), archive=archive, max_credits=60
        )
        await under_way
    assert sim.ledger.charged <= 60
    assert bound.usage.charged == 10


async def test_what_explains_an_empty_showcase_is_bought_once(sim, client, path):
    """The profiles that `verify_empty` has looked up are on file, too."""
    handles = [*(f"empty_{n}" for n in range(4)), *(f"private_{n}" for n in range(4))]
    for _ in range(3):
        _, outcomes = await run_through(
            client, handles, archive=job(path), max_credits=16, verify_empty=True
        )
        assert {outcome.status for outcome in outcomes} == {"complete"}
        assert {outcome.account_status for outcome in outcomes} == {"found", "private"}
    assert sim.ledger.charged == 16


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_page_that_was_lost_is_bought_again_only_if_told(sim, path, lost):
    """A page whose answer was lost after charging costs again at most as often as allowed."""
    sim.add_fault(Fault.close(charged=True, times=10))
    async with client_of(sim, retry=Retry(lost=lost)) as client:
        run, _ = await run_through(client, creators(20, most=1), archive=job(path), concurrency=1)
    twice = sim.ledger.paid_twice()
    assert sum(count - 1 for count in twice.values()) == (5 if lost else 0)
    assert run.usage.maybe == 10
    assert sim.ledger.charged == run.usage.charged + run.usage.maybe


async def test_a_price_that_is_on_file_is_known_to_the_next_session(path):
    """What the route cost in an earlier process is reserved from the first request on."""
    async with Simulator(faults=[Fault.price(3)], latency=Latency.fixed(0.2)) as sim:
        for count, concurrency in ((20, 1), (300, 100)):
            async with client_of(sim, concurrency=concurrency) as client:
                run, _ = await run_through(
                    client, creators(count, most=1), archive=job(path), max_credits=200
                )
        assert isinstance(run.stopped, BudgetReachedError)
        assert sim.ledger.charged == 198


async def test_who_waits_for_room_is_bound_by_a_ceiling_that_comes_meanwhile(path):
    """A run's ceiling binds the calls into its archive that have not been sent yet."""
    busy = Fault.status(503, handles=["busy"])
    async with (
        Simulator(latency=Latency.fixed(0.5), faults=[busy]) as sim,
        job(path) as archive,
        client_of(sim, max_credits=1) as one,
        client_of(sim) as two,
    ):
        # Has the only credit, until it is refused.
        blocker = asyncio.create_task(one.tiktok_profile("busy"))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(one.showcase_page("x.5products", archive=archive))
        await asyncio.sleep(0.1)
        async with two.showcases(["y.5products"], archive=archive, max_credits=1) as run:
            (outcome,) = [outcome async for outcome in run]
            await asyncio.wait({blocker, waiting})
        assert outcome.status == "complete"
        assert isinstance(waiting.exception(), BudgetReachedError)
        assert blocker.exception() is not None
    assert await spent_in(path) == (1, 0)


async def test_who_waits_for_room_is_free_of_a_ceiling_that_has_gone_meanwhile(sim, client, path):
    """Once a run is over, its ceiling refuses nobody who had to wait for room in it."""
    async with job(path) as archive:
        async with client.showcases([], archive=archive, max_credits=1):
            first = asyncio.create_task(client.showcase_page("a.5products", archive=archive))
            await asyncio.sleep(0.3)
            second = asyncio.create_task(client.showcase_page("b.5products", archive=archive))
            await asyncio.sleep(0.3)
            assert sim.ledger.in_flight == 1
        assert [(await call).usage.charged for call in (first, second)] == [1, 1]


async def test_a_price_is_known_to_all_clients_of_an_open_archive(path):
    """What one client was charged is what the next one reserves in the same archive's ceiling."""
    async with Simulator(faults=[Fault.price(5)]) as sim, job(path) as archive:
        for ceiling, charged in ((6, 5), (9, 5), (10, 10)):
            async with client_of(sim) as client:
                handles = [f"c{ceiling}.5products"]
                await run_through(client, handles, archive=archive, max_credits=ceiling)
            assert sim.ledger.charged == charged


async def test_who_waits_for_a_place_reserves_what_another_client_is_charged_meanwhile(path):
    """The archive that both write to knows the price before the request is sent."""
    faults = [
        Fault.price(5, handles=["x.5products", "y.5products"]),
        Fault.delay(Latency.fixed(9), handles=["busy"]),
    ]
    async with (
        Simulator(faults=faults) as sim,
        job(path) as archive,
        client_of(sim) as one,
        client_of(sim, concurrency=1, max_credits=3) as other,
    ):
        blocker = asyncio.create_task(other.tiktok_profile("busy"))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(other.showcase_page("x.5products", archive=archive))
        await asyncio.sleep(1)
        assert (await one.showcase_page("y.5products", archive=archive)).usage.charged == 5
        await blocker
        await failure(waiting, BudgetReachedError)
        assert (other.budget.charged, other.budget.reserved) == (1, 0)


async def test_what_is_just_being_kept_counts_once(sim, client, path):
    """A run entered while others' pages are being written counts each of those once."""
    seen = []
    async with job(path) as archive:
        calls = asyncio.gather(
            *(client.showcase_page(handle, archive=archive) for handle in creators(40))
        )
        while not calls.done():
            await asyncio.sleep(0.005)
            async with client.showcases([], archive=archive, max_credits=100) as run:
                seen.append(run.budget.charged + run.budget.maybe)
        await calls
    assert max(seen) == sim.ledger.charged == 40


async def test_who_waits_for_a_place_is_bound_by_a_ceiling_that_comes_meanwhile(path):
    """A run's ceiling binds the requests into its archive that wait for the rate or a pause."""
    async with (
        Simulator() as sim,
        job(path) as archive,
        client_of(sim, rate=50, burst=1) as client,
        client.showcases(creators(60, most=1), archive=archive) as unbound,
    ):
        waiting = asyncio.create_task(outcomes_of(unbound))
        await asyncio.sleep(0.2)
        async with client.showcases([], archive=archive, max_credits=20) as bound:
            outcomes = await waiting
            assert bound.budget.charged == 20
    assert sim.ledger.charged == 20
    assert Counter(outcome.status for outcome in outcomes)["complete"] == 20


async def test_who_waits_for_the_disk_is_bound_by_a_ceiling_that_comes_meanwhile(path, monkeypatch):
    """A run's ceiling binds the calls into its archive that wait for room to be kept."""
    free = 1_300_000
    disk(monkeypatch, lambda _: (1 << 30, free))
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        job(path) as archive,
        client_of(sim, concurrency=20) as client,
    ):
        calls = [
            asyncio.create_task(client.showcase_page(handle, archive=archive))
            for handle in creators(10)
        ]
        await asyncio.sleep(0.5)
        assert sim.ledger.in_flight == 1
        free = 1 << 30
        async with client.showcases([], archive=archive, max_credits=3) as run:
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert run.budget.left == 0
        assert Counter(map(type, ends)) == {ShowcasePage: 3, BudgetReachedError: 7}
        assert sim.ledger.charged == 3
    assert await spent_in(path) == (3, 0)
