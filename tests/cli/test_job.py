"""`asyncsfk fetch` with an archive: the same line goes on, ceilings, ages, and what is refused."""

import errno
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asyncsfk import Archive
from asyncsfk.simulator import Fault, Latency
from tests.cli.conftest import ASYNCSFK
from tests.cli.support import begun, by_handle, lines, read
from tests.support import sql, wait_for

HANDLES = ["a.45products", "b.3products", "c.100products", "empty_d", "no good"]
PAGES = 3 + 1 + 5 + 1


def test_the_same_line_costs_nothing_again(invoke, simulator, tmp_path, out):
    """Run again, a fetch buys nothing and writes the very same output."""
    outcomes = tmp_path / "outcomes.jsonl"
    args = ["fetch", *HANDLES, "-o", out, "--outcomes", outcomes]
    first = invoke(*args)
    products, ends = by_handle(read(out)), read(outcomes)
    assert simulator.ledger.charged == PAGES
    assert first.stderr.splitlines()[2] == "10 pages, 148 products, 10 credits charged"
    second = invoke(*args)
    assert first.exit_code == second.exit_code == 1  # for "no good"
    assert simulator.ledger.requests == PAGES
    assert (
        by_handle(read(out)) == products == {name: simulator.showcase(name) for name in HANDLES[:3]}
    )
    assert second.stderr.splitlines()[2] == (
        "10 pages (10 of them from the archive), 148 products, 0 credits charged"
    )
    statuses = [{row["handle"]: row["status"] for row in rows} for rows in (ends, read(outcomes))]
    assert statuses[0] == statuses[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl",
        "out.sfk",
        "outcomes.jsonl",
    ]


def test_without_an_archive_nothing_goes_on(invoke, simulate):
    """Only a fetch with something left to buy says that there is no archive to go on from."""
    none = "There is no archive to go on from: -o FILE keeps one beside the output"
    faults = [
        Fault.status(500, pages=[2], handles=["a.45products"]),
        Fault.not_json(handles=["odd"]),
    ]
    missing = {"a.45products": True, "b.3products": False, "no good": False, "odd": False}
    with simulate(faults=faults):
        for handle, told in missing.items():
            result = invoke("fetch", handle)
            assert (none in result.stderr) == told
            assert none not in invoke("fetch", handle, "-q").stderr


def test_the_same_line_goes_on(invoke, simulate, out):
    """The same line goes on from the archive with the next page, as the first run has said."""
    with simulate(faults=[Fault.status(500, pages=[2], handles=["a.45products"])]) as simulator:
        args = ["fetch", "a.45products", "b.3products", "-o", out]
        first = invoke(*args)
        assert first.exit_code == 1
        assert first.stderr.endswith(
            f"The same line goes on from here: {out.with_suffix('.sfk')} keeps what was bought.\n"
        )
        simulator.faults = []
        assert invoke(*args).exit_code == 0
        assert by_handle(read(out))["a.45products"] == simulator.showcase("a.45products")
        assert simulator.ledger.hits("a.45products", cursor=None) == 1
        assert simulator.ledger.paid_twice() == {}


def test_nothing_is_left_to_go_on_with(invoke, simulator, out):  # noqa: ARG001 - the environment
    """If only invalid handles are missing, no line to go on with is told."""
    result = invoke("fetch", "a.3products", "no good", "née", "-o", out)
    assert result.exit_code == 1
    assert result.stderr.endswith("All is there but for 2 that are not handles.\n")
    result = invoke("fetch", "no good", "-o", out)
    assert result.exit_code == 1
    assert result.stderr.endswith("Nothing was fetched: 1 of 1 is not a handle.\n")


@pytest.mark.parametrize("ending", ["ceiling", "failure"])
def test_a_refresh_that_ended_early_tells_what_goes_on(invoke, simulate, out, ending):
    """The line told after a --refresh that ended early buys nothing a second time."""
    handles = [f"c{n}.5products" for n in range(10)]
    with simulate() as simulator:
        assert invoke("fetch", *handles, "-o", out).exit_code == 0
        sql(out.with_suffix(".sfk"), "UPDATE page SET received = received - 7200")
        flags = ["--max-credits", "16"] if ending == "ceiling" else []
        if ending == "failure":
            simulator.faults = [Fault.status(400, handles=["c9.5products"], times=1)]
        first = invoke("fetch", *handles, "-o", out, "--refresh", *flags)
        assert first.exit_code == (4 if ending == "ceiling" else 1)
        line = re.search(r"asyncsfk (fetch .*?)(?: with a higher| goes on)", first.stderr)
        arguments = [word for word in shlex.split(line[1]) if word not in ("--max-credits", "16")]
        assert invoke(*arguments).exit_code == 0
        assert simulator.ledger.charged == 2 * len(handles)


@pytest.mark.usefixtures("simulator")
def test_what_is_called_like_a_flag_stays_in_the_line_that_goes_on(invoke, out):
    """Handles behind -- that look like flags stay in the line that is told to go on."""
    handles = ["--", "--max-age", "a.45products", "--refresh"]
    result = invoke("fetch", "--refresh", "-o", out, "--max-credits", "1", *handles)
    assert result.exit_code == 4
    line = re.search("Run asyncsfk (.*) with a higher --max-credits", result.stderr)[1]
    assert shlex.split(line)[3:] == ["-o", str(out), "--max-credits", "1", *handles]


def test_more_handles_cost_what_is_new(invoke, simulator, out):
    """A list that has grown costs only what was added to it."""
    for count in (1, 2, 3):
        assert invoke("fetch", *HANDLES[:count], "-o", out).exit_code == 0
    assert simulator.ledger.charged == 9
    assert len(read(out)) == 148


