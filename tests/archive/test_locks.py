"""One writer at a time: others are told who it is, and a dead process is in nobody's way."""

import asyncio
import base64
import copy
import gzip
import os
import pickle
import platform
import random
import re
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    ArchiveLockedError,
    ArchiveWriteError,
    Client,
    ClientStateError,
    InvalidArgumentError,
    UndecodableError,
)
from asyncsfk.simulator import Simulator
from tests.archive.support import Script, beside, held, run_of
from tests.support import client_of, enveloped, failure, http, sql, told

HOLDER = """
import asyncio, os, sys
from asyncsfk import Archive

async def main():
    async with Archive(sys.argv[1]):
        print(os.getpid(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""

ANOTHER_USER = """
import asyncio, os, sys
from asyncsfk import Archive, SfkError

async def come(path):
    try:
        await Archive(path).open()
    except SfkError as error:
        print(type(error).__name__, error)

async def warm_up(path):
    async with Archive(path):
        await come(path)

# All that is imported on the way, which another user may not be able to read.
asyncio.run(warm_up(sys.argv[2]))
os.setgid(65534)
os.setuid(65534)
asyncio.run(come(sys.argv[1]))
"""

HAMMER = """
import asyncio, os, sys, time
from asyncsfk import Archive, ArchiveLockedError

