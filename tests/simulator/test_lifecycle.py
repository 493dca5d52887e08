"""Starting, stopping and what is left."""

import asyncio
import gc
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import anyio
import pytest

from asyncsfk.simulator import Fault, Latency, Simulator


async def test_it_starts_at_once_and_says_where():
    """A simulator says where it is while it runs, and only then."""
    sim = Simulator(seed=5)
    assert repr(sim).startswith("<Simulator not running, seed 5: ")
    with pytest.raises(RuntimeError, match="not running"):
        sim.url  # noqa: B018 - asking is the point
    async with sim as entered:
        assert entered is sim
        assert sim.url.startswith("http://127.0.0.1:")
        assert repr(sim).startswith(f"<Simulator at {sim.url}, seed 5: <Ledger: 0 requests")
    with pytest.raises(RuntimeError, match="not running"):
        sim.url  # noqa: B018 - asking is the point


async def test_it_runs_once():
    """A simulator that ran cannot be entered again."""
    sim = Simulator()
    async with sim:
        with pytest.raises(RuntimeError, match="runs once"):
            await sim.__aenter__()
    with pytest.raises(RuntimeError, match="runs once"):
        await sim.__aenter__()
    await sim.__aexit__(None, None, None)


async def test_it_listens_where_it_is_told():
    """A given port is used; one that is taken is an error that leaves nothing behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            await Simulator(port=port).__aenter__()
    async with Simulator(port=port) as sim:
        assert sim.url == f"http://127.0.0.1:{port}"


async def test_it_can_be_started_where_there_is_room_again():
    """A simulator that could not listen may be started again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sim = Simulator(port=taken.getsockname()[1])
        with pytest.raises(OSError, match=r"(?i)address already in use"):
            await sim.__aenter__()
    async with sim:
        assert sim.url


async def test_stopping_while_it_accepts(caplog, recwarn):
    """Connections that are being accepted as it stops are closed, without a complaint."""
    for turns in range(6):
        async with Simulator() as sim:
            port = int(sim.url.rpartition(":")[2])
            opening = [
                asyncio.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(20)
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
        opened = await asyncio.gather(*opening, return_exceptions=True)
        for connection in opened:
            if not isinstance(connection, OSError):
                connection[1].close()
        gc.collect()
    assert caplog.records == []
    assert [*recwarn] == []


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
async def test_it_listens_on_ipv6():
    """An IPv6 address is put in brackets."""
    async with Simulator(host="::1") as sim, aiohttp.ClientSession() as session:
        assert sim.url.startswith("http://[::1]:")
        async with session.get(sim.url + "/health") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("named", "options"),
    [
        *(("seed", {"seed": wrong}) for wrong in (None, "7", 7.0, True)),
        *(("page_size", {"page_size": wrong}) for wrong in (0, -1, 2.5, "20", None, True)),
        *(("max_concurrent", {"max_concurrent": wrong}) for wrong in (-1, 2.5, "20")),
        *(("keep_entries", {"keep_entries": wrong}) for wrong in (-1, 2.5, "20")),
        *(("balance", {"credits": wrong}) for wrong in (-1, 2.5, "20")),
        *(("port", {"port": wrong}) for wrong in (-1, 65_536, 80.0, "80", None)),
        *(("key", {"api_key": wrong}) for wrong in ("", None, b"sfk_x")),
        *(("address", {"host": wrong}) for wrong in ("", None, 5)),
        *(("gzip", {"gzip": wrong}) for wrong in ("no", None, 0)),
        ("overload_retry_after", {"overload_retry_after": "date:"}),
        ("overload_retry_after", {"overload_retry_after": 1}),
    ],
    ids=str,
)
def test_nonsense_is_refused(named, options):
    """Settings that make no sense are refused at once, and named."""
    with pytest.raises((ValueError, TypeError), match=named):
        Simulator(**options)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault.hang()],
        [Fault.drip(1, 100)],
        [Fault.delay(Latency.fixed(9_999))],
        [Fault.oversized(2**26)],
    ],
)
async def test_it_closes_at_once(faults):
    """Leaving cuts open connections, whatever they are waiting for, and waits for nothing."""
    loop = asyncio.get_running_loop()
    async with Simulator(faults=faults) as sim:
        host, port = sim.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        idle_reader, idle_writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET /v1/whoami HTTP/1.1\r\nHost: x\r\nx-api-key: {sim.api_key}\r\n\r\n".encode()
        )
        await asyncio.sleep(1)
        assert sim.ledger.in_flight == 1
        before = loop.time()
        _, late_writer = await asyncio.open_connection(host, int(port))
    assert loop.time() - before < 0.5
    [entry] = sim.ledger
    assert (entry.delivered, sim.ledger.in_flight) == (False, 0)
    assert entry.finished is not None
    for each in (writer, idle_writer, late_writer):
        each.close()
    assert await idle_reader.read() == b""
    del reader


