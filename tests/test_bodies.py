"""Bodies of every bad kind end in the typed error that says what they cost."""

import asyncio
import gzip
import sys
import time
import tracemalloc
import zlib

import msgspec
import pytest

from asyncsfk import (
    AnswerError,
    APIError,
    Archive,
    BadRequestError,
    BodyTooLargeError,
    ForbiddenError,
    InsufficientCreditsError,
    LookupFailedError,
    NotFoundError,
    RateLimitedError,
    RequestTimeoutError,
    Retry,
    ServerError,
    Timeout,
    UnauthorizedError,
    UnavailableError,
    UndecodableError,
)
from asyncsfk.simulator import Fault, Simulator
from tests.support import SHOWCASE, chunked, client_of, enveloped, failure, http, js, told

HANDLE = "long.90products"
META = {"requestId": "req_1", "creditsCharged": 1, "version": "v1"}
PAGE = {"nextCursor": None, "hasMore": False}
GOOD = {"data": {"products": [{"id": "1"}], "page": PAGE}, "meta": META}


# Too large


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    "fault",
    [
        Fault.oversized(3_000_000, handles=[HANDLE]),
        Fault.oversized(3_000_000, chunked=True, handles=[HANDLE]),
        Fault.gzip_bomb(2**26, handles=[HANDLE]),
    ],
    ids=["length", "chunked", "gzip bomb"],
)
async def test_a_body_over_the_cap_is_refused(fault):
    """A body over the cap, as sent or unpacked, is refused after one hit, with little memory."""
    async with (
        Simulator(faults=[fault]) as sim,
        client_of(sim, max_body_bytes=1_000_000, retry=Retry()) as client,
    ):
        await client.health()
        tracemalloc.start()
        try:
            error = await failure(client.showcase_page(HANDLE), BodyTooLargeError)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert sim.ledger.hits(HANDLE) == 1
        assert (error.usage.charged, error.usage.maybe) == (0, sim.ledger.charged)
    assert isinstance(error, AnswerError)
    assert (error.status, error.attempts, error.handle, error.route) == (200, 1, HANDLE, SHOWCASE)
    assert "1000000" in str(error)
    assert error.body is None
    assert peak < 20_000_000
    assert error.gave_up is None


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("lines", [(), ("Transfer-Encoding: chunked",)], ids=["length", "chunked"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_the_cap_is_exact(lines, packed):
    """A body of just the cap is read; one byte more is refused."""
    good = js(GOOD)
    # Packed, the body is smaller than the cap, so that only its plain size meets it.
    sent = gzip.compress(good, 9) if packed else good
    lines += ("Content-Encoding: gzip",) * packed
    answer = http(
        200,
        chunked(sent) if lines[:1] == ("Transfer-Encoding: chunked",) else sent,
        *lines,
        length="Transfer-Encoding: chunked" not in lines,
    )
    async with told(answer, max_body_bytes=len(good)) as (_, client):
        assert (await client.showcase_page(HANDLE)).products[0].id == "1"
    async with told(answer, max_body_bytes=len(good) - 1) as (server, client):
        await failure(client.showcase_page(HANDLE), BodyTooLargeError)
        assert server.hits == 1


@pytest.mark.usefixtures("either_way")
async def test_what_comes_after_the_cap_is_refused_however_late():
    """What came within the cap is valid by itself, but is not the whole answer."""

    async def answer(_, writer):
        good = js(GOOD)
        writer.write(http(200, good, f"Content-Length: {len(good) + 1}", length=False))
        await asyncio.sleep(1)
        writer.write(b" ")

    async with told(answer, max_body_bytes=len(js(GOOD))) as (server, client):
        error = await failure(client.showcase_page(HANDLE), BodyTooLargeError)
        assert server.hits == error.usage.maybe == 1


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("length", [b"", b"Content-Length: 131072000\r\n"], ids=["unknown", "told"])
async def test_an_endless_body_is_cut_off(length):
    """A server that never stops sending is stopped at the cap, the connection closed."""
    sent = []

    async def pour(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n" % length)
        try:
            while len(sent) < 2000:
                writer.write(b" " * 65536)
                sent.append(65536)
                await writer.drain()
        except ConnectionError:
            return

    async with told(pour, max_body_bytes=1_000_000) as (server, client):
        error = await failure(client.showcase_page(HANDLE), BodyTooLargeError)
        assert server.hits == 1
        assert 1_000_000 < error.usage.bytes < 3_000_000
        # The rest of what the sockets had room for.
        await asyncio.sleep(1)
        assert len(sent) < 2000


# Slow


@pytest.mark.usefixtures("either_way")
async def test_a_dripping_body_within_the_total_is_read():
    """A slow body is good as long as it ends within the total."""
    async with (
        Simulator(faults=[Fault.drip(chunk=512, interval=0.5)], gzip=False) as sim,
        client_of(sim, timeout=Timeout(total=60, read=2)) as client,
    ):
        page = await client.showcase_page("slow.3products")
        assert len(page.products) == 3


@pytest.mark.usefixtures("either_way")
async def test_a_dripping_body_beyond_the_total_times_out():
    """A server that keeps dripping, never silent for long, is given up at the total."""
    async with (
        Simulator(faults=[Fault.drip(chunk=1, interval=0.5)], gzip=False) as sim,
        client_of(sim, timeout=Timeout(total=9, read=2)) as client,
    ):
        loop = asyncio.get_running_loop()
        started = loop.time()
        error = await failure(client.showcase_page(HANDLE), RequestTimeoutError)
        assert 9 <= loop.time() - started <= 10.1
        assert sim.ledger.requests == 1
        assert error.usage.maybe == sim.ledger.charged == 1


@pytest.mark.usefixtures("either_way")
async def test_silence_is_counted_anew_with_each_piece():
    """A body that pauses again and again, each time for less than `read`, is waited for."""

    async def dawdle(_, writer):
        body = js(GOOD)
        writer.write(http(200, b"", f"Content-Length: {len(body)}", length=False))
        for start in range(0, len(body), 20):
            await asyncio.sleep(3)
            writer.write(body[start : start + 20])
            await writer.drain()

    async with told(dawdle, timeout=Timeout(total=100, read=4)) as (server, client):
        assert len((await client.showcase_page(HANDLE)).products) == 1
        assert server.hits == 1


@pytest.mark.usefixtures("either_way")
async def test_silence_is_counted_anew_with_the_head():
    """With the head nothing of the body has come yet: `read` starts again from there."""

    async def dawdle(_, writer):
        body = js(GOOD)
        await asyncio.sleep(3)
        writer.write(http(200, b"", f"Content-Length: {len(body)}", length=False))
        await asyncio.sleep(3)
        writer.write(body)

    async with told(dawdle, timeout=Timeout(total=100, read=4)) as (server, client):
        assert len((await client.showcase_page(HANDLE)).products) == 1
        assert server.hits == 1


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("moment", [0.1, 0.9, 3.1, 4.1])
async def test_silence_is_noticed_an_eighth_late_at_most(moment):
    """`read` counts from the last piece, whenever that came."""

    async def fall_silent(_, writer):
        writer.write(http(200, b"", "Content-Length: 100", length=False))
        await asyncio.sleep(moment)
        writer.write(b"{")
        await asyncio.sleep(100)

    async with told(fall_silent, timeout=Timeout(total=100, read=8)) as (_, client):
        loop = asyncio.get_running_loop()
        began = loop.time()
        await failure(client.showcase_page(HANDLE), RequestTimeoutError)
        assert moment + 8 <= loop.time() - began <= moment + 9.01


@pytest.mark.usefixtures("either_way")
async def test_a_body_that_stalls_times_out():
    """A body that stops coming is given up after `read`."""
    async with (
        Simulator(faults=[Fault.drip(chunk=64, interval=30)], gzip=False) as sim,
        client_of(sim, timeout=Timeout(total=100, read=2)) as client,
    ):
        loop = asyncio.get_running_loop()
        started = loop.time()
        error = await failure(client.showcase_page(HANDLE), RequestTimeoutError)
        assert loop.time() - started < 4
        assert error.usage.maybe == 1


# Not what was asked for


#: fault -> (charged, maybe); the true price is 1 each time.
SPOILT = {
    "invalid UTF-8": (Fault.invalid_utf8(), (1, 0)),
    "NaN": (Fault.nan(), (1, 0)),
    "Infinity": (Fault.nan("-Infinity"), (1, 0)),
    "1e400": (Fault.nan("1e400"), (1, 0)),
    "01": (Fault.nan("01"), None),
    "product of a wrong type": (Fault.wrong_type("product"), (1, 0)),
    "page of a wrong type": (Fault.wrong_type("page"), (1, 0)),
    "data of a wrong type": (Fault.wrong_type("data"), (1, 0)),
    "deep nesting": (Fault.deep_nesting(), None),
    "HTML": (Fault.not_json(), (0, 1)),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("spoilt", SPOILT)
async def test_a_spoilt_body_is_undecodable(spoilt, packed):
    """A 200 that is not what was asked for is one hit, raw bytes and price in the error."""
    fault, cost = SPOILT[spoilt]
    async with (
        Simulator(faults=[fault], gzip=packed) as sim,
        client_of(sim, retry=Retry()) as client,
    ):
        error = await failure(client.showcase_page(f"@{HANDLE}"), UndecodableError)
        assert sim.ledger.requests == sim.ledger.charged == 1
    usage = error.usage
    assert usage.charged + usage.maybe == 1
    if cost is not None:
        assert (usage.charged, usage.maybe) == cost
    assert (error.status, error.attempts, error.handle, error.route) == (200, 1, HANDLE, SHOWCASE)
    # The body is the plain one, whole.
    assert error.body.startswith((b'{"data"', b"<!doctype"))
    assert error.body.endswith((b"}", b"</html>"))
    if usage.charged:
        assert error.request_id.startswith("req_")
    assert len(str(error)) < 600
    assert len(repr(error)) < 600


UNUSABLE = {
    "missing data": ({"meta": META}, (1, 0)),
    "null data": ({"data": None, "meta": META}, (1, 0)),
    "data is a list": ({"data": [], "meta": META}, (1, 0)),
    "missing products": ({"data": {"page": PAGE}, "meta": META}, (1, 0)),
    "missing page": ({"data": {"products": []}, "meta": META}, (1, 0)),
    "null page": ({"data": {"products": [], "page": None}, "meta": META}, (1, 0)),
    "product without id": ({"data": {"products": [{}], "page": PAGE}, "meta": META}, (1, 0)),
    "product of empty id": (
        {"data": {"products": [{"id": ""}], "page": PAGE}, "meta": META},
        (1, 0),
    ),
    "product of null id": (
        {"data": {"products": [{"id": None}], "page": PAGE}, "meta": META},
        (1, 0),
    ),
    "numeric title": (
        {"data": {"products": [{"id": "1", "title": 5}], "page": PAGE}, "meta": META},
        (1, 0),
    ),
    "fractional width": (
        {"data": {"products": [{"id": "1", "image": {"width": 1.5}}], "page": PAGE}, "meta": META},
        (1, 0),
    ),
    "cursor is a number": (
        {"data": {"products": [], "page": {"nextCursor": 5, "hasMore": True}}, "meta": META},
        (1, 0),
    ),
    "an error envelope": ({"error": {"code": "x", "message": "y"}}, (0, 1)),
    "a list": ([GOOD], (0, 1)),
    "null": (None, (0, 1)),
    "two credits": ({"meta": {"creditsCharged": 2}}, (2, 0)),
}


@pytest.mark.parametrize("unusable", UNUSABLE)
async def test_an_unusable_answer_is_undecodable(unusable):
    """An answer without what a showcase must have is an error, never an empty showcase."""
    value, cost = UNUSABLE[unusable]
    async with told(http(200, js(value)), retry=Retry()) as (server, client):
        error = await failure(client.showcase_page(HANDLE), UndecodableError)
        assert server.hits == 1
    assert (error.usage.charged, error.usage.maybe) == cost
    assert error.body == js(value)


TEXTS = {
    "empty": b"",
    "space": b"  \n",
    "cut": js(GOOD)[:-5],
    "trailing": js(GOOD) + b"{}",
    "BOM": b"\xef\xbb\xbf" + js(GOOD),
    "UTF-16": js(GOOD).decode().encode("utf-16"),
    "single quotes": js(GOOD).replace(b'"', b"'"),
    "NUL": js(GOOD) + b"\0",
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("text", TEXTS)
async def test_what_is_not_json_is_undecodable(text):
    """A 200 that is not JSON is an error with its raw bytes, whatever else it is."""
    async with told(http(200, TEXTS[text]), retry=Retry()) as (server, client):
        error = await failure(client.showcase_page(HANDLE), UndecodableError)
        assert server.hits == 1
    assert error.body == TEXTS[text]
    assert error.usage.charged + error.usage.maybe == 1


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"Glow \ud83d", "Glow \ufffd"),
        (r"\uDE00 glow", "\ufffd glow"),
        (r"\ud83d\ud83d\ude00\ud83d", "\ufffd\U0001f600\ufffd"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\\ud83d\ud83d", "\\ud83d\ufffd"),
        (r"\\\ud83d\n", "\\\ufffd\n"),
        (r"\ud83d\\ude00", "\ufffd\\ude00"),
    ],
)
async def test_half_of_a_character_is_replaced(sent, read, tmp_path):
    """JavaScript cuts titles in the middle of an emoji: the page is paid for, and can be read."""
    title = f'"title":"{sent}"'.encode()
    details = b'"details":{"note":"%b"}' % sent.encode()
    body = js(GOOD).replace(b'"id": "1"', b'"id":"1",' + title + b"," + details)
    assert title in body
    async with told(http(200, body), keep=True) as (server, client):
        async with Archive(tmp_path / "a.sfk") as archive:
            for _ in range(2):
                page = await client.showcase_page(HANDLE, archive=archive)
                (product,) = page.products
                assert product.title == product.details["note"] == read
                assert product.to_dict()["title"] == read
                assert product.to_dict()["details"] == {"note": read}
        assert server.hits == 1
        # As it came.
        (kept,) = await asyncio.to_thread(lambda: list(archive.answers()))
        assert kept.body() == body


async def test_details_with_half_of_a_character_can_be_read():
    """Even if it is the only one on its page."""
    body = js(GOOD).replace(b'"id": "1"', rb'"id":"1","details":{"note":"\ud83d"}')
    async with told(http(200, body)) as (_, client):
        (product,) = (await client.showcase_page(HANDLE)).products
    assert product.details == product.to_dict()["details"] == {"note": "\ufffd"}


async def test_deep_nesting_outside_of_what_we_know_is_survived_or_typed():
    """Deep nesting anywhere is a page or the typed error, never a crash."""
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (
        b'{"data":' + deep + b',"meta":' + js(META) + b"}",
        js(GOOD)[:-1] + b',"unknown":' + deep + b"}",
        b'{"meta":' + deep + b',"data":' + js(GOOD["data"]) + b"}",
        deep,
    ):
        async with told(http(200, body)) as (_, client):
            (outcome,) = await client.fetch_showcases([HANDLE])
        assert outcome.usage.charged + outcome.usage.maybe == 1
        if outcome.error is None:
            assert outcome.products
        else:
            assert type(outcome.error) is UndecodableError
            assert outcome.error.body == body


#: What `meta` says, and what the page then costs: unknown prices are maybe the route's.
METAS = {
    "missing": (..., (0, 1)),
    "null": (None, (0, 1)),
    "empty": ({}, (0, 1)),
    "no price": ({"requestId": "r"}, (0, 1)),
    "null price": ({"creditsCharged": None}, (0, 1)),
    "price in words": ({"creditsCharged": "one"}, (0, 1)),
    "price in a string": ({"creditsCharged": "2"}, (2, 0)),
    "negative price": ({"creditsCharged": -1}, (0, 1)),
    "broken price": ({"creditsCharged": 0.5}, (0, 1)),
    "price with a point": ({"creditsCharged": 2.0}, (2, 0)),
    "cached in words": ({"creditsCharged": 3, "cached": "yes"}, (3, 0)),
    "numeric id": ({"creditsCharged": 2, "requestId": 5}, (2, 0)),
    "list": ([], (0, 1)),
    "free": ({"creditsCharged": 0}, (0, 0)),
    "dear": ({"creditsCharged": 7}, (7, 0)),
    "more fields": ({"creditsCharged": 1, "new": {"a": 1}}, (1, 0)),
}


@pytest.mark.parametrize("meta", METAS)
async def test_a_fault_of_meta_costs_no_good_data(meta):
    """Products are good whatever `meta` is; a price that cannot be read counts as maybe."""
    said, cost = METAS[meta]
    body = {key: value for key, value in {**GOOD, "meta": said}.items() if value is not ...}
    async with told(http(200, js(body))) as (_, client):
        page = await client.showcase_page(HANDLE)
        assert [product.id for product in page.products] == ["1"]
        assert (page.usage.charged, page.usage.maybe) == cost
        assert client.usage == page.usage


async def test_a_price_is_what_meta_says():
    """The simulator's odd prices and missing metas are covered by what we count."""
    faults = [
        Fault.price(3, requests=[1]),
        Fault.missing_meta(requests=[2]),
        Fault.wrong_type("meta", requests=[3]),
    ]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        for handle, cost in (("a", (3, 0)), ("b", (0, 3)), ("c", (0, 3)), ("d", (1, 0))):
            page = await client.showcase_page(handle)
            assert (page.usage.charged, page.usage.maybe) == cost
        usage = client.usage
        assert usage.charged <= sim.ledger.charged == 6 <= usage.charged + usage.maybe


# Encodings


async def test_gzip_is_undone():
    """A compressed answer is read; its size on the wire is what is counted."""
    packed = gzip.compress(js(GOOD))
    for encoding in ("gzip", "x-gzip", "GZIP"):
        answer = http(200, packed, f"Content-Encoding: {encoding}")
        async with told(answer) as (server, client):
            page = await client.showcase_page(HANDLE)
            assert page.products[0].id == "1"
            assert page.usage.bytes == len(packed)
            assert server.headers()["accept-encoding"] == "gzip"


async def test_identity_is_no_encoding():
    """`Content-Encoding: identity` is as good as none."""
    async with told(http(200, js(GOOD), "Content-Encoding: identity")) as (_, client):
        assert (await client.showcase_page(HANDLE)).products[0].id == "1"


@pytest.mark.parametrize(
    ("encoding", "pack", "charged"),
    [
        ("br", bytes, 1),
        ("zstd", bytes, 1),
        ("deflate", zlib.compress, 0),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body)), 0),
        ("gzip", bytes, 1),
        ("gzip", lambda body: gzip.compress(body)[:-9], 1),
        ("gzip", lambda body: gzip.compress(body)[:-9] + b"\0" * 9, 1),
        ("gzip", lambda _: b"", 0),
        ("nonsense", bytes, 1),
    ],
)
async def test_an_encoding_that_fails_is_undecodable(encoding, pack, charged):
    """A body packed otherwise than asked, or badly, is an error with the bytes as sent.

    If the price can be read nevertheless, it counts as charged for certain.
    """
    body = pack(js(GOOD))
    async with told(http(200, body, f"Content-Encoding: {encoding}"), retry=Retry()) as (
        server,
        client,
    ):
        error = await failure(client.showcase_page(HANDLE), UndecodableError)
        assert server.hits == 1
    assert error.body == body
    assert (error.usage.charged, error.usage.maybe) == (charged, 1 - charged)


