"""One attempt is one request, to one origin, whatever the connection does."""

import asyncio
import concurrent.futures
import gc
import socket
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import aiohttp
import pytest
from yarl import URL

from asyncsfk import (
    Archive,
    Client,
    ClientStateError,
    ConnectionFailedError,
    ConnectionLostError,
    InsufficientCreditsError,
    LookupFailedError,
    RedirectError,
    RequestRetried,
    RequestStarted,
    RequestTimeoutError,
    Retry,
    RunStoppedError,
    ServerError,
    Timeout,
    UnavailableError,
    Usage,
)
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.support import (
    KEY,
    ONCE,
    SHOWCASE,
    USER,
    chunked,
    client_of,
    enveloped,
    failure,
    http,
    open_client,
    raw_server,
    running,
    told,
)

HANDLE = "long.90products"


@dataclass(frozen=True)
class Loss:
    """A way to lose an answer, what it is to a caller, and what it costs."""

    fault: object
    error: type
    charged: int

    def at(self, **when):
        """Make the fault."""
        return self.fault(**when)


LOSSES = {
    "close": Loss(Fault.close, ConnectionLostError, 0),
    "close_charged": Loss(lambda **at: Fault.close(charged=True, **at), ConnectionLostError, 1),
    "reset": Loss(Fault.reset, ConnectionLostError, 0),
    "reset_charged": Loss(lambda **at: Fault.reset(charged=True, **at), ConnectionLostError, 1),
    "truncated": Loss(Fault.truncate, ConnectionLostError, 1),
    "truncated_chunked": Loss(
        lambda **at: Fault.truncate(chunked=True, **at), ConnectionLostError, 1
    ),
    "garbage": Loss(lambda **at: Fault.garbage(charged=True, **at), ConnectionLostError, 1),
    "hang": Loss(lambda **at: Fault.hang(charged=True, **at), RequestTimeoutError, 1),
}

POLICIES = {"once": (ONCE, 1), "default": (Retry(), 2), "never_lost": (Retry(lost=0), 1)}


async def second_cursor(sim):
    """Learn where the second page is, with another client; costs a credit."""
    async with client_of(sim) as client:
        return (await client.showcase_page(HANDLE)).next_cursor


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("loss", LOSSES)
async def test_an_attempt_is_one_hit(loss, policy, reused, sending):
    """However a connection is lost, an attempt is one request, and the error covers its cost."""
    loss, (retry, hits) = LOSSES[loss], POLICIES[policy]
    timeout = Timeout(total=20, read=10)
    async with Simulator(faults=[loss.at(pages=[2])]) as sim:
        cursor = await second_cursor(sim)
        async with open_client(sim, sending, retry=retry, timeout=timeout) as client:
            if reused:
                await client.balance()
            error = await failure(client.showcase_page(f"@{HANDLE}", cursor=cursor))
            spent = client.usage
        assert type(error) is loss.error
        assert sim.ledger.hits(HANDLE, cursor=cursor) == hits
        assert sim.ledger.charged - 1 == loss.charged * hits
    assert (error.handle, error.route, error.cursor) == (HANDLE, SHOWCASE, cursor)
    assert error.attempts == error.usage.requests == hits
    assert error.usage.retries == hits - 1
    assert (error.usage.charged, error.usage.maybe) == (0, hits)
    assert error.usage.charged + error.usage.maybe >= loss.charged * hits
    assert error.status is None
    assert (spent.charged, spent.maybe) == (error.usage.charged, error.usage.maybe)
    assert spent.requests == error.usage.requests + reused
    assert bool(error.gave_up)


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_lost_answer_is_fetched_again(loss):
    """One more request makes a loss good, and the page says what both may have cost."""
    async with (
        Simulator(faults=[LOSSES[loss].at(times=1)]) as sim,
        client_of(sim, retry=Retry(), timeout=Timeout(total=20)) as client,
    ):
        page = await client.showcase_page(HANDLE)
        assert sim.ledger.requests == 2
        assert len(page.products) == 20
        usage = page.usage
        assert (usage.requests, usage.retries, usage.charged, usage.maybe) == (2, 1, 1, 1)
        assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe
        assert client.usage == usage


async def test_a_kept_connection_that_drops_is_one_hit(sending):
    """A request on a kept connection that the server drops is not silently sent on a new one."""

    async def answer(head, writer):
        if b"whoami" in head:
            writer.write(USER)
            await writer.drain()
        else:
            writer.close()

    async with raw_server(answer, keep=True) as server:
        server.api_key = KEY
        async with open_client(server, sending) as client:
            await client.whoami()
            assert server.connections == 1
            await failure(client.showcase_page(HANDLE), ConnectionLostError)
        assert (server.connections, server.hits) == (1, 2)


@pytest.mark.parametrize("slow", [False, True])
async def test_connections_are_kept(sending, slow):
    """Calls in a row share one connection, also where answers come in pieces."""

    async def answer(_head, writer):
        writer.write(USER[:-20])
        await asyncio.sleep(slow)
        writer.write(USER[-20:])

    async with raw_server(answer, keep=True) as server:
        server.api_key = KEY
        async with open_client(server, sending) as client:
            for _ in range(5):
                await client.whoami()
        assert (server.connections, server.hits) == (1, 5)


@pytest.mark.usefixtures("either_way")
async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch):
    """A server may be about to close it: a request on it could be lost, and paid."""
    # aiohttp's clock for this is not the event loop's.
    monkeypatch.setattr(aiohttp.connector, "monotonic", asyncio.get_running_loop().time)
    async with told(USER, keep=True) as (server, client):
        for idle, connections in ((0, 1), (14, 1), (16, 2)):
            await asyncio.sleep(idle)
            await client.whoami()
            assert server.connections == connections


