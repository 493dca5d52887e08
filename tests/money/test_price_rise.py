"""A price that rises without notice passes a ceiling by what was then under way, and no more."""

import asyncio

import pytest

from asyncsfk import Archive, Budget, BudgetReachedError, UnavailableError, events
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.archive.support import writers_held_up
from tests.money.accounts import (
    Guard,
    assert_can_go_on,
    assert_one_each,
    assert_stopped_at_the_ceiling,
    assert_true,
    creators,
)
from tests.support import SHOWCASE, client_of, failure, http, outcomes_of, run_through, told

#: More requests than any test of this file sends.
FOREVER = range(1, 10_000)


class Watcher(Guard):
    """Notes how many requests were under way when the first price rise became known."""

    def __init__(self):
        super().__init__()
        self.under_way = 0
        self.then = None
        self.late = []

    def __call__(self, event):
        self.events.append(event)
        match event:
            case events.RequestStarted():
                self.under_way += 1
                if self.then is not None:
                    self.late.append(self.budgets[0].reserved)
            case events.RequestFinished():
                self.under_way -= 1
            case events.PriceRaised() if self.then is None:
                # Includes the request that told the price: it has not been counted as finished yet.
                self.then = self.under_way


@pytest.mark.parametrize(("width", "first"), [(1, 1), (1, 15), (8, 15), (20, 1), (20, 15)])
@pytest.mark.parametrize("ceiling", [20, 37])
async def test_it_passes_the_ceiling_by_what_is_under_way(ceiling, width, first):
    """Only requests in flight can cost more than reserved; then the new price is reserved."""
    watcher = Watcher()
    async with Simulator(
        page_size=5,
        latency=Latency.uniform(0.5, 1),
        faults=[Fault.price(3, requests=FOREVER[first - 1 :])],
    ) as sim:
        async with client_of(sim, max_credits=ceiling, on_event=watcher) as client:
            watcher.budgets.append(client.budget)
            run, outcomes = await run_through(client, creators(60), concurrency=width)
            (raised,) = watcher.told(events.PriceRaised)
            assert (raised.route, raised.expected, raised.charged) == (SHOWCASE, 1, 3)
            assert 1 <= watcher.then <= width
            assert sim.ledger.charged <= ceiling + 2 * watcher.then
            assert sim.ledger.charged == client.budget.charged == run.usage.charged
            assert client.budget.reserved == 0
            assert client.budget.price(1, route=SHOWCASE) == 3
            assert client.budget.left < 3
            # Each request under way has the whole new price reserved.
            assert all(reserved % 3 == 0 for reserved in watcher.late)
        assert isinstance(run.stopped, BudgetReachedError)
        assert_one_each(creators(60), outcomes)
        assert_true(sim, outcomes)
        assert_stopped_at_the_ceiling(outcomes)
        assert sum(outcome.usage.charged for outcome in outcomes) == sim.ledger.charged
        async with client_of(sim) as client:
            await assert_can_go_on(sim, client, outcomes)


@pytest.mark.parametrize("archived", [False, True])
async def test_what_has_not_been_sent_yet_does_not_pass_it(tmp_path, archived):
    """Requests that wait for a place, or for a pause to end, are reserved anew at the new price."""
    watcher = Watcher()
    faults = [Fault.status(503, times=1, retry_after="5"), Fault.price(3)]
    async with (
        Simulator(faults=faults, latency=Latency.fixed(1), page_size=5) as sim,
        client_of(sim, max_credits=40, concurrency=40, on_event=watcher) as client,
        Archive(tmp_path / "a.sfk", durability="normal") as archive,
    ):
        watcher.budgets.append(client.budget)
        await failure(client.showcase_page("x"), UnavailableError)
        async with client.showcases(
            creators(60, most=1), archive=archive if archived else None
        ) as run:
            outcomes = asyncio.create_task(outcomes_of(run))
            await asyncio.sleep(3)
            # All credits are reserved, for requests that wait.
            assert (client.budget.reserved, sim.ledger.requests) == (40, 1)
            await outcomes
        assert watcher.then <= 20  # the width, which the refusal has halved
        assert sim.ledger.charged <= 40 + 2 * watcher.then
        assert sim.ledger.charged == client.budget.charged
        assert client.budget.reserved == 0
        assert "open, 0 requests in flight" in repr(client)
        assert_stopped_at_the_ceiling(outcomes.result())


