"""Leaving a run or a client, by whatever way, leaves nothing behind (see also conftest)."""

import asyncio
import gc
import warnings

import aiohttp
import anyio
import pytest

from asyncsfk import Archive, Budget, Client, ClientStateError, Retry, Timeout, Usage, events
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import (
    EMPTY,
    KEY,
    client_of,
    enveloped,
    failure,
    http,
    ours,
    raw_server,
    running,
    told,
)


@pytest.fixture
async def sim():
    async with Simulator(latency=Latency.uniform(0.1, 1.0)) as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with Client(sim.api_key, base_url=sim.url, concurrency=20) as client:
        yield client


def assert_all_is_counted(sim, usage):
    """Our count covers what the simulator charged, even for answers nobody waited for."""
    assert usage.requests >= sim.ledger.requests
    assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe


async def assert_nothing_is_left(sim, client):
    assert not ours()
    await asyncio.sleep(5)
    began = sim.ledger.requests
    await asyncio.sleep(60)
    assert sim.ledger.requests == began
    assert "closed" in repr(client) or "open, 0 requests in flight" in repr(client)


def forget(only):
    """Drop what only this list holds."""
    only.clear()
    gc.collect()


async def test_by_break(sim, client):
    """Breaking out of the loop ends all work when the `async with` ends."""
    async with client.showcases(sim.handles(1000)) as run:
        async for _ in run:
            break
    assert run.usage.requests < 100
    assert_all_is_counted(sim, run.usage)
    assert run.usage == client.usage
    await assert_nothing_is_left(sim, client)


async def test_by_an_exception_of_the_callers(sim, client):
    """The caller's exception arrives as itself, not in a group, and all work has ended."""
    problem = LookupError("the caller's own")
    with pytest.raises(LookupError) as caught:
        async with client.showcases(sim.handles(1000)) as run:
            async for _ in run:
                raise problem
    assert caught.value is problem
    assert_all_is_counted(sim, run.usage)
    await assert_nothing_is_left(sim, client)


