"""Leaving with an archive: what was sent has a while to land in it; nothing is left behind."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import AsyncExitStack, closing, suppress

import aiohttp
import anyio
import pytest

from asyncsfk import Archive, ArchiveError, ClientStateError, Retry, Timeout, events
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import beside, copied, held, run_of, writers_held_up
from tests.support import client_of, failure, ours, running, sql, turns

GRACE = 5


@pytest.fixture
async def sim():
    async with Simulator(latency=Latency.uniform(0.5, 2)) as sim:
        yield sim


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    end = time.monotonic() + 5
    while threads() and time.monotonic() < end:
        time.sleep(0.005)
    assert not threads()


def threads():
    """Give the threads of archives."""
    return [one for one in threading.enumerate() if one.name.startswith("asyncsfk")]


class clock:  # noqa: N801 - reads as a function
    """Measures how many seconds of the loop's time something takes."""

    def __enter__(self):
        self._began = asyncio.get_running_loop().time()
        return self

    def __exit__(self, *_):
        self.seconds = asyncio.get_running_loop().time() - self._began


async def assert_all_landed(sim, path):
    """Fail unless every answer that was paid for is on file."""
    usage = await held(path, "usage")
    assert usage.charged == sim.ledger.charged
    assert usage.maybe == 0
    assert len(await held(path, "answers")) == sim.ledger.charged
    assert beside(path) == []


async def by_break(run):
    async with run:
        async for _ in run:
            break


async def by_exception(run):
    with pytest.raises(ZeroDivisionError):
        async with run:
            async for _ in run:
                raise ZeroDivisionError


async def by_timeout(run):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.2), run:
            async for _ in run:
                pass


async def by_scope(run):
    with anyio.move_on_after(1.2) as scope:
        async with run:
            async for _ in run:
                pass
    assert scope.cancelled_caught


