"""What every test gets: a virtual clock, a clean environment, and checks of what it leaves behind.

- Async tests run on `VirtualTimeLoop`. Mark a test `real_time` for an ordinary loop.
- `PYTHONASYNCIODEBUG=1` puts the loops in debug mode, at twice the time; a few tests that count
  real milliseconds, or have TLS refused, then fail.
- What is drawn at random (jitter) is the same at each run.
- After an async test no task, socket or transport of its own is left, and no coroutine unawaited.
- While an async test runs, a blocking call below `asyncsfk` is an error (blockbuster).
- `HYPOTHESIS_PROFILE=dev` explores anew at each run; the default repeats the same examples.
"""

import asyncio
import gc
import logging
import os
import random
import signal
import socket
from contextlib import ExitStack

import aiohttp
import hypothesis
import pytest
from blockbuster import blockbuster_ctx

from asyncsfk import Archive
from asyncsfk.cli._files import allow_open_files
from tests.virtual_time import VirtualTimeLoop, WatchedLoop

VIRTUAL = ("asyncio", {"loop_factory": VirtualTimeLoop})
REAL = ("asyncio", {"loop_factory": WatchedLoop})

#: How often it is checked (each ms of the loop's time) whether a test's transports have closed.
LOOKS = 50

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, database=None
)
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    # A test with hundreds of requests at once holds both ends of each connection.
    allow_open_files()
    # A shell lets what it starts in the background ignore Ctrl-C, `nohup` a hangup; so would the
    # programs that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.addinivalue_line(
        "markers", "real_time: run this async test on an ordinary loop, not on the virtual clock"
    )
    config.addinivalue_line(
        "markers", "large: takes long, or measures memory: not to be run under a coverage tracer"
    )


def pytest_generate_tests(metafunc):
    if "anyio_backend" in metafunc.fixturenames:
        real = metafunc.definition.get_closest_marker("real_time")
        if real:
            metafunc.parametrize("anyio_backend", [REAL], ids=["real_time"], scope="session")


def pytest_runtest_setup():
    # What is loaded by now stays, so the collection after the test need not go through it again.
    gc.collect()
    gc.freeze()


def send_by(way, monkeypatch):
    if way == "session":
        # With a version of aiohttp whose connections were not tried, the client uses a session.
        monkeypatch.setattr(aiohttp, "__version__", "3.999.0")
    return way


@pytest.fixture(params=["pool", "session"])
def either_way(request, monkeypatch):
    """How a client with connections of its own sends: straight from the pool, or by a session."""
    return send_by(request.param, monkeypatch)


@pytest.fixture(params=["pool", "session", "borrowed"])
def sending(request, monkeypatch):
    """Like `either_way`, or by a session borrowed from the test; see `open_client`."""
    return send_by(request.param, monkeypatch)


@pytest.fixture(scope="session")
def anyio_backend():
    return VIRTUAL


@pytest.fixture
def port():
    """A port that nobody listens on, unless the test does."""
    with socket.socket() as holder:
        # Held until the test has ended, so that no server of another test gets it.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def deaf_port():
    """A port on which no connection is ever accepted."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as stack:
        for _ in range(4):  # one or two fill the queue of connections to be accepted
            crowd = stack.enter_context(socket.socket())
            crowd.setblocking(False)
            crowd.connect_ex(deaf.getsockname())
        yield deaf.getsockname()[1]


@pytest.fixture
def path(tmp_path):
    """Where an archive is, or will be."""
    return tmp_path / "job.sfk"


@pytest.fixture
async def archive(path):
    """An archive that is open for writing."""
    async with Archive(path) as archive:
        yield archive


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.upper().startswith("SOCIALFETCH_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def fixed_chance():
    random.seed(0)


@pytest.fixture(autouse=True)
def quiet_logger():
    """Undo what a command that ran in this process did to the logger (`--verbose`)."""
    logger = logging.getLogger("asyncsfk")
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def clean_exit(request):
    """Fail an async test that leaves something behind (set up first, hence torn down last)."""
    if "anyio_backend" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("nothing_left_on_the_loop")
    with blockbuster_ctx("asyncsfk") as watch:
        # A relative path is made absolute once, which asks for the working directory.
        watch.functions["os.getcwd"].can_block_in("asyncsfk/archive.py", "_absolute")
        yield
    # An unclosed transport, or a coroutine that was never awaited, warns when it is collected.
    # Collected here, it makes this test fail (warnings are errors), not a later one.
    gc.collect()


@pytest.fixture
async def nothing_left_on_the_loop():
    loop = asyncio.get_running_loop()
    files, tasks = loop.open_files(), foreign_tasks()
    yield
    for _ in range(LOOKS):
        left_files, left_tasks = loop.open_files() - files, foreign_tasks() - tasks
        if not left_files and not left_tasks:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"left on the loop: tasks {left_tasks or 'none'}, sockets {left_files or 'none'}")


def foreign_tasks():
    """Return the running tasks that are not the test runner's own."""
    return {task for task in asyncio.all_tasks() if not is_runner(task)}


def is_runner(task):
    return getattr(task.get_coro(), "__qualname__", "").startswith("TestRunner.")
