"""The error tree: true to its drawing, picklable, and the only thing a call ever raises."""

import copy
import inspect
import json
import pickle
import re
import socket
import ssl

import aiohttp
import hypothesis.strategies as st
import pytest
from hypothesis import given
from yarl import URL

import asyncsfk
from asyncsfk import (
    APIError,
    Client,
    ConnectionFailedError,
    ConnectionLostError,
    Details,
    InvalidArgumentError,
    Outcome,
    RedirectError,
    RequestTimeoutError,
    SfkError,
    TransportError,
    UndecodableError,
    Usage,
)
from asyncsfk.simulator import Fault, Simulator
from tests.support import KEY, ONCE, client_of, failure, http, told

ERRORS = sorted(
    (
        value
        for name in asyncsfk.__all__
        if inspect.isclass(value := getattr(asyncsfk, name)) and issubclass(value, SfkError)
    ),
    key=lambda kind: kind.__name__,
)

texts = st.none() | st.text()
counts = st.integers(0, 2**53)
details = st.builds(
    Details,
    handle=texts,
    route=texts,
    status=st.none() | st.integers(100, 599),
    code=texts,
    request_id=texts,
    attempts=counts,
    retry_after=st.none() | st.floats(0, 1e9),
    usage=st.builds(Usage, *[counts] * 7),
    cursor=texts,
    page=st.none() | counts,
    gave_up=texts,
    checkout_url=texts,
    location=texts,
    body=st.none() | st.binary(),
)
errors = st.builds(
    lambda kind, message, known: kind(message, known), st.sampled_from(ERRORS), st.text(), details
)


def drawn_tree():
    """Read the tree in the module's docstring: each class's parent, and what is said of it."""
    parents, notes, above = {}, {}, []
    for line in asyncsfk.errors.__doc__.splitlines():
        match = re.fullmatch(r"    ([│├└─ ]*)(\w+Error)\b *(.*)", line)
        if match:
            depth, name = len(match[1]) // 4, match[2]
            assert name not in parents
            del above[depth:]
            parents[name] = above[-1] if above else None
            notes[name] = match[3]
            above.append(name)
    return parents, notes


def test_the_drawn_tree_is_the_tree():
    """The tree in the docstring holds every error, each under its base."""
    parents, _ = drawn_tree()
    assert parents == {
        kind.__name__: None if kind is SfkError else kind.__bases__[0].__name__ for kind in ERRORS
    }


def test_every_error_is_exported():
    """No error of the tree is missing at the top, none is outside of the tree."""
    queue, found = [SfkError], set()
    while queue:
        kind = queue.pop()
        found.add(kind)
        queue += kind.__subclasses__()
    assert {kind for kind in found if kind.__module__.startswith("asyncsfk")} == {*ERRORS}
    for name in asyncsfk.__all__:
        value = getattr(asyncsfk, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            assert issubclass(value, SfkError)


@pytest.mark.parametrize(
    "status",
    [status for note in drawn_tree()[1].values() for status in re.findall(r"^\d{3}", note)],
)
async def test_the_drawn_statuses_are_true(status):
    """A status noted in the tree is answered with the class that it stands beside."""
    (name,) = (name for name, note in drawn_tree()[1].items() if note.startswith(status))
    async with told(http(status)) as (_, client):
        error = await failure(client.showcase_page("x"))
    assert type(error).__name__ == name


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (asyncsfk.ConfigurationError, ValueError),
        (InvalidArgumentError, ValueError),
        (asyncsfk.ClientStateError, RuntimeError),
    ],
)
def test_mistakes_are_also_the_usual_errors(kind, base):
    """Code that expects Python's own errors for mistakes catches ours."""
    assert issubclass(kind, base)