@pytest.mark.parametrize(
    "around", [(b"\xef\xbb\xbf", b""), (b"", b"\n<!-- cached -->"), (b" ", b"")]
)
async def test_the_price_is_read_of_what_is_no_proper_json(around):
    """Junk before or behind the JSON does not hide what the answer cost."""
    body = around[0] + js(GOOD).replace(b'"id"', b'"id":NaN,"id"', 1) + around[1]
    async with told(http(200, body)) as (_, client):
        error = await failure(client.showcase_page(HANDLE), UndecodableError)
    assert (error.usage.charged, error.usage.maybe) == (1, 0)


async def test_no_limit_of_bodies_is_too_large():
    """`sys.maxsize`, given to mean no limit, works as a limit for packed bodies too."""
    packed = gzip.compress(js(GOOD))
    answer = http(200, packed, "Content-Encoding: gzip")
    async with told(answer, max_body_bytes=sys.maxsize) as (_, client):
        assert (await client.showcase_page(HANDLE)).products[0].id == "1"
    bad = http(200, packed[:-9], "Content-Encoding: gzip")
    async with told(bad, max_body_bytes=sys.maxsize) as (_, client):
        await failure(client.showcase_page(HANDLE), UndecodableError)


async def test_gzip_in_several_members_is_undone():
    """A gzip stream may be several members in a row (RFC 1952, 2.2)."""
    good = js(GOOD)
    packed = gzip.compress(good[:30]) + gzip.compress(good[30:])
    async with told(http(200, packed, "Content-Encoding: gzip")) as (_, client):
        assert (await client.showcase_page(HANDLE)).products[0].id == "1"


