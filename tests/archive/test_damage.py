"""Damage to an archive's file gives a typed error, and loses nothing."""

import asyncio
import gc
import random
import sqlite3
import sys

import msgspec
import pytest

from asyncsfk import Archive, ArchiveError, ArchiveFormatError, ArchiveWriteError
from asyncsfk.simulator import Simulator
from tests.archive.support import (
    HANDLES,
    READS,
    Script,
    beside,
    copied,
    held,
    read_all,
    run_of,
)
from tests.support import client_of, failure, running, sql


@pytest.mark.usefixtures("written")
async def test_a_file_that_was_cut_short(path, tmp_path):
    """A file cut at any offset cannot be opened, and what can still be read of it is unchanged."""
    whole = path.read_bytes()
    truth = await read_all(path)
    assert None not in truth.values()
    ((page_size,),) = sql(path, "PRAGMA page_size")
    cuts = {15, 16, 17, 99, 100, 101, 512, page_size - 1}
    cuts |= {at + by for at in range(page_size, len(whole), page_size) for by in (-1, 0, 1)}
    trial = tmp_path / "trial.sfk"
    async with Simulator() as sim, client_of(sim) as client:
        for size in sorted(cuts):
            trial.write_bytes(whole[:size])
            run = client.showcases(HANDLES, archive=trial)
            await failure(run.__aenter__(), ArchiveFormatError)
            assert trial.read_bytes() == whole[:size], f"touched when cut at {size}"
            # The copy has its own path and size.
            truth["info"] = msgspec.structs.replace(truth["info"], path=str(trial), size=size)
            for what, found in (await read_all(trial)).items():
                assert found is None or found == truth[what], f"{what} when cut at {size}"
        assert sim.ledger.requests == 0
    assert beside(trial) == []


@pytest.mark.usefixtures("written")
async def test_flipped_bits_in_the_header(path, tmp_path):
    """A wrong bit in the header is refused or has no effect: contents are never misread."""
    whole = path.read_bytes()
    truth = await read_all(path)
    trial = tmp_path / "trial.sfk"
    dice = random.Random(2)
    refused = 0
    for at in range(0, 100, 2):
        broken = bytearray(whole)
        broken[at] ^= 1 << dice.randrange(8)
        trial.write_bytes(broken)
        for what, found in (await read_all(trial)).items():
            if found is None:
                refused += 1
            elif what == "info":
                assert found.answers == truth[what].answers
            else:
                assert found == truth[what], f"{what} with byte {at} flipped"
        try:
            async with Archive(trial):
                pass
        except ArchiveError:
            assert beside(trial) == []
    assert refused > 25


@pytest.mark.usefixtures("written")
async def test_flipped_bits_anywhere(path, tmp_path):
    """Whatever bits are wrong, reading and opening either work or raise errors of ours."""
    whole = path.read_bytes()
    trial = tmp_path / "trial.sfk"
    dice = random.Random(4)
    damaged = opened = 0
    for _ in range(30):
        broken = bytearray(whole)
        for _ in range(8):
            broken[dice.randrange(100, len(whole))] ^= 1 << dice.randrange(8)
        trial.write_bytes(broken)
        damaged += None in (await read_all(trial)).values()
        # Until then errors keep their frames alive, and whatever those had open.
        gc.collect()
        try:
            async with Archive(trial):
                opened += 1
        except ArchiveError:
            pass
        for name in beside(trial):
            trial.with_name(f"{trial.name}{name}").unlink()
    # Some of the damage shows, and some does not.
    assert 0 < damaged < 30
    assert 0 < opened < 30


async def test_a_file_that_is_damaged_under_a_run(path):
    """Damage that shows during a run stops it, with an error that says what is wrong."""
    async with Simulator() as sim, client_of(sim, concurrency=2) as client:
        async with Archive(path) as archive:
            await run_of(client, sim.handles(5), archive=archive)
        whole = path.read_bytes()
        name = "sqlite_autoindex_showcase_1"
        ((root,),) = sql(path, "SELECT rootpage FROM sqlite_master WHERE name = ?", name)
        ((size,),) = sql(path, "PRAGMA page_size")
        at = (root - 1) * size
        path.write_bytes(whole[:at] + b"\xff" * size + whole[at + size :])
        asked = sim.ledger.requests
        run, outcomes = await run_of(client, sim.handles(30), archive=path)
        assert isinstance(run.stopped, ArchiveFormatError)
        assert sim.ledger.requests - asked <= 2
        assert {outcome.status for outcome in outcomes.values()} <= {"failed", "skipped"}
        assert len(outcomes) == 30


@pytest.mark.parametrize(
    "outcome",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"status":"no such"}',
        b'{"handle":"x","status":"failed","error":{}}',
    ],
)
@pytest.mark.usefixtures("written")
async def test_an_outcome_that_is_none(path, outcome):
    """Readers report an outcome that cannot be read as damage; a run writes it anew for nothing."""
    truth = await held(path, "outcomes")
    sql(path, "UPDATE showcase SET outcome = ?", outcome)
    with pytest.raises(ArchiveFormatError):
        await held(path, "outcomes")
    async with Simulator() as sim, client_of(sim) as client:
        _, outcomes = await run_of(client, [known.handle for known in truth], archive=path)
        assert {known.status for known in outcomes.values()} == {"complete"}
        assert sim.ledger.requests == 0
    for before, after in zip(truth, await held(path, "outcomes"), strict=True):
        assert (after.handle, after.products) == (before.handle, before.products)


