"""What several tests share: clients of a simulator, and a server that says just what it is told."""

import asyncio
import gc
import inspect
import json
import sqlite3
import time
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from anyio.from_thread import start_blocking_portal

import asyncsfk
from asyncsfk import Client, Retry, SfkError
from asyncsfk.simulator import Simulator

#: The route whose pages cost a credit, as errors and events name it.
SHOWCASE = "/v1/tiktok/profiles/{handle}/showcase-products"

#: A key that can be recognised wherever it turns up.
KEY = "sfk_Needle7Xq9ZpLw3RtY"

ONCE = Retry.none()

PACKAGE = Path(asyncsfk.__file__).parent


def client_of(sim, **options):
    """Make a client of a simulator; each call is one attempt unless told otherwise."""
    return Client(sim.api_key, base_url=sim.url, **{"retry": ONCE, **options})


@asynccontextmanager
async def open_client(sim, sending, **options):
    """Open a client that sends in the way that the fixture `sending` names."""
    async with AsyncExitStack() as stack:
        if sending == "borrowed":
            options["session"] = await stack.enter_async_context(aiohttp.ClientSession())
        yield await stack.enter_async_context(client_of(sim, **options))


async def failure(awaitable, kind=SfkError):
    """Await what must fail; return the error."""
    with pytest.raises(kind) as caught:
        await awaitable
    return caught.value


def plain(products):
    """Return products as the API shows them."""
    return [product.to_dict() for product in products]


async def outcomes_of(run):
    """Iterate a run to its end."""
    return [outcome async for outcome in run]


async def run_through(client, handles, **options):
    """Follow a run over handles to its end; return the run and the outcomes."""
    async with client.showcases(handles, **options) as run:
        return run, await outcomes_of(run)


async def turns(count):
    """Let the event loop turn `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


def wait_for(condition, seconds=30):
    """Wait in real time for something that another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def ours():
    """Return the tasks that run the package's own code: not those of tests or simulators."""
    return [task for task in asyncio.all_tasks() if _is_ours(task)]


def _is_ours(task):
    code = getattr(task.get_coro(), "cr_code", None)
    file = Path(code.co_filename if code else "")
    return file.is_relative_to(PACKAGE) and not file.is_relative_to(PACKAGE / "simulator")


def js(value):
    """Return a value as the bytes of its JSON."""
    return json.dumps(value).encode()


def enveloped(data, /, charged=1, **meta):
    """Return the body of a good answer; ``meta`` is what its ``meta`` holds besides the price."""
    return js({"data": data, "meta": {"creditsCharged": charged, **meta}})


def http(status, body=b"", /, *lines, length=True):
    """Make the bytes of an answer; `lines` are further headers."""
    head = [f"HTTP/1.1 {status} Told", *lines]
    if length:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def chunked(*pieces, end=True):
    """Make a chunked body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return body + b"0\r\n\r\n" * end


#: Good answers: to `whoami`, and to any request for a page, with nothing on it.
USER = http(200, enveloped({"user": {"id": "u"}}, charged=0))
EMPTY = http(200, enveloped({"products": [], "reviews": [], "page": {"hasMore": False}}))


def sql(path, statement, *parameters):
    """Run a statement on a file; return the rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


class RawServer:
    """Answers every request on a real socket with the bytes that it was made with.

    Args:
        answer: Bytes, or a function that returns them for a request's head, or a coroutine function
            of the head and the stream writer, which writes by itself.
        keep: Wait for the next request on the same connection, rather than close it.
    """

    def __init__(self, answer, *, keep=False):
        self._answer = answer
        self._keep = keep
        self._tasks = set()
        self.connections = 0
        self.heads = []

    @property
    def hits(self):
        """How many requests arrived."""
        return len(self.heads)

    @property
    def targets(self):
        """The targets of the requests, as they were on the wire."""
        return [head.split(b" ", 2)[1].decode("latin-1") for head in self.heads]

    def headers(self, at=-1):
        """Return the headers of a request, with names in lower case."""
        lines = self.heads[at].decode("latin-1").split("\r\n")[1:]
        pairs = [line.split(": ", 1) for line in lines if line]
        return {name.lower(): value for name, value in pairs}

    async def serve(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.heads.append(head)
                    await self._say(head, writer)
                    if not self._keep:
                        break
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.close()

    async def _say(self, head, writer):
        if inspect.iscoroutinefunction(self._answer):
            await self._answer(head, writer)
            return
        writer.write(self._answer if isinstance(self._answer, bytes) else self._answer(head))
        await writer.drain()

    async def aclose(self):
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def raw_server(answer, **options):
    """Run a `RawServer`, whose address is its `url`."""
    raw = RawServer(answer, **options)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, backlog=4096)
    raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()
        await raw.aclose()


@asynccontextmanager
async def told(answer, *, keep=False, **options):
    """Run a `RawServer` and a client of it that tries once; yield both."""
    options = {"api_key": KEY, "retry": ONCE, **options}
    async with (
        raw_server(answer, keep=keep) as server,
        Client(base_url=server.url, **options) as client,
    ):
        yield server, client


@contextmanager
def running(**settings):
    """Run a simulator on a loop and thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Simulator(**settings)) as simulator,
    ):
        yield simulator


class Grown:
    """Measures by how much the memory that Python holds has grown within a ``with``."""

    def __enter__(self):
        gc.collect()
        tracemalloc.start()
        return self

    def __exit__(self, *_):
        self.now, self.peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
