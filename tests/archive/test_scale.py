"""A great many creators: memory does not grow, neither in a run nor in reading what it kept."""

import asyncio
import sqlite3
import time
from contextlib import closing
from hashlib import blake2b

import pytest

from asyncsfk import Archive
from asyncsfk.simulator import Simulator
from tests.archive.support import held, read_now, run_of
from tests.support import Grown, client_of

pytestmark = pytest.mark.large

MIB = 1024 * 1024


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
    """Give what an archive finds a creator's first page by."""
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
    """Memory does not grow with the handles of a run, for all that they are told apart."""
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
    """Nor does it grow with what a run puts on file."""
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


async def test_reading_many_large_pages_holds_few_at_a_time(path):
    """Bodies of megabytes are not gathered by the hundred."""
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
    """Opening, and what it holds in all, do not read every body."""
    multiply(100)
    began = time.perf_counter()
    async with Archive(path):
        pass
    assert time.perf_counter() - began < 2
    info = await asyncio.to_thread(read_now, Archive(path), "info")
    assert info.answers == info.complete == 10_000
