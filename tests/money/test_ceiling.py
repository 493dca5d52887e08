"""A ceiling of credits: never passed, used to its end, and fair to those that wait for it."""

import asyncio
import threading

import pytest

from asyncsfk import Archive, Budget, BudgetReachedError, Retry, UnavailableError, Usage, events
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.money.accounts import (
    Guard,
    assert_can_go_on,
    assert_one_each,
    assert_stopped_at_the_ceiling,
    assert_true,
    creators,
    good_pages,
    pages_of,
    stepping,
)
from tests.support import client_of, enveloped, failure, http, run_through, told


@pytest.fixture
def page_size():
    return 5


@pytest.mark.parametrize("width", [1, 7, 60])
@pytest.mark.parametrize("place", ["client", "run"])
async def test_it_is_used_to_its_last_credit(sim, width, place):
    """All of it buys pages; creators under way end as partial with a cursor, others as skipped."""
    handles, guard = creators(60), Guard(sim, 50)
    limits = {"client": (50, None), "run": (None, 50)}[place]
    async with client_of(sim, max_credits=limits[0], on_event=guard) as client:
        guard.budgets.append(client.budget)
        async with stepping(guard):
            run, outcomes = await run_through(
                client, handles, concurrency=width, max_credits=limits[1]
            )
        guard.assert_held()
        assert sim.ledger.charged == run.usage.charged == 50
        assert isinstance(run.stopped, BudgetReachedError)
        assert_one_each(handles, outcomes)
        assert_true(sim, outcomes)
        assert_stopped_at_the_ceiling(outcomes)
        assert sum(outcome.pages for outcome in outcomes) == good_pages(sim) == 50
        begun = [outcome for outcome in outcomes if outcome.status != "skipped"]
        assert all(outcome.next_cursor for outcome in begun if outcome.status == "partial")
        assert all(outcome.usage == Usage() for outcome in outcomes if outcome.status == "skipped")
        assert len(begun) < 60
    async with client_of(sim) as client:
        await assert_can_go_on(sim, client, outcomes)


async def test_one_that_suffices_stops_nothing(sim):
    """A ceiling of exactly what there is to buy does not stop the run."""
    handles = creators(20)
    wanted = sum(pages_of(sim, handle) for handle in handles)
    async with client_of(sim) as client:
        run, outcomes = await run_through(client, handles, max_credits=wanted, concurrency=7)
    assert {outcome.status for outcome in outcomes} == {"complete"}
    assert run.stopped is None
    assert (run.budget.left, run.budget.charged) == (0, wanted)


async def test_an_empty_showcase_is_explained_within_it(sim):
    """The credit for a profile counts too, and if it is lacking the outcome says so."""
    handles = [f"empty_{n}" for n in range(6)]
    async with client_of(sim) as client:
        run, outcomes = await run_through(
            client, handles, max_credits=7, verify_empty=True, concurrency=1
        )
    assert sim.ledger.charged == 7
    statuses = [outcome.status for outcome in outcomes]
    assert statuses == ["complete"] * 3 + ["partial"] + ["skipped"] * 2
    assert isinstance(outcomes[3].error, BudgetReachedError)
    assert (outcomes[3].pages, outcomes[3].account_status) == (1, None)
    assert run.budget.left == 0


@pytest.mark.parametrize("status", [400, 404, 503])
async def test_free_failures_give_their_reservations_back(sim, status):
    """The credits that a refused request had reserved buy something else."""
    sim.add_fault(Fault.status(status, times=15))
    async with client_of(sim) as client:
        run, outcomes = await run_through(
            client, creators(40, most=1), max_credits=20, concurrency=10
        )
    statuses = [outcome.status for outcome in outcomes]
    assert (statuses.count("failed"), statuses.count("complete")) == (15, 20)
    assert (run.budget.charged, run.budget.maybe, run.budget.reserved) == (20, 0, 0)
    assert sim.ledger.charged == 20


