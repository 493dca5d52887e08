"""One request for all that want the same page, whoever pays, keeps, leaves or is stopped."""

import asyncio
import random
from contextlib import suppress

import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    Budget,
    BudgetReachedError,
    ClientStateError,
    InsufficientCreditsError,
    LookupFailedError,
    PageReceived,
    RequestFinished,
    Retry,
    RunStoppedError,
    SfkError,
    ShowcasePage,
    Usage,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import held, known
from tests.money.accounts import Guard, spent_in, stepping
from tests.support import client_of, failure, ours, outcomes_of, plain, run_through, turns

HANDLE = "mrbeast.5products"
NOW = pytest.mark.parametrize("now", [False, True])


@pytest.fixture
async def archives(tmp_path):
    async with (
        Archive(tmp_path / "one.sfk", durability="normal") as one,
        Archive(tmp_path / "other.sfk", durability="normal") as other,
    ):
        yield one, other


def begin(awaitable):
    """Begin what can then be left alone; give it a moment to be under way."""
    return asyncio.ensure_future(awaitable)


async def soon(*tasks, seconds=0.1):
    """Wait for what must end at once."""
    async with asyncio.timeout(seconds):
        return await asyncio.gather(*tasks)


# --- archives


@pytest.mark.parametrize("first", ["kept", "plain"])
async def test_one_with_an_archive_and_one_without(sim, client, archives, first):
    """Both get the page for one credit, and the archive has it."""
    archive, _ = archives
    keepings = [{"archive": archive}, {}]
    if first == "plain":
        keepings.reverse()
    pages = await asyncio.gather(*(client.showcase_page(HANDLE, **k) for k in keepings))
    assert sim.ledger.charged == client.usage.charged == client.budget.charged == 1
    assert sum(page.usage.charged for page in pages) == 1
    assert pages[0].products == pages[1].products
    (kept,) = await held(archive, "answers")
    assert kept.decode().products == pages[0].products
    again = await client.showcase_page(HANDLE, archive=archive)
    assert (again.usage.archived, sim.ledger.requests) == (1, 1)
    # The credit is entered where it was paid.
    assert await spent_in(archive) == ((1, 0) if first == "kept" else (0, 0))


async def test_two_archives(sim, client, archives):
    """One credit puts a page into both, and it is entered in one of the ledgers."""
    pages = await asyncio.gather(
        *(client.showcase_page(HANDLE, archive=archive) for archive in archives)
    )
    assert sim.ledger.charged == sum(page.usage.charged for page in pages) == 1
    for archive in archives:
        (kept,) = await held(archive, "answers")
        assert kept.decode().products == pages[0].products
        assert (await client.showcase_page(HANDLE, archive=archive)).usage.archived == 1
    assert sorted([await spent_in(archive) for archive in archives]) == [(0, 0), (1, 0)]
    assert sim.ledger.requests == 1


async def test_many_callers_of_one_archive(sim, client, archives):
    """The archive has the page once."""
    archive, _ = archives
    await asyncio.gather(*(client.showcase_page(HANDLE, archive=archive) for _ in range(20)))
    assert len(await held(archive, "answers")) == sim.ledger.charged == 1
    assert await spent_in(archive) == (1, 0)


@pytest.mark.parametrize("beside", [{}, {"archive": 1}, {"archive": 0, "refresh": True}])
async def test_a_page_on_file_is_no_answer_for_whoever_has_no_use_for_it(
    sim, client, archives, beside
):
    """Callers without it, with another archive or with refresh buy the page once for them all."""
    archive, _ = archives
    await client.showcase_page(HANDLE, archive=archive)
    if "archive" in beside:
        beside = beside | {"archive": archives[beside["archive"]]}
    calls = [client.showcase_page(HANDLE, archive=archive), *(
        client.showcase_page(HANDLE, **beside) for _ in range(5)
    )]  # fmt: skip
    pages = await asyncio.gather(*calls)
    assert [page.usage.archived for page in pages] == [1, 0, 0, 0, 0, 0]
    assert sim.ledger.charged == 2
    assert sum(page.usage.charged for page in pages) == 1


