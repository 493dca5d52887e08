"""Ctrl-C and SIGTERM during `asyncsfk fetch`: an orderly end, a quick one, and going on."""

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from array import array
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asyncsfk.simulator import Fault, Latency
from tests.cli.conftest import ASYNCSFK
from tests.cli.support import begun, by_handle, is_idle, lines, read
from tests.support import wait_for

NOTICE = b"Stopping: what has been asked for will land. Ctrl-C again leaves at once.\n"

#: A command whose event loop has no signal handlers, as on Windows.
AS_ON_WINDOWS = (
    sys.executable,
    "-c",
    """
import asyncio, sys

def refuse(*_):
    raise NotImplementedError

asyncio.SelectorEventLoop.add_signal_handler = refuse
sys.modules["uvloop"] = None
from asyncsfk.cli import main
main()
""",
)
HERE_AND_ON_WINDOWS = pytest.mark.parametrize(
    "command", [(ASYNCSFK,), AS_ON_WINDOWS], ids=["here", "windows"]
)

#: What interrupts a command once its event loop is closed.
INTERRUPTED_LATE = """
import asyncio, os, signal

class Runner(asyncio.Runner):
    def close(self):
        super().close()
        os.kill(os.getpid(), signal.SIGINT)

asyncio.Runner = Runner
"""