async def test_a_call_between_two_attempts_holds_no_credit(sim):
    """While one waits to try again, another spends; then the first is refused, and says why."""
    sim.add_fault(Fault.status(503, handles={"slow"}, retry_after="30", times=1))
    retry = Retry(attempts=5)
    async with (
        client_of(sim, retry=retry, max_credits=1) as client,
        client_of(sim, max_credits=client.budget) as other,
    ):
        slow = asyncio.create_task(client.showcase_page("slow"))
        await asyncio.sleep(5)
        assert client.budget.reserved == 0
        await other.showcase_page("quick.1products")
        refused = await failure(slow, BudgetReachedError)
        assert (refused.attempts, refused.usage.requests) == (1, 1)
    assert sim.ledger.charged == 1


async def test_who_waits_for_others_is_neither_refused_nor_forgotten(sim):
    """While the last credits are in the air the others wait, since some may be given back."""
    sim.add_fault(Fault.status(503, requests=range(1, 9)))
    async with client_of(sim, max_credits=10) as client:
        calls = [asyncio.create_task(client.showcase_page(f"c{n}.1products")) for n in range(40)]
        await asyncio.sleep(0.5)
        assert client.budget.reserved == 10
        assert sim.ledger.in_flight == 10
        assert not any(call.done() for call in calls)
        results = await asyncio.gather(*calls, return_exceptions=True)
    kinds = [type(result) for result in results]
    assert kinds.count(UnavailableError) == 8
    assert kinds.count(BudgetReachedError) == 22
    assert sim.ledger.charged == client.budget.charged == 10


async def test_who_waits_for_two_budgets_does_not_keep_one_from_others(sim):
    """A call that is refused by its client's ceiling leaves the run's to those behind it."""
    sim.add_fault(Fault.status(503, handles={"first"}))
    shared = Budget(1)
    async with client_of(sim, max_credits=1) as poor, client_of(sim) as rich:

        async def run_of(client, handle):
            _, (outcome,) = await run_through(client, [handle], max_credits=shared)
            return outcome

        calls = []
        for client, handle in ((rich, "first"), (poor, "second"), (rich, "third.1products")):
            calls.append(asyncio.create_task(run_of(client, handle)))
            await asyncio.sleep(0.1)
        # The second has waited for credits that its client can no longer pay.
        await poor.showcase_page("else.1products")
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*calls)
    assert [outcome.status for outcome in outcomes] == ["failed", "skipped", "complete"]
    assert (shared.charged, shared.reserved) == (1, 0)


async def test_a_dearer_call_waits_without_refusing_the_cheaper(sim):
    """A call of three credits is refused once there are two, which still buy pages."""
    path = "/v1/tiktok/profiles/x"
    async with client_of(sim, max_credits=3) as client:
        first = asyncio.create_task(client.get(path, price=3))
        await asyncio.sleep(0.5)
        dear = asyncio.create_task(client.get("/v1/tiktok/profiles/y", price=3))
        cheap = [asyncio.create_task(client.showcase_page(f"c{n}.1products")) for n in range(2)]
        # It is charged one of the three credits that were reserved.
        assert (await first).usage.charged == 1
        await failure(dear, BudgetReachedError)
        async with asyncio.timeout(10):
            await asyncio.gather(*cheap)
    assert sim.ledger.charged == client.budget.charged == 3


@pytest.mark.parametrize("archived", [False, True])
async def test_single_calls_are_refused_before_they_are_sent(sim, tmp_path, archived):
    """At the ceiling every paid call raises, says what it was about, and sends nothing."""
    async with client_of(sim, max_credits=2) as client, Archive(tmp_path / "a.sfk") as archive:
        keeping = {"archive": archive} if archived else {}
        page = await client.showcase_page("mrbeast.50products", **keeping)
        with pytest.raises(BudgetReachedError) as caught:
            await client.showcase("other.50products", **keeping).collect()
        assert len(caught.value.partial) == 5
        assert caught.value.usage.charged == 1
        assert caught.value.cursor is not None
        sent = sim.ledger.requests
        refused = await failure(
            client.showcase_page("mrbeast.50products", cursor=page.next_cursor, **keeping),
            BudgetReachedError,
        )
        assert (refused.handle, refused.cursor) == ("mrbeast.50products", page.next_cursor)
        assert refused.route == Route.SHOWCASE
        assert refused.usage == Usage()
        for call in (
            client.tiktok_profile("a", **keeping),
            client.instagram_profile("a", **keeping),
            client.review_page(product_id="1729", **keeping),
            client.get("/v1/tiktok/profiles/a/videos", **keeping),
        ):
            assert (await failure(call, BudgetReachedError)).usage == Usage()
        assert sim.ledger.requests == sent == 2
        assert client.budget.reserved == 0


