"""Any answer that the API may send, over real HTTP, against what our client makes of it."""

import contextlib
import json
import re

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncsfk import APIError, Client, Retry, UndecodableError
from tests.contract.schemas import ANSWERS, CODES, failure
from tests.contract.strategies import bodies, changed, places, whole, without, wrong_for

CALLS = {
    "showcase": lambda client: client.showcase_page("someone"),
    "tiktok_profile": lambda client: client.tiktok_profile("someone"),
    "reviews": lambda client: client.review_page(product_id="1"),
    "instagram_profile": lambda client: client.instagram_profile("someone"),
    "whoami": lambda client: client.whoami(),
    "balance": lambda client: client.balance(),
    "health": lambda client: client.health(),
}

#: How to shape our answers like the API's data, where they differ.
SHAPES = {
    "showcase": lambda page: {
        "products": page.products,
        "page": {"nextCursor": page.next_cursor, "hasMore": page.has_more},
    },
    "reviews": lambda page: {
        "lookupStatus": page.lookup_status,
        "reviews": page.reviews,
        "summary": page.summary,
        "page": {
            "currentPage": page.page,
            "nextPage": page.next_page,
            "hasMore": page.has_more,
        },
    },
}

#: Without these an answer is not one of its route, and reading it as empty would be wrong.
VITAL = {
    ("data",),
    ("data", "products"),
    ("data", "reviews"),
    ("data", "page"),
    ("data", "user"),
    ("data", "balance"),
    ("status",),
}

routes = pytest.mark.parametrize("route", ANSWERS)
examples = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Stub:
    """A server with one answer for everything, and a client of it."""

    def __init__(self):
        self.status = 200
        self.body = b""

    async def answer(self, _):
        return web.Response(
            status=self.status, body=self.body, content_type="application/json", charset="utf-8"
        )

    async def ask(self, route, body, status=200):
        self.status, self.body = status, json.dumps(body).encode()
        return await CALLS[route](self.client)


@pytest.fixture
async def stub():
    stub = Stub()
    runner = web.ServerRunner(web.Server(stub.answer))
    async with contextlib.AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        stub.client = await stack.enter_async_context(
            Client("sfk_contract", base_url=url, retry=Retry.none())
        )
        yield stub


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def field(decoded, name):
    return decoded[name] if isinstance(decoded, dict) else getattr(decoded, snake(name))


def assert_same(decoded, sent, schema, path=()):
    """Hold a decoded value against the JSON it came from, field by field."""
    if sent is None:
        # A missing list may read as empty, and a missing flag as false.
        assert decoded in (None, (), False), path
    elif "object" in schema["type"] and not schema["properties"]:
        assert decoded == sent, path
    elif "object" in schema["type"]:
        for name, below in schema["properties"].items():
            assert_same(field(decoded, name), sent.get(name), below, (*path, name))
    elif "array" in schema["type"]:
        assert isinstance(decoded, tuple), path
        assert len(decoded) == len(sent), path
        for index, (one, other) in enumerate(zip(decoded, sent, strict=True)):
            assert_same(one, other, schema["items"], (*path, index))
    else:
        # Where the schema says "number" a float is read, which has 53 bits.
        assert decoded == (float(sent) if isinstance(decoded, float) else sent), path
        assert isinstance(decoded, bool) == isinstance(sent, bool), path


def assert_answer(route, answer, body):
    """Hold a client's answer against the whole body that it came from."""
    schema = ANSWERS[route]
    if route == "health":
        assert_same(answer, body, schema)
        return
    data = SHAPES.get(route, lambda same: same)(answer)
    assert_same(data, with_has_more(body["data"]), schema["properties"]["data"])
    meta = body.get("meta") or {}
    assert answer.request_id == meta.get("requestId")
    assert answer.cached is bool(meta.get("cached"))
    charged = meta.get("creditsCharged")
    assert answer.usage.charged == (charged or 0)
    assert (answer.usage.maybe > 0) == (charged is None and is_metered(route))
    assert answer.usage.requests == 1


