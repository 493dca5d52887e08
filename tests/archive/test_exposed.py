"""What is exposed, and what is in the air: the archive's books between two commits."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    ArchiveWriteError,
    Retry,
    RunStoppedError,
    UnavailableError,
    Usage,
    events,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import copied, disk, held, writers_held_up
from tests.support import client_of, failure

#: Room for one request, and not for two.
ONE = (1 << 20) + 150_000
LARGE = 1 << 40


async def test_closing_after_a_lull_waits_for_what_is_in_the_air(sim, client, path):
    """Closing an archive waits for a request that began after everything had landed."""
    archive = Archive(path)
    await archive.open()
    await client.showcase_page("a.5products", archive=archive)
    call = asyncio.create_task(client.showcase_page("b.5products", archive=archive))
    await asyncio.sleep(0.05)
    assert sim.ledger.requests == 2
    async with asyncio.timeout(5):
        await archive.aclose()
    assert (await call).usage.charged == 1
    usage = await held(path, "usage")
    assert (usage.charged, usage.maybe, usage.pages) == (2, 0, 2)


async def test_each_lull_leaves_nothing_at_risk(client, path):
    """Each time all is quiet, it is put on file that nothing is at risk."""
    async with Archive(path) as archive:
        for number in range(3):
            await client.showcase_page(f"c{number}.5products", archive=archive)
            assert (await held(path, "info")).unsettled > 0
            await asyncio.sleep(2)
            assert (await held(path, "info")).unsettled == 0


@pytest.mark.real_time
async def test_what_is_told_of_a_file_is_of_one_moment(client, path):
    """info and plan see one moment: credits charged meanwhile are not lost between two sums."""
    async with Archive(path):
        pass
    ended = threading.Event()

    def charge():
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            while not ended.is_set():
                connection.executescript(
                    "BEGIN IMMEDIATE; "
                    "INSERT INTO attempt (at, route, number, charged, maybe, bytes) "
                    "VALUES (1e9, '/v1/x', 1, 1, 0, 0); "
                    "UPDATE session SET exposed = exposed - 1 WHERE ended IS NULL; "
                    "COMMIT"
                )

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "INSERT INTO attempt (at, route, number, charged, maybe, bytes) "
            "WITH RECURSIVE line (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM line LIMIT 30000) "
            "SELECT 1e9, '/v1/x', 1, 0, 0, 0 FROM line"
        )
        connection.execute(
            "INSERT INTO session (began, pid, host, version, exposed) VALUES (1e9, 1, 'x', '', 1e6)"
        )
        charging = asyncio.create_task(asyncio.to_thread(charge))
        try:
            for _ in range(8):
                info = await held(path, "info")
                assert info.usage.charged + info.unsettled == 1_000_000
                plan = await client.plan(["x"], archive=path, max_credits=1_000_100)
                assert plan.left == 100
        finally:
            ended.set()
            await charging


@pytest.mark.parametrize(("width", "maybe"), [(1, 1), (2, 2), (5, 8)])
async def test_who_dies_has_lost_no_more_than_was_on_its_way(sim, client, path, width, maybe):
    """What a killed process had under way counts as maybe, rounded up to a power of two."""
    async with Archive(path) as archive:
        await client.showcase_page("a.5products", archive=archive)
        calls = [
            asyncio.create_task(client.showcase_page(f"c{n}.5products", archive=archive))
            for n in range(width)
        ]
        await asyncio.sleep(0.05)
        assert sim.ledger.requests == 1 + width
        crashed = await asyncio.to_thread(copied, path, path.parent / "crashed")
        await asyncio.gather(*calls)
    async with Archive(crashed):
        pass
    usage = await held(crashed, "usage")
    assert (usage.charged, usage.maybe) == (1, maybe)


async def test_a_price_that_rises_is_exposed_for_what_is_under_way(sim, client, path):
    """Once a price has risen, a process that dies may have paid it for all it had under way."""
    handles = [f"c{n}.5products" for n in range(11)]
    sim.add_fault(Fault.price(3, handles=handles))
    sim.add_fault(Fault.delay(Latency.fixed(1), handles=[*handles[1:], "other"]))
    async with Archive(path) as archive:
        first, *others = [
            asyncio.create_task(client.showcase_page(handle, archive=archive)) for handle in handles
        ]
        # Another route's price is what it was.
        others.append(asyncio.create_task(client.tiktok_profile("other", archive=archive)))
        await first
        crashed = await asyncio.to_thread(copied, path, path.parent / "crashed")
        assert (sim.ledger.charged, sim.ledger.in_flight) == (34, 11)
        await asyncio.gather(*others)
        await asyncio.sleep(2)
        assert (await held(path, "info")).unsettled == 0
    async with Archive(crashed):
        pass
    usage = await held(crashed, "usage")
    # 30 credits of showcases, one of a profile, and one of what had just landed: being a power of
    # two, that is on file as it is.
    assert (usage.charged, usage.maybe) == (3, 32)


async def test_calls_that_wait_for_the_same_room(monkeypatch, path):
    """Calls that wait for the room of one request are sent one after another; none is refused."""
    free = 100_000
    disk(monkeypatch, lambda _: (LARGE, free))
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        await failure(client.showcase_page("a", archive=archive), ArchiveWriteError)
        free = ONE
        calls = (client.showcase_page(f"c{n}", archive=archive) for n in range(4))
        pages = await asyncio.gather(*calls)
        assert sum(page.usage.charged for page in pages) == sim.ledger.charged == 4
        assert sim.ledger.max_in_flight == 1


async def test_who_waits_for_room_waits_for_a_pause_that_begins_meanwhile(monkeypatch, path):
    """A call that waits for room also waits out a pause begun meanwhile, as nothing is sent yet."""
    disk(monkeypatch, lambda _: (LARGE, ONE))
    async with (
        Simulator(faults=[Fault.status(503, retry_after="10", requests={1})]) as sim,
        client_of(sim, retry=Retry()) as client,
        Archive(path) as archive,
    ):
        calls = (client.showcase_page(f"c{n}", archive=archive) for n in range(3))
        pages = await asyncio.gather(*calls)
        assert sum(page.usage.charged for page in pages) == sim.ledger.charged == 3
        first, *others = sim.ledger
        assert min(entry.started for entry in others) >= first.finished + 10


async def test_who_waits_for_a_commit_waits_for_a_pause_that_begins_meanwhile(path):
    """A call that waits for a commit also waits out a pause, and takes its exposure back for it."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after="10", requests={2})]) as sim,
        client_of(sim, retry=Retry()) as client,
        Archive(path) as archive,
    ):
        await client.showcase_page("x", archive=archive)
        await asyncio.sleep(2)
        with writers_held_up(path):
            waits = asyncio.create_task(client.showcase_page("a", archive=archive))
            await asyncio.sleep(0.05)
            refused = asyncio.create_task(client.showcase_page("b"))
            await asyncio.sleep(1)
            assert sim.ledger.requests == 2
        await asyncio.sleep(5)
        assert (await held(path, "info")).unsettled == 0
        await asyncio.gather(waits, refused)
        _, first, *others = sim.ledger
        assert (first.handle, len(others)) == ("b", 2)
        assert min(entry.started for entry in others) >= first.finished + 10
        assert (await held(path, "usage")).charged == 2


