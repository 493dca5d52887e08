"""`asyncsfk` as a process: pipes and terminals."""

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from asyncsfk.simulator import Fault, Latency
from tests.cli.support import is_idle
from tests.support import sql, wait_for

STYLE = re.compile(r"\x1b\[([0-9;]*)m")
COLOURS = re.compile(r"(^|;)(3[0-8]|4[0-8]|9[0-7])(;|$)")


#: A command that takes its system for Windows, as click does, and meets what Windows says where a
#: pipe is written that has no reader: that the argument is invalid.
AS_ON_WINDOWS = (
    sys.executable,
    "-c",
    """
import errno, io, os, sys, types
import aiohttp, click.core, rich.console  # which ask for the system as they are loaded

class Pipe(io.FileIO):
    def write(self, data):
        try:
            return super().write(data)
        except BrokenPipeError:
            raise OSError(errno.EINVAL, "Invalid argument") from None

sys.stdout = io.TextIOWrapper(io.BufferedWriter(Pipe(1, "w", closefd=False)), "utf-8")
sys.modules["uvloop"] = None
sys.platform = "win32"
click.core.os = types.SimpleNamespace(**{**vars(os), "name": "nt"})
from asyncsfk.cli import main
main()
""",
)


@pytest.mark.parametrize("cursor", ["~", "$HOME", "*", "[a]"])
def test_a_cursor_is_sent_as_it_is_on_windows(simulator, spawn, tmp_path, cursor):
    """Nothing in a cursor is taken for a pattern or a variable, and replaced."""
    (tmp_path / "a").touch()
    line = ("showcase", "some.45products", "--cursor", cursor)
    _, stderr = spawn(*line, command=AS_ON_WINDOWS, cwd=tmp_path).communicate(timeout=30)
    assert [entry.cursor for entry in simulator.ledger] == [cursor], stderr


@pytest.mark.parametrize("args", ["--help", "fetch --help", "demo --creators 1", "balance"])
def test_a_closed_pipe_on_windows(simulator, spawn, args):  # noqa: ARG001 - the environment
    """On Windows, too, any command ends quietly if nobody reads what it prints."""
    gone, pipe = os.pipe()
    os.close(gone)
    process = spawn(*args.split(), command=AS_ON_WINDOWS, stdout=pipe)
    os.close(pipe)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 141


def test_what_to_set_on_windows(spawn):
    """On Windows simulate prints what to paste into PowerShell, and what into cmd.exe."""
    process = spawn("simulate", command=AS_ON_WINDOWS)
    url = re.search(r"http://127\.0\.0\.1:\d+", first := process.stdout.readline().decode())[0]
    key = "sfk_simulated_0123456789"
    assert first == f'$env:SOCIALFETCH_BASE_URL="{url}"; $env:SOCIALFETCH_API_KEY="{key}"\n'
    assert [process.stdout.readline().decode() for _ in range(2)] == [
        f'set "SOCIALFETCH_BASE_URL={url}" & set "SOCIALFETCH_API_KEY={key}"\n',
        "(The first line is for PowerShell, the second for cmd.exe.)\n",
    ]


@pytest.mark.parametrize("system", [{}, {"command": AS_ON_WINDOWS}], ids=["here", "windows"])
@pytest.mark.parametrize("command", ["fetch", "showcase"])
def test_a_closed_pipe_ends_quietly(simulate, spawn, command, system):
    """A reader that goes away, such as `head`, ends the command without a complaint."""
    with simulate():
        process = spawn(command, "a.9000products", "--quiet", **system)
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("may_be_raised", [True, False])
def test_a_shell_that_allows_few_open_files(simulate, spawn, may_be_raised):
    """The limit is raised if it may be; else the client makes do with it."""
    resource = pytest.importorskip("resource")
    few, most = 40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = (few, most if may_be_raised else few)
    with simulate(latency=Latency.fixed(0.2)) as simulator:
        process = spawn(
            *("fetch", "--concurrency", "100", *[f"a{number}.1products" for number in range(60)]),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits),
        )
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode == 0
        assert len(stdout.splitlines()) == simulator.ledger.charged == 60
        assert (b"Too many open files" in stderr) is not may_be_raised
        assert (simulator.ledger.max_in_flight > few) is may_be_raised