def test_an_archive_elsewhere(invoke, simulator, tmp_path, out):
    """--archive names the archive, with any output; without it stdout has none."""
    archive = tmp_path / "elsewhere"
    first = invoke("fetch", "a.45products", "--archive", archive)
    second = invoke("fetch", "a.45products", "--archive", archive, "-o", out)
    assert lines(first.stdout) == read(out)
    assert simulator.ledger.charged == 3
    assert sorted(tmp_path.iterdir()) == [archive, out]
    assert second.exit_code == 0
    for charged in 6, 9:
        invoke("fetch", "a.45products")
        assert simulator.ledger.charged == charged
    assert sorted(tmp_path.iterdir()) == [archive, out]


def test_no_archive(invoke, simulator, tmp_path, out):
    """--no-archive keeps none, and pays again."""
    for charged in 3, 6:
        assert invoke("fetch", "a.45products", "-o", out, "--no-archive").exit_code == 0
        assert simulator.ledger.charged == charged
    assert list(tmp_path.iterdir()) == [out]


def test_beside_a_device_or_a_pipe_there_is_no_archive(invoke, simulator, tmp_path):
    """An output that is a pipe or a device has no archive beside it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert invoke("fetch", "a.1products", "-o", pipe).exit_code == 0
    assert os.read(reader, 1 << 16).endswith(b"\n")
    os.close(reader)
    beside = Path("/dev/null.sfk")
    try:
        assert invoke("fetch", "a.1products", "-o", "/dev/null").exit_code == 0
        assert not beside.exists()
    finally:
        beside.unlink(missing_ok=True)
    assert list(tmp_path.iterdir()) == [pipe]
    assert simulator.ledger.charged == 2


def test_what_the_shell_has_opened_is_left_as_it_is(spawn, simulator, tmp_path):
    """Stdout, by whatever name, is appended to and has no archive beside it."""
    out = tmp_path / "out.jsonl"
    out.write_bytes(b"precious\n")
    beside = Path("/dev/stdout.sfk")
    try:
        for name in "-", "/dev/stdout", "/dev//fd/1", "/proc/self/fd/1":
            with out.open("ab") as file:
                assert spawn("fetch", "a.1products", "-o", name, stdout=file).wait(20) == 0
        assert not beside.exists()
        told = tmp_path / "told"
        told.write_bytes(b"precious\n")
        with told.open("ab") as file:
            line = ("fetch", "no good", "--errors", "/dev/stderr", "-q")
            assert spawn(*line, stderr=file).wait(20) == 1
        first, error, _ = told.read_text().splitlines()
        assert (first, json.loads(error)["handle"]) == ("precious", "no good")
        told.unlink()
    finally:
        beside.unlink(missing_ok=True)
    assert out.read_bytes().startswith(b"precious\n")
    assert len(out.read_bytes().splitlines()) == 5
    assert list(tmp_path.iterdir()) == [out]
    assert simulator.ledger.charged == 4


def test_each_dated_output_has_an_archive_of_its_own(invoke, simulator, tmp_path, monkeypatch):
    """What follows the last dot of a name stays in the archive's if it is a date or a number."""
    monkeypatch.chdir(tmp_path)
    for name in "out.2026-10-01", "out.2026-10-02", "v1.2", "plain", "a.jsonl":
        assert invoke("fetch", "a.1products", "-o", name).exit_code == 0
    kept = {path.name for path in tmp_path.iterdir() if path.suffix == ".sfk"}
    assert kept == {"out.2026-10-01.sfk", "out.2026-10-02.sfk", "v1.2.sfk", "plain.sfk", "a.sfk"}
    assert simulator.ledger.charged == 5


def test_a_region_has_one_form(invoke, simulator, out):
    """A country's showcases are bought once, however --region is written."""
    for region in "US", "us", " Us ":
        assert invoke("fetch", "a.5products", "--region", region, "-o", out).exit_code == 0
    assert simulator.ledger.charged == 1


def test_a_list_without_a_name(invoke, simulator, out):
    """An empty --from, as of an unset shell variable, is refused, not taken for an empty list."""
    out.write_text("before\n")
    for flags in [], ["--dry-run"]:
        result = invoke("fetch", "--from", "", "-o", out, *flags)
        assert result.exit_code == 2
        assert result.stderr == "Error: cannot open '': No such file or directory\n"
    assert out.read_text() == "before\n"
    assert simulator.ledger.requests == 0


def test_what_cannot_be_decoded_is_told_apart(invoke, simulate, out):
    """Answers that cannot be decoded are told apart, with the commands that may get them."""
    with simulate(faults=[Fault.not_json(handles={"odd"})]) as simulator:
        assert invoke("fetch", "odd", "a.1products", "-o", out).exit_code == 1
        simulator.faults = []
        result = invoke("fetch", "odd", "a.1products", "no good", "-o", out)
        assert result.exit_code == 1
        assert "goes on from here" not in result.stderr
        assert "1 creator with answers that cannot be decoded" in result.stderr
        assert "archive salvage" in result.stderr
        assert "salvage" not in invoke("fetch", "odd", "-o", out, "-q").stderr
        assert dry_run(invoke, "odd", "a.1products", "-o", out) == [
            "2 creators: 1 complete in the archive, 1 with an answer that cannot be decoded",
            "Nothing is left to buy.",
        ]
        assert invoke("fetch", "odd", "-o", out, "--refresh").exit_code == 0
        assert simulator.ledger.charged == 3


