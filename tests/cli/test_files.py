"""The files that a command is given: none is emptied, mixed up or lost needlessly."""

import errno
import os
import re
import resource
import shlex
import sys
import threading
from contextlib import suppress

import pytest

from asyncsfk import Archive
from asyncsfk.cli._lines import LineWriter
from asyncsfk.simulator import Fault
from tests.cli.conftest import ASYNCSFK
from tests.cli.support import lines, read
from tests.support import sql

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="of files as POSIX has them")


@pytest.mark.parametrize(
    "case",
    [
        (["--api-key-file", "wrong", "--no-archive"], 3),
        (["--api-key-file", "wrong", "--refresh"], 3),
        (["--refresh", "--max-credits", "1"], 4),
    ],
    ids=["no archive", "refresh", "ceiling"],
)
def test_what_is_there_stays_until_there_is_something_new(invoke, simulator, tmp_path, out, case):
    """A fetch that gets nothing leaves the products of the previous one."""
    flags, code = case
    flags = [str(tmp_path / flag) if flag == "wrong" else flag for flag in flags]
    (tmp_path / "wrong").write_text("sfk_wrong")
    (tmp_path / "wrong").chmod(0o600)
    assert invoke("fetch", "a.20products", "-o", out).exit_code == 0
    charged = simulator.ledger.charged
    assert invoke("fetch", "a.20products", "-o", out, *flags).exit_code == code
    assert simulator.ledger.charged == charged
    assert len(read(out)) == 20


@pytest.mark.parametrize("flag", ["--errors", "--outcomes"])
@pytest.mark.parametrize("archiving", ["--no-archive", "--refresh"])
def test_errors_alone_leave_the_products(invoke, simulator, out, flag, archiving):
    """A fetch without products replaces errors and outcomes, but leaves the products."""
    told = out.with_name("told.jsonl")
    line = ("fetch", "a.20products", "-o", out, flag, told)
    assert invoke(*line).exit_code == 0
    told.write_text("{}\n")
    simulator.add_fault(Fault.status(502, times=9))
    assert invoke(*line, archiving).exit_code == 1
    assert len(read(out)) == 20
    assert [outcome["status"] for outcome in read(told)] == ["failed"]
    simulator.faults = []
    assert invoke(*line, archiving).exit_code == 0
    assert len(read(out)) == 20


def test_an_empty_list_leaves_the_output(invoke, simulator, tmp_path, out):
    """An empty list of handles leaves the output as it was."""
    assert invoke("fetch", "a.20products", "-o", out).exit_code == 0
    (tmp_path / "handles.txt").touch()
    result = invoke("fetch", "--from", tmp_path / "handles.txt", "-o", out)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (0, "No creators.")
    assert len(read(out)) == 20
    assert simulator.ledger.requests == 1


@pytest.mark.usefixtures("simulator")
def test_a_fetch_without_products_has_none_in_its_files(invoke, tmp_path, out):
    """A fetch that succeeds without products leaves nothing of earlier ones in its files."""
    errors = tmp_path / "errors.jsonl"
    invoke("fetch", "a.20products", "no good", "-o", out, "--errors", errors)
    assert len(read(errors)) == 1
    assert invoke("fetch", "empty_c", "-o", out, "--errors", errors).exit_code == 0
    assert read(out) == read(errors) == []


def test_an_output_has_one_writer(invoke, simulator, out):
    """A second fetch into the same file is refused before it costs anything."""
    out.write_bytes(b"")
    with LineWriter(str(out)):
        result = invoke("fetch", "a.1products", "-o", out, "--no-archive")
    assert (result.exit_code, simulator.ledger.requests) == (2, 0)
    assert f"cannot use {out}: another process is writing it" in result.stderr
    assert invoke("fetch", "a.1products", "-o", out, "--no-archive").exit_code == 0


@pytest.mark.parametrize(
    "case",
    [
        (["--api-key-file", "key", "-o", "key", "--no-archive"], "--api-key-file and -o name"),
        (["-o", "x.sfk-wal", "--archive", "x.sfk"], "-o and the archive's -wal name"),
        (["-o", "x.sfk-shm", "--archive", "x.sfk"], "-o and the archive's -shm name"),
        (["-o", "x.sfk-journal", "--archive", "x.sfk"], "-o and the archive's -journal name"),
        (["-o", "o", "--errors", "x.sfk-lock", "--archive", "x.sfk"], "--errors and the archive's"),
    ],
)
def test_no_file_is_written_that_is_something_else(invoke, simulator, tmp_path, monkeypatch, case):
    """Neither the key's file nor a file beside an archive is written as an output."""
    args, message = case
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(simulator.api_key)
    (tmp_path / "key").chmod(0o600)
    result = invoke("fetch", "a.1products", *args)
    assert (result.exit_code, simulator.ledger.requests) == (2, 0)
    assert message in result.stderr
    assert (tmp_path / "key").read_text() == simulator.api_key