#: A command that is interrupted while its archive's file is opened or closed.
INTERRUPTED_AT = """
import os, signal, sys, time
from asyncsfk._store._file import File

when, seconds = sys.argv.pop(1), float(sys.argv.pop(1))
do = getattr(File, when)

def interrupted(self, **options):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    return do(self, **options)

setattr(File, when, interrupted)
from asyncsfk.cli import main
main()
"""
#: A command that is interrupted when it first looks for a module.
INTERRUPTED_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
from asyncsfk.cli import main
main()
"""
EACH_SIGNAL = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


def handles(count, products=300):
    return [f"a{number}.{products}products" for number in range(count)]


def go_on(stderr):
    """Run, in a shell, the line that an interrupted fetch gave to go on with; give its result."""
    interrupted, told = stderr.decode().splitlines()[-2:]
    assert interrupted == "Interrupted."
    assert told.startswith("Go on with: asyncsfk fetch ")
    path = f"{Path(ASYNCSFK).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(  # noqa: S603 - what our own command told
        ["/bin/sh", "-c", told.removeprefix("Go on with: ")],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@HERE_AND_ON_WINDOWS
@EACH_SIGNAL
def test_interrupted_fetch(simulate, spawn, tmp_path, signum, command):
    """Ctrl-C, SIGTERM and SIGHUP write what was paid for, and give the line that goes on."""
    out, errors = tmp_path / "out\u202fput 'it'.jsonl", tmp_path / "errors.jsonl"
    with simulate(latency=Latency.fixed(0.05)) as simulator:
        process = spawn("fetch", *handles(6), "-o", out, "--errors", errors, command=command)
        wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") > 300)
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert stderr.startswith(NOTICE)
        assert b"Traceback" not in stderr
        assert b"6 creators: 6 partial\n" in stderr
        written = [row["handle"] for row in read(out)]
        assert len(written) == 20 * simulator.ledger.charged
        told = read(errors)
        assert len(told) == 6
        for row in told:
            assert (row["status"], row["error"]["type"]) == ("partial", "RunStoppedError")
            assert row["nextCursor"] == row["error"]["cursor"]
            assert written.count(row["handle"]) == row["usage"]["products"]
        assert simulator.api_key.encode() not in stderr + errors.read_bytes()

        resumed = go_on(stderr)
        assert resumed.returncode == 0, resumed.stderr
        assert " of them from the archive" in resumed.stderr
        assert by_handle(read(out)) == {name: simulator.showcase(name) for name in handles(6)}
        assert read(errors) == []
        assert simulator.ledger.charged == 6 * 15
        assert simulator.ledger.paid_twice() == {}


def test_one_interruption_that_comes_twice(simulate, spawn, tmp_path, out):
    """A Ctrl-C that comes twice in a moment, as through a wrapper, counts as one."""
    source = tmp_path / "all of them"
    source.write_text("\n".join(handles(20, 100)), "utf-8")
    with simulate(latency=Latency.fixed(0.3)) as simulator:
        process = spawn("fetch", "--from", source, "-o", out)
        wait_for(lambda: simulator.ledger.charged >= 40)
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert b"maybe" not in stderr
        assert go_on(stderr).returncode == 0
        assert simulator.ledger.paid_twice() == {}


@pytest.mark.parametrize("seconds", [0.01, 0.4])
def test_interrupted_while_the_archive_is_closed(simulate, spawn, out, seconds):
    """Ctrl-C while the archive is being closed breaks nothing, and the line to go on is given."""
    with simulate() as simulator:
        command = (sys.executable, "-c", INTERRUPTED_AT, "close", seconds)
        process = spawn("fetch", *handles(2, 45), "-o", out, command=map(str, command))
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert stderr.startswith(b"2 creators: 2 complete\n6 pages, 90 products, 6 credits")
        assert stderr.count(b"\n") == 4
        assert not out.with_suffix(".sfk-wal").exists()
        assert go_on(stderr).returncode == 0
        assert simulator.ledger.charged == 6


def test_interrupted_when_all_is_closed(simulate, spawn, out):
    """On Windows, too, Ctrl-C after everything was closed is told in one line."""
    python, option, program = AS_ON_WINDOWS
    with simulate():
        late = (python, option, INTERRUPTED_LATE + program)
        process = spawn("fetch", "a.5products", "-o", out, command=late)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert stderr.endswith(b"1 credit charged\nInterrupted.\n")
    assert len(read(out)) == 5


def test_interrupted_while_the_archive_is_opened(simulate, spawn, out):
    """Ctrl-C while the archive is being opened ends the command, with nothing begun."""
    with simulate() as simulator:
        command = (sys.executable, "-c", INTERRUPTED_AT, "open", "0.01")
        process = spawn("fetch", "a", "-o", out, command=command)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert stderr == b"Interrupted.\n"
        assert not out.exists()
        assert simulator.ledger.requests == 0


def test_a_terminal_that_is_gone(simulate, spawn, out):
    """With a stderr that takes nothing, a fetch still writes its products and exits with 0."""
    with simulate(), Path("/dev/full").open("wb") as full:
        process = spawn("fetch", *handles(5, 45), "-o", out, stderr=full)
        assert process.wait(20) == 0
    assert len(read(out)) == 5 * 45


def test_no_stderr_at_all(simulate, spawn, out):
    """With a stderr that the shell has closed, a fetch writes its products and exits with 0."""
    line = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", ASYNCSFK]
    with simulate():
        process = spawn("fetch", *handles(2, 45), "-o", out, command=line)
        assert process.wait(20) == 0
    assert len(read(out)) == 2 * 45


def test_interrupted_with_a_list_from_the_shell(simulator, spawn, tmp_path):
    """The list of `--from <(zcat list.gz)` cannot be named again: one is told to give it again."""
    reading, writing = os.pipe()
    line = ["fetch", "--from", f"/dev/fd/{reading}", "--archive", str(tmp_path / "a.sfk")]
    process = spawn(*line, pass_fds=[reading])
    os.close(reading)
    os.write(writing, b"a.1products\n")
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    os.close(writing)
    told = process.stderr.read().decode().splitlines()[-1]
    assert told == f"Go on with the same list in place of {line[2]}: asyncsfk {' '.join(line)}"
    assert simulator.ledger.charged == 1


@pytest.mark.parametrize("name", ["INT", "HUP"])
def test_a_signal_that_the_shell_has_ignored(simulate, spawn, out, name):
    """A signal that the shell has set to be ignored, as under `nohup`, does not stop a fetch."""
    line = ["/bin/sh", "-c", f'trap "" {name}; exec "$@"', "sh", ASYNCSFK]
    with simulate(latency=Latency.fixed(0.1)) as simulator:
        process = spawn("fetch", "a.90products", "-o", out, command=line)
        wait_for(lambda: simulator.ledger.charged > 0)
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert process.wait(20) == 0
    assert len(read(out)) == 90


def test_interrupted_before_there_was_a_product(simulator, spawn, out, tmp_path):
    """A fetch interrupted before its first product leaves the earlier ones in the file."""
    out.write_text("{}\n")
    outcomes = tmp_path / "outcomes.jsonl"
    line = ("fetch", "--from", "-", "-o", out, "--outcomes", outcomes)
    process = spawn(*line, stdin=subprocess.PIPE)
    process.stdin.write(b"empty_a\n")
    process.stdin.flush()
    wait_for(lambda: begun(outcomes))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert read(out) == [{}]
    assert simulator.ledger.charged == 1


@pytest.mark.parametrize("stdin", ["-", "/dev/stdin"])
def test_interrupted_while_stdin_is_silent(simulator, spawn, tmp_path, stdin):
    """A fetch that waits for handles ends at once on Ctrl-C, and says to give the same list."""
    line = ["fetch", "--from", stdin, "--archive", str(tmp_path / "a.sfk")]
    process = spawn(*line, stdin=subprocess.PIPE)
    process.stdin.write(b"a.1products\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["handle"] == "a.1products"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    told = process.stderr.read().decode().splitlines()[-1]
    assert told == f"Go on with the same list on stdin: asyncsfk {' '.join(line)}"
    assert simulator.ledger.charged == 1


@HERE_AND_ON_WINDOWS
def test_interrupted_with_a_reader_that_waits(simulate, spawn, tmp_path, command):
    """After Ctrl-C a slow reader still gets, whole, all the pages that were paid for."""
    errors = tmp_path / "errors.jsonl"
    with simulate() as simulator:
        process = spawn("fetch", *handles(5, 900), "--errors", errors, command=command)
        wait_for(lambda: is_idle(simulator))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
        assert process.returncode == 130, stderr
        assert stdout.endswith(b"\n")
        # The cursors to go on with follow these lines.
        assert Counter(json.loads(line)["handle"] for line in stdout.splitlines()) == {
            row["handle"]: row["usage"]["products"] for row in read(errors)
        }
        told = re.search(
            r"pages, ([\d,]+) products, (\d+) credits charged(?:, (\d+) more maybe)?",
            stderr.decode(),
        )
        products, charged, maybe = (int((text or "0").replace(",", "")) for text in told.groups())
        assert len(stdout.splitlines()) == products
        assert charged <= simulator.ledger.charged <= charged + maybe


def test_interrupted_during_a_pause(simulate, spawn, out):
    """Ctrl-C does not wait for requests that a pause holds back."""
    with simulate(faults=[Fault.status(503, retry_after="90")]) as simulator:
        process = spawn("fetch", *handles(3), "-o", out, "--concurrency", "1", "-v")
        # This line comes without -v as well.
        assert process.stderr.readline() == b"HTTP 503: Simulated 503; trying on.\n"
        assert b"Paused(" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, stderr = process.communicate(timeout=20)
        assert time.monotonic() - began < 10
        assert process.returncode == 130
        simulator.faults = []
        assert go_on(stderr).returncode == 0
        assert simulator.ledger.paid_twice() == {}


@HERE_AND_ON_WINDOWS
def test_a_second_signal_leaves_at_once(simulate, spawn, tmp_path, out, command):
    """The first signal waits for what was sent; a second does not, and counts it as maybe."""
    errors = tmp_path / "errors.jsonl"
    with simulate(faults=[Fault.hang(60, charged=True, pages=[3])]) as simulator:
        process = spawn("fetch", *handles(5), "-o", out, "--errors", errors, command=command)
        wait_for(lambda: simulator.ledger.charged == 15)
        process.send_signal(signal.SIGTERM)
        assert process.stderr.readline() == NOTICE
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
        assert process.returncode == 130
        assert b"10 pages, 200 products, 10 credits charged, 5 more maybe charged\n" in stderr
        assert b"Traceback" not in stderr
        assert len(read(out)) == 200
        rows = read(errors)
        assert [row["usage"]["maybe"] for row in rows] == [1] * 5

        simulator.faults = []
        assert go_on(stderr).returncode == 0
        assert by_handle(read(out)) == {name: simulator.showcase(name) for name in handles(5)}
        # Only the answers that nobody waited for are paid twice.
        lost = {(row["handle"], row["nextCursor"]) for row in rows}
        twice = simulator.ledger.paid_twice()
        assert {(page.handle, page.cursor) for page in twice} == lost


def test_a_reader_that_goes_away_from_who_was_interrupted(simulate, spawn, invoke, tmp_path):
    """Products that a slow reader had not taken when it went away are not told as written."""
    errors = tmp_path / "errors.jsonl"
    reading, writing = os.pipe()
    with simulate() as simulator:
        line = ("fetch", *handles(5, 900), "--errors", errors)
        process = spawn(*line, stdout=writing)
        os.close(writing)
        wait_for(lambda: is_idle(simulator))
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        (taken,) = array("i", fcntl.ioctl(reading, termios.FIONREAD, bytes(4)))
        os.close(reading)
        assert process.wait(20) == 141
        told = {row["handle"]: row["usage"]["products"] for row in read(errors)}
        sent = invoke("fetch", *told, "--max-pages", 10, "-q").stdout_bytes.splitlines(
            keepends=True
        )
        rows = [(json.loads(line), len(line)) for line in sent]
        size = sum(size for row, size in rows if row["position"] <= told[row["handle"]])
        assert 0 < size <= taken


@pytest.mark.parametrize("is_stopping", [False, True])
def test_a_signal_once_a_file_is_broken(simulate, spawn, tmp_path, is_stopping):
    """A fetch that failed tells what it waits for, and as failed, even if a signal ends that."""
    hanging = [
        Fault.hang(60, handles=["b"]),
        Fault.delay(Latency.fixed(1), handles=["a.1products"]),
    ]
    with simulate(faults=hanging) as simulator:
        line = ("fetch", "b", "a.1products", "-o", "/dev/full", "--archive", tmp_path / "a.sfk")
        process = spawn(*line)
        wait_for(lambda: simulator.ledger.requests == 2)
        if is_stopping:
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() == NOTICE
        broken = b"cannot write /dev/full: No space left on device"
        told = b"; what has been asked for will land. Ctrl-C leaves at once.\n"
        assert process.stderr.readline() == broken + told
        process.send_signal(signal.SIGINT)
        # A wrapper that passes it on, too, does not make it one that was merely interrupted.
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 1
        assert b"Error: " + broken in stderr
        # As after any second signal, what is on its way is not waited for.
        assert b"1 credit charged, 1 more maybe charged\n" in stderr


def test_a_file_that_breaks_without_an_archive(simulate, spawn):
    """Where nothing could keep what is on its way, a fetch that failed does not wait for it."""
    with simulate(faults=[Fault.hang(60, handles=["b"])]) as simulator:
        line = ("fetch", "--from", "-", "-o", "/dev/full", "--no-archive")
        process = spawn(*line, stdin=subprocess.PIPE)
        process.stdin.write(b"b\n")
        process.stdin.flush()
        wait_for(lambda: simulator.ledger.requests == 1)
        _, stderr = process.communicate(b"a.1products\n", timeout=20)
    assert process.returncode == 1
    assert b"will land" not in stderr
    assert b"1 credit charged, 1 more maybe charged\n" in stderr


@pytest.mark.parametrize("line", [["a.1products"], ["a.1products", "slow.1products", "-q"]])
def test_a_file_that_breaks_quietly(simulate, invoke, tmp_path, line):
    """No wait is told where there is none, and with --quiet never."""
    late = Fault.delay(Latency.fixed(0.5), handles=["slow.1products"])
    with simulate(faults=[late]) as simulator:
        result = invoke("fetch", *line, "-o", "/dev/full", "--archive", tmp_path / "a.sfk")
        assert simulator.ledger.charged == min(len(line), 2)
    assert result.exit_code == 1
    assert "will land" not in result.stderr


@pytest.mark.parametrize("more", [1, 3])
def test_a_second_signal_does_not_wait_for_a_reader(simulate, spawn, tmp_path, more):
    """A reader that takes nothing holds up the first Ctrl-C, but not the second."""
    errors = tmp_path / "errors.jsonl"
    with simulate() as simulator:
        process = spawn(
            *("fetch", *handles(5, 900), "--archive", tmp_path / "job.sfk", "--errors", errors)
        )
        wait_for(lambda: is_idle(simulator))
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == NOTICE
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        for _ in range(more):
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        stderr = process.stderr.read()
        assert stderr.startswith(b"5 creators: 5 not finished\n")
        assert b"Traceback" not in stderr
        # The cursors to go on with begin at the page that was cut, if one was.
        *whole, _ = process.stdout.read().split(b"\n")
        taken = Counter(json.loads(line)["handle"] for line in whole)
        told = {row["handle"]: row["usage"]["products"] for row in read(errors)}
        assert set(taken) <= set(told)
        assert all(told[name] <= taken[name] < told[name] + 20 for name in told)
        resumed = go_on(stderr)
        assert resumed.returncode == 0
        assert by_handle(lines(resumed.stdout)) == {
            name: simulator.showcase(name) for name in handles(5, 900)
        }
        assert simulator.ledger.paid_twice() == {}


def test_a_showcase_whose_reader_waits_goes_on_from_the_page_that_was_cut(simulate, spawn, invoke):
    """An interrupted showcase tells the cursor of the page that its reader did not get whole."""
    with simulate() as simulator:
        process = spawn("showcase", "a.900products")
        wait_for(lambda: is_idle(simulator))
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 130
        whole = [json.loads(line) for line in process.stdout.read().split(b"\n")[:-1]]
        told = re.search("There is more: --cursor (.*)", process.stderr.read().decode())[1]
        rest = lines(invoke("showcase", "a.900products", "--cursor", *shlex.split(told)).stdout)
        again = len(whole) + len(rest) - 900
        assert 0 <= again < 20
        assert whole[: 900 - len(rest)] + rest == simulator.showcase("a.900products")


def test_an_interrupted_refresh_goes_on(simulate, spawn, invoke, out):
    """The line that goes on from an interrupted --refresh keeps what that has bought."""
    with simulate(latency=Latency.fixed(0.05)) as simulator:
        names = handles(4)
        assert invoke("fetch", *names, "-o", out).exit_code == 0
        process = spawn("fetch", "--refresh", *names, "-o", out)
        wait_for(lambda: simulator.ledger.charged > 72)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        before = simulator.ledger.charged
        assert before < 120
        assert b"--refresh" not in stderr.splitlines()[-1]
        assert go_on(stderr).returncode == 0
        assert simulator.ledger.charged == 120
        assert set(simulator.ledger.paid_twice().values()) == {2}


@pytest.mark.parametrize("flags", [["--max-age", "1h"], ["--max-age=1h"]])
def test_an_interrupted_max_age_goes_on(simulate, spawn, out, flags):
    """The line that goes on takes for fresh what the interrupted --max-age did, however late."""
    with simulate(faults=[Fault.hang(60)]) as simulator:
        process = spawn("fetch", *flags, "-o", out, "--region", "US", "--", "a.45products")
        wait_for(lambda: simulator.ledger.requests == 1)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == NOTICE
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        told = shlex.split(stderr.decode().splitlines()[-1])
        assert told[:6] == ["Go", "on", "with:", "asyncsfk", "fetch", "--max-age"]
        since = datetime.fromisoformat(told[6])
        assert timedelta(hours=1) < datetime.now(UTC) - since < timedelta(hours=1, minutes=1)
        assert told[7:] == ["-o", str(out), "--region", "US", "--", "a.45products"]
        simulator.faults = []
        assert go_on(stderr).returncode == 0


def interrupted_twice(process):
    """Interrupt a fetch once more than it takes to end in order; give the lines of its stderr."""
    process.send_signal(signal.SIGINT)
    while process.stderr.readline() != NOTICE:
        pass
    time.sleep(0.4)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    return stderr.decode().splitlines()


@pytest.mark.parametrize("way", ["elsewhere", "shadowed", "module"])
def test_the_line_that_goes_on_starts_the_same_program(simulate, spawn, out, tmp_path, way):
    """Where `asyncsfk` alone would start nothing, or another one, the line names what was run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if way == "shadowed":
        other = folder / "asyncsfk"
        other.write_text("#!/bin/sh\nexit 99\n")
        other.chmod(0o755)
    environment = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    command = (sys.executable, "-m", "asyncsfk") if way == "module" else (ASYNCSFK,)
    # So long it cannot have come to its end, however late we see that it has begun.
    slow = Fault.delay(Latency.fixed(2), pages=[5], times=1)
    with simulate(faults=[slow]) as simulator:
        process = spawn(
            "fetch", "a.300products", "-o", out, command=command, env=environment, cwd=tmp_path
        )
        wait_for(lambda: begun(out))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        told = stderr.decode().splitlines()[-1].removeprefix("Go on with: ")
        done = subprocess.run(  # noqa: S603 - what our own command told
            ["/bin/sh", "-c", told], env=os.environ | environment, cwd=tmp_path, check=False
        )
        assert done.returncode == 0
        assert simulator.ledger.charged == 15
    assert len(read(out)) == 300