@pytest.mark.parametrize("tail", [bytes(512), b"\r\n", b"\x1f", b"<!-- served by -->"])
async def test_what_follows_a_gzip_stream_is_passed_over(tail):
    """As gzip itself does: the answer that was paid for is whole, and its checksum is right."""
    packed = gzip.compress(js(GOOD)) + tail
    async with told(http(200, packed, "Content-Encoding: gzip")) as (_, client):
        page = await client.showcase_page(HANDLE)
    assert (page.products[0].id, page.usage.charged) == ("1", 1)


# The other routes


class Videos(msgspec.Struct):
    """A caller's own type."""

    videos: list[int]


CALLS = {
    "tiktok_profile": lambda client: client.tiktok_profile("x"),
    "instagram_profile": lambda client: client.instagram_profile("x"),
    "review_page": lambda client: client.review_page(product_id="1729"),
    "whoami": lambda client: client.whoami(),
    "balance": lambda client: client.balance(),
    "get": lambda client: client.get("/v1/any", type=Videos),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "body", [b"", b"{}", js({"data": 5, "meta": META}), js({"data": [], "meta": META}), b"\xff"]
)
async def test_every_route_refuses_what_is_not_its_own(call, body):
    """Each route's wrong answers are the typed error, once."""
    async with told(http(200, body), retry=Retry()) as (server, client):
        error = await failure(CALLS[call](client), UndecodableError)
        assert server.hits == 1
    assert error.body == body