@pytest.mark.usefixtures("either_way")
async def test_a_host_is_looked_up_by_the_system_and_remembered(monkeypatch):
    """An installed resolver does not take over, and not every connection looks its host up."""
    asked = []

    class System(aiohttp.ThreadedResolver):
        async def resolve(self, host, *args, **options):
            asked.append(host)
            return await super().resolve(host, *args, **options)

    # aiohttp's clock for this is not the event loop's.
    monkeypatch.setattr(aiohttp.connector, "monotonic", asyncio.get_running_loop().time)
    # What aiohttp takes by itself where aiodns is installed.
    monkeypatch.setattr(aiohttp.connector, "DefaultResolver", None)
    monkeypatch.setattr(aiohttp, "ThreadedResolver", System)
    async with raw_server(http(200, b'{"status":"ok"}')) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with Client(base_url=url, retry=ONCE) as client:
            for _ in range(3):
                await client.health()
                await asyncio.sleep(20)
            assert (server.connections, asked) == (3, ["localhost"])
            # By then the host may have another address.
            await asyncio.sleep(1)
            await client.health()
        assert (server.connections, asked) == (4, ["localhost"] * 2)


async def test_a_bare_session_does_send_twice():
    """The trap is there: without us, aiohttp makes two hits of one call."""
    async with (
        Simulator(faults=[Fault.close(charged=True)]) as sim,
        aiohttp.ClientSession(headers={"x-api-key": sim.api_key}) as session,
    ):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.get(f"{sim.url}/v1/tiktok/profiles/x/showcase-products")
        assert sim.ledger.requests == 2


STATUSES = [
    (500, ServerError, 3, 3),
    (502, LookupFailedError, 3, 3),
    (504, ServerError, 3, 3),
    (503, UnavailableError, 5, 0),
]


@pytest.mark.parametrize(("status", "kind", "hits", "maybe"), STATUSES)
@pytest.mark.parametrize("charge", [0, 1])
async def test_server_errors_are_tried_as_documented(status, kind, hits, maybe, charge):
    """500 and 502 are tried three times, each maybe charged; 503 five times, free."""
    charge = charge if maybe else 0
    async with (
        Simulator(faults=[Fault.status(status, charge=charge)]) as sim,
        client_of(sim, retry=Retry()) as client,
    ):
        error = await failure(client.showcase_page(HANDLE, region="US"), kind)
        assert sim.ledger.requests == hits
        assert type(error) is kind
        assert (error.status, error.attempts, error.usage.requests) == (status, hits, hits)
        assert (error.usage.charged, error.usage.maybe) == (0, maybe)
        assert error.usage.maybe >= sim.ledger.charged == charge * hits
        assert (error.handle, error.route, error.cursor) == (HANDLE, SHOWCASE, None)
        assert client.usage == error.usage


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_no_retries_is_one_hit(status):
    """With `Retry.none()` even free failures are not tried again."""
    faults = [Fault.status(status, retry_after="1")]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        error = await failure(client.showcase_page(HANDLE))
        assert sim.ledger.requests == error.attempts == 1


async def test_server_errors_can_be_left_at_one():
    """`server_errors=0` never risks a second charge after a 502."""
    async with (
        Simulator(faults=[Fault.status(502, charge=1)]) as sim,
        client_of(sim, retry=Retry(server_errors=0)) as client,
    ):
        error = await failure(client.showcase_page(HANDLE), LookupFailedError)
        assert sim.ledger.charged == error.usage.maybe == 1


async def test_mixed_failures_are_limited_together():
    """No mix of failures makes more than `attempts` requests, or more risky ones than allowed."""
    faults = [
        Fault.status(503, requests=[1]),
        Fault.close(charged=True, requests=[2]),
        Fault.status(502, requests=[3]),
        Fault.reset(requests=[4]),
    ]
    async with Simulator(faults=faults) as sim, client_of(sim, retry=Retry()) as client:
        error = await failure(client.showcase_page(HANDLE), ConnectionLostError)
        assert sim.ledger.requests == error.attempts == 4
        assert error.usage.maybe == 3


async def test_a_refused_connection_is_tried_five_times_for_free(sending):
    """Where nobody listens nothing is sent: five attempts, no credit at risk."""
    async with raw_server(b"") as server:
        server.api_key = KEY
    events = []
    async with open_client(server, sending, retry=Retry(), on_event=events.append) as client:
        error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
    assert error.attempts == error.usage.requests == 5
    assert (error.usage.charged, error.usage.maybe) == (0, 0)
    assert [type(event) for event in events].count(RequestStarted) == 5
    assert [type(event) for event in events].count(RequestRetried) == 4
    assert (error.handle, error.route) == (HANDLE, SHOWCASE)


async def test_a_name_that_does_not_resolve_is_free():
    """An unknown host is a failed connection."""
    async with Client(KEY, base_url="https://api.socialfetch.invalid", retry=ONCE) as client:
        error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
    assert (error.usage.requests, error.usage.maybe) == (1, 0)


async def test_plain_text_on_a_tls_port_is_free():
    """A handshake that fails sends nothing."""

    async def babble(reader, writer):
        await reader.read(1)
        writer.write(b"no TLS here\r\n" * 20)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Client(KEY, base_url=f"https://127.0.0.1:{port}", retry=ONCE) as client:
        error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
    server.close()
    assert error.usage.maybe == 0


BROKEN = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "bad chunk size": http(
        200, b"xyz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False
    ),
    "cut inside a chunk": http(200, b"ff\r\n{", "Transfer-Encoding: chunked", length=False),
    "no last chunk": http(
        200, chunked(b"{}", end=False), "Transfer-Encoding: chunked", length=False
    ),
    "bad length": http(200, b"{}", "Content-Length: -2", length=False),
    "two lengths": http(200, b"{}", "Content-Length: 3", "Content-Length: 2", length=False),
    "short of its length": http(200, b"{}", "Content-Length: 9", length=False),
    "header without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    "header of no name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "old protocol": b"<html>hello</html>",
    "garbage without end": bytes(40_000),
    "a head cut in the key": b"HTTP/1.1 200 OK\r\nX-Echo: " + KEY[:-1].encode(),
    "a line cut in the key": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 80 + KEY.encode() + b"x" * 90_000,
}


