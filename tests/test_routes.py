"""Every route: what is sent is right byte for byte, what cannot be sent is refused before.

Handles and cursors are the business of test_handles.
"""

import json
from enum import Enum
from numbers import Number
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from asyncsfk import (
    Archive,
    Client,
    ConfigurationError,
    InvalidArgumentError,
    LookupStatus,
    Reply,
    UnauthorizedError,
)
from asyncsfk.simulator import Simulator
from tests.support import EMPTY, KEY, client_of, enveloped, failure, http, told

ANY = http(200, b'{"data":null,"meta":{"creditsCharged":0}}')


# The routes


async def test_every_route_tells_the_truth():
    """Each of the seven routes gives what the API knows."""
    async with Simulator(3) as sim, client_of(sim) as client:
        page = await client.showcase_page("@Long.90Products")
        truth = sim.showcase("long.90products")
        assert [product.id for product in page.products] == [each["id"] for each in truth[:20]]
        assert (page.handle, page.cursor, page.region) == ("long.90products", None, None)
        assert page.has_more
        assert page.next_cursor

        lookup = await client.tiktok_profile("long.90products")
        told_so = sim.tiktok_profile("long.90products")
        assert lookup.lookup_status == told_so["lookupStatus"] == "found"
        assert lookup.profile.handle == told_so["profile"]["handle"]
        assert lookup.metrics.followers == told_so["metrics"]["followers"]
        for handle, status in (("unknown_x", "not_found"), ("private_x", "private")):
            lookup = await client.tiktok_profile(handle)
            assert (lookup.lookup_status, lookup.usage.charged) == (status, 1)

        lookup = await client.instagram_profile("https://www.instagram.com/Some.One/")
        told_so = sim.instagram_profile("some.one")
        assert lookup.lookup_status == told_so["lookupStatus"]
        assert lookup.profile.display_name == told_so["profile"]["displayName"]

        product = page.products[0].id
        reviews = await client.review_page(product_id=product)
        assert [each.id for each in reviews.reviews] == [
            each["id"] for each in sim.reviews(product)[:20]
        ]
        assert reviews.page == 1
        assert reviews.summary.total_reviews == sim.review_summary(product)["totalReviews"]

        assert (await client.whoami()).user.id
        assert (await client.balance()).balance == 1_000_000
        assert (await client.health()).status == "ok"
        assert {entry.status for entry in sim.ledger} == {200}


async def test_the_free_routes_cost_nothing():
    """Whoami, balance and health are free, and their usage says so."""
    async with Simulator() as sim, client_of(sim) as client:
        assert (await client.whoami()).usage.charged == 0
        assert (await client.balance()).usage.charged == 0
        await client.health()
        assert (client.usage.requests, client.usage.charged, client.usage.maybe) == (3, 0, 0)
        assert sim.ledger.charged == 0


async def test_the_key_is_needed_where_it_is_needed():
    """Without a key, health works; every other route is refused before anything is sent."""
    async with Simulator() as sim, Client(base_url=sim.url) as client:
        assert (await client.health()).status == "ok"
        for call in (
            client.showcase_page("x"),
            client.showcase("x").collect(),
            client.tiktok_profile("x"),
            client.instagram_profile("x"),
            client.review_page(product_id="1"),
            client.reviews(product_id="1").collect(),
            client.whoami(),
            client.balance(),
            client.get("/v1/balance"),
        ):
            error = await failure(call, ConfigurationError)
            assert "SOCIALFETCH_API_KEY" in str(error)
        assert [entry.route for entry in sim.ledger] == ["/health"]


async def test_a_wrong_key_is_unauthorized():
    """A key that the API does not know is its own error, free, and not tried again."""
    async with Simulator() as sim, Client("sfk_wrong", base_url=sim.url) as client:
        error = await failure(client.whoami(), UnauthorizedError)
        assert (sim.ledger.requests, error.usage.maybe, error.code) == (1, 0, "unauthorized")


