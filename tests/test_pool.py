"""A client of its own sends on the pool's connections: as a session would, or with more care."""

import asyncio
import functools
import itertools
import select
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from unittest import mock

import aiohttp
import pytest
import trustme

from asyncsfk import (
    APIError,
    Client,
    ConnectionFailedError,
    ConnectionLostError,
    RequestStarted,
    Retry,
    Timeout,
)
from asyncsfk.simulator import Latency, Simulator
from tests.support import KEY, USER, client_of, failure, http, open_client, raw_server, told

OTHER = USER.replace(b'"u"', b'"v"')
CLOSING = USER.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


#: A client of its own without a session, and with one.
OWN = pytest.mark.parametrize("own", [{}, {"trust_env": True}], ids=["pool", "session"])


@pytest.fixture
def gets(monkeypatch):
    """Count what goes through a session's `get`."""
    calls, get = [], aiohttp.ClientSession.get

    def counted(session, url, **options):
        calls.append(url)
        return get(session, url, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "get", counted)
    return calls


async def test_only_who_needs_a_session_has_one_between(sending, gets):
    """With this aiohttp a client uses a session only if it must; both ways send the same."""
    async with raw_server(USER) as server:
        server.api_key = KEY
        async with open_client(server, sending, user_agent="ours/1") as client:
            await client.whoami()
        assert len(gets) == (sending != "pool")
        assert server.targets == ["/v1/whoami"]
        assert server.headers() == {
            "host": server.url.removeprefix("http://"),
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": "ours/1",
            "x-api-key": KEY,
        }


async def test_a_proxy_or_the_environment_needs_a_session(gets):
    """What only a session can do is left to a session."""
    async with Simulator() as sim, client_of(sim, trust_env=True) as client:
        await client.whoami()
        assert len(gets) == 1
    async with raw_server(USER) as proxy:
        options = {"base_url": "http://any.test", "allow_insecure_http": True}
        async with Client(KEY, proxy=proxy.url, **options) as client:
            await client.whoami()
        assert proxy.targets == ["http://any.test/v1/whoami"]


