"""Read-only files, full disks, no memory or descriptors: nothing is bought that cannot be kept."""

import asyncio
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from asyncsfk import Archive, ArchiveError, ArchiveWriteError
from asyncsfk.simulator import Latency, Simulator
from tests.archive.support import Script, beside, disk, held, read_all, run_of
from tests.support import client_of, failure, sql

#: Put before a command to let it mount what nobody else sees.
UNSHARE = ["unshare", "-m"]


# --- where nothing can be written


def is_privileged(folder):
    """Tell if permissions do not hold us back."""
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


def may_mount():
    """Tell if we may mount what nobody else sees."""
    with suppress(FileNotFoundError):
        command = [*UNSHARE, "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
        return not subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603
    return False


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
for options in (["--bind", path.parent, path.parent], ["-o", "remount,ro,bind", path.parent]):
    subprocess.run(["mount", *options], check=True)

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


@pytest.mark.skipif(not may_mount(), reason="mounting is not permitted")
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
    # A file stays like this if somebody was reading it while it was closed.
    shutil.copyfile(path, path.with_name("read.sfk"))
    sql(path.with_name("read.sfk"), "PRAGMA journal_mode = WAL")
    with Script(READ_ONLY, path, before=UNSHARE) as script:
        lines = (await asyncio.to_thread(script.result)).splitlines()
    assert lines[:3] == ["refused True"] * 2 + ["refused"]
    assert lines[3] == f"{written.charged} 50 3"
    assert lines[4] == f"{written.charged}"
    assert lines[5] in ("refused", str(count))


#: Reads as one who may not write.
READER = """
import os, sys
from asyncsfk import Archive, ArchiveError

def read(path):
    try:
        return Archive(path).usage().charged, len(list(Archive(path).products()))
    except ArchiveError as error:
        return type(error).__name__, error

# All that is imported on the way, which another user may not be able to read.
read(sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for path in sys.argv[2:]:
    print(*read(path))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are another thing on Windows")
async def test_a_folder_that_another_may_not_write(path, written):
    """An archive that stayed in WAL mode can be read by who may write nothing beside it.

    But not one that somebody is about to write, since its log has yet to be made.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, begun = folder / "whole.sfk", folder / "begun.sfk"
        for copy in (whole, begun):
            shutil.copyfile(path, copy)
            # A file stays like this if somebody was reading it while it was closed.
            sql(copy, "PRAGMA journal_mode = WAL")
        begun.with_name("begun.sfk-lock").touch()
        await asyncio.to_thread(folder.chmod, 0o555)
        try:
            with Script(READER, path, whole, begun) as script:
                lines = (await asyncio.to_thread(script.result)).splitlines()
        finally:
            await asyncio.to_thread(folder.chmod, 0o700)
    assert lines[0] == f"{written.charged} 50"
    assert lines[1].startswith("ArchiveError ")
    assert lines[1].endswith(": try again, or as a user who may write to its folder")


# --- a full disk


#: Runs until the disk is full; prints what the run and the file say, and runs again.
FULL = """
import asyncio, json, resource, signal, subprocess, sys
from collections import Counter
from asyncsfk import Archive, ArchiveWriteError, Client, events
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
        subprocess.run(command, check=True)
    given, bodies, sent, after = [], 0, 0, None

    def count(event):
        nonlocal sent
        # Not as they arrive: what was sent before may do so after.
        sent += isinstance(event, events.RequestStarted)

    async with (
        Simulator(latency=Latency.uniform(0.01, 0.03)) as sim,
        Client(sim.api_key, base_url=sim.url, on_event=count, **PACE[kind]) as client,
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
                        after = sent
                    if outcome.status != "complete":
                        assert isinstance(outcome.error, ArchiveWriteError), outcome
                        bodies += outcome.error.body is not None
        except ArchiveWriteError as error:
            print("closing:", error, file=sys.stderr)
        print(json.dumps({
            "paid": sim.ledger.charged,
            "given": given,
            "bodies": bodies,
            "late": sent - after,
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
    if not sys.platform.startswith("linux") or (kind == "mount" and not may_mount()):
        pytest.skip("needs Linux, and the right to mount")
    with Script(FULL, path, kind, before=UNSHARE if kind == "mount" else []) as script:
        lines = (await asyncio.to_thread(script.result)).splitlines()
    told = json.loads(lines[0])
    assert told["stopped"] == "ArchiveWriteError"
    # Nothing is lost if the write that failed was a line of the ledger.
    assert 0 < len(told["kept"]) <= told["paid"]
    # All that was handed out is on file.
    assert set(told["given"]) <= set(told["kept"])
    # After a failed write nothing is sent; on a mount, what was let through before still is.
    assert told["late"] <= (5 if kind == "mount" else 0)
    # On a mount the lack of room is seen in time, and all that was paid for is kept.
    # Otherwise what was on its way is not: more of it at a rate, as a disk is slow to fail.
    # All of that is handed out in `error.body`.
    lost = told["paid"] - len(told["kept"])
    assert told["bodies"] == lost
    assert lost <= {"mount": 0, "limit": 6, "rate": 39}[kind]
    assert told["charged"] == told["paid"]
    assert kind != "mount" or told["unsettled"] == 0
    assert set(told["outcomes"]) == {1}
    if kind != "mount":
        again = json.loads(lines[1])
        assert again["statuses"] == ["complete"]
        assert again["again"] == 120 - len(told["kept"])


#: Takes all memory from SQLite in the middle of a run; prints what came of it.
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
    """If SQLite runs out of memory, what was paid for is on file, or comes as a body."""
    with Script(MEMORY, path) as script:
        told = json.loads(await asyncio.to_thread(script.result))
    assert told["stopped"] == "ArchiveWriteError"
    assert told["message"].endswith("cannot be used: out of memory")
    assert len(told["statuses"]) == 40
    kept = [page.request_id for page in await held(path, "answers")]
    assert set(told["given"]) <= set(kept)
    assert told["charged"] == told["paid"] == len(kept) + told["bodies"]
    assert 0 < told["bodies"] <= 6


#: Runs into a large file, takes all file descriptors once some are open, and prints the sums.
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
    """Writing opens no further file, so it works without a free file descriptor."""
    with Script(FILES, path) as script:
        lines = (await asyncio.to_thread(script.result)).splitlines()
    assert lines == ["{'complete'} 800", "800"]


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("refused", [1, 2])
async def test_an_archive_that_can_have_no_thread_is_not_opened(path, monkeypatch, refused):
    """An archive is not opened if one of its two threads cannot be started."""
    start, begun = threading.Thread.start, 0

    def refuse(thread):
        nonlocal begun
        if thread.name.startswith("asyncsfk-archive"):
            begun += 1
            if begun == refused:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    archive = Archive(path)
    error = await failure(archive.open(), ArchiveError)
    assert "can't start new thread" in str(error)
    assert beside(path) == []
    async with archive:
        assert archive.is_open


def unknown(_):
    raise OSError(errno.EPERM, "not permitted")


@pytest.mark.parametrize(
    "answer",
    [lambda _: (1 << 30, 1_900_000), lambda _: (0, 0), unknown],
    ids=["small", "none", "fails"],
)
async def test_a_small_disk_narrows_a_run_and_does_not_stop_it(path, monkeypatch, answer):
    """Only as many requests are under way as there is room for; unknown room limits nothing."""
    disk(monkeypatch, answer)
    handles = [f"c{n}.5products" for n in range(40)]
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, concurrency=100) as client,
    ):
        run, outcomes = await run_of(client, handles, archive=path)
        assert run.stopped is None
        assert {outcome.status for outcome in outcomes.values()} == {"complete"}
        assert (sim.ledger.max_in_flight < 10) is (answer is not unknown and bool(answer(path)[0]))


async def test_the_room_of_the_disk_that_a_link_leads_to(tmp_path, monkeypatch):
    """The room that counts is that of the disk where the file itself lies, not the link to it."""
    disk(monkeypatch, lambda path: (1 << 30, 0 if "full" in os.path.realpath(path) else 1 << 30))
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
    """While the disk is being looked at in a thread, the room known before still limits."""

    def small(_):
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
    """An open archive buys nothing while the disk is nearly full, and does once there is room."""
    free = 100_000
    disk(monkeypatch, lambda _: (1 << 30, free))
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
    """Calls that wait for room learn that the archive was closed; what is on its way lands."""
    disk(monkeypatch, lambda _: (1 << 30, 1_300_000))
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
