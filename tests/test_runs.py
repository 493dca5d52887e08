"""Runs over many creators: outcomes, order, duplicates, limits, and what stops them."""

import asyncio
import gc
import sys
from collections import Counter
from contextlib import aclosing, nullcontext
from contextvars import ContextVar

import aiohttp
import anyio
import msgspec
import pytest

from asyncsfk import (
    Archive,
    Client,
    ClientStateError,
    ForbiddenError,
    InsufficientCreditsError,
    InvalidArgumentError,
    LookupFailedError,
    LookupStatus,
    ShowcasePage,
    UnauthorizedError,
)
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.support import SHOWCASE, client_of, outcomes_of, plain, run_through


@pytest.fixture
async def sim():
    async with Simulator(latency=Latency.uniform(0.1, 0.5)) as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with Client(sim.api_key, base_url=sim.url, concurrency=20) as client:
        yield client


async def test_outcomes_come_as_each_creator_is_done(client):
    """A long showcase does not hold the short ones up."""
    handles = ["long.400products", *(f"short{n}.3products" for n in range(30))]
    async with client.showcases(handles) as run:
        order = [outcome.handle async for outcome in run]
    assert order[-1] == "long.400products"
    assert Counter(order) == Counter(handles)


async def test_outcomes_come_in_input_order_if_asked(sim, client):
    """With ordered=True each outcome waits for those before it, and none is lost."""
    handles = ["long.400products", *sim.handles(100), "last.100products", "x.1products"]
    async with client.showcases(handles, ordered=True) as run:
        outcomes = [outcome async for outcome in run]
    assert [outcome.handle for outcome in outcomes] == handles
    for outcome in outcomes:
        assert plain(outcome.products) == sim.showcase(outcome.handle)


async def test_ordered_outcomes_survive_failures_and_duplicates(sim, client):
    """Order holds when some creators fail, come twice or are not handles at all."""
    sim.add_fault(Fault.status(404, handles={"c"}))
    given = ["a", "b", "A", "c", "..", "@b", "d", ""]
    async with client.showcases(given, ordered=True) as run:
        outcomes = [(outcome.handle, outcome.status) async for outcome in run]
    expected = [("a", "complete"), ("b", "complete"), ("c", "failed"), ("..", "failed")]
    assert outcomes == [*expected, ("d", "complete"), ("", "failed")]
    assert run.progress.duplicates == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin eagerly from Python 3.12 on")
