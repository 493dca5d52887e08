"""The commands that ask one thing: whoami, balance, health, showcase; and what all share."""

import json
import logging
import os
import re
import subprocess
import sys
import time

import pytest

from asyncsfk import Config
from asyncsfk.simulator import Fault
from tests.cli.conftest import ASYNCSFK
from tests.cli.support import lines


def test_version(invoke):
    """`--version` tells the version."""
    assert re.fullmatch(r"asyncsfk, version \d+\.\d+\.\d+\n", invoke("--version").stdout)


@pytest.mark.parametrize(
    "command", ["demo", "fetch", "archive", "showcase", "whoami", "balance", "health", "simulate"]
)
def test_help(invoke, command):
    """Every command has a help, and the group's help names it and the exit codes."""
    assert invoke(command, "--help").stdout.startswith(f"Usage: app {command}")
    told = invoke("--help").stdout
    assert re.search(rf"^  {command} +[A-Z]", told, re.MULTILINE)
    codes = re.findall(r"^ +(\d+)  ", told, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "130", "141"]


@pytest.mark.parametrize("group", [[], ["archive"]])
def test_a_group_without_a_command_shows_its_help(invoke, group):
    """Without a command, the help is told as an error, and line by line as ever."""
    result = invoke(*group)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == invoke(*group, "--help").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not for Windows")
@pytest.mark.parametrize(("there", "loop"), [(True, "uvloop"), (False, "asyncio.unix_events")])
def test_uvloop_is_used_where_it_is_installed(simulator, there, loop):
    """A command runs on uvloop if that is installed, and without it otherwise."""
    program = f"""
import asyncio, sys

class Runner(asyncio.Runner):
    def close(self):
        print(type(self.get_loop()).__module__)
        super().close()

asyncio.Runner = Runner
if not {there}:
    sys.modules["uvloop"] = None
from asyncsfk.cli import main
sys.argv = ["asyncsfk", "whoami"]
main()
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == loop
    assert simulator.ledger.requests == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_json_is_utf8(simulator, invoke, spawn, tmp_path, encoding):  # noqa: ARG001 - the environment
    """stdout is in UTF-8, whatever encoding is set for it, as for files on Windows."""
    path = tmp_path / "prix en € 日本.sfk"
    invoke("fetch", "a.1products", "--archive", path)
    process = spawn("archive", "info", path, env={"PYTHONIOENCODING": encoding})
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    assert json.loads(stdout.decode())["path"] == str(path)


def test_the_defaults_are_those_of_a_client(invoke):
    """The defaults that the help names are those of a client."""
    told = " ".join(invoke("fetch", "--help").stdout.split())
    config = Config()
    assert f"[default: {config.concurrency}; " in told
    assert f"[default: {config.max_body_bytes}; " in told
    timeout = config.timeout
    assert f"[default: {timeout.total:g}, and {timeout.read:g} of silence]" in told


def test_help_loads_little():
    """The help is quick: it loads neither the HTTP client, nor the archive, nor rich's console."""
    program = """
import sys
from asyncsfk.cli import main
sys.argv = ["asyncsfk", "fetch", "--help"]
try:
    main()
finally:
    heavy = {"aiohttp", "anyio", "asyncsfk.archive", "asyncsfk.client", "rich.console"}
    print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(missing, tmp_path):
    """Without click or rich the command says what to install, and exits with 2."""
    program = f"""
import importlib.util

real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else real(name, *rest)
from asyncsfk.cli import main
main()
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"The command line needs {missing}: install asyncsfk with its extra `cli`, as in pip "
        'install "/path/to/the/clone[cli]"\n'
    )


