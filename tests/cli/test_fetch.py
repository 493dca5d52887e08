"""`asyncsfk fetch`, in this process: what is read, written and told."""

import bz2
import gzip
import json
import lzma
import os
import re
import shlex
import subprocess

import pytest
from anyio.from_thread import start_blocking_portal

from asyncsfk import Outcome
from asyncsfk.simulator import Fault
from tests.cli.support import by_handle, is_idle, lines, read
from tests.support import enveloped, http, raw_server, wait_for


def test_products_of_many_creators(invoke, simulator, out):
    """Every product of every creator is a line, with its handle and its position."""
    handles = ["a.45products", "@B.3products", "https://www.tiktok.com/@c.20products?lang=en"]
    result = invoke("fetch", *handles, "-o", out)
    assert result.exit_code == 0
    products = by_handle(read(out))
    assert products == {
        name: simulator.showcase(name) for name in ("a.45products", "b.3products", "c.20products")
    }
    assert result.stderr == ("3 creators: 3 complete\n5 pages, 68 products, 5 credits charged\n")
    assert result.stdout == ""


def test_stdout_is_the_default(invoke, simulator):
    """Without -o, or with -o -, the lines go to stdout, and with --quiet nothing to stderr."""
    for flags in [], ["-o", "-"]:
        result = invoke("fetch", "a.3products", "-q", *flags)
        assert by_handle(lines(result.stdout))["a.3products"] == simulator.showcase("a.3products")
        assert result.stderr == ""


def test_handles_from_a_file(invoke, simulator, tmp_path, out):  # noqa: ARG001 - environment
    """A file gives a handle a line, with any line ends, besides those of the command line."""
    source = tmp_path / "handles.txt"
    source.write_bytes(b"\xef\xbb\xbfa.1products\r\n\n  # a comment\n @b.2products \nc.3products")
    result = invoke("fetch", "d.4products", "--from", source, "-o", out)
    assert result.exit_code == 0
    assert {name: len(rows) for name, rows in by_handle(read(out)).items()} == {
        "a.1products": 1,
        "b.2products": 2,
        "c.3products": 3,
        "d.4products": 4,
    }


def test_handles_from_stdin(invoke, simulator, out):  # noqa: ARG001 - sets the environment
    """`--from -` reads stdin."""
    assert (
        invoke("fetch", "--from", "-", "-o", out, input="a.1products\nb.2products").exit_code == 0
    )
    assert by_handle(read(out)).keys() == {"a.1products", "b.2products"}


def test_a_stdin_that_does_not_wait(simulator, spawn):
    """Late handles are read even if another process made the pipe of stdin non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    process = spawn("fetch", "--from", "-", stdin=reading)
    os.close(reading)
    for handle in "a.1products", "b.1products":
        os.write(writing, f"{handle}\n".encode())
        assert json.loads(process.stdout.readline())["handle"] == handle
    os.close(writing)
    assert process.wait(20) == 0
    assert simulator.ledger.charged == 2


def test_a_stdout_that_does_not_wait(simulator, spawn):
    """A slow reader gets everything even if another process made its pipe non-blocking."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = spawn("fetch", "a.900products", stdout=writing)
    os.close(writing)
    wait_for(lambda: is_idle(simulator))
    with open(reading, encoding="utf-8") as stdout:  # noqa: PTH123 - no file
        products = by_handle(lines(stdout.read()))
    assert process.wait(20) == 0
    assert products == {"a.900products": simulator.showcase("a.900products")}


def test_a_handle_cut_by_a_chunk(invoke, simulator, tmp_path):
    """A handle at the edge between two chunks of a file stays whole."""
    source = tmp_path / "handles.txt"
    link = f"https://www.tiktok.com/@empty_two?source={'x' * 200}"
    source.write_text(f"{'#' * 65_530}\nempty_one_that_is_cut\n{'#' * 65_400}\n{link}\n", "utf-8")
    assert invoke("fetch", "--from", source).exit_code == 0
    assert {entry.handle for entry in simulator.ledger} == {"empty_one_that_is_cut", "empty_two"}


def test_a_file_without_lines_is_refused(invoke, simulator, tmp_path):
    """A file whose line does not end is refused, and not read into memory."""
    source = tmp_path / "handles.txt"
    source.write_bytes(b"x" * 10_000_000)
    result = invoke("fetch", "--from", source)
    assert result.exit_code == 1
    assert "a line has no end" in result.stderr
    assert simulator.ledger.requests == 0