async def test_who_waits_for_a_commit_does_not_pass_it(tmp_path):
    """Nor does a request that waits until it is on file that it may be charged."""
    path = tmp_path / "a.sfk"
    async with (
        Simulator(faults=[Fault.price(3, requests={2, 3})]) as sim,
        client_of(sim, max_credits=5) as client,
        Archive(path) as archive,
    ):
        await client.showcase_page("x", archive=archive)
        await asyncio.sleep(2)
        with writers_held_up(path):
            waits = asyncio.create_task(client.showcase_page("a", archive=archive))
            await asyncio.sleep(0.05)
            assert (await client.showcase_page("b")).usage.charged == 3
        await failure(waits, BudgetReachedError)
        assert sim.ledger.charged == client.budget.charged == 4
        assert client.budget.reserved == 0


async def test_what_is_too_dear_for_a_ceiling_takes_nothing_from_what_is_not():
    """A page that waits for its turn as a look-up is refused has its credit, and is bought."""
    faults = [Fault.price(3, routes={Route.TIKTOK_PROFILE})]
    async with Simulator(faults=faults) as sim, client_of(sim, rate=2, burst=1) as client:
        await client.tiktok_profile("x")
        handles = ["empty_a", "b.1products", "c.1products"]
        run, outcomes = await run_through(client, handles, verify_empty=True, max_credits=2)
        ends = {outcome.handle: outcome.status for outcome in outcomes}
        assert ends == {"empty_a": "partial", "b.1products": "complete", "c.1products": "skipped"}
        assert run.budget.charged == 2


async def test_it_is_reserved_by_later_runs_and_other_budgets():
    """A client remembers what a route costs, also for a run with a ceiling of its own."""
    guard = Guard()
    async with (
        Simulator(faults=[Fault.price(3)], latency=Latency.fixed(1)) as sim,
        client_of(sim, on_event=guard) as client,
    ):
        await client.showcase_page("a.1products")
        budget = Budget(10)
        guard.budgets.append(budget)
        _, outcomes = await run_through(client, creators(20, most=1), max_credits=budget)
        assert (budget.charged, budget.left) == (9, 1)
        assert [outcome.status for outcome in outcomes].count("complete") == 3
        guard.assert_held()
        assert len(guard.told(events.PriceRaised)) == 1


async def test_an_archive_remembers_it_for_later_sessions(tmp_path):
    """A client that knows nothing of it reserves what a request costs, from the first one on."""
    guard = Guard()
    archive = Archive(tmp_path / "a.sfk", durability="normal")
    async with Simulator(faults=[Fault.price(3)], latency=Latency.fixed(1)) as sim:
        async with client_of(sim) as client:
            await run_through(client, ["a.1products"], archive=archive)
        async with client_of(sim, on_event=guard) as client:
            run, outcomes = await run_through(
                client, creators(20, most=1), archive=archive, max_credits=13
            )
        assert run.budget.charged == sim.ledger.charged == 12
        assert [outcome.status for outcome in outcomes].count("complete") == 3
        assert guard.told(events.PriceRaised) == []


