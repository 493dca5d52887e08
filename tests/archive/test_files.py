"""Whatever else lies at the path, or befalls the file: a typed error, and nothing lost."""

import asyncio
import errno
import gc
import json
import os
import random
import shutil
import sqlite3
import sys
import time
from contextlib import closing, suppress

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
    UndecodableError,
    Usage,
)
from asyncsfk._store import _schema
from asyncsfk.simulator import Latency, Simulator
from tests.archive.support import Script, beside, copied, held, known, read_now, run_of
from tests.support import client_of, failure, plain, running, sql

HANDLES = ["a.45products", "b.5products", "empty_c"]

READS = ("outcomes", "errors", "products", "answers", "ledger", "info", "usage")


@pytest.fixture
async def written(path):
    """Write an ordinary archive; give what its run cost."""
    async with Simulator() as sim, client_of(sim) as client:
        run, _ = await run_of(client, HANDLES, archive=path, verify_empty=True)
    return run.usage


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
    """What is no archive stays byte for byte what it was, and nothing stays beside it."""
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
    await assert_refused(path, ArchiveError, "unable to open|is no file")
    assert list(path.iterdir()) == []
    assert beside(path) == []


@pytest.mark.parametrize("kind", ["missing folder", "file for a folder", "name too long", "a loop"])
async def test_where_no_file_can_be(path, kind):
    """A path that cannot be is an error that names it; nothing is made on the way."""
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
        # It was not to be written, and is no error of writing.
        error = await failure(held(bad, what), ArchiveError)
        assert type(error) is ArchiveError
        assert match in str(error)
    assert {found.name for found in path.parent.iterdir()} == {"file", "loop"}


@pytest.mark.parametrize(
    "name",
    ["a b.sfk", "ünï漢😀.sfk", "a?mode=ro#x%41&b.sfk", ":memory:", "-", "file:x.sfk", ".sfk"],
)
async def test_odd_names(tmp_path, name):
    """Whatever a file may be called, an archive may be."""
    path = tmp_path / name
    async with Simulator() as sim, client_of(sim) as client:
        for _ in range(2):
            await run_of(client, ["x.5products"], archive=str(path))
        assert sim.ledger.requests == 1
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert len(await held(path, "answers")) == 1


async def test_a_name_that_is_no_text(tmp_path):
    """So may be a name of bytes that are no UTF-8."""
    path = tmp_path / os.fsdecode(b"job\xff\xfe.sfk")
    async with Simulator() as sim, client_of(sim) as client:
        for _ in range(2):
            await run_of(client, ["x.5products"], archive=path)
        assert sim.ledger.requests == 1
        # Errors that name the file can be written down, as can the outcomes that have them.
        async with Archive(path) as archive:
            assert r"job\udcff\udcfe.sfk" in str(await failure(Archive(path).open()))
            async with client.showcases(["y.45products", "z"], archive=archive) as run:
                async for outcome in run:
                    assert Outcome.from_json(outcome.to_json()) == outcome
                    await archive.aclose()
    info = await held(path, "info")
    assert info.complete >= 1
    assert msgspec.json.decode(msgspec.json.encode(info), type=ArchiveInfo) == info


# --- damaged files


async def read_all(path):
    """Read all that can be read; what cannot must say so with an error of ours."""

    def read():
        found = {}
        for what in READS:
            try:
                found[what] = read_now(Archive(path), what)
            except (ArchiveError, UndecodableError):
                found[what] = None
        return found

    return await asyncio.to_thread(read)


@pytest.mark.usefixtures("written")
async def test_a_file_that_was_cut_short(path, tmp_path):
    """Cut at whatever offset: opening is refused, and what can be read is what was there."""
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
            for what, found in (await read_all(trial)).items():
                assert found is None or found == truth[what], f"{what} when cut at {size}"
        assert sim.ledger.requests == 0
    assert beside(trial) == []


