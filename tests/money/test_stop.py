"""`run.stop()`: the loop soon ends, what was sent is handed out, and nothing more is sent."""

import asyncio
from collections import Counter

import pytest

from asyncsfk import Archive, Budget, Retry, RunStoppedError
from asyncsfk.simulator import Fault
from tests.money.accounts import assert_can_go_on, assert_true, creators, good_pages
from tests.support import client_of, outcomes_of, plain, run_through

HANDLES = creators(60)


@pytest.fixture
def page_size():
    return 5


@pytest.fixture
async def client(sim):
    async with client_of(sim, concurrency=10) as client:
        yield client


@pytest.fixture(params=[False, True], ids=["in time", "now"])
def now(request):
    return request.param


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "run.sfk", durability="normal")


@pytest.fixture(params=["plain", "archived"])
def keeping(request, archive):
    return {"archive": archive} if request.param == "archived" else {}


def time():
    return asyncio.get_running_loop().time()


class Stop:
    """Stops a run, and notes when that was and what had been sent by then."""

    def __init__(self, sim, run, *, now=False):
        self._sim = sim
        self._run = run
        self.began = time()
        self.sent = sim.ledger.requests
        self.in_flight = sim.ledger.in_flight
        run.stop(now=now)

    async def assert_obeyed(self, seconds):
        """The run ended within so many seconds of the stop, and nothing was sent after it."""
        assert time() - self.began <= seconds
        assert isinstance(self._run.stopped, RunStoppedError)
        assert self._sim.ledger.requests == self.sent
        await asyncio.sleep(500)
        assert self._sim.ledger.requests == self.sent


def assert_stopped(outcomes):
    """Every outcome that is not complete says that the run was stopped, and where to go on."""
    for outcome in outcomes:
        if outcome.status != "complete":
            assert isinstance(outcome.error, RunStoppedError)
            assert outcome.error.cursor == outcome.next_cursor
            assert (outcome.next_cursor is not None) is (outcome.pages > 0)


@pytest.mark.parametrize("way", ["by the loop", "by a task", "by a task, ordered"])
async def test_in_the_middle(sim, client, now, keeping, way):
    """Creators under way end as partial with a cursor, whoever stops; the rest never begin."""
    outcomes, stops = [], []
    ordered = "ordered" in way
    async with client.showcases(HANDLES, ordered=ordered, **keeping) as run:
        if "task" in way:
            asyncio.get_running_loop().call_later(
                3.5, lambda: stops.append(Stop(sim, run, now=now))
            )
        async for outcome in run:
            outcomes.append(outcome)
            if "loop" in way and len(outcomes) == 7:
                await asyncio.sleep(0.3)
                stops.append(Stop(sim, run, now=now))
        (stop,) = stops
        await stop.assert_obeyed(0 if now else 1.1)
        assert stop.in_flight > 0
        assert len(outcomes) < 40
        assert_true(sim, outcomes)
        assert_stopped(outcomes)
        assert run.usage == client.usage
        assert sum((outcome.usage for outcome in outcomes), type(run.usage)()) == run.usage
        assert run.usage.requests == stop.sent
        if now:
            assert run.usage.maybe == stop.in_flight
            assert run.usage.charged == sum(outcome.pages for outcome in outcomes)
        else:
            # All that was charged was handed out.
            assert run.usage.maybe == 0
            assert sum(outcome.pages for outcome in outcomes) == good_pages(sim)
        assert run.usage.charged + run.usage.maybe == sim.ledger.charged
        if ordered:
            assert [outcome.handle for outcome in outcomes] == HANDLES[: len(outcomes)]
    await assert_can_go_on(sim, client, outcomes)


