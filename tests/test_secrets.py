"""The key goes to its origin and shows nowhere: all that is public is searched for it."""

import copy
import json
import logging
import pickle
import subprocess
import sys
import traceback
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec
import pytest
from rich.traceback import Traceback

import asyncsfk
from asyncsfk import (
    Archive,
    Client,
    Config,
    ConfigurationError,
    ConnectionFailedError,
    ConnectionLostError,
    ForbiddenError,
    Retry,
    SfkError,
    Timeout,
    UndecodableError,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import KEY, ONCE, chunked, client_of, enveloped, failure, http, raw_server, told

HANDLE = "long.90products"
PACKAGE = str(Path(asyncsfk.__file__).parent)

#: No part of the key this long may show.
PART = 8
PARTS = {KEY[at : at + PART] for at in range(4, len(KEY) - PART + 1)}


def shows_key(text):
    if isinstance(text, bytes | bytearray):
        text = bytes(text).decode("latin-1")
    return any(part in text for part in PARTS)


def assert_hidden(value):
    """Fail if the key shows in a value, or in anything public that can be reached from it."""
    seen, queue = set(), [("value", value)]
    while queue:
        path, value = queue.pop()
        if id(value) in seen or value is None or isinstance(value, type | int | float):
            continue
        seen.add(id(value))
        if isinstance(value, str | bytes | bytearray):
            # str() of a subclass gives the text that a repr may hide.
            plain = str(value) if isinstance(value, str) else value
            assert not shows_key(plain), path
            continue
        for show in (repr, str, format, ascii):
            assert not shows_key(show(value)), f"{show.__name__}({path})"
        queue += [(f"{path}{step}", inner) for step, inner in reachable(value)]


def reachable(value):
    """Give what a user can get at from a value."""
    if isinstance(value, dict):
        yield from ((f".keys()[{key!r:.20}]", key) for key in value)
        yield from ((f"[{key!r:.20}]", inner) for key, inner in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{at}]", inner) for at, inner in enumerate(value))
    if isinstance(value, BaseException):
        yield ".args", value.args
        yield ".__cause__", value.__cause__
        yield ".__context__", value.__context__
    if isinstance(value, msgspec.Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif type(value).__module__.startswith("asyncsfk"):
        for name in dir(value):
            if not name.startswith("_"):
                try:
                    inner = getattr(value, name)
                except SfkError:
                    continue
                if not callable(inner):
                    yield f".{name}", inner


def assert_unpickled(value):
    """Fail if the key is in a pickle of any protocol."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert not shows_key(pickle.dumps(value, protocol))


def trace_of(error):
    """Write a traceback with its variables, except those of the tests themselves."""
    told_so = traceback.TracebackException.from_exception(error, capture_locals=True)
    queue, texts = [told_so], []
    while queue:
        told_so = queue.pop()
        for frame in told_so.stack:
            if not frame.filename.startswith(str(Path(__file__).parent)):
                texts += [
                    f"{frame.name}: {name} = {text}" for name, text in (frame.locals or {}).items()
                ]
        texts += told_so.format_exception_only()
        queue += [each for each in (told_so.__cause__, told_so.__context__) if each is not None]
        queue += getattr(told_so, "exceptions", None) or []
    return texts


def rich_trace_of(error):
    """Write the variables of a traceback as rich does, which goes by the fields of a struct."""
    trace = Traceback.extract(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=10_000
    )
    return [
        f"{frame.name}: {name} = {node}"
        for stack in trace.stacks
        for frame in stack.frames
        if not frame.filename.startswith(str(Path(__file__).parent))
        for name, node in (frame.locals or {}).items()
    ]


def assert_untraced(error):
    """Fail if the key shows in an error's traceback, plain or with all variables."""
    assert not shows_key("".join(traceback.format_exception(error)))
    leaks = [text for text in trace_of(error) + rich_trace_of(error) if shows_key(text)]
    assert not leaks, "\n".join(leaks)


def assert_error_hidden(error):
    assert_hidden(error)
    assert_unpickled(error)
    assert not shows_key(json.dumps(error.to_dict()))
    assert_untraced(error)


class Listener:
    """Gathers events and log records of everybody, and what they show."""

    def __init__(self, caplog):
        caplog.set_level(logging.DEBUG)
        for name in ("asyncsfk", "asyncsfk.simulator", "aiohttp", "aiohttp.client", "asyncio"):
            caplog.set_level(logging.DEBUG, logger=name)
        self.caplog = caplog
        self.events = []

    def check(self):
        assert self.events
        for event in self.events:
            assert_hidden(event)
            assert_unpickled(event)
            assert not shows_key(msgspec.json.encode(event))
        for record in self.caplog.records:
            assert not shows_key(record.getMessage())
            assert_hidden(record.args)
            if record.exc_info:
                assert_untraced(record.exc_info[1])
        assert not shows_key(self.caplog.text)


@pytest.fixture
def listener(caplog):
    return Listener(caplog)


def secret_client(sim, listener=None, **options):
    on_event = None if listener is None else listener.events.append
    return Client(
        KEY,
        base_url=sim.url,
        **{"retry": ONCE, "timeout": Timeout(total=10), "on_event": on_event, **options},
    )


FAILURES = {
    "400": Fault.status(400),
    "401": Fault.status(401),
    "402": Fault.status(402, checkout_url="https://pay.example/"),
    "403": Fault.status(403, body="html"),
    "404": Fault.status(404),
    "418": Fault.status(418),
    "429": Fault.status(429, retry_after="1"),
    "500": Fault.status(500, body="problem"),
    "502": Fault.status(502),
    "503": Fault.status(503, body="empty"),
    "redirect": Fault.redirect("http://127.0.0.1:9/"),
    "close": Fault.close(),
    "reset": Fault.reset(),
    "truncated": Fault.truncate(),
    "truncated chunked": Fault.truncate(chunked=True),
    "garbage": Fault.garbage(),
    "hang": Fault.hang(),
    "drip": Fault.drip(chunk=1, interval=1),
    "oversized": Fault.oversized(2**18),
    "bomb": Fault.gzip_bomb(2**22),
    "utf8": Fault.invalid_utf8(),
    "nan": Fault.nan(),
    "nested": Fault.deep_nesting(),
    "type": Fault.wrong_type(),
    "html": Fault.not_json(),
    "loop": Fault.cursor_loop(),
    "no cursor": Fault.has_more_without_cursor(),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_no_failure_shows_the_key(name, listener, sending):
    """No error raised for real shows the key, nor do its traceback, pickle, events and logs."""
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(Simulator(api_key=KEY, faults=[FAILURES[name]]))
        session = None
        if sending == "borrowed":
            session = await stack.enter_async_context(aiohttp.ClientSession())
        client = await stack.enter_async_context(
            secret_client(sim, listener, session=session, max_body_bytes=2**17, retry=Retry())
        )
        error = await failure(client.showcase(HANDLE).collect())
        assert_error_hidden(error)
        (outcome,) = await client.fetch_showcases([HANDLE])
        assert_error_hidden(outcome.error)
        assert_hidden(outcome)
        assert not shows_key(outcome.to_json())
        assert_unpickled(outcome)
        assert_hidden(client)
        for entry in sim.ledger:
            assert entry.authorized
            assert not shows_key(repr(entry))
    listener.check()


async def test_default_logging_shows_no_key(listener):
    """Without `on_event` the log shows what happens, and no key."""
    faults = [Fault.status(503, times=1), Fault.close(times=1)]
    async with (
        Simulator(api_key=KEY, faults=faults) as sim,
        Client(KEY, base_url=sim.url) as client,
    ):
        await client.fetch_showcases(["a.1products", "b.45products"])
    assert any("Paused" in record.getMessage() for record in listener.caplog.records)
    listener.events = ["none"]
    listener.check()


async def test_no_success_shows_the_key(listener):
    """Nothing that a successful call returns shows the key."""
    async with Simulator(api_key=KEY, latency=Latency.fixed(0.1)) as sim:
        async with secret_client(sim, listener, user_agent="ours/1", rate=100) as client:
            answers = [
                await client.showcase_page(HANDLE),
                await client.tiktok_profile(HANDLE),
                await client.instagram_profile(HANDLE),
                await client.review_page(product_id="1729"),
                await client.whoami(),
                await client.balance(),
                await client.health(),
                await client.get("/v1/balance"),
                *await client.fetch_showcases(["a", "b", ".."]),
            ]
            for answer in answers:
                assert_hidden(answer)
                assert_unpickled(answer)
            listing = client.showcase(HANDLE)
            assert_hidden(listing)
            async with client.showcases(["c", "d"]) as run:
                async for outcome in run:
                    assert_hidden([outcome, run, run.progress, run.usage])
                assert_unpickled([run.progress, run.usage])
                assert_hidden(run)
            assert_hidden([client, client.usage, client.config])
        assert_hidden([client, client.config])
        assert all(entry.authorized for entry in sim.ledger if entry.route != "/health")
        assert not any(entry.authorized for entry in sim.ledger if entry.route == "/health")
        assert not any(shows_key(entry.path) for entry in sim.ledger)
        assert not any("sfk_" in entry.path for entry in sim.ledger)
    listener.check()


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:9", "https://127.0.0.1:9", "https://nowhere.invalid"]
)
async def test_no_connection_failure_shows_the_key(base_url, listener):
    """Failures to connect do not show the key, with all their causes and variables."""
    options = {"base_url": base_url, "retry": ONCE, "on_event": listener.events.append}
    async with Client(KEY, **options) as client:
        error = await failure(client.showcase_page(HANDLE))
    assert_error_hidden(error)
    listener.check()


async def test_a_proxy_sees_no_key():
    """A proxy on the way to the API is asked for a tunnel, without the key; its refusal is free."""
    async with raw_server(http(407, b"no")) as proxy:
        options = {"base_url": "https://api.example", "proxy": proxy.url, "retry": ONCE}
        async with Client(KEY, **options) as client:
            error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
        assert error.usage.maybe == 0
        assert proxy.heads[0].startswith(b"CONNECT api.example:443 ")
        assert not any(shows_key(head) for head in proxy.heads)
    assert_error_hidden(error)


async def test_a_proxy_of_the_environment_sees_no_key(monkeypatch):
    """Plain http, which is for this machine, does not go through the environment's proxy."""
    async with raw_server(http(407, b"no")) as proxy, Simulator() as sim:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        async with client_of(sim, trust_env=True) as client:
            await client.showcase_page(HANDLE)
        assert (sim.ledger.requests, proxy.connections) == (1, 0)


@pytest.mark.parametrize("given", ["environment", "session"])
async def test_a_proxy_of_a_borrowed_session_sees_no_key(given, monkeypatch):
    """Nor does it go through a borrowed session's proxy, unless the caller insists."""
    async with raw_server(http(200, enveloped({"status": "ok"}))) as proxy, Simulator() as sim:
        monkeypatch.setenv("http_proxy", proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        own = {"trust_env": True} if given == "environment" else {"proxy": proxy.url}
        async with aiohttp.ClientSession(**own) as session:
            async with client_of(sim, session=session) as client:
                await client.showcase_page(HANDLE)
            assert (sim.ledger.requests, proxy.connections) == (1, 0)
            async with client_of(sim, session=session, allow_insecure_http=True) as client:
                await client.get("/v1/any")
        assert proxy.targets == [f"{sim.url}/v1/any"]


@pytest.mark.parametrize("url", ["me:PASSWD@h:1", "http://me:PASSWD@h:99999"])
async def test_the_password_of_a_proxy_that_is_no_url_does_not_show(url, monkeypatch):
    """Nor in the message that refuses it."""
    monkeypatch.setenv("https_proxy", url)
    async with Client(KEY, base_url="https://api.example", trust_env=True, retry=ONCE) as client:
        error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
    assert "PASSWD" not in repr((error, error.__cause__, error.__context__)) + str(error)


@pytest.mark.parametrize("answer", [b"", http(200)], ids=["refused", "dropped"])
async def test_the_password_of_a_proxy_of_the_environment_does_not_show(answer, monkeypatch):
    """aiohttp's error on which connection failed holds the password beside the URL."""
    async with raw_server(answer) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//user:PASSWD@"))
        options = {"base_url": "https://api.example", "trust_env": True, "retry": ONCE}
        async with Client(KEY, **options) as client:
            error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
        assert b"Proxy-Authorization" in proxy.heads[0]
    assert "PASSWD" not in repr((error, error.__cause__, error.__context__))
    assert "None" not in str(error)


async def test_a_password_of_a_proxy_that_cannot_be_sent_does_not_show():
    """Python's error on letters outside of Latin 1 holds all of it."""
    options = {"base_url": "https://api.example", "proxy": "http://me:\u0136PASSWD@127.0.0.1:9"}
    async with Client(KEY, **options, retry=ONCE) as client:
        error = await failure(client.showcase_page(HANDLE), ConnectionFailedError)
    assert "password" in str(error)
    assert "PASSWD" not in repr((error, error.__cause__, error.__context__))


async def test_the_password_of_a_proxy_does_not_show(tmp_path, listener):
    """A proxy's refusal is told without the password that is in its URL, in an archive too."""
    async with raw_server(http(407, b"no")) as proxy:
        url = proxy.url.replace("//", "//user:PASSWD@")
        options = {"base_url": "https://api.example", "proxy": url, "retry": ONCE}
        async with (
            Client(KEY, **options, on_event=listener.events.append) as client,
            Archive(tmp_path / "one.sfk") as archive,
        ):
            assert "PASSWD" not in repr(client.config) + str(client.config.__rich_repr__())
            error = await failure(client.showcase_page(HANDLE, archive=archive))
            await client.fetch_showcases([HANDLE], archive=archive)
    shown = "".join(traceback.format_exception(error)) + repr(listener.events)
    assert "the proxy answered HTTP 407" in shown
    assert "PASSWD" not in shown + listener.caplog.text
    assert b"PASSWD" not in (tmp_path / "one.sfk").read_bytes()


async def test_the_traceback_of_a_lost_answer_shows_no_key():
    """The received part of an answer, which may echo the key, is in no frame."""
    async with told(http(200, KEY.encode(), "Content-Length: 900", length=False)) as (_, client):
        error = await failure(client.showcase_page(HANDLE), ConnectionLostError)
    assert_untraced(error)
    async with told(http(200, KEY.encode(), "Content-Length: 900", length=False)) as (_, client):
        (outcome,) = await client.fetch_showcases([HANDLE])
    assert_bare(outcome.error)


async def test_the_traceback_of_a_lost_look_up_is_not_kept():
    """An outcome keeps no traceback of the look-up that was to explain an empty showcase."""
    empty = enveloped({"products": [], "page": {}})
    cut = http(200, KEY.encode(), "Content-Length: 900", length=False)
    async with told(lambda head: http(200, empty) if b"showcase" in head else cut) as (_, client):
        (outcome,) = await client.fetch_showcases([HANDLE], verify_empty=True)
    assert isinstance(outcome.error, ConnectionLostError)
    assert_bare(outcome.error)


def assert_bare(error):
    """Fail if an error, or one behind it, has a traceback: its frames hold whole bodies."""
    behind = [error]
    while behind:
        one = behind.pop()
        assert one.__traceback__ is None
        behind += [other for other in (one.__cause__, one.__context__) if other is not None]


async def test_an_on_event_that_raises_shows_no_key(listener):
    """The log of a callback's own failure does not show the key either."""

    def broken(event):
        listener.events.append(event)
        raise RuntimeError("broken callback")

    async with Simulator(api_key=KEY) as sim, secret_client(sim, on_event=broken) as client:
        await client.showcase_page(HANDLE)
    assert "broken callback" in listener.caplog.text
    listener.check()


async def test_a_caller_error_shows_no_key(listener):
    """Calls refused before sending show no key."""
    async with secret_client(await nothing(), listener) as client:
        for call in (
            client.showcase_page(".."),
            client.review_page(),
            client.get("/v2/x"),
        ):
            assert_error_hidden(await failure(call))
    error = await failure(client.whoami())
    assert_error_hidden(error)


async def nothing():
    async with raw_server(b"") as server:
        return server


# Echoes


ECHOES = {
    "html": (403, b"<pre>x-api-key: " + KEY.encode() + b"</pre>", ()),
    "envelope": (
        403,
        json.dumps(
            {"error": dict.fromkeys(("code", "message", "requestId", "checkoutUrl"), KEY)}
        ).encode(),
        (),
    ),
    "problem": (503, json.dumps({"detail": f"bad key {KEY}!"}).encode(), ()),
    "not json": (200, b"your key is " + KEY.encode(), ()),
    "wrong type": (200, json.dumps({"data": KEY, "meta": {"requestId": KEY}}).encode(), ()),
    "invalid utf-8": (200, b'{"data":"\xff' + KEY.encode() + b'"}', ()),
    "unknown encoding": (200, KEY.encode(), (f"Content-Encoding: {KEY}",)),
    "location": (302, b"", (f"Location: https://evil.example/?key={KEY}",)),
    "retry-after": (503, b"", (f"Retry-After: {KEY}",)),
    "too large": (200, b'{"x":"' + KEY.encode() * 2000 + b'"}', ()),
    "page": (500, b"<p>" + b"a " * 85 + KEY.encode() + b"</p>" + b"b " * 90, ()),
}


@pytest.mark.parametrize("name", ECHOES)
async def test_an_echoed_key_does_not_get_into_errors(name):
    """Nor into their pickles, causes or tracebacks with all variables."""
    status, body, lines = ECHOES[name]
    async with told(http(status, body, *lines), max_body_bytes=8_000) as (_, client):
        error = await failure(client.showcase_page(HANDLE))
    assert_error_hidden(error)


@pytest.mark.parametrize("before", range(170, 201, 3))
async def test_an_excerpt_cuts_no_key_in_half(before):
    """When an error page is cut to an excerpt, no part of an echoed key stays."""
    page = b"." * before + KEY.encode() + b"." * 200
    async with told(http(403, page)) as (_, client):
        error = await failure(client.showcase_page(HANDLE), ForbiddenError)
    assert not shows_key(str(error))


#: The key as JSON may spell it, too.
ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)


@pytest.mark.parametrize("before", range(170, 201, 3))
async def test_a_message_cuts_no_key_in_half(before):
    """Nor when the API's own message is cut, however JSON spells the key in it."""
    message = '{"error":{"code":"forbidden","message":"' + "." * before + ESCAPED + '"}}'
    async with told(http(403, message.encode())) as (_, client):
        error = await failure(client.showcase_page(HANDLE), ForbiddenError)
    assert_error_hidden(error)


@pytest.mark.parametrize("before", range(1970, 2001, 5))
async def test_a_code_and_an_address_cut_no_key_in_half(before):
    """They are cut too, although only at a length far beyond what is usual."""
    code = '{"error":{"code":"' + "." * before + ESCAPED + '"}}'
    long = f"Location: /{'.' * before}{KEY}"
    for answer in (http(403, code.encode()), http(302, b"", long)):
        async with told(lambda _, answer=answer: answer) as (_, client):
            error = await failure(client.showcase_page(HANDLE))
        assert_error_hidden(error)


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (chunked(KEY.encode(), b"{}", end=False), ("Transfer-Encoding: chunked",)),
        (KEY.encode() + b"\r\n", ("Transfer-Encoding: chunked",)),
        (b"", (f"Content-Length: {KEY}",)),
        (b"", (f"{KEY}",)),
        (KEY.encode(), ("Content-Length: 900",)),
    ],
    ids=["no last chunk", "bad chunk", "bad length", "bad header", "short"],
)
async def test_a_key_echoed_in_broken_http_does_not_show(body, lines, listener):
    """What aiohttp quotes of broken HTTP does not bring the key into our error."""
    answer = http(200, body, *lines, length=False)
    async with told(answer, on_event=listener.events.append) as (_, client):
        error = await failure(client.showcase_page(HANDLE))
    assert_error_hidden(error)
    listener.check()


