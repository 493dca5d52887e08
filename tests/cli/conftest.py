"""The command line under test: a simulator in a thread, and ways to run `asyncsfk`."""

import os
import subprocess
import sysconfig
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from asyncsfk.cli._app import app
from tests.support import running

ASYNCSFK = str(Path(sysconfig.get_path("scripts")) / "asyncsfk")


@pytest.fixture
def simulate(monkeypatch):
    """Run a simulator with given settings and point the environment at it."""

    @contextmanager
    def simulate(**settings):
        with running(**settings) as simulator:
            monkeypatch.setenv("SOCIALFETCH_BASE_URL", simulator.url)
            monkeypatch.setenv("SOCIALFETCH_API_KEY", simulator.api_key)
            yield simulator

    return simulate


@pytest.fixture
def simulator(simulate):
    with simulate() as simulator:
        yield simulator


@pytest.fixture
def invoke():
    """Run a command in this process; its result tells exit_code, stdout and stderr."""

    def invoke(*args, **settings):
        result = CliRunner().invoke(app, [str(arg) for arg in args], **settings)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert "sfk_simulated" not in result.output
        return result

    return invoke


@pytest.fixture
def spawn():
    """Start a command in a process of its own; it is killed at the end if need be."""
    processes = []

    def spawn(*args, command=(ASYNCSFK,), **settings):
        # Buffered as for users: at its end Python would complain of what it could not write. Not in
        # debug mode, which writes to stderr.
        ours = {"PYTHONWARNINGS": "error"}
        ours |= dict.fromkeys(("PYTHONUNBUFFERED", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG"), "")
        # As where the environment that it is installed in was activated.
        ours["PATH"] = f"{Path(ASYNCSFK).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | ours | settings.pop("env", {})
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, *map(str, args)], env=environment, **settings
        )
        processes.append(process)
        return process

    yield spawn
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def out(tmp_path):
    """Give the path of an output, whose archive would be `out.sfk` beside it."""
    return tmp_path / "out.jsonl"