def test_what_cannot_be_decoded_is_told_at_a_ceiling(invoke, simulate, out):
    """Whatever else ended the fetch: those answers are paid for, and not among the products."""
    with simulate(faults=[Fault.not_json(handles={"odd"})]):
        line = ("fetch", "odd", "a.1products", "-o", out, "--max-credits", "1")
        told = invoke(*line, "--concurrency", "1").stderr.splitlines()
    assert told[-3].startswith("1 creator with answers that cannot be decoded: they are kept")
    assert "with a higher --max-credits" in told[-1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_what_cannot_be_decoded_is_told_once_the_output_is_broken(invoke, simulate, tmp_path):
    """It is on file, in the archive, while the products have nowhere to go."""
    with simulate(faults=[Fault.not_json(handles={"odd"})]):
        line = ("fetch", "odd", "a.1products", "-o", "/dev/full", "--archive", tmp_path / "a.sfk")
        told = invoke(*line, "--concurrency", "1").stderr.splitlines()
    assert told[-3].startswith("1 creator with answers that cannot be decoded: they are kept")
    assert told[-2].startswith("Error: cannot write /dev/full")


@pytest.mark.parametrize(
    "case",
    [
        ("a\u2007b", "utf-8", "'a\u2007b.sfk'"),
        ("a\u2007b", "ascii", r"$'a\xe2\x80\x87b.sfk'"),
        ("a\u202eb", "utf-8", r"$'a\xe2\x80\xaeb.sfk'"),
        ("a\n'b'\\c\udcff 1-2_", "utf-8", r"$'a\x0a\x27b\x27\x5cc\xff 1-2_.sfk'"),
    ],
    ids=["a space", "no letter of the terminal's", "turning round", "lines, quotes, no letters"],
)
def test_a_file_is_told_as_a_shell_takes_it(simulate, spawn, tmp_path, case):
    """A file's name is told as a shell takes it, escaped where the terminal cannot show it."""
    name, encoding, told = case
    with simulate(faults=[Fault.not_json()]):
        process = spawn(
            *("fetch", "odd", "-o", f"{name}.jsonl"),
            cwd=tmp_path,
            env={"PYTHONIOENCODING": encoding},
        )
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"asyncsfk archive salvage {told} tries once more" in stderr.decode(encoding)
    if bash := shutil.which("bash"):
        line = f"printf %s {told}".encode()
        taken = subprocess.run([bash, "-c", line], capture_output=True, check=True)  # noqa: S603
        assert taken.stdout == os.fsencode(f"{name}.sfk")


def test_files_that_are_named_like_flags(invoke, simulate, monkeypatch, tmp_path):
    """A command that is told for a file can be pasted, even if the file's name begins with -."""
    monkeypatch.chdir(tmp_path)
    with simulate(faults=[Fault.not_json(times=1)]) as simulator:
        Path("-key").write_text(simulator.api_key)
        Path("-key").chmod(0o644)
        result = invoke("fetch", "odd", "-o", "-o.jsonl", "--api-key-file", "-key")
    assert result.exit_code == 1
    assert "chmod 600 ./-key\n" in result.stderr
    line = re.search(r"asyncsfk (archive salvage .*) tries once more", result.stderr)[1]
    assert (
        invoke(*shlex.split(line)).stderr == "0 answers decoded that could not be before, 1 left\n"
    )


@pytest.mark.parametrize(
    "case",
    [
        ("plain-2.1", "plain-2.1.sfk"),
        (r"folder\plain", r"folder\plain.sfk"),
        (r"folder\my list", r'"folder\my list.sfk"'),
        ("it's", '"it\'s.sfk"'),
        ("@a&b", '"@a&b.sfk"'),
        ("-o", "./-o.sfk"),
    ],
)
def test_a_file_is_told_as_shells_of_windows_take_it(invoke, simulate, monkeypatch, tmp_path, case):
    """On Windows a file's name is told in double quotes: cmd.exe knows no others."""
    name, told = case
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "platform", "win32")
    with simulate(faults=[Fault.not_json()]):
        result = invoke("fetch", "odd", f"-o{name}.jsonl")
    assert result.exit_code == 1
    assert f"asyncsfk archive salvage {told} tries once more" in result.stderr


def test_what_will_never_be_more_is_told_apart(invoke, simulate, out):
    """A line that can bring no more says so, so that a job that repeats it comes to an end."""
    faults = [
        Fault.cursor_loop(handles={"round.45products"}),
        Fault.gzip_bomb(size=1 << 22, handles={"bomb"}),
    ]
    line = ["fetch", "round.45products", "bomb", "-o", out, "--max-body-bytes", 1 << 20]
    with simulate(faults=faults) as simulator:
        for _ in range(2):
            result = invoke(*line)
            assert result.exit_code == 1
            assert "goes on from here" not in result.stderr
            assert "1 creator with pages that lead nowhere new" in result.stderr
            assert "1 creator with answers that cannot be decoded" in result.stderr
            assert "with --max-body-bytes what is too large" in result.stderr
        assert simulator.ledger.paid_twice() == {}
        assert "Nothing is left to buy" in invoke(*line, "--dry-run").stdout
        assert "there is no more to buy" in invoke("fetch", "round.45products").stderr
    # An answer that has not come whole is not kept, so the same line may still get it.
    with simulate(faults=[Fault.oversized(1 << 21, handles={"large"})]) as simulator:
        result = invoke("fetch", "large", "-o", out, "--max-body-bytes", 1 << 20)
        assert "The same line goes on from here" in result.stderr
        assert "cannot be decoded" not in result.stderr