@pytest.mark.usefixtures("simulator")
def test_words_go_to_whatever_stands_in_for_stdout():
    """A program that runs a command may catch what it says in a text of its own."""
    program = """
import contextlib, io
from asyncsfk.cli import main

with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as told:
    main()
print(told.getvalue())
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, "fetch", "a.1products", "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("1 creator: 1 to start\n")


def test_account_commands_print_json(invoke, simulator):
    """whoami, balance and health print what the API answers, and cost nothing."""
    assert json.loads(invoke("whoami").stdout)["user"]["id"] == "usr_simulated"
    simulator.balance = 7
    assert json.loads(invoke("balance").stdout)["balance"] == 7
    assert json.loads(invoke("health").stdout) == {"status": "ok"}
    assert simulator.ledger.charged == 0


def test_health_needs_no_key(invoke, simulator, monkeypatch):
    """health works without a key; whoami says that one is missing, and exits with 2."""
    monkeypatch.delenv("SOCIALFETCH_API_KEY")
    assert invoke("health", "--base-url", simulator.url).exit_code == 0
    result = invoke("whoami")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: no API key: set SOCIALFETCH_API_KEY")
    assert simulator.ledger.requests == 1


@pytest.mark.parametrize("around", ["{}", "{}\r\n", "\ufeff{}\n", " {} \n\n"])
def test_key_from_a_file(invoke, simulator, monkeypatch, tmp_path, around):
    """The key's file may have what editors add to it; a warning tells if others can read it."""
    monkeypatch.setenv("SOCIALFETCH_API_KEY", "sfk_wrong")
    key = tmp_path / "key"
    key.write_text(around.format(simulator.api_key), "utf-8")
    key.chmod(0o600)
    result = invoke("whoami", "--api-key-file", key)
    assert (result.exit_code, result.stderr) == (0, "")
    key.chmod(0o644)
    result = invoke("whoami", "--api-key-file", key)
    assert (result.exit_code, result.stderr) == (
        0,
        f"Warning: others can read {key}: chmod 600 {key}\n",
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\n", "there is no key in it"),
        (b"SOCIALFETCH_API_KEY=sfk_secret", "hold the key alone"),
        ("\ufeffsfk_secret\r\n".encode("utf-16-le"), "in UTF-16: save it as UTF-8"),
    ],
)
def test_a_file_of_something_else_than_a_key(invoke, tmp_path, content, told):
    """What people put into a key's file by mistake is named in the error, and not shown."""
    key = tmp_path / "key"
    key.write_bytes(content)
    key.chmod(0o600)
    result = invoke("whoami", "--api-key-file", key)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: cannot use {key}: ")
    assert told in result.stderr
    assert "sfk_se" not in result.output


@pytest.mark.parametrize("content", [b"sfk_se cret", b"sfk_secret\xff", b"sfk_secret\nmore"])
def test_a_file_without_a_key_is_refused_unseen(invoke, tmp_path, content):
    """A file that holds no key is a usage error that does not show what it holds."""
    key = tmp_path / "key"
    key.write_bytes(content)
    key.chmod(0o600)
    result = invoke("whoami", "--api-key-file", key)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: the API key cannot be sent")
    assert "sfk_se" not in result.output


def test_a_key_file_that_is_not_there(invoke, tmp_path):
    """A key file that cannot be opened is a usage error."""
    result = invoke("whoami", "--api-key-file", tmp_path / "none")
    assert result.exit_code == 2
    assert result.stderr == f"Error: cannot open {tmp_path}/none: No such file or directory\n"


def test_a_key_file_without_a_name(invoke, simulator):
    """An empty --api-key-file, as of an unset shell variable, is not taken for none at all."""
    result = invoke("whoami", "--api-key-file", "")
    assert result.exit_code == 2
    assert result.stderr == "Error: cannot open '': No such file or directory\n"
    assert simulator.ledger.requests == 0


def test_a_refused_key_is_the_accounts_affair(invoke, simulator, monkeypatch):
    """A wrong key ends with exit code 3 and one line, and is not shown."""
    monkeypatch.setenv("SOCIALFETCH_API_KEY", "sfk_wrong_one")
    for args in (["whoami"], ["showcase", "mrbeast"], ["fetch", "mrbeast"]):
        result = invoke(*args)
        assert result.exit_code == 3
        assert "status 401" in result.stderr
        assert "Traceback" not in result.stderr
        assert "sfk_wrong_one" not in result.output
    assert simulator.ledger.charged == 0