async def test_ordered_outcomes_and_duplicates_where_tasks_begin_eagerly(client):
    """Of a handle that comes twice the first one counts, though a worker begins within another."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with client.showcases(["a", "b", "c", "@B", "@A"], ordered=True) as run:
        assert [outcome.handle async for outcome in run] == ["a", "b", "c"]


async def test_each_distinct_handle_is_fetched_once(sim, client):
    """Duplicates, in whatever form, are passed over and counted."""
    given = ["mrbeast", "@MrBeast", "https://tiktok.com/@mrbeast", "other", "MRBEAST"]
    async with client.showcases(given) as run:
        handles = [outcome.handle async for outcome in run]
    assert sorted(handles) == ["mrbeast", "other"]
    assert run.progress.duplicates == 3
    assert sim.ledger.hits("mrbeast", cursor=None) == 1


async def test_bad_handles_are_told_apart(client):
    """Each has its own outcome, even if two differ only at their ends."""
    bad = [f"{'no good ' * 20}{number}" for number in range(3)]
    async with client.showcases([*bad, *bad]) as run:
        assert [outcome.status async for outcome in run] == ["failed"] * 3
    assert run.progress.duplicates == 3


async def test_what_is_no_text_is_told_apart(client):
    """Rows of a table given by mistake each have an outcome, even if they begin alike."""
    rows = [{"region": "US", "title": "no handle " * 20, "id": number} for number in range(3)]
    alike = [[1], "[1]"]
    async with client.showcases([*rows, *rows, *alike]) as run:
        assert [outcome.status async for outcome in run] == ["failed"] * 5
    assert run.progress.duplicates == 3


async def test_without_dedupe_each_is_fetched(client):
    """With dedupe=False a handle that comes twice has two outcomes."""
    async with client.showcases(["x.1products", "y", "x.1products"], dedupe=False) as run:
        handles = [outcome.handle async for outcome in run]
    assert sorted(handles) == ["x.1products", "x.1products", "y"]


async def test_fetch_showcases_keeps_the_input_order(sim, client):
    """One outcome for each input, in its place; duplicates share theirs."""
    given = ["b", "", "a", "@B", "x/y", "a"]
    outcomes = await client.fetch_showcases(given)
    assert [outcome.handle for outcome in outcomes] == ["b", "", "a", "b", "x/y", "a"]
    assert outcomes[0] is outcomes[3]
    assert outcomes[2] is outcomes[5]
    assert sim.ledger.requests == sum(
        o.usage.requests for o in {id(o): o for o in outcomes}.values()
    )
    assert await client.fetch_showcases([]) == []


async def test_handles_may_come_from_anywhere(client):
    """Lists, generators, sets and async generators of handles all do."""

    async def slowly():
        for n in range(50):
            await asyncio.sleep(0.01)
            yield f"creator{n}"

    names = [f"creator{n}" for n in range(50)]
    for handles in (names, (name for name in names), set(names), slowly(), dict.fromkeys(names)):
        async with client.showcases(handles, max_pages=1) as run:
            assert sorted([outcome.handle async for outcome in run]) == sorted(names)
    assert sorted(o.handle for o in await client.fetch_showcases(slowly())) == sorted(names)


@pytest.mark.parametrize("handles", ["mrbeast", b"mrbeast", None, 5])
async def test_a_single_handle_is_no_list_of_handles(client, handles):
    """A string in place of a list is refused, not fetched letter by letter."""
    with pytest.raises(InvalidArgumentError, match="iterable of handles"):
        client.showcases(handles)
    with pytest.raises(InvalidArgumentError, match="iterable of handles"):
        await client.fetch_showcases(handles)


@pytest.mark.parametrize(
    "options",
    [
        {"max_pages": 0}, {"max_pages": True}, {"max_pages": 1.5}, {"concurrency": 0},
        {"concurrency": -1}, {"region": ""}, {"region": 5}, {"max_credits": 0},
    ],
    ids=str,
)  # fmt: skip
async def test_bad_options_are_refused(client, options):
    """A limit that is not a count, or a region that is not text, is refused at once."""
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        client.showcases(["mrbeast"], **options)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt])
async def test_an_exception_of_the_handles_arrives_after_the_outcomes_before_it(
    sim, client, kind, error
):
    """An exception of the source of handles ends the run unchanged, and loses no outcome."""
    problem = error("the file is gone")

    def source():
        yield from sim.handles(30)
        raise problem

    async def async_source():
        for handle in source():
            yield handle

    outcomes = []
    with pytest.raises(error, match="the file is gone") as caught:
        async with client.showcases(source() if kind == "sync" else async_source()) as run:
            async for outcome in run:
                outcomes.append(outcome)  # noqa: PERF401
    assert caught.value is problem
    assert {outcome.handle for outcome in outcomes} == set(sim.handles(30))


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_nothing_is_pulled_once_the_handles_have_ended(sim, client, kind, is_over):
    """Not even from a source that could go on: what it then gave would be bought in vain."""

    class Source:
        given = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.given += 1
            if self.given == 3 and not is_over:
                raise OSError("the file is gone")
            if self.given == 3 or self.given > 9:
                raise StopIteration
            return f"c{self.given}"

    class AsyncSource:
        def __init__(self):
            self.source = Source()

        def __aiter__(self):
            return self

        async def __anext__(self):
            # Longer than a creator takes: several wait for the next one.
            await asyncio.sleep(1)
            try:
                return next(self.source)
            except StopIteration:
                raise StopAsyncIteration from None

    source = Source() if kind == "sync" else AsyncSource()
    outcomes = []
    with nullcontext() if is_over else pytest.raises(OSError, match="the file is gone"):
        async with client.showcases(source, max_pages=1) as run:
            async for outcome in run:
                outcomes.append(outcome.handle)  # noqa: PERF401 - it may raise
    assert sorted(outcomes) == ["c1", "c2"]
    assert sim.ledger.requests == 2


@pytest.mark.parametrize("last", range(60, 68))
async def test_nothing_is_pulled_from_many_handles_once_they_have_broken(sim, client, last):
    """Not even by a worker that was letting the event loop turn meanwhile."""

    class Source:
        given = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.given += 1
            if self.given == last:
                raise OSError("the file is gone")
            return f"c{self.given}" if self.given > last else "c"

    outcomes = []
    with pytest.raises(OSError, match="the file is gone"):
        async with client.showcases(Source(), max_pages=1) as run:
            async for outcome in run:
                outcomes.append(outcome.handle)  # noqa: PERF401 - it may raise
    assert outcomes == ["c"]
    assert sim.ledger.requests == 1


async def test_what_the_handles_raised_is_told_though_the_run_is_closed_first(client):
    """A consumer that waits for an outcome by then is told why there is none."""

    async def handles():
        yield "a"
        raise OSError("the file is gone")

    async with client.showcases(handles()) as run:
        waiting = asyncio.ensure_future(anext(run))
        await asyncio.sleep(0.05)
        await run.aclose()
        with pytest.raises(OSError, match="the file is gone"):
            await waiting


async def test_as_many_creators_as_the_run_is_told_are_worked_on_at_once(sim, client):
    """And no more, whatever width the client has."""
    async with client.showcases(sim.handles(20), concurrency=3) as run:
        async for _ in run:
            assert run.progress.started - run.progress.done <= 3
    assert sim.ledger.max_in_flight == 3


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_handles_are_pulled_in_one_context(sim, client, kind):
    """A source may bind context variables around its `yield`, as loggers and tracers do."""
    batch = ContextVar("batch", default=0)
    seen = []

    def source():
        for number, handle in enumerate(sim.handles(30)):
            token = batch.set(number)
            yield handle
            seen.append(batch.get())
            batch.reset(token)

    async def async_source():
        for handle in source():
            await asyncio.sleep(0.1)
            yield handle

    async with client.showcases(source() if kind == "sync" else async_source()) as run:
        outcomes = [outcome async for outcome in run]
    assert len(outcomes) == 30
    assert seen == [*range(30)]
    assert batch.get() == 0


async def test_a_failure_of_one_creator_disturbs_no_other(sim, client):
    """Failed first pages, failed later pages and good ones stay apart."""
    sim.add_fault(Fault.status(502, charge=1, handles={"first.90products"}))
    sim.add_fault(Fault.status(500, handles={"third.90products"}, pages={3}))
    failed, partial, good = await client.fetch_showcases(
        ["first.90products", "third.90products", "good.90products"]
    )
    assert (failed.status, partial.status, good.status) == ("failed", "partial", "complete")
    assert isinstance(failed.error, LookupFailedError)
    assert failed.usage.maybe == 3
    assert partial.pages == 2
    assert plain(partial.products) == sim.showcase("third.90products")[:40]
    assert partial.error.cursor == partial.next_cursor
    assert good.error is None
    assert good.raise_for_error() is good
    with pytest.raises(LookupFailedError):
        failed.raise_for_error()

    sim.faults = ()
    rest = await client.showcase("third.90products", cursor=partial.next_cursor).collect()
    assert plain((*partial.products, *rest)) == sim.showcase("third.90products")


async def test_max_pages_cuts_each_creator_short(client):
    """A creator cut by max_pages is complete, and says where to go on."""
    outcomes = await client.fetch_showcases(["a.90products", "b.15products"], max_pages=2)
    assert [outcome.status for outcome in outcomes] == ["complete", "complete"]
    assert [outcome.pages for outcome in outcomes] == [2, 1]
    assert outcomes[0].next_cursor is not None
    assert outcomes[1].next_cursor is None
    rest = await client.showcase("a.90products", cursor=outcomes[0].next_cursor).collect()
    assert len(rest) == 50


async def test_an_outcome_says_what_it_cost_and_by_which_requests(sim, client):
    """Usage, request ids and region of an outcome are those of its pages."""
    (outcome,) = await client.fetch_showcases(["a.50products"], region="GB")
    assert (outcome.usage.requests, outcome.usage.charged, outcome.usage.maybe) == (3, 3, 0)
    assert (outcome.usage.pages, outcome.usage.products) == (3, 50)
    assert len(set(outcome.request_ids)) == 3
    assert outcome.region == "GB"
    assert {entry.region for entry in sim.ledger} == {"GB"}
    assert plain(outcome.products) == sim.showcase("a.50products", "GB")


@pytest.mark.parametrize("archived", [False, True])
async def test_every_outcome_has_the_region(sim, tmp_path, archived):
    """Even outcomes for which nothing was asked have it, as it would have been sent."""
    archive = tmp_path / "a.sfk" if archived else None
    async with client_of(sim, max_credits=1, concurrency=1) as client:
        handles = ["no good", "a.1products", "b", "c"]
        outcomes = await client.fetch_showcases(handles, region="gb", archive=archive)
        assert [outcome.status for outcome in outcomes[:2]] == ["failed", "complete"]
        async with client.showcases(handles, region="gb", archive=archive) as run:
            outcomes += [outcome async for outcome in run]
    assert "skipped" in {outcome.status for outcome in outcomes}
    assert {outcome.region for outcome in outcomes} == {"GB"}


async def test_an_empty_showcase_is_explained_if_asked(client):
    """verify_empty spends one more credit on an empty creator, and none on the others."""
    handles = ["empty_a", "private_b", "unknown_c", "good.5products"]
    outcomes = await client.fetch_showcases(handles, verify_empty=True)
    assert [outcome.account_status for outcome in outcomes] == [
        LookupStatus.FOUND,
        LookupStatus.PRIVATE,
        LookupStatus.NOT_FOUND,
        None,
    ]
    assert [outcome.usage.charged for outcome in outcomes] == [2, 2, 2, 1]
    # The ids of both answers: to dispute a charge one needs its id.
    assert [len(set(outcome.request_ids)) for outcome in outcomes] == [2, 2, 2, 1]
    assert {outcome.status for outcome in outcomes} == {"complete"}
    plain = await client.fetch_showcases(handles)
    assert [outcome.account_status for outcome in plain] == [None] * 4


async def test_a_failed_explanation_leaves_a_partial_outcome(sim, client):
    """When the profile cannot be looked up, the outcome says so and keeps what it has."""
    sim.add_fault(Fault.status(502, routes={Route.TIKTOK_PROFILE}))
    (outcome,) = await client.fetch_showcases(["empty_a"], verify_empty=True)
    assert outcome.status == "partial"
    assert outcome.pages == 1
    assert isinstance(outcome.error, LookupFailedError)
    assert outcome.usage.charged == 1
    assert outcome.usage.maybe == 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, UnauthorizedError), (402, InsufficientCreditsError), (403, ForbiddenError)],
)
async def test_an_account_wide_refusal_stops_the_run(sim, client, status, kind):
    """After 401, 402 or 403 creators under way become partial or failed, the rest is skipped."""
    sim.add_fault(
        Fault.status(status, requests=range(60, 10_000), checkout_url="https://pay.test/")
    )
    async with client.showcases(sim.handles(500)) as run:
        outcomes = [outcome async for outcome in run]
    assert len(outcomes) == 500
    statuses = Counter(outcome.status for outcome in outcomes)
    assert statuses["complete"] >= 1
    assert statuses["skipped"] >= 400
    # Only what was under way met the refusal.
    assert sim.ledger.requests <= 60 + 20
    assert isinstance(run.stopped, kind)
    for outcome in outcomes:
        if outcome.status == "complete":
            continue
        assert isinstance(outcome.error, kind)
        assert outcome.error.handle == outcome.handle
        if outcome.status == "skipped":
            assert outcome.usage.requests == 0
        if outcome.status == "partial":
            assert outcome.next_cursor is not None
            got = plain(outcome.products)
            assert got == sim.showcase(outcome.handle)[: len(got)]
    assert run.usage.charged == sim.ledger.charged
    assert run.usage.maybe == 0


async def test_a_refusal_is_told_to_those_that_wait_in_line():
    """The run's waiting requests are not sent just to be refused too; other calls' are."""
    now = asyncio.get_running_loop().time
    async with (
        Simulator(latency=Latency.fixed(1), faults=[Fault.status(401, times=1)]) as sim,
        client_of(sim, rate=0.1, burst=1) as client,
        client.showcases([f"c{n}.5products" for n in range(20)]) as run,
    ):
        began = now()
        ending = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.5)
        other = asyncio.create_task(client.showcase_page("x.5products"))
        outcomes = await ending
        assert now() - began < 2
        assert Counter(outcome.status for outcome in outcomes) == {"failed": 1, "skipped": 19}
        for outcome in outcomes:
            assert isinstance(outcome.error, UnauthorizedError)
            assert outcome.error.handle == outcome.handle
        assert len((await other).products) == 5
        assert sim.ledger.requests == 2


async def test_a_refusal_of_a_run_takes_no_request_from_who_waits_for_it_too():
    """A call that had joined the run's request is sent: the API may well answer it."""
    async with (
        Simulator(latency=Latency.fixed(1), faults=[Fault.status(401, times=1)]) as sim,
        client_of(sim, rate=0.1, burst=1) as client,
        client.showcases(["a.5products", "b.5products"], ordered=True) as run,
    ):
        ending = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.5)
        call = asyncio.create_task(client.showcase_page("b.5products"))
        refused, _ = await ending
        assert isinstance(refused.error, UnauthorizedError)
        assert len((await call).products) == 5
    assert sim.ledger.requests == 2