async def test_runs_into_two_archives(sim, client, archives):
    """Two runs over the same creators at once buy each page once, and both keep all."""
    handles = [f"c{n}.45products" for n in range(10)]
    results = await asyncio.gather(
        *(run_through(client, handles, archive=archive, max_credits=30) for archive in archives)
    )
    for _, outcomes in results:
        assert {outcome.status for outcome in outcomes} == {"complete"}
    assert sim.ledger.charged == sum(run.usage.charged for run, _ in results) == 30
    assert sum(run.budget.charged for run, _ in results) == 30
    for archive in archives:
        assert len(await held(archive, "answers")) == 30
    assert sum([(await spent_in(archive))[0] for archive in archives]) == 30


async def test_what_was_sent_lands_though_all_have_left(sim, client, archives):
    """A call that is cancelled in the air still puts its page on file, and is counted."""
    archive, _ = archives
    calls = [begin(client.showcase_page(HANDLE, archive=archive)) for _ in range(3)]
    await asyncio.sleep(0.5)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert (client.usage.charged, client.usage.maybe, client.budget.reserved) == (1, 0, 0)
    page = await client.showcase_page(HANDLE, archive=archive)
    assert (page.usage.archived, sim.ledger.charged) == (1, 1)


@pytest.mark.parametrize("way", ["break", "timeout", "close"])
async def test_what_a_run_had_sent_lands_when_it_is_left(sim, archives, way):
    """However a run was left, going on with it pays for nothing twice."""
    archive, _ = archives
    handles = [f"c{n}.45products" for n in range(30)]
    async with client_of(sim, concurrency=10) as client:
        with suppress(TimeoutError):
            async with client.showcases(handles, archive=archive) as run, asyncio.timeout(4.5):
                async for _ in run:
                    if way == "break":
                        break
                    if way == "close":
                        await client.aclose()
                        break
    assert client.usage.maybe == client.budget.reserved == 0
    assert sim.ledger.charged == client.usage.charged == len(await held(archive, "answers"))
    async with client_of(sim) as client:
        _, outcomes = await run_through(client, handles, archive=archive)
    assert {outcome.status for outcome in outcomes} == {"complete"}
    assert sim.ledger.paid_twice() == {}


@pytest.mark.parametrize("after", [0, 0.3, 1, 1.4, 2.6])
async def test_the_same_creators_again_while_they_are_under_way(sim, client, archives, after):
    """Runs and calls that come later find in the archive, or share, what others buy."""
    archive, _ = archives
    handles = [f"c{n}.70products" for n in range(5)]
    first = begin(run_through(client, handles, archive=archive))
    await asyncio.sleep(after)
    others = [
        begin(run_through(client, handles * 3, archive=archive, dedupe=False)),
        begin(client.showcase(handles[0], archive=archive).collect()),
        begin(run_through(client, handles[::-1], archive=archive, ordered=True)),
    ]
    await asyncio.gather(first, *others)
    assert sim.ledger.paid_twice() == {}
    assert sim.ledger.charged == len(await held(archive, "answers")) == 5 * 4


@pytest.mark.parametrize("leaver", ["kept", "plain"])
async def test_leaving_the_others_their_page(sim, client, archives, leaver):
    """If the caller that began leaves, the others get the page, and their archive has it."""
    archive, _ = archives
    first = begin(
        client.showcase_page(HANDLE, **({"archive": archive} if leaver == "kept" else {}))
    )
    await asyncio.sleep(0.3)
    second = begin(client.showcase_page(HANDLE, archive=archive))
    await asyncio.sleep(0.3)
    first.cancel()
    page = await second
    assert len(page.products) == 5
    assert sim.ledger.charged == client.usage.charged == page.usage.charged == 1
    assert len(await held(archive, "answers")) == 1


# --- budgets


@pytest.mark.parametrize("first", ["run", "call"])
async def test_a_run_with_a_ceiling_and_a_call(sim, client, first):
    """A shared request is charged once, to the budgets of the caller that began it."""
    async with client.showcases([HANDLE], max_credits=5) as run:
        if first == "call":
            call = begin(client.showcase_page(HANDLE))
            await asyncio.sleep(0.1)
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(0.1)
        if first == "run":
            call = begin(client.showcase_page(HANDLE))
        page, (outcome,) = await call, await outcomes
    assert outcome.products == page.products
    assert outcome.usage.charged + page.usage.charged == 1
    assert client.budget.charged == client.usage.charged == sim.ledger.charged == 1
    assert run.budget.charged == run.usage.charged == (1 if first == "run" else 0)
    assert run.budget.reserved == client.budget.reserved == 0