async def test_it_can_be_gone_on_with(sim, client, archive, now):
    """Running it again buys what is missing, and nothing that was kept."""
    had = lost = 0
    for _ in range(3):
        async with client.showcases(HANDLES, archive=archive) as run:
            loop = asyncio.get_running_loop()
            loop.call_later(4.5, lambda run=run: run.stop(now=now))
            outcomes = await outcomes_of(run)
            assert sum(outcome.usage.archived for outcome in outcomes) <= had
            had += run.usage.charged
            lost += run.usage.maybe
    # What was under way is no outcome on file, but pages.
    info = await asyncio.to_thread(archive.info)
    assert (info.answers, info.partial, info.failed) == (had, 0, 0)
    _, outcomes = await run_through(client, HANDLES, archive=archive)
    assert [outcome.status for outcome in outcomes] == ["complete"] * 60
    assert_true(sim, outcomes)
    assert sum(outcome.usage.archived for outcome in outcomes) == had
    twice = sum(count - 1 for count in sim.ledger.paid_twice().values())
    # Only what was not waited for is bought again.
    assert twice == lost
    assert 0 < lost <= 3 * 10 if now else lost == 0


async def test_before_the_first_iteration(sim, client, now, keeping):
    """Nothing is sent, and the loop ends at once without an outcome."""
    async with client.showcases(HANDLES, **keeping) as run:
        stop = Stop(sim, run, now=now)
        assert await outcomes_of(run) == []
        await stop.assert_obeyed(0)
    assert sim.ledger.requests == 0
    async with client.showcases(HANDLES, **keeping) as run:
        run.stop(now=now)
        assert [page async for page in run.pages()] == []
    assert sim.ledger.requests == 0


async def test_after_the_end(sim, client):
    """A run that has ended can be stopped without harm."""
    async with client.showcases(["a.1products"]) as run:
        (outcome,) = await outcomes_of(run)
        run.stop()
        run.stop(now=True)
        assert await outcomes_of(run) == []
    run.stop()
    assert outcome.status == "complete"
    assert sim.ledger.requests == 1


class Silent:
    """Gives some handles, then makes its consumer wait for ever."""

    def __init__(self, handles):
        self._handles = iter(handles)
        self.asked = asyncio.Event()
        self.left = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        for handle in self._handles:
            return handle
        self.asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.left = True


async def test_while_the_handles_do_not_come(sim, client, now, keeping):
    """A source that hangs is not waited for."""
    source = Silent(["a.3products", "b.12products"])
    async with client.showcases(source, **keeping) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await source.asked.wait()
        await asyncio.sleep(1.5)
        stop = Stop(sim, run, now=now)
        await outcomes
        await stop.assert_obeyed(0 if now else 0.6)
        assert source.left
    assert Counter(o.status for o in outcomes.result()) == {"complete": 1, "partial": 1}


async def test_while_a_generator_of_handles_sleeps(sim, client, now):
    """An async generator that is left in its sleep is closed."""
    closed = []

    async def source():
        try:
            yield "a.3products"
            await asyncio.sleep(1_000_000)
        finally:
            closed.append(True)

    async with client.showcases(source()) as run:
        await anext(run)
        stop = Stop(sim, run, now=now)
        assert await outcomes_of(run) == []
        await stop.assert_obeyed(0)
    assert closed == [True]


async def test_during_a_pause(sim, now, keeping):
    """A pause that the API asked for, however long, is not sat out."""
    sim.add_fault(Fault.status(503, retry_after="100", requests=range(15, 1_000)))
    async with (
        client_of(sim, concurrency=10, retry=Retry()) as client,
        client.showcases(HANDLES, **keeping) as run,
    ):
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(30)
        assert run.progress.paused_for > 60
        stop = Stop(sim, run, now=now)
        await outcomes
        await stop.assert_obeyed(0)
        assert run.usage.charged == sim.ledger.charged
        assert_true(sim, outcomes.result())
        assert_stopped(outcomes.result())
        assert client.budget.reserved == 0
        assert sum(o.usage.requests for o in outcomes.result()) == stop.sent