def test_plain_http_to_another_machine_is_insisted_on(invoke, simulator):
    """Only with the flag is the key sent over plain HTTP to what may be another machine."""
    # Not a loopback address, although a connection to it reaches this machine.
    elsewhere = ["--base-url", simulator.url.replace("127.0.0.1", "0.0.0.0")]  # noqa: S104 - none binds
    result = invoke("whoami", *elsewhere)
    assert (result.exit_code, simulator.ledger.requests) == (2, 0)
    assert "--allow-insecure-http" in result.stderr
    result = invoke("whoami", *elsewhere, "--allow-insecure-http")
    assert (result.exit_code, simulator.ledger.requests) == (0, 1)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["whoami", "--base-url", "ftp://x"], "Error: --base-url must be"),
        (["whoami", "--base-url", "http://example.com"], "unencrypted"),
        (["whoami", "--timeout", "0"], "Invalid value for '--timeout'"),
        (["whoami", "--timeout", "nan"], "Error: --timeout must be"),
        (["fetch", "x", "--rate", "inf"], "Error: --rate must be"),
        (["fetch", "x", "--max-backoff", "inf"], "Error: --max-backoff must be"),
        (["whoami", "--nonsense"], "No such option"),
    ],
)
def test_bad_flags(invoke, simulator, args, told):
    """Flags that make no sense are usage errors, before anything is sent."""
    result = invoke(*args)
    assert result.exit_code == 2
    assert told in result.stderr
    assert simulator.ledger.requests == 0


def test_timeout_is_the_requests(invoke, simulate):
    """A request is given up after `--timeout` seconds, which is exit code 1."""
    with simulate(faults=[Fault.hang(30)]):
        began = time.perf_counter()
        result = invoke("showcase", "mrbeast", "--timeout", "0.2")
        assert result.exit_code == 1
        assert "maybe charged 2" in result.stderr
        assert time.perf_counter() - began < 10


def test_showcase_prints_products(invoke, simulator):
    """showcase prints each product on a line, with the fields as the API names them."""
    result = invoke("showcase", "@Some.45products")
    assert result.exit_code == 0
    assert lines(result.stdout) == simulator.showcase("some.45products")
    assert result.stderr == "3 pages, 45 products, 3 credits charged\n"