@pytest.mark.parametrize("answer", BROKEN)
@pytest.mark.parametrize("retry", [ONCE, Retry()], ids=["once", "default"])
async def test_broken_http_is_a_lost_answer(answer, retry, sending):
    """What is not HTTP, or breaks off within it, may be charged: one hit an attempt."""
    async with raw_server(BROKEN[answer]) as server:
        server.api_key = KEY
        async with open_client(server, sending, retry=retry) as client:
            error = await failure(client.showcase_page(HANDLE), ConnectionLostError)
        assert server.hits == error.attempts == retry.lost + 1
    assert error.usage.maybe == server.hits
    # What came is not quoted: it can be of any length, and hold a part of the key.
    assert len(str(error)) < 200
    shown = "".join(traceback.format_exception(error))
    assert KEY[:8] not in shown + repr(error.__context__)
    assert "xxx" not in shown


async def test_headers_longer_than_aiohttp_takes_are_passed_over(sending):
    """Proxies add headers of many kilobytes; the answer below them is paid for."""
    lines = [f"X-{n}: {'x' * 16_000}" for n in range(4)]
    policy = "Content-Security-Policy: " + "x" * 60_000
    answer = http(200, b'{"data":{},"meta":{"creditsCharged":1}}', *lines, policy)
    async with raw_server(answer, keep=True) as server:
        server.api_key = KEY
        async with open_client(server, sending) as client:
            for _ in range(2):
                await client.get("/v1/paid")
            assert server.hits == client.usage.charged == 2


async def test_a_half_error_page_is_still_its_status():
    """The status of an error says it all, even if the page that explains it is cut."""
    answer = http(403, b"<p>Forb", "Content-Length: 900", length=False)
    async with told(answer) as (server, client):
        error = await failure(client.showcase_page(HANDLE))
        assert (error.status, server.hits) == (403, 1)
        assert error.usage.maybe == 0


# Redirects and cookies


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_reaches_no_other_origin(status, sending):
    """A redirect is an error that names its target, which is never asked."""
    async with raw_server(http(200, b"{}")) as other:
        target = f"{other.url}/v1/steal?x=1"
        async with (
            Simulator(faults=[Fault.redirect(target, status)]) as sim,
            open_client(sim, sending, retry=Retry()) as client,
        ):
            error = await failure(client.showcase_page(HANDLE), RedirectError)
            assert sim.ledger.requests == 1
        assert (other.connections, other.hits) == (0, 0)
    assert (error.status, error.location, error.attempts) == (status, target, 1)
    assert (error.handle, error.route) == (HANDLE, SHOWCASE)
    assert (error.usage.charged, error.usage.maybe) == (0, 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("absolute", [True, False])
async def test_a_redirect_to_the_same_origin_is_refused_too(status, absolute):
    """Not even the same origin's redirects are followed."""
    async with Simulator() as sim, client_of(sim, retry=Retry()) as client:
        target = sim.url * absolute + "/v1/whoami"
        sim.add_fault(Fault.redirect(target, status, routes=[Route.SHOWCASE]))
        error = await failure(client.showcase_page(HANDLE), RedirectError)
        assert error.location == target
        assert [entry.route for entry in sim.ledger] == [SHOWCASE]


async def test_a_redirect_to_nowhere_is_refused():
    """A redirect without a Location is a redirect."""
    async with told(http(302)) as (server, client):
        error = await failure(client.showcase_page(HANDLE), RedirectError)
        assert (error.location, server.hits) == (None, 1)


async def test_cookies_are_not_sent_back(sending):
    """A cookie that the server sets never comes back."""
    async with (
        Simulator(faults=[Fault.set_cookie()]) as sim,
        open_client(sim, sending) as client,
    ):
        await client.showcase(HANDLE).collect()
        assert sim.ledger.requests > 2
        assert not any(entry.cookie for entry in sim.ledger)


PRESETS = {
    "jar": {"cookies": None},
    "cookies": {"cookies": {"sid": "1"}},
    "header": {"headers": {"Cookie": "sid=1"}},
}


@pytest.mark.parametrize("preset", PRESETS)
async def test_a_borrowed_sessions_cookies_stay_at_home(preset):
    """Cookies that a borrowed session already has are not sent, though the session would."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        Simulator(faults=[Fault.set_cookie()]) as sim,
        aiohttp.ClientSession(cookie_jar=jar, **PRESETS[preset]) as session,
    ):
        session.cookie_jar.update_cookies({"known": "before"}, URL(sim.url))
        async with client_of(sim, session=session) as client:
            await client.showcase(HANDLE, max_pages=2).collect()
            assert not any(entry.cookie for entry in sim.ledger)
        # The proof that they were there to be sent.
        await session.get(f"{sim.url}/health")
        assert sim.ledger.entries[-1].cookie


# Borrowed sessions


async def test_a_borrowed_session_is_not_closed():
    """Closing a client leaves a borrowed session open and usable."""
    async with Simulator() as sim, aiohttp.ClientSession() as session:
        async with client_of(sim, session=session) as client:
            await client.whoami()
        assert not session.closed
        async with session.get(f"{sim.url}/health") as answer:
            assert answer.status == 200
        async with client_of(sim, session=session) as client:
            await client.whoami()


async def test_a_borrowed_sessions_raise_for_status_changes_nothing():
    """Errors are ours, body read, whatever the borrowed session does with statuses."""
    async with (
        Simulator(faults=[Fault.status(403, routes=[Route.BALANCE])]) as sim,
        aiohttp.ClientSession(raise_for_status=True) as session,
        client_of(sim, session=session) as client,
    ):
        error = await failure(client.balance())
        assert (type(error).__name__, error.code) == ("ForbiddenError", "forbidden")
        assert error.request_id


async def test_a_borrowed_sessions_timeout_is_not_used():
    """The client's timeouts hold, not the borrowed session's, in either direction."""
    async with Simulator(latency=Latency.fixed(3)) as sim:
        hasty = aiohttp.ClientTimeout(total=1, sock_read=1, connect=1, sock_connect=1)
        async with (
            aiohttp.ClientSession(timeout=hasty) as session,
            client_of(sim, session=session) as client,
        ):
            assert (await client.showcase_page(HANDLE)).products
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            client_of(sim, session=session, timeout=Timeout(total=2)) as client,
        ):
            await failure(client.showcase_page(HANDLE), RequestTimeoutError)


async def test_a_closed_borrowed_session_is_told_apart():
    """A borrowed session closed by its owner is the caller's mistake, free and not tried again."""
    async with Simulator() as sim:
        session = aiohttp.ClientSession()
        async with client_of(sim, session=session, retry=Retry()) as client:
            await client.whoami()
            await session.close()
            error = await failure(client.showcase_page(HANDLE), ClientStateError)
            assert (error.usage.charged, error.usage.maybe) == (0, 0)
        assert sim.ledger.requests == 1


async def test_a_borrowed_pool_that_others_use_is_no_outage():
    """Waiting for a place in the pool is not waiting for a connection."""
    connector = aiohttp.TCPConnector(limit=1)
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        aiohttp.ClientSession(connector=connector) as session,
        client_of(sim, session=session, timeout=Timeout(connect=0.1)) as one,
        client_of(sim, session=session, timeout=Timeout(connect=0.1)) as other,
    ):
        calls = [client.showcase_page(f"c{n}") for n in range(4) for client in (one, other)]
        pages = await asyncio.gather(*calls)
        assert len(pages) == sim.ledger.charged == 8
        assert one.usage.requests == other.usage.requests == 4