NO_LISTS = {
    "UTF-16, little": ("\ufeffmrbeast\r\nzach\r\n".encode("utf-16-le"), "UTF-16"),
    "UTF-16, big": ("\ufeffmrbeast\r\nzach\r\n".encode("utf-16-be"), "UTF-16"),
    "gzip": (gzip.compress(b"mrbeast\nzach\n"), "not text"),
    "a spreadsheet": (b"PK\x03\x04\x14\x00\x08rest", "not text"),
    "bzip2": (bz2.compress(b"mrbeast\nzach\n"), "not text"),
    "xz": (lzma.compress(b"mrbeast\nzach\n"), "not text"),
    "zstd": (b"\x28\xb5\x2f\xfdrest", "not text"),
    "zeros": (b"mrbeast\n\0\0\0\n", "not text"),
}


@pytest.mark.parametrize("kind", NO_LISTS)
def test_a_file_that_is_no_list_is_refused(invoke, simulator, tmp_path, kind):
    """A list that is packed or in UTF-16 is refused at once, rather than line by line."""
    content, told = NO_LISTS[kind]
    source, out = tmp_path / "handles.txt", tmp_path / "out.jsonl"
    source.write_bytes(content)
    out.write_text("before\n")
    result = invoke("fetch", "--from", source, "-o", out)
    assert result.exit_code == 2
    assert told in result.stderr
    assert out.read_text() == "before\n"
    assert simulator.ledger.requests == 0


def test_a_name_that_begins_as_a_packed_file_does(invoke, simulator, tmp_path):
    """A list may begin with a name that resembles the first bytes of a packed file."""
    source = tmp_path / "handles.txt"
    for name in "BZhang", "BZh9", "PK":
        source.write_text(f"{name}.1products\n", "utf-8")
        assert invoke("fetch", "--from", source).exit_code == 0
    assert simulator.ledger.charged == 3


def test_a_pipe_that_brings_no_list(simulator, spawn):
    """What comes on stdin cannot be looked at beforehand, and is refused as it comes."""
    process = spawn("fetch", "--from", "-", stdin=subprocess.PIPE)
    _, stderr = process.communicate("\ufeffmrbeast\n".encode("utf-16-le"), timeout=20)
    assert process.returncode == 1
    assert stderr.startswith(b"No creators.\n")
    assert b"Error: cannot read stdin: it is in UTF-16" in stderr
    assert simulator.ledger.requests == 0


def test_lines_that_end_by_a_carriage_return(invoke, simulator, tmp_path):
    """Lines may end in carriage returns, as on old Macintoshes and in some spreadsheets."""
    source = tmp_path / "handles.txt"
    source.write_bytes(b"empty_one\rempty_two\r")
    assert invoke("fetch", "--from", source).exit_code == 0
    assert {entry.handle for entry in simulator.ledger} == {"empty_one", "empty_two"}


def test_a_handle_in_another_encoding(invoke, simulator, tmp_path):
    """Unreadable letters are not left out: what remained might be another creator's handle."""
    source = tmp_path / "handles.txt"
    source.write_bytes(b"mr\xe9beast\n")
    assert invoke("fetch", "--from", source).exit_code == 1
    assert simulator.ledger.requests == 0


def test_a_file_that_breaks_off(invoke, simulator):
    """A file that can be opened but not read is reported in one line."""
    result = invoke("fetch", "--from", "/proc/self/mem", "-q")
    assert result.exit_code == 1
    assert result.stderr == "Error: cannot read /proc/self/mem: Input/output error\n"
    assert simulator.ledger.requests == 0