@pytest.mark.parametrize("flags", [[], ["--no-archive"], ["--errors", "e", "--archive", "x.sfk"]])
def test_a_folder_that_is_gone(invoke, simulator, tmp_path, monkeypatch, flags):
    """In a folder that was removed no file can be opened: that is for somebody to mend."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    result = invoke("fetch", "a.1products", "-o", "out.jsonl", *flags)
    assert (result.exit_code, simulator.ledger.requests) == (2, 0)
    assert ".jsonl" in result.stderr or ".sfk" in result.stderr


def test_the_list_on_stdin_is_no_output(spawn, simulator, tmp_path):
    """`fetch --from - -o list < list` keeps the list."""
    handles = tmp_path / "handles.txt"
    handles.write_text("a.1products\n")
    with handles.open() as stdin:
        process = spawn("fetch", "--from", "-", "-o", handles, stdin=stdin)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert b"--from and -o name the same file" in stderr
    assert handles.read_text() == "a.1products\n"
    assert simulator.ledger.requests == 0


@pytest.mark.usefixtures("simulator")
def test_what_an_archive_prints_replaces_what_was_there(invoke, out):
    """The products of an archive, written twice into a file, are there once."""
    invoke("fetch", "a.20products", "-o", out)
    for _ in range(2):
        assert invoke("archive", "products", out.with_suffix(".sfk"), "-o", out).exit_code == 0
        assert len(read(out)) == 20
    assert invoke("archive", "errors", out.with_suffix(".sfk"), "-o", out).exit_code == 0
    assert read(out) == []


def test_what_cannot_be_printed_is_not_salvaged(invoke, simulate, tmp_path, out):
    """`archive salvage` decodes nothing that it cannot print, as it prints each answer once."""
    with simulate(faults=[Fault.unknown_fields()]) as simulator:
        invoke("fetch", "a.1products", "-o", out)
        assert simulator.ledger.charged == 1
    kept = out.with_suffix(".sfk")
    undecoded(kept)
    result = invoke("archive", "salvage", kept, "-o", tmp_path / "none" / "x.jsonl")
    assert result.exit_code == 2
    assert Archive(kept).info().undecodable == 1
    assert invoke("archive", "salvage", kept, "-o", tmp_path / "x.jsonl").exit_code == 0
    assert len(read(tmp_path / "x.jsonl")) == 1


def undecoded(path):
    sql(path, "UPDATE page SET decoded = 0")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
@pytest.mark.parametrize("command", ["balance", "showcase", "fetch --dry-run", "archive info"])
def test_a_full_stdout_is_told(spawn, simulator, invoke, out, command):  # noqa: ARG001 - the environment
    """If stdout cannot take what is printed, one line says so, and what it has cost."""
    invoke("fetch", "a.1products", "-o", out)
    args = {"showcase": ["a.45products"], "fetch --dry-run": ["a.1products"]}.get(command, [])
    if command == "archive info":
        args = [out.with_suffix(".sfk")]
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - no file
        process = spawn(*command.split(), *args, stdout=full)
        _, stderr = process.communicate(timeout=30)
    told = stderr.decode()
    assert process.returncode == 1, told
    assert f"Error: cannot write to stdout: {os.strerror(errno.ENOSPC)}" in told or (
        f"Error: cannot write stdout: {os.strerror(errno.ENOSPC)}" in told
    )
    assert "Traceback" not in told
    if command == "showcase":
        assert "1 credit charged" in told


def test_a_showcase_on_a_disk_that_fills_up(spawn, simulator, invoke, out):
    """The cursor that is told is that of the page for which there was no room."""
    size = len(invoke("showcase", "a.60products", "--max-pages", "1").stdout_bytes)
    room = size * 3 // 2
    with out.open("wb") as file:
        process = spawn(
            *("showcase", "a.60products"),
            stdout=file,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        )
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    told = re.search("There is more: --cursor (.*)", stderr.decode())[1]
    rest = lines(invoke("showcase", "a.60products", "--cursor", *shlex.split(told)).stdout)
    assert rest == simulator.showcase("a.60products")[20:]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
@pytest.mark.parametrize("command", ["--help", "--version", "fetch --help", "archive info --help"])
def test_help_that_cannot_be_printed(spawn, command):
    """Help that cannot be printed is one line at most, and its exit code says so."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - no file
        process = spawn(*command.split(), stdout=full)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stderr.decode() == f"Error: {os.strerror(errno.ENOSPC)}\n"
    gone, pipe = os.pipe()
    os.close(gone)
    process = spawn(*command.split(), stdout=pipe)
    os.close(pipe)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