async def test_a_borrowed_session_closed_under_a_run_stops_it():
    """Nothing more is tried: the other creators are skipped, with the reason."""
    async with Simulator() as sim, aiohttp.ClientSession() as session:
        async with (
            client_of(sim, session=session, concurrency=5) as client,
            client.showcases(f"c{n}.5products" for n in range(100)) as run,
        ):
            assert (await anext(run)).status == "complete"
            await session.close()
            rest = [outcome async for outcome in run]
            assert isinstance(run.stopped, ClientStateError)
        assert len(rest) == 99
        assert sum(outcome.status == "skipped" for outcome in rest) >= 89
        assert run.usage.charged <= sim.ledger.charged <= run.usage.charged + run.usage.maybe


async def test_a_borrowed_session_closed_while_a_host_is_looked_up():
    """This is the caller's mistake, and free, since nothing was sent."""

    class Slow(aiohttp.ThreadedResolver):
        async def resolve(self, *_, **__):
            await asyncio.sleep(60)

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Slow()))
    async with Client(KEY, base_url="https://any.test", session=session, retry=Retry()) as client:
        call = asyncio.create_task(client.showcase_page(HANDLE))
        await asyncio.sleep(1)
        await session.close()
        error = await failure(call, ClientStateError)
        assert "borrowed" in str(error)
        assert (error.usage.maybe, client.usage.maybe, client.budget.maybe) == (0, 0, 0)


async def test_a_borrowed_session_of_another_event_loop_is_refused():
    """Opening the client tells it, rather than each call in words of asyncio's."""

    async def make():
        return aiohttp.ClientSession(), asyncio.get_running_loop()

    def elsewhere():
        with asyncio.Runner() as runner:
            session, _ = runner.run(make())
            refused.set_result(session)
            runner.run(asyncio.sleep(0))
            assert done.wait(10)
            runner.run(session.close())

    refused, done = concurrent.futures.Future(), threading.Event()
    thread = asyncio.get_running_loop().run_in_executor(None, elsewhere)
    session = await asyncio.wrap_future(refused)
    client = Client(KEY, base_url="http://127.0.0.1:9", session=session)
    error = await failure(client.__aenter__(), ClientStateError)
    assert "another event loop" in str(error)
    done.set()
    await thread


def test_without_an_event_loop_of_asyncio_a_client_cannot_be_opened():
    """Running it under another library raises an error that says so."""
    entering = Client(KEY).__aenter__()
    with pytest.raises(ClientStateError, match="asyncio"):
        entering.send(None)


@pytest.mark.parametrize("way", ["cancelled", "stopped", "closed"])
async def test_what_ends_while_it_connects_was_not_sent(way, path, deaf_port):
    """Neither the ceiling nor the ledger counts it as maybe charged."""
    archive = Archive(path)
    options = {"base_url": f"http://127.0.0.1:{deaf_port}", "max_credits": 3}
    async with Client(KEY, **options) as client, archive:
        async with client.showcases(["a"], archive=archive) as run:
            iterating = asyncio.create_task(anext(run))
            await asyncio.sleep(1)
            if way == "cancelled":
                iterating.cancel()
            elif way == "stopped":
                run.stop(now=True)
            else:
                await client.aclose()
        await asyncio.gather(iterating, return_exceptions=True)
        assert (client.budget.maybe, client.budget.reserved) == (0, 0)
    usage = await asyncio.to_thread(archive.usage)
    assert usage.maybe == 0


PROXY_ANSWERS = {
    "drops": b"",
    "cut": b"HTTP/1.1 200 Conn",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "refused": http(407, b"no"),
}


@pytest.mark.parametrize("answer", PROXY_ANSWERS.values(), ids=PROXY_ANSWERS)
async def test_a_proxy_that_does_not_lead_on_is_no_connection(answer):
    """What never reached the API is free, and is tried again as a free failure."""
    async with (
        raw_server(answer) as proxy,
        Client(
            KEY, base_url="https://api.test", proxy=proxy.url, retry=Retry(), max_credits=1
        ) as client,
    ):
        error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
        assert error.usage.maybe == client.budget.maybe == 0
        assert error.attempts == proxy.hits == 5