async def test_tracing_that_others_add_sees_every_request(monkeypatch):
    """Tools that trace a program add tracing to each session that is made."""
    seen, make = [], aiohttp.ClientSession.__init__

    async def on_end(_session, _context, params):
        seen.append(params.response.status)

    def traced(session, **options):
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(on_end)
        make(session, trace_configs=[trace], **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", traced)
    async with Simulator() as sim, client_of(sim) as client:
        await client.whoami()
        await client.balance()
    assert seen == [200, 200]


def by_wraps(original, seen):
    @functools.wraps(original)
    async def request(*args, **options):
        seen.append(args[1:])
        return await original(*args, **options)

    return request


def by_mock(original, seen):
    stand_in = mock.create_autospec(original)
    stand_in.side_effect = by_wraps(original, seen)
    return stand_in


class Proxy:
    """A stand-in that claims to be the method it replaces, as some tools make them."""

    def __init__(self, original, seen):
        self._original, self._seen = original, seen

    def __get__(self, session, owner=None):
        return self if session is None else Proxy(self._original.__get__(session), self._seen)

    def __getattr__(self, name):
        return getattr(self._original, name)

    @property
    def __class__(self):
        return type(self._original)

    def __call__(self, *args, **options):
        self._seen.append(args)
        return self._original(*args, **options)


@pytest.mark.parametrize("stand_in", [by_wraps, by_mock, Proxy])
async def test_what_stands_in_for_a_session_sees_every_request(stand_in, monkeypatch):
    """If a mock did not see them, a test would send real requests, and pay for them."""
    seen = []
    request = stand_in(aiohttp.ClientSession._request, seen)
    monkeypatch.setattr(aiohttp.ClientSession, "_request", request)
    async with Simulator() as sim, client_of(sim) as client:
        await client.whoami()
        await client.balance()
    assert len(seen) == 2


async def test_informational_answers_are_passed_over(sending):
    """Informational responses before the answer are not it (RFC 9110, section 15.2)."""
    early = [http(100, length=False), http(103, b"", "Link: </x>", length=False)]
    async with raw_server(b"".join(early) + USER) as server:
        server.api_key = KEY
        async with open_client(server, sending) as client:
            assert (await client.whoami()).user.id == "u"


async def test_another_protocol_is_no_answer(sending):
    """Nobody asked for an upgrade, so it is an error, and the connection is not used again."""
    upgrade = http(101, b"", "Upgrade: x", "Connection: Upgrade", length=False)
    async with raw_server(lambda _: upgrade if server.hits == 1 else USER, keep=True) as server:
        server.api_key = KEY
        async with open_client(server, sending, timeout=Timeout(read=3)) as client:
            assert (await failure(client.whoami(), APIError)).status == 101
            assert (await client.whoami()).user.id == "u"
        assert (server.connections, server.hits) == (2, 2)


async def test_a_connection_is_kept_only_if_the_server_keeps_it(sending):
    """A connection that the server is about to close is not used again."""
    async with raw_server(CLOSING, keep=True) as server:
        server.api_key = KEY
        async with open_client(server, sending) as client:
            await client.whoami()
            await client.whoami()
        assert (server.connections, server.hits) == (2, 2)


@OWN
@pytest.mark.parametrize("late", [0, 1], ids=["with it", "later"])
async def test_an_answer_that_nobody_asked_for_is_nobodys(late, own):
    """A second answer to one request is not taken for that to the next one."""

    async def answer(_head, writer):
        is_first = server.hits == 1
        writer.write(USER + OTHER if is_first and not late else USER)
        if is_first and late:
            await asyncio.sleep(late)
            writer.write(OTHER)

    async with told(answer, keep=True, **own) as (server, client):
        assert (await client.whoami()).user.id == "u"
        await asyncio.sleep(2)
        assert (await client.whoami()).user.id == "u"
        assert (server.connections, server.hits) == (2, 2)


@OWN
@pytest.mark.skipif(not hasattr(select, "poll"), reason="Windows does not tell")
async def test_an_answer_that_came_while_the_event_loop_was_held_up_is_nobodys(own):
    """An answer that nobody asked for lies in the socket when the next request is to be sent."""
    writers = []

    async def answer(_head, writer):
        writers.append(writer)
        writer.write(USER)

    def on_event(event):
        if isinstance(event, RequestStarted) and writers:
            # From here on to the sending of the request the event loop hears of nothing.
            writers[0].write(OTHER)

    async with told(answer, keep=True, **own, on_event=on_event) as (server, client):
        for _ in range(2):
            assert (await client.whoami()).user.id == "u"
        assert (server.connections, server.hits) == (2, 2)


@OWN
@pytest.mark.parametrize("late", [0, 1], ids=["with it", "later"])
@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 2\r\n\r\n{}"),
        (b"H", b"TTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        (b"HTTP/1.1 100 Continue\r\n", b"\r\n" + OTHER),
        (b"HTTP/1.1 200 OK\r\nSec-WebSocket-Key1: x\r\nX", b": y\r\n\r\n"),
    ],
    ids=["headers", "one byte", "informational", "nonsense"],
)
async def test_the_beginning_of_an_answer_that_nobody_asked_for_is_nobodys(begun, rest, late, own):
    """If half an answer has come, its rest would be read as the answer to the next request."""

    async def answer(_head, writer):
        if server.hits > 1:
            # On a connection of its own there is nothing before it.
            writer.write(USER if server.connections > 1 else rest + USER)
            return
        writer.write(USER if late else USER + begun)
        if late:
            await asyncio.sleep(late)
            writer.write(begun)

    async with told(answer, keep=True, **own) as (server, client):
        assert (await client.whoami()).user.id == "u"
        await asyncio.sleep(2)
        assert (await client.whoami()).user.id == "u"
        assert (server.connections, server.hits) == (2, 2)