def test_a_pipe_that_is_closed_before_its_last_lines(simulate, spawn):
    """A reader that leaves before the last lines is noticed, even if nothing comes after them."""
    with simulate(page_size=900) as simulator:
        process = spawn("fetch", "a.900products", "--quiet")
        wait_for(lambda: is_idle(simulator))
        assert process.poll() is None
        process.stdout.close()
        assert process.wait(20) == 141


def test_simulate(spawn, tmp_path):
    """simulate prints what to export, serves until it is told to end, and sums its ledger up."""
    process = spawn("simulate", "--seed", "3", "--credits", "2", "--latency", "0.001")
    export = process.stdout.readline().decode()
    assert re.fullmatch(
        r"export SOCIALFETCH_BASE_URL=http://127\.0\.0\.1:\d+ SOCIALFETCH_API_KEY=\S+\n", export
    )
    environment = dict(item.split("=", 1) for item in export.split()[1:])
    handles = [f"a{number}.1products" for number in range(3)]
    fetch = spawn("fetch", *handles, "--concurrency", "1", cwd=tmp_path, env=environment)
    stdout, _ = fetch.communicate(timeout=20)
    assert fetch.returncode == 3
    assert len(stdout.splitlines()) == 2
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 0
    assert b"3 requests, 2 credits charged, at most 1 at once" in stderr
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("flags", [["--latency", "nan"], ["--storm", "nan"], ["--port", "70000"]])
def test_simulate_refuses_nonsense(spawn, flags):
    """Numbers that make no sense are usage errors."""
    process = spawn("simulate", *flags)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert b"Traceback" not in stderr


def test_simulate_on_a_port_in_use(simulator, spawn):
    """A port that is taken is a usage error."""
    process = spawn("simulate", "--port", simulator.url.rsplit(":", 1)[1])
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert b"cannot listen" in stderr


def on_terminal(spawn, *args, watch=None, both=False, **settings):
    """Run a command with its stderr on a terminal; give its exit code, stdout and stderr.

    With `both` stdout is on it too, and is given as a part of stderr.

    `watch` is called with the process and all that was seen so far, whenever there is more.
    """
    ours, theirs = pty.openpty()
    stdout = theirs if both else subprocess.PIPE
    process = spawn(*args, stderr=theirs, stdout=stdout, **settings)
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # how Linux tells that the other end was closed
                raise
            data = b""
        if not data:
            break
        seen += data
        if watch:
            watch(process, STYLE.sub("", seen.decode("utf-8", "replace")))
    os.close(ours)
    stdout, _ = process.communicate(timeout=20)
    return process.returncode, (stdout or b"").decode(), seen.decode()


TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": ""}


def test_progress_on_a_terminal(simulate, spawn, tmp_path):
    """On a terminal a fetch shows where it stands, and cleans up behind itself."""
    with simulate(latency=Latency.fixed(0.4), faults=[Fault.status(503, retry_after="1", times=1)]):
        code, _, stderr = on_terminal(
            spawn, "fetch", "a.45products", "-o", tmp_path / "out", env=TERMINAL
        )
    assert code == 0
    plain = STYLE.sub("", stderr)
    for told in ("0 of 1 creators", "1 page", "20 products", "1 pause, now for 0."):
        assert told in plain
    assert plain.endswith("1 creator: 1 complete\r\n3 pages, 45 products, 3 credits charged\r\n")
    assert COLOURS.search(" ".join(STYLE.findall(stderr)).replace(" ", ";"))


STEERING = "\x7f\x9b2J\x9d0;owned\x9c\u202e\u2066\u2028"
HARMLESS = STEERING + "caf\u00e9 \u6f22\u3000\U0001f600"


def test_json_on_a_terminal_does_not_steer_it(invoke, simulate, spawn, out):
    """JSON on a terminal spells out the invisible characters of titles, and says the same."""
    with simulate():
        assert invoke("fetch", "a.1products", "-o", out).exit_code == 0
        archive = out.with_suffix(".sfk")
        product = {"id": "1", "title": HARMLESS, "details": {"any": HARMLESS}}
        body = json.dumps({"data": {"products": [product], "page": {}}}, ensure_ascii=False)
        sql(archive, "UPDATE page SET encoding = '', body = ?", body.encode())
        sql(archive, "UPDATE meta SET value = ?", HARMLESS)
        for command, names in (("products", ("title", "details")), ("info", ("origin",))):
            plain = json.loads(invoke("archive", command, archive).stdout)
            code, _, seen = on_terminal(spawn, "archive", command, archive, both=True, env=TERMINAL)
            assert code == 0
            assert not set(seen) & set(STEERING) - set("2J0;owned")
            assert json.loads(seen) == plain
            assert HARMLESS in json.dumps([plain[name] for name in names], ensure_ascii=False)
            assert "caf\u00e9 \u6f22\u3000\U0001f600" in seen
        invoke("archive", "products", archive, "-o", out)
        assert HARMLESS in out.read_text("utf-8")