async def test_a_refusal_ends_what_runs_wait_for_together():
    """Requests that only refused runs share are not sent one by one just to be refused too."""
    now = asyncio.get_running_loop().time
    handles = [f"c{n}.5products" for n in range(20)]
    async with (
        Simulator(latency=Latency.fixed(1), faults=[Fault.status(402)]) as sim,
        client_of(sim, rate=0.1, burst=1) as client,
    ):
        began = now()
        runs = await asyncio.gather(*(run_through(client, handles) for _ in range(2)))
        assert now() - began < 2
        assert sim.ledger.requests == 1
    for run, outcomes in runs:
        assert isinstance(run.stopped, InsufficientCreditsError)
        assert sorted(outcome.handle for outcome in outcomes) == sorted(handles)
        assert all(isinstance(outcome.error, InsufficientCreditsError) for outcome in outcomes)


async def test_credits_that_run_out_say_where_to_buy_more():
    """A balance that is used up in the middle of a run loses nothing that was bought."""
    async with (
        Simulator(credits=50) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=10) as client,
    ):
        outcomes = await client.fetch_showcases(sim.handles(100))
        error = next(outcome.error for outcome in outcomes if outcome.status == "skipped")
        assert isinstance(error, InsufficientCreditsError)
        assert error.checkout_url.startswith("https://")
        assert client.usage.charged == sim.ledger.charged == 50
        assert sum(outcome.pages for outcome in outcomes) == 50