def test_an_empty_file(invoke, simulator, tmp_path):
    """A file without handles means no creators, and is not a failure."""
    source = tmp_path / "handles.txt"
    source.touch()
    result = invoke("fetch", "--from", source)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("No creators.\n")
    assert simulator.ledger.requests == 0


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--from", "none.txt"],
        ["--from", "."],
        ["mrbeast", "-o", "none/out"],
        ["mrbeast", "--errors", "none/errors"],
        ["mrbeast", "--region", ""],
        ["mrbeast", "--concurrency", "0"],
        ["mrbeast", "--max-pages", "0"],
        ["mrbeast", "--rate", "0"],
        ["mrbeast", "--max-backoff", "0"],
        ["mrbeast", "-o", "same", "--errors", "same"],
        ["--from", "handles.txt", "-o", "../{}/handles.txt"],
    ],
)
def test_usage_errors(invoke, simulator, tmp_path, monkeypatch, args):
    """Impossible arguments are exit code 2, before anything is sent or any file is emptied."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "handles.txt"
    source.write_text("mrbeast\n", "utf-8")
    result = invoke("fetch", *(arg.format(tmp_path.name) for arg in args))
    assert result.exit_code == 2, result.stderr
    assert "Error: " in result.stderr
    assert source.read_text("utf-8") == "mrbeast\n"
    assert simulator.ledger.requests == 0


def test_a_refused_flag_empties_no_file(invoke, simulator, out):  # noqa: ARG001 - the environment
    """A fetch that is refused leaves the output of the previous one."""
    out.write_text("{}\n", "utf-8")
    assert invoke("fetch", "mrbeast", "--region", "", "-o", out).exit_code == 2
    assert read(out) == [{}]


@pytest.mark.parametrize("flag", ["--errors", "--outcomes"])
def test_a_file_that_cannot_be_opened_empties_no_other(invoke, simulator, tmp_path, out, flag):
    """Files are emptied only once all of them are open."""
    out.write_text("{}\n", "utf-8")
    result = invoke("fetch", "a", "-o", out, flag, tmp_path / "none" / "e.jsonl", "--no-archive")
    assert result.exit_code == 2
    assert read(out) == [{}]
    assert simulator.ledger.requests == 0


def test_a_list_that_is_taken_for_a_handle(invoke, simulator, tmp_path):
    """A file's name, or -, among the handles is refused, with a hint at --from."""
    for name in "handles.txt", "my handles.txt":
        (tmp_path / name).write_text("mrbeast\n", "utf-8")
    for name in (tmp_path / "handles.txt", tmp_path / "my handles.txt", "-"):
        result = invoke("fetch", "a", name)
        assert result.exit_code == 2
        assert f"--from {shlex.quote(str(name))} " in result.stderr
    assert simulator.ledger.requests == 0