async def test_who_waits_for_a_commit_heeds_a_width_that_shrinks_meanwhile(path):
    """Those for whom there is no place any more queue again, though the pause is over, too."""
    async with (
        Simulator(
            faults=[Fault.status(503, retry_after="1", requests={2})], latency=Latency.fixed(1)
        ) as sim,
        client_of(sim, concurrency=4) as client,
        Archive(path) as archive,
    ):
        await client.showcase_page("x", archive=archive)
        await asyncio.sleep(2)
        with writers_held_up(path):
            waiting = [
                asyncio.create_task(client.showcase_page(f"c{n}", archive=archive))
                for n in range(3)
            ]
            await asyncio.sleep(0.05)
            await failure(client.showcase_page("refused"), UnavailableError)
            await asyncio.sleep(2)
            assert sim.ledger.requests == 2
        await asyncio.gather(*waiting)
        assert sim.ledger.max_in_flight == 2  # half of what the caller allows
        assert sim.ledger.charged == client.usage.charged == 4


async def test_who_waits_for_a_commit_is_not_sent_together_with_others_despite_the_rate(path):
    """Calls that had their turns at the rate, and all waited for one commit, get new turns."""
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        client_of(sim, rate=1) as client,
        Archive(path) as archive,
    ):
        await client.showcase_page("x", archive=archive)
        await asyncio.sleep(2)
        with writers_held_up(path):
            calls = [
                asyncio.create_task(client.showcase_page(f"c{n}", archive=archive))
                for n in range(5)
            ]
            await asyncio.sleep(2.5)
            assert sim.ledger.requests == 1
        await asyncio.gather(*calls)
        starts = [entry.started for entry in sim.ledger]
        assert len(starts) == client.usage.charged == 6
        assert max(sum(start <= each < start + 1 for each in starts) for start in starts) == 2