@pytest.mark.parametrize("first", ["run", "call"])
async def test_leaving_a_run_with_a_ceiling(sim, client, first):
    """When the one that began leaves, its budget still holds what the other gets."""
    async with client.showcases([HANDLE], max_credits=5) as run:
        tasks = {"run": lambda: outcomes_of(run), "call": lambda: client.showcase_page(HANDLE)}
        begun = begin(tasks.pop(first)())
        await asyncio.sleep(0.2)
        (other,) = tasks.values()
        joined = begin(other())
        await asyncio.sleep(0.2)
        if first == "run":
            await run.aclose()
            assert (await joined).usage.requests == 0  # since it is the run's
            with pytest.raises(ClientStateError):
                await begun
        else:
            begun.cancel()
            (outcome,) = await joined
            assert (outcome.status, outcome.usage.requests) == ("complete", 0)
    assert sim.ledger.charged == client.usage.charged == client.budget.charged == 1
    assert run.budget.charged == run.usage.charged == (1 if first == "run" else 0)
    assert run.budget.reserved == client.budget.reserved == 0


async def test_the_ceiling_of_the_one_that_began_is_its_own_affair(sim, client):
    """When its ceiling lets it try no more, the others go on at their own expense."""
    sim.add_fault(Fault.status(502, charge=1, times=1))
    async with client.showcases([HANDLE], max_credits=1) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(0.5)
        calls = [begin(client.showcase_page(HANDLE)) for _ in range(3)]
        pages = await asyncio.gather(*calls)
        (outcome,) = await outcomes
    assert isinstance(outcome.error, BudgetReachedError)
    assert (outcome.usage.requests, outcome.usage.maybe) == (1, 1)
    assert sorted(page.usage.requests for page in pages) == [0, 0, 1]
    assert sim.ledger.requests == sim.ledger.charged == 2
    assert (client.budget.charged, client.budget.maybe) == (1, 1)
    assert (run.budget.charged, run.budget.maybe) == (0, 1)


async def test_waiting_for_credits_of_the_one_that_began(sim, client):
    """A call joins one that waits for its run's credits, and buys when those are gone."""
    budget = Budget(1)
    held = budget.reserve(1)
    async with client.showcases([HANDLE], max_credits=budget) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(1)
        call = begin(client.showcase_page(HANDLE))
        await asyncio.sleep(1)
        assert sim.ledger.requests == 0
        held.settle(1)
        page, (outcome,) = await call, await outcomes
    assert (outcome.status, page.usage.charged) == ("skipped", 1)
    assert isinstance(outcome.error, BudgetReachedError)
    assert sim.ledger.charged == client.budget.charged == 1


async def test_a_shared_failure_is_counted_once(sim, client, archives):
    """What a failed request may have cost is in one usage, one ledger and each budget once."""
    sim.add_fault(Fault.status(500, times=3))
    errors = await asyncio.gather(
        client.showcase_page(HANDLE, archive=archives[0]),
        client.showcase_page(HANDLE, archive=archives[1]),
        client.showcase_page(HANDLE),
        return_exceptions=True,
    )
    assert sorted(error.usage.maybe for error in errors) == [0, 0, 3]
    assert (client.budget.maybe, client.usage.maybe) == (3, 3)
    assert await spent_in(archives[0]) == (0, 3)
    assert await spent_in(archives[1]) == (0, 0)


# --- being stopped


@NOW
async def test_a_stopped_run_leaves_others_their_page(sim, client, archives, now):
    """The one that began is told to stop: the other gets the page, which is paid once."""
    async with client.showcases([HANDLE], archive=archives[0], max_credits=5) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(0.3)
        call = begin(client.showcase_page(HANDLE, archive=archives[1]))
        await asyncio.sleep(0.3)
        run.stop(now=now)
        (outcome,) = await (soon(outcomes) if now else asyncio.gather(outcomes))
        outcome = outcome[0]
        # As far as this run can tell, the answer it did not wait for may have been charged.
        assert outcome.status == ("failed" if now else "complete")
        assert (outcome.usage.charged, outcome.usage.maybe) == ((0, 1) if now else (1, 0))
        assert isinstance(await call, ShowcasePage)
    assert run.usage == outcome.usage
    assert sim.ledger.requests == sim.ledger.charged == client.usage.charged == 1
    assert client.usage.maybe == run.budget.reserved == 0
    assert len(await held(archives[1], "answers")) == 1