async def test_the_headers_of_a_request():
    """The key goes out in its header, the encoding is pinned, the agent is ours or the caller's."""
    async with told(ANY, keep=True) as (server, client):
        await client.get("/v1/x")
        headers = server.headers()
        assert server.heads[0].startswith(b"GET /v1/x HTTP/1.1\r\n")
        assert headers["x-api-key"] == KEY
        assert headers["accept-encoding"] == "gzip"
        assert headers["accept"] == "application/json"
        assert headers["user-agent"].startswith("asyncsfk/")
        assert not {"cookie", "authorization", "content-type", "content-length"} & set(headers)
        assert server.heads[0].count(KEY.encode()) == 1
    async with told(http(200, b'{"status":"ok"}'), user_agent="mine/1") as (server, client):
        await client.health()
        assert server.headers()["user-agent"] == "mine/1"
        assert "x-api-key" not in server.headers()


@pytest.mark.usefixtures("either_way")
async def test_a_base_url_may_have_a_path():
    """An API behind a gateway's path is asked below it."""
    async with told(ANY, keep=True) as (server, _):
        async with Client(KEY, base_url=f"{server.url}/gate%20way/") as client:
            await client.get("/v1/x")
        assert server.targets == ["/gate%20way/v1/x"]


# Listings and reviews


@pytest.mark.parametrize("name", ["max_pages", "max_items"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True, 10**20])
async def test_a_bad_limit_is_refused(name, value):
    """A limit that is not a whole number of 1 or more is refused before any page is paid."""
    async with told(ANY) as (_, client):
        for listing in (
            lambda **limits: client.showcase("x", **limits),
            lambda **limits: client.reviews(product_id="1", **limits),
        ):
            with pytest.raises(InvalidArgumentError, match=name):
                listing(**{name: value})


async def test_reviews_by_id_and_by_url():
    """Reviews are asked for by product id, URL or both, with region and page."""
    url = "https://shop.tiktok.com/view/product/1729?x=1&y=%20#z"
    async with told(EMPTY, keep=True) as (server, client):
        await client.review_page(product_id="1729")
        await client.review_page(url=url, page=3)
        await client.review_page(product_id="1729", url=url, region="US")
        await client.reviews(url=url, region="GB", page=2).collect()
    queries = [dict(parse_qsl(urlsplit(target).query)) for target in server.targets]
    assert queries == [
        {"productId": "1729"},
        {"url": url, "page": "3"},
        {"productId": "1729", "url": url, "region": "US"},
        {"url": url, "region": "GB", "page": "2"},
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"region": "US"},
        {"product_id": ""},
        {"url": ""},
        {"url": "x" * 4097},
        {"product_id": "1", "page": 0},
        {"product_id": "1", "page": -1},
        {"product_id": "1", "page": True},
        {"product_id": "1", "page": 1.5},
        {"product_id": "1", "page": "2"},
        {"product_id": 1729.5},
        {"product_id": "https://www.tiktok.com/shop/pdp/1729"},
        {"product_id": "1", "region": ""},
        {"url": 5},
    ],
    ids=str,
)
async def test_bad_arguments_of_reviews_are_refused(arguments):
    """Reviews without a product, or with an argument that cannot be sent, cost nothing."""
    async with told(ANY) as (server, client):
        await failure(client.review_page(**arguments), InvalidArgumentError)
        with pytest.raises(InvalidArgumentError):
            client.reviews(**arguments)
        assert server.connections == 0


# Any other route


class Videos(msgspec.Struct):
    """A caller's own answer."""

    videos: list[int]


async def test_page_one_of_reviews_is_the_first_however_it_is_asked_for(tmp_path):
    """Asked for with its number or without, it is paid once."""
    async with (
        Simulator() as sim,
        client_of(sim) as client,
        Archive(tmp_path / "job.sfk") as archive,
    ):
        ask = {"product_id": "1729", "archive": archive}
        first = await client.review_page(**ask)
        again = await client.review_page(page=1, **ask)
        listed = await client.reviews(max_pages=1, **ask).collect()
        assert first.reviews == again.reviews == tuple(listed)
        assert sim.ledger.charged == 1