@pytest.mark.usefixtures("written")
async def test_flipped_bits_in_the_header(path, tmp_path):
    """A header with a wrong bit is refused, or means nothing: never another content."""
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
    """Whatever is wrong in a file, reading it ends or goes on with errors of ours alone."""
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
        # An error keeps the frames that it went through, and what they had open, until then.
        gc.collect()
        try:
            async with Archive(trial):
                opened += 1
        except ArchiveError:
            pass
        for name in beside(trial):
            trial.with_name(f"{trial.name}{name}").unlink()
    # Some of it shows, and some does not.
    assert 0 < damaged < 30
    assert 0 < opened < 30


async def test_a_file_that_is_damaged_under_a_run(path):
    """Damage that shows while a run is on stops it, with an error that says what is wrong."""
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
    """Reading tells that the file is damaged; a run puts down again what it has of that creator."""
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


@pytest.mark.parametrize("value", ["", "long ago", b"\xff", 1e300])
@pytest.mark.usefixtures("written")
async def test_a_time_that_is_none(path, value):
    """What was put for a time is told as damage, whatever that would be to Python."""
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


@pytest.mark.usefixtures("written")
async def test_a_region_that_is_none(path):
    """It is told as damage, and not as an argument of the reader's."""
    sql(path, "UPDATE showcase SET region = x'ff'")
    for what in ("outcomes", "products", "pages"):
        error = await failure(held(path, what), ArchiveFormatError)
        assert f"{path} is damaged: " in str(error)


async def test_reading_leaves_what_a_crash_has_left(path, tmp_path):
    """What a process that was killed had in its log is read, and left to whoever goes on."""
    async with Simulator() as sim, client_of(sim) as client, Archive(path) as archive:
        await client.showcase_page("x.5products", archive=archive)
        copy = copied(path, tmp_path / "crashed")
    log = copy.with_name(f"{copy.name}-wal")
    before = copy.read_bytes(), log.read_bytes()
    found = {what: await held(copy, what) for what in READS}
    assert len(found["answers"]) == found["usage"].charged == 1
    assert (copy.read_bytes(), log.read_bytes()) == before


@pytest.mark.usefixtures("written")
async def test_a_file_that_sqlite_cannot_read(path):
    """Reading says what is wrong, and is no error of writing."""
    path.with_name(f"{path.name}-journal").mkdir()
    for what in READS:
        error = await failure(held(path, what), ArchiveError)
        assert type(error) is ArchiveError
        assert str(error).startswith(f"{path} cannot be used: ")
        assert isinstance(error.__cause__, sqlite3.OperationalError)


async def test_an_end_that_cannot_be_written(client, path):
    """Closing says so; what was committed is there, and whoever opens the file next goes on."""
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
    """It keeps its log, though that bears the name of the other's."""
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
    """A run stops that would keep its pages where nobody finds them."""
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
    """A run stops whose commits would be gone with the process; what is on file stays."""
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


async def test_reading_what_is_just_being_made(path):
    """Between the making of a file and its first commit there is nothing to be read."""
    path.touch()
    for what in ("info", "usage", "outcomes"):
        with pytest.raises(ArchiveFormatError, match="just being made"):
            await held(path, what)


# --- versions


