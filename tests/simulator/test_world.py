"""What the simulator shows."""

import json
from decimal import Decimal
from itertools import islice

import pytest

from asyncsfk.simulator import Simulator

HANDLES = ["fancyeats.0", "indiepicks_1", "luckygear_2"]
PRODUCTS = ["1729521671728417284", "1729521671728456201"]
FIELDS = {"id", "title", "url", "image", "price", "rating", "sales", "seller"}


@pytest.mark.parametrize(
    "handle", ["mrbeast", "a.45products", "a.20products", "a.21products", "a.0products", "empty_x"]
)
async def test_the_pages_are_the_truth(ask, handle):
    """The pages of a showcase, put together, are what `showcase` says."""
    assert await ask.showcase(handle) == ask.sim.showcase(handle)
    pages = max(1, -(-ask.sim.product_count(handle) // 20))
    assert ask.sim.ledger.charged == ask.sim.ledger.requests == pages


async def test_pages_are_full_but_the_last(ask):
    """Each page but the last holds `page_size` products."""
    first = await ask.page("a.45products")
    second = await ask.page("a.45products", cursor=first.data["page"]["nextCursor"])
    third = await ask.page("a.45products", cursor=second.data["page"]["nextCursor"])
    assert [len(page.data["products"]) for page in (first, second, third)] == [20, 20, 5]
    assert third.data["page"] == {"nextCursor": None, "hasMore": False}
    # In UTF-8, and not escaped.
    assert not first.body.isascii()


async def test_the_page_size_can_be_set(simulate):
    """A simulator pages as it is told."""
    async with simulate(page_size=7) as ask:
        assert await ask.showcase("a.15products") == ask.sim.showcase("a.15products")
        assert ask.sim.ledger.requests == 3


async def test_an_answer_says_what_it_cost(ask):
    """Beside its data, an answer has a request id, its price, the version, sometimes `cached`."""
    seen = set()
    for handle in ask.sim.handles(20):
        meta = (await ask.page(handle)).json["meta"]
        assert meta["requestId"].startswith("req_")
        assert (meta["creditsCharged"], meta["version"]) == (1, "v1")
        seen.add(meta.get("cached"))
    assert seen == {None, True, False}


async def test_request_ids_differ(ask):
    """No two answers have the same request id."""
    replies = [await ask.page("mrbeast") for _ in range(3)]
    assert len({reply.json["meta"]["requestId"] for reply in replies}) == 3


@pytest.mark.parametrize(
    ("handle", "status"),
    [("private_x", "private"), ("empty_x", "found"), ("unknown_x", "not_found")],
)
async def test_prefixes_choose_the_account(ask, handle, status):
    """A prefix says what a creator is; all three show nothing and are charged."""
    assert ask.sim.account_status(handle.upper()) == status
    assert await ask.showcase(handle) == ask.sim.showcase(handle) == []
    data = (await ask.get(f"/v1/tiktok/profiles/{handle}")).data
    assert data["lookupStatus"] == status
    assert (data["profile"] is None) == (status == "not_found")
    assert ask.sim.ledger.charged == 2


async def test_the_case_of_a_handle_changes_nothing(ask):
    """TikTok names are case-insensitive."""
    assert await ask.showcase("MrBeast.30Products") == await ask.showcase("mrbeast.30products")
    lower, upper = await ask.page("a.30products"), await ask.page("A.30PRODUCTS")
    cursor = lower.data["page"]["nextCursor"]
    assert upper.data == lower.data
    assert (await ask.page("A.30products", cursor=cursor)).status == 200


async def test_the_region_changes_prices_only(ask):
    """Another region shows the same products at other prices."""
    seen = {}
    for region in (None, "US", "JP", "KW", "zz"):
        products = await ask.showcase("a.40products", region)
        assert products == ask.sim.showcase("a.40products", region)
        seen[region] = {p["price"]["currencyCode"] for p in products if p["price"]} - {None}
        assert [p["id"] for p in products] == [p["id"] for p in ask.sim.showcase("a.40products")]
    assert (seen["US"], seen["JP"], seen["KW"]) == ({"USD"}, {"JPY"}, {"KWD"})
    assert len(seen["zz"]) == 1


def test_a_world_follows_from_its_seed():
    """The same seed shows the same world, and another seed another one."""
    one, same, other = Simulator(1), Simulator(1, page_size=3), Simulator(2)
    for show in (
        lambda sim: list(sim.handles(50)),
        lambda sim: sim.showcase("a.30products"),
        lambda sim: sim.tiktok_profile("mrbeast"),
        lambda sim: sim.instagram_profile("nasa"),
        lambda sim: [sim.reviews(p["id"]) for p in sim.showcase("a.9products")],
    ):
        assert show(one) == show(same) != show(other)


def test_the_content_is_pinned():
    """Content stays the same from version to version: saved runs can be compared."""
    sim = Simulator(0)
    assert list(sim.handles(3)) == HANDLES
    assert [p["id"] for p in sim.showcase("mrbeast")][:2] == PRODUCTS


def test_handles_are_lazy_valid_and_distinct():
    """Handles come one at a time from a space without end, all valid and all different."""
    sim = Simulator(3)
    handles = list(sim.handles(5_000))
    assert len(set(handles)) == 5_000
    assert all(h.replace("_", "").replace(".", "").isalnum() and len(h) <= 64 for h in handles)
    assert list(islice(sim.handles(10**12, start=4_990), 10)) == handles[4_990:]
    assert "not_found" not in {sim.account_status(handle) for handle in handles}


def test_creators_are_of_all_kinds():
    """A few of a hundred creators are private or empty; lengths have a long tail."""
    sim = Simulator(0)
    handles = list(sim.handles(3_000))
    private = sum(sim.account_status(handle) == "private" for handle in handles)
    counts = sorted(sim.product_count(h) for h in handles if sim.account_status(h) == "found")
    assert 60 < private < 200
    assert 100 < counts.count(0) < 400
    assert 10 <= counts[len(counts) // 2] <= 25
    assert 400 < counts[-1] <= 1_200


def test_products_are_realistic():
    """Every nullable field is null sometimes, and titles and prices are of all sorts."""
    products = Simulator(0).showcase("a.5000products")
    assert len({product["id"] for product in products}) == 5_000
    seen = {(): 0}
    for product in products:
        assert set(product) - {"details"} == FIELDS
        count_nulls(product, (), seen)
        price = product["price"] or {}
        for field in ("salePrice", "originalPrice"):
            assert price.get(field) is None or Decimal(price[field]) > 0
    nullable = {
        *[(name,) for name in ("title", "url", "image", "price", "rating", "seller")],
        *[("image", name) for name in ("url", "width", "height")],
        *[("price", name) for name in ("currencyCode", "currencySymbol", "salePrice")],
        *[("price", name) for name in ("originalPrice", "discountPercent")],
        ("rating", "score"),
    }
    assert {path for path in seen if path and path[0] != "details"} == nullable
    assert 0.2 < sum("details" in product for product in products) / 5_000 < 0.3
    text = json.dumps([product["title"] for product in products], ensure_ascii=False)
    assert all(sign in text for sign in ("✨", "عباية", "韓国", "\\n", "\\\\", "&amp;", "\u200b"))
    assert max(len(product["title"] or "") for product in products) > 300


def count_nulls(value, path, seen):
    for name, inner in value.items():
        if inner is None:
            seen[(*path, name)] = seen.get((*path, name), 0) + 1
        elif isinstance(inner, dict):
            count_nulls(inner, (*path, name), seen)


async def test_reviews_are_numbered_pages(ask):
    """The pages of a product's reviews, put together, are what `reviews` says."""
    ids = [product["id"] for product in ask.sim.showcase("a.30products")]
    product = max(ids, key=lambda each: ask.sim.review_summary(each)["totalReviews"])
    reviews, page = [], 1
    while page is not None:
        data = (await ask.get("/v1/tiktok/products/reviews", productId=product, page=page)).data
        assert (data["lookupStatus"], data["page"]["currentPage"]) == ("found", page)
        assert data["page"]["hasMore"] == (data["page"]["nextPage"] is not None)
        assert data["summary"] == ask.sim.review_summary(product)
        reviews += data["reviews"]
        page = data["page"]["nextPage"]
    assert reviews == ask.sim.reviews(product)
    assert len(reviews) == data["summary"]["totalReviews"] > 40
    stars = data["summary"]["ratingDistribution"]
    assert list(stars.values()) == [[r["rating"] for r in reviews].count(n) for n in range(1, 6)]
    for page in (10**6, 2**63 - 1):
        past = (await ask.get("/v1/tiktok/products/reviews", productId=product, page=page)).data
        assert past["page"] == {"currentPage": page, "nextPage": None, "hasMore": False}
        assert past["reviews"] == []


async def test_a_full_page_of_reviews_may_be_the_last(simulate):
    """A page that holds just as many reviews as there are leads no further."""
    product = PRODUCTS[0]
    count = Simulator().review_summary(product)["totalReviews"]
    async with simulate(page_size=count) as ask:
        data = (await ask.get("/v1/tiktok/products/reviews", productId=product)).data
        assert len(data["reviews"]) == count > 0
        assert data["page"] == {"currentPage": 1, "nextPage": None, "hasMore": False}


async def test_reviews_by_address(ask):
    """A product's address works as well as its id; if both are given, the id counts."""
    one, two = [product["id"] for product in ask.sim.showcase("a.2products")]
    url = f"https://www.tiktok.com/shop/pdp/{one}?x=1&y=2"
    path = "/v1/tiktok/products/reviews"
    assert (await ask.get(path, url=url)).data["summary"] == ask.sim.review_summary(one)
    both = await ask.get(path, url=url, productId=two, region="GB")
    assert both.data["summary"] == ask.sim.review_summary(two)
    assert both.data["reviews"] == ask.sim.reviews(two, "GB")[:20]


@pytest.mark.parametrize("query", [{"productId": "12"}, {"url": "https://example.com"}])
async def test_reviews_of_an_unknown_product(ask, query):
    """An unknown product is a 200 that is charged."""
    data = (await ask.get("/v1/tiktok/products/reviews", **query)).data
    assert (data["lookupStatus"], data["reviews"]) == ("not_found", [])
    assert data["summary"]["totalReviews"] is None
    assert ask.sim.reviews("12") == []
    assert ask.sim.ledger.charged == 1


@pytest.mark.parametrize(
    "spelling",
    ["nasa", "@nasa", "NASA", "https://www.instagram.com/nasa/", "instagram.com/nasa?hl=en"],
)
async def test_instagram_names_and_addresses(ask, spelling):
    """An Instagram profile is found by name, with or without @, and by address."""
    reply = await ask.raw(f"/v1/instagram/profiles/{quoted(spelling)}")
    body = json.loads(reply.split(b"\r\n\r\n", 1)[1])
    assert body["data"] == ask.sim.instagram_profile("nasa")


@pytest.mark.parametrize("handle", ["private_x", "unknown_x", "mrbeast"])
async def test_instagram_accounts(ask, handle):
    """Instagram creators are of the same kinds."""
    data = (await ask.get(f"/v1/instagram/profiles/{handle}")).data
    assert data == ask.sim.instagram_profile(handle)
    assert data["lookupStatus"] == ask.sim.account_status(handle)


def test_profiles_vary():
    """Over many creators, optional fields are sometimes there and sometimes missing."""
    sim = Simulator(0)
    for profile in (sim.tiktok_profile, sim.instagram_profile):
        sizes = {len(profile(handle)["profile"]) for handle in sim.handles(100)}
        assert len(sizes) >= 2


def quoted(text):
    return "".join(f"%{byte:02X}" for byte in text.encode())


async def test_the_free_routes(ask):
    """Who am I, the balance and the health cost nothing; health needs no key."""
    assert set((await ask.get("/v1/whoami")).data["user"]) == {"id", "name", "email"}
    assert (await ask.get("/v1/balance")).data["balance"] == 1_000_000
    health = await ask.get("/health", headers={})
    assert (health.status, health.json) == (200, {"status": "ok"})
    assert ask.sim.ledger.charged == 0


async def test_the_balance_runs_out(simulate):
    """With the credits used up, metered routes answer 402 and free ones go on."""
    async with simulate(credits=2) as ask:
        assert [(await ask.page("mrbeast")).status for _ in range(2)] == [200, 200]
        poor = await ask.page("mrbeast")
        assert (poor.status, poor.code) == (402, "insufficient_credits")
        assert poor.json["error"]["checkoutUrl"].startswith("https://")
        balance = (await ask.get("/v1/balance")).data
        assert (balance["balance"], balance["refillState"]) == (0, "exhausted")
        assert (ask.sim.balance, ask.sim.ledger.charged) == (0, 2)
        ask.sim.balance = 1
        assert (await ask.page("mrbeast")).status == 200


@pytest.mark.parametrize(
    ("gzip", "accepted", "packed"),
    [
        (True, "gzip", True),
        (True, "br, GZIP;q=0.5", True),
        (True, "*", True),
        (True, "gzip;q=0", False),
        (True, "br", False),
        (True, None, False),
        (False, "gzip", False),
    ],
)
async def test_compression(simulate, gzip, accepted, packed):
    """Large answers are compressed for clients that accept that, unless told not to."""
    async with simulate(gzip=gzip) as ask:
        headers = [] if accepted is None else [f"Accept-Encoding: {accepted}"]
        path = "/v1/tiktok/profiles/a.20products/showcase-products"
        large, small = await ask.raw(path, headers=headers), await ask.raw("/health")
        assert (b"Content-Encoding: gzip" in large) == packed
        assert b"Content-Encoding" not in small
        assert (await ask.page("a.20products")).data["products"] == ask.sim.showcase("a.20products")