@pytest.mark.parametrize("timeout", [asyncio.timeout, anyio.fail_after])
async def test_by_a_timeout_around_it(sim, client, timeout):
    """A timeout around the run arrives as TimeoutError at its time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with maybe_async(timeout(2.5)), client.showcases(sim.handles(1000)) as run:
            async for _ in run:
                pass
    assert loop.time() - began == pytest.approx(2.5, abs=0.1)
    assert_all_is_counted(sim, run.usage)
    await assert_nothing_is_left(sim, client)


async def test_by_a_timeout_inside_of_it(sim, client):
    """A timeout around the loop alone leaves the run usable until its end."""
    async with client.showcases(sim.handles(200)) as run:
        with anyio.move_on_after(1.5):
            async for _ in run:
                pass
        before = run.progress.done
        async for _ in run:
            pass
        assert before < run.progress.done == 200
    assert run.usage.maybe == 0
    await assert_nothing_is_left(sim, client)


async def test_an_idle_or_closed_client_leaves_no_timer():
    """The timer of its requests neither wakes the event loop nor keeps the client in memory."""

    def timers():
        return [x for x in gc.get_objects() if isinstance(x, asyncio.TimerHandle)]

    async def call():
        await asyncio.gather(*(client.get(f"/v1/x{number}") for number in range(5)))

    before = timers()
    async with told(http(200, enveloped({}), "Connection: close")) as (_, client):
        await call()
        await asyncio.sleep(100)
        assert not [x for x in timers() if x not in before and not x.cancelled()]
        await call()
    assert not [x for x in timers() if x not in before and not x.cancelled()]


async def test_by_cancelling_the_task(sim, client):
    """A cancelled task ends its run and is cancelled, without a group around."""
    runs = []

    async def consume():
        async with client.showcases(sim.handles(1000)) as run:
            runs.append(run)
            async for _ in run:
                pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_all_is_counted(sim, runs[0].usage)
    assert runs[0].usage.maybe > 0
    await assert_nothing_is_left(sim, client)


async def test_by_cancelling_a_task_group(sim, client):
    """A run inside of a cancelled task group ends with it."""
    async with anyio.create_task_group() as group:

        async def consume():
            async with client.showcases(sim.handles(1000)) as run:
                async for _ in run:
                    pass

        group.start_soon(consume)
        await asyncio.sleep(2)
        group.cancel_scope.cancel()
    await assert_nothing_is_left(sim, client)


@pytest.mark.parametrize("keeps", ["one and gives", "one and waits", "all and gives"])
@pytest.mark.parametrize("width", [1, 3, 20])
async def test_a_source_that_keeps_cancellations_to_itself(sim, client, keeps, width):
    """Some versions of `wait_for` and careless code swallow them: still nothing more is bought."""
    found = asyncio.Queue()
    for handle in sim.handles(5):
        found.put_nowait(handle)

    async def handles():
        kept = 0
        while True:
            try:
                yield await found.get()
            except asyncio.CancelledError:
                kept += 1
                if kept > 1 and "one" in keeps:
                    raise
                if "gives" in keeps:
                    yield f"kept{kept}.5products"

    async with client.showcases(handles(), concurrency=width) as run:
        async for _ in run:
            if run.progress.done == 5:
                break
        before = client.usage.requests
    assert client.usage.requests == before
    await assert_nothing_is_left(sim, client)


async def test_by_cancelling_all_tasks_but_the_consumers(sim, client):
    """A program that shuts down like this has its loop over the run end with an error."""
    async with client.showcases(sim.handles(100)) as run:
        async with asyncio.timeout(5):
            with pytest.raises(ClientStateError, match="cancelled from outside"):
                async for _ in run:
                    for task in ours():
                        task.cancel()
    assert run.usage == client.usage
    await assert_nothing_is_left(sim, client)


async def test_by_cancelling_all_tasks_while_handles_are_waited_for(sim, client):
    """A run that was still waiting for handles does not then look complete."""

    async def handles():
        yield "a"
        await asyncio.Event().wait()

    async with client.showcases(handles()) as run:
        assert (await anext(run)).handle == "a"
        for task in ours():
            task.cancel()
        with pytest.raises(ClientStateError, match="cancelled from outside"):
            await anext(run)
    await assert_nothing_is_left(sim, client)


@pytest.mark.parametrize("width", [1, 3])
async def test_by_cancelling_the_task_that_waits_for_a_handle(sim, client, width):
    """The handles end with it, and the run does not look complete."""
    waits = []

    async def handles():
        yield "a"
        waits.append(asyncio.current_task())
        await asyncio.Event().wait()

    async with client.showcases(handles(), concurrency=width) as run:
        assert (await anext(run)).handle == "a"
        await asyncio.sleep(1)
        waits[0].cancel()
        with pytest.raises(ClientStateError, match="cancelled from outside"):
            await anext(run)
    await assert_nothing_is_left(sim, client)


async def test_by_cancelling_a_worker_while_another_waits_for_a_handle(sim, client):
    """The loop over the run ends at once, not with the next handle, which may never come."""
    works = []

    async def handles():
        works.append(asyncio.current_task())
        yield "a"
        await asyncio.Event().wait()

    async with client.showcases(handles(), concurrency=2) as run, asyncio.timeout(60):
        first = asyncio.ensure_future(anext(run))
        await asyncio.sleep(0.02)
        works[0].cancel()
        with pytest.raises(ClientStateError, match="cancelled from outside"):
            await first
    await assert_nothing_is_left(sim, client)


async def test_by_cancelling_all_tasks_of_a_run_that_nobody_reads(sim, client):
    """As `asyncio.run` does at its end: they end, even with a queue full of outcomes."""
    async with client.showcases(sim.handles(100), concurrency=3) as run:
        seen = [await anext(run)]
        await asyncio.sleep(60)
        tasks = ours()
        for task in tasks:
            task.cancel()
        ended, left = await asyncio.wait(tasks, timeout=60)
        assert not left
        # Nor does asyncio complain of an exception that nobody took.
        assert not [task for task in ended if not task.cancelled() and task.exception()]
        with pytest.raises(ClientStateError, match="cancelled from outside"):
            async for outcome in run:
                seen.append(outcome)  # noqa: PERF401 - it raises
        with pytest.raises(ClientStateError, match="cancelled from outside"):
            await anext(run)
    # What had come was handed out.
    assert 4 <= len(seen) <= 7
    await assert_nothing_is_left(sim, client)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("event", [events.PageReceived, events.HandleFinished])
def test_by_ending_the_program_in_a_callback(tmp_path, kind, event):
    """All that surrounds the run is left in order, and what was paid for is on file."""
    left = []

    def on_event(told):
        if isinstance(told, event):
            raise kind

    async def main(sim):
        try:
            async with (
                client_of(sim, on_event=on_event) as client,
                client.showcases(sim.handles(30), archive=tmp_path / "a.sfk") as run,
            ):
                async for _ in run:
                    pass
        finally:
            left.append(client)

    with running() as sim:
        with pytest.raises(kind):
            asyncio.run(main(sim))
        assert [repr(client) for client in left] == ["<asyncsfk.Client closed>"]
        info = Archive(tmp_path / "a.sfk").info()
        assert info.unsettled == 0
        assert_all_is_counted(sim, info.usage)


def test_by_ending_the_program_as_a_request_begins():
    """In a budget that others go on with, its credit ends as maybe, not reserved for ever."""

    def on_event(told):
        if isinstance(told, events.RequestStarted):
            raise KeyboardInterrupt

    async def main(sim):
        async with client_of(sim, on_event=on_event, max_credits=budget) as client:
            await client.showcase_page("mrbeast")

    budget = Budget(5)
    with running() as sim:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main(sim))
        assert sim.ledger.charged <= 1
    assert (budget.reserved, budget.charged, budget.maybe) == (0, 0, 1)


def test_by_another_event_loop_than_the_one_it_ran_in(tmp_path):
    """A run that was left behind when its event loop ended can be closed, and so can its client."""

    async def begin(sim):
        archive = Archive(tmp_path / "a.sfk")
        client = await client_of(sim, concurrency=3).__aenter__()
        run = await client.showcases(sim.handles(30), archive=archive).__aenter__()
        await anext(run)
        return client, run

    async def end(client, run):
        await run.aclose()
        await client.aclose()
        assert "closed" in repr(client)

    with running() as sim, warnings.catch_warnings():
        # From the connections that nobody could close any more.
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(end(*asyncio.run(begin(sim))))
        gc.collect()


def test_by_another_event_loop_than_the_one_that_a_request_has_ended():
    """What ended the loop before it could tell those who wait for the request is not waited for."""

    def on_event(told):
        if isinstance(told, events.RequestStarted):
            raise KeyboardInterrupt

    async def begin(sim):
        only.append(await client_of(sim, on_event=on_event).__aenter__())
        await only[0].showcase_page("mrbeast")

    async def end(client):
        await client.aclose()
        assert (client.budget.reserved, client.budget.maybe) == (0, 1)

    only = []
    with running() as sim:
        loop = asyncio.new_event_loop()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(begin(sim))
        loop.close()
        asyncio.run(end(*only))
        forget(only)


async def test_by_forgetting_the_client(sim):
    """A client that is dropped while it is open is named by a warning; no other says anything."""
    async with aiohttp.ClientSession() as session:
        only = [client_of(sim, session=session)]
        await only[0].open()
        await only[0].showcase_page("a")
        with pytest.warns(ResourceWarning, match=r"^unclosed <asyncsfk\.Client open"):
            forget(only)
    async with client_of(sim):
        pass
    client_of(sim)
    gc.collect()


async def test_by_forgetting_the_archive(tmp_path):
    """An archive that is dropped while it is open is named by a warning: nobody can close it."""
    only = [Archive(tmp_path / "job.sfk")]
    await only[0].open()
    with pytest.warns(ResourceWarning, match=r"^unclosed archive .*job\.sfk$") as caught:
        forget(only)
    # The warning holds what nobody else has any more, so that it can be closed after all.
    await caught.pop().source.aclose()
    async with Archive(tmp_path / "job.sfk") as archive:
        assert archive.is_open
    Archive(tmp_path / "job.sfk")
    del archive
    gc.collect()


async def test_by_closing_the_client_under_a_loop(sim):
    """Asking for more tells what has ended the run; that is not taken for leaving it early."""
    async with client_of(sim, concurrency=3) as client:
        run = client.showcases(sim.handles(100))
        with pytest.raises(ClientStateError, match="inside of its `async with`"):
            await anext(run)
        async with run:
            await anext(run)
            await client.aclose()
            with pytest.raises(ClientStateError, match="or its client was closed"):
                await anext(run)


async def test_leaving_a_run_that_was_waiting_for_its_consumer_sends_nothing(sim):
    """The turn in which the last outcome made room for another begins no further creator."""
    told = []
    async with client_of(sim, on_event=told.append) as client:
        async with client.showcases(sim.handles(10), concurrency=1) as run:
            await anext(run)
            await asyncio.sleep(100)
            await anext(run)
            before = client.usage.requests
        started = [one for one in told if isinstance(one, events.RequestStarted)]
        assert len(started) == before == sim.ledger.requests


async def test_by_forgetting_the_iterator(sim, client):
    """A pages() iterator that is dropped, collected or not, takes nothing with it."""
    async with client.showcases(sim.handles(1000)) as run:
        pages = run.pages()
        await anext(pages)
        del pages
        gc.collect()
        await asyncio.sleep(0)
    assert_all_is_counted(sim, run.usage)
    await assert_nothing_is_left(sim, client)


async def test_by_never_iterating(sim, client):
    """A run that is entered and left without a look costs nothing."""
    async with client.showcases(sim.handles(1000)) as run:
        pass
    assert run.usage.requests == sim.ledger.requests == 0
    with pytest.raises(ClientStateError):
        await anext(run)


async def test_by_closing_the_client(sim):
    """Closing a client ends its runs, and later calls are told so."""
    async with Client(sim.api_key, base_url=sim.url) as client:
        run = await client.showcases(sim.handles(1000)).__aenter__()
        await anext(run)
    with pytest.raises(ClientStateError):
        await anext(run)
    for late in (lambda: client.showcase("x"), lambda: client.showcases(["x"])):
        with pytest.raises(ClientStateError, match="closed"):
            late()
    await client.aclose()
    assert_all_is_counted(sim, client.usage)
    await assert_nothing_is_left(sim, client)


async def test_closing_a_client_ends_a_call_under_way(sim):
    """A caller that waits as the client is closed is told so, and what it may have cost."""
    sim.add_fault(Fault.hang(charged=True))
    async with Client(sim.api_key, base_url=sim.url) as client:
        call = asyncio.create_task(client.showcase_page("mrbeast"))
        await asyncio.sleep(1)
    with pytest.raises(ClientStateError, match="closed under the call") as caught:
        await call
    assert caught.value.usage.maybe == client.usage.maybe == sim.ledger.charged == 1


async def test_a_cancelled_call_is_counted_before_it_returns(sim):
    """A call cancelled under way has its possible cost in the usage, and no task left."""
    sim.add_fault(Fault.hang(charged=True))
    async with Client(sim.api_key, base_url=sim.url) as client:
        with anyio.move_on_after(1):
            await client.showcase_page("mrbeast")
        assert client.usage.maybe == 1
        assert client.usage.requests == 1
        await assert_nothing_is_left(sim, client)


@pytest.mark.parametrize("keeps", [False, True])
async def test_answers_that_wait_for_their_turn_are_not_lost(tmp_path, keeps):
    """Answers that came at once and are unread when all is cancelled are kept too."""
    count, arrived, all_here = 100, 0, asyncio.Event()
    calls, read = [], 0

    async def answer(_head, writer):
        nonlocal arrived
        arrived += 1
        if arrived == count:
            all_here.set()
        await all_here.wait()
        writer.write(EMPTY)

    def cancel_all():
        for call in calls:
            call.cancel()

    def on_event(event):
        nonlocal read
        if isinstance(event, events.RequestFinished):
            read += 1
            if read == 1:
                # At the end of this turn, in which a few are read.
                asyncio.get_running_loop().call_soon(cancel_all)

    async with (
        raw_server(answer, keep=True) as server,
        Archive(tmp_path / "job.sfk", durability="normal") as archive,
        Client(
            KEY,
            base_url=server.url,
            concurrency=count,
            on_event=on_event,
            timeout=Timeout(grace=0),
        ) as client,
    ):
        options = {"archive": archive} if keeps else {}
        calls += [
            asyncio.ensure_future(client.showcase_page(f"creator{number}", **options))
            for number in range(count)
        ]
        await asyncio.wait(calls)
        assert sum(call.cancelled() for call in calls) >= 50
        # In that turn eight are read.
        assert 90 <= client.usage.charged == count - client.usage.maybe
        assert server.hits == client.usage.requests == count
    if keeps:
        pages, usage = await asyncio.to_thread(lambda: (archive.info().answers, archive.usage()))
        assert pages == usage.charged == client.usage.charged


async def test_a_plain_listing_left_early_costs_no_more_than_it_gave(sim, client):
    """Breaking out of a showcase fetches no further page."""
    async for _ in client.showcase("long.200products"):
        break
    await asyncio.sleep(10)
    assert sim.ledger.requests == 1
    async for page in client.showcase("long.200products").pages():
        if page.number == 3:
            break
    assert sim.ledger.requests == 4


async def test_closing_a_client_waits_for_what_a_session_takes_to_give_up(sim):
    """A borrowed session may have a connector that ends a request only after a while."""

    class Connector(aiohttp.TCPConnector):
        async def connect(self, *_, **__):
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(5)

    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=Connector()) as session:
        async with client_of(sim, session=session) as client:
            call = asyncio.create_task(client.showcase_page("x"))
            await asyncio.sleep(1)
            began = loop.time()
        assert loop.time() - began == pytest.approx(5, abs=0.1)
        assert not ours()
        await failure(call, ClientStateError)
    assert client.usage == Usage(requests=1)


async def test_states_are_told_clearly(sim):
    """A client that is not open yet, opened twice or closed says so."""
    client = Client(sim.api_key, base_url=sim.url)
    assert "not opened" in repr(client)
    with pytest.raises(ClientStateError, match="async with"):
        await client.showcase_page("mrbeast")
    async with client:
        assert "open" in repr(client)
        with pytest.raises(ClientStateError, match="only once"):
            await client.__aenter__()
        run = client.showcases(["mrbeast"])
        with pytest.raises(ClientStateError, match="async with"):
            aiter(run)
        async with run:
            with pytest.raises(ClientStateError, match="only once"):
                await run.__aenter__()
    assert "closed" in repr(client)
    with pytest.raises(ClientStateError, match="closed"):
        await client.whoami()
    with pytest.raises(ClientStateError, match="only once"):
        await client.__aenter__()
    await client.aclose()


def test_another_event_loop_is_refused():
    """A client used in another loop than its own says so instead of hanging."""

    async def open_client():
        return await Client("sfk_x", base_url="http://127.0.0.1:9").__aenter__()

    async def use(client):
        with pytest.raises(ClientStateError, match="another event loop"):
            await client.whoami()

    loop = asyncio.new_event_loop()
    try:
        client = loop.run_until_complete(open_client())
        asyncio.run(use(client))
        loop.run_until_complete(client.aclose())
    finally:
        loop.close()


async def test_a_run_is_of_its_clients_event_loop():
    """From the event loop of another thread it can be neither iterated nor closed."""

    async def use(run):
        with pytest.raises(ClientStateError, match="another event loop"):
            await anext(run)
        with pytest.raises(ClientStateError, match="another event loop"):
            aiter(run)
        with pytest.raises(ClientStateError, match="another event loop"):
            await run.aclose()

    async with (
        Simulator() as sim,
        client_of(sim) as client,
        client.showcases(sim.handles(5)) as run,
    ):
        await anext(run)
        await asyncio.to_thread(lambda: asyncio.run(use(run)))
        assert len([outcome async for outcome in run]) == 4


def test_a_run_whose_event_loop_has_ended_is_closed_in_any():
    """Since it can do nothing any more."""

    async def leave():
        client = await Client("sfk_x", base_url="http://127.0.0.1:9").__aenter__()
        return client, await client.showcases(["a"]).__aenter__()

    async def close(client, run):
        await run.aclose()
        with pytest.raises(ClientStateError, match="has ended"):
            await anext(run)
        await client.aclose()

    asyncio.run(close(*asyncio.run(leave())))


def test_a_listing_is_of_its_clients_event_loop():
    """Used in another loop it sends nothing: the connections belong to the client's loop."""

    async def take(listing):
        with pytest.raises(ClientStateError, match="another event loop"):
            await listing.collect()

    async def main():
        async with Simulator() as sim, client_of(sim) as client:
            await client.showcase_page("a")
            for listing in client.showcase("b"), client.reviews(product_id="1"):
                await asyncio.to_thread(lambda listing=listing: asyncio.run(take(listing)))
            assert sim.ledger.requests == 1

            def call():
                with pytest.raises(ClientStateError, match="event loop"):
                    client.showcase("b")
                with pytest.raises(ClientStateError, match="event loop"):
                    client.showcases(["b"])

            await asyncio.to_thread(call)

    asyncio.run(main())