def test_showcase_limits_and_cursor(invoke, simulator):
    """A showcase that was cut short tells the cursor to go on with, ready for a shell."""
    truth = simulator.showcase("some.45products", "GB")
    first = invoke("showcase", "some.45products", "--region", "GB", "--max-pages", "1")
    assert lines(first.stdout) == truth[:20]
    cursor = re.search(r"^There is more: --cursor (.*)$", first.stderr, re.MULTILINE)[1]
    shell = subprocess.run(  # noqa: S603 - our own command
        [
            "/bin/sh",
            "-c",
            f'"{ASYNCSFK}" showcase some.45products --region GB -q --cursor {cursor}',
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert lines(shell.stdout) == truth[20:]
    assert shell.stderr == ""
    few = invoke("showcase", "some.45products", "--region", "GB", "--max-items", "21")
    assert lines(few.stdout) == truth[:21]
    assert simulator.ledger.charged == 1 + 2 + 2
    # The next page's cursor would leave out 19 products that were paid for.
    told = re.search(r"^19 products .* begins at --cursor (.*)$", few.stderr, re.MULTILINE)
    assert told[1] == cursor
    fewer = invoke("showcase", "some.15products", "--max-items", "5")
    assert "10 products of the last page not printed\n" in fewer.stderr


STEERING = "\x1b[31m\x1b]0;owned\x07\r\x9b2J\u202e"


@pytest.mark.parametrize(
    "args",
    [
        ["whoami", STEERING],
        ["whoami", f"--{STEERING}"],
        ["archive", STEERING],
        ["fetch", "x", "--region", STEERING],
        ["fetch", "x", "-o", f"{STEERING}.gz"],
        ["fetch", f"{STEERING}.txt"],
        ["whoami", "--api-key-file", "key" + STEERING],
    ],
    ids=lambda args: ascii(" ".join(args)),
)
@pytest.mark.usefixtures("simulator")
def test_arguments_that_would_steer_the_terminal(invoke, tmp_path, monkeypatch, args):
    """Arguments, like names of files, can be anybody's: none is printed unescaped."""
    monkeypatch.chdir(tmp_path)
    for name in (f"{STEERING}.txt", f"key{STEERING}"):
        path = tmp_path / name
        path.write_text("sfk_of_nobody")
        path.chmod(0o644)
    result = invoke(*args, color=True)
    assert result.exit_code != 0
    assert "\\x1b" in result.stderr
    assert result.output.replace("\n", "").isprintable()


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("flag", ["--max-pages", "--max-items"])
@pytest.mark.parametrize(
    "odd", ["\x1b]0;owned\x07", "\r\nError: none", "\x9b2J", "\u202e", "'\x7f"]
)
def test_a_cursor_that_would_steer_the_terminal(invoke, odd, flag):
    """A cursor is told quoted for bash, with every invisible character spelt out."""
    begun = invoke("showcase", "some.45products", "--cursor", odd, flag, "1")
    assert begun.exit_code == 1  # the simulator never made it
    told = re.search(r"^There is more: --cursor (\$'.*')$", begun.stderr, re.MULTILINE)[1]
    assert told.isprintable()
    assert begun.stderr.replace("\n", "").isprintable()
    assert eval("b" + told[1:]).decode() == odd  # noqa: S307 - Python writes bytes so, too


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ('say "hi\\" \\', r'"say \"hi\\\" \\"'),
        ("\x1b]0;owned\x07", r'"\x1b]0;owned\x07"'),
        ("a=", '"a="'),
        ("a:2.-b", "a:2.-b"),
    ],
)
def test_a_cursor_is_told_as_programs_on_windows_take_it(invoke, monkeypatch, odd, told):
    """On Windows a cursor is told as programs take a line apart, and steers no terminal either."""
    monkeypatch.setattr(sys, "platform", "win32")
    begun = invoke("showcase", "some.45products", f"--cursor={odd}", "--max-pages", "1")
    assert begun.exit_code == 1  # the simulator never made it
    assert f"There is more: --cursor {told}\n" in begun.stderr


@pytest.mark.parametrize("cursor", [None, ""], ids=["null", "empty"])
def test_showcase_that_leads_nowhere(invoke, simulate, cursor):
    """If the API says that there is more, but not where, no cursor to go on with is told."""
    with simulate(faults=[Fault.has_more_without_cursor(cursor)]):
        result = invoke("showcase", "some.45products", "--max-pages", "1")
    assert result.exit_code == 0
    assert result.stderr == "1 page, 20 products, 1 credit charged\n"


@pytest.mark.parametrize(
    "fault",
    [Fault.has_more_without_cursor(pages=[2]), Fault.cursor_loop(pages=[2])],
    ids=["nowhere", "in circles"],
)
def test_showcase_that_goes_on_to_nothing_new(invoke, simulate, fault):
    """No cursor is told with which the last page would be printed, and paid for, once more."""
    with simulate(faults=[fault]):
        result = invoke("showcase", "some.90products")
    assert result.exit_code == 1
    error, cost = result.stderr.splitlines()
    assert error.startswith("Error: the API ")
    assert cost == "2 pages, 40 products, 2 credits charged"


