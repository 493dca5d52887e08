"""A great many creators: memory grows neither in a run nor in reading what it kept."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import pytest

from asyncsfk import Archive, Outcome
from asyncsfk.simulator import Simulator
from tests.archive.support import ROOT, held, read_now, run_of
from tests.support import Grown, client_of, sql

pytestmark = pytest.mark.large

MIB = 1024 * 1024
IO = Path("/proc/self/io")


def names(count):
    return (f"c{number}.5products" for number in range(count))


async def fetch(path, handles):
    """Put small creators on file; give the run and how much memory it took."""
    async with (
        Simulator(keep_entries=10) as sim,
        client_of(sim, concurrency=50) as client,
        Archive(path, durability="normal") as archive,
    ):
        with Grown() as grown:
            async with client.showcases(handles, archive=archive) as run:
                async for _ in run:
                    pass
    return run, grown


def key_of(handle):
    """Give the key by which an archive finds a creator's first page."""
    target = f"/v1/tiktok/profiles/{handle}/showcase-products"
    return blake2b(target.encode(), digest_size=16).digest()


@pytest.fixture
async def multiply(path):
    """Put a hundred creators on file; give a function that makes many more of them there."""
    await fetch(path, names(100))

    def multiply(times):
        with closing(sqlite3.connect(path)) as connection:
            connection.create_function("key_of", 1, key_of)
            handle = "replace(made.handle, '.', :number || '.')"
            part_of = f"(SELECT id FROM showcase WHERE showcase.handle = {handle})"  # noqa: S608
            for table in ("showcase", "page", "attempt"):
                columns = connection.execute(f"PRAGMA table_info({table})")
                names = [name for _, name, *_ in columns if name != "id"]
                changed = {"handle": handle, "key": f"key_of({handle})", "part_of": part_of}
                values = ", ".join(changed.get(name, name) for name in names)
                connection.executemany(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} "  # noqa: S608
                    f"FROM {table} AS made WHERE id <= 100",
                    [{"number": f"_{number}"} for number in range(times - 1)],
                )
            connection.commit()

    return multiply


def many(count):
    """Name the creators that are on file after so many multiplications."""
    yield from names(100)
    for number in range(count - 1):
        yield from (name.replace(".", f"_{number}.") for name in names(100))


async def test_a_run_with_an_archive_remembers_nothing(path, multiply):
    """A run's memory does not grow with its handles, although duplicates are told apart."""
    multiply(40)
    handles = [*many(40)]
    peaks = []
    for count in (1_000, 4_000):
        run, grown = await fetch(path, iter(handles[:count]))
        assert run.progress.complete == run.usage.archived == count
        assert run.usage.requests == 0
        peaks.append(grown.peak)
    assert peaks[1] <= peaks[0] + 0.25 * MIB


async def test_a_run_that_fills_an_archive_keeps_nothing_in_memory(path):
    """Memory does not grow with what a run puts on file."""
    peaks = [(await fetch(path.with_name(str(n)), names(n)))[1].peak for n in (300, 800)]
    assert peaks[1] <= peaks[0] + MIB


@pytest.mark.parametrize("what", ["outcomes", "products", "answers", "ledger"])
async def test_reading_takes_no_memory(path, multiply, what):
    """Each way of reading an archive is a stream, however much there is to read."""

    def read():
        with Grown() as grown:
            count = sum(1 for _ in getattr(Archive(path), what)())
        return count, grown.peak

    few = await asyncio.to_thread(read)
    multiply(30)
    lots = await asyncio.to_thread(read)
    assert lots[0] == 30 * few[0]
    assert lots[1] <= few[1] + 0.5 * MIB


@pytest.mark.skipif(not IO.exists(), reason="only Linux tells what is read")
async def test_what_could_not_be_decoded_is_found_without_reading_the_rest(path, multiply):
    """`info` and `salvage` find undecodable pages without reading the others."""
    multiply(40)
    size = path.stat().st_size
    sql(path, "UPDATE page SET decoded = 0 WHERE id IN (7, 3000)")
    for what, found in (("info", 2), ("salvage", 2), ("salvage", 0)):
        before = bytes_read()
        told = await held(path, what)
        assert getattr(told, "undecodable", told) == found
        assert bytes_read() - before < size / 2