async def test_a_borrowed_sessions_defaults_do_not_leak_in():
    """Its base URL, decompression and middlewares change neither requests nor answers."""
    calls = []

    async def meddle(request, handler):
        calls.append(request)
        return await handler(request)

    async with (
        Simulator() as sim,
        aiohttp.ClientSession(
            base_url="http://127.0.0.1:9/", auto_decompress=False, middlewares=(meddle,)
        ) as session,
        client_of(sim, session=session) as client,
    ):
        page = await client.showcase_page(HANDLE)
        assert page.to_dict()["products"][0]["id"] == sim.showcase(HANDLE)[0]["id"]
    assert calls == []


async def test_a_borrowed_sessions_tracing_sees_each_attempt():
    """Tracing of a borrowed session works: one request start for each attempt."""
    starts, trace = [], aiohttp.TraceConfig()

    async def on_start(_session, _context, params):
        starts.append(params.url.path)

    trace.on_request_start.append(on_start)
    async with (
        Simulator(faults=[Fault.close(times=1)]) as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session, retry=Retry()) as client,
    ):
        await client.showcase_page(HANDLE)
        assert len(starts) == sim.ledger.requests == 2


async def test_a_borrowed_sessions_tracing_may_take_its_time_over_a_timeout():
    """A hook that runs as a request times out is not cut off, and the error stays the same."""
    ends, trace = [], aiohttp.TraceConfig()

    async def on_exception(_session, _context, params):
        await asyncio.sleep(10)
        ends.append(params.url.path)

    trace.on_request_exception.append(on_exception)
    async with (
        Simulator(faults=[Fault.hang()]) as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session, timeout=Timeout(total=8)) as client,
    ):
        error = await failure(client.showcase_page(HANDLE), RequestTimeoutError)
        assert error.usage.maybe == len(ends) == 1


class Socks(aiohttp.TCPConnector):
    """A connector like those for SOCKS, which fails with an error of its own at first."""

    class RefusedError(Exception):
        """An error that is not even an `OSError`."""

    left = 2

    async def _create_connection(self, *args):
        if self.left:
            self.left -= 1
            raise self.RefusedError("refused by the proxy")
        return await super()._create_connection(*args)


async def test_what_a_connector_of_another_library_raises_is_no_connection():
    """It is free and tried again, and does not end a run."""
    async with (
        Simulator() as sim,
        aiohttp.ClientSession(connector=Socks()) as session,
        client_of(sim, session=session, retry=Retry(attempts=2)) as client,
    ):
        error = await failure(client.showcase_page("a"), ConnectionFailedError)
        assert error.attempts == 2
        assert "refused by the proxy" in str(error)
        assert isinstance(error.__cause__, Socks.RefusedError)
        session.connector.left = 1
        outcomes = await client.fetch_showcases(["a.1products", "b.1products"])
        assert {outcome.status for outcome in outcomes} == {"complete"}
        assert (client.usage.maybe, client.usage.charged, sim.ledger.charged) == (0, 2, 2)


@pytest.mark.parametrize("hook", ["on_connection_create_start", "on_request_headers_sent"])
async def test_a_bug_in_a_hook_of_a_borrowed_session_is_no_connection_that_failed(hook):
    """Its exception reaches the caller unchanged, wherever the hook is called."""
    trace = aiohttp.TraceConfig()

    async def buggy(*_):
        raise ZeroDivisionError

    getattr(trace, hook).append(buggy)
    async with (
        Simulator() as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            await client.showcase_page("x")
        assert sim.ledger.requests == 0


async def test_a_bug_in_a_response_of_a_borrowed_session_is_no_connection_that_was_lost():
    """Its exception reaches the caller unchanged: a retry would be paid for again."""

    class Buggy(aiohttp.ClientResponse):
        async def start(self, *_):
            raise ZeroDivisionError

    async with (
        Simulator() as sim,
        aiohttp.ClientSession(response_class=Buggy) as session,
        client_of(sim, session=session, retry=Retry()) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            await client.showcase_page("x")
        assert (client.usage.requests, client.usage.maybe) == (1, 1)


async def test_what_a_session_has_read_is_not_held_until_it_is_collected():
    """Memory stays level even if the garbage collector runs seldom or never."""
    async with Simulator() as sim, client_of(sim, trust_env=True) as client:
        gc.collect()
        gc.disable()
        try:
            for number in range(5):
                await client.showcase_page(f"x{number}")
            kept = [each for each in gc.get_objects() if isinstance(each, aiohttp.ClientResponse)]
        finally:
            gc.enable()
        assert len(kept) <= 1


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", ConnectionLostError),
        (http(502), LookupFailedError),
        (http(503), UnavailableError),
        (http(402), InsufficientCreditsError),
    ],
    ids=["lost", "502", "503", "402"],
)
async def test_a_session_that_tries_again_by_itself_sends_once(answer, kind):
    """Its second request could be charged, and nobody would count it; the first is counted."""

    def tenacious():
        class Tenacious(aiohttp.ClientSession):
            async def _request(self, *args, **options):
                with suppress(Exception):
                    response = await super()._request(*args, **options)
                    if response.status < 400:
                        return response
                return await super()._request(*args, **options)

        return Tenacious(connector=aiohttp.TCPConnector(limit=1))

    async with (
        raw_server(answer) as server,
        tenacious() as session,
        Client(KEY, base_url=server.url, session=session, retry=ONCE) as client,
    ):
        for hits in 1, 2:
            error = await failure(client.showcase_page("x"), kind)
            assert server.hits == hits
            assert error.usage.maybe == (kind in {ConnectionLostError, LookupFailedError})


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")
async def test_a_session_of_another_class_sees_in_aiohttps_words_that_nothing_was_sent():
    """It may have a remedy; only what would be sent again must not look as aiohttp's own."""
    seen = []

    class Slow(aiohttp.TCPConnector):
        async def connect(self, *_, **__):
            raise aiohttp.ConnectionTimeoutError("not yet")

    def attentive():
        class Attentive(aiohttp.ClientSession):
            async def _request(self, *args, **options):
                try:
                    return await super()._request(*args, **options)
                except Exception as error:
                    seen.append(type(error))
                    raise

        return Attentive(connector=Slow())

    async with (
        Simulator() as sim,
        attentive() as session,
        client_of(sim, session=session) as client,
    ):
        error = await failure(client.showcase_page("x"), ConnectionFailedError)
        assert error.usage.maybe == 0
        assert seen == [aiohttp.ConnectionTimeoutError]