async def test_free_routes_are_never_refused(sim):
    """Free routes can be called at the ceiling too."""
    async with client_of(sim, max_credits=1) as client:
        await client.showcase_page("a.1products")
        await failure(client.showcase_page("b"), BudgetReachedError)
        assert (await client.balance()).balance > 0
        assert (await client.whoami()).user.id
        assert (await client.health()).status == "ok"
        assert (await client.get("/v1/balance", price=0)).data["balance"] > 0
        assert (client.budget.charged, client.budget.left) == (1, 0)


@pytest.mark.parametrize("call", ["balance", "whoami"])
async def test_a_free_route_that_says_it_cost_something_stays_free(call):
    """The cost is counted, and the route can still be called at the ceiling."""
    seen = []
    answer = http(200, enveloped({"balance": 7, "user": {"id": "u1"}}, charged=2))
    async with told(answer, keep=True, max_credits=2, on_event=seen.append) as (server, client):
        for _ in range(3):
            await getattr(client, call)()
        assert server.hits == 3
        assert client.budget.charged == 6
        assert await failure(client.showcase_page("x"), BudgetReachedError)
    assert not [event for event in seen if isinstance(event, events.PriceRaised)]


@pytest.mark.parametrize("archived", [False, True])
async def test_a_price_of_nothing_that_is_wrong_is_noticed(sim, tmp_path, archived):
    """A route wrongly called free passes the ceiling once: then its price is known."""
    path, seen = "/v1/tiktok/profiles/a", []
    async with (
        Archive(tmp_path / "a.sfk") as archive,
        client_of(sim, max_credits=1, on_event=seen.append) as client,
    ):
        keeping = {"archive": archive, "refresh": True} if archived else {}
        await client.showcase_page("a.1products")
        await client.get(path, price=0, **keeping)
        (raised,) = [event for event in seen if isinstance(event, events.PriceRaised)]
        assert (raised.route, raised.expected, raised.charged) == (path, 0, 1)
        await failure(client.get(path, price=0, **keeping), BudgetReachedError)
        assert sim.ledger.charged == client.budget.charged == 2


async def test_what_is_unknown_stays_counted(sim):
    """Lost answers, and failures that may have been charged, count until the end."""
    sim.add_fault(Fault.close(charged=True, times=3))
    sim.add_fault(Fault.status(502, charge=1, times=2))
    sim.add_fault(Fault.status(500, times=2))
    guard = Guard(sim, 12)
    async with client_of(sim, max_credits=12, on_event=guard) as client:
        guard.budgets.append(client.budget)
        _, outcomes = await run_through(client, creators(30, most=1), concurrency=5)
        guard.assert_held()
        assert (client.budget.charged, client.budget.maybe) == (5, 7)
        assert sim.ledger.charged == 10
        statuses = [outcome.status for outcome in outcomes]
        assert (statuses.count("failed"), statuses.count("complete")) == (7, 5)


async def test_retries_are_paid_from_it_too(sim):
    """A retry that the ceiling does not cover is not made; the error tells what went before."""
    sim.add_fault(Fault.status(502, charge=1))
    async with client_of(sim, retry=Retry(server_errors=5), max_credits=2) as client:
        refused = await failure(client.showcase_page("a"), BudgetReachedError)
        assert (refused.attempts, refused.usage.requests, refused.usage.maybe) == (2, 2, 2)
        run, (outcome,) = await run_through(client, ["b"])
        assert outcome.status == "skipped"
        assert isinstance(run.stopped, BudgetReachedError)
    assert sim.ledger.charged == client.budget.maybe == 2


async def test_client_and_run_both_count(sim):
    """The lower ceiling stops a run; the client's goes on to the next run."""
    async with client_of(sim, max_credits=30) as client:
        one, _ = await run_through(client, creators(30, most=1), max_credits=10)
        assert (one.budget.charged, client.budget.charged) == (10, 10)
        other, _ = await run_through(client, creators(60, most=1, name="d"), max_credits=40)
        assert (other.budget.charged, client.budget.charged) == (20, 30)
        await failure(client.showcase_page("x"), BudgetReachedError)
    assert sim.ledger.charged == 30


