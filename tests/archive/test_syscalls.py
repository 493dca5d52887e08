"""Killed at any system call, and traced: what was handed out had reached the disk."""

import asyncio
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncsfk import Archive, ArchiveLockedError
from tests.archive.support import Script
from tests.support import sql

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
]

#: Fetches creators and writes each answer's id to a file `out` once it was handed out: into the
#: folder of its arguments, or in a child of its own for each folder that its stdin names.
FETCH = """
import asyncio, os, sys, time
from asyncsfk import Archive, Client
from asyncsfk.simulator import Simulator


async def fetch(folder, durability):
    out = os.open(f"{folder}/out", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    async with (
        Simulator(page_size=5) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
        Archive(f"{folder}/job.sfk", durability=durability) as archive,
    ):
        for handle in ("a.5products", "b.10products"):
            page = await client.showcase_page(handle, archive=archive)
            os.write(out, f"page {page.request_id}\\n".encode())
        handles = ["b.10products", "c.5products"]
        async with client.showcases(handles, archive=archive, concurrency=1) as run:
            async for outcome in run:
                line = f"outcome {outcome.handle} {' '.join(outcome.request_ids)}\\n"
                os.write(out, line.encode())


if len(sys.argv) > 2:
    asyncio.run(fetch(sys.argv[1], sys.argv[2]))
    raise SystemExit
for line in sys.stdin:
    folder = line.strip()
    child = os.fork()
    if not child:
        while not os.path.exists(f"{folder}/go"):
            time.sleep(0.002)
        asyncio.run(fetch(folder, "full"))
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def can_trace():
    """Tell if we may trace a process of ours."""
    command = ["strace", "-o", os.devnull, "true"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - ours
    return done.returncode == 0


def handed_out(folder):
    """Give the ids of all answers that a killed process handed out, and those of each creator."""
    out = folder / "out"
    lines = out.read_text().splitlines() if out.exists() else []
    pages, outcomes = set(), {}
    for kind, first, *rest in map(str.split, lines):
        if kind == "page":
            pages.add(first)
        else:
            outcomes[first] = rest
            pages.update(rest)
    return pages, outcomes


def kill_at(zygote, folder, calls, count):
    """Let a child fetch into a folder, killed at the count-th of some system calls."""
    folder.mkdir()
    zygote.say(folder)
    pid = zygote.line()
    inject = f"inject={calls}:signal=SIGKILL:when={count}"
    command = ["strace", "-fqqo", os.devnull, "-p", pid, "-e", f"trace={calls}", "-e", inject]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: S603 - our own child
    status = Path(f"/proc/{pid}/status")
    end = time.monotonic() + 10
    while "TracerPid:\t0" in status.read_text() and time.monotonic() < end:
        time.sleep(0.001)
    (folder / "go").touch()
    assert zygote.line() == "ended"
    tracer.communicate(timeout=20)


@pytest.mark.parametrize("calls", ["pwrite64", "fdatasync", "unlink"])
@pytest.mark.timeout(120)
def test_killed_at_any_system_call(tmp_path, calls):
    """After a kill at any write, sync or removal the file opens, and has all that was given."""
    if not can_trace():
        pytest.skip("tracing is not permitted")
    lengths = []
    step = {"pwrite64": 9, "fdatasync": 1, "unlink": 1}[calls]
    with Script(FETCH, tmp_path) as zygote:
        count = 1
        while True:
            folder = tmp_path / str(count)
            kill_at(zygote, folder, calls, count)
            pages, outcomes = handed_out(folder)
            path = folder / "job.sfk"
            if path.exists() and path.stat().st_size:
                assert sql(path, "PRAGMA integrity_check") == [("ok",)]
                kept = {page.request_id for page in Archive(path).answers()} if pages else set()
                assert kept >= pages, f"killed at {calls} {count}"
                statuses = {o.handle: o.status for o in Archive(path).outcomes()} if pages else {}
                assert dict.fromkeys(outcomes, "complete").items() <= statuses.items()
            else:
                assert not pages
            lengths.append(len(pages))
            if len(pages) == 4 and calls != "unlink":
                break
            count += step
            if calls == "unlink" and count > 3:
                break
    if calls != "unlink":
        assert {0, 4} < set(lengths)


def trace(tmp_path, durability):
    """Give the writes and syncs of a fetch, in the order in which they ended."""
    log = tmp_path / "trace"
    before = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=pwrite64,fdatasync,fsync,write"]
    with Script(FETCH, tmp_path, durability, before=before) as script:
        script.result()
    events = []
    for line in log.read_text().splitlines():
        found = re.search(r"(pwrite64|fdatasync|fsync|write)\(\d+<[^>]*/(job\.sfk-wal|out)>", line)
        if found:
            events.append((found[1], found[2]))
    return events


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_what_is_synced_before_it_is_handed_out(tmp_path, durability):
    """With full durability all is synced before it is handed out; with normal, at the end."""
    if not can_trace():
        pytest.skip("tracing is not permitted")
    dirty, written, handed = False, 0, []
    for call, file in trace(tmp_path, durability):
        if file == "out":
            handed.append((written, dirty))
            written = 0
        elif call == "pwrite64":
            dirty = True
            written += 1
        else:
            dirty = False
    assert len(handed) == 4
    assert all(written for written, _ in handed)
    assert {dirty for _, dirty in handed} == ({False} if durability == "full" else {True})
    assert not dirty


#: Opens an archive, and holds it until it is fed a line.
LATE = """
import asyncio, sys
from asyncsfk import Archive, ArchiveLockedError