def test_showcase_that_breaks_off(invoke, simulate):
    """What came before a failure is printed; the error is one line, and the cursor follows it."""
    with simulate(faults=[Fault.status(500, pages=[2])]) as simulator:
        result = invoke("showcase", "some.45products")
        assert result.exit_code == 1
        assert lines(result.stdout) == simulator.showcase("some.45products")[:20]
        error, more, _ = result.stderr.splitlines()
        assert error.startswith("Error: ")
        assert "status 500" in error
        assert more.startswith("There is more: --cursor ")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault.status(503, retry_after="0"), "those were all attempts"),
        (Fault.close(charged=True), "it failed too often in this way"),
    ],
    ids=["attempts", "lost"],
)
def test_what_was_tried_again_in_vain(invoke, simulate, fault, told):
    """The reason for giving up is told in terms of the command line, which has no `Retry`."""
    with simulate(faults=[fault]):
        error, *_ = invoke("showcase", "mrbeast").stderr.splitlines()
        assert told in error
        assert "Retry" not in error


def test_showcase_at_a_higher_price(invoke, simulate):
    """A price that rose is told in words, at the end."""
    with simulate(faults=[Fault.price(2)]):
        result = invoke("showcase", "some.45products")
        assert result.stderr.splitlines() == [
            "3 pages, 45 products, 6 credits charged",
            "Prices rose: /v1/tiktok/profiles/{handle}/showcase-products costs 2 credits, not 1",
        ]
        quiet = invoke("showcase", "some.45products", "--quiet")
        assert quiet.stderr.splitlines() == result.stderr.splitlines()[1:]


def test_no_credits_left(invoke, simulate):
    """402 is exit code 3, and shows where to buy credits."""
    fault = Fault.status(402, checkout_url="https://example.com/buy")
    with simulate(faults=[fault]):
        result = invoke("showcase", "mrbeast")
        assert result.exit_code == 3
        assert "checkout https://example.com/buy" in result.stderr.splitlines()[0]


def test_verbose_logs_to_stderr(invoke, simulate):
    """`-v` logs retries to stderr and `-vv` every request, and neither shows the key."""
    for flags, retries, requests in ([], 0, 0), (["-v"], 1, 0), (["-vv"], 1, 2):
        with simulate(faults=[Fault.close(times=1)]):
            result = invoke("showcase", "mrbeast.3products", *flags)
            assert result.exit_code == 0
            assert result.stderr.count("RequestRetried(") == retries
            assert result.stderr.count("RequestStarted(") == requests


@pytest.mark.usefixtures("simulator")
@pytest.mark.parametrize("flags", [[], ["-v"], ["-vv"], ["-vvv"]], ids=str)
def test_the_log_is_left_as_it_was(invoke, flags):
    """A command that ran leaves the log of its process as it was, however much it told."""
    logger = logging.getLogger("asyncsfk")
    before = logger.level, logger.handlers[:]
    assert invoke("health", *flags).exit_code == 0
    assert (logger.level, logger.handlers) == before


def test_without_v_no_warning_is_logged(invoke, simulate, caplog):
    """Python would print it on stderr, even into the progress; we tell of it in words."""
    handles = [f"c{number}" for number in range(20)]
    with simulate(faults=[Fault.wrong_type()]):
        result = invoke("fetch", *handles)
    assert "20 failures in a row" in result.stderr
    assert [one for one in caplog.records if one.name == "asyncsfk"] == []


def test_a_files_name_cannot_drive_the_terminal(invoke, simulator, tmp_path):
    """Control characters in the name of a file arrive escaped."""
    result = invoke("fetch", "x", "--from", f"{tmp_path}/\x1b[2J")
    assert result.exit_code == 2
    assert f"cannot open {tmp_path}/\\x1b[2J: " in result.stderr
    assert simulator.ledger.requests == 0


def test_a_closed_stdout_is_no_traceback(simulator, spawn):
    """A command without a stdout says so, without a traceback."""
    process = spawn("showcase", "mrbeast", preexec_fn=lambda: os.close(1), stdout=None)
    assert process.wait(20) == 2
    assert process.stderr.read().endswith(b"cannot open stdout: Bad file descriptor\n")
    assert simulator.ledger.requests == 0