async def main(path, token):
    opened = refused = 0
    # For a second, and on a busy machine until there was something to see.
    least, most = time.monotonic() + 1, time.monotonic() + 15
    while (now := time.monotonic()) < least or (min(opened, refused) < 5 and now < most):
        try:
            async with Archive(path):
                # Fails if somebody else is in here as well.
                os.close(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                opened += 1
                await asyncio.sleep(0)
                os.unlink(token)
        except ArchiveLockedError:
            refused += 1
    print(opened, refused, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""

KILLED = """
import asyncio, os, sys
from asyncsfk import Archive, Client
from asyncsfk.simulator import Fault, Simulator

async def main(path):
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        async with Archive(path) as archive:
            page = await client.showcase_page("x.45products", archive=archive)
            sim.faults = [Fault.hang()]
            call = asyncio.create_task(
                client.showcase_page("x.45products", cursor=page.next_cursor, archive=archive)
            )
            while sim.ledger.requests < 2:
                await asyncio.sleep(0.01)
            print(page.request_id, flush=True)
            await call

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it asks Linux what is open")
async def test_no_lock_is_left_where_no_open_file_can_be_removed(path, monkeypatch):
    """On Windows too, where no open file can be removed, closing leaves a single file."""
    unlink, refused = os.unlink, []

    def is_open(name):
        for link in Path("/proc/self/fd").iterdir():
            # The descriptor of the listing itself is closed by now.
            with suppress(OSError):
                if link.samefile(name):
                    return True
        return False

    def unlink_as_windows(name):
        if is_open(name):
            refused.append(name)
            raise PermissionError(name)
        unlink(name)

    monkeypatch.setattr(os, "unlink", unlink_as_windows)
    monkeypatch.setattr(sys, "platform", "win32")
    async with Archive(path):
        assert "-lock" in beside(path)
    monkeypatch.undo()
    assert (beside(path), len(refused)) == ([], 1)


async def test_a_second_opening_of_this_process_is_refused(client, path):
    """A second opening in this process is refused, with an error that names this process."""
    async with Archive(path) as archive:
        for other in (Archive(path), Archive(str(path))):
            error = await failure(other.open(), ArchiveLockedError)
            assert isinstance(error, ArchiveError)
            assert re.search(
                rf"is being written by process {os.getpid()} on \S+, since 20.* this one: .* share",
                str(error),
            )
            assert not other.is_open
        # The attempts have not disturbed the holder.
        page = await client.showcase_page("x", archive=archive)
        assert page.usage.charged == 1
        error = await failure(Archive(path).open(), ArchiveLockedError)
    async with Archive(path) as archive:
        assert (await client.showcase_page("x", archive=archive)).usage.charged == 0


async def test_a_process_of_another_host_is_not_this_one(path):
    """A process of another host is not taken for this one, even with the same number."""
    async with Archive(path):
        sql(path, "UPDATE session SET host = 'elsewhere'")
        error = await failure(Archive(path).open(), ArchiveLockedError)
        assert f"process {os.getpid()} on elsewhere, since" in str(error)
        assert "this one" not in str(error)


async def test_the_host_is_named_without_a_description_of_the_system(path, monkeypatch):
    """The host's name is had without `platform`, which on Windows can hang, or end the process."""
    monkeypatch.delattr(platform, "uname")
    async with Archive(path):
        error = await failure(Archive(path).open(), ArchiveLockedError)
        assert f"process {os.getpid()} on {socket.gethostname()}, since" in str(error)
        assert "this one" in str(error)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="time zones cannot be set")
async def test_since_when_it_is_open_is_told_in_utc(path, monkeypatch):
    """The time since when a file is open is told in UTC, whatever the local time zone."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "UTC-9")
        time.tzset()
        before = datetime.now(UTC).replace(microsecond=0)
        async with Archive(path):
            error = await failure(Archive(path).open(), ArchiveLockedError)
    time.tzset()
    since = re.search(r"since (.*) UTC", str(error))[1]
    assert before <= datetime.fromisoformat(f"{since}+00:00") <= datetime.now(UTC)


async def test_who_salvages_is_not_taken_for_who_had_it_open_before(path):
    """During a salvage no process that had the file open before is named as its writer."""
    async with told(http(200, b"no JSON")) as (_, client), Archive(path) as archive:
        await failure(client.showcase_page("x", archive=archive), UndecodableError)
    sql(path, "UPDATE page SET body = ?", enveloped({"products": [], "page": {"hasMore": False}}))
    refused = []

    def salvage_as_well(_):
        with pytest.raises(ArchiveLockedError) as caught:
            Archive(path).salvage()
        refused.append(str(caught.value))

    assert await held(path, "salvage", salvage_as_well) == 1
    assert refused == [f"{path} is being written by a process that has just begun"]


async def test_openings_at_once(path):
    """If many open one file at the same moment, one succeeds and the others are refused."""
    archives = [Archive(path) for _ in range(8)]
    results = await asyncio.gather(*(a.open() for a in archives), return_exceptions=True)
    assert results.count(None) == 1
    assert sum(isinstance(result, ArchiveLockedError) for result in results) == 7
    assert sum(archive.is_open for archive in archives) == 1
    for archive in archives:
        await archive.aclose()
    assert beside(path) == []


async def test_one_archive_opened_twice_at_once(path):
    """Of two tasks that open the same archive at once, only one succeeds."""
    archive = Archive(path)
    results = await asyncio.gather(archive.open(), archive.open(), return_exceptions=True)
    assert results.count(None) == 1
    assert sum(isinstance(result, ArchiveError) for result in results) == 1
    await archive.aclose()
    assert beside(path) == []


async def test_who_only_looks_keeps_nobody_out(path):
    """A process that only reads the lock file keeps nobody out."""
    lock = path.with_name(f"{path.name}-lock")
    with closing(sqlite3.connect(lock, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM sqlite_master").fetchall()
        async with Archive(path):
            await failure(Archive(path).open(), ArchiveLockedError)


@pytest.mark.parametrize("how", ["run", "open"])
async def test_threads_that_come_for_one_archive_in_the_same_moment(sim, client, path, how):
    """While a run waits for its file, the archive is refused at once in other event loops."""
    archive = Archive(path, wait=5)

    async def come():
        if how == "open":
            await archive.open()
        async with Client(sim.api_key, base_url=sim.url) as other:
            await other.fetch_showcases(["b.5products"], archive=archive)

    async with Archive(path) as first:
        run = asyncio.ensure_future(client.fetch_showcases(["a.5products"], archive=archive))
        await asyncio.sleep(1)
        # The run is still waiting for the first archive.
        with pytest.raises(ClientStateError, match="in use in another event loop"):
            await asyncio.to_thread(asyncio.run, come())
        await first.aclose()
    (outcome,) = await run
    assert outcome.status == "complete"
    assert not archive.is_open
    assert sim.ledger.requests == 1


@pytest.mark.parametrize("is_closing", [False, True])
async def test_an_archive_that_another_event_loop_has(sim, client, path, is_closing):
    """An archive used in one event loop is refused in others until it is closed there."""
    archive = Archive(path)
    await archive.open()
    page = asyncio.ensure_future(client.showcase_page("a.5products", archive=archive))
    await asyncio.sleep(0.05)
    closing = asyncio.ensure_future(archive.aclose()) if is_closing else None
    await asyncio.sleep(0)

    async def fetch():
        async with Client(sim.api_key, base_url=sim.url) as other:
            await other.fetch_showcases(["b.5products"], archive=archive)

    for coming in (fetch(), archive.open()):
        with pytest.raises(ClientStateError, match="in use in another event loop"):
            await asyncio.to_thread(asyncio.run, coming)
    assert len((await page).products) == 5
    await (closing or archive.aclose())
    assert sim.ledger.requests == 1


async def test_an_archive_goes_from_one_event_loop_to_the_next(sim, path):
    """Once closed in one event loop, an archive can be opened in another, and back again."""
    archive = Archive(path)

    async def fetch(handle):
        async with Client(sim.api_key, base_url=sim.url) as client:
            (outcome,) = await client.fetch_showcases([handle], archive=archive)
        return outcome.status

    assert await fetch("a.5products") == "complete"
    assert await asyncio.to_thread(asyncio.run, fetch("b.5products")) == "complete"
    assert await fetch("c.5products") == "complete"
    assert not archive.is_open


async def test_an_archive_needs_an_event_loop_of_asyncio(path):
    """Opening outside an event loop of asyncio is refused before a file is made."""
    with pytest.raises(ClientStateError, match="event loop of asyncio"):
        await asyncio.to_thread(Archive(path).open().send, None)
    assert not path.exists()


async def test_an_archive_goes_to_another_process(path):
    """A pickled or copied archive has the same settings, and is not open."""
    async with Archive(path, durability="normal", wait=0.3) as archive:
        other = pickle.loads(pickle.dumps(archive))  # noqa: S301 - our own
        assert (other.path, other.is_open) == (archive.path, False)
        began = time.monotonic()
        await failure(other.open(), ArchiveLockedError)
        assert time.monotonic() - began >= 0.3
    async with other:
        assert not copy.copy(other).is_open


@pytest.fixture
def shared():
    """A folder that other users may write to, too."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user"
)
@pytest.mark.parametrize("mode", [0o666, 0o644])
async def test_another_user_does_not_write_beside_us(shared, tmp_path, mode):
    """Another user who may write is told who has the file; one who may not, only that."""
    path = shared / "job.sfk"
    async with Archive(path):
        pass
    await asyncio.to_thread(path.chmod, mode)
    async with Archive(path):
        with Script(ANOTHER_USER, path, tmp_path / "other.sfk") as script:
            lines = (await asyncio.to_thread(script.result)).splitlines()
        assert beside(path) == ["-lock", "-shm", "-wal"]
    expected = "ArchiveLockedError" if mode == 0o666 else "ArchiveWriteError"
    assert [line.split()[0] for line in lines] == ["ArchiveLockedError", expected]