def test_an_archive_that_is_moved_away(simulate, spawn, invoke, out):
    """If the archive is gone, a fetch says to put it back, not that the same line goes on."""
    kept, away = out.with_suffix(".sfk"), out.with_name("away")
    away.mkdir()
    with simulate(latency=Latency.fixed(0.05)) as simulator:
        names = [f"a{number}.100products" for number in range(100)]
        process = spawn("fetch", *names, "-o", out, "--concurrency", "5")
        wait_for(lambda: simulator.ledger.charged > 10)
        files = list(out.parent.glob("out.sfk*"))
        for file in files:
            file.rename(away / file.name)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 1
        told = stderr.decode().splitlines()[-1]
        assert told.startswith(
            f"Put {kept} back before you go on, or give its new place with --archive"
        )
        for file in files:
            (away / file.name).rename(file)
        before = simulator.ledger.charged
        assert invoke("fetch", *names, "-o", out).exit_code == 0
        # These were on their way when the archive went.
        assert simulator.ledger.charged - 500 <= 5 < before


def test_an_archive_that_is_moved_alone(simulate, spawn, invoke, out):
    """A moved archive has all that was kept, and what is put in its place is left alone."""
    kept, away = out.with_suffix(".sfk"), out.with_name("away.sfk")
    other = out.with_name("other.sfk")
    with simulate(latency=Latency.fixed(0.05)) as simulator:
        names = [f"a{number}.100products" for number in range(100)]
        assert invoke("fetch", "b.1products", "--archive", other).exit_code == 0
        process = spawn("fetch", *names, "-o", out, "--concurrency", "5")
        wait_for(lambda: simulator.ledger.charged > 20)
        kept.rename(away)
        _, stderr = process.communicate(timeout=20)
        assert "or give its new place with --archive" in stderr.decode()
        before = simulator.ledger.charged
        # One credit was for the page in the other archive.
        assert before - 1 - Archive(away).info().answers <= 5
        other.rename(kept)
        assert invoke("fetch", "b.1products", "-o", out).exit_code == 0
        assert simulator.ledger.charged == before
        assert invoke("fetch", *names, "-o", out, "--archive", away).exit_code == 0
        assert simulator.ledger.charged - 501 <= 5 < before


@pytest.mark.parametrize("fault", [Fault.status(400), Fault.not_json()], ids=lambda one: one.name)
def test_an_archive_that_is_moved_at_the_end(simulate, spawn, out, fault):
    """A moved archive is told even if something else is missing as well."""
    kept = out.with_suffix(".sfk")
    with simulate(faults=[fault]):
        process = spawn("fetch", "--from", "-", "-o", out, "-vv", stdin=subprocess.PIPE)
        process.stdin.write(b"a\n")
        process.stdin.flush()
        while b"HandleFinished(" not in process.stderr.readline():
            pass
        kept.rename(out.with_name("away.sfk"))
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr.decode().splitlines()[-1].startswith(f"Put {kept} back before you go on")
    # Nor is it said to have what could not be decoded.
    assert b"they are kept" not in stderr


def test_a_folder_that_cannot_be_looked_into_any_more(simulate, spawn, tmp_path):
    """It is told like an archive that is gone, as of a disk that is: not in a traceback."""
    folder = tmp_path / "disk"
    folder.mkdir()
    out = folder / "out.jsonl"
    with simulate(faults=[Fault.status(400, handles=["a"])]):
        process = spawn("fetch", "--from", "-", "-o", out, "-vv", stdin=subprocess.PIPE)
        process.stdin.write(b"a\n")
        process.stdin.flush()
        while b"HandleFinished(" not in process.stderr.readline():
            pass
        folder.rename(tmp_path / "away")
        # The system gives an error for it, and not that there is no such file.
        folder.symlink_to("x" * 300)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    told = stderr.decode().splitlines()[-1]
    assert told.startswith(f"Put {out.with_suffix('.sfk')} back before you go on")