async def test_pages_stream_with_their_creators(sim, client):
    """pages() hands out every page once, in order within a creator, and outcomes after them."""
    handles = [*sim.handles(60), "..", "long.200products"]
    sim.add_fault(Fault.status(404, handles={handles[7]}))
    outcomes = {}
    pages = {}
    async with client.showcases(handles) as run:

        def note(outcome):
            assert outcome.handle not in outcomes
            outcomes[outcome.handle] = outcome
            assert outcome.pages == len(pages.get(outcome.handle, []))

        async for page in run.pages(note):
            assert isinstance(page, ShowcasePage)
            assert page.handle not in outcomes
            pages.setdefault(page.handle, []).append(page)
    assert set(outcomes) == set(handles)
    for handle, outcome in outcomes.items():
        assert outcome.products == ()
        got = pages.get(handle, [])
        assert [page.number for page in got] == list(range(1, len(got) + 1))
        if outcome.status == "complete":
            products = [product.to_dict() for page in got for product in page.products]
            assert products == sim.showcase(handle)
    assert {h for h, o in outcomes.items() if o.status == "failed"} == {"..", handles[7]}
    assert run.progress.failed == 2


async def test_a_timeout_around_the_next_result_loses_nothing(sim, client):
    """A consumer that waits for a while at a time, for outcomes or pages, gets them all."""
    sim.add_fault(Fault.delay(Latency.fixed(3)))
    handles = ["a.45products", "b.45products", "c.5products"]

    async def follow(results):
        came, waits = 0, 0
        while True:
            try:
                async with asyncio.timeout(1):
                    await anext(results)
            except TimeoutError:
                waits += 1
            except StopAsyncIteration:
                return came, waits > 0
            else:
                came += 1

    async with client.showcases(handles) as run:
        assert await follow(run) == (3, True)
    async with client.showcases(handles) as run:
        assert await follow(run.pages()) == (7, True)
    assert (client.usage.charged, client.usage.maybe) == (14, 0)


