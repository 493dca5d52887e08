"""Anything but an archive at the path gives a typed error, and is not touched."""

import asyncio
import os
import random
import sqlite3
import sys
from contextlib import closing

import msgspec
import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    ArchiveFormatError,
    ArchiveInfo,
    ArchiveWriteError,
    InvalidArgumentError,
    Outcome,
    Usage,
)
from asyncsfk._store import _schema
from asyncsfk.simulator import Simulator
from tests.archive.support import READS, Script, beside, held, known, run_of
from tests.support import client_of, failure, plain, running, sql


async def assert_refused(path, kind, match=None):
    """Fail unless opening, salvaging and every reading of a file end with an error."""
    async with Simulator() as sim, client_of(sim) as client:
        run = client.showcases(["x"], archive=path)
        with pytest.raises(kind, match=match):
            await run.__aenter__()
        assert sim.ledger.requests == 0
    for what in (*READS, "salvage"):
        with pytest.raises(kind, match=match):
            await held(path, what)


# --- other files


def foreign_database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE page (id)")
        connection.execute("INSERT INTO page VALUES (7)")
        connection.commit()


def somebody_elses(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")
        connection.execute("CREATE TABLE t (id)")
        connection.commit()


def of_a_version(path):
    somebody_elses(path)
    sql(path, f"PRAGMA user_version = {_schema.VERSION}")


def with_a_log(path):
    somebody_elses(path)
    sql(path, "PRAGMA journal_mode = WAL")


def not_begun(path):
    sql(path, "PRAGMA application_id = 7")


FOREIGN = {
    "text": lambda path: path.write_text("mrbeast\nzachking\n" * 500),
    "a line": lambda path: path.write_text("mrbeast"),
    "zeros": lambda path: path.write_bytes(bytes(8192)),
    "noise": lambda path: path.write_bytes(random.Random(1).randbytes(40_000)),
    "database": foreign_database,
    "marked database": somebody_elses,
    "database that has a log while it is open": with_a_log,
    "database that counts its versions, too": of_a_version,
    "marked database without a table": not_begun,
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
async def test_another_file_is_refused_and_not_touched(path, make):
    """A file that is not an archive is refused, stays byte for byte, and gets nothing beside it."""
    make(path)
    before = path.read_bytes()
    await assert_refused(path, ArchiveFormatError)
    assert path.read_bytes() == before
    assert beside(path) == []


async def test_an_empty_file_is_taken_for_a_new_one(client, path):
    """A file of no bytes, such as mktemp makes, becomes an archive when it is opened."""
    path.touch()
    for what in READS:
        with pytest.raises(ArchiveFormatError):
            await held(path, what)
    assert path.stat().st_size == 0
    await run_of(client, ["x.5products"], archive=path)
    assert len(await held(path, "answers")) == 1


async def test_a_folder_is_no_archive(path):
    """A directory at the path is refused, and nothing is left in or beside it."""
    path.mkdir()
    await assert_refused(path, ArchiveError, "unable to open|is not a file")
    assert list(path.iterdir()) == []
    assert beside(path) == []


@pytest.mark.parametrize("kind", ["missing folder", "file for a folder", "name too long", "a loop"])
async def test_where_no_file_can_be(path, kind):
    """A path where no file can be is an error that names it; nothing is made on the way."""
    path.with_name("file").touch()
    path.with_name("loop").symlink_to(path.with_name("loop"))
    bad = {
        "missing folder": path.parent / "missing" / "job.sfk",
        "file for a folder": path.with_name("file") / "job.sfk",
        "name too long": path.with_name("x" * 300),
        "a loop": path.with_name("loop"),
    }[kind]
    error = await failure(Archive(bad).open(), ArchiveWriteError)
    assert str(bad) in str(error)
    is_nothing = kind in ("missing folder", "file for a folder")
    match = "there is no archive" if is_nothing else "cannot be used"
    for what in ("outcomes", "salvage"):
        # Only reading was asked for, so it is not an error of writing.
        error = await failure(held(bad, what), ArchiveError)
        assert type(error) is ArchiveError
        assert match in str(error)
    assert {found.name for found in path.parent.iterdir()} == {"file", "loop"}


@pytest.mark.parametrize(
    "name",
    ["a b.sfk", "ünï漢😀.sfk", "a?mode=ro#x%41&b.sfk", ":memory:", "-", "file:x.sfk", ".sfk"],
)
async def test_odd_names(tmp_path, name):
    """An archive may have any name that a file may have."""
    path = tmp_path / name
    async with Simulator() as sim, client_of(sim) as client:
        for _ in range(2):
            await run_of(client, ["x.5products"], archive=str(path))
        assert sim.ledger.requests == 1
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert len(await held(path, "answers")) == 1


async def test_a_name_that_is_no_text(tmp_path):
    """A name may have bytes that are not UTF-8; errors and outcomes with it are valid JSON."""
    path = tmp_path / os.fsdecode(b"job\xff\xfe.sfk")
    async with Simulator() as sim, client_of(sim) as client:
        for _ in range(2):
            await run_of(client, ["x.5products"], archive=path)
        assert sim.ledger.requests == 1
        # Errors that name the file can be written as JSON, and so can outcomes that have them.
        async with Archive(path) as archive:
            assert r"job\udcff\udcfe.sfk" in str(await failure(Archive(path).open()))
            async with client.showcases(["y.45products", "z"], archive=archive) as run:
                async for outcome in run:
                    assert Outcome.from_json(outcome.to_json()) == outcome
                    await archive.aclose()
    info = await held(path, "info")
    assert info.complete >= 1
    assert msgspec.json.decode(msgspec.json.encode(info), type=ArchiveInfo) == info


async def test_reading_what_is_just_being_made(path):
    """Readers refuse a file that was made but not yet committed to, and say so."""
    path.touch()
    for what in ("info", "usage", "outcomes"):
        with pytest.raises(ArchiveFormatError, match="just being made"):
            await held(path, what)


# --- versions


@pytest.mark.parametrize("version", [99, _schema.VERSION + 1, 0, -1])
@pytest.mark.usefixtures("written")
async def test_another_version_is_left_alone(path, version):
    """An archive of an unknown version is refused, and not touched."""
    sql(path, f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    await assert_refused(path, ArchiveFormatError, match=f"version {version};.*upgrade")
    assert path.read_bytes() == before
    assert beside(path) == []


@pytest.fixture
def old(path):
    """Make an archive as the first version did, with one request and a session that died."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in _schema._STEPS[0].split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("INSERT INTO meta VALUES ('origin', 'this machine')")
        connection.execute(
            "INSERT INTO attempt VALUES (1, 1e9, '/v1/old', 'x', 1, 200, NULL, 1, 0, 20, 'req_1')"
        )
        connection.execute(
            "INSERT INTO session VALUES (1, 1e9, NULL, 77, 'there', '0.1', 3)",
        )
    return path


async def test_an_older_version_is_brought_up_to_date(old):
    """Opening for writing migrates the file, and loses nothing of it."""
    async with Simulator() as sim, client_of(sim) as client:
        _, outcomes = await run_of(client, ["x.5products"], archive=old)
        assert plain(outcomes["x.5products"].products) == sim.showcase("x.5products")
    first, buried, last = await held(old, "ledger")
    assert (first.route, first.charged, first.seconds, first.request_id) == (
        "/v1/old",
        1,
        None,
        "req_1",
    )
    # A process of the older version that died with the file open.
    assert (buried.error, buried.maybe) == ("ProcessDied", 3)
    assert last.seconds is not None
    assert (await held(old, "usage")).charged == 2
    assert sql(old, "PRAGMA user_version") == [(_schema.VERSION,)]


async def test_pages_of_an_older_version_are_found(path):
    """Pages that the second version kept, of showcases and profiles, are not bought again."""
    handles = ["x.45products", "y.1products", "empty_z"]
    async with Simulator() as sim, client_of(sim) as client:
        for region in (None, "GB"):
            await run_of(client, handles, archive=path, region=region, verify_empty=True)
        spent = sim.ledger.charged
        sql(path, "DROP INDEX page_of")
        sql(path, "ALTER TABLE page DROP COLUMN part_of")
        sql(path, "ALTER TABLE page DROP COLUMN query")
        sql(path, "DROP INDEX page_undecoded")
        sql(path, "CREATE INDEX page_key ON page (key)")
        sql(path, "PRAGMA user_version = 2")
        for region in (None, "GB"):
            _, outcomes = await run_of(
                client, handles, archive=path, region=region, verify_empty=True
            )
            for handle in handles:
                assert plain(outcomes[handle].products) == sim.showcase(handle, region)
        assert sim.ledger.charged == spent


async def test_an_older_version_is_not_read_as_if_it_were_new(old):
    """Reading a file of an older version changes nothing, and says what to do instead."""
    before = old.read_bytes()
    for what in READS:
        with pytest.raises(ArchiveFormatError, match="open it once for writing"):
            await held(old, what)
    assert old.read_bytes() == before


async def test_salvage_brings_up_to_date_as_well(old):
    """salvage() brings an older file up to date, since it writes too."""
    assert await held(old, "salvage") == 0
    assert len(await held(old, "ledger")) == 1


async def test_a_migration_that_is_cut_is_made_again(old):
    """A migration that fails leaves the older version whole: all its steps are one transaction."""
    sql(old, "ALTER TABLE attempt ADD COLUMN seconds REAL")
    # The second step adds this column: since it is there already, the whole migration fails.
    error = await failure(Archive(old).open(), ArchiveError)
    assert "duplicate column" in str(error)
    assert sql(old, "PRAGMA user_version") == [(1,)]
    sql(old, "ALTER TABLE attempt DROP COLUMN seconds")
    async with Archive(old):
        pass
    assert len(await held(old, "ledger")) == 2


# --- other circumstances


async def test_the_usage_of_a_new_file_is_nothing(path, written):
    """An archive whose file was deleted begins again from nothing."""
    assert known(written) == known(await held(path, "usage"))
    path.unlink()
    async with Archive(path):
        pass
    assert await held(path, "usage") == Usage()


@pytest.mark.parametrize("name", ["a\0b.sfk", "a\ud800.sfk"], ids=["NUL", "surrogate"])
def test_a_name_that_no_file_can_have(name):
    """A name that no file can have is refused when the Archive is made."""
    with pytest.raises(InvalidArgumentError, match="archive cannot be at"):
        Archive(name)


def test_a_path_of_bytes_is_refused(tmp_path):
    """An entry of a folder named in bytes is refused when the Archive is made."""
    (tmp_path / "job.sfk").touch()
    with os.scandir(os.fsencode(tmp_path)) as entries:
        (entry,) = entries
    with pytest.raises(InvalidArgumentError, match="archive cannot be at"):
        Archive(entry)


def test_a_folder_that_is_gone_has_no_archive(tmp_path, monkeypatch):
    """A relative path is refused if the process's own folder no longer exists."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InvalidArgumentError, match="archive cannot be at"):
        Archive("job.sfk")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes to be opened")
def test_a_pipe_is_not_waited_for(tmp_path):
    """Reading a named pipe is refused at once, instead of waiting for its other end."""
    os.mkfifo(tmp_path / "pipe.sfk")
    with pytest.raises(ArchiveFormatError, match="not a file"):
        Archive(tmp_path / "pipe.sfk").info()


FORKING = """
import asyncio, os, sys, warnings
from asyncsfk import Archive, ArchiveError, Client

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads about

def look(archive):
    told = []
    for read in (archive.info, lambda: list(archive.products()), archive.salvage):
        try:
            told.append(str(read() and "read"))
        except ArchiveError as error:
            told.append("forked" if "forked" in str(error) else str(error))
    return told

async def main():
    key, url, path = sys.argv[1:]
    async with Client(key, base_url=url) as client, Archive(path) as archive:
        await client.showcase_page("a.5products", archive=archive)
        child = os.fork()
        if child == 0:
            print(*look(Archive(path)), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        await client.showcase_page("b.5products", archive=archive)
    child = os.fork()
    if child == 0:
        print(*look(Archive(path)), flush=True)
        os._exit(0)
    os.waitpid(child, 0)

asyncio.run(main())
"""


@pytest.mark.real_time
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no forking")
async def test_a_process_that_was_forked_off_keeps_from_open_files(path):
    """A child forked while the file is open may not use it; one forked after it was closed may."""
    with running() as sim, Script(FORKING, sim.api_key, sim.url, path) as script:
        out = await asyncio.to_thread(script.result)
    assert out.splitlines() == ["forked forked forked", "read read 0"]
    assert (await held(path, "info")).answers == 2


@pytest.mark.skipif(os.name != "posix", reason="needs the right of an owner")
async def test_a_plan_of_what_cannot_be_looked_at(path, tmp_path):
    """A plan refuses a bad path as a run does, but takes a missing folder as holding nothing."""
    long = tmp_path / ("a" * 300)
    async with Simulator() as sim, client_of(sim) as client:
        for where in long, path / "below":
            for refused in (
                client.plan(["x"], archive=where),
                client.fetch_showcases(["x"], archive=where),
            ):
                if where is long or refused.__name__ != "plan":
                    await failure(refused, ArchiveError)
                else:
                    assert (await refused).to_start == 1
        assert sim.ledger.charged == 0
        for wrong in "/", b"bytes", 5, "":
            with pytest.raises(InvalidArgumentError):
                await client.plan(["x"], archive=wrong)
            with pytest.raises(InvalidArgumentError):
                client.showcases(["x"], archive=wrong)
