"""Outputs that somebody else moves, removes or cuts while a fetch writes them."""

import os
import signal
import subprocess
import sys

import pytest

from asyncsfk.simulator import Fault, Latency
from tests.cli.support import begun, read
from tests.support import wait_for

SLOW = [f"slow{number}.1products" for number in range(4)]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="of files as POSIX has them")


@pytest.mark.parametrize(
    "case", [("removed",), ("replaced",), ("removed", "--no-archive")], ids=" ".join
)
def test_an_output_that_is_removed(simulate, spawn, invoke, out, case):
    """Nothing more is bought for a file that nobody can read; the same line writes it anew."""
    how, *archiving = case
    with simulate(latency=Latency.fixed(0.05)) as simulator:
        line = ("fetch", *(f"a{number}.100products" for number in range(40)), "-o", out)
        line = (*line, "--concurrency", "5", *archiving)
        process = spawn(*line)
        wait_for(lambda: simulator.ledger.charged > 10)
        if how == "removed":
            out.unlink()
        else:
            # As editors save a file.
            saved = out.with_name("saved")
            saved.touch()
            saved.replace(out)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 1
        assert f"Error: cannot write {out}: it was removed or replaced" in stderr.decode()
        assert simulator.ledger.charged < 100
        if not archiving:
            assert invoke(*line).exit_code == 0
            assert len(read(out)) == 4_000
            assert simulator.ledger.charged == 200


@pytest.mark.parametrize(
    "case", [("-o", "moved"), ("-o", "replaced"), ("-o", "cut"), ("--outcomes", "moved")]
)
def test_an_output_that_is_taken_away(simulate, spawn, invoke, out, case):
    """A fetch whose file has not all of its lines did not go well; the same line writes it anew."""
    flag, how = case
    names = [f"a{number}.1products" for number in range(5)]
    file = out if flag == "-o" else out.with_name("outcomes")
    with simulate() as simulator:
        line = ("fetch", "--from", "-", "-o", out, "--outcomes", out.with_name("outcomes"))
        process = spawn(*line, stdin=subprocess.PIPE)
        process.stdin.write(b"a0.1products\n")
        process.stdin.flush()
        wait_for(lambda: begun(file))
        if how == "cut":
            os.truncate(file, 0)
        else:
            file.rename(out.with_name("away"))
        if how == "replaced":
            file.write_text("{}\n")
        # Who is no handle is not all that is missing.
        rest = [*names[1:], "no good"]
        _, stderr = process.communicate("\n".join(rest).encode(), timeout=20)
        assert process.returncode == 1
        told = stderr.decode().splitlines()[-2:]
        assert told[0].startswith(f"Error: {file} was moved, removed or cut short")
        assert told[1].startswith("The same line goes on from here")
        assert invoke(*line, input="\n".join(names)).exit_code == 0
        assert [len(read(path)) for path in (out, out.with_name("outcomes"))] == [5, 5]
        assert simulator.ledger.charged == 5


def test_outputs_without_lines_that_are_removed(simulator, spawn, out):
    """Nothing is missing from a file that would have got no line, so all went well."""
    files = (out, out.with_name("errors"))
    line = ("fetch", "--from", "-", "-o", out, "--errors", files[1], "--no-archive")
    process = spawn(*line, stdin=subprocess.PIPE)
    process.stdin.write(b"empty_a\n")
    process.stdin.flush()
    wait_for(lambda: simulator.ledger.charged == 1)
    for file in files:
        file.unlink()
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, b"Error" in stderr) == (0, False)


def test_an_output_that_is_taken_from_a_fetch_that_is_interrupted(simulator, spawn, out):
    """A moved file is told, whatever else there is to tell."""
    process = spawn("fetch", "--from", "-", "-o", out, "--no-archive", "-q", stdin=subprocess.PIPE)
    process.stdin.write(b"a.1products\n")
    process.stdin.flush()
    wait_for(lambda: begun(out))
    out.rename(out.with_name("away"))
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, simulator.ledger.charged) == (130, 1)
    told = stderr.decode().splitlines()
    assert told[0].startswith(f"Error: {out} was moved")
    assert told[1] == "Interrupted."