def test_a_file_that_happens_to_be_named_like_a_creator(invoke, simulator, tmp_path, monkeypatch):
    """Only an existing file that is named like a list is taken for one; long names are no harm."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert invoke("fetch", "mr.3products", "-o", "mr.3products").exit_code == 0
    assert invoke("fetch", "@mr.txt", "-o", "mr.txt", "--no-archive").exit_code == 0
    assert invoke("fetch", "@mr.txt", "-o", "mr.txt", "--no-archive").exit_code == 0
    for name in "mr.txt", "mr.TXT", "mr.txt.gz", "mr.xlsx", "mr.zip":
        (tmp_path / name).touch()
        assert f"{name} is a file" in invoke("fetch", name).stderr
    assert invoke("fetch", "a" * 300 + ".txt", "b.1products").exit_code == 1
    assert simulator.ledger.hits("b.1products") == 1


def test_append(invoke, simulator, out):  # noqa: ARG001 - sets the environment
    """`--append` adds to what is there; without it, what is there is replaced."""
    for flags, rows in ([], 2), (["--append"], 4), ([], 2):
        result = invoke("fetch", "a.2products", "-o", out, "--no-archive", *flags)
        assert result.exit_code == 0
        assert len(read(out)) == rows


def test_what_is_appended_begins_a_line(invoke, simulator, out):  # noqa: ARG001 - as above
    """Appending begins a new line, so that only the half line of a killed fetch is lost."""
    out.write_bytes(b'{"handle":"a","position":1,"id":"17')
    for _ in range(2):
        assert invoke("fetch", "a.2products", "-o", out, "--no-archive", "--append").exit_code == 0
    torn, *whole = out.read_text("utf-8").splitlines()
    assert torn.endswith('"17')
    assert [json.loads(line)["position"] for line in whole] == [1, 2, 1, 2]


def test_what_is_not_complete_can_be_gone_on_with(invoke, simulate, tmp_path, out):
    """--errors gets a line for each incomplete creator, with the cursor to go on from."""
    errors = tmp_path / "errors.jsonl"
    faults = [
        Fault.status(500, handles=["a.45products"], pages=[2]),
        Fault.not_json(handles=["b.3products"]),
    ]
    handles = ["a.45products", "b.3products", "c.3products", "no good"]
    with simulate(faults=faults) as simulator:
        result = invoke("fetch", *handles, "-o", out, "--errors", errors)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[0] == "4 creators: 1 complete, 1 partial, 2 failed"
        rows = {row["handle"]: row for row in read(errors)}
        assert {name: row["status"] for name, row in rows.items()} == {
            "a.45products": "partial",
            "b.3products": "failed",
            "no good": "failed",
        }
        cut = rows["a.45products"]
        assert "products" not in cut
        assert cut["error"]["type"] == "ServerError"
        assert (cut["error"]["status"], cut["error"]["code"]) == (500, "internal_error")
        assert cut["usage"]["maybe"] == 3
        outcomes = [Outcome.from_json(json.dumps(row)) for row in rows.values()]
        assert all(outcome.error for outcome in outcomes)
        simulator.faults = []
        more = invoke("showcase", "a.45products", "--cursor", cut["nextCursor"])
        products = by_handle(read(out))["a.45products"]
        products += lines(more.stdout)
        assert products == simulator.showcase("a.45products")


def test_without_errors_file_the_first_failures_are_told(invoke, simulator):
    """Without --errors the first few failures are told on stderr, even with --quiet."""
    bad = [f"no good {number}" for number in range(8)]
    result = invoke("fetch", "a.1products", *bad, "-q")
    assert result.exit_code == 1
    *told, rest = result.stderr.splitlines()
    assert len(told) == 5
    assert all(line.startswith("no good ") and ": failed: " in line for line in told)
    assert rest == "... and 3 more; --errors FILE keeps them all"
    assert simulator.ledger.charged == 1


def test_quiet_tells_that_there_are_errors_in_a_file(invoke, simulator, tmp_path):
    """With --quiet one line still says that there are errors, and in which file."""
    errors = tmp_path / "errors.jsonl"
    args = ["fetch", "--errors", errors, "--quiet", "a.1products"]
    result = invoke(*args, "no good", "b!")
    assert result.exit_code == 1
    assert result.stderr == f"Error: 2 creators not complete: {errors} tells why.\n"
    assert len(read(errors)) == 2
    assert invoke(*args).stderr == ""
    simulator.balance = 0
    (told,) = invoke(*args).stderr.splitlines()
    assert told.startswith("Error: HTTP 402: ")


def test_outcomes_and_verify_empty(invoke, simulator, tmp_path):
    """--outcomes gets a line for each creator; --verify-empty adds what each empty one is."""
    outcomes = tmp_path / "outcomes.jsonl"
    handles = ["private_a", "unknown_b", "empty_c", "d.1products"]
    result = invoke("fetch", *handles, "--verify-empty", "--outcomes", outcomes, "-q")
    assert result.exit_code == 0
    assert {row["handle"]: row["accountStatus"] for row in read(outcomes)} == {
        "private_a": "private",
        "unknown_b": "not_found",
        "empty_c": "found",
        "d.1products": None,
    }
    assert simulator.ledger.charged == 7
    summary = invoke("fetch", *handles, "--verify-empty").stderr.splitlines()
    assert summary[-1] == "Accounts of empty showcases: 1 found, 1 not_found, 1 private"
    summary = invoke("fetch", *handles, "private_e", "--verify-empty").stderr.splitlines()
    assert summary[-1] == "Accounts of empty showcases: 2 private, 1 found, 1 not_found"


def test_account_statuses_without_end(invoke, monkeypatch):
    """However many and long the account statuses are, the summary of them stays short."""

    def answer(head):
        handle = re.search(rb"/profiles/(\w+)", head)[1].decode()
        empty = {"products": [], "page": {}}
        status = {"lookupStatus": f"{handle}{'x' * 10_000}"}
        return http(200, enveloped(empty if b"/showcase-products" in head else status))

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(raw_server(answer, keep=True)) as server,
    ):
        monkeypatch.setenv("SOCIALFETCH_BASE_URL", server.url)
        monkeypatch.setenv("SOCIALFETCH_API_KEY", "sfk_of_nobody")
        result = invoke("fetch", *(f"c{n}" for n in range(30)), "--verify-empty")
    told = result.stderr.splitlines()[-1]
    assert told.startswith("Accounts of empty showcases: 22 of other kinds, 1 c")
    assert len(told) < 1000


def test_flags_reach_the_run(invoke, simulate):
    """The flags set the run's pages, region and width."""
    with simulate(latency=None) as simulator:
        handles = [f"a{number}.45products" for number in range(6)]
        flags = ["--max-pages", "2", "--region", "GB", "--concurrency", "2", "--rate", "1000"]
        assert invoke("fetch", *handles, *flags, "--base-url", simulator.url).exit_code == 0
        assert simulator.ledger.requests == 12
        assert {entry.region for entry in simulator.ledger} == {"GB"}
        assert simulator.ledger.max_in_flight <= 2