async def test_closed_pages_end_and_the_run_can_be_taken_up_again(client):
    """What closes or breaks an iterator of pages, as it would a generator, leaves the run alone."""
    async with client.showcases(["a.45products"]) as run:
        async with aclosing(run.pages()) as pages:
            assert (await pages.asend(None)).number == 1
        assert [page async for page in pages] == []
        broken = run.pages()
        with pytest.raises(ZeroDivisionError):
            await broken.athrow(ZeroDivisionError)
        assert [page async for page in broken] == []
        last = run.pages()
        assert [page.number async for page in last] == [2, 3]
    # At their end they stay there, while the run itself refuses to be asked.
    assert [page async for page in last] == []


async def test_pages_without_a_callback_counts_failures(client):
    """Without on_outcome the progress still tells how many creators failed."""
    async with client.showcases(["..", "a.1products"]) as run:
        pages = [page async for page in run.pages()]
    assert len(pages) == 1
    assert (run.progress.failed, run.progress.complete) == (1, 1)


async def test_an_exception_of_on_outcome_arrives_as_itself(sim, client):
    """An exception of the callback ends the iteration unchanged."""
    with pytest.raises(ZeroDivisionError):
        async with client.showcases(sim.handles(50)) as run:
            async for _ in run.pages(lambda _: 1 // 0):
                pass


async def test_outcomes_and_pages_do_not_mix(sim, client):
    """A run streams either outcomes or pages."""
    async with client.showcases(sim.handles(5)) as run:
        await anext(run)
        with pytest.raises(ClientStateError, match="not both"):
            await anext(run.pages())
    async with client.showcases(sim.handles(5)) as run:
        await anext(run.pages())
        with pytest.raises(ClientStateError, match="not both"):
            aiter(run)


async def test_a_finished_run_stays_finished(sim, client):
    """Asking a run for more after its end ends at once, for any number of consumers."""
    async with client.showcases(sim.handles(30)) as run:

        async def consume():
            return [outcome async for outcome in run]

        lists = await asyncio.gather(consume(), consume(), consume())
        assert sum(len(outcomes) for outcomes in lists) == 30
        assert [outcome async for outcome in run] == []


async def test_progress_tells_where_a_run_stands(sim, client):
    """Progress and usage can be read at any time, and end at the truth."""
    handles = list(sim.handles(100))
    await asyncio.sleep(100)
    began = asyncio.get_running_loop().time()
    async with client.showcases(handles) as run:
        assert run.progress.total == 100
        assert run.progress.done == 0
        seen = []
        async for _ in run:
            seen.append(run.progress)
            assert f"{run.progress.done} of 100 done" in repr(run)
        assert [p.done for p in seen] == sorted(p.done for p in seen)
        assert max(p.in_flight for p in seen) <= 20
        final = run.progress
    assert final.complete == final.started == final.done == 100
    assert final.usage == run.usage == client.usage
    assert final.usage.charged == sim.ledger.charged
    assert final.elapsed == asyncio.get_running_loop().time() - began
    line = msgspec.json.encode(final)
    assert msgspec.json.decode(line, type=type(final)) == final
    assert msgspec.json.decode(line)["inFlight"] == final.in_flight
    await asyncio.sleep(100)
    await run.aclose()
    assert run.progress.elapsed == final.elapsed
    async with client.showcases(iter(handles)) as run:
        assert run.progress.total is None
        assert "0 of ? done, 0 under way" in repr(run)
    async with client.showcases([]) as run:
        assert "0 of 0 done" in repr(run)


async def test_nothing_of_a_run_that_was_left_is_under_way(sim, client):
    """A log line about a run that was left early does not say that it goes on."""
    async with client.showcases(sim.handles(100)) as run:
        await anext(run)
        assert "done, 0 under way" not in repr(run)
    assert repr(run) == f"<ShowcaseRun {run.progress.done} of ? done, ended>"


async def test_a_slow_consumer_slows_the_fetching(sim, client):
    """If nobody takes outcomes, only as many requests are made as there is room for."""
    async with client.showcases((f"c{n}.1products" for n in range(10_000)), concurrency=5) as run:
        await anext(run)
        await asyncio.sleep(1000)
        assert sim.ledger.requests <= 1 + 5 + 5 + 1
        await anext(run)
        await asyncio.sleep(1000)
        assert sim.ledger.requests <= 2 + 5 + 5 + 1


async def test_runs_side_by_side_share_the_client(sim, client):
    """Two runs at once keep their own usage, and the client's is their sum."""
    async with (
        client.showcases(sim.handles(40)) as one,
        client.showcases(sim.handles(40, start=40)) as other,
        anyio.create_task_group() as group,
    ):
        for run in (one, other):
            group.start_soon(drain, run)
    assert one.usage.pages > 0
    assert one.usage + other.usage == client.usage
    assert sim.ledger.max_in_flight <= 20


async def drain(run):
    async for _ in run:
        pass


@pytest.mark.parametrize("archive", [None, "job.sfk"])
async def test_requests_leave_nothing_to_the_garbage_collector(sim, client, tmp_path, archive):
    """A request's objects die with it; in cycles they would wait for the collector, and pile up."""
    gc.collect()
    gc.disable()
    try:
        kept = None if archive is None else tmp_path / archive
        async with client.showcases(sim.handles(200), archive=kept) as run:
            outcomes = [outcome.status async for outcome in run]
        assert outcomes == ["complete"] * 200
        assert gc.collect() < len(outcomes)
    finally:
        gc.enable()


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_timeout_inside_of_the_handles_is_told(ordered):
    """An iterator that cancels its consumer does not make creators vanish silently."""

    async def handles():
        try:
            async with asyncio.timeout(0.5):
                for n in range(100):
                    yield f"c{n}.5products"
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pass

    outcomes = 0
    async with (
        Simulator(latency=Latency.fixed(10)) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
        client.showcases(handles(), ordered=ordered) as run,
    ):
        with pytest.raises(ClientStateError, match="PEP 789") as caught:
            async for _ in run:
                outcomes += 1
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert outcomes == run.progress.started - 1


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_cancellation_inside_of_the_handles_is_an_error_of_theirs(asynchronous):
    """A source of handles that raises CancelledError does not make a run look complete."""

    async def handles():
        yield "a"
        raise asyncio.CancelledError

    def plain_handles():
        yield "a"
        raise asyncio.CancelledError

    outcomes = []
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        with pytest.raises(asyncio.CancelledError):
            async with client.showcases(handles() if asynchronous else plain_handles()) as run:
                async for outcome in run:
                    outcomes.append(outcome.handle)  # noqa: PERF401
    assert outcomes == ["a"]


@pytest.mark.real_time
async def test_handles_that_need_no_work_leave_the_loop_to_others():
    """Duplicates without end can be left by a timeout."""

    def handles():
        while True:
            yield "mrbeast"

    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), client.showcases(handles()) as run:
                async for _ in run:
                    pass


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_bug_in_a_hook_of_a_borrowed_session_ends_a_run(ordered):
    """It reaches the consumer as it is, and not in a group; whatever was sent is counted."""
    trace = aiohttp.TraceConfig()

    async def hook(*_):
        if sim.ledger.requests == 30:
            raise ZeroDivisionError

    trace.on_request_start.append(hook)
    async with (
        Simulator(latency=Latency.uniform(0.1, 0.5)) as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session, concurrency=10) as client,
    ):
        async with client.showcases(sim.handles(100), max_pages=1, ordered=ordered) as run:
            # It would not seem to be at its end if it were asked again.
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    await outcomes_of(run)
        assert sim.ledger.charged == run.usage.charged + run.usage.maybe == 30