def test_a_file_of_errors_that_is_moved(simulator, spawn, out):
    """Errors that are not all where they should be are told, too."""
    errors = out.with_name("errors")
    line = ("fetch", "--from", "-", "-o", out, "--errors", errors, "-q")
    process = spawn(*line, stdin=subprocess.PIPE)
    process.stdin.write(b"no good\n")
    process.stdin.flush()
    wait_for(lambda: begun(errors))
    errors.rename(out.with_name("away"))
    _, stderr = process.communicate(b"a.1products\n", timeout=20)
    assert (process.returncode, simulator.ledger.charged) == (1, 1)
    assert stderr.decode().startswith(f"Error: {errors} was moved, removed or cut short")


def test_an_output_whose_folder_gives_way_to_a_file(simulator, spawn, tmp_path):
    """A name that cannot even be looked up any more is as good as gone."""
    folder = tmp_path / "folder"
    folder.mkdir()
    line = ("fetch", "--from", "-", "-o", folder / "out", "--no-archive")
    process = spawn(*line, stdin=subprocess.PIPE)
    process.stdin.write(b"a.1products\n")
    process.stdin.flush()
    wait_for(lambda: begun(folder / "out"))
    folder.rename(tmp_path / "away")
    folder.touch()
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, simulator.ledger.charged) == (1, 1)
    assert f"Error: {folder / 'out'} was moved, removed or cut short" in stderr.decode()


def test_a_stdout_that_is_removed(simulator, spawn, out):
    """A file of the shell's is its own matter: who has it open can still read it."""
    with out.open("w+b") as file:
        process = spawn("fetch", "--from", "-", stdin=subprocess.PIPE, stdout=file)
        process.stdin.write(b"a.1products\n")
        process.stdin.flush()
        wait_for(lambda: begun(out))
        out.unlink()
        _, stderr = process.communicate(b"b.1products\n", timeout=20)
        assert (process.returncode, simulator.ledger.charged) == (0, 2), stderr
        file.seek(0)
        assert len(file.readlines()) == 2


def test_a_file_system_that_counts_no_names(invoke, simulator, out, monkeypatch):
    """Where a file never has a name, by the system, it was not removed."""
    fstat = os.fstat

    def nameless(file):
        values = list(fstat(file))
        values[3] = 0
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", nameless)
    assert invoke("fetch", "a.1products", "-o", out, "--no-archive").exit_code == 0
    assert simulator.ledger.charged == 1


@pytest.mark.parametrize(
    "gone", [["outcomes"], ["errors"], ["outcomes", "errors"]], ids=" and ".join
)
def test_an_output_and_its_archive_break_together(simulate, spawn, out, gone):
    """Answers on their way as a file breaks are in the other one if the archive breaks as well."""
    files = {name: out.with_name(name) for name in ("errors", "outcomes")}
    with simulate(faults=[Fault.delay(Latency.fixed(2), handles=SLOW)]) as simulator:
        named = [word for name, file in files.items() for word in (f"--{name}", file)]
        process = spawn("fetch", "--from", "-", "-o", out, *named, stdin=subprocess.PIPE)
        process.stdin.write("".join(f"{handle}\n" for handle in SLOW).encode())
        process.stdin.flush()
        wait_for(lambda: simulator.ledger.requests == len(SLOW))
        # As on a disk of theirs that is full, or gone.
        out.with_suffix(".sfk").rename(out.with_name("away.sfk"))
        for name in gone:
            files[name].unlink()
        # The first of these breaks the outcomes, and the other one the errors.
        _, stderr = process.communicate(b"a.1products\n!\n", timeout=20)
        assert (process.returncode, simulator.ledger.charged) == (1, len(SLOW))
    told = stderr.decode()
    assert "it was removed or replaced" in told
    assert told.count(" paid for and not in the archive: ") == 1
    assert f"\n{len(SLOW)} answers paid for and not in the archive: " in told
    if len(gone) == len(files):
        assert f"lost. {files['errors']}, on another disk, would have kept them" in told
    else:
        [kept] = (file for name, file in files.items() if name not in gone)
        assert f"each is the `body` of its line in {kept}: keep that file" in told
        bodies = {row["handle"]: row["error"].get("body") for row in read(kept) if row["error"]}
        assert all(bodies[handle] for handle in SLOW)