@given(error=errors)
def test_errors_pickle_and_copy_equal(error):
    """Pickled, copied and described in JSON, an error comes back equal."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        assert type(again) is type(error)
        assert again == error
        assert (str(again), repr(again), hash(again)) == (str(error), repr(error), hash(error))
    assert copy.copy(error) == copy.deepcopy(error) == error
    described = json.loads(json.dumps(error.to_dict()))
    assert SfkError.from_dict(described) == error
    assert type(error).from_dict(described) == error


@given(error=errors, known=details)
def test_errors_of_other_details_differ(error, known):
    """Errors are equal by class, message and all details."""
    other = type(error)(error.message, known)
    assert (other == error) is (known == error.details)
    assert error.evolve() == error
    assert error.evolve(handle="x") == error.evolve(handle="x")
    for kind in ERRORS:
        assert (kind(error.message, error.details) == error) is (kind is type(error))


@given(error=errors)
def test_details_are_attributes(error):
    """Whatever is known of the call is an attribute of the error."""
    for name in Details.__struct_fields__:
        assert getattr(error, name) == getattr(error.details, name)
    assert not hasattr(error, "nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        error.nonsense  # noqa: B018 - asking is the point


@pytest.mark.parametrize("kind", ERRORS)
def test_a_bare_error_has_empty_details(kind):
    """An error made of a message alone knows nothing else, and says just that."""
    error = kind("words")
    assert str(error) == "words"
    assert error.usage == Usage()
    assert error.handle is error.status is error.body is None
    assert SfkError.from_dict(error.to_dict()) == error
    assert error.to_dict() == {"type": kind.__name__, "message": "words"}


def test_an_error_of_a_newer_version_is_read():
    """A description of an unknown class, with unknown details, still becomes an error."""
    data = {"type": "NewerError", "message": "m", "handle": "x", "sinceVersion9": True}
    error = SfkError.from_dict(data)
    assert type(error) is SfkError
    assert (error.message, error.handle) == ("m", "x")


def test_details_are_frozen():
    """The details of a failure cannot be changed."""
    with pytest.raises(AttributeError):
        SfkError("m").details.handle = "x"


def test_a_string_names_what_matters():
    """The text of an error names the handle, status, cost and what to do; no body."""
    known = Details(
        handle="mrbeast",
        status=402,
        code="insufficient_credits",
        request_id="req_1",
        attempts=3,
        retry_after=2.5,
        usage=Usage(charged=1, maybe=2),
        gave_up="why",
        checkout_url="https://pay.example/",
        body=b"x" * 5000,
    )
    text = str(APIError("HTTP 402: empty", known))
    for part in (
        "HTTP 402: empty", "mrbeast", "insufficient_credits", "req_1", "attempts 3", "2.5 s",
        "maybe charged 2", "why", "https://pay.example/",
    ):  # fmt: skip
        assert part in text
    assert "xxx" not in text
    assert "xxx" not in repr(APIError("m", known)) + repr(known)
    assert "body=<5000 bytes>" in repr(known)


async def test_partial_results_survive_pickling():
    """An error with the products that were paid for comes back equal, products and all."""
    async with (
        Simulator(faults=[Fault.status(403, pages=[3])]) as sim,
        client_of(sim) as client,
    ):
        error = await failure(client.showcase("long.90products").collect())
    assert len(error.partial) == 40
    assert any(product.details for product in error.partial)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert again == error
    assert again.partial == error.partial
    assert copy.deepcopy(error) == error
    assert "partial" not in error.to_dict()
    json.dumps(error.to_dict())


async def test_real_errors_survive_pickling():
    """Errors raised for real, of several kinds, pickle and describe equal."""
    faults = [Fault.redirect("http://127.0.0.1:9/"), Fault.not_json(), Fault.garbage()]
    for fault in [*faults, *map(Fault.status, (400, 402, 429, 500, 503))]:
        async with Simulator(faults=[fault]) as sim, client_of(sim) as client:
            error = await failure(client.showcase_page("x"))
        assert pickle.loads(pickle.dumps(error)) == error  # noqa: S301 - our own
        assert SfkError.from_dict(json.loads(json.dumps(error.to_dict()))) == error


async def test_an_error_keeps_its_cause(port):
    """An error of aiohttp or msgspec is the cause of ours, even after retries."""
    async with (
        Simulator(faults=[Fault.reset(times=2)]) as sim,
        client_of(sim, retry=asyncsfk.Retry()) as client,
    ):
        error = await failure(client.showcase_page("x"), ConnectionLostError)
        assert isinstance(error.__cause__, OSError)
        sim.faults = [Fault.wrong_type()]
        for call in (client.showcase_page, lambda handle: client.showcase(handle).collect()):
            error = await failure(call("x.9products"), UndecodableError)
            assert "soldCount" in str(error.__cause__)
    async with Client(KEY, base_url=f"http://127.0.0.1:{port}", retry=ONCE) as client:
        error = await failure(client.showcase_page("x"), ConnectionFailedError)
        assert isinstance(error.__cause__, aiohttp.ClientConnectorError)


# aiohttp's errors


FOREIGN = sorted(
    {
        value
        for module in (aiohttp, aiohttp.client_exceptions)
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, aiohttp.ClientError)
    }
    | {OSError, ConnectionResetError, BrokenPipeError, TimeoutError, ssl.SSLError, socket.gaierror},
    key=lambda kind: kind.__name__,
)

#: These quote what came, so that they are no cause that can be shown.
QUOTING = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
)


def make_foreign(kind):
    """Make an error of aiohttp's, which take different arguments."""
    url = URL("http://127.0.0.1:9/")
    info = aiohttp.RequestInfo(url, "GET", {}, url)
    key = aiohttp.client_reqrep.ConnectionKey("127.0.0.1", 9, False, True, None, None, None)
    for args in (
        (key, OSError(1, "boom")),
        ("/path", key, OSError(1, "boom")),
        (info, ()),
        (b"a", b"b", "127.0.0.1", 9),
        (url, "boom"),
        (url,),
        ("boom",),
        (),
    ):
        try:
            error = kind(*args)
            str(error), repr(error)
        except (TypeError, AttributeError, ValueError):
            continue
        return error
    raise AssertionError(f"do not know how to make a {kind}")


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
async def test_no_foreign_error_gets_through(kind):
    """Any error raised while connecting ends as one of ours that says it was free."""
    asked = []

    class Broken(aiohttp.TCPConnector):
        async def connect(self, req, traces, timeout):
            asked.append((req, traces, timeout))
            raise make_foreign(kind)

    async with (
        aiohttp.ClientSession(connector=Broken()) as session,
        Client(KEY, base_url="http://127.0.0.1:9", session=session, retry=ONCE) as client,
    ):
        error = await failure(client.showcase_page("x"), TransportError)
    assert len(asked) == 1
    assert type(error) is ConnectionFailedError
    assert (error.usage.charged, error.usage.maybe) == (0, 0)
    assert len(str(error)) > len("no connection: ")
    chain, cause = [], error.__cause__
    while cause is not None:
        chain.append(type(cause))
        cause = cause.__cause__
    assert (kind in chain) is not issubclass(kind, QUOTING)


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
async def test_no_foreign_error_of_a_body_gets_through(kind):
    """The same holds while a request is under way, but there it may have been charged."""
    trace = aiohttp.TraceConfig()

    async def on_chunk(*_):
        raise make_foreign(kind)

    trace.on_response_chunk_received.append(on_chunk)
    async with (
        Simulator() as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session) as client,
    ):
        error = await failure(client.showcase_page("x"), TransportError)
        assert sim.ledger.requests == 1
        assert error.usage.maybe == sim.ledger.charged == 1
    lost = RequestTimeoutError if issubclass(kind, TimeoutError) else ConnectionLostError
    assert type(error) is lost