@NOW
@pytest.mark.parametrize("fault", [Fault.close(charged=True, times=1), Fault.status(503, times=1)])
async def test_a_stopped_run_pays_for_no_further_attempt(sim, client, now, fault):
    """A caller that still wants the page begins anew, in its own budget."""
    sim.add_fault(fault)
    paid = 1 if fault.name == "close" else 0
    async with client.showcases([HANDLE], max_credits=5) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(0.3)
        call = begin(client.showcase_page(HANDLE))
        await asyncio.sleep(0.3)
        run.stop(now=now)
        (outcome,) = await outcomes
    assert isinstance(outcome.error, RunStoppedError)
    # What happens after the run has ended does not change its usage.
    assert run.usage == outcome.usage
    before = (run.budget.charged, run.budget.maybe)
    page = await call
    assert run.usage == outcome.usage
    if not now:
        assert before == (run.budget.charged, run.budget.maybe) == (0, paid)
    assert (page.usage.charged, page.usage.maybe) == (1, 0)
    assert sim.ledger.charged == 1 + paid
    assert (client.usage.charged, client.usage.maybe) == (1, paid)
    assert run.budget.reserved == client.budget.reserved == 0


@pytest.mark.parametrize("way", ["stop", "stop now", "cancel"])
async def test_who_left_before_it_was_sent_does_not_pay(sim, way):
    """A page that was still waiting for its place is bought by the caller that still wants it."""
    async with client_of(sim, concurrency=1) as client:
        run = client.showcases([HANDLE], max_credits=5)

        async def use():
            async with run:
                return await outcomes_of(run)

        ahead = begin(client.showcase_page("somebody.5products"))
        await asyncio.sleep(0.3)
        using = begin(use())
        await asyncio.sleep(0.1)
        call = begin(client.showcase_page(HANDLE))
        await asyncio.sleep(0.1)
        if way == "cancel":
            using.cancel()
            await asyncio.wait({using}, timeout=0.1)
            assert using.cancelled()
        else:
            run.stop(now=way == "stop now")
            (outcomes,) = await soon(using)
            assert (outcomes[0].status, outcomes[0].usage) == ("skipped", Usage())
        await ahead
        assert (await call).usage.charged == 1
    assert (run.budget.charged, run.budget.maybe, run.budget.reserved) == (0, 0, 0)
    assert run.usage == Usage()
    assert sim.ledger.charged == client.usage.charged == 2


@NOW
async def test_a_stopped_run_does_not_keep_others_from_trying_again(sim, client, now):
    """After a stop the others' request is tried again as it would have been."""
    sim.add_fault(Fault.status(503, times=1))
    async with client.showcases([HANDLE]) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(0.3)
        call = begin(client.showcase_page(HANDLE))
        await asyncio.sleep(0.3)
        run.stop(now=now)
        ((outcome,),) = await soon(outcomes, seconds=0.01 if now else 0.45)
        assert isinstance(outcome.error, RunStoppedError)
        assert isinstance(await call, ShowcasePage)
    assert (sim.ledger.requests, sim.ledger.charged) == (2, 1)


async def test_a_call_that_comes_after_a_stop_is_not_stopped(sim, client):
    """A caller that joins the request of a stopped run may retry on its own if that fails."""
    sim.add_fault(Fault.status(503, times=1))
    async with client.showcases([HANDLE]) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(0.3)
        run.stop()
        call = begin(client.showcase_page(HANDLE))
        ((outcome,),) = await soon(outcomes, seconds=0.8)
        assert isinstance(outcome.error, RunStoppedError)
        assert isinstance(await call, ShowcasePage)
    assert sim.ledger.requests == 2


@NOW
@pytest.mark.parametrize("first", ["run", "call"])
async def test_a_stopped_run_does_not_wait_for_others_to_try_again(sim, client, now, first):
    """A run that is stopped does not wait for the retry of a request that it shares."""
    sim.add_fault(Fault.status(503, retry_after="100", times=1))
    async with client.showcases([HANDLE]) as run:
        tasks = {"run": lambda: outcomes_of(run), "call": lambda: client.showcase_page(HANDLE)}
        begun = {first: begin(tasks.pop(first)())}
        await asyncio.sleep(0.1)
        ((name, other),) = tasks.items()
        begun[name] = begin(other())
        await asyncio.sleep(20)
        assert sim.ledger.requests == 1
        run.stop(now=now)
        ((outcome,),) = await soon(begun["run"])
        assert isinstance(outcome.error, RunStoppedError)
        assert outcome.error.handle == HANDLE
        assert len((await begun["call"]).products) == 5
    assert sim.ledger.requests == 2