async def test_a_stopped_run_verifies_nothing():
    """After a 402 no profile is looked up, so nothing more is spent."""
    faults = [
        Fault.status(402, handles={"bad"}),
        Fault.delay(Latency.fixed(1), handles={"bad"}),
        Fault.delay(Latency.fixed(2), handles={"empty_0", "empty_1", "empty_2"}),
    ]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        handles = ["bad", "empty_0", "empty_1", "empty_2"]
        outcomes = await client.fetch_showcases(handles, verify_empty=True)
        assert sim.ledger.hits(route=Route.TIKTOK_PROFILE) == 0
        assert {type(outcome.error).__name__ for outcome in outcomes} == {
            "InsufficientCreditsError"
        }
        # Each is told for itself, and of what was not asked.
        assert [outcome.error.handle for outcome in outcomes] == handles
        assert [outcome.error.route for outcome in outcomes] == [
            SHOWCASE,
            *[Route.TIKTOK_PROFILE] * 3,
        ]


async def test_a_failed_look_up_keeps_the_place_to_go_on():
    """When verify_empty fails, next_cursor still leads to the next page."""
    faults = [
        Fault.empty_page_with_more(times=1),
        Fault.status(502, routes={Route.TIKTOK_PROFILE}),
    ]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        (outcome,) = await client.fetch_showcases(["x.30products"], max_pages=1, verify_empty=True)
        assert outcome.status == "partial"
        assert isinstance(outcome.error, LookupFailedError)
        rest = await client.showcase("x.30products", cursor=outcome.next_cursor).collect()
        assert len(rest) == 30