@pytest.mark.parametrize("version", [99, _schema.VERSION + 1, 0, -1])
@pytest.mark.usefixtures("written")
async def test_another_version_is_left_alone(path, version):
    """An archive of a version to come, or of none, is refused, and not touched."""
    sql(path, f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    await assert_refused(path, ArchiveFormatError, match=f"version {version};.*upgrade")
    assert path.read_bytes() == before
    assert beside(path) == []


@pytest.fixture
def old(path):
    """Make an archive as the first version made them, with one complete creator."""
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
    assert (buried.failure, buried.maybe) == ("ProcessDied", 3)
    assert last.seconds is not None
    assert (await held(old, "usage")).charged == 2
    assert sql(old, "PRAGMA user_version") == [(_schema.VERSION,)]


async def test_pages_of_an_older_version_are_found(path):
    """What the second version kept, of a showcase or not, is not bought again."""
    handles = ["x.45products", "y.1products", "empty_z"]
    async with Simulator() as sim, client_of(sim) as client:
        for region in (None, "GB"):
            await run_of(client, handles, archive=path, region=region, verify_empty=True)
        spent = sim.ledger.charged
        sql(path, "DROP INDEX page_of")
        sql(path, "ALTER TABLE page DROP COLUMN part_of")
        sql(path, "ALTER TABLE page DROP COLUMN query")
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
    """Reading changes no file: it says what to do instead."""
    before = old.read_bytes()
    for what in READS:
        with pytest.raises(ArchiveFormatError, match="open it once with `async with Archive"):
            await held(old, what)
    assert old.read_bytes() == before


async def test_salvage_brings_up_to_date_as_well(old):
    """salvage() is writing too."""
    assert await held(old, "salvage") == 0
    assert len(await held(old, "ledger")) == 1


async def test_a_migration_that_is_cut_is_made_again(old):
    """A file is of the one version or the other, never between: all steps are one transaction."""
    sql(old, "ALTER TABLE attempt ADD COLUMN seconds REAL")
    # The second step cannot be taken twice: with the column there already it fails, as a whole.
    error = await failure(Archive(old).open(), ArchiveError)
    assert "duplicate column" in str(error)
    assert sql(old, "PRAGMA user_version") == [(1,)]
    sql(old, "ALTER TABLE attempt DROP COLUMN seconds")
    async with Archive(old):
        pass
    assert len(await held(old, "ledger")) == 2


# --- where nothing can be written


def is_privileged(folder):
    """Tell if permissions mean nothing to us."""
    folder.chmod(0o500)
    try:
        (folder / "probe").touch()
    except OSError:
        return False
    else:
        (folder / "probe").unlink()
        return True
    finally:
        folder.chmod(0o700)


@pytest.mark.usefixtures("written")
async def test_a_file_that_may_only_be_read(path):
    """A read-only file can be read, and not be opened for writing."""
    if is_privileged(path.parent):
        pytest.skip("we may write everything: see test_a_read_only_mount")
    path.chmod(0o400)
    before = await read_all(path)
    assert None not in before.values()
    error = await failure(Archive(path).open(), ArchiveWriteError)
    assert "readonly" in str(error)
    path.parent.chmod(0o500)
    try:
        assert await read_all(path) == before
        await failure(Archive(path).open(), ArchiveWriteError)
        await failure(Archive(path.with_name("new.sfk")).open(), ArchiveWriteError)
    finally:
        path.parent.chmod(0o700)


#: Runs in a mount namespace of its own, where the folder is mounted again, read-only.
READ_ONLY = """
import asyncio, errno, os, subprocess, sys
from pathlib import Path
from asyncsfk import Archive, ArchiveError, ArchiveWriteError

path = Path(sys.argv[1])
mounts = (["--bind", path.parent, path.parent], ["-o", "remount,ro,bind", path.parent])
for options in mounts:
    if subprocess.run(["mount", *options]).returncode:
        print("cannot mount")
        raise SystemExit

async def main():
    for file in (path, path.with_name("new.sfk")):
        try:
            async with Archive(file):
                print("opened", file)
        except ArchiveWriteError as error:
            print("refused", str(error).endswith(os.strerror(errno.EROFS)))

asyncio.run(main())
try:
    Archive(path).salvage()
except ArchiveWriteError:
    print("refused")
archive = Archive(path)
print(archive.usage().charged, len(list(archive.products())), len(list(archive.outcomes())))
print(Archive(path.with_name("read.sfk")).usage().charged)
# What was killed while it wrote cannot be read without writing: that is said, not passed over.
try:
    print(len(list(Archive(path.with_name("crashed.sfk")).answers())))
except ArchiveError:
    print("refused")
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
async def test_a_read_only_mount(path, written):
    """On a medium that cannot be written an archive can be read, and writing is refused."""
    crashed = path.with_name("crashed.sfk")
    shutil.copyfile(path, crashed)
    async with Simulator() as sim, client_of(sim) as client, Archive(crashed) as archive:
        await client.showcase_page("d.5products", archive=archive)
        count = len(await held(crashed, "answers"))
        saved = [(found, found.read_bytes()) for found in path.parent.iterdir()]
    for found, data in saved:
        if not found.name.endswith(("-shm", "-lock", "-journal")):
            found.write_bytes(data)
    # As it stays where somebody was reading while it was closed.
    shutil.copyfile(path, path.with_name("read.sfk"))
    sql(path.with_name("read.sfk"), "PRAGMA journal_mode = WAL")
    with Script(READ_ONLY, path, before=["unshare", "-m"]) as script:
        lines = (await asyncio.to_thread(script.result)).splitlines()
    if lines in ([], ["cannot mount"]):
        pytest.skip("mounting is not permitted")
    assert lines[:3] == ["refused True"] * 2 + ["refused"]
    assert lines[3] == f"{written.charged} 50 3"
    assert lines[4] == f"{written.charged}"
    assert lines[5] in ("refused", str(count))


# --- a full disk


#: Prints a line for each outcome, and what the run and the file say at the end.
FULL = """
import asyncio, json, resource, signal, subprocess, sys
from collections import Counter
from asyncsfk import Archive, ArchiveWriteError, Client
from asyncsfk.simulator import Latency, Simulator

path, kind = sys.argv[1:]
PACE = {
    "limit": {"concurrency": 6},
    "mount": {"concurrency": 6},
    # Most requests then wait for their turn when the disk is full.
    "rate": {"concurrency": 40, "rate": 100, "burst": 1},
}


def fill():
    if kind != "mount":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))