async def test_a_run_that_left_does_not_keep_another_from_being_stopped(sim, client):
    """Of two runs that wait for the same request one leaves; the other can still be stopped."""
    sim.add_fault(Fault.status(503, retry_after="100", times=1))
    async with client.showcases([HANDLE]) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(1)
        async with client.showcases([HANDLE]) as beside:
            left = begin(outcomes_of(beside))
            await asyncio.sleep(1)
        assert isinstance(await failure(left), ClientStateError)
        run.stop()
        ((outcome,),) = await soon(outcomes)
        assert isinstance(outcome.error, RunStoppedError)
        await asyncio.sleep(500)
    assert sim.ledger.requests == 1


@NOW
@pytest.mark.parametrize("when", ["in the air", "between attempts", "not begun"])
@pytest.mark.parametrize("before", [False, True])
async def test_a_call_in_the_very_moment_of_a_stop(sim, client, now, when, before):
    """A call for a page whose request is just being ended by a stop still gets the page."""
    if when == "between attempts":
        sim.add_fault(Fault.status(503, retry_after="60", times=1))
    async with client.showcases([HANDLE]) as run:
        outcomes = begin(outcomes_of(run))
        if when == "not begun":
            await turns(4)
        else:
            await asyncio.sleep(0.5 if when == "in the air" else 20)
        if before:
            call = begin(client.showcase_page(HANDLE))
        run.stop(now=now)
        if not before:
            call = begin(client.showcase_page(HANDLE))
        await outcomes
        assert len((await call).products) == 5
    for outcome in outcomes.result():
        assert outcome.error is None or isinstance(outcome.error, RunStoppedError)


async def test_a_call_that_joins_what_a_run_with_a_ceiling_is_about_to_begin(sim, client):
    """When that run is stopped before the request has begun, the call makes it for itself."""
    for count in range(12):
        async with client.showcases([f"c{count}.5products"], max_credits=3) as run:
            outcomes = begin(outcomes_of(run))
            await turns(count)
            call = begin(client.showcase_page(f"c{count}.5products"))
            asyncio.get_running_loop().call_soon(run.stop)
            assert len((await call).products) == 5
            await outcomes
    assert sim.ledger.charged == client.usage.charged == 12


@NOW
async def test_two_stopped_runs(sim, client, now):
    """When all who share a request are stopped, it is not tried again; all are told of it."""
    sim.add_fault(Fault.status(502, charge=1))
    async with client.showcases([HANDLE]) as one, client.showcases([HANDLE]) as other:
        tasks = [begin(outcomes_of(run)) for run in (one, other)]
        await asyncio.sleep(0.5)
        one.stop(now=now)
        await asyncio.sleep(0.1)
        other.stop(now=now)
        for (outcome,) in await asyncio.gather(*tasks):
            assert isinstance(outcome.error, RunStoppedError)
            assert outcome.error.attempts == 1
        await asyncio.sleep(500)
        assert sim.ledger.requests == 1
        assert one.usage.maybe + other.usage.maybe == client.budget.maybe == 1
    assert client.usage.maybe == sim.ledger.charged == 1


@pytest.mark.parametrize("seed", range(12))
async def test_callers_that_come_and_go(seed, tmp_path):
    """Whatever callers do, none fails because of another, and every credit is accounted for."""
    rng = random.Random(f"callers:{seed}")
    faults = [
        Fault.status(503, probability=0.1),
        Fault.status(502, charge=1, probability=0.1),
        Fault.close(charged=True, probability=0.1),
    ]
    handles = [f"c{n}.5products" for n in range(4)]
    guard = Guard()
    async with (
        Simulator(seed=seed, faults=faults, latency=Latency.uniform(0.2, 1)) as sim,
        client_of(
            sim, concurrency=6, retry=Retry(server_errors=9, lost=9, attempts=99), on_event=guard,
            max_credits=10_000,
        ) as client,
        Archive(tmp_path / "one.sfk", durability="normal") as one,
        Archive(tmp_path / "other.sfk", durability="normal") as other,
    ):  # fmt: skip
        guard.budgets.append(client.budget)
        results = []

        async def call():
            keeping = {"archive": rng.choice([one, other]), "refresh": True}
            handle = rng.choice(handles)
            page = await client.showcase_page(handle, **rng.choice([{}, keeping]))
            assert plain(page.products) == sim.showcase(handle)
            results.append(page)

        async def run():
            budget = rng.choice([None, 1, 2, 20])
            async with client.showcases(handles, max_credits=budget) as run:
                if run.budget is not None:
                    guard.budgets.append(run.budget)
                asyncio.get_running_loop().call_later(
                    rng.uniform(0, 3), lambda: run.stop(now=rng.random() < 0.5)
                )
                for outcome in await outcomes_of(run):
                    if outcome.status != "complete":
                        assert isinstance(outcome.error, RunStoppedError | BudgetReachedError)
                results.append(run)

        tasks = []
        async with stepping(guard):
            for _ in range(60):
                tasks.append(begin(call() if rng.random() < 0.8 else run()))
                await asyncio.sleep(rng.choice([0, 0, 0.2]))
                if rng.random() < 0.4:
                    rng.choice(tasks).cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [error for error in done if isinstance(error, Exception)]
        guard.assert_held()
        usage = client.usage
        assert usage.requests >= sim.ledger.requests
        assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe
        assert (client.budget.charged, client.budget.maybe) == (usage.charged, usage.maybe)
        # No answer is counted by two callers.
        assert sum(result.usage.charged for result in results) <= usage.charged
        assert "open, 0 requests in flight" in repr(client)


