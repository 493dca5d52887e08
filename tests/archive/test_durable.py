"""What was handed out is on file: for others to see, and after a crash or a power failure."""

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from asyncsfk import Archive
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import Script, beside, copied, held
from tests.support import client_of, plain, sql

READER = """
import sys
from asyncsfk import Archive

archive = Archive(sys.argv[1])
for line in sys.stdin:
    ids = {page.request_id for page in archive.answers()}
    outcomes = {outcome.handle: outcome.status for outcome in archive.outcomes()}
    print(line.strip() in ids, outcomes.get(line.strip()), flush=True)
"""

SYNCS = """
import asyncio, contextlib, sqlite3, sys

def note(event, args):
    if event == "sqlite3.connect/handle":
        connections.append(args[0])

connections = []
sys.addaudithook(note)
from asyncsfk import Archive

async def main(path, durability):
    async with Archive(path, durability=durability):
        for connection in connections:
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed again
                if connection.execute("PRAGMA fullfsync").fetchone()[0]:
                    print(connection.execute("PRAGMA database_list").fetchone()[2])

asyncio.run(main(*sys.argv[1:]))
"""


def on_file(path, *request_ids):
    """Tell whether answers are in a file, as another connection sees it right now."""
    kept = {request_id for (request_id,) in sql(path, "SELECT request_id FROM page")}
    return kept >= set(request_ids)


def status_on_file(path, handle):
    """Tell a creator's status in a file, as another connection sees it right now."""
    return dict(sql(path, "SELECT handle, status FROM showcase")).get(handle)


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_a_page_is_on_file_when_it_is_handed_out(client, path, durability):
    """At the very moment a call or a listing gives a page, others see it in the file."""
    async with Archive(path, durability=durability) as archive:
        page = await client.showcase_page("a.45products", archive=archive)
        assert on_file(path, page.request_id)
        async for page in client.showcase("b.65products", archive=archive).pages():
            assert on_file(path, page.request_id)
        lookup = await client.tiktok_profile("a", archive=archive)
        assert on_file(path, lookup.request_id)
        reply = await client.get("/v1/tiktok/profiles/c", archive=archive)
        assert on_file(path, reply.request_id)
        async for product in client.showcase("c.25products", archive=archive):
            assert product.id
            count = sql(path, "SELECT count(*) FROM page WHERE handle = 'c.25products'")
            assert count[0][0] >= 1


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_what_only_some_systems_need_to_sync_to_the_disk_is_asked_for(path, durability):
    """Full durability sets SQLite's fullfsync, without which macOS may lose what was synced."""
    with Script(SYNCS, path, durability) as script:
        assert script.result().split() == ([str(path)] if durability == "full" else [])