@pytest.mark.parametrize("is_kept", [False, True])
async def test_progress_counts_each_creator_once(path, is_kept):
    """By its status, with an archive or without; duplicates are counted apart."""
    faults = [
        Fault.status(400, handles=["partial.45products"], pages={2}),
        Fault.status(403, handles=["failed"]),
    ]
    handles = ["a.5products", "no handle", "partial.45products"]
    handles = [*handles, *handles, "failed", "skipped", "skipped", "A.5Products"]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        options = {"archive": path} if is_kept else {}
        run, outcomes = await run_through(client, handles, concurrency=1, **options)
    progress = run.progress
    counts = Counter(outcome.status for outcome in outcomes)
    assert counts == {"complete": 1, "partial": 1, "failed": 2, "skipped": 1}
    assert counts == {status: getattr(progress, status) for status in counts}
    assert (progress.started, progress.done, progress.duplicates) == (5, 5, 5)
    assert (progress.total, progress.usage) == (10, run.usage)


async def test_progress_can_be_read_from_another_thread():
    """The thread of a progress bar may ask a run how far it has come."""
    async with (
        Simulator() as sim,
        Client(sim.api_key, base_url=sim.url) as client,
        client.showcases(sim.handles(5)) as run,
    ):
        async for _ in run:
            progress = await asyncio.to_thread(lambda: (run.progress, repr(run)))
            assert progress[0].done >= 1