@pytest.mark.parametrize("names", [["outcomes"], ["errors", "outcomes"]], ids=" and ".join)
def test_answers_that_only_an_output_has(simulate, spawn, out, names):
    """What the archive could not take is told once, where a file has it, and is not lost."""
    files = [out.with_name(name) for name in names]
    named = [word for name, file in zip(names, files, strict=True) for word in (f"--{name}", file)]
    with simulate(faults=[Fault.delay(Latency.fixed(2), handles=SLOW)]) as simulator:
        process = spawn("fetch", *SLOW, "-o", out, *named)
        wait_for(lambda: simulator.ledger.requests == len(SLOW))
        out.with_suffix(".sfk").rename(out.with_name("away.sfk"))
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    told = stderr.decode()
    kept = f"answers paid for and not in the archive: each is the `body` of its line in {files[0]}:"
    assert f"\n{len(SLOW)} {kept}" in told
    assert told.count(" paid for and not in the archive: ") == 1
    assert all(row["error"]["body"] for row in read(files[0]))


@pytest.fixture
def unread():
    """Give the write end of a pipe whose reader has gone away."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_an_output_that_is_removed_after_the_reader_of_errors_left(simulate, spawn, out, unread):
    """What broke first is told, and not hidden by where the cursors to go on with would go."""
    with simulate(latency=Latency.fixed(0.2)) as simulator:
        line = ("fetch", "a.400products", "-o", out, "--errors", f"/dev/fd/{unread}")
        process = spawn(*line, pass_fds=[unread])
        wait_for(lambda: simulator.ledger.charged > 3)
        out.unlink()
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"Error: cannot write {out}: it was removed or replaced" in stderr.decode()


def test_answers_that_nobody_takes_once_an_output_broke(simulate, spawn, out, unread):
    """Answers that neither the archive nor the reader of errors takes hide no broken file."""
    with simulate(faults=[Fault.delay(Latency.fixed(3), handles=SLOW)]) as simulator:
        line = ("fetch", "--from", "-", "-o", out, "--errors", f"/dev/fd/{unread}")
        process = spawn(*line, pass_fds=[unread], stdin=subprocess.PIPE)
        process.stdin.write("".join(f"{handle}\n" for handle in SLOW).encode())
        process.stdin.flush()
        wait_for(lambda: simulator.ledger.requests == len(SLOW))
        out.unlink()
        process.stdin.write(b"a.1products\n")
        process.stdin.flush()
        assert b"what has been asked for will land" in process.stderr.readline()
        out.with_suffix(".sfk").rename(out.with_name("away.sfk"))
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    told = stderr.decode()
    assert f"\n{len(SLOW)} answers paid for and not in the archive: lost. " in told
    assert f"Error: cannot write {out}: it was removed or replaced" in told


@pytest.mark.parametrize("is_kept", [True, False])
def test_what_lands_once_an_output_broke(simulate, spawn, out, is_kept):
    """A creator on its way has one line: where to go on after its products, or its paid answer."""
    files = {name: out.with_name(name) for name in ("errors", "outcomes")}
    named = [word for name, file in files.items() for word in (f"--{name}", file)]
    late = Fault.delay(Latency.fixed(3), handles=["b.45products"], pages=[2])
    with simulate(faults=[late]) as simulator:
        process = spawn("fetch", "--from", "-", "-o", out, *named, stdin=subprocess.PIPE)
        process.stdin.write(b"b.45products\n")
        process.stdin.flush()
        wait_for(lambda: begun(out) and simulator.ledger.requests == 2)
        out.unlink()
        process.stdin.write(b"a.1products\n")
        process.stdin.flush()
        assert b"what has been asked for will land" in process.stderr.readline()
        if not is_kept:
            out.with_suffix(".sfk").rename(out.with_name("away.sfk"))
        process.communicate(timeout=20)
    assert process.returncode == 1
    [row] = read(files["errors"])
    assert read(files["outcomes"]) == [row]
    assert (row["handle"], row["status"], row["pages"]) == ("b.45products", "partial", 1)
    assert bool(row["error"].get("body")) is not is_kept
    assert {None, row["nextCursor"]} == {entry.cursor for entry in simulator.ledger}