async def test_who_waited_for_a_commit_and_is_refused_pauses_the_client(path):
    """It was sent after the pause, though it had its place before: its refusal is another one."""
    paused = []
    faults = [
        Fault.status(503, retry_after="1", requests={2}),
        Fault.status(503, requests={3}),
    ]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, concurrency=4, on_event=paused.append) as client,
        Archive(path) as archive,
    ):
        await client.showcase_page("x", archive=archive)
        await asyncio.sleep(2)
        with writers_held_up(path):
            waits = asyncio.create_task(client.showcase_page("a", archive=archive))
            await asyncio.sleep(0.05)
            await failure(client.showcase_page("refused"), UnavailableError)
            await asyncio.sleep(2)
            assert sim.ledger.requests == 2
        await failure(waits, UnavailableError)
        widths = [event.width for event in paused if isinstance(event, events.Paused)]
        assert widths == [2, 1]


async def test_who_waits_for_a_commit_as_the_archive_is_closed_sends_nothing(client, sim, path):
    """Closing waits for what has been sent, and not for what is only about to be."""
    archive = Archive(path)
    await archive.open()
    await client.showcase_page("x", archive=archive)
    await asyncio.sleep(2)
    with writers_held_up(path):
        waits = asyncio.create_task(client.showcase_page("a", archive=archive))
        await asyncio.sleep(0.05)
        end = asyncio.create_task(archive.aclose())
        await asyncio.sleep(0.05)
    error = await failure(waits, ArchiveError)
    assert (error.attempts, error.usage, client.budget.reserved) == (0, Usage(), 0)
    await end
    assert sim.ledger.requests == client.usage.requests == 1
    assert (await held(path, "usage")).maybe == 0