@pytest.mark.parametrize("value", ["", "long ago", b"\xff", 1e300, 1e18])
@pytest.mark.usefixtures("written")
async def test_a_time_that_is_none(path, value):
    """A value that is not a time is reported as damage, whatever Python would make of it."""
    for table, column, reads in (
        ("page", "received", ["answers"]),
        ("attempt", "at", ["ledger", "info"]),
    ):
        sql(path, f"UPDATE {table} SET {column} = ?", value)  # noqa: S608 - of ours
        for what in reads:
            error = await failure(held(path, what), ArchiveFormatError)
            assert f"{path} is damaged: " in str(error)
    sql(path, "UPDATE page SET decoded = 0")
    error = await failure(held(path, "salvage"), ArchiveFormatError)
    assert f"{path} is damaged: " in str(error)


@pytest.mark.parametrize("text", ["", "eWVz"])
@pytest.mark.parametrize(
    ("column", "reads"),
    [
        ("attempt.charged", ["usage", "info", "ledger"]),
        ("page.received", ["outcomes", "answers"]),
        ("page.body", ["outcomes", "answers"]),
        ("showcase.floor", ["outcomes"]),
        ("showcase.outcome", ["outcomes"]),
    ],
)
@pytest.mark.usefixtures("written")
async def test_a_text_where_none_should_be(path, column, reads, text):
    """SQLite takes text in any column: readers and runs report it as damage, and buy nothing."""
    table, name = column.split(".")
    sql(path, f"UPDATE {table} SET {name} = ?", text)  # noqa: S608 - of ours
    for what in reads:
        error = await failure(held(path, what), ArchiveFormatError)
        assert f"{path} is damaged: " in str(error)
    async with Simulator() as sim, client_of(sim) as client:
        plan = client.plan(HANDLES, archive=path, max_credits=100)
        run = client.fetch_showcases(HANDLES, archive=path)
        if column == "attempt.charged":
            await failure(plan, ArchiveFormatError)
            await failure(run, ArchiveFormatError)
        else:
            plan.close()
            for outcome in await run:
                assert outcome.status == "skipped"
                assert isinstance(outcome.error, ArchiveFormatError)
                assert f"{path} is damaged: " in str(outcome.error)
        assert sim.ledger.charged == 0


@pytest.mark.usefixtures("written")
async def test_a_region_that_is_none(path):
    """A region that is not text is reported as damage, rather than as a bad argument."""
    sql(path, "UPDATE showcase SET region = x'ff'")
    for what in ("outcomes", "products", "pages"):
        error = await failure(held(path, what), ArchiveFormatError)
        assert f"{path} is damaged: " in str(error)


async def test_reading_leaves_what_a_crash_has_left(path, tmp_path):
    """Reading includes what a killed process left in the log, and leaves the log as it is."""
    async with Simulator() as sim, client_of(sim) as client, Archive(path) as archive:
        await client.showcase_page("x.5products", archive=archive)
        copy = copied(path, tmp_path / "crashed")
    log = copy.with_name(f"{copy.name}-wal")
    before = copy.read_bytes(), log.read_bytes()
    found = {what: await held(copy, what) for what in READS}
    assert len(found["answers"]) == found["usage"].charged == 1
    assert (copy.read_bytes(), log.read_bytes()) == before


@pytest.mark.parametrize("is_empty", [False, True])
async def test_a_log_whose_file_is_gone(path, tmp_path, is_empty):
    """The log that a killed process has left survives that its archive was moved alone."""
    async with Simulator() as sim, client_of(sim) as client:
        async with Archive(path) as archive:
            await client.showcase_page("x.5products", archive=archive)
            copy = copied(path, tmp_path / "crashed")
        log = copy.with_name(f"{copy.name}-wal")
        moved = copy.rename(tmp_path / "moved.sfk")
        if is_empty:
            copy.touch()
        run = client.showcases(["x.5products"], archive=copy)
        error = await failure(run.__aenter__(), ArchiveError)
        assert str(error).startswith(f"{copy} is gone, or empty, but not its log {log}, ")
        for what in (*READS, "salvage"):
            await failure(held(copy, what), ArchiveError)
        moved.replace(copy)
        assert len(await held(copy, "answers")) == 1
        await run_of(client, ["x.5products"], archive=copy)
        assert sim.ledger.charged == 1


async def test_an_empty_log_without_a_file(path):
    """A log in which nothing is keeps nobody from beginning anew."""
    log = path.with_name(f"{path.name}-wal")
    log.touch()
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, ["x.5products"], archive=path)
    assert len(await held(path, "answers")) == 1