async def main():
    if kind == "mount":
        folder = path.rpartition("/")[0]
        command = ["mount", "-t", "tmpfs", "-o", "size=2200k", "none", folder]
        if subprocess.run(command).returncode:
            print("cannot mount")
            return
    given, bodies, after = [], 0, None
    async with (
        Simulator(latency=Latency.uniform(0.01, 0.03)) as sim,
        Client(sim.api_key, base_url=sim.url, **PACE[kind]) as client,
    ):
        fill()
        # With a mount far more than there is room for, lest what is skipped fill it up.
        handles = [f"c{n}.30products" for n in range(3000 if kind == "mount" else 60)]
        outcomes = Counter()
        try:
            async with client.showcases(handles * 2, archive=path) as run:
                async for outcome in run:
                    outcomes[outcome.handle] += 1
                    given += outcome.request_ids
                    if run.stopped is not None and after is None:
                        after = sim.ledger.requests
                    if outcome.status != "complete":
                        assert isinstance(outcome.error, ArchiveWriteError), outcome
                        bodies += outcome.error.body is not None
        except ArchiveWriteError as error:
            print("closing:", error, file=sys.stderr)
        print(json.dumps({
            "paid": sim.ledger.charged,
            "given": given,
            "bodies": bodies,
            "late": sim.ledger.requests - after,
            "outcomes": [outcomes[handle] for handle in handles],
            "stopped": type(run.stopped).__name__,
            "charged": run.usage.charged,
            "kept": [page.request_id for page in Archive(path).answers()],
            "unsettled": Archive(path).info().unsettled,
            "complete": sum(o.status == "complete" for o in Archive(path).outcomes()),
        }))
    if kind != "mount":
        # Room again: the same run goes on, and pays for nothing that is on file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        async with (
            Simulator() as sim,
            Client(sim.api_key, base_url=sim.url) as client,
            client.showcases(handles, archive=path) as run,
        ):
            statuses = {outcome.status async for outcome in run}
        print(json.dumps({"statuses": list(statuses), "again": sim.ledger.charged}))


asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["limit", "mount", "rate"])
async def test_a_full_disk(path, kind):
    """A run whose archive cannot grow stops; what is on file stays, what is not comes as a body."""
    if not sys.platform.startswith("linux") or (kind == "mount" and not shutil.which("unshare")):
        pytest.skip("needs Linux")
    before = ["unshare", "-m"] if kind == "mount" else []
    with Script(FULL, path, kind, before=before) as script:
        lines = (await asyncio.to_thread(script.result)).splitlines()
    if lines in ([], ["cannot mount"]):
        pytest.skip("mounting is not permitted")
    told = json.loads(lines[0])
    assert told["stopped"] == "ArchiveWriteError"
    # None was on its way if what failed was a line of the ledger.
    assert 0 < len(told["kept"]) <= told["paid"]
    # All that was handed out is on file.
    assert set(told["given"]) <= set(told["kept"])
    # Nothing was sent once a write had failed; while there is room, what was let through is.
    assert told["late"] <= (5 if kind == "mount" else 0)
    # Where the room can be seen to go short, all that was paid for is kept.
    # Else what was on its way is not: at a rate more comes on its way while a disk is slow to fail.
    lost = told["paid"] - len(told["kept"])
    assert lost <= {"mount": 0, "limit": 6, "rate": 39}[kind]
    assert told["charged"] == told["paid"]
    assert kind != "mount" or told["unsettled"] == 0
    assert set(told["outcomes"]) == {1}
    if kind != "mount":
        again = json.loads(lines[1])
        assert again["statuses"] == ["complete"]
        assert again["again"] == 120 - len(told["kept"])


@pytest.mark.parametrize("kind", ["limit", "rate"])
async def test_what_a_full_disk_cannot_take_is_handed_out(path, kind):
    """Answers that were paid for and could not be kept come in error.body, each of them."""
    with Script(FULL, path, kind) as script:
        lines = (await asyncio.to_thread(script.result)).splitlines()
    told = json.loads(lines[0])
    assert told["bodies"] == told["paid"] - len(told["kept"])


#: Takes all memory from SQLite in the middle of a run; prints what became of what.
MEMORY = """
import asyncio, json, sqlite3, sys
from contextlib import suppress
from asyncsfk import Client
from asyncsfk.simulator import Simulator

path = sys.argv[1]


async def main():
    told = {"statuses": [], "given": [], "bodies": 0}
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url, concurrency=6) as client:
        async with client.showcases(sim.handles(40), archive=path) as run:
            async for outcome in run:
                told["statuses"].append(outcome.status)
                told["given"] += outcome.request_ids
                told["bodies"] += outcome.error is not None and outcome.error.body is not None
                if len(told["statuses"]) == 3:
                    with suppress(MemoryError):
                        sqlite3.connect(":memory:").execute("PRAGMA hard_heap_limit = 1")
        told |= {"stopped": type(run.stopped).__name__, "message": run.stopped.message}
        print(json.dumps(told | {"paid": sim.ledger.charged, "charged": run.usage.charged}))


asyncio.run(main())
"""


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 31), reason="SQLite cannot be limited")
async def test_no_memory_left_for_sqlite(path):
    """It ends a run as a full disk does: what was paid for is on file, or comes as a body."""
    with Script(MEMORY, path) as script:
        told = json.loads(await asyncio.to_thread(script.result))
    assert told["stopped"] == "ArchiveWriteError"
    assert told["message"].endswith("cannot be used: out of memory")
    assert len(told["statuses"]) == 40
    kept = [page.request_id for page in await held(path, "answers")]
    assert set(told["given"]) <= set(kept)
    assert told["charged"] == told["paid"] == len(kept) + told["bodies"]
    assert 0 < told["bodies"] <= 6


