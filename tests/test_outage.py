"""An API that cannot be reached: waited for, and given up in time."""

import asyncio
import sys
import threading
from functools import partial

import aiohttp
import pytest

from asyncsfk import (
    Archive,
    Client,
    ConnectionFailedError,
    ConnectionLostError,
    Retry,
    RunStoppedError,
    Timeout,
    UnreachableError,
    events,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import KEY, ONCE, client_of, failure, outcomes_of, run_through, turns


def client_at(port, **options):
    """Make a client for whatever is, or will be, at a port."""
    away = type("Away", (), {"url": f"http://127.0.0.1:{port}", "api_key": KEY})
    return client_of(away, **{"retry": Retry(), **options})


def creators(count):
    """Name so many creators of one page each."""
    return (f"c{n}.5products" for n in range(count))


@pytest.mark.parametrize("count", [1, 10, 500, 20_000])
async def test_a_run_ends_once_nothing_was_reached_for_long(port, count):
    """It ends after some minutes, says why and costs nothing, whatever the number of creators."""
    told = []
    now = asyncio.get_running_loop().time
    began = now()
    async with client_at(port, on_event=told.append) as client:
        run, outcomes = await run_through(client, creators(count))
    assert len(outcomes) == count
    assert now() - began < 300 + 60
    assert (run.usage.charged, run.usage.maybe) == (0, 0)
    if count > 1:  # a single one has failed before, after its attempts
        assert isinstance(run.stopped, UnreachableError)
        assert "out of reach for 3" in str(run.stopped)
    assert {outcome.status for outcome in outcomes} <= {"failed", "skipped"}
    assert all(isinstance(outcome.error, ConnectionFailedError) for outcome in outcomes)
    reasons = {event.reason for event in told if isinstance(event, events.Paused)}
    assert reasons
    assert all(f"127.0.0.1:{port}" in reason for reason in reasons)


async def test_calls_alone_end_then_too(port):
    """All calls that wait for the API are told at once; later ones after one attempt."""
    async with client_at(port, concurrency=20) as client:
        calls = [client.showcase_page(f"c{n}") for n in range(200)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(error, UnreachableError) for error in errors) > 150
        assert {error.handle for error in errors} == {f"c{n}" for n in range(200)}
        error = await failure(client.showcase_page("late"), UnreachableError)
        assert (error.attempts, error.usage.charged, error.usage.maybe) == (1, 0, 0)


async def test_an_outage_that_ends_in_time_is_waited_for(port):
    """Creators that had no answer yet get theirs when the API is back, each for one credit."""
    async with client_at(port, concurrency=3) as client:
        running = asyncio.create_task(run_through(client, creators(30)))
        await asyncio.sleep(100)
        async with Simulator(port=port, api_key=KEY, latency=Latency.fixed(1)) as sim:
            run, outcomes = await running
            assert sim.ledger.charged == run.usage.charged == run.progress.complete >= 25
    assert run.stopped is None
    assert {type(outcome.error) for outcome in outcomes if outcome.error} <= {ConnectionFailedError}


async def test_what_lies_between_two_outages_counts(port):
    """A connection that was made begins the count anew."""
    async with client_at(port, retry=Retry(outage=20, attempts=4)) as client:
        for _ in range(3):
            error = await failure(client.showcase_page("x"))
            assert type(error) is ConnectionFailedError
            await asyncio.sleep(15)
            async with Simulator(port=port, api_key=KEY) as sim:
                assert (await client.showcase_page("x.3products")).usage.charged == 1
                assert sim.ledger.charged == 1
        await failure(client.showcase_page("x"), ConnectionFailedError)
        await asyncio.sleep(15)
        await failure(client.showcase_page("x"), UnreachableError)


async def test_an_answer_that_is_lost_between_two_outages_counts(port):
    """It came over a connection, so the API was reached, whatever became of the answer."""
    async with client_at(port, retry=Retry(outage=20, attempts=1)) as client:
        await failure(client.showcase_page("x"), ConnectionFailedError)
        await asyncio.sleep(15)
        async with Simulator(port=port, api_key=KEY, faults=[Fault.close(charged=True)]):
            await failure(client.showcase_page("x"), ConnectionLostError)
        await asyncio.sleep(15)
        assert type(await failure(client.showcase_page("x"))) is ConnectionFailedError


async def test_whoever_wants_to_waits_for_ever(port):
    """Without a limit nothing but the attempts of each call ends it."""
    async with client_at(port, retry=Retry(outage=1e9), concurrency=2) as client:
        run, outcomes = await run_through(client, creators(40))
        assert run.stopped is None
        assert {outcome.status for outcome in outcomes} == {"failed"}


async def test_time_in_which_nobody_tries_is_no_outage(port):
    """A failure long ago says nothing about now: a new call gets the usual patience."""
    async with client_at(port) as client:
        await failure(client.showcase_page("x"), ConnectionFailedError)
        await asyncio.sleep(400)
        running = asyncio.create_task(run_through(client, creators(5)))
        await asyncio.sleep(0.2)
        async with Simulator(port=port, api_key=KEY):
            run, outcomes = await running
    assert run.stopped is None
    assert {outcome.status for outcome in outcomes} == {"complete"}


@pytest.mark.parametrize(("waited", "kind"), [(85, UnreachableError), (95, ConnectionFailedError)])
async def test_attempts_that_are_far_apart_are_two_outages(port, waited, kind):
    """Unless they are only as far apart as our own pauses can make them."""
    async with client_at(port, retry=Retry(attempts=1, outage=50)) as client:
        await failure(client.showcase_page("x"), ConnectionFailedError)
        await asyncio.sleep(waited)
        assert type(await failure(client.showcase_page("x"))) is kind


async def test_attempts_that_each_take_long_are_one_outage(deaf_port):
    """It lasts from the start of the first attempt to the end of the last, however long each is."""
    patient = {"timeout": Timeout(connect=100), "retry": Retry(outage=250, attempts=9)}
    async with client_at(deaf_port, **patient) as client:
        error = await failure(client.showcase_page("x"), UnreachableError)
    assert (error.attempts, error.usage.maybe) == (3, 0)


async def test_time_in_which_the_process_was_stopped_is_no_outage(deaf_port):
    """Stopped in the middle of connecting, it tries again once it goes on."""
    loop = asyncio.get_running_loop()
    async with client_at(deaf_port, retry=Retry(attempts=3)) as client:
        loop.call_later(1, loop.hold_up, 3600)
        error = await failure(client.showcase_page("x"))
    assert (type(error), error.attempts) == (ConnectionFailedError, 3)


async def test_waiting_for_a_borrowed_pool_is_no_outage(port):
    """Another client has its only place for long, and then the first attempt fails."""
    async with (
        Simulator(latency=Latency.fixed(400)) as sim,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
        client_of(sim, session=session, timeout=Timeout(total=500, read=500)) as other,
        client_at(port, session=session, timeout=Timeout(total=500), retry=ONCE) as client,
    ):
        having_it = asyncio.create_task(other.showcase_page("x"))
        await asyncio.sleep(1)
        error = await failure(client.showcase_page("x"))
        await having_it
    assert (type(error), error.attempts) == (ConnectionFailedError, 1)


class SlowToFail(aiohttp.TCPConnector):
    """A connector that tries for longer than it is told to, as one may that looks names up."""

    async def _create_connection(self, *_):
        await asyncio.sleep(200)
        raise OSError("no such name")


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
@pytest.mark.parametrize("count", [1, 5])
async def test_attempts_that_take_longer_than_they_are_told_to_are_one_outage(port, count):
    """Each counts for as long as it was told to try; attempts at the same time count once."""
    async with (
        aiohttp.ClientSession(connector=SlowToFail()) as session,
        client_at(
            port,
            session=session,
            timeout=Timeout(total=500, connect=30),
            retry=Retry(attempts=30, outage=200),
        ) as client,
    ):
        errors = await asyncio.gather(
            *(failure(client.showcase_page(f"c{n}"), UnreachableError) for n in range(count))
        )
    assert max(error.attempts for error in errors) in (5, 6, 7)


async def test_what_is_on_file_needs_no_api(port, tmp_path):
    """Calls that find their answer in an archive are not ended with those that have to buy."""
    handles = [f"c{n}.5products" for n in range(50)]
    async with (
        Simulator(port=port, api_key=KEY) as sim,
        client_of(sim) as client,
        client.showcases(handles, archive=tmp_path / "a.sfk") as run,
    ):
        assert {outcome.status async for outcome in run} == {"complete"}
    async with (
        Archive(tmp_path / "a.sfk") as archive,
        client_at(port, retry=Retry(outage=20)) as client,
    ):
        await asyncio.gather(*map(client.showcase_page, "abc"), return_exceptions=True)
        await asyncio.sleep(60)
        bought, *pages = await asyncio.gather(
            client.showcase_page("new"),
            *(client.showcase_page(handle, archive=archive) for handle in handles),
            return_exceptions=True,
        )
        assert isinstance(bought, UnreachableError)
        assert [page.usage.archived for page in pages] == [1] * len(handles)


OUT_OF_FILES_PROGRAM = """
import asyncio, os, resource
from asyncsfk import Client, ConnectionFailedError, Retry

async def main():
    async with Client("sfk_x", base_url="http://127.0.0.1:9", retry=Retry(attempts=2)) as client:
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
        try:
            await client.showcase_page("x")
        except ConnectionFailedError as error:
            told = error.attempts, error.usage.maybe
    print(*told, len(asyncio.all_tasks()))

asyncio.run(main())
"""


@pytest.mark.real_time
@pytest.mark.skipif(sys.platform == "win32", reason="there it cannot be limited")
async def test_a_program_that_is_out_of_files_tries_again_and_ends_in_order():
    """By then not even a module can be imported any more."""
    program = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", OUT_OF_FILES_PROGRAM], stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(program.communicate(), 60)
    assert (program.returncode, told) == (0, b"2 0 1\n")


@pytest.mark.parametrize("sending", ["own", "own session"])
async def test_a_host_that_no_thread_can_look_up_is_tried_again(monkeypatch, sending):
    """If no thread can be started nothing was sent, and it does not end a run."""
    start, refusals = threading.Thread.start, 0

    def refuse_once(thread):
        nonlocal refusals
        if thread.name.startswith("asyncio") and not refusals:
            refusals += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    options = {"trust_env": True} if sending == "own session" else {}
    async with Simulator(api_key=KEY) as sim:
        url = sim.url.replace("127.0.0.1", "localhost")
        async with Client(KEY, base_url=url, retry=Retry(attempts=2), **options) as client:
            page = await client.showcase_page("x.5products")
    assert (refusals, page.usage.requests, page.usage.charged, page.usage.maybe) == (1, 2, 1, 0)


@pytest.mark.parametrize("now", [False, True])
async def test_a_run_that_is_stopped_as_an_api_is_given_up_stops_nobody_else(port, now):
    """Calls that it shares, and that are being ended for the outage, are told of the outage."""
    loop = asyncio.get_running_loop()

    def on_event(event):
        if isinstance(event, events.RequestFinished) and event.error == "UnreachableError":
            loop.call_soon(partial(run.stop, now=now))

    async with client_at(port, on_event=on_event) as client:
        calls = [asyncio.create_task(client.showcase_page(handle)) for handle in creators(10)]
        await turns(1)
        async with client.showcases(creators(10)) as run:
            outcomes = await outcomes_of(run)
        for call in calls:
            await failure(call, UnreachableError)
    assert len(outcomes) == 10
    assert isinstance(run.stopped, RunStoppedError | UnreachableError)