def test_progress_through_a_list(simulate, spawn, tmp_path):
    """The progress through a file of handles tells their number, with those given twice."""
    source = tmp_path / "handles.txt"
    source.write_text("# ours\na.3products\n\nb.3products\na.3products\n", "utf-8")
    with simulate(latency=Latency.fixed(0.4)):
        args = ["fetch", "c.1products", "--from", source, "-o", tmp_path / "out"]
        code, _, stderr = on_terminal(spawn, *args, env=TERMINAL)
    assert code == 0
    assert "0 of 4 creators" in STYLE.sub("", stderr)
    assert "3 complete, 1 given twice" in stderr


def test_progress_through_the_rest_of_stdin(simulate, spawn, tmp_path):
    """Of a stdin that somebody has partly read, only the rest is fetched."""
    source = tmp_path / "handles.txt"
    source.write_text("already.3products\nb.3products\n", "utf-8")
    with simulate() as simulator, source.open("rb", buffering=0) as stdin:
        stdin.read(len("already.3products\n"))
        args = ["fetch", "--from", "-", "-o", tmp_path / "out"]
        code, _, _ = on_terminal(spawn, *args, stdin=stdin, env=TERMINAL)
        assert code == 0
        assert simulator.ledger.requests == simulator.ledger.hits("b.3products") == 1


def test_progress_through_a_pipe(simulate, spawn, tmp_path):
    """The progress through a pipe tells no total, since nobody knows it."""
    reading, writing = os.pipe()
    os.write(writing, b"a.3products\nb.3products\n")
    os.close(writing)
    with simulate(latency=Latency.fixed(0.2)), open(reading, "rb") as stdin:  # noqa: PTH123 - no file
        args = ["fetch", "--from", "-", "-o", tmp_path / "out"]
        code, _, stderr = on_terminal(spawn, *args, stdin=stdin, env=TERMINAL)
    assert code == 0
    assert "2 complete" in stderr
    assert " of 2 creators" not in stderr


def test_an_outage_is_told(spawn, port):
    """A fetch that cannot connect says why, and goes on trying."""
    url = f"http://127.0.0.1:{port}"
    environment = {"SOCIALFETCH_BASE_URL": url, "SOCIALFETCH_API_KEY": "sfk_x"}
    process = spawn("fetch", "a", env=environment)
    told = process.stderr.readline().decode()
    assert told.startswith(f"no connection: Cannot connect to host {url.removeprefix('http://')} [")
    assert told.endswith("; trying on.\n")
    process.kill()


def test_nothing_but_failures_is_told_once(simulate, spawn):
    """A fetch that may be paying for failures alone says once why it has become slow."""
    with simulate(faults=[Fault.status(500)]):
        handles = [f"a{number}" for number in range(30)]
        process = spawn("fetch", *handles, "--concurrency", "30")
        told = process.stderr.readline().decode()
        assert re.fullmatch(
            r"\d+ failures in a row, each perhaps charged: HTTP 500: .*; trying on\.\n", told
        )
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read().decode()
        assert "in a row" not in rest
        assert process.wait(20) == 130


def test_an_outage_is_told_once(simulate, spawn, port):
    """Without -v an outage is told in one line, and with --quiet in none."""
    environment = {
        "SOCIALFETCH_BASE_URL": f"http://127.0.0.1:{port}",
        "SOCIALFETCH_API_KEY": "sfk_simulated_0123456789",
    }
    quiet = spawn("fetch", "a.1products", "--quiet", env=environment)
    told = spawn("fetch", "a.1products", env=environment)
    assert told.stderr.readline().endswith(b"; trying on.\n")
    with simulate(port=port):
        assert told.wait(30) == quiet.wait(30) == 0
    assert told.stderr.read().decode().splitlines() == [
        "1 creator: 1 complete",
        "1 page, 1 product, 1 credit charged",
    ]
    assert quiet.stderr.read() == b""