#: Makes a run into a large file with no number to spare, once some are open; tells what was kept.
FILES = """
import asyncio, hashlib, os, resource, sqlite3, sys
from asyncsfk import Archive, Client
from asyncsfk.simulator import Latency, Simulator

def name(number):
    # In no order: then each new creator changes another part of the file.
    return hashlib.md5(str(number).encode()).hexdigest()[:20]

async def main():
    async with Archive(sys.argv[1]):
        pass
    with sqlite3.connect(sys.argv[1]) as connection:
        connection.executemany(
            "INSERT INTO showcase (handle, region) VALUES (?, '')",
            [(name(-number),) for number in range(1, 20_000)],
        )
    connection.close()
    async with (
        Simulator(latency=Latency.fixed(0.05)) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=100) as client,
        client.showcases([f"{name(n)}.30products" for n in range(400)], archive=sys.argv[1]) as run,
    ):
        statuses, full = set(), []
        async for outcome in run:
            statuses.add(outcome.status)
            if not full:
                resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
                while True:
                    try:
                        full.append(os.open("/dev/null", os.O_RDONLY))
                    except OSError:
                        break
        print(statuses, sim.ledger.charged)

asyncio.run(main())
print(Archive(sys.argv[1]).usage().pages)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
async def test_an_archive_needs_no_file_besides(path):
    """Writing opens nothing: there may be no number left, or nowhere to write but beside it."""
    with Script(FILES, path) as script:
        lines = (await asyncio.to_thread(script.result)).splitlines()
    assert lines == ["{'complete'} 800", "800"]


async def test_the_usage_of_a_new_file_is_nothing(path, written):
    """An archive whose file was deleted begins again from nothing."""
    assert known(written) == known(await held(path, "usage"))
    path.unlink()
    async with Archive(path):
        pass
    assert await held(path, "usage") == Usage()


@pytest.mark.parametrize("name", ["a\0b.sfk", "a\ud800.sfk"], ids=["NUL", "surrogate"])
def test_a_name_that_no_file_can_have(name):
    """It is refused where it is said."""
    with pytest.raises(InvalidArgumentError, match="archive cannot be at"):
        Archive(name)


def test_a_path_of_bytes_is_refused(tmp_path):
    """Such as `os.scandir` gives for a folder named in bytes: it is refused where it is said."""
    (tmp_path / "job.sfk").touch()
    with os.scandir(os.fsencode(tmp_path)) as entries:
        (entry,) = entries
    with pytest.raises(InvalidArgumentError, match="archive cannot be at"):
        Archive(entry)


def test_a_folder_that_is_gone_has_no_archive(tmp_path, monkeypatch):
    """A relative path means nothing where the process is in no folder."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InvalidArgumentError, match="archive cannot be at"):
        Archive("job.sfk")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes to be opened")
def test_a_pipe_is_not_waited_for(tmp_path):
    """Reading what is no file ends at once."""
    os.mkfifo(tmp_path / "pipe.sfk")
    with pytest.raises(ArchiveFormatError, match="no file"):
        Archive(tmp_path / "pipe.sfk").info()


