"""The simulator's answers over real HTTP, held against the schemas."""

import contextlib
from urllib.parse import quote

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from asyncsfk.simulator import Fault, Simulator
from tests.contract.schemas import ANSWERS, CODES, failure
from tests.contract.strategies import places, whole

VALIDATORS = {name: Draft202012Validator(schema) for name, schema in ANSWERS.items()}
SPECIAL = ["private_one", "unknown_one", "empty_one", "many.120products"]
MAX_PAGES = 8


@pytest.fixture
async def simulator():
    async with Simulator(seed=0) as simulator:
        yield simulator


@pytest.fixture
async def get(simulator):
    """Give a function that asks a route, and gives status and JSON."""
    async with asking(simulator) as get:
        yield get


@contextlib.asynccontextmanager
async def asking(simulator):
    headers = {"x-api-key": simulator.api_key}
    async with aiohttp.ClientSession(simulator.url, headers=headers) as session:

        async def get(path, headers=None, **params):
            async with session.get(path, params=params, headers=headers) as answer:
                return answer.status, await answer.json()

        yield get


def check(name, answered):
    """Hold a 200 against its route's schema; give its data."""
    status, body = answered
    assert status == 200
    VALIDATORS[name].validate(body)
    return body.get("data")


async def pages(get, path, **params):
    """Give the showcase pages of a creator, at most MAX_PAGES."""
    for _ in range(MAX_PAGES):
        data = check("showcase", await get(path, **params))
        yield data
        if not data["page"]["hasMore"]:
            break
        params["cursor"] = data["page"]["nextCursor"]


async def test_showcases_and_reviews(simulator, get):
    """Showcases of many creators, and reviews of their products, fit the schemas."""
    seen = {"products": 0, "details": 0, "no price": 0, "reviews": 0, "second pages": 0}
    for handle in [*simulator.handles(40), *SPECIAL]:
        async for data in pages(get, f"/v1/tiktok/profiles/{quote(handle)}/showcase-products"):
            products = data["products"]
            seen["products"] += len(products)
            seen["details"] += sum("details" in product for product in products)
            seen["no price"] += sum(product["price"] is None for product in products)
        for product in products[:1]:
            page = 1
            while page and page < MAX_PAGES:
                found = await get("/v1/tiktok/products/reviews", productId=product["id"], page=page)
                data = check("reviews", found)
                assert data["page"]["currentPage"] == page
                seen["reviews"] += len(data["reviews"])
                seen["second pages"] += page == 2
                page = data["page"]["nextPage"]
    assert all(seen.values()), seen


def fields(body, name):
    """Give the paths of those fields of a body that its route's schema knows."""
    found = places(body, ANSWERS[name])
    return {tuple(key for key in path if isinstance(key, str)) for path, _ in found}


@pytest.mark.parametrize("route", ["tiktok_profile", "instagram_profile"])
async def test_profiles(simulator, get, route):
    """Profiles of found, private and unknown creators fit the schemas, and have all fields."""
    network = route.removesuffix("_profile")
    statuses, seen = set(), set()
    for handle in [*simulator.handles(60), *SPECIAL]:
        answered = await get(f"/v1/{network}/profiles/{quote(handle)}")
        statuses.add(check(route, answered)["lookupStatus"])
        seen |= fields(answered[1], route)
    assert statuses == {"found", "private", "not_found"}
    assert seen == fields(whole(ANSWERS[route]), route)


@pytest.mark.parametrize(
    ("route", "path"),
    [("whoami", "/v1/whoami"), ("balance", "/v1/balance"), ("health", "/health")],
)
async def test_free_routes(get, route, path):
    """The answers of the free routes fit the schemas."""
    check(route, await get(path))


@pytest.mark.parametrize(
    ("status", "path", "options"),
    [
        (400, "/v1/tiktok/profiles/bad%20handle/showcase-products", {}),
        (400, "/v1/tiktok/profiles/x/showcase-products", {"cursor": "made up"}),
        (400, "/v1/tiktok/products/reviews", {}),
        (401, "/v1/whoami", {"headers": {"x-api-key": "sfk_wrong"}}),
        (404, "/v1/no/such/route", {}),
    ],
)
async def test_refusals(get, status, path, options):
    """Refusals come with the API's error envelope, status and code."""
    answered, body = await get(path, **options)
    assert answered == status
    Draft202012Validator(failure(status)).validate(body)


@pytest.mark.parametrize("status", CODES)
async def test_simulated_failures(status):
    """A failure asked for comes with the API's error envelope and the status's code."""
    fault = Fault.status(status, checkout_url="https://pay.example/" if status == 402 else None)
    async with Simulator(seed=0, faults=[fault]) as simulator, asking(simulator) as get:
        answered, body = await get("/v1/tiktok/profiles/someone/showcase-products")
    assert answered == status
    Draft202012Validator(failure(status)).validate(body)
    assert ("checkoutUrl" in body["error"]) == (status == 402)