def test_ctrl_c_on_a_terminal(simulate, spawn, tmp_path):
    """The progress tells that the fetch is stopping, and the second Ctrl-C cleans it up."""
    pressed, at = 0, 0.0

    def press(process, seen):
        nonlocal pressed, at
        if simulator.ledger.requests > 1 and "20 products" in seen and pressed == 0:
            process.send_signal(signal.SIGINT)
            pressed, at = 1, time.monotonic()
        elif "again leaves" in seen and pressed == 1 and time.monotonic() > at + 0.5:
            process.send_signal(signal.SIGINT)
            pressed = 2

    with simulate(faults=[Fault.hang(60, pages=[2])]) as simulator:
        args = ["fetch", "a.45products", "-o", tmp_path / "out"]
        code, _, stderr = on_terminal(spawn, *args, watch=press, env=TERMINAL)
    assert (code, pressed) == (130, 2)
    told = stderr.split("\x1b[2K")[-1].splitlines()
    assert told[:-1] == [
        "1 creator: 1 partial",
        "1 page, 20 products, 1 credit charged, 1 more maybe charged",
        "Interrupted.",
    ]
    assert told[-1].startswith("Go on with: asyncsfk fetch a.45products ")
    assert len(told) == 4


@pytest.mark.parametrize("flags", [["-q"], ["-v"]])
def test_no_progress_where_it_is_unwanted(simulate, spawn, tmp_path, flags):
    """--quiet shows no progress, and neither does --verbose, whose lines it would break."""
    with simulate(latency=Latency.fixed(0.2)):
        code, _, stderr = on_terminal(
            spawn, "fetch", "a.3products", "-o", tmp_path / "out", *flags, env=TERMINAL
        )
    assert code == 0
    assert "creators," not in stderr
    assert "\x1b" not in stderr


def test_no_progress_without_a_terminal(simulate, spawn, tmp_path):
    """If stderr is not a terminal there is no progress, whatever the environment forces."""
    with simulate(latency=Latency.fixed(0.2)):
        process = spawn("fetch", "a.3products", "-o", tmp_path / "out", env={"FORCE_COLOR": "1"})
        _, stderr = process.communicate(timeout=20)
    assert stderr == b"1 creator: 1 complete\n1 page, 3 products, 1 credit charged\n"


def test_no_color(simulate, spawn, tmp_path):
    """With NO_COLOR the progress has no colour."""
    with simulate(latency=Latency.fixed(0.3)):
        code, _, stderr = on_terminal(
            spawn,
            *("fetch", "a.3products", "-o", tmp_path / "out"),
            env=TERMINAL | {"NO_COLOR": "1"},
        )
    assert code == 0
    assert "0 of 1 creators" in STYLE.sub("", stderr)
    assert not any(COLOURS.search(style) for style in STYLE.findall(stderr))


def test_demo(spawn):
    """The demo meets faults and proves what it counted."""
    process = spawn("demo")
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    told = stdout.decode()
    for part in ("What came of it", "Faults met: ", "the simulator knows", "credits in all"):
        assert part in told
    assert told.endswith("The proof holds.\n")
    assert "\x1b" not in told
    assert stderr == b""


def test_demo_on_a_terminal(spawn):
    """The demo shows its progress; --quiet leaves the verdict alone."""
    code, stdout, stderr = on_terminal(
        spawn, "demo", "--creators", "20", "--seed", "2", env=TERMINAL
    )
    assert code == 0
    assert "of 20 creators" in STYLE.sub("", stderr)
    assert stdout.endswith("The proof holds.\n")
    process = spawn("demo", "--creators", "5", "--quiet")
    stdout, stderr = process.communicate(timeout=30)
    assert len(stdout.splitlines()) == 3
    assert stderr == b""


def test_a_reader_that_goes_away_from_the_demo(spawn):
    """The demo ends as every command does whose reader went away, also at its tables."""
    process = spawn("demo", "--creators", "5")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == b""


def test_interrupted_demo(spawn):
    """Ctrl-C ends the demo cleanly."""
    process = spawn("demo")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == b"Interrupted.\n"


def test_main_is_the_entry_point():
    """`asyncsfk.cli:main` runs the command line."""
    program = "import sys; sys.argv[1:] = ['--version']; from asyncsfk.cli import main; main()"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("asyncsfk, version ")


def test_python_m(spawn):
    """`python -m asyncsfk` runs the command line as well."""
    process = spawn("--version", command=(sys.executable, "-m", "asyncsfk"))
    assert process.communicate(timeout=20)[0].startswith(b"asyncsfk")
    assert process.returncode == 0