async def test_who_waits_for_room_in_an_archive_that_breaks_sends_nothing(
    monkeypatch, path, tmp_path
):
    """If the archive breaks, calls waiting for room send nothing, since nothing could be kept."""
    disk(monkeypatch, lambda _: (LARGE, ONE))
    async with Simulator(latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        archive = Archive(path)
        await archive.open()
        calls = asyncio.gather(
            *(client.showcase_page(f"c{n}", archive=archive) for n in range(3)),
            return_exceptions=True,
        )
        await asyncio.sleep(0.5)
        path.rename(tmp_path / "moved.sfk")
        first, *others = await calls
        assert isinstance(first, ArchiveWriteError)
        assert first.usage.charged == sim.ledger.charged == sim.ledger.requests == 1
        for error in others:
            assert isinstance(error, ArchiveWriteError)
            assert "moved" in str(error)
            assert (error.usage.charged, error.usage.maybe) == (0, 0)
        await archive.aclose()


async def test_a_call_into_an_archive_that_broke_sends_nothing(client, sim, path, tmp_path):
    """After a failed write, calls into the archive send nothing more."""
    archive = Archive(path)
    await archive.open()
    await client.showcase_page("a", archive=archive)
    path.rename(tmp_path / "moved.sfk")
    error = await failure(client.showcase_page("b", archive=archive), ArchiveWriteError)
    assert (error.usage.charged, sim.ledger.requests) == (1, 2)
    for _ in range(2):
        error = await failure(client.showcase_page("c", archive=archive), ArchiveWriteError)
        assert (error.usage.charged, sim.ledger.requests) == (0, 2)
    # The failed calls have given back their credits and places.
    assert client.budget.reserved == 0
    assert "open, 0 requests in flight" in repr(client)
    await archive.aclose()


async def test_what_has_come_is_told_once_of_a_run_that_stops_before_it_is_kept(path):
    """A stop during the commit counts what an answer was charged once, and no maybe on top."""
    handle, sent, here = "a.5products", asyncio.Event(), asyncio.Event()

    def on_event(event):
        if isinstance(event, events.RequestStarted):
            sent.set()
        elif isinstance(event, events.RequestFinished):
            here.set()

    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, on_event=on_event) as client,
        Archive(path) as archive,
        client.showcases([handle], archive=archive, max_credits=5) as run,
    ):
        iterating = asyncio.create_task(anext(run))
        await sent.wait()
        call = asyncio.create_task(client.showcase_page(handle))
        with writers_held_up(path):
            await here.wait()
            run.stop(now=True)
        outcome, page = await iterating, await call
    assert isinstance(outcome.error, RunStoppedError)
    assert (outcome.usage.requests, outcome.usage.charged, outcome.usage.maybe) == (1, 1, 0)
    assert page.usage.charged == 0
    assert client.usage.charged == sim.ledger.charged == 1


async def test_what_no_commit_could_take_stays_at_risk(sim, client, path, monkeypatch):
    """A failed commit's credits stay at risk, even if the error is unknown and later ones work."""
    connect, failing = sqlite3.connect, False

    def connected(where, *, factory=sqlite3.Connection, **settings):
        class Connection(factory):
            def execute(self, statement, *args):
                if failing and statement == "COMMIT":
                    raise RuntimeError("on purpose")
                return super().execute(statement, *args)

        return connect(where, factory=Connection, **settings)

    monkeypatch.setattr(sqlite3, "connect", connected)
    async with Archive(path) as archive:
        await client.showcase_page("a", archive=archive)
        call = asyncio.create_task(client.showcase_page("b", archive=archive))
        await asyncio.sleep(0.05)
        failing = True
        await failure(call, RuntimeError)
        failing = False
        await client.showcase_page("c", archive=archive)
        await asyncio.sleep(2)
    async with Archive(path):
        pass  # counts what was under way
    usage = await held(path, "usage")
    assert (usage.charged, usage.maybe, sim.ledger.charged) == (2, 1, 3)


@pytest.mark.parametrize("lull", [0, 2])
async def test_who_leaves_before_anything_is_sent_leaves_nothing_at_risk(sim, client, path, lull):
    """A call cancelled while its credit is put on file is free for certain: nothing is at risk."""
    archive = Archive(path)
    await archive.open()
    with writers_held_up(path):
        call = asyncio.create_task(client.showcase_page("a.5products", archive=archive))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
    await asyncio.sleep(lull)
    if lull:
        # If we were killed now, nothing would count as maybe.
        assert (await held(path, "info")).unsettled == 0
    await archive.aclose()
    async with archive:
        pass
    assert await held(path, "usage") == Usage()
    assert sim.ledger.requests == 0