async def by_cancel(run):
    async def consume():
        async with run:
            async for _ in run:
                pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(1.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_page(run):
    async with run:
        async for _ in run.pages():
            break


WAYS = [by_break, by_exception, by_timeout, by_scope, by_cancel, by_page]


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
async def test_what_is_in_flight_lands(sim, client, path, leave):
    """However a run is left, the answers on their way arrive in the file first."""
    await leave(client.showcases(sim.handles(200), archive=path))
    assert sim.ledger.in_flight == 0
    assert 20 <= sim.ledger.charged < 100
    await assert_all_landed(sim, path)
    # The next run pays for none of them.
    before = sim.ledger.charged
    run, _ = await run_of(client, sim.handles(30), archive=path, max_pages=1)
    assert run.usage.archived > 0
    assert sim.ledger.paid_twice() == {}
    assert sim.ledger.charged == before + run.usage.charged


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
async def test_nobody_waits_longer_than_the_grace(sim, client, path, leave):
    """What does not land within Timeout.grace is given up, and counted as maybe charged."""
    quick = next(sim.handles(1))
    sim.faults = [
        Fault.delay(Latency.fixed(0), handles={quick}),
        Fault.hang(charged=True, handles=[*sim.handles(40, 1)]),
    ]
    with clock() as took:
        await leave(client.showcases(sim.handles(41), archive=path))
    assert GRACE <= took.seconds <= GRACE + 3
    usage = await held(path, "usage")
    assert usage.maybe >= 19
    assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe
    given_up = [line for line in await held(path, "ledger") if line.error == "CancelledError"]
    assert len(given_up) == usage.maybe
    assert beside(path) == []


async def test_no_grace(path):
    """With grace=0 requests are cancelled at once, as they are without an archive."""
    async with (
        Simulator(faults=[Fault.hang(charged=True, pages={1})]) as sim,
        client_of(sim, timeout=Timeout(grace=0), concurrency=5) as client,
    ):
        with clock() as took:
            await by_cancel(client.showcases(sim.handles(20), archive=path))
    assert took.seconds == pytest.approx(1.2, abs=0.1)
    usage = await held(path, "usage")
    assert usage.maybe == sim.ledger.charged == 5


async def test_without_an_archive_there_is_no_grace(sim, client):
    """Without an archive there is no grace, since nothing can land."""
    sim.faults = [Fault.hang(charged=True)]
    with clock() as took:
        await by_cancel(client.showcases(sim.handles(20)))
    assert took.seconds == pytest.approx(1.2, abs=0.1)


async def test_a_call_that_is_cancelled_lands(sim, client, path):
    """A single call that is cancelled under way returns when its page is on file."""
    sim.faults = [Fault.delay(Latency.fixed(2))]
    async with Archive(path) as archive:
        with clock() as took, anyio.move_on_after(1):
            await client.showcase_page("x.5products", archive=archive)
        assert 2.5 <= took.seconds <= 4.1
        assert len(await held(path, "answers")) == 1
        assert (await client.showcase_page("x.5products", archive=archive)).usage.charged == 0
    assert sim.ledger.requests == 1


async def test_a_call_that_landed_may_be_joined(sim, client, path):
    """A call may join a page that is still landing after its first caller was cancelled."""
    sim.faults = [Fault.delay(Latency.fixed(2))]
    async with Archive(path) as archive:
        first = asyncio.create_task(client.showcase_page("x.5products", archive=archive))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.sleep(0.1)
        page = await client.showcase_page("x.5products", archive=archive)
        assert page.usage.charged == 1
        with pytest.raises(asyncio.CancelledError):
            await first
    assert sim.ledger.requests == 1


async def test_a_call_that_fails_while_it_lands_is_not_tried_again(sim, path):
    """A failed attempt is not retried once its caller has left."""
    sim.faults = [Fault.status(503)]
    async with client_of(sim, retry=Retry()) as patient, Archive(path) as archive:
        with anyio.move_on_after(0.4):
            await patient.showcase_page("x", archive=archive)
    assert sim.ledger.requests == 1
    assert len(await held(path, "ledger")) == 1


async def test_being_cancelled_twice(sim, client, path):
    """A call cancelled twice leaves at once, and its cost is counted as maybe."""
    sim.faults = [Fault.hang(charged=True)]
    async with Archive(path) as archive:
        with clock() as took:
            task = asyncio.create_task(client.showcase_page("x", archive=archive))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.sleep(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert took.seconds == pytest.approx(2, abs=0.1)
    assert (await held(path, "usage")).maybe == sim.ledger.charged == 1


@pytest.mark.real_time
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("blocked", ["-lock", "mode=rwc", "mode=ro"])
async def test_being_cancelled_twice_while_an_archive_is_opened(
    path, monkeypatch, caplog, blocked, fails
):
    """An opening cancelled twice still closes what its thread opens, and logs no error of it."""
    opened, is_blocked, goes_on = [], threading.Event(), threading.Event()
    connect = sqlite3.connect

    def slowly(where, **settings):
        if str(where).endswith(blocked):
            is_blocked.set()
            goes_on.wait()
            if fails:
                raise OSError("on purpose")
        opened.append(connect(where, **settings))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", slowly)
    archive = Archive(path)
    opening = asyncio.create_task(archive.open())
    await asyncio.to_thread(is_blocked.wait)
    for _ in range(2):
        opening.cancel()
        await asyncio.wait({opening}, timeout=0.05)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    while threads():  # noqa: ASYNC110 - they tell nobody
        await asyncio.sleep(0.001)
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    monkeypatch.undo()
    assert beside(path) == []
    async with archive:
        pass
    del opening
    gc.collect()
    assert caplog.messages == []


@pytest.mark.parametrize("grace", [0, 5])
@pytest.mark.parametrize(
    ("since", "sent"), [((), 0), (events.RequestStarted, 10), (events.RequestFinished, 20)]
)
async def test_being_cancelled_at_any_moment(path, grace, since, sent):
    """Whenever a call is cancelled, the archive closes, and its ledger covers what was charged."""
    reached = asyncio.Event()

    def on_event(event):
        if isinstance(event, since):
            reached.set()

    async with (
        Simulator() as sim,
        client_of(sim, timeout=Timeout(grace=grace), on_event=on_event) as client,
    ):
        for number in range(20):
            async with asyncio.timeout(60), Archive(path) as archive:
                call = asyncio.create_task(client.showcase_page(f"c{number}", archive=archive))
                if since:
                    await reached.wait()
                    reached.clear()
                await turns(number)
                call.cancel()
                await asyncio.wait({call})
        assert sim.ledger.requests >= sent
        usage = await held(path, "usage")
        assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe
        assert usage.maybe == client.usage.maybe


async def test_leaving_a_run_soon(sim, client, path):
    """A run left while its first requests are being exposed sends none of them, and closes."""
    async with client.showcases(sim.handles(50), archive=path) as run:
        pulling = asyncio.create_task(anext(run))
        with writers_held_up(path):
            await asyncio.sleep(0.05)
            leaving = asyncio.create_task(run.aclose())
            await turns(10)
            assert not leaving.done()
        await leaving
        await failure(pulling, ClientStateError)
    assert sim.ledger.requests == 0
    await assert_all_landed(sim, path)


async def test_closing_the_client_under_a_run(sim, client, path):
    """Closing a client ends its runs as leaving them does: what was sent lands first."""
    run = await client.showcases(sim.handles(200), archive=path).__aenter__()
    await anext(run)
    await client.aclose()
    await assert_all_landed(sim, path)
    with pytest.raises(ClientStateError):
        await anext(run)


async def test_closing_the_client_ends_all_of_it_at_once(sim, client, path, tmp_path):
    """While one run's request lands as its client closes, no other run or listing buys a page."""
    sim.faults = [Fault.hang(charged=True, handles={"never"})]
    never = await client.showcases(["never"], archive=path).__aenter__()
    other = await client.showcases(sim.handles(200), archive=tmp_path / "other").__aenter__()
    first = asyncio.ensure_future(anext(never))
    await anext(other)
    listing = asyncio.create_task(client.showcase("x.900products").collect())
    await asyncio.sleep(3)
    before = sim.ledger.requests
    with clock() as took:
        await client.aclose()
    assert sim.ledger.requests == before
    assert GRACE <= took.seconds < GRACE + 1
    for ended in (first, listing):
        await failure(ended, ClientStateError)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin eagerly from Python 3.12 on")
async def test_closing_the_client_under_runs_where_tasks_begin_eagerly(client):
    """Closing a client ends its runs even where each end is over as soon as it has begun."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    runs = [await client.showcases(["a"]).__aenter__() for _ in range(3)]
    await client.aclose()
    for run in runs:
        await failure(anext(run), ClientStateError)


async def test_closing_the_client_under_calls(sim, client, path):
    """A closing client lets its calls land for the grace, then ends them with their maybe cost."""
    sim.faults = [Fault.hang(charged=True, handles={"never"})]
    async with Archive(path) as archive:
        calls = [
            asyncio.create_task(client.showcase_page(handle, archive=archive))
            for handle in ("a.5products", "b.5products", "never")
        ]
        await asyncio.sleep(0.4)
        with clock() as took:
            await client.aclose()
        assert took.seconds == pytest.approx(GRACE, abs=0.2)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[2], ClientStateError)
        assert results[2].usage.maybe == 1
    kept = {page.handle for page in await held(path, "answers")}
    assert kept == {"a.5products", "b.5products"}
    assert (await held(path, "usage")).maybe == 1


async def test_closing_the_archive_waits_for_calls(sim, client, path):
    """A closing archive lets calls under way land first, and refuses later ones."""
    archive = Archive(path)
    await archive.open()
    calls = [
        asyncio.create_task(client.showcase_page(f"c{n}.5products", archive=archive))
        for n in range(10)
    ]
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(archive.aclose())
    await asyncio.sleep(0.1)
    assert not closing.done()
    error = await failure(late(client, archive))
    assert isinstance(error, ClientStateError)
    pages = await asyncio.gather(*calls)
    assert [page.usage.charged for page in pages] == [1] * 10
    await closing
    await assert_all_landed(sim, path)


async def late(client, archive):
    await client.showcase_page("late", archive=archive)


@pytest.mark.parametrize("delay", [0, 0.3, 0.9, 1.7, 2.5])
async def test_closing_the_archive_under_a_run(sim, client, path, delay):
    """Closing the archive stops a run: what was sent lands, and each handle has its outcome."""
    archive = Archive(path)
    await archive.open()

    async def close():
        await asyncio.sleep(delay)
        await archive.aclose()

    handles = [*sim.handles(60)]
    async with asyncio.timeout(120):
        closing = asyncio.create_task(close())
        async with client.showcases(handles, archive=archive) as run:
            outcomes = [outcome async for outcome in run]
        await closing
    assert sorted(outcome.handle for outcome in outcomes) == sorted(handles)
    for outcome in outcomes:
        assert outcome.status == "complete" or isinstance(outcome.error, ArchiveError)
    assert isinstance(run.stopped, ArchiveError)
    assert run.usage.pages == sim.ledger.charged
    await assert_all_landed(sim, path)


async def test_closing_the_archive_under_a_run_skips_the_rest(sim, client, path):
    """Handles not yet tried when the archive was closed are skipped, as after any stop."""
    async with (
        Archive(path) as archive,
        client.showcases(sim.handles(60), region="US", archive=archive) as run,
    ):
        outcomes = [await anext(run)]
        await archive.aclose()
        outcomes += [outcome async for outcome in run]
    untried = [outcome for outcome in outcomes if not outcome.usage.requests]
    assert {(outcome.status, outcome.region) for outcome in untried} == {("skipped", "US")}


@pytest.mark.parametrize("first", ["client", "archive"])
async def test_closing_both_in_any_order(sim, path, first):
    """Client and archive may be closed in either order, at once, with calls under way."""
    client, archive = client_of(sim), Archive(path)
    await client.__aenter__()
    await archive.open()
    calls = [asyncio.create_task(client.showcase_page(f"c{n}", archive=archive)) for n in range(5)]
    await asyncio.sleep(0.3)
    closings = [client.aclose, archive.aclose]
    if first == "archive":
        closings.reverse()
    await asyncio.gather(*(close() for close in closings))
    await asyncio.gather(*calls, return_exceptions=True)
    await assert_all_landed(sim, path)
    assert sim.ledger.charged == 5


async def test_closing_twice_at_once(client, path):
    """Two simultaneous closings of an archive both succeed."""
    archive = Archive(path)
    await archive.open()
    call = asyncio.create_task(client.showcase_page("x", archive=archive))
    await asyncio.sleep(0.1)
    await asyncio.gather(archive.aclose(), archive.aclose())
    assert (await call).usage.charged == 1
    await archive.aclose()


async def test_who_comes_second_to_a_closing_of_an_archive(sim, client, path, tmp_path):
    """A closing or opening that comes during a closing waits for its end."""
    archive = Archive(path)
    for number, second in enumerate((archive.aclose, archive.open), 1):
        await archive.open()
        call = asyncio.create_task(client.showcase_page(f"x{number}", archive=archive))
        await asyncio.sleep(0.1)
        first = asyncio.create_task(archive.aclose())
        await asyncio.sleep(0)
        assert not archive.is_open
        await second()
        assert first.done()
        assert len(await held(copied(path, tmp_path / str(number)), "answers")) == number
        assert (await call).usage.charged == 1
    await archive.aclose()
    assert beside(path) == []
    assert sim.ledger.charged == 2


async def test_closing_while_somebody_reads(client, path, tmp_path):
    """On closing, the log goes into the file as soon as a reader has finished its query."""
    async with Archive(path) as archive:
        await client.showcase_page("a", archive=archive)
        reader = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM page").fetchone()
        # While this reads, what comes now is in the log alone.
        await client.showcase_page("b", archive=archive)
        done = threading.Timer(0.2, reader.execute, ["COMMIT"])
        done.start()
    # The file without its log.
    copy = tmp_path / "copy.sfk"
    copy.write_bytes(path.read_bytes())
    done.join()
    reader.close()
    assert len(await held(copy, "answers")) == 2


@pytest.mark.parametrize("turns", range(1, 16, 2))
async def test_a_program_that_ends_while_an_archive_closes(path, turns):
    """An archive whose closing is cancelled with all tasks still closes, and can be reopened."""
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, timeout=Timeout(grace=0)) as client,
    ):
        archive = Archive(path)
        await archive.open()
        call = asyncio.create_task(client.showcase_page("x", archive=archive))
        while sim.ledger.in_flight == 0:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
        end = asyncio.create_task(archive.aclose())
        call.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in ours():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await end
        with pytest.raises(asyncio.CancelledError):
            await call
    async with Archive(path):
        pass
    assert beside(path) == []
    # The call's line was written too: one credit of maybe, and not all that was exposed.
    assert (await held(path, "usage")).maybe == 1


def test_an_archive_whose_event_loop_has_ended(path):
    """An archive whose event loop has ended can be closed in another one, and opened again."""
    archive = Archive(path)
    loop = asyncio.new_event_loop()

    async def leave_open(stack):
        sim = await stack.enter_async_context(Simulator(faults=[Fault.hang()]))
        client = await client_of(sim, timeout=Timeout(grace=0)).__aenter__()
        await archive.open()
        call = asyncio.create_task(client.showcase_page("x", archive=archive))
        while sim.ledger.in_flight == 0:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
        stack.push_async_callback(failure, call)
        stack.push_async_exit(client)

    async def close():
        await archive.aclose()
        assert beside(path) == []
        async with archive:
            pass

    with closing(loop):
        stack = AsyncExitStack()
        loop.run_until_complete(leave_open(stack))
        # The first loop stands still from here on.
        asyncio.run(close())
        loop.run_until_complete(stack.aclose())
    assert beside(path) == []
    assert archive.usage().maybe >= 1


async def test_closing_an_archive_in_another_event_loop(path):
    """An archive cannot be closed in another event loop while its own runs."""
    async with Archive(path) as archive:
        with pytest.raises(ClientStateError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(archive.aclose()))
        assert archive.is_open


@pytest.mark.parametrize("what", ["archive", "client"])
async def test_closing_in_another_event_loop_what_its_own_is_closing(what, path):
    """Even during a closing in its own loop, one in another loop is refused; requests land."""
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(Simulator(latency=Latency.fixed(2)))
        client = await stack.enter_async_context(client_of(sim))
        archive = await stack.enter_async_context(Archive(path))
        call = asyncio.create_task(client.showcase_page("x", archive=archive))
        await asyncio.sleep(1)
        close = (client if what == "client" else archive).aclose
        closing = asyncio.create_task(close())
        await asyncio.sleep(0.1)
        with pytest.raises(ClientStateError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(asyncio.wait_for(close(), 5)))
        await closing
        assert (await call).usage.charged == 1
    await assert_all_landed(sim, path)


def test_what_was_being_closed_as_its_event_loop_ended(path):
    """A closing in another loop does not wait for one whose own loop has ended."""
    loop = asyncio.new_event_loop()

    async def begin(stack):
        sim = await stack.enter_async_context(Simulator(faults=[Fault.hang()]))
        archive = await stack.enter_async_context(Archive(path))
        client = await client_of(sim, timeout=Timeout(grace=0.1)).__aenter__()
        call = asyncio.create_task(client.showcase_page("x", archive=archive))
        while sim.ledger.in_flight == 0:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(client.aclose())
        stack.push_async_callback(asyncio.gather, call, closing, return_exceptions=True)
        # The closing has only just begun.
        await asyncio.sleep(0)
        assert not closing.done()
        return client

    with closing(loop):
        stack = AsyncExitStack()
        client = loop.run_until_complete(begin(stack))
        asyncio.run(asyncio.wait_for(client.aclose(), 5))
        loop.run_until_complete(stack.aclose())


async def test_a_closing_that_is_cancelled_closes(sim, client, path):
    """A closing of an archive that is cancelled has closed it nevertheless."""
    archive = Archive(path)
    await archive.open()
    call = asyncio.create_task(client.showcase_page("x", archive=archive))
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(archive.aclose())
    await asyncio.sleep(0.1)
    closing.cancel()
    with clock() as took, pytest.raises(asyncio.CancelledError):
        await closing
    assert took.seconds < 0.1
    assert beside(path) == []
    # For the file this is as if the process had died.
    async with Archive(path):
        pass
    assert (await held(path, "usage")).maybe >= sim.ledger.charged == 1
    assert "closed" in str(await failure(call, ArchiveError))


async def test_what_a_closed_archive_cannot_take_is_handed_out(client, path):
    """An answer that comes after its archive was closed for good is in the error, with its cost."""
    archive = Archive(path)
    await archive.open()
    call = asyncio.create_task(client.showcase_page("x.5products", archive=archive))
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(archive.aclose())
    await asyncio.sleep(0.1)
    closing.cancel()
    error = await failure(call, ArchiveError)
    assert error.usage.charged == 1
    assert b'"products"' in error.body
    assert error.status == 200
    assert error.request_id.startswith("req_")


async def test_a_run_by_page_that_nobody_reads(sim, client, path):
    """What was sent lands even if the consumer of run.pages() has gone to sleep."""
    async with client.showcases(sim.handles(100), archive=path, concurrency=5) as run:
        pages = run.pages()
        await anext(pages)
        await asyncio.sleep(100)
    await assert_all_landed(sim, path)


async def test_stopping_in_good_order(sim, client, path):
    """run.stop() lets what was sent land and be handed out, and leaves the rest for next time."""
    outcomes = []
    async with client.showcases(sim.handles(100), archive=path) as run:
        async for outcome in run:
            outcomes.append(outcome)
            run.stop()
    assert {outcome.status for outcome in outcomes} <= {"complete", "partial", "skipped"}
    assert sum(outcome.pages for outcome in outcomes) == sim.ledger.charged
    await assert_all_landed(sim, path)
    run, _ = await run_of(client, sim.handles(30), archive=path)
    assert sim.ledger.paid_twice() == {}


async def test_stopping_at_once(sim, client, path):
    """run.stop(now=True) waits for nothing, and the file knows what that may have cost."""
    sim.faults = [Fault.hang(charged=True, pages={2})]
    handles = [f"c{n}.45products" for n in range(10)]
    with clock() as took:
        async with client.showcases(handles, archive=path) as run:
            asyncio.get_running_loop().call_later(10, lambda: run.stop(now=True))
            outcomes = [outcome async for outcome in run]
    assert took.seconds == pytest.approx(10, abs=0.5)
    assert {outcome.status for outcome in outcomes} == {"partial"}
    usage = await held(path, "usage")
    assert (usage.charged, usage.maybe) == (10, 10)
    assert sim.ledger.charged == 20


@pytest.mark.parametrize("first_leaves", [True, False])
async def test_whoever_leaves_last_gets_the_whole_grace(tmp_path, first_leaves):
    """Whoever leaves a shared call last gets the whole grace, whenever the others left."""
    async with (
        Simulator(latency=Latency.fixed(1.6)) as sim,
        Archive(tmp_path / "a.sfk") as archive,
        client_of(sim, timeout=Timeout(grace=1)) as client,
    ):
        one = asyncio.create_task(client.showcase_page("x", archive=archive))
        await asyncio.sleep(0.1)
        if first_leaves:
            one.cancel()
        await asyncio.sleep(0.8)
        two = asyncio.create_task(client.showcase_page("x", archive=archive))
        await asyncio.sleep(0.1)
        if not first_leaves:
            one.cancel()
        two.cancel()
        await asyncio.wait({one, two})
        assert (await held(archive, "usage")).pages == sim.ledger.charged == 1


#: Raises in a callback, in the midst of a request; prints what the simulator charged.
LEAVER = """
import asyncio, sys
from asyncsfk import Client
from asyncsfk.simulator import Simulator

path, when, ending = sys.argv[1:]
endings = [{"exit": SystemExit, "interrupt": KeyboardInterrupt}[ending]]

def on_event(event):
    if type(event).__name__ == when and endings:
        raise endings.pop()

async def main():
    global sim
    async with (
        Simulator() as sim,
        Client(sim.api_key, base_url=sim.url, on_event=on_event) as client,
    ):
        async with client.showcases(["a.5products", "b.5products"], archive=path) as run:
            async for _ in run:
                pass

try:
    asyncio.run(main())
finally:
    print(sim.ledger.charged)
"""


@pytest.mark.real_time
@pytest.mark.parametrize("when", ["RequestStarted", "RequestFinished", "PageReceived"])
@pytest.mark.parametrize("ending", ["exit", "interrupt"])
async def test_a_program_that_ends_itself_ends(tmp_path, when, ending):
    """A program ended by a callback's exception does not hang, and its ledger covers the cost."""
    path = tmp_path / "a.sfk"
    arguments = [sys.executable, "-c", LEAVER, path, when, ending]
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    stdout, _ = await asyncio.wait_for(process.communicate(), 20)
    async with Archive(path):
        pass  # counts what was under way
    usage = await held(path, "usage")
    assert usage.charged <= int(stdout) <= usage.charged + usage.maybe


#: Goes on calling in a thread after the main one has ended; prints the cost and the error.
OUTLIVER = """
import asyncio, sys, threading
from asyncsfk import Archive, ArchiveError, Client
from asyncsfk.simulator import Simulator

begun = threading.Event()

async def call_on(sim):
    async with Client(sim.api_key, base_url=sim.url) as client, Archive(sys.argv[1]) as archive:
        number = 0
        while True:
            await client.showcase_page(f"c{number}.1products", archive=archive)
            begun.set()
            number += 1

async def main():
    async with Simulator() as sim:
        try:
            await call_on(sim)
        except ArchiveError as error:
            print(sim.ledger.charged, error)

threading.Thread(target=asyncio.run, args=[main()]).start()
begun.wait()
"""


@pytest.mark.real_time
async def test_a_thread_that_outlives_the_main_one_is_told(path):
    """A call in a thread that outlives the main one fails, and does not wait for ever."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OUTLIVER, path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        stdout, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    charged, error = stdout.decode().split(" ", 1)
    assert "no thread can be started" in error
    async with Archive(path):
        pass  # counts what was under way
    usage = await held(path, "usage")
    assert usage.charged <= int(charged) <= usage.charged + usage.maybe


@pytest.mark.parametrize("what", ["run", "client"])
async def test_a_cancelled_closing_goes_on_to_its_end(sim, client, path, what):
    """A cancelled closing of a run or a client still waits until that is closed."""
    run = await client.showcases(sim.handles(200), archive=path).__aenter__()
    await anext(run)
    closing = asyncio.create_task((run if what == "run" else client).aclose())
    await asyncio.sleep(0.1)
    assert sim.ledger.in_flight
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert sim.ledger.in_flight == 0
    assert not ours()
    await assert_all_landed(sim, path)


@pytest.mark.parametrize("what", ["run", "client"])
async def test_who_is_cancelled_twice_leaves_a_closing_to_itself(sim, client, path, what):
    """A closing cancelled twice returns at once, and the run or client is closed nevertheless."""
    sim.faults = [Fault.hang()]
    run = await client.showcases(["x"], archive=path).__aenter__()
    pulling = asyncio.create_task(anext(run))
    await asyncio.sleep(0.5)
    closing = asyncio.create_task((run if what == "run" else client).aclose())
    with clock() as took:
        for _ in range(2):
            await asyncio.sleep(1)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert took.seconds == pytest.approx(2, abs=0.1)
    assert sim.ledger.in_flight == 1
    with clock() as took:
        while ours():  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(0.1)
    assert took.seconds == pytest.approx(GRACE - 2, abs=0.5)
    await failure(pulling, ClientStateError)
    assert sim.ledger.in_flight == 0
    assert beside(path) == []


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_closing_whose_tasks_are_all_cancelled_goes_on_to_its_end(path, turns):
    """A closing goes on to its end even if all its tasks are cancelled, begun or not."""
    async with Simulator() as sim, client_of(sim) as client:
        run = await client.showcases(["x.5products"], archive=path).__aenter__()
        await anext(run)
        closing = asyncio.create_task(run.aclose())
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(5):
            for task in {closing, *ours()}:
                task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await closing
        async with asyncio.timeout(5):
            while ours() or threads():  # noqa: ASYNC110 - they tell nobody
                await asyncio.sleep(0.001)
    assert beside(path) == []


@pytest.mark.parametrize("second", ["run", "client"])
async def test_who_comes_second_to_a_closing_waits_for_its_end(sim, client, path, second):
    """A second closing waits until the first has closed the run or the client."""
    run = await client.showcases(sim.handles(200), archive=path).__aenter__()
    await anext(run)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0.1)
    assert sim.ledger.in_flight
    await (run if second == "run" else client).aclose()
    assert sim.ledger.in_flight == 0
    await assert_all_landed(sim, path)
    await closing
    assert not ours()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 40])
async def test_closing_the_client_while_a_run_is_entered(sim, path, turns):
    """A run whose client is closed while it opens its archive lets go of the file."""
    async with client_of(sim) as client:
        entering = asyncio.create_task(client.showcases(["x"], archive=path).__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        ended = (await asyncio.gather(entering, return_exceptions=True))[0]
    assert isinstance(ended, ClientStateError) or ended.stopped is None
    async with Archive(path):
        pass


@pytest.mark.parametrize("turns", [1, 3, 10])
async def test_cancelling_who_enters_a_run(sim, path, turns):
    """A run cancelled while it opens its archive gives its width back."""
    async with client_of(sim, concurrency=2) as client:
        run = client.showcases(["x"], archive=path, concurrency=50)
        entering = asyncio.create_task(run.__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        entering.cancel()
        ended = (await asyncio.gather(entering, return_exceptions=True))[0]
        assert isinstance(ended, asyncio.CancelledError)
        assert run.progress.width == 2
        async with Archive(path):
            pass


@pytest.mark.parametrize("what", ["run", "client"])
async def test_handles_that_close_the_run_which_pulls_them(client, what):
    """A run or client closed by its own source of handles raises, instead of waiting for itself."""

    async def handles():
        yield "x"
        await (run if what == "run" else client).aclose()

    async with client.showcases(handles()) as run:
        with pytest.raises(ClientStateError, match="stop"):
            async for _ in run:
                pass


async def test_closing_in_another_event_loop(client):
    """Closing a client in another event loop is refused, and its calls go on."""

    def close():
        asyncio.run(client.aclose())

    call = asyncio.create_task(client.showcase_page("x"))
    await asyncio.sleep(0.1)
    with pytest.raises(ClientStateError, match="another event loop"):
        await asyncio.to_thread(close)
    assert (await call).usage.charged == 1


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 5, 10])
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "leaves it to the client"])
def test_a_program_that_ends_while_a_client_closes(tmp_path, turns, leaves):
    """A client closes fully even if asyncio.run cancels its closing, perhaps before it began."""
    path = tmp_path / "job.sfk"

    async def work(sim, client):
        async with client, AsyncExitStack() as stack:
            run = await client.showcases(sim.handles(3), archive=path).__aenter__()
            if leaves:
                stack.push_async_exit(run)
            async for _ in run:
                pass

    async def main(sim):
        client = client_of(sim)
        working = asyncio.create_task(work(sim, client))
        await asyncio.sleep(0.05)
        working.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        return client

    with running(latency=Latency.fixed(0.1)) as sim:
        client = asyncio.run(main(sim))
    assert "closed" in repr(client)
    assert beside(path) == []

    async def again():
        async with Archive(path):
            pass

    asyncio.run(again())


async def test_a_hook_of_a_borrowed_session_that_closes_the_client(sim):
    """A session's hook that closes the client or run is refused, instead of waiting for itself."""
    trace, caught = aiohttp.TraceConfig(), []

    async def hook(*_):
        for closed in client, run:
            try:
                await closed.aclose()
            except ClientStateError as error:
                caught.append(error)

    trace.on_request_start.append(hook)
    async with (
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session) as client,
        client.showcases(["x.5products"]) as run,
    ):
        outcome = await anext(run)
    assert outcome.status == "complete"
    assert len(caught) == 2


async def test_one_archive_that_cannot_be_closed_leaves_the_others_their_grace(sim, tmp_path):
    """If one archive fails to close with its client, the other runs and calls still land."""
    good, bad = tmp_path / "good.sfk", tmp_path / "bad.sfk"
    async with aiohttp.ClientSession() as session, client_of(sim, session=session) as client:
        runs = [
            await client.showcases(names, archive=path).__aenter__()
            for path, names in ((bad, ["a", "b"]), (good, ["c", "d", "e"]))
        ]
        pulling = [asyncio.ensure_future(anext(run)) for run in runs]
        call = asyncio.create_task(client.showcase_page("x"))
        while sim.ledger.requests < 6:  # noqa: ASYNC110 - it has none
            await asyncio.sleep(0.01)
        # From now on nothing can be written into this archive.
        sql(bad, "DROP TABLE session")
        with pytest.raises(ArchiveError):
            await client.aclose()
        await asyncio.gather(*pulling, call, return_exceptions=True)
        assert not ours()
    usage = await held(good, "usage")
    paid = [entry.charged for entry in sim.ledger if entry.handle in {"c", "d", "e"}]
    assert len(paid) >= 3
    assert (usage.charged, usage.maybe) == (sum(paid), 0)