@pytest.mark.parametrize("seconds", [-60, 60], ids=["back", "forward"])
def test_a_clock_that_is_set(invoke, simulator, out, monkeypatch, seconds):
    """The line that goes on takes a refresh's pages for fresh, even if the clock was set."""

    def time_told(now=time.time):
        return now() + (seconds if simulator.ledger.requests > 25 else 0)

    names = [f"a{number}.20products" for number in range(20)]
    assert invoke("fetch", *names, "-o", out).exit_code == 0
    sql(out.with_suffix(".sfk"), "UPDATE page SET received = received - 3600")
    monkeypatch.setattr(time, "time", time_told)
    line = ["fetch", "--refresh", *names, "-o", out, "--concurrency", "1"]
    result = invoke(*line, "--max-credits", "30")
    assert result.exit_code == 4
    assert simulator.ledger.charged == 30
    told = re.search("Run asyncsfk (fetch .*) with a higher", result.stderr)[1]
    result = invoke(*shlex.split(told), "--max-credits", "100")
    assert result.exit_code == 0, result.stderr
    assert simulator.ledger.charged == 40


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_a_full_disk_leaves_whole_lines(simulate, spawn, tmp_path, out):
    """On a full disk the output ends in a whole line, and the error names it."""
    errors = tmp_path / "errors.jsonl"
    limited = ["/bin/sh", "-c", 'ulimit -f 40; exec "$@"', "sh", ASYNCSFK]
    with simulate(latency=Latency.fixed(0.01)):
        process = spawn(
            *("fetch", *(f"a{number}.300products" for number in range(5)), "-o", out),
            *("--no-archive", "--errors", errors, "--outcomes", "/dev/full"),
            command=limited,
        )
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 1
        assert f"Error: cannot write {out}: File too large" in stderr.decode()
    written = Counter(row["handle"] for row in read(out))
    assert written.total() > 10
    # Each creator of whom lines were written has a cursor to go on from.
    told = read(errors)
    assert {row["handle"]: row["usage"]["products"] for row in told} == written
    assert all(row["nextCursor"] for row in told)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_errors_are_written_though_outcomes_cannot_be(invoke, simulate, tmp_path):
    """--errors is written even if --outcomes is on a full disk."""
    errors = tmp_path / "errors.jsonl"
    broken = "a.100products"
    with simulate(faults=[Fault.status(400, pages=[2], handles=[broken])]):
        result = invoke("fetch", broken, "--outcomes", "/dev/full", "--errors", errors)
    assert result.exit_code == 1
    assert "Error: cannot write /dev/full: " in result.stderr
    assert [row["handle"] for row in read(errors)] == [broken]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_a_full_disk_tells_how_to_go_on(invoke, simulator, tmp_path, out):
    """After a full disk, the line told to go on does not buy again what is in the archive."""
    kept = tmp_path / "elsewhere.sfk"
    args = ["fetch", "a.20products", "-o", "/dev/full", "--archive", kept]
    first = invoke(*args)
    assert first.exit_code == 1
    assert first.stderr.splitlines()[-2:] == [
        f"Error: cannot write /dev/full: {os.strerror(errno.ENOSPC)}",
        f"Once that is mended, the same line goes on from here: {kept} keeps what was bought.",
    ]
    assert simulator.ledger.charged == 1
    told = re.search(
        "Once that is mended, asyncsfk (.*) goes on", invoke(*args, "--refresh").stderr
    )
    assert simulator.ledger.charged == 2
    assert invoke(*shlex.split(told[1].replace("/dev/full", str(out)))).exit_code == 0
    assert simulator.ledger.charged == 2
    assert len(read(out)) == 20


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_a_full_disk_without_an_archive(invoke, simulator):  # noqa: ARG001 - the environment
    """On a full disk one is told that there is no archive to go on from, but not with --quiet."""
    told = invoke("fetch", "a.20products", "-o", "/dev/full").stderr.splitlines()
    assert told[-1].startswith("There is no archive to go on from: ")
    quiet = invoke("fetch", "a.20products", "-o", "/dev/full", "--quiet")
    assert quiet.exit_code == 1
    assert quiet.stderr.splitlines() == [told[-2]]
    assert told[-2].startswith("Error: cannot write /dev/full: ")


def test_a_ceiling(invoke, simulator, out):
    """At the ceiling what was bought is written, the code is 4, and a higher one goes on."""
    args = ["fetch", *(f"a{number}.45products" for number in range(4)), "-o", out]
    first = invoke(*args, "--max-credits", "7", "--concurrency", "2")
    assert first.exit_code == 4
    assert simulator.ledger.charged == 7
    error, advice = first.stderr.splitlines()[-2:]
    assert error.startswith("Error: the ceiling of 7 credits is reached: 7 are charged")
    assert advice == (
        f"Run it again with a higher --max-credits: {out.with_suffix('.sfk')} keeps what was "
        "bought."
    )
    written = len(read(out))
    assert written >= 7 * 5
    # The ceiling is the job's: the same one buys nothing more.
    again = invoke(*args, "--max-credits", "7", "-q")
    assert again.exit_code == 4
    error = error.replace("maybe,", "maybe (7 of them before),")
    assert again.stderr.splitlines() == [error, advice]
    assert simulator.ledger.requests == 7
    assert len(read(out)) == written
    assert invoke(*args, "--max-credits", "12").exit_code == 0
    assert len(read(out)) == 4 * 45
    assert simulator.ledger.charged == 12
    assert simulator.ledger.paid_twice() == {}


def test_a_ceiling_without_an_archive(invoke, simulator, tmp_path):
    """Without an archive a ceiling is that of one run, and --errors tells where to go on."""
    errors = tmp_path / "errors.jsonl"
    args = ["fetch", "a.45products", "--max-credits", "2", "--errors", errors]
    for charged in 2, 4:
        result = invoke(*args)
        assert result.exit_code == 4
        assert result.stderr.endswith(
            "a higher --max-credits: without an archive, it would begin anew.\n"
        )
        assert simulator.ledger.charged == charged
        (row,) = read(errors)
        assert (row["status"], row["error"]["type"]) == ("partial", "BudgetReachedError")
        assert row["nextCursor"]


def test_refresh(invoke, simulator, out):
    """--refresh buys everything afresh, once."""
    args = ["fetch", "a.45products", "b.3products", "-o", out]
    for flags, charged in ([], 4), (["--refresh"], 8), ([], 8):
        assert invoke(*args, *flags).exit_code == 0
        assert simulator.ledger.charged == charged
        assert len(read(out)) == 48


def test_max_age(invoke, simulator, out):
    """--max-age buys afresh what is older than a duration or a time."""
    before = datetime.now(UTC).replace(microsecond=0).isoformat()
    args = ["fetch", "a.45products", "-o", out]
    assert invoke(*args).exit_code == 0
    for age in (
        "90",
        "90s",
        "15m",
        "1.5h",
        "7d",
        "9" * 400,
        "1969-07-20",
        before,
        before.replace("+00:00", "Z"),
    ):
        assert invoke(*args, "--max-age", age).exit_code == 0
        assert simulator.ledger.charged == 3
    assert invoke(*args, "--max-age", "0").exit_code == 0
    assert simulator.ledger.charged == 6
    assert len(read(out)) == 45
    # 100,000 seconds: 27.8 hours.
    sql(out.with_suffix(".sfk"), "UPDATE page SET received = received - 100000")
    for age in "2d", "28h", "1700m":
        assert "Nothing is left to buy." in dry_run(invoke, *args[1:], "--max-age", age), age
    for age in "1d", "27h", "1600m", "99000":
        assert "Nothing is left to buy." not in dry_run(invoke, *args[1:], "--max-age", age), age