async def test_runs_that_share_an_archive_that_is_not_open(sim, client, path):
    """The first run opens a shared archive and the last closes it, in whatever order they come."""
    archive = Archive(path)
    first = client.showcases(["a.45products"], archive=archive)
    second = client.showcases(["b.45products"], archive=archive)
    await asyncio.gather(first.__aenter__(), second.__aenter__())
    assert [outcome.status async for outcome in first] == ["complete"]
    await first.aclose()
    assert archive.is_open
    async with client.showcases(["c.5products"], archive=archive) as third:
        await asyncio.gather(second.aclose(), anext(third))
        assert archive.is_open
    assert not archive.is_open
    assert beside(path) == []
    _, outcomes = await run_of(client, [f"{name}.45products" for name in "ab"], archive=archive)
    assert {outcome.status for outcome in outcomes.values()} == {"complete"}
    assert not archive.is_open
    assert sim.ledger.paid_twice() == {}


async def test_a_run_that_comes_while_the_last_one_closes(client, path):
    """A run that comes while the last one closes waits for that, and opens the file again."""
    archive = Archive(path)
    async with client.showcases(["a.5products"], archive=archive) as run:
        assert (await anext(run)).status == "complete"
        ending = asyncio.create_task(run.aclose())
        # Until it has begun to close the file, which takes a thread some time.
        while archive.is_open:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
        assert not ending.done()
        _, outcomes = await run_of(client, ["a.5products"], archive=archive)
        assert outcomes["a.5products"].usage.charged == 0
        await ending
    assert not archive.is_open