async def main(path):
    try:
        async with Archive(path):
            print("opened", flush=True)
            sys.stdin.readline()
    except ArchiveLockedError as error:
        print(error)

asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def late(path):
    """Let a process open an archive, and lock it 1.5 s after it has opened the lock file."""
    if not can_trace():
        pytest.skip("tracing is not permitted")
    marks = path.with_name("trace")
    before = ["strace", "-f", "-o", str(marks), "-P", f"{path}-lock"]
    before += ["-e", "trace=openat", "-e", "inject=openat:delay_exit=1500000:when=1"]
    with Script(LATE, path, before=before) as script:
        end = time.monotonic() + 20
        while not (marks.exists() and "job.sfk-lock" in marks.read_text()):
            assert time.monotonic() < end
            time.sleep(0.01)
        yield script


def test_a_lock_file_that_is_removed_while_it_is_opened(tmp_path):
    """Opening a lock file that its holder then removes does not give the next holder's lock."""
    holder = Archive(tmp_path / "job.sfk")
    with asyncio.Runner() as runner:
        runner.run(holder.open())
        with late(holder.path) as script:
            # It has opened the file that is removed now; the next holder makes another.
            runner.run(holder.aclose())
            runner.run(holder.open())
            told = script.result()
        runner.run(holder.aclose())
    assert f"process {os.getpid()} on" in told


def test_a_lock_file_that_is_removed_while_it_is_made(tmp_path):
    """A lock is seen by others even if its file was removed while it was being made."""
    other = Archive(tmp_path / "job.sfk")
    with asyncio.Runner() as runner, late(other.path) as script:
        runner.run(other.open())
        runner.run(other.aclose())
        assert script.line() == "opened"
        with pytest.raises(ArchiveLockedError):
            runner.run(other.open())
        script.say()
        script.result()


def test_a_lock_that_is_given_back_slowly(tmp_path):
    """A lock's file is removed before the lock is free, or the next one would go unseen."""
    if not can_trace():
        pytest.skip("tracing is not permitted")
    path = tmp_path / "job.sfk"
    before = ["strace", "-f", "-o", os.devnull, "-P", f"{path}-lock"]
    before += ["-e", "trace=unlink", "-e", "inject=unlink:delay_enter=500000"]
    following = Archive(path, wait=20)
    with asyncio.Runner() as runner, Script(LATE, path, before=before) as leaving:
        assert leaving.line() == "opened"
        leaving.say()
        runner.run(following.open())
        leaving.result()
        with pytest.raises(ArchiveLockedError):
            runner.run(Archive(path).open())
        runner.run(following.aclose())