async def test_only_who_does_not_come_alone_waits_for_company(path):
    """A commit waits 10 ms for others only if a request under way may bring some."""
    latency, look = 0.1, 0.002
    loop = asyncio.get_running_loop()
    async with (
        Simulator(latency=Latency.fixed(latency)) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        started = loop.time()
        for number in range(5):
            await client.tiktok_profile(f"creator{number}", archive=archive)
        # This includes the first exposure, which is written before its request is sent.
        assert loop.time() - started < 5 * (latency + look) + 0.005
        # With another request under way it waits.
        started = loop.time()
        first = asyncio.create_task(client.tiktok_profile("first", archive=archive))
        await asyncio.sleep(latency / 2)
        second = asyncio.create_task(client.tiktok_profile("second", archive=archive))
        await first
        assert loop.time() - started > latency + 0.01
        await second


@pytest.fixture
def commits(monkeypatch):
    """Give a list that grows with each commit to a database."""
    connect, commits = sqlite3.connect, []

    def traced(*args, **settings):
        connection = connect(*args, **settings)
        connection.set_trace_callback(lambda text: text == "COMMIT" and commits.append(text))
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return commits


async def test_pages_are_committed_in_groups(client, path, commits):
    """Pages and outcomes share commits, since a commit takes nearly as long as a request."""
    handles = [f"creator{number}.45products" for number in range(200)]
    async with client.showcases(handles, archive=path, concurrency=50) as run:
        async for _ in run:
            pass
    assert run.usage.charged == 600
    assert len(commits) < (600 + 200) / 20


async def test_who_comes_while_others_wait_for_company_is_in_their_commit(path, commits):
    """Answers that come within 10 ms share one commit, and no second commit follows it."""
    faults = [Fault.delay(Latency.fixed(n * 0.003), handles=[f"c{n}"]) for n in (1, 2)]
    async with (
        Simulator(latency=Latency.fixed(0.1), faults=faults) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        calls = [
            asyncio.create_task(client.tiktok_profile(f"c{n}", archive=archive)) for n in range(3)
        ]
        await asyncio.sleep(0.05)
        commits.clear()
        await asyncio.gather(*calls)
        await asyncio.sleep(0.5)
        assert len(commits) == 1


async def test_fifty_that_come_together_wait_for_nobody_else(path):
    """Fifty writes are committed at once, even with a request under way that may bring more."""
    slow = Fault.delay(Latency.fixed(1), handles=["slow"])
    async with (
        Simulator(latency=Latency.fixed(0.1), faults=[slow]) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        other = asyncio.create_task(client.tiktok_profile("slow", archive=archive))
        await asyncio.sleep(0.5)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.gather(
            *(client.tiktok_profile(f"creator{number}", archive=archive) for number in range(50))
        )
        assert loop.time() - started < 0.1 + 0.001
        assert not other.done()
        await other


async def test_who_finds_all_on_file_hardly_waits_for_company(client, path):
    """A run that finds all its pages on file hardly waits: no request under way may bring more."""
    handles = [f"creator{number}.3products" for number in range(20)]
    loop = asyncio.get_running_loop()
    await client.fetch_showcases(handles, archive=path)
    started = loop.time()
    await client.fetch_showcases(handles, archive=path, concurrency=1)
    # For each creator two looks and one commit, of 2 ms each.
    assert loop.time() - started < 20 * 0.008


async def test_what_cannot_be_on_file_is_not_looked_for(client, path):
    """A new creator's pages are bought without a look at the file, which would take 2 ms each."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with client.showcases(["x.90products"], archive=path) as run:
        await anext(run)
        # Only the outcome waits for company, once.
        assert loop.time() - started < 5 * 0.1 + 0.01 + 0.005


@pytest.mark.parametrize("ordered", [False, True])
async def test_an_outcome_is_on_file_when_it_is_handed_out(sim, client, path, ordered):
    """At the very moment a run gives an outcome, others see it and all its pages in the file."""
    sim.faults = [Fault.status(502, probability=0.2)]
    seen = set()
    async with client.showcases(sim.handles(30), archive=path, ordered=ordered) as run:
        async for outcome in run:
            seen.add(outcome.status)
            assert status_on_file(path, outcome.handle) == outcome.status
            assert on_file(path, *outcome.request_ids)
    assert seen == {"complete", "partial", "failed"}


async def test_pages_are_on_file_when_a_run_hands_them_out(sim, client, path):
    """When run.pages() gives a page or an outcome, others see it in the file already."""
    seen = []

    def look(outcome):
        seen.append(status_on_file(path, outcome.handle) == outcome.status)

    def on_outcome(outcome):
        # In the loop's very next step, since blocking calls below asyncsfk itself are errors.
        asyncio.get_running_loop().call_soon(look, outcome)

    async with client.showcases(sim.handles(30), archive=path) as run:
        async for page in run.pages(on_outcome):
            assert on_file(path, page.request_id)
    assert seen == [True] * 30


async def test_a_follower_gets_a_page_no_earlier(sim, client, path):
    """A caller who joined a call under way gets its page only once it is on file."""
    sim.faults = [Fault.delay(Latency.fixed(1))]

    async def ask():
        page = await client.showcase_page("x.5products", archive=archive)
        return on_file(path, page.request_id)

    async with Archive(path) as archive:
        assert await asyncio.gather(*(ask() for _ in range(5))) == [True] * 5
    assert sim.ledger.requests == 1


async def test_a_page_that_another_paid_for_is_kept_too(sim, client, path):
    """A page bought by a call without an archive is kept in the archive of each who joined it."""
    sim.faults = [Fault.delay(Latency.fixed(1))]
    other = path.with_name("other.sfk")
    async with Archive(path) as mine, Archive(other) as theirs:
        plain = asyncio.create_task(client.showcase_page("x.5products"))
        await asyncio.sleep(0.1)
        pages = await asyncio.gather(
            client.showcase_page("x.5products", archive=mine),
            client.showcase_page("x.5products", archive=theirs),
        )
        for file in (path, other):
            assert sql(file, "SELECT handle FROM page") == [("x.5products",)]
        assert (await plain).products == pages[0].products == pages[1].products
        assert sim.ledger.requests == 1
        again = await client.showcase_page("x.5products", archive=theirs)
        assert again.usage.charged == 0
    # Only the payer is charged: a cost in these ledgers would be counted twice.
    assert (await held(path, "usage")).charged == (await held(other, "usage")).charged == 0
    assert sim.ledger.charged == client.usage.charged == 1


async def test_a_page_that_another_paid_for_keeps_its_id(sim, client, path):
    """A page that another caller paid for is kept with the API's id of the answer."""
    sim.faults = [Fault.delay(Latency.fixed(1))]
    plain = asyncio.create_task(client.showcase_page("x.5products"))
    await asyncio.sleep(0.1)
    async with Archive(path) as archive:
        page = await client.showcase_page("x.5products", archive=archive)
    assert (await plain).request_id == page.request_id
    assert [kept.request_id for kept in await held(path, "answers")] == [page.request_id]


@pytest.mark.real_time
async def test_another_process_sees_it_too(path):
    """Another process can read what was handed out while more is being added."""
    async with (
        Simulator() as sim,
        client_of(sim) as client,
        client.showcases(sim.handles(10), archive=path, concurrency=3) as run,
    ):
        with Script(READER, path) as reader:
            async for outcome in run:
                for request_id in outcome.request_ids:
                    reader.say(request_id)
                    assert reader.line().startswith("True")
                reader.say(outcome.handle)
                assert reader.line() == f"False {outcome.status}"


# --- power failures, played by copies of the files whose end never reached the disk


async def handed_out(path, handles):
    """Fetch showcases; give a copy of the files, and how long the log was at each outcome."""
    async with Simulator() as sim, client_of(sim) as client, Archive(path) as archive:
        log = path.with_name(f"{path.name}-wal")
        async with client.showcases(handles, archive=archive, concurrency=2) as run:
            moments = [
                (log.stat().st_size, outcome.handle, outcome.request_ids) async for outcome in run
            ]
        kept = copied(path, path.parent / "kept")
    assert sorted(size for size, _, _ in moments) == [size for size, _, _ in moments]
    return kept, moments


def offsets(log, page_size):
    """Give where to cut a log: at and around each frame's edge, and here and there between."""
    frame = 24 + page_size
    edges = range(32, len(log) + 1, frame)
    near = {edge + by for edge in edges for by in (-1, 0, 1)} | {0, 1, 31, 33}
    return sorted({at for at in near if at <= len(log)} | set(range(0, len(log), 3_001)))


def assert_whole(path, moments, size, told=""):
    """Fail if a file is damaged, or lacks anything that was handed out up to a log's size."""
    assert sql(path, "PRAGMA integrity_check") == [("ok",)], told
    for at, handle, request_ids in moments:
        if at <= size:
            assert on_file(path, *request_ids), told
            assert status_on_file(path, handle) == "complete", told


@pytest.mark.parametrize("rest", ["cut", "zeros", "noise"])
async def test_nothing_that_was_handed_out_is_lost_with_the_power(tmp_path, rest):
    """Wherever a power failure cuts the log, the file is whole and holds all handed out by then."""
    kept, moments = await handed_out(tmp_path / "job.sfk", ["a.25products", "b", "c.5products"])
    database, log = kept.read_bytes(), kept.with_name(f"{kept.name}-wal").read_bytes()
    ((page_size,),) = sql(copied(kept, tmp_path / "size"), "PRAGMA page_size")
    dice = random.Random(3)
    trial = tmp_path / "trial.sfk"
    beside = tmp_path / "trial.sfk-wal"
    cuts = offsets(log, page_size)
    for size in cuts if rest == "cut" else dice.sample(cuts, 25):
        trial.write_bytes(database)
        missing = len(log) - size
        tail = {"cut": b"", "zeros": bytes(missing), "noise": dice.randbytes(missing)}[rest]
        beside.write_bytes(log[:size] + tail)
        assert_whole(trial, moments, size, f"cut at {size} of {len(log)}, {rest}")
    assert len(cuts) > 40


async def test_after_a_power_failure_a_run_goes_on(tmp_path):
    """After a power failure a run pays only for what the log has lost, and completes all."""
    handles = ["a.25products", "b.5products", "c.45products"]
    kept, moments = await handed_out(tmp_path / "job.sfk", handles)
    log = kept.with_name(f"{kept.name}-wal").read_bytes()
    total = sum(len(request_ids) for _, _, request_ids in moments)
    paid = []
    for number, size in enumerate([0, moments[0][0], moments[1][0] + 9_000, len(log)]):
        copy = copied(kept, tmp_path / str(number))
        copy.with_name(f"{copy.name}-wal").write_bytes(log[:size])
        least = sum(len(request_ids) for at, _, request_ids in moments if at <= size)
        async with Simulator() as sim, client_of(sim) as client:
            async with client.showcases(handles, archive=copy) as run:
                outcomes = [outcome async for outcome in run]
            for outcome in outcomes:
                found = plain(outcome.products)
                assert found == sim.showcase(outcome.handle)
            assert sim.ledger.charged <= total - least
            paid.append(sim.ledger.charged)
    assert paid[0] == total
    assert paid[-1] == 0
    assert sorted(paid, reverse=True) == paid


async def test_a_crash_loses_nothing_that_was_handed_out(sim, client, path, tmp_path):
    """Copies of the files at any moment of a run hold all that was handed out before it."""
    given, lengths = {}, []
    async with client.showcases(sim.handles(24), archive=path, concurrency=3) as run:
        async for outcome in run:
            given[outcome.handle] = outcome.request_ids
            if len(given) % 8 == 0:
                copy = copied(path, tmp_path / str(len(given)))
                told = {request_id for ids in given.values() for request_id in ids}
                assert {page.request_id for page in await held(copy, "answers")} >= told
                async with Archive(copy):
                    pass
                assert {page.request_id for page in await held(copy, "answers")} >= told
                assert sql(copy, "PRAGMA integrity_check") == [("ok",)]
                lengths.append(len(await held(copy, "answers")))
    assert len(lengths) == len(set(lengths)) == 3


async def test_a_copy_that_sqlite_makes_under_a_run(sim, client, path, tmp_path):
    """A copy made by VACUUM INTO during a run holds all given so far, and a run goes on from it."""
    given, copies = {}, {}
    handles = list(sim.handles(24))
    async with client.showcases(handles, archive=path, concurrency=3) as run:
        async for outcome in run:
            given[outcome.handle] = outcome.request_ids
            if len(given) % 8 == 0:
                copy = tmp_path / f"{len(given)}.sfk"
                await asyncio.to_thread(sql, path, f"VACUUM INTO '{copy}'")
                copies[copy] = {request_id for ids in given.values() for request_id in ids}
    bought = []
    for copy, known in copies.items():
        assert beside(copy) == []
        answers = await held(copy, "answers")
        assert {page.request_id for page in answers} >= known
        async with client.showcases(handles, archive=copy) as run:
            assert {outcome.status async for outcome in run} == {"complete"}
        assert run.usage.charged == (await held(path, "info")).answers - len(answers)
        bought.append(run.usage.charged)
    assert bought[0] > bought[1] > bought[2] == 0


async def test_closing_leaves_a_single_file(client, path):
    """Once an archive is closed, its one file holds all; there is nothing beside it."""
    async with Archive(path) as archive:
        await client.showcase_page("x", archive=archive)
        assert beside(path) == ["-lock", "-shm", "-wal"]
    assert beside(path) == []
    assert len(await held(path, "answers")) == 1
    assert beside(path) == []


async def test_a_reader_does_not_keep_what_was_written_out_of_the_file(client, path, tmp_path):
    """A file closed while somebody reads it lacks nothing, and can be copied alone."""
    async with Archive(path) as archive:
        await client.showcase_page("x.5products", archive=archive)
        reader = archive.answers()
        assert await asyncio.to_thread(next, reader, None)
        await client.showcase_page("y.5products", archive=archive)
    alone = tmp_path / "alone.sfk"
    alone.write_bytes(path.read_bytes())
    try:
        assert len(await held(alone, "answers")) == 2
    finally:
        await asyncio.to_thread(reader.close)
    assert len(await held(path, "answers")) == 2
    async with Archive(path):
        pass
    assert beside(path) == []


@pytest.mark.parametrize("who", ["reads", "writes"])
async def test_what_a_killed_commit_left_half_done_is_undone(client, path, tmp_path, who):
    """Readers and writers undo a commit left half done by a kill, such as one of `salvage`."""
    await client.fetch_showcases(["a.45products", "b.5products"], archive=path)
    left = tmp_path / "left.sfk"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # With this, changes are written at once, to the file and to the journal.
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("UPDATE page SET decoded = 0, body = randomblob(100000)")
        shutil.copy(path, left)
        shutil.copy(f"{path}-journal", f"{left}-journal")
        connection.execute("ROLLBACK")
    assert left.read_bytes() != path.read_bytes()
    if who == "writes":
        async with Archive(left):
            pass
    assert await held(left, "outcomes") == await held(path, "outcomes")
    assert (await held(left, "info")).undecodable == 0
    assert beside(left) == []