@pytest.mark.parametrize("body", [b"", b"{}", b'{"status":1}', b"ok"])
async def test_health_refuses_what_is_not_its_own(body):
    """The route without an envelope refuses wrong answers too."""
    async with told(http(200, body)) as (_, client):
        error = await failure(client.health(), UndecodableError)
        assert (error.usage.charged, error.usage.maybe) == (0, 0)


# Error answers


KINDS = {
    400: BadRequestError,
    401: UnauthorizedError,
    402: InsufficientCreditsError,
    403: ForbiddenError,
    404: NotFoundError,
    408: APIError,
    409: APIError,
    418: APIError,
    429: RateLimitedError,
    500: ServerError,
    501: ServerError,
    502: LookupFailedError,
    503: UnavailableError,
    504: ServerError,
    520: ServerError,
    599: ServerError,
}
FREE = {400, 401, 402, 403, 404, 429, 503}
BODIES = ["envelope", "html", "problem", "empty"]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", KINDS)
async def test_an_error_status_is_its_own_error(status, body):
    """A status gives its error, with a short message, whoever answers and in whatever format."""
    fault = Fault.status(status, body=body, code="some_code", checkout_url="https://pay.example/")
    async with Simulator(faults=[fault]) as sim, client_of(sim) as client:
        error = await failure(client.showcase_page(HANDLE))
        assert sim.ledger.requests == 1
    assert type(error) is KINDS[status]
    assert isinstance(error, APIError)
    assert (error.status, error.handle, error.route) == (status, HANDLE, SHOWCASE)
    assert (error.usage.charged, error.usage.maybe) == (0, 0 if status in FREE else 1)
    assert str(status) in str(error)
    if body == "envelope":
        assert error.code == "some_code"
        assert error.checkout_url == "https://pay.example/"
        assert error.request_id.startswith("req_")
        assert f"Simulated {status}." in str(error)
    else:
        assert (error.code, error.request_id) == (None, None)
    if body in ("html", "problem"):
        assert "proxy" in error.message
        assert "<" not in error.message
    assert len(error.message) < 300


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("status", [201, 202, 204, 206])
async def test_another_success_is_no_answer(status):
    """The API answers with 200; another 2xx is an error rather than data."""
    body = b"" if status == 204 else js(GOOD)
    async with told(http(status, body), retry=Retry()) as (server, client):
        error = await failure(client.showcase_page(HANDLE), APIError)
        assert (server.hits, error.status, error.usage.maybe) == (1, status, 1)