async def test_runs_do_not_close_what_they_did_not_open(client, path):
    """A run leaves open what its user has opened, even if that was during the run."""
    async with Archive(path) as archive:
        await run_of(client, ["a.5products"], archive=archive)
        assert archive.is_open
    archive = Archive(path)
    async with client.showcases(["b.5products"], archive=archive) as run:
        assert (await anext(run)).status == "complete"
        await archive.aclose()
        await archive.open()
    assert archive.is_open
    await archive.aclose()


async def test_a_run_that_could_not_open_its_archive_has_no_part_in_it(client, path):
    """A run that could not open its archive buys nothing, and keeps no other from closing it."""
    archive = Archive(path)
    async with Archive(path):
        run = client.showcases(["a"], archive=archive, max_credits=1)
        await failure(run.__aenter__(), ArchiveLockedError)
        await failure(anext(run), ClientStateError)
        assert client.usage.requests == 0
    await run_of(client, ["a.5products"], archive=archive)
    assert not archive.is_open
    assert beside(path) == []


@pytest.mark.parametrize("kind", ["relative", "with dots", "symlink", "linked folder"])
async def test_other_names_of_the_file_are_no_way_round(path, monkeypatch, kind):
    """A file has one writer, by whatever path it is opened."""
    other = {
        "relative": path.relative_to(path.parent),
        "with dots": path.parent / "there" / ".." / path.name,
        "symlink": path.with_name("link.sfk"),
        "linked folder": path.parent / "folder" / path.name,
    }[kind]
    monkeypatch.chdir(path.parent)
    (path.parent / "there").mkdir()
    (path.parent / "folder").symlink_to(path.parent)
    path.with_name("link.sfk").symlink_to(path)
    async with Archive(path):
        await failure(Archive(other).open(), ArchiveLockedError)
    async with Archive(other):
        await failure(Archive(path).open(), ArchiveLockedError)
    assert beside(path) == []


async def test_a_file_of_two_names_is_refused(client, path):
    """A file with a second hard link cannot be opened for writing, but can be read."""
    other = path.with_name("other.sfk")
    async with Archive(path) as archive:
        await client.showcase_page("x", archive=archive)
        other.hardlink_to(path)
        await failure(Archive(other).open(), ArchiveWriteError)
        # The archive that has it open goes on.
        await client.showcase_page("y", archive=archive)
    for name in path, other:
        error = await failure(Archive(name).open(), ArchiveWriteError)
        assert f"{name} cannot be used: its file has another name, a hard link" in str(error)
        await failure(held(name, "salvage"), ArchiveWriteError)
        assert (await held(name, "info")).answers == 2
    assert beside(path) == beside(other) == []
    other.unlink()
    async with Archive(path) as archive:
        page = await client.showcase_page("x", archive=archive)
        assert page.usage.archived == 1