async def test_it_closes_when_the_body_fails():
    """An exception in the body is raised unchanged."""

    async def fail():
        async with Simulator() as sim, aiohttp.ClientSession() as session:
            await session.get(sim.url + "/health")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


async def test_it_closes_when_cancelled():
    """A cancelled task takes its simulator down with it."""

    async def run(started):
        async with Simulator(faults=[Fault.hang()]) as sim, aiohttp.ClientSession() as session:
            started.set_result(sim)
            await session.get(sim.url + "/health")

    started = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(started))
    sim = await started
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (sim.ledger.requests, sim.ledger.in_flight) == (1, 0)


@pytest.mark.parametrize("turns", range(4))
async def test_it_cuts_connections_when_its_closing_is_cancelled(turns):
    """Cancelled before it has cut any connection, it leaves none open all the same."""
    opened = asyncio.get_running_loop().create_future()

    async def run():
        async with Simulator() as sim:
            host, port = sim.url.removeprefix("http://").split(":")
            opened.set_result(await asyncio.open_connection(host, int(port)))
            await asyncio.sleep(1)

    task = asyncio.create_task(run())
    reader, writer = await opened
    await asyncio.sleep(1)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    async with asyncio.timeout(1):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_it_closes_wherever_it_is_cancelled(times):
    """Cancelled as it starts or stops, and again as it closes, it frees its port at once."""
    await cancel_everywhere(times)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_it_closes_wherever_it_is_cancelled_on_uvloop(times):
    """The same holds on uvloop, which listens on a socket of its own."""
    pytest.importorskip("uvloop")
    # In another process: if that socket stays open, its loop may never end.
    program = f"import uvloop, {__name__} as tests; uvloop.run(tests.cancel_everywhere({times}))"
    subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], timeout=30
    )


async def cancel_everywhere(times):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def run():
        async with Simulator(port=port):
            await asyncio.sleep(0)

    ended = 0
    for turns in range(40):
        task = asyncio.create_task(run())
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({task})
        ended += not task.cancelled() and task.result() is None
        assert not await is_taken(port)
    assert 0 < ended < 40


async def is_taken(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.transport.abort()
    return True


async def test_it_closes_inside_a_cancelled_scope():
    """A cancelled anyio scope takes its simulator down with it."""
    with anyio.move_on_after(1):
        async with Simulator(faults=[Fault.hang()]) as sim, aiohttp.ClientSession() as session:
            await session.get(sim.url + "/health")
    assert (sim.ledger.requests, sim.ledger.in_flight) == (1, 0)


async def test_many_connections_at_once(simulate):
    """Five hundred connections are served at once."""
    async with simulate(latency=Latency.fixed(1)) as ask:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            ask.session, owned = session, ask.session
            await asyncio.gather(*(ask.get("/health") for _ in range(500)))
            ask.session = owned
        assert ask.sim.ledger.max_in_flight == 500