@pytest.mark.usefixtures("either_way")
async def test_an_error_page_that_stalls_is_still_its_status():
    """The status of an error is not forgotten while waiting for its explanation."""

    async def stall(_, writer):
        writer.write(http(503, b"abc", "Content-Length: 100", "Retry-After: 9", length=False))
        await writer.drain()
        await asyncio.sleep(3600)

    async with told(stall, timeout=Timeout(total=100, read=5)) as (server, client):
        error = await failure(client.showcase_page(HANDLE), UnavailableError)
        assert (error.retry_after, error.usage.maybe, server.hits) == (9, 0, 1)


EXPLANATIONS = {
    "a long page": (b"<html>" + b"<p>blah blah</p>" * 50_000 + b"</html>", "blah"),
    "scripts": (b"<style>.x{}</style><script>steal()</script><h1>Sorry</h1>", "Sorry"),
    "control characters": (b"bad\x1b[31m\x00\r\nnews", "bad"),
    "no UTF-8": b"caf\xe9 closed",
    "problem with detail": (js({"title": "T", "detail": "Because."}), "Because."),
    "problem with a title": (js({"title": "Too bad"}), "Too bad"),
    "error is a string": (js({"error": "plain words"}), "plain words"),
    "a list": (js(["sorry"]), "sorry"),
    "envelope of wrong types": (js({"error": {"code": 5, "message": None}}), ""),
    "envelope of strange fields": (js({"error": {"message": "Hm", "requestId": []}}), "Hm"),
    "deep": (b"[" * 100_000, "["),
    "huge": (b"x" * 5_000_000, "x"),
}


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize("what", EXPLANATIONS)
async def test_any_explanation_makes_a_short_message(what, status):
    """Whatever an error page says, the error's message is one short printable line of it."""
    told_so = EXPLANATIONS[what]
    body, expected = told_so if isinstance(told_so, tuple) else (told_so, "closed")
    async with told(http(status, body)) as (server, client):
        error = await failure(client.showcase_page(HANDLE), KINDS[status])
        assert server.hits == 1
    assert expected in error.message
    assert error.message.isprintable()
    assert len(error.message) < 300
    assert "steal" not in error.message
    assert error.usage.bytes <= 64 * 1024