class maybe_async:  # noqa: N801 - reads as a function
    """Enters anyio's scopes, which are sync, as asyncio's timeouts, which are async."""

    def __init__(self, scope):
        self._scope = scope

    async def __aenter__(self):
        if hasattr(self._scope, "__aenter__"):
            return await self._scope.__aenter__()
        return self._scope.__enter__()

    async def __aexit__(self, *exception):
        if hasattr(self._scope, "__aexit__"):
            return await self._scope.__aexit__(*exception)
        return self._scope.__exit__(*exception)


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_run_closed_from_another_task_tells_its_consumer(ordered):
    """A consumer that waits for an outcome while the client is closed elsewhere is told."""
    async with Simulator(faults=[Fault.hang()]) as sim:
        client = await Client(sim.api_key, base_url=sim.url).__aenter__()
        pages = None

        async def consume():
            # The second is done at once, and may have to wait for its turn.
            async with client.showcases(["a", "no handle"], ordered=ordered) as run:
                async for _ in run:
                    pass

        async def consume_pages():
            nonlocal pages
            async with client.showcases(["c"]) as run:
                pages = run.pages()
                await anext(pages)

        tasks = [asyncio.create_task(consume()), asyncio.create_task(consume_pages())]
        await asyncio.sleep(1)
        await client.aclose()
        for task in tasks:
            with pytest.raises(ClientStateError, match="its client was closed"):
                await task