@pytest.mark.usefixtures("written")
async def test_a_file_that_sqlite_cannot_read(path):
    """A file that SQLite cannot read raises an ArchiveError that says why, not a write error."""
    path.with_name(f"{path.name}-journal").mkdir()
    for what in READS:
        error = await failure(held(path, what), ArchiveError)
        assert type(error) is ArchiveError
        assert str(error).startswith(f"{path} cannot be used: ")
        assert isinstance(error.__cause__, sqlite3.OperationalError)


async def test_an_end_that_cannot_be_written(client, path):
    """If closing cannot write it says so; what was committed stays, and a later opening goes on."""
    resource = pytest.importorskip("resource")
    archive = Archive(path)
    await archive.open()
    page = await client.showcase_page("x.45products", archive=archive)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        error = await failure(archive.aclose(), ArchiveWriteError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error).startswith(f"{path} cannot be used: ")
    assert not archive.is_open
    assert [answer.request_id for answer in await held(path, "answers")] == [page.request_id]
    async with archive:
        await client.showcase_page("x.45products", cursor=page.next_cursor, archive=archive)
    assert beside(path) == []


@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let go of an open file")
async def test_a_file_put_in_the_place_of_one_that_is_open(client, path, tmp_path, is_noticed):
    """A file put in the place of an open one keeps its log, though both logs have the same name."""
    async with Archive(path) as archive:
        page = await client.showcase_page("x.45products", archive=archive)
        copy = copied(path, tmp_path / "crashed")
    path.unlink()
    async with Archive(path) as archive:
        await client.showcase_page("y.45products", archive=archive)
        path.rename(tmp_path / "moved.sfk")
        for name in (path.name, f"{path.name}-wal"):
            copy.with_name(name).replace(path.with_name(name))
        if is_noticed:
            await failure(client.showcase_page("z", archive=archive), ArchiveWriteError)
    assert [answer.request_id for answer in await held(path, "answers")] == [page.request_id]


@pytest.mark.parametrize("what", ["removed", "moved", "replaced"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let go of an open file")
async def test_a_file_that_goes_from_under_a_run(path, tmp_path, what):
    """A run stops when its file is moved, removed or replaced: nobody would find its pages."""
    async with Simulator() as sim, client_of(sim, concurrency=2) as client:
        async with client.showcases((f"c{n}.5products" for n in range(300)), archive=path) as run:
            outcomes = [await anext(run)]
            if what == "moved":
                path.rename(tmp_path / "moved.sfk")
            else:
                path.unlink()
            if what == "replaced":
                path.touch()
            outcomes += [outcome async for outcome in run]
            assert isinstance(run.stopped, ArchiveWriteError)
            assert "moved or removed" in str(run.stopped)
        assert len(outcomes) == 300
        assert sim.ledger.charged < 30
        assert run.usage.charged == sim.ledger.charged


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let go of an open file")
async def test_a_log_that_goes_from_under_a_run(path):
    """A run stops when its log is removed, or its commits would be lost; what is on file stays."""
    async with Simulator() as sim, client_of(sim, concurrency=2) as client:
        handles = [f"c{n}.5products" for n in range(300)]
        async with client.showcases(handles, archive=path) as run:
            given = [*(await anext(run)).request_ids]
            for name in "wal", "shm":
                path.with_name(f"{path.name}-{name}").unlink()
            async for outcome in run:
                given += outcome.request_ids
            assert isinstance(run.stopped, ArchiveWriteError)
            assert f"{path}-wal was moved or removed" in str(run.stopped)
        assert run.usage.charged == sim.ledger.charged < 30
        kept = [answer.request_id for answer in await held(path, "answers")]
        assert 0 < len(given) < 30
        assert set(given) <= set(kept)
        _, outcomes = await run_of(client, handles, archive=path)
        assert {outcome.status for outcome in outcomes.values()} == {"complete"}
    assert beside(path) == []
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


BUYING = """
import asyncio, sys
from asyncsfk import Archive, Client

async def main():
    key, url, path = sys.argv[1:]
    async with Client(key, base_url=url) as client, Archive(path) as archive:
        for name in "cde":
            await client.showcase_page(name, archive=archive)

asyncio.run(main())
"""


@pytest.mark.real_time
@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let go of an open file")
async def test_closing_leaves_what_somebody_else_has_bought_since(path, goes_on):
    """Closing an archive whose lock and log were removed keeps what another process has bought."""
    with running() as sim:
        async with client_of(sim) as client:
            archive = Archive(path)
            await archive.open()
            await run_of(client, ["a"], archive=archive)
            for name in "lock", "wal", "shm":
                path.with_name(f"{path.name}-{name}").unlink()
            with Script(BUYING, sim.api_key, sim.url, path) as script:
                await asyncio.to_thread(script.result)
            if goes_on:
                await failure(client.showcase_page("b", archive=archive), ArchiveError)
            error = await failure(archive.aclose(), ArchiveWriteError)
            assert "removed while it was open" in str(error)
    handles = {answer.handle for answer in await held(path, "answers")}
    assert handles >= {"c", "d", "e"}
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