@pytest.mark.parametrize("command", ["nonsense", "fetch", "whoami --api-key-file none"])
def test_a_full_stderr_changes_no_exit_code(spawn, command):
    """A full stderr does not change the exit code."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - no file
        assert spawn(*command.split(), stderr=full).wait(30) == 2


def test_no_stdout_at_all(spawn, simulator):
    """If the shell has closed stdout, a command says so and exits with 2."""
    line = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", ASYNCSFK]
    process = spawn("balance", command=line)
    _, stderr = process.communicate(timeout=30)
    assert stderr.decode() == f"Error: cannot open stdout: {os.strerror(errno.EBADF)}\n"
    assert process.returncode == 2
    assert simulator.ledger.charged == 0


def test_no_stdout_and_a_reader_that_goes_away(spawn, simulator, tmp_path):
    """Without a stdout, a fetch still ends quietly when the reader of its pipe goes away."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    line = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", ASYNCSFK]
    process = spawn("fetch", "a.9000products", "-o", pipe, "--quiet", command=line)
    with pipe.open("rb") as reader:
        assert reader.readline().endswith(b"\n")
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (141, b"")
    assert simulator.ledger.charged < 450


@pytest.mark.parametrize(
    "text",
    [
        *("id,handle\n1,a\n", '"mrbeast"\n', "name\thandle\n", "a;b\n"),
        *(
            "[\n  {\n",
            '# list\n\n{"handle": "a"}\n',
            '{"handle": "a", "url": "https://x.test/a?b"}\n',
        ),
        *("mrbeast,https://www.tiktok.com/@mrbeast?lang=en,1\n", "# list\rid,handle\r1,a\r"),
    ],
    ids=[
        "csv",
        "quoted",
        "tabs",
        "semicolons",
        "a list in json",
        "json",
        "json with a URL",
        "csv with a URL",
        "returns",
    ],
)
def test_a_table_is_no_list(invoke, simulator, tmp_path, text):
    """A table or JSON in place of a list is refused as a whole, with a hint at what is wanted."""
    (tmp_path / "table").write_text(text)
    result = invoke("fetch", "--from", tmp_path / "table")
    assert (result.exit_code, simulator.ledger.requests) == (2, 0)
    assert "one handle a line" in result.stderr


def test_urls_may_have_commas(invoke, simulator, tmp_path):
    """A profile's URL may have commas after the handle."""
    (tmp_path / "list").write_text("https://www.tiktok.com/@a.1products?x=1,2;3\n")
    assert invoke("fetch", "--from", tmp_path / "list").exit_code == 0
    (tmp_path / "list").write_text("https://www.tiktok.com/@b.1products#x=1,2;3\n")
    assert invoke("fetch", "--from", tmp_path / "list").exit_code == 0
    assert simulator.ledger.charged == 2


@pytest.mark.parametrize("flag", ["-o", "--errors", "--outcomes"])
def test_no_output_says_that_it_is_packed(invoke, simulator, tmp_path, flag):
    """An output that is named as if packed is refused: JSON lines are written plainly."""
    for name in "x.jsonl.gz", "X.ZIP":
        result = invoke("fetch", "a", flag, tmp_path / name)
        assert (result.exit_code, simulator.ledger.requests) == (2, 0)
        assert "plain JSON lines" in result.stderr


def test_a_larger_answer_may_be_allowed(invoke, simulate, out):
    """An answer over the limit can be had with a higher --max-body-bytes."""
    with simulate(page_size=200) as simulator:
        args = ("fetch", "a.200products", "-o", out, "--max-body-bytes")
        assert invoke(*args, 1_000).exit_code == 1
        assert invoke(*args, 1_000_000).exit_code == 0
        assert len(read(out)) == 200
        assert simulator.ledger.charged == 2