async def test_between_two_attempts(sim, now, keeping):
    """A wait before a retry ends, and what the attempts before may have cost is told."""
    sim.add_fault(Fault.status(502, charge=1, pages={2}))
    retry = Retry(backoff=1e6, max_backoff=1e6, server_errors=9, attempts=10)
    async with client_of(sim, concurrency=10, retry=retry) as client:
        handles = [f"c{n}.12products" for n in range(10)]
        async with client.showcases(handles, **keeping) as run:
            outcomes = asyncio.create_task(outcomes_of(run))
            await asyncio.sleep(5)
            stop = Stop(sim, run, now=now)
            await outcomes
            await stop.assert_obeyed(0)
            assert_stopped(outcomes.result())
            assert {outcome.status for outcome in outcomes.result()} == {"partial"}
            assert {outcome.usage.maybe for outcome in outcomes.result()} == {1}
            assert run.usage.maybe == client.budget.maybe == 10
        sim.faults = ()
        await assert_can_go_on(sim, client, outcomes.result())


async def test_while_waiting_for_the_rate(sim, now, keeping):
    """Requests that wait for their turn are not sent any more, and hold no credit."""
    async with (
        client_of(sim, concurrency=50, rate=2, burst=1, max_credits=100) as client,
        client.showcases(HANDLES, **keeping) as run,
    ):
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(5.2)
        assert client.budget.reserved > 40
        stop = Stop(sim, run, now=now)
        await outcomes
        await stop.assert_obeyed(0 if now else 1)
        assert client.budget.reserved == 0
        assert client.budget.charged + client.budget.maybe == sim.ledger.charged == stop.sent


async def test_while_waiting_for_credits(sim, client, now):
    """Creators that wait for credits which others have reserved wait no longer."""
    budget = Budget(10)
    held = [budget.reserve(1) for _ in range(7)]
    async with client.showcases(HANDLES, max_credits=budget, concurrency=40) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(20)
        assert (budget.charged, budget.reserved) == (3, 7)
        stop = Stop(sim, run, now=now)
        await outcomes
        await stop.assert_obeyed(0)
    assert (budget.charged, budget.maybe, budget.reserved) == (3, 0, 7)
    assert sum(outcome.pages for outcome in outcomes.result()) == 3
    for reservation in held:
        reservation.release()


@pytest.mark.parametrize("later", range(4))
async def test_as_a_request_that_it_shared_is_left(sim, now, later):
    """A run that is stopped as the other run lets go of a page, for which it waited, too."""
    async with client_of(sim, concurrency=1) as client:
        longer = asyncio.create_task(client.showcase_page("longer"))
        await asyncio.sleep(0.1)
        async with (
            client.showcases(["a"], max_credits=5, concurrency=1) as first,
            client.showcases(["a"], max_credits=5, concurrency=1) as second,
        ):
            outcomes = [asyncio.create_task(outcomes_of(run)) for run in (first, second)]
            await asyncio.sleep(0.1)
            first.stop(now=now)
            for _ in range(later):
                await asyncio.sleep(0)
            stop = Stop(sim, second, now=now)
            (_, (outcome,)) = await asyncio.gather(*outcomes)
            await stop.assert_obeyed(0)
        assert (outcome.status, type(outcome.error)) == ("skipped", RunStoppedError)
        await longer
    assert sim.ledger.requests == 1


async def test_as_it_looks_for_stale_cursors(client, sim, archive, now):
    """The page behind those on file is not bought any more, even if some were just read."""
    handles = ["a.20products", "b.20products"]
    await run_through(client, handles, archive=archive, max_pages=2)
    async with archive, client.showcases(handles[:1], archive=archive, restart_stale=True) as run:

        async def read_and_stop():
            page = await anext(pages)
            return page.usage.archived, Stop(sim, run, now=now)

        # Begun before the run, it reads at the same moments, and has its first page just before.
        pages = client.showcase(handles[1], archive=archive).pages()
        (archived, stop), (outcome,) = await asyncio.gather(read_and_stop(), outcomes_of(run))
        await pages.aclose()
        assert archived == 1
        await stop.assert_obeyed(0.1)
    assert (outcome.status, outcome.usage.archived) == ("partial", 2)
    assert outcome.usage.requests == 0
    assert isinstance(outcome.error, RunStoppedError)