async def test_a_relative_path_may_be_left_behind(client, tmp_path, monkeypatch):
    """A process that changes its directory still closes, and unlocks, the file that it opened."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    async with Archive("job.sfk") as archive:
        monkeypatch.chdir(tmp_path / "elsewhere")
        await client.showcase_page("x", archive=archive)
    monkeypatch.chdir(tmp_path)
    assert {found.name for found in tmp_path.iterdir()} == {"job.sfk", "elsewhere"}
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(await held("job.sfk", "answers")) == 1


@pytest.mark.real_time
async def test_another_process_is_named(path):
    """The error tells the number of the process that has the file; reading is still allowed."""
    with Script(HOLDER, path) as holder:
        pid = await asyncio.to_thread(holder.line)
        error = await failure(Archive(path).open(), ArchiveLockedError)
        assert f"process {pid} on " in str(error)
        assert "this one" not in str(error)
        assert "-lock" in beside(path)
        assert (await held(path, "info")).answers == 0
        async with Simulator() as sim, client_of(sim) as client:
            run = client.showcases(["x"], archive=path)
            await failure(run.__aenter__(), ArchiveLockedError)
            assert sim.ledger.requests == 0
        holder.say()
        await asyncio.to_thread(holder.result)
    async with Archive(path):
        pass
    assert beside(path) == []


@pytest.mark.real_time
async def test_waiting_for_another_process(path):
    """With wait= an opening waits until the file is let go, and gives up after that time."""
    with Script(HOLDER, path) as holder:
        await asyncio.to_thread(holder.line)
        began = time.monotonic()
        await failure(Archive(path, wait=0.3).open(), ArchiveLockedError)
        assert 0.3 <= time.monotonic() - began < 5
        waiting = Archive(path, wait=30)
        opening = asyncio.create_task(waiting.open())
        await asyncio.sleep(0.3)
        assert not opening.done()
        holder.say()
        await opening
    assert waiting.is_open
    await waiting.aclose()


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), "1", None, True])
def test_a_wait_that_is_no_time_is_refused(path, wait):
    """A wait that is not a time is refused when the Archive is made."""
    with pytest.raises(InvalidArgumentError, match="wait"):
        Archive(path, wait=wait)


@pytest.mark.real_time
async def test_waiting_can_be_cancelled(path):
    """An opening that waits for a file can be cancelled, and leaves the file as it is."""
    async with Archive(path):
        opening = asyncio.create_task(Archive(path, wait=30).open())
        await asyncio.sleep(0.15)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await failure(Archive(path).open(), ArchiveLockedError)
    async with Archive(path):
        pass
    assert beside(path) == []


@pytest.mark.real_time
async def test_a_killed_holder_is_taken_over(path):
    """A killed process holds no lock: its pages are on file, and its request counts as maybe."""
    with Script(KILLED, path) as victim:
        request_id = await asyncio.to_thread(victim.line)
        await failure(Archive(path).open(), ArchiveLockedError)
        await failure(held(path, "salvage"), ArchiveLockedError)
        victim.kill()
    assert {"-lock", "-wal"} <= set(beside(path))
    assert [page.request_id for page in await held(path, "answers")] == [request_id]
    assert await held(path, "salvage") == 0
    async with Archive(path):
        pass
    assert beside(path) == []
    usage = await held(path, "usage")
    assert usage.charged == 1
    # One request was under way; exposures are rounded up, so that few have to be written.
    assert 1 <= usage.maybe <= 16
    last = (await held(path, "ledger"))[-1]
    assert (last.error, last.attempt, last.route) == ("ProcessDied", 0, "")
    # It is counted once, however often the file is opened after.
    async with Archive(path):
        pass
    assert await held(path, "usage") == usage


@pytest.mark.real_time
async def test_processes_hammering_one_file(tmp_path):
    """Processes that keep opening and closing one file never have it open at the same time."""
    path, token = tmp_path / "job.sfk", tmp_path / "token"
    scripts = [Script(HAMMER, path, token) for _ in range(3)]
    try:
        results = await asyncio.gather(*(asyncio.to_thread(one.result) for one in scripts))
    finally:
        for script in scripts:
            script.__exit__()
    counts = [tuple(map(int, result.split())) for result in results]
    assert sum(opened for opened, _ in counts) > 5
    assert sum(refused for _, refused in counts) > 5
    # A refused process may have been reading the holder's name as the last one closed.
    async with Archive(path):
        pass
    assert [found.name for found in tmp_path.iterdir()] == ["job.sfk"]


async def test_reading_beside_a_writer(sim, client, path):
    """Readers can read again and again during a run, and hinder nobody."""
    counts = []
    async with client.showcases(sim.handles(30), archive=path, concurrency=5) as run:
        async for _ in run:
            if run.progress.done % 3 == 0:
                outcomes, pages, info = await asyncio.gather(
                    held(path, "outcomes"), held(path, "answers"), held(path, "info")
                )
                counts.append(len(pages))
                assert len(outcomes) >= run.progress.done
                assert info.complete <= len(outcomes)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


async def test_a_reader_that_takes_its_time(sim, client, path):
    """A reading that began before a run and ended after it is whole, and blocks nothing."""
    await run_of(client, sim.handles(10), archive=path)
    reading = Archive(path).products()
    first = await asyncio.to_thread(next, reading, None)
    await run_of(client, sim.handles(20), archive=path)
    rest = await asyncio.to_thread(list, reading)
    assert [first, *rest] == await held(path, "products")
    assert sim.ledger.paid_twice() == {}


class Readers:
    """Threads that read a file for a while each, every one beginning before the other ends."""

    def __init__(self, path):
        self._path = path
        self._is_over = threading.Event()
        self._going = threading.Lock()
        self._begun = [threading.Event() for _ in range(2)]
        self._threads = [threading.Thread(target=self._read, args=(own,)) for own in range(2)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        for begun in self._begun:
            assert begun.wait(10)

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _read(self, own):
        mine, other = self._begun[own], self._begun[1 - own]
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            while True:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM attempt").fetchone()
                mine.set()
                if self._is_over.wait(0.02):
                    return
                with self._going:
                    assert other.wait(10)
                    mine.clear()
                    connection.execute("COMMIT")


@pytest.mark.real_time
async def test_readers_that_follow_one_upon_the_other_do_not_keep_the_log(path):
    """Under overlapping readers the log does not grow without end, and nothing is lost."""
    noise = base64.b64encode(random.Random(1).randbytes(3 << 20)).decode()
    body = gzip.compress(enveloped({"noise": noise}), 1)
    log = path.with_name(f"{path.name}-wal")
    async with (
        told(http(200, body, "Content-Encoding: gzip"), keep=True) as (_, client),
        Archive(path) as archive,
    ):
        sizes = []
        with Readers(path):
            for number in range(30):
                await client.get(f"/v1/tiktok/profiles/c{number}", archive=archive)
                sizes.append(log.stat().st_size)
        assert max(sizes) < 40 << 20
    assert (await held(path, "info")).answers == 30
    assert path.stat().st_size > 80 << 20


async def test_a_lock_file_alone_holds_nothing(path):
    """A lock file that was left behind keeps nobody out."""
    path.with_name(f"{path.name}-lock").touch()
    async with Archive(path):
        pass
    assert beside(path) == []


def write_notes(path):
    path.write_text("to do: buy milk, look up the price of it, and call home\n" * 9, "utf-8")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkdir, "unable to open database file"),
        (os.mkfifo, "disk I/O error"),
        (write_notes, "file is not a database"),
    ],
)
async def test_a_lock_file_that_cannot_be_one(path, make, why):
    """Something else in the lock file's place is reported at once, not as another's lock."""
    lock = path.with_name(f"{path.name}-lock")
    make(lock)
    error = await failure(Archive(path, wait=30).open(), ArchiveWriteError)
    assert str(error) == f"{path} cannot be used: no lock can be taken at {lock}: {why}"
    assert not path.exists()


async def test_a_lock_file_that_was_removed_by_hand(client, path):
    """Removing the lock file by hand does not keep the holder from closing the file."""
    async with Archive(path) as archive:
        path.with_name(f"{path.name}-lock").unlink()
        await client.showcase_page("x", archive=archive)
    assert beside(path) == []
    assert (await held(path, "info")).answers == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let go of an open file")
async def test_a_lock_that_somebody_else_has_by_now(sim, client, path):
    """A run that lost its lock to another stops buying, and what it has sent still lands."""
    handles = list(sim.handles(60))
    other = Archive(path)
    async with client.showcases(handles, archive=path) as run:
        outcomes = [await anext(run)]
        path.with_name(f"{path.name}-lock").unlink()
        await other.open()
        spent = sim.ledger.charged
        outcomes += [outcome async for outcome in run]
        assert isinstance(run.stopped, ArchiveLockedError)
    assert len(outcomes) == len(handles)
    assert spent <= sim.ledger.charged == run.usage.charged < 60
    assert not any(outcome.error and outcome.error.body for outcome in outcomes)
    await failure(Archive(path).open(), ArchiveLockedError)
    async with client.showcases(handles, archive=other) as run:
        assert {outcome.status async for outcome in run} == {"complete"}
    assert sim.ledger.paid_twice() == {}
    await other.aclose()
    assert beside(path) == []
    assert (await held(path, "usage")).charged == sim.ledger.charged


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let go of an open file")
async def test_a_lock_that_is_found_lost_before_a_request_is_sent(sim, client, path):
    """What was about to be sent when the archive found its lock gone is not bought."""
    async with Archive(path) as archive:
        await client.showcase_page("x", archive=archive)
        await asyncio.sleep(2)
        path.with_name(f"{path.name}-lock").unlink()
        async with Archive(path):
            # The first commit after a lull is that it may be charged.
            await failure(client.showcase_page("a", archive=archive), ArchiveLockedError)
        assert sim.ledger.requests == 1