def bytes_read():
    return int(IO.read_text("ascii").split()[1])


#: Prints by how many MiB the process grows when a large file is used after a small one.
PROGRAM = """
import asyncio, pathlib, sys

from asyncsfk import Archive, Client
from asyncsfk.simulator import Simulator

what, small, large = sys.argv[1:]

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

async def use(path):
    if what == "open":
        async with Archive(path):
            return
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        await client.plan(["nobody"], archive=path)

asyncio.run(use(small))
before = peak()
asyncio.run(use(large))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it asks Linux how large a process was")
@pytest.mark.parametrize("what", ["plan", "open"])
async def test_the_sums_of_a_large_file_take_no_memory(tmp_path, what):
    """Sums over many creators and requests are not gathered in memory, SQLite's included."""
    paths = [str(tmp_path / f"{name}.sfk") for name in ("small", "large")]
    for path in paths:
        # With no origin noted, the file takes answers of any server.
        async with Archive(path):
            pass
    count = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
    ids = ("req_01k5m8x2v7c4h9t6b3n0q1w8ez",) * 30
    outcome = Outcome(handle="x", status="complete", pages=30, request_ids=ids).to_json()
    sql(
        paths[1],
        f"{count} INSERT INTO showcase (handle, region, status, finished, outcome) "  # noqa: S608
        "SELECT 'c' || n, '', 'complete', 0, ? FROM number",
        *(50_000, outcome),
    )
    sql(
        paths[1],
        f"{count} INSERT INTO attempt "  # noqa: S608
        "(at, route, handle, number, status, charged, maybe, bytes) "
        "SELECT 0, '/v1/tiktok/profiles/{handle}/showcase-products', 'c', 1, 200, 2, 0, 0 "
        "FROM number",
        400_000,
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PROGRAM, what, *paths],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert float(done.stdout) <= 24


async def test_a_plan_does_not_search_the_ledger_for_every_route(client, path):
    """A plan does not look up every route that cost more, of which there may be very many."""
    await run_of(client, ["empty"], archive=path)
    sql(
        path,
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 20000) "
        "INSERT INTO attempt (at, route, number, status, charged, maybe, bytes) "
        "SELECT 0, '/v1/tiktok/profiles/c' || n || '/videos', 1, 200, 2, 0, 0 FROM number",
    )
    began = time.perf_counter()
    await client.plan(["nobody"], archive=path)
    assert time.perf_counter() - began < 2


async def test_reading_many_large_pages_holds_few_at_a_time(path):
    """Reading or salvaging large bodies holds only a few of them in memory."""
    size, count = MIB, 40
    async with (
        Simulator(page_size=20) as sim,
        client_of(sim) as client,
        Archive(path, durability="normal") as archive,
    ):
        await run_of(client, names(count), archive=archive)

    def grow():
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE page SET body = randomblob(?), decoded = 0", (size,))
            connection.commit()

    def read(what):
        with Grown() as grown:
            if what == "salvage":
                assert Archive(path).salvage(lambda _: None) == 0
            else:
                assert sum(1 for _ in Archive(path).answers()) == count
        return grown.peak

    await asyncio.to_thread(grow)
    assert await asyncio.to_thread(read, "answers") <= 8 * size
    assert await asyncio.to_thread(read, "salvage") <= 8 * size
    assert len(await held(path, "answers")) == count


async def test_a_large_file_opens_at_once(path, multiply):
    """Opening a large file, and `info`, do not read every body."""
    multiply(100)
    began = time.perf_counter()
    async with Archive(path):
        pass
    assert time.perf_counter() - began < 2
    info = await asyncio.to_thread(read_now, Archive(path), "info")
    assert info.answers == info.complete == 10_000