async def test_pages_in_flight_are_handed_out(sim, client, now):
    """Beside pages(), what was sent comes as pages, then each creator's outcome."""
    pages, outcomes, stop = {}, [], None
    async with client.showcases(HANDLES) as run:
        async for page in run.pages(outcomes.append):
            pages.setdefault(page.handle, []).append(page)
            if stop is None and sum(map(len, pages.values())) == 17:
                await asyncio.sleep(0.2)
                stop = Stop(sim, run, now=now)
        await stop.assert_obeyed(0 if now else 1.1)
        assert run.usage.pages == sum(map(len, pages.values()))
        if not now:
            assert run.usage.pages == good_pages(sim) == stop.sent
        assert {outcome.handle for outcome in outcomes} >= set(pages)
        assert_stopped(outcomes)
        for outcome in outcomes:
            had = pages.get(outcome.handle, [])
            assert outcome.pages == len(had)
            products = [product for page in had for product in page.products]
            rest = []
            if outcome.status == "partial":
                listing = client.showcase(outcome.handle, cursor=outcome.next_cursor)
                rest = await listing.collect()
            if had:
                assert plain((*products, *rest)) == sim.showcase(outcome.handle)


async def test_a_slow_consumer_gets_all_that_was_bought(sim, client, keeping):
    """Outcomes that nobody has taken yet are still there after a stop."""
    async with client.showcases(HANDLES, **keeping) as run:
        first = await anext(run)
        await asyncio.sleep(100)
        sent = sim.ledger.requests
        run.stop()
        await asyncio.sleep(100)
        outcomes = [first, *await outcomes_of(run)]
    assert sim.ledger.requests == sent
    assert sum(outcome.pages for outcome in outcomes) == sent
    assert_true(sim, outcomes)


async def test_now_after_all(sim, client, keeping):
    """A stop that waits for answers which do not come can be followed by one that does not."""
    sim.add_fault(Fault.hang(3600, charged=True, requests=range(11, 1_000)))
    async with client.showcases(HANDLES, **keeping) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(3)
        run.stop()
        await asyncio.sleep(20)
        assert not outcomes.done()
        stop = Stop(sim, run, now=True)
        await outcomes
        await stop.assert_obeyed(0)
    assert run.usage.maybe == 10
    assert_stopped(outcomes.result())


async def test_a_profile_is_not_looked_up_any_more(sim, client, keeping):
    """The profile that would explain an empty showcase is not bought after a stop."""
    handles = [f"empty_{n}" for n in range(20)]
    async with client.showcases(handles, verify_empty=True, **keeping) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.5)
        stop = Stop(sim, run)
        await outcomes
        await stop.assert_obeyed(0.6)
    assert {outcome.status for outcome in outcomes.result()} == {"partial"}
    assert {outcome.pages for outcome in outcomes.result()} == {1}
    assert all(isinstance(o.error, RunStoppedError) for o in outcomes.result())


async def test_now_in_the_very_moment_it_begins(sim, client):
    """Creators whose first request is about to be made are told the same as all others."""
    for turns in range(12):
        async with client.showcases(HANDLES) as run:
            outcomes = asyncio.create_task(outcomes_of(run))
            for _ in range(turns):
                await asyncio.sleep(0)
            run.stop(now=True)
            await outcomes
            assert all(isinstance(o.error, RunStoppedError) for o in outcomes.result())
            assert run.usage.maybe <= 10
    assert sim.ledger.requests <= 12 * 10


@pytest.mark.parametrize("archived", [False, True])
async def test_stopped_before_it_is_entered(sim, client, tmp_path, archived):
    """A run that is told to stop before it begins says so, and sends nothing."""
    run = client.showcases(HANDLES, archive=tmp_path / "a.sfk" if archived else None)
    run.stop()
    async with run:
        assert await outcomes_of(run) == []
        assert isinstance(run.stopped, RunStoppedError)
    assert sim.ledger.requests == 0