async def test_closing_the_client_tells_all(sim):
    """All that share a request as the client is closed are told so, and it counts once."""
    async with client_of(sim, max_credits=3) as client:
        calls = [begin(client.showcase_page(HANDLE)) for _ in range(5)]
        await asyncio.sleep(0.5)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {ClientStateError}
    assert all(isinstance(result, SfkError) for result in results)
    assert (client.budget.maybe, client.budget.reserved) == (1, 0)
    assert sum(result.usage.maybe for result in results) == 1


@pytest.mark.parametrize("count", range(6))
async def test_closing_the_client_as_who_could_pay_leaves(sim, client, count):
    """A joiner with credits of its own is told of the closing too."""
    sim.add_fault(Fault.status(503, retry_after="100", times=1))
    workers = []

    def handles():
        workers.append(asyncio.current_task())
        yield HANDLE

    async with client.showcases(handles(), max_credits=3, concurrency=1) as run:
        outcomes = begin(outcomes_of(run))
        await asyncio.sleep(0.1)
        call = begin(client.showcase_page(HANDLE))
        await asyncio.sleep(20)
        closing = begin(client.aclose())
        await turns(count)
        workers[0].cancel()
        assert "closed" in str(await failure(call, ClientStateError))
        await closing
        await failure(outcomes, ClientStateError)
    assert sim.ledger.requests == 1


@pytest.mark.parametrize("count", range(8))
async def test_a_page_that_is_asked_for_as_the_client_is_closed(sim, count):
    """Its caller is told why, at any moment of the closing, even before a request has begun."""
    closing = []

    def on_event(event):
        if isinstance(event, RequestFinished):
            closing.append(begin(client.aclose()))

    async with client_of(sim, on_event=on_event) as client:
        pages = client.showcase("x.45products").pages()
        await anext(pages)
        await turns(count)
        async with asyncio.timeout(1):
            assert "closed" in str(await failure(anext(pages), ClientStateError))
        await asyncio.wait(closing)
    # In the very turn of the first answer it may still be sent.
    assert sim.ledger.requests == (1 if count else 2)


async def test_who_cancels_every_task_but_its_own_is_told_the_cost_once(sim, client):
    """Calls whose shared work an application cancelled end, and one of them answers for it."""
    sim.add_fault(Fault.status(502, charge=1, times=1))

    async def call():
        await client.showcase_page(HANDLE)

    calls = [begin(call()) for _ in range(3)]
    await asyncio.sleep(1.5)
    for task in ours():
        task.cancel()
    errors = [await failure(call, ClientStateError) for call in calls]
    usages = [error.usage for error in errors]
    assert usages == [client.usage, Usage(), Usage()]
    assert client.usage.maybe == sim.ledger.requests > 0
    assert {error.attempts for error in errors} == {sim.ledger.requests}


async def test_a_page_that_is_being_kept_for_another_is_not_bought_again(sim, client, archives):
    """Until a joiner's archive has the page, further callers for it join too."""
    archive, _ = archives
    plain = asyncio.create_task(client.showcase_page(HANDLE))
    joined = asyncio.create_task(client.showcase_page(HANDLE, archive=archive))
    page = await plain
    again = await client.showcase_page(HANDLE, archive=archive)
    assert again.products == (await joined).products == page.products
    assert sim.ledger.charged == 1
    assert len(await held(archive, "answers")) == 1