async def test_one_budget_for_a_client_and_its_run_counts_once(sim):
    """A budget that both client and run are given is reserved in once, and used to its end."""
    for amount in (1, 10):
        budget = Budget(amount)
        before = sim.ledger.charged
        async with client_of(sim, max_credits=budget) as client, asyncio.timeout(100):
            run, _ = await run_through(client, creators(20, most=1), max_credits=budget)
        assert run.budget is client.budget is budget
        assert budget.charged == sim.ledger.charged - before == amount


async def test_two_clients_share_a_budget(sim):
    """Two clients with one budget together spend no more than it has."""
    budget, guard = Budget(40), Guard(sim, 40)
    guard.budgets.append(budget)
    async with (
        client_of(sim, max_credits=budget, on_event=guard) as one,
        client_of(sim, max_credits=budget, on_event=guard) as other,
    ):
        results = await asyncio.gather(
            run_through(one, creators(30), concurrency=20),
            run_through(other, creators(30, name="d"), concurrency=20),
        )
    guard.assert_held()
    assert sim.ledger.charged == budget.charged == 40
    spent = [run.usage.charged for run, _ in results]
    assert sum(spent) == 40
    assert min(spent) > 0
    for _, outcomes in results:
        assert_true(sim, outcomes)
        assert_stopped_at_the_ceiling(outcomes)


def test_clients_in_two_threads_share_a_budget():
    """Loops in threads of their own spend one budget to its last credit, and no further."""
    budget = Budget(60)
    spent, failures = [], []

    async def spend(name):
        async with (
            Simulator(latency=Latency.uniform(0, 0.01), page_size=5) as sim,
            client_of(sim, max_credits=budget) as client,
        ):
            async with asyncio.timeout(20):
                _, outcomes = await run_through(client, creators(60, name=name), concurrency=25)
            assert_true(sim, outcomes)
            assert_stopped_at_the_ceiling(outcomes)
            assert client.usage.charged == sim.ledger.charged
            spent.append(sim.ledger.charged)

    def run(name):
        try:
            asyncio.run(spend(name))
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=[name]) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(spent) == budget.charged == 60
    assert budget.reserved == 0


@pytest.mark.parametrize("seconds", [0, 0.4, 1.5])
async def test_leaving_while_waiting_for_it_leaks_nothing(sim, seconds):
    """Calls that are cancelled while they wait for credits leave all of them to others."""
    async with client_of(sim, max_credits=3) as client:
        held = [asyncio.create_task(client.showcase_page(f"h{n}.1products")) for n in range(2)]
        others = [asyncio.create_task(client.showcase_page(f"o{n}.1products")) for n in range(20)]
        await asyncio.sleep(seconds)
        for call in others:
            call.cancel()
        await asyncio.wait(others)
        await asyncio.wait(held)
        assert client.budget.reserved == 0
        assert client.budget.charged + client.budget.maybe <= 3
        spare = client.budget.left
        async with asyncio.timeout(10):
            await asyncio.gather(*(client.showcase_page(f"n{n}.1products") for n in range(spare)))
    assert client.budget.left == 0
    assert sim.ledger.charged <= 3


async def test_leaving_while_waiting_for_a_place_gives_the_credit_back(sim):
    """By then a call has reserved it, but the call is not sent."""
    async with client_of(sim, max_credits=2, concurrency=1) as client:
        first, second = (asyncio.create_task(client.tiktok_profile(name)) for name in "ab")
        await asyncio.sleep(0.1)
        assert client.budget.reserved == 2
        second.cancel()
        await asyncio.wait({second})
        assert client.budget.reserved == 1
        await first
        await client.tiktok_profile("c")
    assert (client.budget.charged, sim.ledger.charged) == (2, 2)


async def test_leaving_a_run_at_its_ceiling_leaks_nothing(sim):
    """A run left while its creators wait for credits gives back all that was surely not spent."""
    budget = Budget(5)
    async with client_of(sim) as client:
        async with client.showcases(creators(40), max_credits=budget, concurrency=30) as run:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(run)
            assert budget.reserved == 5
        assert (budget.reserved, budget.charged, budget.maybe) == (0, 0, 5)
        assert sim.ledger.charged == 5