@pytest.mark.parametrize("age", ["", "soon", "-1", "1e3", "7w", "nan", "2999-01-01"])
def test_an_age_that_is_none(invoke, simulator, tmp_path, out, age):
    """An age that makes no sense is a usage error, and nothing is made or sent."""
    result = invoke("fetch", "a.1products", "-o", out, "--max-age", age)
    assert result.exit_code == 2, result.stderr
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
    assert simulator.ledger.requests == 0
    assert [path for path in tmp_path.iterdir() if path.suffix != ".sfk"] == []


def test_a_stale_cursor(invoke, simulate, out):
    """A stale cursor on file is told, and --restart-stale starts that showcase over."""
    args = ["fetch", "a.45products", "b.45products", "-o", out]
    with simulate() as simulator:
        assert invoke(*args, "--max-pages", "1").exit_code == 0
        simulator.faults = [Fault.status(400, pages=[2], handles=["a.45products"], times=2)]
        stale = invoke(*args)
        assert stale.exit_code == 1
        told = stale.stderr.splitlines()[0]
        assert told.startswith("a.45products: partial: the API no longer")
        assert "; --restart-stale starts this showcase over: " in told
        # The same line would only be refused again.
        assert "goes on from here" not in stale.stderr
        assert stale.stderr.endswith(
            "--restart-stale starts those showcases over whose cursor is stale.\n"
        )
        assert len(read(out)) == 20 + 45
        simulator.faults = [Fault.status(400, pages=[2], handles=["a.45products"], times=2)]
        [quiet] = invoke(*args, "-q").stderr.splitlines()
        assert quiet.startswith("a.45products: partial: the API no longer")
        simulator.faults = [Fault.status(400, pages=[2], handles=["a.45products"], times=1)]
        assert invoke(*args, "--restart-stale").exit_code == 0
        assert by_handle(read(out)) == {
            name: simulator.showcase(name) for name in ("a.45products", "b.45products")
        }
        assert simulator.ledger.hits("a.45products", cursor=None) == 2
        assert simulator.ledger.hits("b.45products", cursor=None) == 1


def test_an_archive_that_is_being_written(invoke, simulator, spawn, out):
    """A second fetch into the same archive names who holds it, and empties no output."""
    process = spawn("fetch", "--from", "-", "-o", out, stdin=subprocess.PIPE)
    process.stdin.write(b"a.1products\n")
    process.stdin.flush()
    wait_for(lambda: begun(out))
    result = invoke("fetch", "b.1products", "-o", out)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {out.with_suffix('.sfk')} is being written by")
    assert f"process {process.pid} on " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert simulator.ledger.requests == 1
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(read(out)) == 1


def foreign_text(path):
    path.write_text("handle,price\n" * 1000, "utf-8")


def foreign_database(path):
    sql(path, "CREATE TABLE mine (x)")


@pytest.mark.parametrize("make", [foreign_text, foreign_database])
def test_a_file_that_is_no_archive(invoke, simulator, out, make):
    """A file that is not an archive is refused; neither it nor the output is touched."""
    archive = out.with_suffix(".sfk")
    make(archive)
    before = archive.read_bytes()
    out.write_text("{}\n", "utf-8")
    result = invoke("fetch", "a.1products", "-o", out)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {archive} is ")
    assert len(result.stderr.splitlines()) == 1
    assert archive.read_bytes() == before
    assert read(out) == [{}]
    assert simulator.ledger.requests == 0


def test_an_archive_of_another_origin(invoke, simulator, out):
    """An archive of another origin is refused: nothing is sent, and no output is emptied."""
    assert invoke("fetch", "a.1products", "-o", out).exit_code == 0
    result = invoke("fetch", "b.1products", "-o", out, "--base-url", "https://example.com")
    assert result.exit_code == 2
    assert "holds answers of this machine, not of https://example.com" in result.stderr
    assert len(read(out)) == 1
    assert simulator.ledger.requests == 1


def test_an_archive_that_cannot_be_made(invoke, simulator, tmp_path, out):
    """An archive in a directory that is not there is exit code 2."""
    result = invoke("fetch", "a.1products", "-o", out, "--archive", tmp_path / "none" / "x.sfk")
    assert result.exit_code == 2
    assert f"no folder {tmp_path / 'none'}" in result.stderr
    assert not out.exists()
    assert simulator.ledger.requests == 0