async def test_a_key_that_a_borrowed_session_quotes_does_not_show():
    """As a session may, if its user replaced what reads its answers."""

    class Quoting(aiohttp.ClientResponse):
        async def read(self):
            raise aiohttp.ClientError(f"cannot read {KEY}")

    async with (
        aiohttp.ClientSession(response_class=Quoting) as session,
        told(http(200, b"{}"), session=session) as (_, client),
    ):
        error = await failure(client.showcase_page(HANDLE), ConnectionLostError)
    assert "cannot read" in str(error)
    assert_error_hidden(error)


async def test_a_key_echoed_in_a_header_does_not_show_where_a_bug_is_not_ours():
    """Another's exception reaches the caller unchanged, through our frames."""

    class Buggy(aiohttp.ClientResponse):
        async def read(self):
            raise ZeroDivisionError

    async with (
        aiohttp.ClientSession(response_class=Buggy) as session,
        told(http(200, b"{}", f"X-Seen: {KEY}"), session=session) as (_, client),
    ):
        with pytest.raises(ZeroDivisionError) as caught:
            await client.showcase_page(HANDLE)
    assert_untraced(caught.value)


async def test_an_undecodable_body_is_kept_but_for_the_key():
    """The raw bytes of a body that echoes the key are all there, without the key."""
    body = b"before " + KEY.encode() + b" after"
    async with told(http(200, body)) as (_, client):
        error = await failure(client.showcase_page(HANDLE), UndecodableError)
    assert error.body.startswith(b"before ")
    assert error.body.endswith(b" after")
    assert not shows_key(error.body)