@pytest.mark.usefixtures("written")
async def test_what_another_program_has_half_written_is_not_read(path):
    """A file with a transaction to be undone beside it is not read as if it were whole."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 5")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("UPDATE page SET charged = charged + 7")
        connection.execute("UPDATE attempt SET charged = charged + 7")
        half = path.with_name("half")
        half.mkdir()
        for name in (path.name, f"{path.name}-journal"):
            shutil.copyfile(path.with_name(name), half / name)
        connection.execute("ROLLBACK")
    before = await held(path, "usage")
    with suppress(ArchiveError):
        assert await held(half / path.name, "usage") == before
    async with Archive(half / path.name):
        pass
    assert await held(half / path.name, "usage") == before


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
            told.append("forked" if "forked off" in str(error) else str(error))
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
    """It would read what is half written, and lock its parent out; one forked later may read."""
    with running() as sim, Script(FORKING, sim.api_key, sim.url, path) as script:
        out = await asyncio.to_thread(script.result)
    assert out.splitlines() == ["forked forked forked", "read read 0"]
    assert (await held(path, "info")).answers == 2


def disk(monkeypatch, answer):
    """Let the disk say of itself what a test says."""
    usage = type(shutil.disk_usage("/"))

    def told(_):
        total, free = answer()
        return usage(total, total - free, free)

    monkeypatch.setattr(shutil, "disk_usage", told)


def unknown():
    raise OSError(errno.EPERM, "not permitted")


@pytest.mark.parametrize(
    "answer",
    [lambda: (1 << 30, 1_900_000), lambda: (0, 0), unknown],
    ids=["small", "none", "fails"],
)
async def test_a_small_disk_narrows_a_run_and_does_not_stop_it(path, monkeypatch, answer):
    """As many requests are on their way as there is room for; what is unknown is no lack of it."""
    disk(monkeypatch, answer)
    handles = [f"c{n}.5products" for n in range(40)]
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, concurrency=100) as client,
    ):
        run, outcomes = await run_of(client, handles, archive=path)
        assert run.stopped is None
        assert {outcome.status for outcome in outcomes.values()} == {"complete"}
        assert (sim.ledger.max_in_flight < 10) is (answer is not unknown and bool(answer()[0]))


async def test_the_room_of_the_disk_that_a_link_leads_to(tmp_path, monkeypatch):
    """It is the one that what is bought must fit on, wherever the link itself lies."""
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: usage(1 << 30, 0, 0 if "full" in os.path.realpath(path) else 1 << 30),
    )
    for name in "full", "roomy":
        (tmp_path / name).mkdir()
    async with Simulator() as sim, client_of(sim) as client:
        for place, link in ("roomy", "full"), ("full", "roomy"):
            path = tmp_path / link / "link.sfk"
            path.symlink_to(tmp_path / place / "job.sfk")
            async with Archive(path) as archive:
                page = client.showcase_page("a.5products", archive=archive)
                if place == "full":
                    await failure(page, ArchiveWriteError)
                else:
                    await page
        assert sim.ledger.charged == 1


@pytest.mark.real_time
async def test_a_small_disk_narrows_a_run_while_the_disk_is_looked_at(path, monkeypatch):
    """That takes a while, in another thread: until it is done what was known holds."""

    def small():
        time.sleep(0.003)
        return 1 << 30, 1_900_000

    disk(monkeypatch, small)
    handles = [f"c{n}.5products" for n in range(40)]
    async with (
        Simulator(latency=Latency.uniform(0, 0.01)) as sim,
        client_of(sim, concurrency=100) as client,
    ):
        await run_of(client, handles, archive=path)
        assert sim.ledger.max_in_flight < 10


async def test_a_disk_that_is_nearly_full_buys_nothing_until_there_is_room(path, monkeypatch):
    """An archive that is open in a service is of use again when somebody has made room."""
    free = 100_000
    disk(monkeypatch, lambda: (1 << 30, free))
    async with Simulator() as sim, client_of(sim) as client, Archive(path) as archive:
        for _ in range(2):
            error = await failure(
                client.showcase_page("a.5products", archive=archive), ArchiveWriteError
            )
            assert "97 KiB are left" in str(error)
        assert sim.ledger.requests == 0
        free = 1 << 30
        await client.showcase_page("a.5products", archive=archive)
        assert sim.ledger.requests == 1


async def test_closing_an_archive_under_calls_that_wait_for_room(path, monkeypatch):
    """They are told that it is closed, and what is on its way lands."""
    disk(monkeypatch, lambda: (1 << 30, 1_300_000))
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, concurrency=20) as client,
    ):
        archive = Archive(path)
        await archive.open()
        calls = [
            asyncio.create_task(client.showcase_page(f"c{n}.5products", archive=archive))
            for n in range(20)
        ]
        await asyncio.sleep(0.5)
        await archive.aclose()
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        assert {type(error) for error in failed} == {ArchiveError}
        assert 0 < sim.ledger.charged == len(results) - len(failed) < 10
    assert (await held(path, "usage")).charged == sim.ledger.charged


@pytest.mark.skipif(os.name != "posix", reason="needs the right of an owner")
async def test_a_plan_of_what_cannot_be_looked_at(path, tmp_path):
    """It is refused as a run is, by an error of ours."""
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
    with pytest.raises(InvalidArgumentError):
        Archive(path, durability=[])