def test_interrupted_after_the_account_stopped_it(simulate, spawn, out):
    """An interrupted fetch also tells what had stopped it before."""
    faults = [Fault.status(402, handles=["a"]), Fault.hang(60, handles=["b"])]
    with simulate(faults=faults):
        process = spawn("fetch", "b", "a", "-o", out, "-vv")
        while b"HandleFinished(handle='a'" not in process.stderr.readline():
            pass
        error, interrupted, told = interrupted_twice(process)[-3:]
        assert error.startswith("Error: ")
        assert "status 402" in error
        assert (interrupted, told) == (
            "Interrupted.",
            f"Go on with: asyncsfk fetch b a -o {out} -vv",
        )


def test_interrupted_after_its_archive_was_moved(simulate, spawn, out):
    """If its archive is gone, an interrupted fetch first says to put it back before going on."""
    kept = out.with_suffix(".sfk")
    with simulate(faults=[Fault.hang(60, handles=["b"])]):
        process = spawn("fetch", "b", "a", "-o", out, "-vv")
        while b"HandleFinished(handle='a'" not in process.stderr.readline():
            pass
        kept.rename(out.with_name("away.sfk"))
        gone, told = interrupted_twice(process)[-2:]
        assert gone.startswith(
            f"Put {kept} back before you go on, or give its new place with --archive"
        )
        assert told == f"Go on with: asyncsfk fetch b a -o {out} -vv"


