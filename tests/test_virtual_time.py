"""The virtual clock that the other tests rely on."""

import asyncio
import threading
import time

import aiohttp
import anyio
import anyio.to_thread
import pytest
from aiohttp import web
from aiolimiter import AsyncLimiter

from tests.virtual_time import START, VirtualTimeLoop


def now():
    return asyncio.get_running_loop().time() - START


async def start_server(handle):
    """Start a TCP server on loopback; give it and its port."""
    # The backlog: a connection refused a place in it tries again after a real second.
    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1000)
    return server, server.sockets[0].getsockname()[1]


async def test_a_sleep_moves_the_clock_by_exactly_its_length():
    """A sleep of any length is over at once, and the clock has moved by it."""
    began = time.perf_counter()
    for delay in (0.1, 3600, 86_400 * 3):
        start = now()
        await asyncio.sleep(delay)
        assert now() - start == pytest.approx(delay, abs=1e-6)
    assert time.perf_counter() - began < 1


async def test_the_clock_stands_still_while_there_is_work():
    """Many turns of the loop take no time on its clock."""
    start = now()
    for _ in range(90):
        await asyncio.sleep(0)
    assert now() == start


async def test_timers_fire_in_the_order_of_their_times():
    """Timers fire in the order of their times, whatever the order they were set in."""
    fired = []
    async with asyncio.TaskGroup() as group:
        for delay in (3, 1, 2, 0.5, 100):
            group.create_task(asyncio.sleep(delay)).add_done_callback(
                lambda _, delay=delay: fired.append((delay, round(now(), 6)))
            )
    assert fired == [(0.5, 0.5), (1, 1), (2, 2), (3, 3), (100, 100)]


async def test_180_seconds_of_talk_cost_a_moment():
    """A conversation with a pause of a second before each of 180 lines takes about 0.2 s really."""

    async def echo(reader, writer):
        while line := await reader.readline():
            await asyncio.sleep(1)
            writer.write(line)
        writer.close()
        await writer.wait_closed()

    server, port = await start_server(echo)
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start, began = now(), time.perf_counter()
        for n in range(180):
            writer.write(b"%d\n" % n)
            assert await reader.readline() == b"%d\n" % n
        assert now() - start == 180
        assert time.perf_counter() - began < 5  # about 0.25 s on a quiet machine
        writer.close()
        await writer.wait_closed()


async def test_a_socket_is_heard_before_a_timer_of_a_later_time():
    """Bytes under way arrive before any timeout, however short, has passed."""

    async def talk(_, writer):
        for _ in range(200):
            writer.write(b"x" * 65_536)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server, port = await start_server(talk)
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(0.001):
            assert len(await reader.read()) == 200 * 65_536
        writer.close()
        await writer.wait_closed()


async def test_many_connections_open_within_a_short_timeout():
    """Three hundred connections open and answer before a timeout of 10 ms."""

    async def greet(_, writer):
        writer.write(b"hi")
        writer.close()
        await writer.wait_closed()

    async def visit():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"hi"
        writer.close()
        await writer.wait_closed()

    server, port = await start_server(greet)
    async with server, asyncio.timeout(0.01), asyncio.TaskGroup() as group:
        for _ in range(300):
            group.create_task(visit())


@pytest.mark.parametrize("in_thread", [asyncio.to_thread, anyio.to_thread.run_sync])
async def test_a_thread_is_waited_for_really(in_thread):
    """A thread that works for 50 ms is done before a timeout of 10 s, and costs no virtual time."""
    start, began = now(), time.perf_counter()
    async with asyncio.timeout(10):
        await in_thread(time.sleep, 0.05)
    assert time.perf_counter() - began >= 0.05
    assert now() == start


async def test_a_timer_fires_while_a_thread_works():
    """A timeout shorter than a thread's work passes in real time."""
    enough = threading.Event()
    began = time.perf_counter()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.to_thread(enough.wait, 5)
    assert 0.05 <= time.perf_counter() - began < 4
    enough.set()


async def test_a_wait_without_a_timer_waits_for_a_foreign_thread():
    """With no timer, the loop waits for what a thread brings, and its clock stands still."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    start = now()
    timer = threading.Timer(0.05, loop.call_soon_threadsafe, [done.set])
    timer.start()
    await done.wait()
    timer.join()
    assert now() == start


async def test_anyio_scopes_and_sleeps():
    """anyio's cancel scopes and sleeps follow the virtual clock."""
    start = now()
    with anyio.move_on_after(60) as scope:
        await anyio.sleep(3600)
    assert scope.cancelled_caught
    assert now() - start == 60
    assert anyio.current_time() == now() + START


async def test_aiolimiter_leaks_on_the_virtual_clock():
    """A limiter of 2 a second lets ten through in four and a half."""
    limiter = AsyncLimiter(1, 0.5)
    start = now()
    for _ in range(10):
        await limiter.acquire()
    assert now() - start == pytest.approx(4.5, abs=0.01)


async def test_aiohttp_timeouts_follow_the_virtual_clock():
    """aiohttp's total timeout passes on the virtual clock, and a slow answer arrives before it."""

    async def slow(request):
        await asyncio.sleep(float(request.query["s"]))
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    began = time.perf_counter()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        async with session.get(f"http://127.0.0.1:{port}/?s=29") as answer:
            assert await answer.text() == "done"
        assert now() == 29
        with pytest.raises(TimeoutError):
            await session.get(f"http://127.0.0.1:{port}/?s=31")
        assert now() == 59
    await runner.cleanup()
    assert time.perf_counter() - began < 5


def test_the_default_executor_ends_without_a_jump():
    """Closing the loop waits really for a thread that outlived its task."""
    ended = []

    def work():
        time.sleep(0.05)
        ended.append(1)

    async def main():
        asyncio.get_running_loop().run_in_executor(None, work).cancel()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert ended == [1]


async def test_the_loop_names_what_is_open():
    """The loop names the sockets it watches, which is how leaks are found."""
    loop = asyncio.get_running_loop()
    before = loop.open_files()
    server, _ = await start_server(lambda *_: None)
    async with server:
        assert len(loop.open_files() - before) == 1
    assert loop.open_files() == before


async def test_the_loop_refuses_another_thread():
    """A thread that calls the loop's unsafe methods is told, not left to corrupt it."""
    loop = asyncio.get_running_loop()
    for call in (loop.call_soon, lambda run: loop.call_later(1, run)):
        with pytest.raises(RuntimeError, match="not thread-safe"):
            await asyncio.to_thread(call, print)


@pytest.mark.real_time
async def test_a_test_can_ask_for_real_time():
    """Marked `real_time`, a test has an ordinary loop."""
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    began = time.perf_counter()
    await asyncio.sleep(0.02)
    assert time.perf_counter() - began >= 0.02


async def test_a_timer_that_is_always_a_little_early_does_not_trap_the_loop():
    """Code that sets a timer again and again for the same moment gets past it."""
    loop = asyncio.get_running_loop()
    due = loop.time() + 1
    late = asyncio.Event()

    def check():
        if loop.time() > due:
            late.set()
        else:
            loop.call_at(due, check)

    loop.call_at(due, check)
    await late.wait()
    assert loop.time() == pytest.approx(due)