# Config and client


def config_of(**options):
    return Client(KEY, **options).config


def test_a_config_pickles_without_the_key(monkeypatch):
    """A config's pickle holds no key; unpickling takes it from the environment there."""
    config = config_of(concurrency=7)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        pickled = pickle.dumps(config, protocol)
        assert not shows_key(pickled)
        monkeypatch.delenv("SOCIALFETCH_API_KEY", raising=False)
        bare = pickle.loads(pickled)  # noqa: S301 - our own
        assert (bare.api_key, bare.concurrency) == (None, 7)
        monkeypatch.setenv("SOCIALFETCH_API_KEY", "sfk_other")
        other = pickle.loads(pickled)  # noqa: S301 - our own
        assert other != config
        assert other == Client("sfk_other", concurrency=7).config
        monkeypatch.setenv("SOCIALFETCH_API_KEY", KEY)
        assert pickle.loads(pickled) == config  # noqa: S301 - our own


def test_copies_of_a_config_keep_the_key():
    """Copies, deep or not, and changed copies have the same key."""
    config = config_of()
    assert copy.copy(config) == copy.deepcopy(config) == config
    assert copy.deepcopy([config])[0].api_key == config.api_key
    changed = msgspec.structs.replace(config, concurrency=3)
    assert changed.api_key == config.api_key
    assert_hidden([config, changed])