# Width and timeouts


async def fetch_all(client, count):
    """Fetch the first pages of many creators at once."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(client.showcase_page(f"creator{number}"))


async def test_waiting_for_a_place_is_not_in_the_timeout():
    """Twenty requests of 300 ms, two at a time, all fit a timeout of a second each."""
    async with (
        Simulator(latency=Latency.fixed(0.3)) as sim,
        client_of(sim, concurrency=2, timeout=Timeout(total=1, read=1, connect=1)) as client,
    ):
        loop = asyncio.get_running_loop()
        started = loop.time()
        await fetch_all(client, 20)
        assert sim.ledger.max_in_flight == 2
        assert 2.9 < loop.time() - started < 3.5


@pytest.mark.parametrize("limits", [{"limit": 2}, {"limit": 50, "limit_per_host": 2}])
async def test_a_small_borrowed_pool_is_not_in_the_timeout(limits):
    """A borrowed connector that lets out two at a time does not eat into the timeouts."""
    async with (
        Simulator(latency=Latency.fixed(0.3)) as sim,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(**limits)) as session,
        client_of(sim, session=session, concurrency=100, timeout=Timeout(total=1)) as client,
    ):
        await fetch_all(client, 20)
        assert sim.ledger.max_in_flight == 2
        async with client.showcases([f"r{n}.1products" for n in range(20)], concurrency=50) as run:
            assert {outcome.status async for outcome in run} == {"complete"}
        assert sim.ledger.max_in_flight == 2


async def test_a_borrowed_pool_without_a_limit_leaves_it_to_the_client():
    """Like the pools of crawlers, which have no limit."""
    async with (
        Simulator(latency=Latency.fixed(0.3)) as sim,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        client_of(sim, session=session, concurrency=5) as client,
    ):
        await fetch_all(client, 20)
        assert sim.ledger.max_in_flight == 5


async def test_waiting_for_the_rate_is_not_in_the_timeout():
    """Requests held back by the rate do not time out."""
    async with (
        Simulator(latency=Latency.fixed(0.3)) as sim,
        client_of(sim, rate=5, burst=1, timeout=Timeout(total=1)) as client,
    ):
        await fetch_all(client, 20)
        assert sim.ledger.requests == 20


async def test_waiting_out_a_pause_is_not_in_the_timeout():
    """Requests held back by a Retry-After do not time out."""
    fault = Fault.status(503, retry_after="30", requests=[1])
    async with (
        Simulator(faults=[fault], latency=Latency.fixed(0.1)) as sim,
        client_of(sim, retry=Retry(), concurrency=2, timeout=Timeout(total=1)) as client,
    ):
        await fetch_all(client, 6)
        assert sim.ledger.requests == 7


@pytest.mark.parametrize("width", [100, 500])
async def test_a_wide_client_is_that_wide(width):
    """As many requests as `concurrency` says are really in flight at once, and no more."""
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, concurrency=width) as client,
    ):
        await fetch_all(client, width + 60)
        assert sim.ledger.max_in_flight == width


async def test_a_wide_run_widens_its_client():
    """A run of 500 really holds 500 in flight over a client of 100, which is 100 again after."""
    async with Simulator(latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        handles = (f"wide{number}.1products" for number in range(600))
        async with client.showcases(handles, concurrency=500) as run:
            assert {outcome.status async for outcome in run} == {"complete"}
        assert sim.ledger.max_in_flight == 500
    async with Simulator(latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        async with client.showcases(["one.1products"], concurrency=500) as run:
            assert [outcome.status async for outcome in run] == ["complete"]
        await fetch_all(client, 150)
        assert sim.ledger.max_in_flight == 100


@pytest.mark.parametrize(
    ("limits", "seconds", "words"),
    [
        (Timeout(total=4), 4, "it took too long"),
        (Timeout(total=100, read=3), 3, "nothing came for too long"),
    ],
    ids=["total", "read"],
)
async def test_a_silent_server_times_out_on_time(limits, seconds, words):
    """A server that says nothing is given up after `total` or `read`, whichever is first."""
    async with Simulator(faults=[Fault.hang()]) as sim, client_of(sim, timeout=limits) as client:
        loop = asyncio.get_running_loop()
        started = loop.time()
        error = await failure(client.showcase_page(HANDLE), RequestTimeoutError)
        assert seconds <= loop.time() - started < seconds + 0.1
        assert error.usage.maybe == 1
        assert words in str(error)


@pytest.mark.real_time
@pytest.mark.parametrize("limits", [Timeout(read=0.3), Timeout(total=0.3)], ids=["read", "total"])
async def test_an_answer_that_came_while_the_event_loop_was_held_up_is_taken(limits):
    """An answer in the socket is paid for: a program that was stopped for a while reads it."""
    with running(latency=Latency.fixed(0.1)) as sim:
        async with client_of(sim, timeout=limits, retry=ONCE) as client:
            calls = [asyncio.create_task(client.showcase_page(f"x{n}")) for n in range(5)]
            while sim.ledger.max_in_flight < len(calls):  # noqa: ASYNC110 - of another thread
                await asyncio.sleep(0.01)
            until = time.monotonic() + 0.6
            while time.monotonic() < until:
                pass
            pages = await asyncio.gather(*calls)
            assert sim.ledger.requests == len(pages) == client.usage.charged
            # A silent server is still given up.
            sim.add_fault(Fault.hang())
            await failure(client.showcase_page("y"), RequestTimeoutError)


@pytest.mark.real_time
async def test_time_in_which_the_event_loop_was_held_up_does_not_count():
    """A body too large for the sockets' buffers is still to be read then, which takes a while."""
    body = enveloped({"x": "y" * 16_000_000})

    def serve(server):
        connection, _ = server.accept()
        with connection, suppress(ConnectionError):
            connection.recv(65_536)
            connection.sendall(http(200, body))

    def hold_up():
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve, args=(server,), daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        limits = {"timeout": Timeout(total=0.3), "max_body_bytes": 1 << 25}
        async with Client(KEY, base_url=url, retry=ONCE, **limits) as client:
            asyncio.get_running_loop().call_later(0.003, hold_up)
            await client.get("/v1/x")
            assert client.usage.bytes == len(body)
        serving.join()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("limits", [Timeout(read=8), Timeout(total=8)], ids=["read", "total"])