def test_interrupted_without_an_archive(simulate, spawn):
    """A fetch interrupted without an archive says that there is nothing to go on from."""
    with simulate(latency=Latency.fixed(0.05)):
        process = spawn("fetch", "a.900products", "-q")
        assert json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        told = stderr.decode().splitlines()
        assert told == [
            "Interrupted.",
            (
                "There is no archive to go on from: -o FILE keeps one beside the output, "
                "--archive FILE anywhere."
            ),
        ]


@EACH_SIGNAL
def test_an_interrupted_showcase_tells_where_to_go_on(simulate, spawn, signum):
    """An interrupted showcase tells what was bought, and the cursor of what was not."""
    with simulate(faults=[Fault.hang(60, pages=[3])]) as simulator:
        process = spawn("showcase", "a.90products")
        wait_for(lambda: simulator.ledger.requests == 3)
        process.send_signal(signum)
        stdout, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert len(lines(stdout)) == 40
        interrupted, more, cost = stderr.decode().splitlines()
        assert interrupted == "Interrupted."
        assert cost == "2 pages, 40 products, 2 credits charged, 1 more maybe charged"
        cursor = shlex.split(more.removeprefix("There is more: "))
        again = spawn("showcase", "a.90products", *cursor)
        wait_for(lambda: simulator.ledger.requests == 4)
        again.send_signal(signum)
        assert more in again.communicate(timeout=20)[1].decode().splitlines()
        simulator.faults = []
        rest = spawn("showcase", "a.90products", *cursor)
        assert len(lines(rest.communicate(timeout=20)[0])) == 50


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize(
    "args",
    [
        ["a", "-o", "pipe", "--archive", "a.sfk"],
        ["a", "-o", "out", "--errors", "pipe"],
        ["--from", "pipe", "-o", "out"],
        ["--from", "pipe", "--dry-run"],
        ["a", "--api-key-file", "pipe", "--no-archive"],
    ],
    ids=" ".join,
)
def test_interrupted_at_a_pipe_without_another_end(simulator, spawn, tmp_path, args):
    """Ctrl-C ends a command that is opening a pipe whose other end nobody has."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    process = spawn("fetch", *args, cwd=tmp_path)
    # Time to import, and to open what comes before the pipe.
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (130, b"Interrupted.\n")
    assert simulator.ledger.requests == 0


@pytest.mark.parametrize("opened", [os.pipe, os.openpty], ids=["a pipe", "a terminal"])
def test_interrupted_while_the_key_is_awaited(spawn, opened):
    """Ctrl-C ends a command whose key has not come yet, from `<(pass show key)` or by hand."""
    reading, writing = opened()
    process = spawn("whoami", "--api-key-file", f"/dev/fd/{reading}", pass_fds=[reading])
    time.sleep(1.5)  # to import, and to begin to read
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (130, b"Interrupted.\n")
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("module", ["asyncsfk.cli._app", "asyncsfk.errors", "uvloop"])
def test_interrupted_while_something_is_imported(simulator, spawn, tmp_path, module):
    """Ctrl-C during an import is exit code 130, and told as an interruption or not at all."""
    process = spawn(
        *("fetch", "a", "-o", tmp_path / "out"),
        command=(sys.executable, "-c", INTERRUPTED_IMPORT, module),
    )
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, simulator.ledger.requests) == (130, 0)
    assert stderr in (b"", b"Interrupted.\n")