def test_a_config_is_equal_by_its_key():
    """Configs of different keys differ, though both look alike."""
    assert config_of() == config_of()
    assert hash(config_of().api_key) == hash(config_of().api_key)
    assert config_of() != Client("sfk_other").config
    assert repr(config_of()) == repr(Client("sfk_other").config)


def test_a_config_shows_no_key_and_no_proxy_password():
    """No way of showing a config shows the key or a proxy's password."""
    config = config_of(proxy="http://user:hunter2@proxy.example:3128")
    assert_hidden(config)
    assert_hidden(msgspec.structs.asdict(config))
    assert "hunter2" not in f"{config} {config!r}"
    assert isinstance(config, Config)
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins):
        try:
            shown = encode(config)
        except TypeError:
            continue
        assert not shows_key(repr(shown))
    with pytest.raises(TypeError):
        json.dumps(config.api_key)


def test_a_client_does_not_pickle():
    """Pickling or copying a client is a TypeError that says what to do."""
    client = Client(KEY)
    for use in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="config") as caught:
            use(client)
        assert not shows_key(str(caught.value))
    assert_hidden(client)


BAD_KEYS = {
    "newline": f"{KEY}\n",
    "return": f"{KEY}\r\nX: y",
    "NUL": f"{KEY}\0",
    "non-ASCII": f"{KEY}\u00e9",
    "emoji": f"{KEY}\U0001f511",
    "empty": "",
    "space": " ",
    "leading space": f" {KEY}",
    "trailing space": f"{KEY} ",
    "inner space": f"{KEY} {KEY}",
    "tab": f"\t{KEY}",
    "DEL": f"{KEY}\x7f",
    "surrogate": f"{KEY}\ud800",
    "bytes": KEY.encode(),
    "number": 5,
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_bad_key_is_refused_without_an_echo(name):
    """A key that cannot be a header value is refused when the client is made, and not shown."""
    with pytest.raises(ConfigurationError, match="key") as caught:
        Client(BAD_KEYS[name])
    assert_hidden(caught.value)
    assert_unpickled(caught.value)
    assert not shows_key("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("name", ["newline", "non-ASCII", "inner space", "tab"])
def test_a_bad_key_of_the_environment_is_refused_without_an_echo(name, monkeypatch):
    """A key from the environment is refused in the same way, without an echo."""
    monkeypatch.setenv("SOCIALFETCH_API_KEY", BAD_KEYS[name])
    with pytest.raises(ConfigurationError, match="key") as caught:
        Client()
    assert_error_hidden(caught.value)


@pytest.mark.parametrize("options", [{}, {"concurrency": 0}, {"base_url": "ftp://x"}])
def test_a_refused_client_shows_no_key_in_its_traceback(options):
    """The traceback, with variables, of a client that could not be made shows no key of ours."""
    key = KEY if options else f"{KEY}\n"
    with pytest.raises(ConfigurationError) as caught:
        Client(key, **options)
    assert_untraced(caught.value)


def test_an_unhandled_failure_prints_no_key():
    """A program that dies of an error of ours prints no key."""
    program = """
import asyncio, os
from asyncsfk import Client, Retry
async def main():
    async with Client(retry=Retry.none()) as client:
        await client.showcase_page("mrbeast")
asyncio.run(main(), debug=True)
"""
    environment = {"SOCIALFETCH_API_KEY": KEY, "SOCIALFETCH_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=Path(PACKAGE).parent,
    )
    assert "ConnectionFailedError" in done.stderr
    assert not shows_key(done.stdout + done.stderr)


# Plain http


@pytest.mark.parametrize(
    "url",
    [
        "http://api.socialfetch.dev",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example:80",
        "http://10.0.0.1",
        "http://0.0.0.0:80",
        "http://[2001:db8::1]",
        "HTTP://api.socialfetch.dev",
        "http://2130706434",
        "http://1.127.0.0",
    ],
)
def test_plain_http_is_for_this_host_only(url):
    """A key is not sent in plain sight to another host, unless the caller insists."""
    with pytest.raises(ConfigurationError, match="http"):
        Client(KEY, base_url=url)
    client = Client(KEY, base_url=url, allow_insecure_http=True)
    assert client.config.allow_insecure_http


def test_plain_http_of_the_environment_is_refused_too(monkeypatch):
    """The same holds for an origin that comes from the environment."""
    monkeypatch.setenv("SOCIALFETCH_BASE_URL", "http://api.socialfetch.dev")
    with pytest.raises(ConfigurationError, match="unencrypted"):
        Client(KEY)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "http://127.9.9.9", "http://localhost:8080", "http://[::1]:80"]
)
def test_plain_http_to_this_host_is_fine(url):
    """Loopback needs no encryption."""
    assert Client(KEY, base_url=url).config.base_url == url


@pytest.mark.parametrize(
    "url",
    ["https://user:pass@api.example", "https://user@api.example", "https://:pass@api.example"],
)
def test_a_base_url_holds_no_password(url):
    """Credentials in the origin are refused, and not echoed."""
    with pytest.raises(ConfigurationError) as caught:
        Client(KEY, base_url=url)
    assert "pass@" not in str(caught.value)