async def test_pages_that_outlive_their_run_end():
    """An iterator kept beyond its run neither hangs nor gives what was left over."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        async with client.showcases(sim.handles(50)) as run:
            pages = run.pages()
            await anext(pages)
        with pytest.raises(ClientStateError, match="ended"):
            await anext(pages)


async def test_an_error_of_a_closed_client_says_what_all_attempts_may_have_cost():
    """A call closed during its backoff or its second attempt tells the first one's cost as well."""
    for seconds in (0.1, 3):
        async with Simulator(faults=[Fault.status(500, times=1), Fault.hang()]) as sim:
            async with Client(sim.api_key, base_url=sim.url, retry=Retry(backoff=1)) as client:
                calls = [asyncio.create_task(client.showcase_page("x")) for _ in range(5)]
                await asyncio.sleep(seconds)
                maybe = sim.ledger.requests
            errors = [await failure(call, ClientStateError) for call in calls]
            assert sum(error.usage.maybe for error in errors) == client.usage.maybe == maybe
            assert {error.handle for error in errors} == {"x"}


@pytest.mark.parametrize("waits_for", ["a place", "a credit"])
async def test_by_thousands_that_wait_in_line(monkeypatch, waits_for):
    """Each of many callers leaves at once, wherever it stands: nobody searches the line for it."""
    compared = 0

    class Place(asyncio.Future):
        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return self is other

        __hash__ = asyncio.Future.__hash__

    count = 2_000
    limits = {"concurrency": 1} if waits_for == "a place" else {"max_credits": Budget(1)}
    async with Simulator(latency=Latency.fixed(10)) as sim, client_of(sim, **limits) as client:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_future", lambda: Place(loop=loop))
        calls = [asyncio.create_task(client.showcase_page(f"c{n}")) for n in range(count)]
        await asyncio.sleep(5)
        compared = 0
        for call in reversed(calls):
            call.cancel()
        await asyncio.wait(calls)
        assert compared < 10 * count
        assert sim.ledger.requests == 1
        monkeypatch.undo()
        assert client.budget.reserved == 0