@pytest.mark.parametrize(
    "error",
    [
        5,
        {},
        {"type": "SfkError"},
        {"type": [], "message": "x"},
        {"type": "SfkError", "message": 1},
        {"type": "SfkError", "message": "x", "usage": 5},
    ],
    ids=str,
)
def test_an_outcome_whose_error_is_none_is_refused(error):
    """Whatever `from_json` cannot read, it raises its one documented error."""
    told = {"handle": "x", "status": "failed", "error": {"type": "SfkError", "message": "x"}}
    assert Outcome.from_json(json.dumps(told)).error == SfkError("x")
    with pytest.raises(UndecodableError):
        Outcome.from_json(json.dumps(told | {"error": error}))


async def test_any_location_can_be_written_down():
    """A Location that is not Unicode text does not spoil the JSON of an outcome."""
    async with told(http(302, b"", b"Location: http://e/\xff".decode("latin-1"))) as (_, client):
        (outcome,) = await client.fetch_showcases(["x"])
        assert isinstance(outcome.error, RedirectError)
        assert type(outcome).from_json(outcome.to_json()) == outcome


def test_a_class_of_ones_own_does_not_stand_for_ours():
    """A program's error may have the name of one of ours: descriptions still become ours."""

    class BadRequestError(SfkError):
        """A program's own error, named as ours is."""

        def __init__(self, reason):
            super().__init__(reason)

    error = asyncsfk.BadRequestError("no", Details(status=400))
    assert SfkError.from_dict(error.to_dict()) == error
    assert not isinstance(error, BadRequestError)
    described = SfkError.from_dict({**error.to_dict(), "type": "TheirsError"})
    assert type(described) is SfkError


@pytest.mark.parametrize(
    "text", ["a\nERROR forged", "a\r\x1b[2Jb", "a\u2028b", "a\ud800b", "caf\u00e9"]
)
def test_an_error_is_told_in_a_line(text):
    """Neither a handle nor the API's words can forge a line of a log."""
    error = asyncsfk.BadRequestError(
        text, Details(handle=text, code=text, request_id=text, checkout_url=text)
    )
    assert str(error).isprintable()
    assert len(str(error).splitlines()) == len(repr(error).splitlines()) == 1
    assert str(error).count("caf\u00e9") == (5 if text == "caf\u00e9" else 0)
    assert error.handle == error.code == text