async def test_a_server_that_speaks_first_is_refused(sending):
    """It is not an HTTP server, but the request may have reached it."""
    connections = 0

    async def greet(reader, writer):
        nonlocal connections
        connections += 1
        writer.write(b"220 mail ready\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    there = SimpleNamespace(url=f"http://127.0.0.1:{port}", api_key=KEY)
    async with server, open_client(there, sending) as client:
        error = await failure(client.showcase_page("x"), ConnectionLostError)
    assert connections == error.usage.maybe == 1


async def test_a_call_that_is_cancelled_gives_no_connection_back(sending):
    """Otherwise its answer would be taken for that to the next request."""
    async with (
        Simulator(latency=Latency.fixed(5)) as sim,
        open_client(sim, sending, concurrency=1) as client,
    ):
        call = asyncio.create_task(client.tiktok_profile("one"))
        await asyncio.sleep(1)
        call.cancel()
        await asyncio.wait({call})
        lookup = await client.tiktok_profile("two")
        assert lookup.profile is not None
        assert lookup.profile.handle == "two"
        assert sim.ledger.requests == 2


TLS_PROGRAM = """
import asyncio, sys
from asyncsfk import Client, ConnectionFailedError, Retry

async def main():
    good, bad = sys.argv[1:]
    async with Client("sfk_x", base_url=good) as client:
        print([(await client.whoami()).user.id for _ in range(3)])
    async with Client("sfk_x", base_url=bad, retry=Retry.none()) as client:
        try:
            await client.whoami()
        except ConnectionFailedError as error:
            print("refused", error.usage.maybe)

asyncio.run(main())
"""


@pytest.fixture
def context(tmp_path):
    """What a server on localhost needs for TLS; who issued it is in `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


UNFINISHED_PROGRAM = """
import asyncio, sys
import aiohttp
from asyncsfk import Client, Retry, SfkError, Timeout

async def main():
    url, way = sys.argv[1:]
    session = aiohttp.ClientSession() if way == "borrowed" else None
    async with Client(
        "sfk_x",
        base_url=url,
        retry=Retry.none(),
        timeout=Timeout(read=0.2),
        session=session,
        trust_env=way == "session",
    ) as client:
        try:
            await client.showcase_page("x")
        except SfkError:
            pass
        call = asyncio.create_task(client.whoami())
        # Until the server has said what it says.
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait({call})
    print("closed", flush=True)
    # Its sockets are to be gone while the program goes on.
    await asyncio.to_thread(sys.stdin.readline)
    if session is not None:
        await session.close()

asyncio.run(main())
"""


def serve_without_farewell(server, context, said, answered, ended):
    """Answer two requests over TLS in part, then only wait for the end of the connection."""
    for _ in range(2):
        connection, _ = server.accept()
        tls = context.wrap_socket(connection, server_side=True)
        while not tls.recv(4096).endswith(b"\r\n\r\n"):
            pass
        tls.sendall(said)
        answered.release()
        with socket.socket(fileno=tls.detach()) as plain, suppress(ConnectionError):
            plain.settimeout(10)
            while plain.recv(4096):
                pass
        ended.release()


LEFT = {"nothing": b"", "a part": USER[:-10], "all": CLOSING, "more than that": USER + OTHER}


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("way", "said"),
    [
        *itertools.product(["pool", "session"], LEFT),
        # What is not read to its end; the rest is aiohttp's own.
        *itertools.product(["borrowed"], ["nothing", "a part"]),
    ],
)
async def test_what_is_left_over_tls_leaves_no_socket(tmp_path, context, way, said):
    """A connection that will not be used again ends, whatever the server does."""
    said = LEFT[said]
    answered, ended = threading.Semaphore(0), threading.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(
            target=serve_without_farewell,
            args=(server, context, said, answered, ended),
            daemon=True,
        )
        serving.start()
        program = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", UNFINISHED_PROGRAM],
            *[f"https://localhost:{server.getsockname()[1]}", way],
            env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(2):
            assert await asyncio.to_thread(answered.acquire, timeout=30)
        program.stdin.write(b"\n")
        assert await asyncio.wait_for(program.stdout.readline(), 30) == b"closed\n"
        for _ in range(2):
            assert await asyncio.to_thread(ended.acquire, timeout=5)
        await program.communicate(b"\n")
        serving.join(10)
    assert program.returncode == 0


HELD_UP_PROGRAM = """
import asyncio, sys, time
from asyncsfk import Client

async def main():
    async with Client("sfk_x", base_url=sys.argv[1]) as client:
        for _ in range(3):
            assert (await client.whoami()).user.id == "u"
            # As a program does that computes: the server closes meanwhile.
            time.sleep(0.3)
        print(client.usage.requests)

asyncio.run(main())
"""


NO_POLL_PROGRAM = """
import asyncio, select, sys
vars(select).pop("poll", None)
from asyncsfk import Client

async def main():
    async with Client("sfk_x", base_url=sys.argv[1]) as client:
        print([(await client.whoami()).user.id for _ in range(3)])

asyncio.run(main())
"""


@pytest.mark.real_time
async def test_where_the_kernel_cannot_be_asked_connections_are_kept_all_the_same():
    """As on Windows."""
    async with raw_server(USER, keep=True) as server:
        program = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", NO_POLL_PROGRAM, server.url], stdout=asyncio.subprocess.PIPE
        )
        told, _ = await asyncio.wait_for(program.communicate(), 60)
        assert (program.returncode, told.split()) == (0, b"['u', 'u', 'u']".split())
        assert (server.connections, server.hits) == (1, 3)


def serve_and_close(server, context):
    """Answer one request on each connection, as if it were kept, and close it."""
    while True:
        with suppress(ConnectionError, ssl.SSLError):
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            with connection:
                while not connection.recv(4096).endswith(b"\r\n\r\n"):
                    pass
                connection.sendall(USER)
                time.sleep(0.03)


@pytest.mark.real_time
@pytest.mark.skipif(not hasattr(select, "poll"), reason="Windows does not tell")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_what_was_closed_while_the_event_loop_was_held_up_is_not_used(
    tmp_path, context, scheme
):
    """A request sent on it would be lost, and nobody could tell whether it was charged."""
    context = context if scheme == "https" else None
    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve_and_close, args=(server, context), daemon=True)
        serving.start()
        program = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", HELD_UP_PROGRAM],
            f"{scheme}://localhost:{server.getsockname()[1]}",
            env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await program.communicate()
        server.shutdown(socket.SHUT_RDWR)
        serving.join(10)
    assert (program.returncode, told) == (0, b"3\n")


@pytest.mark.real_time
async def test_the_servers_certificate_is_checked(tmp_path, context):
    """TLS connections are kept too, and another host's certificate is refused, for free."""
    connections = 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            writer.write(USER)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        urls = [f"https://localhost:{port}", f"https://127.0.0.1:{port}"]
        program = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", TLS_PROGRAM, *urls],
            env={"SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(program.communicate(), 60)
    assert output.decode().splitlines() == ["['u', 'u', 'u']", "refused 0"]
    assert connections == 1


async def test_what_a_stand_in_sends_is_not_free(monkeypatch):
    """What a session whose method was replaced has sent may have been charged."""
    request = aiohttp.ClientSession._request

    async def own(session, method, url, **options):
        return await request(session, method, url, **options | {"middlewares": ()})

    monkeypatch.setattr(aiohttp.ClientSession, "_request", own)
    async with raw_server(b"") as server, aiohttp.ClientSession() as session:
        options = {"session": session, "retry": Retry()}
        async with Client(KEY, base_url=server.url, **options) as client:
            error = await failure(client.showcase_page("x"), ConnectionLostError)
            assert error.attempts == error.usage.maybe == 2
        async with Client(KEY, base_url="http://127.0.0.1:9", **options) as client:
            error = await failure(client.showcase_page("x"), ConnectionFailedError)
            assert error.usage.maybe == 0