async def test_each_rise_is_told_once_and_others_routes_are_not_concerned():
    """A second rise is told as well; the profile route still costs what it did."""
    told = []
    faults = [
        Fault.price(5, requests=FOREVER[6:], routes={Route.SHOWCASE}),
        Fault.price(3, requests=FOREVER[3:], routes={Route.SHOWCASE}),
    ]
    async with (
        Simulator(faults=faults, latency=Latency.fixed(1)) as sim,
        client_of(sim, max_credits=100, on_event=told.append) as client,
    ):
        for n in range(10):
            await client.showcase_page(f"a{n}.1products")
        raised = [event for event in told if isinstance(event, events.PriceRaised)]
        assert [(event.expected, event.charged) for event in raised] == [(1, 3), (3, 5)]
        assert client.budget.charged == sim.ledger.charged == 3 + 3 * 3 + 4 * 5
        call = asyncio.create_task(client.tiktok_profile("x"))
        await asyncio.sleep(0.5)
        assert client.budget.reserved == 1
        await call


@pytest.mark.parametrize("price", [2**62, 2**63, 2**64, 10**30])
async def test_an_absurd_price_does_not_harm_the_rest(tmp_path, price):
    """A server that says it charged what nobody can pay takes no other page, nor the archive."""
    handles = creators(12, most=1)
    absurd = Fault.price(price, handles=handles[3:5])
    async with (
        Simulator(faults=[absurd], latency=Latency.fixed(1)) as sim,
        client_of(sim) as client,
    ):
        archive = Archive(tmp_path / "a.sfk", durability="normal")
        for _ in range(2):
            _, outcomes = await run_through(client, handles, archive=archive)
            assert_one_each(handles, outcomes)
            statuses = {outcome.handle: outcome.status for outcome in outcomes}
            assert {statuses[handle] for handle in handles[5:]} == {"complete"}
        assert await asyncio.to_thread(lambda: archive.info().answers) >= 10


@pytest.mark.parametrize("status", [200, 502])
async def test_an_absurd_price_leaves_an_archive_its_ceilings(tmp_path, status):
    """A run with a ceiling enters an archive that counts such a price, and is at its ceiling."""
    faults = [Fault.price(10**30, requests={1}), Fault.status(status, requests={2})]
    async with (
        Simulator(faults=faults[: 1 + (status != 200)]) as sim,
        client_of(sim) as client,
        Archive(tmp_path / "a.sfk") as archive,
    ):
        await client.showcase_page("x", archive=archive)
        if status != 200:
            error = await failure(client.showcase_page("y", archive=archive))
            assert error.usage.maybe == 10**30
        run, (outcome,) = await run_through(client, ["a"], archive=archive, max_credits=5)
        assert isinstance(run.stopped, BudgetReachedError)
        assert outcome.status == "skipped"
        assert run.budget.left == 0


@pytest.mark.parametrize("digits", [101, 4300, 4301])
async def test_a_price_that_is_none(tmp_path, digits):
    """A price beyond all sense counts as unknown: Python would refuse to write it down."""
    body = b'{"data":{"products":[],"page":{}},"meta":{"creditsCharged":%b}}' % (b"9" * digits)
    async with told(http(200, body), keep=True) as (_, client):
        _, outcomes = await run_through(client, ["a", "b"], archive=tmp_path / "a.sfk")
        assert {outcome.status for outcome in outcomes} == {"complete"}
        assert (client.usage.charged, client.usage.maybe) == (0, 2)
        assert repr(client.usage)


async def test_a_call_that_told_its_price_is_no_news():
    """A price within what was reserved is not a rise; a higher one is, and is then reserved."""
    told = []
    path = "/v1/tiktok/profiles/{}"
    async with (
        Simulator(faults=[Fault.price(3)], latency=Latency.fixed(1)) as sim,
        client_of(sim, max_credits=10, on_event=told.append) as client,
    ):
        await client.get(path.format("a"), price=3)
        await client.get(path.format("a"), price=4)
        assert not [event for event in told if isinstance(event, events.PriceRaised)]
        assert client.budget.charged == 6
        assert (await client.get(path.format("a"), price=2)).usage.charged == 3
        assert len([event for event in told if isinstance(event, events.PriceRaised)]) == 1
        assert client.budget.left == 1
        refused = await failure(client.get(path.format("a"), price=1), BudgetReachedError)
        assert "may cost 3" in str(refused)
    assert sim.ledger.charged == 9