async def test_get_decodes_into_the_callers_type():
    """Any route's data is decoded as the caller says, or is plain JSON."""
    body = json.dumps({"data": {"videos": [1]}, "meta": {"requestId": "r", "creditsCharged": 2}})
    async with told(http(200, body.encode()), keep=True) as (_, client):
        reply = await client.get("/v1/x/videos", type=Videos)
        assert isinstance(reply, Reply)
        assert reply.data == Videos([1])
        assert (reply.request_id, reply.usage.charged) == ("r", 2)
        assert (await client.get("/v1/x/videos")).data == {"videos": [1]}
        assert (await client.get("/v1/x/videos", type=dict[str, list[int]])).data["videos"] == [1]


class Foreign:
    """A class that msgspec does not know, like the model of another library."""

    def __init__(self, **fields):
        self.__dict__ |= fields


class Deep(msgspec.Struct):
    """A type with itself and a foreign class inside."""

    more: list["Deep"] = []
    foreign: dict[str, Foreign] = {}


@pytest.mark.parametrize("kind", [Foreign, dict[str, Foreign], Foreign | None, Deep])
async def test_a_type_that_no_json_becomes_is_refused_before_sending(kind):
    """Otherwise it would only be found out once the answer is paid for."""
    async with told(ANY) as (server, client):
        error = await failure(client.get("/v1/x", type=kind), InvalidArgumentError)
        assert "Foreign" in str(error)
        assert server.connections == 0


async def test_no_type_at_all_is_refused_before_sending():
    """As a type ``None`` means null: any other answer would be paid for but not decoded."""
    async with told(ANY) as (server, client):
        error = await failure(client.get("/v1/x", type=None), InvalidArgumentError)
        assert "type=" in str(error)
        assert server.connections == 0


class Tree(msgspec.Struct):
    """A type with itself inside, and nothing foreign."""

    branches: list["Tree"]


async def test_get_decodes_into_a_type_that_has_itself_inside():
    """Checking such a type comes to an end."""
    async with told(http(200, enveloped({"branches": [{"branches": []}]}))) as (_, client):
        assert (await client.get("/v1/x", type=Tree)).data == Tree([Tree([])])


@pytest.mark.parametrize("kind", [object, Number, Annotated[int, {"unit": "views"}]])
async def test_a_type_that_json_may_become_is_not(kind):
    """An abstract class is fine, and so are annotations on a type."""
    async with told(http(200, enveloped(5))) as (_, client):
        assert (await client.get("/v1/x", type=kind)).data == 5


async def test_get_sends_path_and_parameters_as_given():
    """The path goes out as it is, parameters encoded once, by their names, none merged or lost."""
    params = {"a b": "c&d=e", "n": 5, "yes": True, "no": False, "none": None, "\u00e9": "+%2B"}
    async with told(ANY, keep=True) as (server, client):
        await client.get("/v1/x%20y/@z;1", params=params)
    target = server.targets[0]
    assert target.startswith("/v1/x%20y/@z;1?")
    assert parse_qsl(urlsplit(target).query) == [
        ("a b", "c&d=e"), ("n", "5"), ("no", "false"), ("yes", "true"), ("\u00e9", "+%2B"),
    ]  # fmt: skip


class Days(int, Enum):
    """Numbers of a program's own."""

    WEEK = 7


async def test_a_parameter_may_be_of_an_enum():
    """What is sent is the value, not the name that Python gives to it."""
    async with told(ANY) as (server, client):
        await client.get("/v1/x", params={"days": Days.WEEK, "status": LookupStatus.FOUND})
    assert server.targets == ["/v1/x?days=7&status=found"]


GOOD_PATHS = [
    "/v1/x",
    "/v1/x/",
    "/v1/x%2Dy",
    "/v1/a.b/...",
    "/v1/a:b@c",
    "/v1/%E2%82%AC",
    "/v1/..a",
]