def with_has_more(data):
    """Fill in a missing `hasMore`: there is more if the page tells the way to it."""
    page = data.get("page", {"hasMore": False})
    if page.get("hasMore") is not None:
        return data
    way = page.get("nextCursor") or page.get("nextPage")
    return data | {"page": page | {"hasMore": bool(way)}}


def is_metered(route):
    return route not in {"whoami", "balance", "health"}


def is_vital(path, schema):
    return path in VITAL or (path[-1] == "id" and "null" not in schema["type"])


def damages(route, accept):
    """Give each place that `accept` takes in a body that has everything, with that body."""
    body = whole(ANSWERS[route])
    found = [place for place in places(body, ANSWERS[route]) if accept(*place)]
    return [(body, *place) for place in found]


def may_be_left_out(path, schema):
    return not isinstance(path[-1], int) and not is_vital(path, schema)


def must_be_there(path, schema):
    return not isinstance(path[-1], int) and is_vital(path, schema)


def is_typed(path, _):
    return path[0] != "meta" and path[-1] != "details"


@routes
async def test_every_field_is_read(stub, route):
    """A body that has everything, new fields included, is read field by field."""
    body = whole(ANSWERS[route])
    assert_answer(route, await stub.ask(route, body), body)


@routes
async def test_any_field_may_be_null_or_missing(stub, route):
    """A field that is null or missing reads as nothing, unless an answer cannot be without it."""
    for body, path, _ in damages(route, may_be_left_out):
        for damaged in (changed(body, path, None), without(body, path)):
            assert_answer(route, await stub.ask(route, damaged), damaged)


@routes
async def test_a_missing_id_is_refused(stub, route):
    """A body without an id, or without what its route must have, is refused."""
    for body, path, _ in damages(route, must_be_there):
        with pytest.raises(UndecodableError) as caught:
            await stub.ask(route, without(body, path))
        assert_charge(caught.value, body)


@routes
async def test_a_wrong_type_is_refused(stub, route):
    """A value of a wrong type anywhere in the data is an error that knows its price."""
    for body, path, schema in damages(route, is_typed):
        for wrong in wrong_for(schema):
            damaged = changed(body, path, wrong)
            with pytest.raises(UndecodableError) as caught:
                await stub.ask(route, damaged)
            assert_charge(caught.value, body)
            assert json.loads(caught.value.body) == damaged


def assert_charge(error, body):
    charged = body["meta"]["creditsCharged"] if "meta" in body else 0
    assert (error.usage.charged, error.usage.maybe) == (charged, 0)


def reads_whatever(route):
    # Drawn before the test begins: Hypothesis ends a test that draws too much by an exception,
    # which inside an async test would end the event loop's runner.
    @examples
    @given(bodies(ANSWERS[route]))
    async def test(stub, body):
        """Whatever the schema allows is read, each field as sent."""
        assert_answer(route, await stub.ask(route, body), body)

    return test


test_showcase_reads_whatever = reads_whatever("showcase")
test_tiktok_profile_reads_whatever = reads_whatever("tiktok_profile")
test_reviews_reads_whatever = reads_whatever("reviews")
test_instagram_profile_reads_whatever = reads_whatever("instagram_profile")
test_whoami_reads_whatever = reads_whatever("whoami")
test_balance_reads_whatever = reads_whatever("balance")
test_health_reads_whatever = reads_whatever("health")


@examples
@given(st.sampled_from([*CODES]).flatmap(lambda one: st.tuples(st.just(one), bodies(failure(one)))))
async def test_every_error_envelope_is_told(stub, case):
    """An error has the code, request id and checkout address that the API sent."""
    status, body = case
    with pytest.raises(APIError) as caught:
        await stub.ask("showcase", body, status)
    told = body["error"]
    assert caught.value.status == status
    assert caught.value.code == (told["code"] or None)
    assert caught.value.request_id == (told["requestId"] or None)
    assert caught.value.checkout_url == told.get("checkoutUrl")
    # The message is for people: one short line, without what a terminal would obey.
    words = "".join(char if char.isprintable() else " " for char in told["message"]).split()
    assert " ".join(words)[:200] in caught.value.message