async def test_all_leave_but_an_archive_waits(sim, client, archives):
    """The answer lands in the archive of a joiner, even if all callers have left."""
    archive, _ = archives
    calls = [
        asyncio.create_task(client.showcase_page(HANDLE)),
        asyncio.create_task(client.showcase_page(HANDLE, archive=archive)),
    ]
    await asyncio.sleep(0.1)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert sim.ledger.charged == len(await held(archive, "answers")) == 1


async def test_all_leave_while_one_looks_into_its_archive(sim, client, archives):
    """A caller that has come for a page gets it, even if those that began it leave."""
    archive, _ = archives
    for moment in range(10):
        handle = f"creator{moment}.5products"
        first = begin(client.showcase_page(handle))
        await asyncio.sleep(0.1)
        joining = begin(client.showcase_page(handle, archive=archive))
        await turns(moment)
        first.cancel()
        page = await joining
        assert len(page.products) == 5
        assert len(await held(archive, "answers")) == sim.ledger.charged == moment + 1
        assert (client.usage.charged, client.usage.maybe) == (moment + 1, 0)


@pytest.mark.parametrize("end", ["stop", "close"])
async def test_a_paid_answer_that_is_being_kept_for_another_is_handed_out(sim, archives, end):
    """Nobody gets the answer before a joiner's archive has it, but then nothing can lose it."""
    archive, _ = archives
    loop = asyncio.get_running_loop()
    closing = []

    def finish():
        if end == "stop":
            run.stop()
        else:
            closing.append(asyncio.create_task(client.aclose()))

    def on_event(event):
        if isinstance(event, RequestFinished):
            loop.call_soon(finish)

    async with (
        client_of(sim, on_event=on_event) as client,
        client.showcases([HANDLE]) as run,
    ):
        first = begin(anext(run))
        await asyncio.sleep(0.1)
        page = await client.showcase_page(HANDLE, archive=archive)
        (outcome,) = await asyncio.gather(first, return_exceptions=True)
        if end == "stop":
            assert (outcome.status, outcome.pages) == ("complete", 1)
        await asyncio.gather(*closing)
    assert page.products
    assert sim.ledger.charged == client.usage.charged == len(await held(archive, "answers")) == 1


@pytest.mark.parametrize("moment", range(3))
async def test_a_stopped_run_does_not_join_after_its_look_up(sim, archives, moment):
    """A call that looks into its archive first, while another buys, is stopped as any other."""
    archive, _ = archives
    handle = "long.45products"
    found = asyncio.Event()

    def on_event(event):
        if isinstance(event, PageReceived) and event.archived:
            found.set()

    async with client_of(sim, on_event=on_event) as client:
        page = await client.showcase_page(handle, archive=archive)
        other = begin(client.showcase_page(handle, cursor=page.next_cursor, archive=archive))
        await asyncio.sleep(0.1)
        async with client.showcases([handle], archive=archive) as run:
            outcomes = begin(outcomes_of(run))
            await found.wait()
            # From here on it looks for the page that is being bought.
            await turns(moment)
            run.stop(now=True)
            ((outcome,),) = await soon(outcomes, seconds=0.5)
        assert (outcome.status, outcome.usage.requests) == ("partial", 0)
        assert (await other).usage.charged == 1


async def test_why_a_run_buys_nothing_more_is_its_own_affair(sim, archives):
    """A call is sent though a run, refused earlier, looks just then for the same page on file."""
    archive, _ = archives
    handle = "long.45products"
    is_paid, found = asyncio.Event(), asyncio.Event()

    def on_event(event):
        if isinstance(event, PageReceived) and event.archived:
            found.set()

    async def handles():
        yield "first"
        await is_paid.wait()
        yield handle

    async with client_of(sim, on_event=on_event) as client:
        page = await client.showcase_page(handle, archive=archive)
        sim.add_fault(Fault.status(402, times=1))
        async with client.showcases(handles(), archive=archive) as run:
            outcomes = begin(outcomes_of(run))
            await asyncio.sleep(2)
            assert isinstance(run.stopped, InsufficientCreditsError)
            is_paid.set()
            await found.wait()
            # From here on the run looks for the second page.
            second = await client.showcase_page(handle, cursor=page.next_cursor)
            assert second.usage.charged == 1
            *_, outcome = await outcomes
        assert (outcome.status, outcome.usage.requests) == ("partial", 0)
        assert outcome.error.cursor == outcome.next_cursor == page.next_cursor
        assert isinstance(outcome.error, InsufficientCreditsError)