@pytest.mark.parametrize("path", GOOD_PATHS)
async def test_a_good_path_is_sent_byte_for_byte(path):
    """A percent-encoded path of the API arrives as it is."""
    async with told(ANY) as (server, client):
        await client.get(path)
    assert server.targets == [path]


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"x": "1"}, "x=1"),
        ({"x": True, "region": "us"}, "region=us&x=true"),
        ({"cursor": 5}, "cursor=5"),
        ({"region": "usa"}, "region=usa"),
    ],
)
async def test_a_showcase_that_is_asked_for_otherwise_is_sent_as_given(params, query):
    """What no method asks a showcase for goes out as it is, and is not taken for one's page."""
    path = "/v1/tiktok/profiles/MrBeast/showcase-products"
    async with told(ANY) as (server, client):
        await client.get(path, params=params)
    assert server.targets == [f"{path}?{query}"]


class Unresolved(msgspec.Struct):
    """A type with an annotation that cannot be resolved."""

    field: "Nowhere"  # noqa: F821


BAD_PATHS = [
    "", "/", "/v1", "/v1/", "/v2/x", "/health", "v1/x", "//evil.example/v1/x", "/v1//x",
    "http://evil.example/v1/x", "https://evil.example", "/v1/../x", "/v1/./x", "/v1/x/..",
    "/v1/%2e%2e/x", "/v1/%2E/x", "/v1/.%2e/x", "/v1/x%2F..%2Fy", "/v1/x%2fy", "/v1/x%5Cy",
    "/v1/x%2Fy", "/v1/x%5cy",
    "/v1/x?y=1", "/v1/x#y", "/v1/x y", "/v1/x\n", "/v1/x\r\nX: y", "/v1/x\0", "/v1/\u00e9",
    "/v1/x%", "/v1/x%2", "/v1/x%zz", "/v1/x\\y", "/V1/x", "/v10/x", "/v1/x\ud800", " /v1/x",
    "@evil.example/v1/x", ".evil.example/v1/x", ":80/v1/x",
]  # fmt: skip


@pytest.mark.parametrize("path", [*BAD_PATHS, None, 5, b"/v1/x"], ids=ascii)
async def test_a_bad_path_is_refused_before_sending(path):
    """A path that could lead elsewhere, or is not encoded, is refused, and nothing is sent."""
    async with told(ANY) as (server, client):
        await failure(client.get(path), InvalidArgumentError)
        assert server.connections == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"params": {"x": ""}},
        {"params": [("x", "y")]},
        {"params": "x=y"},
        {"params": {"x": 1.5}},
        {"params": {"x": ["y"]}},
        {"params": {"x": b"y"}},
        {"params": {"x": "\ud800"}},
        {"params": {"\ud800": "x"}},
        {"params": {None: "x"}},
        {"params": {5: "x"}},
        {"price": -1},
        {"price": True},
        {"price": 0.5},
        {"price": "1"},
        {"type": lambda: None},
        {"type": "Unknown"},
        {"type": Unresolved},
        {"type": 5},
    ],
    ids=lambda arguments: str(arguments).split(" at 0x")[0],
)
async def test_bad_arguments_of_get_are_refused(arguments):
    """Parameters, prices and types that make no sense are refused, and nothing is sent."""
    async with told(ANY) as (server, client):
        await failure(client.get("/v1/x", **arguments), InvalidArgumentError)
        assert server.connections == 0


async def test_a_number_that_python_does_not_write_down_is_refused():
    """As any other parameter that cannot be sent."""
    async with told(ANY) as (server, client):
        await failure(client.get("/v1/x", params={"n": 10**5_000}), InvalidArgumentError)
        assert server.connections == 0


async def test_the_price_is_what_may_be_lost():
    """The caller's price of another route is what a lost answer may have cost."""
    async with told(b"", keep=False) as (_, client):
        for price in (0, 1, 25):
            error = await failure(client.get(f"/v1/x{price}", price=price))
            assert error.usage.maybe == price