@pytest.mark.parametrize("value", ["false", 0, 1, None])
@pytest.mark.parametrize("name", ["verify_empty", "ordered", "dedupe", "refresh", "restart_stale"])
async def test_a_flag_is_true_or_false(sim, client, tmp_path, name, value):
    """A word from a settings file is refused: `"false"` would be true, and buy all afresh."""
    path = tmp_path / "a.sfk"
    with pytest.raises(InvalidArgumentError, match=name):
        client.showcases(["x"], archive=path, **{name: value})
    async with Archive(path) as archive:
        if name == "refresh":
            with pytest.raises(InvalidArgumentError, match=name):
                await client.showcase_page("x", archive=archive, refresh=value)
    assert sim.ledger.requests == 0


async def test_stop_takes_true_or_false(client):
    """A word is refused."""
    async with client.showcases(["x"]) as run:
        with pytest.raises(InvalidArgumentError, match="now"):
            run.stop(now="false")
        assert [outcome.status async for outcome in run] == ["complete"]


async def test_a_width_beyond_all_bounds_is_refused(sim, client):
    """Before it can become the client's width, for every run after it."""
    with pytest.raises(InvalidArgumentError, match="concurrency"):
        client.showcases(["x"], concurrency=10**400)
    async with client.showcases(["x"], concurrency=10) as run:
        assert [outcome.handle async for outcome in run] == ["x"]
    assert sim.ledger.requests > 0