def test_files_are_emptied_together(tmp_path):
    """Outputs are emptied together, so that no line of an earlier fetch is beside a new one."""
    outdated, paths = {}, [tmp_path / "products", tmp_path / "errors"]
    for path in paths:
        path.write_text("old\n")
    with LineWriter(str(paths[0])) as products, LineWriter(str(paths[1])) as errors:
        for writer in (products, errors):
            writer.renew(outdated)
        products.write_now(b"")
        assert [path.read_text() for path in paths] == ["old\n", "old\n"]
        products.write_now(b"new\n")
        errors.write_now(b"")
    assert [path.read_text() for path in paths] == ["new\n", ""]


def test_a_file_system_without_locks_is_written_to(invoke, simulator, out, monkeypatch):
    """On a file system without locks, an output is written without one."""
    import fcntl  # noqa: PLC0415 - not on Windows

    def fail(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    assert invoke("fetch", "a.1products", "-o", out, "--no-archive").exit_code == 0
    assert simulator.ledger.charged == 1


@pytest.mark.parametrize("case", ["may only grow", "breaks"])
def test_a_file_that_cannot_be_emptied(invoke, simulator, out, monkeypatch, case):
    """A file that cannot be emptied is told; nothing is sent if it may only grow (`chattr +a`)."""
    out.write_text("{}\n")
    refused, code = {"may only grow": (3, 2), "breaks": (0, 1)}[case]

    def fail(_, size):
        if size == refused:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "truncate", fail)
    result = invoke("fetch", "a.1products", "-o", out, "--no-archive")
    assert result.exit_code == code
    assert f"{out}: {os.strerror(errno.EPERM)}" in result.stderr
    assert read(out) == [{}]
    assert simulator.ledger.requests == (0 if code == 2 else 1)


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(
    ("thread", "flag", "verb"),
    [
        ("open", "--api-key-file", "open"),
        ("open", "--from", "open"),
        ("open", "-o", "open"),
        ("handles", "--from", "read"),
        ("lines", "-o", "write"),
    ],
)
def test_no_thread_to_wait_for_a_file(invoke, monkeypatch, thread, flag, verb):
    """Where no thread can be started, that is told as of any file that cannot be used."""
    start = threading.Thread.start

    def refuse(one):
        if one.name == f"asyncsfk {thread}":
            raise RuntimeError("can't start new thread")
        start(one)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"\n"):
            pass
    named = f"/dev/fd/{writing if flag == '-o' else reading}"
    result = invoke("fetch", "a.1products", "--no-archive", flag, named)
    os.close(reading)
    os.close(writing)
    told = f"Error: cannot {verb} {named}: no thread can be started for it: can't start new thread"
    assert result.exit_code == (2 if verb == "open" else 1)
    assert told in result.stderr.splitlines()


@pytest.mark.parametrize("limit", ["", "ulimit -f 40; "], ids=["room", "none"])
def test_what_others_have_in_stdout_stays(spawn, simulator, out, limit):
    """A file that the shell has opened as stdout is never cut, even when it takes no more."""
    out.write_text("x" * 50_000)
    line = ["/bin/sh", "-c", f'{limit}exec "$@" 1<>{out}', "sh", ASYNCSFK]
    process = spawn("fetch", "a.60products", command=line)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == (1 if limit else 0), stderr
    assert simulator.ledger.charged == 3
    kept = out.read_text()
    assert kept.startswith('{"handle":"a.60products"')
    assert kept.endswith("x" * 1_000)
    assert out.stat().st_size == 50_000


def test_devices_are_no_files(spawn, simulator):
    """/dev/null may be stdin and an output at once."""
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - no file
        process = spawn("fetch", "a.1products", "--from", "-", "-o", os.devnull, stdin=nothing)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, simulator.ledger.charged) == (0, 1), stderr


def test_what_was_salvaged_before_stays(invoke, simulate, tmp_path, out):
    """A salvage keeps what an earlier one has printed into the same file."""
    with simulate():
        invoke("fetch", "a.1products", "b.1products", "-o", out)
    kept, salvaged = out.with_suffix(".sfk"), tmp_path / "salvaged.jsonl"
    undecoded(kept)
    for _ in range(2):
        assert invoke("archive", "salvage", kept, "-o", salvaged).exit_code == 0
        assert len(read(salvaged)) == 2


def test_what_others_say_is_told_as_they_said_it(invoke, simulate):
    """Names of arguments are told as flags, but the API's or a user's words are not changed."""
    with simulate(faults=[Fault.status(400, handles=["base_url"])]):
        result = invoke("fetch", "base_url")
    assert "base_url: failed: HTTP 400" in result.stderr
    assert "--base-url" not in result.stderr