@pytest.mark.parametrize(
    ("early", "held_up"), [(0, 0), (0.1, 0.5), (0.1, 100), (0.9, 1.5), (0.9, 100)]
)
async def test_an_answer_that_comes_just_in_time_is_taken(early, held_up, limits):
    """The loop hears of the answer and of the time being up in one turn: the answer counts."""
    loop = asyncio.get_running_loop()

    async def answer(_head, writer):
        await asyncio.sleep(8 - early)
        writer.write(http(200, b'{"data":{},"meta":{"creditsCharged":1}}'))
        loop.hold_up(held_up)

    async with told(answer, timeout=limits) as (server, client):
        await client.get("/v1/paid")
        assert server.hits == client.usage.charged == 1


@pytest.mark.usefixtures("either_way")
async def test_pieces_that_each_come_just_in_time_are_waited_for():
    """When more has come, it no longer matters that the time was up once."""

    async def answer(_head, writer):
        await asyncio.sleep(8)
        writer.write(http(200, b"", "Content-Length: 39", length=False))
        # Just within the hundredth of a second that an answer gets to be heard of.
        await asyncio.sleep(8.01)
        writer.write(b'{"data":{},"meta":')
        await asyncio.sleep(7)
        writer.write(b'{"creditsCharged":1}}')

    async with told(answer, timeout=Timeout(total=100, read=8)) as (server, client):
        await client.get("/v1/paid")
        assert server.hits == client.usage.charged == 1


@pytest.mark.parametrize("limits", [Timeout(read=8), Timeout(total=8)], ids=["read", "total"])
@pytest.mark.parametrize(("held_up", "later"), [(100, 5), (3, 6.5)])
async def test_who_was_held_up_waits_that_much_longer(held_up, later, limits):
    """The server may have been held up too, for example if the whole machine was stopped."""
    loop = asyncio.get_running_loop()

    async def answer(_head, writer):
        loop.hold_up(held_up)
        await asyncio.sleep(later)
        writer.write(http(200, b'{"data":{},"meta":{"creditsCharged":1}}'))

    async with told(answer, timeout=limits) as (server, client):
        await client.get("/v1/paid")
        assert server.hits == client.usage.charged == 1


@pytest.mark.parametrize("early", [-0.01, 0, 0.01], ids=["before", "with", "after"])
async def test_a_caller_that_is_cancelled_as_the_time_is_up(early):
    """Cancelled just as the time is up, a call ends once, in either way; the client goes on."""
    async with (
        Simulator(faults=[Fault.hang(times=1)]) as sim,
        client_of(sim, timeout=Timeout(total=2)) as client,
    ):
        loop = asyncio.get_running_loop()
        calling = asyncio.create_task(client.showcase_page(HANDLE))
        loop.call_later(2 + early, calling.cancel)
        ended = (await asyncio.gather(calling, return_exceptions=True))[0]
        assert isinstance(ended, asyncio.CancelledError | RequestTimeoutError)
        assert loop.time() < 1000 + 2 + 0.1
        assert client.usage.maybe == sim.ledger.requests == 1
        assert (await client.showcase_page(HANDLE)).products


@pytest.mark.parametrize("stops_at", [2.007, 2.015], ids=["before", "after"])
async def test_a_run_that_is_stopped_as_the_time_is_up(stops_at):
    """If both come in one turn of the event loop, the stop that the user asked for counts."""
    loop = asyncio.get_running_loop()
    async with (
        Simulator(faults=[Fault.hang()]) as sim,
        client_of(sim, timeout=Timeout(total=2)) as client,
        client.showcases([HANDLE]) as run,
    ):
        # The request is ended at 2.01, but nobody looks at the clock before 2.055.
        loop.call_later(2.005, loop.hold_up, 0.05)
        loop.call_later(stops_at, partial(run.stop, now=True))
        outcome = await anext(run)
        assert isinstance(outcome.error, RunStoppedError)
        assert run.usage.maybe == sim.ledger.requests == 1


@pytest.mark.parametrize(
    "limits",
    [
        Timeout(connect=2),
        Timeout(total=2),
        Timeout(read=2, total=2, connect=3),
        Timeout(read=1, connect=2),
    ],
    ids=["connect", "total", "both", "not read"],
)
async def test_a_connection_that_is_never_accepted_is_free(sending, limits, deaf_port):
    """Giving up on the connection itself costs nothing, since nothing was sent."""
    sim = SimpleNamespace(url=f"http://127.0.0.1:{deaf_port}", api_key=KEY)
    async with open_client(sim, sending, timeout=limits) as client:
        loop = asyncio.get_running_loop()
        started = loop.time()
        error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
        assert 2 <= loop.time() - started < 4
    assert (error.usage.charged, error.usage.maybe) == (0, 0)
    # Said in words, whichever timer it was that went off.
    assert "it took too long" in str(error) or "Connection timeout to host" in str(error)