async def test_the_archive_of_the_one_that_began_is_its_own_affair(sim, client, archives):
    """An answer that a closed archive cannot take goes to the joiner, and is not bought again."""
    archive, other = archives
    calls = [
        begin(client.showcase_page(HANDLE, archive=archive)),
        begin(client.showcase_page(HANDLE)),
        begin(client.showcase_page(HANDLE, archive=other)),
        begin(client.showcase_page(HANDLE, archive=other)),
    ]
    await asyncio.sleep(0.1)
    closing = begin(archive.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    first, *joined = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, ArchiveError)
    assert len({page.products for page in joined}) == 1
    assert sim.ledger.requests == 1
    assert len(await held(other, "answers")) == 1


async def test_who_began_a_call_answers_for_it_whatever_ceiling_comes(sim, client, archives):
    """Even after a joiner came and went, and its budgets are no longer those reserved in."""
    one, _ = archives
    async with client.showcases([HANDLE], archive=one) as run:
        outcome = asyncio.create_task(anext(run))
        await asyncio.sleep(0.3)
        joiner = asyncio.create_task(client.showcase_page(HANDLE))
        await asyncio.sleep(0.1)
        joiner.cancel()
        await asyncio.sleep(0.1)
        async with client.showcases(["x"], archive=one, max_credits=50):
            assert (await outcome).usage.charged == run.usage.charged == 1
    assert client.usage.charged == sim.ledger.charged == 1


async def test_what_was_inherited_is_told(sim, client, archives):
    """A caller that inherits a failed attempt, and may not go on, tells what it may have cost."""
    one, _ = archives
    sim.faults = [Fault.status(502, charge=1, times=1)]
    async with client.showcases([], archive=one, max_credits=1):
        beginner = asyncio.create_task(client.showcase_page(HANDLE, archive=one))
        await asyncio.sleep(0.3)
        heir = asyncio.create_task(client.showcase_page(HANDLE, archive=one))
        await asyncio.sleep(0.1)
        beginner.cancel()
        error = await failure(heir, BudgetReachedError)
    assert known(error.usage) == known(client.usage)
    assert error.usage.maybe == sim.ledger.charged == 1


async def test_what_was_inherited_is_told_by_who_joins_again(sim, client):
    """A caller that inherits a failed attempt tells its cost with the page another then buys."""
    sim.faults = [Fault.status(502, charge=1, times=1)]
    shared = Budget(1)
    async with (
        client.showcases([HANDLE], max_credits=shared) as first,
        client.showcases([HANDLE], max_credits=5) as second,
        client.showcases([HANDLE], max_credits=shared) as third,
    ):
        tasks = []
        for run in (first, second, third):
            tasks.append(begin(outcomes_of(run)))
            await asyncio.sleep(0.1)
        await first.aclose()
        (bought,), (inherited,) = await asyncio.gather(*tasks[1:])
        await failure(tasks[0], ClientStateError)
    assert (bought.status, bought.usage.charged, bought.usage.maybe) == ("complete", 1, 0)
    assert (inherited.status, inherited.usage.charged, inherited.usage.maybe) == ("complete", 0, 1)
    assert (known(second.usage), known(third.usage)) == (
        known(bought.usage),
        known(inherited.usage),
    )
    assert (sim.ledger.charged, client.usage.charged, client.usage.maybe) == (2, 1, 1)


async def test_what_a_probe_cost_is_counted_once(sim, client, archives):
    """The page after those on file fails while other callers ask for it too."""
    one, _ = archives
    handle = "long.60products"
    _, (before,) = await run_through(client, [handle], archive=one, max_pages=1)
    sim.faults = [Fault.status(502, charge=1, pages=[2])]
    spent = client.usage

    async def ask():
        while client.usage.requests < 12:
            await failure(
                client.showcase_page(handle, cursor=before.next_cursor), LookupFailedError
            )

    async with client.showcases([handle], archive=one, restart_stale=True) as run:
        outcome = asyncio.create_task(anext(run))
        await asyncio.sleep(0.5)
        asking = asyncio.create_task(ask())
        ended = await outcome
        await asking
    assert known(ended.usage) == known(run.usage)
    assert run.usage.maybe > 0
    assert client.usage.maybe - spent.maybe == sim.ledger.charged - spent.charged