@pytest.mark.parametrize(("keeps", "is_interrupted"), [(False, False), (True, False), (True, True)])
def test_a_disk_that_fills_up(simulator, spawn, tmp_path, keeps, is_interrupted):
    """A full disk under the archive stops the run, which tells of the answers it could not keep."""
    handles = [f"a{number}.45products" for number in range(100)]
    errors = tmp_path / "errors.jsonl"

    def fill_up(archive):
        errors.unlink(missing_ok=True)
        process = spawn(
            *("fetch", *handles, "--archive", archive, "--concurrency", "4"),
            *(["--from", "-"] if is_interrupted else []),
            *(["--errors", errors] if keeps else ["-q"]),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        if is_interrupted:
            # It waits for more creators, though it would buy nothing of them.
            wait_for(lambda: errors.exists() and b"a99.45products" in errors.read_bytes())
            process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == (130 if is_interrupted else 1), stderr
        assert b"Traceback" not in stderr
        told = stderr.decode()
        assert f"Error: {archive} cannot be used: " in told
        ends = "\nOnce that is mended, the same line goes on from here.\n"
        assert told.endswith(ends) is (keeps and not is_interrupted)
        # At most the width, which was in flight when the lack of room was seen.
        return re.search(
            r"^([1-4]) answers? paid for and not in the archive: (.*)$", told, re.MULTILINE
        )

    # What does not fit may be something other than an answer, and then none is lost.
    lost = next(filter(None, (fill_up(tmp_path / f"{number}.sfk") for number in range(5))))
    if keeps:
        assert lost[2] == f"each is the `body` of its line in {errors}: keep that file."
        bodies = [row["error"]["body"] for row in read(errors) if "body" in row["error"]]
        assert len(bodies) == int(lost[1])
        assert all(json.loads(b64decode(body))["data"]["products"] for body in bodies)
    else:
        assert lost[2].startswith("lost. ")
    assert 0 < simulator.ledger.charged < 300


@pytest.mark.parametrize(
    "case",
    [
        (["--archive", "x.sfk", "--no-archive"], "contradict each other"),
        (["--refresh"], "--refresh is about an archive, and there is none"),
        (["--max-age", "1h"], "--max-age is about an archive"),
        (["--restart-stale"], "--restart-stale is about an archive"),
        (["--refresh", "-o", "out", "--no-archive"], "--refresh is about an archive"),
        (["--refresh", "--max-age", "1h", "-o", "out"], "whatever --max-age says"),
        (["-o", "out.sfk"], ".sfk is for archives"),
        (["-o", "out.SFK"], ".sfk is for archives"),
        (["-o", "out", "--append"], "--append would write it twice"),
        (["--archive", "x.sfk", "--append"], "--append would write it twice"),
        (["--archive", "handles.txt"], "--from and the archive name the same file"),
        (["--archive", "./out", "-o", "out"], "-o and the archive name the same file"),
        (["--archive", "none/../out", "-o", "out"], "-o and the archive name the same file"),
        (["-o", "out", "--errors", "out.sfk"], "--errors and the archive name the same file"),
        (["--outcomes", "x", "--archive", "x"], "--outcomes and the archive name the same file"),
        (["--archive", "."], "is a directory"),
        (["--archive", ""], "an archive needs the path of a file"),
        (["--max-credits", "0"], "0 is not in the range"),
        (["--rate", "nan"], "Error: --rate must be a positive number"),
        (["--from", "handles.txt"], "it can be given once"),
        (["--errors", "-"], "--errors names a file"),
        (["-o", "out", "--outcomes", "-"], "--outcomes names a file"),
        (["--region", "Germany"], "not a country code"),
        (["--region", ""], "not a country code"),
        (["--region", "\u00df"], "not a country code"),  # its capitals are SS
    ],
)
def test_usage_errors(invoke, simulator, tmp_path, monkeypatch, case):
    """Flags that do not go together are exit code 2, before anything is made, emptied or sent."""
    args, told = case
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "handles.txt"
    source.write_text("mrbeast\n", "utf-8")
    result = invoke("fetch", "--from", "handles.txt", *args)
    assert result.exit_code == 2, result.stderr
    assert told in result.stderr
    assert list(tmp_path.iterdir()) == [source]
    assert source.read_text("utf-8") == "mrbeast\n"
    assert simulator.ledger.requests == 0


def test_an_output_may_be_called_as_it_likes_where_it_has_no_archive(invoke, simulator, tmp_path):
    """`-o x.sfk` is taken if no archive would be beside it."""
    for flags in ["--no-archive"], ["--archive", tmp_path / "y.sfk"]:
        assert invoke("fetch", "a.3products", "-o", tmp_path / "x.sfk", *flags).exit_code == 0
        assert by_handle(read(tmp_path / "x.sfk"))["a.3products"] == simulator.showcase(
            "a.3products"
        )


def test_a_price_that_rose(invoke, simulate, out):
    """A higher price is told in one line, even with `--quiet`, and not as a line of a log."""
    with simulate(faults=[Fault.price(3, pages=[2])]):
        result = invoke("fetch", "a.45products", "-o", out)
        assert result.exit_code == 0
        assert result.stderr.splitlines()[1:] == [
            "3 pages, 45 products, 5 credits charged",
            "Prices rose: /v1/tiktok/profiles/{handle}/showcase-products costs 3 credits, not 1",
        ]
        quiet = invoke("fetch", "a.45products", "-o", out, "--quiet", "--no-archive")
        assert quiet.stderr.splitlines() == result.stderr.splitlines()[2:]


def test_a_killed_fetch_goes_on(simulate, spawn, invoke, out):
    """After a SIGKILL the same line pays again for at most what was under way."""
    handles = [f"a{number}.300products" for number in range(10)]
    outcomes = out.with_name("outcomes.jsonl")
    outcomes.write_text("of an earlier fetch\n")
    with simulate() as simulator:
        process = spawn("fetch", *handles, "-o", out, "--concurrency", "4", "--outcomes", outcomes)
        wait_for(lambda: simulator.ledger.charged > 40)
        process.kill()
        process.wait(20)
        assert "of an earlier fetch" not in outcomes.read_text()
        known = Archive(out.with_suffix(".sfk")).info()
        spent = known.usage.charged + known.unsettled
        assert known.usage.charged <= simulator.ledger.charged <= spent
        assert dry_run(invoke, *handles, "-o", out, "--max-credits", "1000")[-1] == (
            f"--max-credits leaves {1000 - spent} credits for it."
        )
        assert invoke("fetch", *handles, "-o", out).exit_code == 0
        assert by_handle(read(out)) == {name: simulator.showcase(name) for name in handles}
        assert len(simulator.ledger.paid_twice()) <= 4


def dry_run(invoke, *args):
    result = invoke("fetch", "--dry-run", *args)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def test_dry_run_of_what_was_never_fetched(invoke, simulator, tmp_path, out):
    """--dry-run tells what a fetch would cost: it costs nothing, and makes and empties no file."""
    simulator.balance = 100
    out.write_text("{}\n", "utf-8")
    source = tmp_path / "handles.txt"
    source.write_text("b.3products\n@B.3products\nno good\n", "utf-8")
    assert dry_run(invoke, "a.45products", "--from", source, "-o", out) == [
        "2 creators: 2 to start",
        "Passed over: 1 given twice, 1 no valid handle",
        "At least 2 credits, no limit without --max-pages",
        "The balance of 100 credits covers the least that it costs.",
    ]
    assert read(out) == [{}]
    assert sorted(tmp_path.iterdir()) == [source, out]
    assert simulator.ledger.charged == 0
    assert [entry.route for entry in simulator.ledger] == ["/v1/balance"]


def test_dry_run_of_what_is_there_in_part(invoke, simulator, out):
    """--dry-run goes by what the archive holds, and by the flags."""
    handles = [f"a{number}.30products" for number in range(3)]
    assert invoke("fetch", *handles[:2], "-o", out).exit_code == 0
    assert invoke("fetch", "b.30products", "-o", out, "--max-pages", "1").exit_code == 0
    simulator.balance = 2
    args = [*handles, "b.30products", "-o", out]
    *told, time_ = dry_run(invoke, *args, "--max-pages", "3", "--max-credits", "6")[:-1]
    assert told == [
        "4 creators: 2 complete in the archive, 1 to go on with, 1 to start",
        "At least 2 credits, likely 3, at most 5",
        "The balance of 2 credits does not cover it.",
    ]
    assert time_ == "Some 0 s, with 100 requests at once"
    assert dry_run(invoke, *args, "--max-credits", "6")[-1] == (
        "--max-credits leaves 1 credit for it."
    )
    assert dry_run(invoke, *args, "--max-credits", "5")[-1] == (
        "--max-credits leaves 0 credits for it."
    )
    simulator.balance = 3
    assert dry_run(invoke, *args, "--max-pages", "3")[2] == (
        "The balance of 3 credits likely covers it."
    )
    assert dry_run(invoke, *args, "--refresh")[0] == "4 creators: 4 to start"
    assert dry_run(invoke, *args, "--max-age", "0")[0] == "4 creators: 4 to start"
    assert dry_run(invoke, *args, "--region", "GB")[0] == "4 creators: 4 to start"
    assert dry_run(invoke, *args, "--max-pages", "3", "--verify-empty")[1] == (
        "At least 2 credits, likely 3, at most 7"
    )
    # The one page of a showcase that is begun may have to be bought again.
    assert dry_run(invoke, *args, "--max-pages", "3", "--restart-stale")[1] == (
        "At least 2 credits, likely 3, at most 6"
    )
    assert dry_run(invoke, *handles[:2], "-o", out) == [
        "2 creators: 2 complete in the archive",
        "Nothing is left to buy.",
    ]
    assert simulator.ledger.charged == 5


def test_dry_run_tells_how_long_it_would_take(invoke, simulator, out):
    """--dry-run estimates the time from what requests took before, in units for people."""
    assert invoke("fetch", "a.30products", "-o", out).exit_code == 0
    told = []
    for seconds in 1, 100, 10_000:
        sql(out.with_suffix(".sfk"), "UPDATE attempt SET seconds = ?", seconds)
        args = ["b.30products", "-o", out, "--concurrency", "1"]
        told.append(dry_run(invoke, *args)[-1])
    assert told == [f"Some {time}, with 1 request at once" for time in ("2 s", "3 min", "5.6 h")]
    assert simulator.ledger.charged == 2


def test_dry_run_with_an_archive_that_is_none(invoke, simulator, out):
    """--dry-run refuses what a fetch would refuse."""
    foreign_text(out.with_suffix(".sfk"))
    result = invoke("fetch", "a.1products", "-o", out, "--dry-run")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {out.with_suffix('.sfk')} is ")
    assert simulator.ledger.charged == 0


def said(invoke, *args):
    return "\n".join(dry_run(invoke, *args))


def test_dry_run_after_a_look_at_first_pages(invoke, simulator, out):
    """Showcases that --max-pages has cut say nothing of how long showcases are."""
    first = [f"a{number}.45products" for number in range(5)]
    invoke("fetch", *first, "-o", out, "--max-pages", "1")
    assert "likely" not in said(invoke, "b.45products", "-o", out)
    # For that many pages they do.
    assert "likely 1," in said(invoke, "b.45products", "-o", out, "--max-pages", "1")
    invoke("fetch", "c.45products", "-o", out)
    assert "likely 3" in said(invoke, "b.45products", "-o", out)
    assert simulator.ledger.charged == 8


def test_dry_run_knows_profiles_of_any_region(invoke, simulator, out):
    """--dry-run does not count a profile that is on file, whatever the region."""
    invoke("fetch", "empty_c", "-o", out, "--region", "us", "--verify-empty")
    invoke("fetch", "empty_c", "-o", out)
    charged = simulator.ledger.charged
    assert "Nothing is left to buy." in said(invoke, "empty_c", "-o", out, "--verify-empty")
    invoke("fetch", "empty_c", "-o", out, "--verify-empty")
    assert simulator.ledger.charged == charged


def test_a_refresh_tells_how_to_go_on_should_it_be_killed(invoke, simulator, out):
    """A --refresh first says how to go on without buying afresh twice, should it be killed."""
    invoke("fetch", "a.1products", "-o", out)
    result = invoke("fetch", "a.1products", "-o", out, "--refresh")
    told = re.match(
        r"If this is killed, go on with --max-age (\S+) in place of --refresh\.\n", result.stderr
    )
    assert told
    assert invoke("fetch", "a.1products", "-o", out, "--max-age", told[1]).exit_code == 0
    assert simulator.ledger.charged == 2