def test_waits_are_no_longer_than_told(invoke, simulate):
    """--max-backoff limits the waits of a call, and of all after 20 failures in a row."""
    with simulate(faults=[Fault.status(500)]):
        handles = [f"a{number}" for number in range(7)]
        result = invoke("fetch", *handles, "--max-backoff", "0.02", "-v")
    assert result.exit_code == 1
    pauses = re.findall(r"Paused\(seconds=([0-9.e-]+)", result.stderr)
    waits = re.findall(r"RequestRetried\(.*wait=([0-9.e-]+)", result.stderr)
    assert pauses
    assert len(waits) == 14
    assert 0.005 < max(map(float, pauses + waits)) <= 0.02


def test_duplicates_are_paid_once(invoke, simulator):
    """A handle that is given twice is fetched once."""
    result = invoke("fetch", "a.1products", "@A.1products")
    assert simulator.ledger.charged == 1
    assert result.stderr.startswith("1 creator: 1 complete, 1 given twice\n")


def test_the_account_stops_it(invoke, simulate, out):
    """When credits run out, what was bought is written, the rest is skipped, and the code is 3."""
    with simulate(credits=3) as simulator:
        handles = [f"a{number}.1products" for number in range(10)]
        result = invoke("fetch", *handles, "-o", out, "--concurrency", "1", "-q")
        assert result.exit_code == 3
        assert "status 402" in result.stderr.splitlines()[-1]
        assert len(read(out)) == 3 == simulator.ledger.charged
        told = invoke("fetch", *handles, "-o", out).stderr.splitlines()[-1]
        assert told.startswith("Once that is mended, the same line goes on from here: ")
        assert simulator.ledger.charged == 3


def test_a_full_disk(invoke, simulator):  # noqa: ARG001 - sets the environment
    """A file that takes no more is reported, and is exit code 1."""
    result = invoke("fetch", "a.45products", "-o", "/dev/full", "-q")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr


def test_a_full_disk_does_not_drive_the_terminal(invoke, simulator, tmp_path):
    """The name of a file that takes no more is told escaped."""
    full = tmp_path / "\x1b[2Jfull"
    full.symlink_to("/dev/full")
    result = invoke("fetch", "a.1products", "-o", full, "-q")
    assert result.exit_code == 1
    assert f"cannot write {tmp_path}/\\x1b[2Jfull: " in result.stderr
    assert simulator.ledger.charged == 1


def test_a_storm(invoke, simulate, out, tmp_path):
    """Under faults of every kind, complete creators are whole and the others are accounted for."""
    errors = tmp_path / "errors.jsonl"
    slow = {"hang", "gzip_bomb", "oversized"}
    faults = [fault for fault in Fault.storm(0.004) if fault.name not in slow]
    with simulate(seed=5, faults=faults) as simulator:
        source = tmp_path / "handles.txt"
        source.write_text("\n".join(simulator.handles(80)), "utf-8")
        invoke("fetch", "--from", source, "-o", out, "--errors", errors, "--timeout", "5")
        products, failed = by_handle(read(out)), {row["handle"]: row for row in read(errors)}
        assert failed
        for handle in simulator.handles(80):
            truth = simulator.showcase(handle)
            if handle in failed:
                assert products[handle] == truth[: len(products[handle])]
            else:
                assert products[handle] == truth


def test_what_is_no_handle_does_not_reach_the_terminal(invoke, simulator):
    """Control characters in a handle arrive escaped in the line on its creator."""
    result = invoke("fetch", "no\x1b[2Jgood")
    assert "no\\x1b[2Jgood: failed" in result.stderr
    assert "\x1b" not in result.stderr
    assert simulator.ledger.requests == 0


def test_what_a_full_disk_did_not_take_is_not_skipped(invoke, simulator, tmp_path):
    """If no line of a creator could be written, --errors has no cursor that skips its pages."""
    errors = tmp_path / "errors.jsonl"
    result = invoke("fetch", "a.90products", "-o", "/dev/full", "--errors", errors)
    assert result.exit_code == 1
    assert read(errors) == []
    assert simulator.ledger.requests >= 1
