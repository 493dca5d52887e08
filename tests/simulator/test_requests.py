"""What the simulator lets in."""

import pytest

SHOWCASE = "/v1/tiktok/profiles/{}/showcase-products"
REVIEWS = "/v1/tiktok/products/reviews"
REGIONS = [
    "US",
    "GB",
    "DE",
    "FR",
    "IT",
    "ID",
    "MY",
    "MX",
    "PH",
    "SG",
    "ES",
    "TH",
    "VN",
    "BR",
    "JP",
    "IE",
]


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-api-key": "sfk_wrong"}, {"x-api-key": ""}, {"Authorization": "Bearer x"}],
)
@pytest.mark.parametrize("path", [SHOWCASE.format("x"), "/v1/whoami", "/v1/balance"])
async def test_the_key_must_be_right(ask, path, headers):
    """Without the right key every route but health is refused, uncharged."""
    reply = await ask.get(path, headers=headers)
    assert (reply.status, reply.code) == (401, "unauthorized")
    [entry] = ask.sim.ledger
    assert (entry.authorized, entry.charged, entry.status) == (False, 0, 401)


async def test_a_key_sent_twice_is_refused(ask):
    """Two keys are as bad as none."""
    headers = [f"X-API-Key: {ask.sim.api_key}"]
    assert await ask.raw_status("/v1/whoami", headers=headers) == 401


async def test_the_key_is_checked_before_the_rest(ask):
    """A stranger does not learn what is wrong with a request."""
    assert (await ask.get(SHOWCASE.format("a%20b"), headers={})).status == 401


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/tiktok/profiles/a/b", "/v2/whoami", "/health/", "/v1//whoami"]
)
async def test_an_unknown_route(ask, path):
    """An unknown route is a 404, key or not."""
    for headers in (None, {}):
        reply = await ask.get(path, headers=headers)
        assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
async def test_only_get(ask, method):
    """Any method but GET is a 404."""
    assert (await ask.get("/v1/whoami", method=method)).status == 404


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Length: 5\r\n\r\nhello", 400),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0", 400),
        ("Content-Length: 0", 200),
    ],
)
async def test_no_bodies(ask, header, status):
    """A request with a body is refused: no route has a use for one."""
    assert await ask.raw_status(SHOWCASE.format("a"), headers=[header]) == status
    [entry] = ask.sim.ledger
    assert (entry.handle, entry.status, entry.charged) == ("a", status, status == 200)


@pytest.mark.parametrize(
    "handle",
    [
        *("", "%20", "a%20b", "%40mrbeast", "@mrbeast", "a%2Fb", "a%3Fb", "a%23b", "%2E%2E"),
        *("..", ".", "...", "a-b", "a%0A", "a%00", "%F0%9F%98%80", "a" * 65, "a%", "a%zz", "%FF"),
        *("a{b", "a%25b"),
    ],
)
async def test_bad_handles(ask, handle):
    """What is not a TikTok name is refused, however it is encoded."""
    for path in (SHOWCASE, "/v1/tiktok/profiles/{}"):
        assert await ask.raw_status(path.format(handle)) == 400
    assert ask.sim.ledger.charged == 0


@pytest.mark.parametrize("handle", ["a", "a" * 64, "_", "a.b_c", ".a", "%61", "0"])
async def test_good_handles(ask, handle):
    """Names of 1 to 64 of the right characters are let in."""
    assert await ask.raw_status(SHOWCASE.format(handle)) == 200


@pytest.mark.parametrize(
    "query",
    [
        *("cursor=", "cursor", "cursor=made-up", "region=", "nonsense=1", "Cursor=x", "&", "=x"),
        *("region=US&region=US", "cursor=%", "cursor=%zz", "cursor=%FF", "region=a=b", "x"),
        *("limit=5", "region=U|S", "region=US&"),
    ],
)
async def test_bad_showcase_queries(ask, query):
    """Unknown, empty, doubled and badly encoded parameters are refused."""
    assert await ask.raw_status(f"{SHOWCASE.format('a')}?{query}") == 400


@pytest.mark.parametrize("query", ["", "region=us", "region=Any+Where", "region=%F0%9F%98%80"])
async def test_good_showcase_queries(ask, query):
    """Any region that is not empty is let in."""
    assert await ask.raw_status(f"{SHOWCASE.format('a')}?{query}") == 200


@pytest.mark.parametrize(
    "query",
    [
        *("", "page=1", "productId=1&page=0", "productId=1&page=-1", "productId=1&page=x"),
        *("productId=1&page=1.0", "productId=1&page=01", "productId=", "url="),
        *("productId=1&region=us", "productId=1&region=KR", "productId=1&cursor=x"),
        f"url={'x' * 4097}",
    ],
)
async def test_bad_review_queries(ask, query):
    """Reviews need a product, a page from 1 and one of sixteen regions."""
    assert await ask.raw_status(f"{REVIEWS}?{query}") == 400


@pytest.mark.parametrize("region", REGIONS)
async def test_review_regions(ask, region):
    """Sixteen regions have reviews."""
    assert await ask.raw_status(f"{REVIEWS}?productId=1&region={region}&page=3") == 200


async def test_a_long_address(ask):
    """An address of 4096 characters is let in, even with each of them percent-encoded."""
    assert await ask.raw_status(f"{REVIEWS}?url={'%2F' * 4096}") == 200


@pytest.mark.parametrize(
    "handle",
    [
        *("", "@", "a%20b", "%40%40a", "https%3A%2F%2Fexample.com%2Fnasa", "a" * 65),
        *("instagram.com%2F" + "a" * 2048, "https%3A%2F%2Fwww.instagram.com%2F", "%C3%A9", ".."),
    ],
)
async def test_bad_instagram_handles(ask, handle):
    """What is neither a name nor an address of a profile on Instagram is refused."""
    assert await ask.raw_status(f"/v1/instagram/profiles/{handle}") == 400


@pytest.mark.parametrize("path", ["/v1/whoami", "/v1/balance", "/health", "/v1/tiktok/profiles/a"])
async def test_no_parameters(ask, path):
    """Routes without parameters refuse any."""
    assert (await ask.get(path, region="US")).status == 400


async def test_a_request_as_to_a_proxy(ask):
    """A target with an origin is served, so that the simulator can stand in for a proxy."""
    assert await ask.raw_status("http://api.socialfetch.dev/v1/whoami") == 200


async def test_what_is_no_http_is_refused_without_a_word(ask, caplog):
    """A broken request is a 400 that leaves no log record, which could quote the key."""
    assert await ask.raw_status("/v1/whoami", headers=["bad header: \x01"]) == 400
    assert caplog.records == []
    assert ask.sim.ledger.requests == 0


async def test_an_old_client(ask):
    """A client of HTTP/1.0 is served."""
    reply = await ask.raw("/health HTTP/1.0\r\nX: y", headers=())
    assert reply.startswith(b"HTTP/1.0 200 OK")