async def test_who_comes_and_goes_while_credits_are_put_on_file(path):
    """What is on file as exposed covers all requests under way, as calls come and go."""
    async with (
        Simulator(latency=Latency.fixed(5)) as sim,
        client_of(sim, concurrency=100) as client,
        Archive(path) as archive,
    ):

        def call(number):
            return asyncio.create_task(client.showcase_page(f"c{number}", archive=archive))

        with writers_held_up(path):
            calls = [call(number) for number in range(17)]
            await asyncio.sleep(0.05)
            for gone in calls[:2]:
                gone.cancel()
            await asyncio.wait(calls[:2])
            calls += [call(17)]
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        calls += [call(number) for number in range(18, 34)]
        await asyncio.sleep(1)
        assert (await held(path, "info")).unsettled >= sim.ledger.requests == 32
        await asyncio.gather(*calls[2:])


async def test_who_waits_for_room_in_an_archive_that_is_closed_at_once(monkeypatch, path):
    """Calls that wait for room end with an ArchiveError if the archive's closing is cancelled."""
    disk(monkeypatch, lambda _: (LARGE, ONE))
    async with Simulator(latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        archive = Archive(path)
        await archive.open()
        calls = [
            asyncio.create_task(client.showcase_page(f"c{n}", archive=archive)) for n in range(3)
        ]
        await asyncio.sleep(0.5)
        ending = asyncio.create_task(archive.aclose())
        await asyncio.sleep(0.01)
        ending.cancel()
        await asyncio.wait({ending})
        async with asyncio.timeout(10):
            first, *others = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(first, ArchiveError)
        assert first.usage.charged == sim.ledger.requests == 1
        for error in others:
            assert isinstance(error, ArchiveError)
            assert (error.usage.charged, error.usage.maybe) == (0, 0)


async def test_a_process_that_died_idle_has_no_line_in_the_ledger(client, path, tmp_path):
    """A process that died idle leaves no line in the ledger: nothing may have been charged."""
    async with Archive(path) as archive:
        await client.showcase_page("a", archive=archive)
        await asyncio.sleep(2)
        async with Archive(copied(path, tmp_path / "killed")) as copy:
            assert [entry.error for entry in await held(copy, "ledger")] == [None]


@pytest.mark.parametrize("is_cut", [False, True])
async def test_no_timer_is_left(sim, path, monkeypatch, is_cut):
    """Once all is closed, no timer is left in the event loop, even if an answer came too late."""
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def watched(*args, **options):
        timers.append(call_at(*args, **options))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", watched)
    async with client_of(sim) as client, Archive(path) as archive:
        call = asyncio.create_task(client.showcase_page("a.5products", archive=archive))
        if is_cut:
            await asyncio.sleep(0.05)
            ending = asyncio.create_task(archive.aclose())
            await asyncio.sleep(0.01)
            ending.cancel()
            await failure(call, ArchiveError)
        else:
            await call
    assert timers
    left = [timer for timer in timers if not timer.cancelled() and timer.when() > loop.time()]
    assert left == []


async def test_what_the_log_holds_has_its_room_taken(monkeypatch, path):
    """Room is kept free for copying the log into the file, beside what is still to land."""
    size = least = 11 << 20

    def free():
        nonlocal least
        left = size - sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
        least = min(least, left)
        return max(0, left)

    disk(monkeypatch, lambda _: (LARGE, free()))
    handles = [f"c{n}.300products" for n in range(200)]
    async with Simulator() as sim, client_of(sim, concurrency=20) as client:
        async with client.showcases(handles, archive=path) as run:
            async for _ in run:
                pass
        assert isinstance(run.stopped, ArchiveWriteError)
        free()
        assert least > 0
        info = await held(path, "info")
        assert info.usage.charged == info.answers == sim.ledger.charged
        assert info.unsettled == 0