async def test_a_closed_client_sends_nothing_through_a_borrowed_session():
    """A listing of a closed client is refused, and one under way ends."""
    async with Simulator(latency=Latency.fixed(1)) as sim, aiohttp.ClientSession() as session:
        async with Client(sim.api_key, base_url=sim.url, session=session) as client:
            before = client.showcase("x.90products")
            under_way = asyncio.create_task(client.showcase("y.90products").collect())
            await asyncio.sleep(1.5)
        with pytest.raises(ClientStateError, match="closed") as caught:
            await before.collect()
        assert caught.value.handle == "x.90products"
        with pytest.raises(ClientStateError) as caught:
            await under_way
        assert len(caught.value.partial) == 20
        assert caught.value.cursor is not None
        assert caught.value.usage == Usage(
            requests=2, charged=1, maybe=1, pages=1, products=20, bytes=caught.value.usage.bytes
        )
        hits = sim.ledger.requests
        await asyncio.sleep(10)
        assert sim.ledger.requests == hits == 2


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".test"])
async def test_a_host_that_cannot_be_is_no_connection(host):
    """A host name that cannot be encoded is a typed, free failure."""
    async with Client(KEY, base_url=f"https://{host}", retry=Retry.none()) as client:
        error = await failure(client.showcase_page("x"), ConnectionFailedError)
        assert error.usage.maybe == 0


@pytest.mark.parametrize("proxy", ["http://[::1", "http://h:99999", "://", "//h:1", "h:1"])
async def test_a_proxy_of_the_environment_that_is_no_url_is_no_connection(proxy, monkeypatch):
    """The environment's proxy can be any text; if it is not a URL, nothing is sent."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    options = {"base_url": "https://127.0.0.1:9", "trust_env": True, "retry": ONCE}
    async with Client(KEY, **options) as client:
        error = await failure(client.showcase_page("x"), ConnectionFailedError)
        assert error.usage.maybe == 0
        assert proxy != "h:1" or "not a usable URL: h:1" in str(error)


async def test_a_session_closed_in_between_is_no_attempt():
    """A retry that could not even be tried counts neither as an attempt nor as a retry."""
    closing = None

    def on_event(event):
        nonlocal closing
        if isinstance(event, RequestRetried):
            closing = asyncio.create_task(session.close())

    async with (
        Simulator(faults=[Fault.status(503)]) as sim,
        aiohttp.ClientSession() as session,
        client_of(sim, session=session, retry=Retry(), on_event=on_event) as client,
    ):
        error = await failure(client.showcase_page("x"), ClientStateError)
        await closing
        assert sim.ledger.requests == error.attempts == client.usage.requests == 1
        assert client.usage.retries == 0


async def test_a_hook_that_raises_before_anything_is_sent():
    """That is not a failure to connect: the exception arrives unchanged."""
    trace = aiohttp.TraceConfig()

    async def hook(*_):
        raise ValueError("of the hook")

    trace.on_request_start.append(hook)
    async with (
        Simulator() as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        Client(sim.api_key, base_url=sim.url, session=session) as client,
    ):
        with pytest.raises(ValueError, match="of the hook"):
            await client.showcase_page("x")
        assert sim.ledger.requests == 0


@pytest.mark.parametrize(
    ("hears", "faults"),
    [("on_response_chunk_received", []), ("on_request_exception", [Fault.hang(charged=True)])],
    ids=["answer", "timeout"],
)
async def test_what_a_hook_of_a_borrowed_session_raises_is_counted(hears, faults):
    """A foreign exception arrives unchanged, with its request counted as maybe charged."""
    trace = aiohttp.TraceConfig()

    async def hook(*_):
        raise ZeroDivisionError

    getattr(trace, hears).append(hook)
    async with (
        Simulator(faults=faults) as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session, timeout=Timeout(total=2), retry=Retry()) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            await client.showcase_page("x")
        assert client.usage.maybe == sim.ledger.charged == 1
        with pytest.raises(ZeroDivisionError):
            await client.fetch_showcases(["x"])
        assert client.usage.maybe == sim.ledger.charged == 2


async def test_a_hook_that_raises_takes_no_other_calls_connection():
    """When it raises, its answer is read already, and the connection has the next request."""
    trace, seen = aiohttp.TraceConfig(), []

    async def hook(_session, _context, params):
        seen.append(params.url.path)
        if len(seen) == 1:
            await asyncio.sleep(0.5)
            raise ZeroDivisionError

    trace.on_request_end.append(hook)
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        aiohttp.ClientSession(
            trace_configs=[trace], connector=aiohttp.TCPConnector(limit=1)
        ) as session,
        client_of(sim, session=session, concurrency=1) as one,
        client_of(sim, session=session, concurrency=1) as other,
    ):
        ended = await asyncio.gather(
            one.showcase_page("x"), other.showcase_page("y"), return_exceptions=True
        )
        assert isinstance(ended[0], ZeroDivisionError)
        assert ended[1].products
        assert one.usage.maybe + other.usage.charged == sim.ledger.requests == 2


async def test_what_cuts_a_call_off_from_within_says_what_it_cost():
    """A hook of a borrowed session that cancels, though nobody has, ends the call, counted."""
    trace = aiohttp.TraceConfig()

    async def hook(*_):
        raise asyncio.CancelledError

    trace.on_response_chunk_received.append(hook)
    async with (
        Simulator() as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        Client(sim.api_key, base_url=sim.url, session=session) as client,
    ):
        error = await failure(client.showcase_page("x"), ClientStateError)
        assert error.usage.maybe == client.usage.maybe == sim.ledger.charged == 1
        assert error.attempts == 1