async def test_half_of_a_character_in_an_explanation_hides_nothing():
    """What an error quotes may be cut in the middle of an emoji; its code and id are told."""
    envelope = js(
        {"error": {"code": "lookup_failed", "message": "Hm \ud83d", "requestId": "req_9"}}
    )
    async with told(http(502, envelope)) as (_, client):
        error = await failure(client.showcase_page(HANDLE), LookupFailedError)
    assert (error.code, error.request_id) == ("lookup_failed", "req_9")
    assert error.message == "HTTP 502: Hm \ufffd"


@pytest.mark.parametrize("packed", [True, False])
async def test_a_packed_error_page_is_read(packed):
    """An error's envelope is read from gzip too; one that cannot be unpacked does no harm."""
    envelope = js({"error": {"code": "forbidden", "message": "No.", "requestId": "req_9"}})
    body = gzip.compress(envelope) if packed else b"no gzip"
    async with told(http(403, body, "Content-Encoding: gzip")) as (_, client):
        error = await failure(client.showcase_page(HANDLE), ForbiddenError)
    assert (error.code, error.request_id) == (("forbidden", "req_9") if packed else (None, None))


@pytest.mark.parametrize(
    "body",
    [{"error": {"code": "forbidden", "message": "m" * 50_000}}, {"detail": "d" * 50_000}],
    ids=["envelope", "problem"],
)
async def test_a_long_explanation_is_kept_short(body):
    """Even an envelope's or problem's own words do not flood a log."""
    async with told(http(403, js(body))) as (_, client):
        error = await failure(client.showcase_page(HANDLE), ForbiddenError)
    assert len(str(error)) < 2_000


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (gzip.compress(b"<" * 300_000), ["Content-Encoding: gzip"]),
        (b"<" * 65_536, []),
        (b"<script" * 9_000, []),
        (gzip.compress(b"") * 200_000, ["Content-Encoding: gzip"]),
    ],
    ids=["small bomb", "brackets", "scripts", "members"],
)
@pytest.mark.parametrize("status", [200, 502])
async def test_no_answer_keeps_the_event_loop_busy(status, body, head):
    """Whatever a page holds, making a message of it takes only a moment."""
    async with told(http(status, body, *head)) as (_, client):
        began = time.process_time()
        await failure(
            client.showcase_page("x"), UndecodableError if status == 200 else LookupFailedError
        )
        assert time.process_time() - began < 1


async def test_an_answer_of_another_shape_is_believed_that_it_was_free():
    """Its JSON is valid, so nothing was damaged on the way, and its price can be believed."""
    async with told(http(200, enveloped({"balance": 7}, charged=0)), max_credits=1) as (_, client):
        error = await failure(client.get("/v1/x", type=int), UndecodableError)
        assert (error.usage.charged, error.usage.maybe) == (0, 0)
        assert client.budget.left == 1


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (js(GOOD).replace(b'"creditsCharged": 1', b'"creditsCharged": 0') + js(GOOD), []),
        (
            gzip.compress(js(GOOD).replace(b'"creditsCharged": 1', b'"creditsCharged": 0'))[:-8],
            ["Content-Encoding: gzip"],
        ),
    ],
    ids=["two documents", "no trailer"],
)
async def test_a_damaged_answer_is_not_believed_that_it_was_free(body, head):
    """The price that it gives counts only where it is higher than the known one."""
    async with told(http(200, body, *head)) as (_, client):
        error = await failure(client.showcase_page(HANDLE), UndecodableError)
    assert (error.usage.charged, error.usage.maybe) == (0, 1)
