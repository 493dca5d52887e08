"""Each kind of fault, and what it does to an answer."""

import asyncio
import itertools
import json
import time
import zlib
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from asyncsfk.simulator import Fault

PATH = "/v1/tiktok/profiles/a.45products/showcase-products"


async def first(simulate, fault, path=PATH, **options):
    """Ask for a page that a fault strikes; give the raw answer and the ledger's entry."""
    async with simulate(faults=[fault], **options) as ask:
        raw = await ask.raw(path)
        [entry] = ask.sim.ledger
        assert entry.fault == fault.name
        return raw, entry


def split(raw):
    """Take a raw answer apart: status, headers, body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split(" ")[1]), headers, body


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((400, "bad_request"), (401, "unauthorized"), (402, "insufficient_credits")),
        *((403, "forbidden"), (404, "not_found"), (429, "temporarily_unavailable")),
        *((500, "internal_error"), (502, "lookup_failed"), (503, "temporarily_unavailable")),
        (418, "internal_error"),
    ],
)
async def test_status(simulate, status, code):
    """Any status can be answered, with the envelope and the code that belongs to it."""
    async with simulate(faults=[Fault.status(status)]) as ask:
        reply = await ask.page("mrbeast")
        assert (reply.status, reply.code) == (status, code)
        [entry] = ask.sim.ledger
        assert (entry.status, entry.code, entry.charged, entry.delivered) == (status, code, 0, True)


async def test_status_with_everything(simulate):
    """An error can have its own code, a checkout address, a Retry-After, and a price."""
    fault = Fault.status(
        402,
        code="payment_required",
        checkout_url="https://pay.example",
        retry_after="-10",
        charge=2,
    )
    async with simulate(faults=[fault]) as ask:
        reply = await ask.page("mrbeast")
        assert (reply.code, reply.headers["Retry-After"]) == ("payment_required", "-10")
        assert reply.json["error"]["checkoutUrl"] == "https://pay.example"
        assert ask.sim.ledger.charged == 2


@pytest.mark.parametrize(
    ("body", "kind", "content"),
    [
        ("html", "text/html", b"<html>"),
        ("problem", "application/problem+json", b'"title"'),
        ("empty", None, b""),
    ],
)
async def test_status_of_a_proxy(simulate, body, kind, content):
    """A proxy's errors have no envelope."""
    async with simulate(faults=[Fault.status(503, body=body)]) as ask:
        reply = await ask.page("mrbeast")
        assert (reply.status, reply.headers.get("Content-Type")) == (503, kind)
        assert content in reply.body
        assert bool(reply.body) == bool(content)


@pytest.mark.parametrize("ahead", [3, -5])
async def test_retry_after_a_date(simulate, ahead):
    """A Retry-After can be the HTTP date some seconds from the answer."""
    fault = Fault.status(503, retry_after=Fault.date_ahead(ahead))
    async with simulate(faults=[fault]) as ask:
        header = (await ask.page("mrbeast")).headers["Retry-After"]
        assert header.endswith(" GMT")
        assert parsedate_to_datetime(header).timestamp() - time.time() == pytest.approx(
            ahead, abs=2
        )


async def test_retry_after_a_date_to_the_second(simulate, monkeypatch):
    """The date is just so many seconds after that of the answer, however slowly it is made."""
    ticks = itertools.count(1_800_000_000)
    fault = Fault.status(503, retry_after=Fault.date_ahead(30))
    async with simulate(faults=[fault]) as ask:
        monkeypatch.setattr(time, "time", lambda: float(next(ticks)))
        headers = (await ask.page("mrbeast")).headers
        later, now = (parsedate_to_datetime(headers[name]) for name in ("Retry-After", "Date"))
        assert (later - now).total_seconds() == 30


async def test_redirect(simulate):
    """A redirect goes where it is told and costs nothing."""
    raw, entry = await first(simulate, Fault.redirect("http://other.example/x", 307))
    status, headers, body = split(raw)
    assert (status, headers["location"], body) == (307, "http://other.example/x", b"")
    assert (entry.charged, entry.delivered) == (0, True)


@pytest.mark.parametrize(
    ("fault", "charged"),
    [
        (Fault.close(), 0),
        (Fault.close(charged=True), 1),
        (Fault.hang(2.0), 0),
        (Fault.hang(2.0, charged=True), 1),
    ],
)
async def test_close(simulate, fault, charged):
    """The connection ends without a byte."""
    raw, entry = await first(simulate, fault)
    assert raw == b""
    assert (entry.charged, entry.delivered, entry.status) == (charged, False, None)
    assert (entry.finished - entry.started >= 2) == (fault.name == "hang")


@pytest.mark.parametrize("charged", [False, True])
async def test_reset(simulate, charged):
    """The connection is reset, and the client notices that."""
    async with simulate(faults=[Fault.reset(charged=charged)]) as ask:
        with pytest.raises(ConnectionResetError):
            await ask.raw(PATH)
        [entry] = ask.sim.ledger
        assert (entry.charged, entry.delivered, entry.status) == (charged, False, None)


@pytest.mark.parametrize("charged", [False, True])
async def test_garbage(simulate, charged):
    """The answer is not HTTP."""
    raw, entry = await first(simulate, Fault.garbage(charged=charged))
    assert raw
    assert not raw.startswith(b"HTTP/")
    assert (entry.charged, entry.delivered, entry.status) == (charged, False, None)


@pytest.mark.parametrize("charged", [False, True])
async def test_truncate(simulate, charged):
    """The body ends before its Content-Length."""
    raw, entry = await first(simulate, Fault.truncate(charged=charged))
    status, headers, body = split(raw)
    assert status == 200
    assert 0 < len(body) < int(headers["content-length"])
    assert (entry.charged, entry.delivered, entry.status) == (charged, False, 200)


async def test_truncate_chunked(simulate):
    """The body ends without its last chunk."""
    raw, entry = await first(simulate, Fault.truncate(chunked=True))
    _, headers, body = split(raw)
    assert headers["transfer-encoding"] == "chunked"
    assert len(body) > 1000
    assert not body.endswith(b"0\r\n\r\n")
    assert (entry.charged, entry.delivered) == (1, False)


async def test_truncate_is_noticed(simulate):
    """A client notices that the body is cut."""
    for chunked in (False, True):
        async with simulate(faults=[Fault.truncate(chunked=chunked)]) as ask:
            with pytest.raises(aiohttp.ClientPayloadError):
                await ask.page("a.45products")


async def test_drip(simulate):
    """The body comes whole, but slowly."""
    async with simulate(faults=[Fault.drip(chunk=100, interval=0.5)]) as ask:
        reply = await ask.page("a.45products")
        assert reply.data["products"] == ask.sim.showcase("a.45products")[:20]
        [entry] = ask.sim.ledger
        pieces = -(-len(reply.body) // 100)
        assert entry.finished - entry.started == pytest.approx((pieces - 1) / 2, rel=0.05)
        assert (entry.charged, entry.delivered) == (1, True)


async def test_gzip_bomb(simulate):
    """A few bytes unpack to very many, which are valid."""
    raw, entry = await first(simulate, Fault.gzip_bomb(5_000_000))
    _, headers, body = split(raw)
    assert headers["content-encoding"] == "gzip"
    unpacked = zlib.decompress(body, wbits=31)
    assert (len(body) < 10_000, len(unpacked)) == (True, 5_000_000)
    assert json.loads(unpacked)["meta"]["creditsCharged"] == entry.charged == 1


@pytest.mark.parametrize("chunked", [False, True])
async def test_oversized(simulate, chunked):
    """The body is valid and as large as told, announced or not."""
    async with simulate(faults=[Fault.oversized(3_000_000, chunked=chunked)]) as ask:
        reply = await ask.page("a.45products")
        assert len(reply.body) == 3_000_000
        assert reply.data["products"] == ask.sim.showcase("a.45products")[:20]
        assert ("Content-Length" in reply.headers) != chunked
        [entry] = ask.sim.ledger
        assert (entry.charged, entry.delivered) == (1, True)


async def test_oversized_small(simulate):
    """A body that is already larger is left as it is."""
    async with simulate(faults=[Fault.oversized(10)]) as ask:
        assert len((await ask.page("a.45products")).data["products"]) == 20


async def test_a_client_leaving_a_large_body(simulate):
    """A client that stops reading leaves an undelivered entry."""
    async with simulate(faults=[Fault.oversized(2**26)]) as ask:
        headers = {"x-api-key": ask.sim.api_key}
        async with ask.session.get(ask.sim.url + PATH, headers=headers) as answer:
            await answer.content.read(100)
            answer.close()
        await asyncio.sleep(1)
        assert ask.sim.ledger.in_flight == 0
        [entry] = ask.sim.ledger
        assert (entry.status, entry.charged, entry.delivered) == (200, 1, False)


async def test_invalid_utf8(simulate):
    """A title is not UTF-8; the rest stays valid."""
    raw, entry = await first(simulate, Fault.invalid_utf8())
    _, _, body = split(raw)
    with pytest.raises(UnicodeDecodeError):
        body.decode()
    document = json.loads(body.decode(errors="replace"))
    assert document["meta"]["creditsCharged"] == entry.charged == 1
    assert len(document["data"]["products"]) == 20


async def test_deep_nesting(simulate):
    """Details nest deeper than a recursive reader can follow."""
    raw, _ = await first(simulate, Fault.deep_nesting())
    _, _, body = split(raw)
    assert b"[" * 100_000 + b"]" * 100_000 in body
    with pytest.raises(RecursionError):
        json.loads(body)
    raw, _ = await first(simulate, Fault.deep_nesting(depth=3))
    assert json.loads(split(raw)[2])["data"]["products"][0]["details"] == {"a": [[[]]]}


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e400", "01"])
async def test_nan(simulate, token):
    """A score is a number that JSON does not have."""
    raw, entry = await first(simulate, Fault.nan(token))
    assert f'"rating":{{"score":{token},'.encode() in raw
    assert entry.charged == 1


@pytest.mark.parametrize(
    ("fault", "mark"),
    [
        (Fault.invalid_utf8(), b"\xff\xfe"),
        (Fault.deep_nesting(5), b"[[[[[]]]]]"),
        (Fault.nan(), b"NaN"),
    ],
)
@pytest.mark.parametrize("path", ["/health", "/v1/whoami", "/v1/tiktok/profiles/empty_x"])
async def test_raw_faults_strike_anywhere(simulate, fault, mark, path):
    """Bodies without products are spoilt too."""
    raw, _ = await first(simulate, fault, path)
    assert mark in split(raw)[2]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/tiktok/profiles/empty_a/showcase-products", "nextCursor"),
        ("/v1/tiktok/profiles/a", "lookupStatus"),
        ("/v1/instagram/profiles/unknown_a", "lookupStatus"),
        ("/v1/tiktok/products/reviews?productId=1", "lookupStatus"),
        ("/v1/whoami", "id"),
        ("/v1/balance", "refillState"),
        ("/health", "status"),
    ],
)
async def test_invalid_utf8_is_where_clients_read(simulate, path, field):
    """Without products, it is in a field of the route, not in one that clients pass over."""
    raw, _ = await first(simulate, Fault.invalid_utf8(), path)
    assert f'"{field}":"caf'.encode() + b"\xe9" in split(raw)[2]


@pytest.mark.parametrize(
    ("where", "path", "find"),
    [
        (
            "product",
            PATH,
            lambda body: body["data"]["products"][0]["sales"]["soldCount"] == "a lot",
        ),
        ("page", PATH, lambda body: body["data"]["page"]["hasMore"] == "yes"),
        ("meta", PATH, lambda body: body["meta"]["creditsCharged"] == "one"),
        ("data", PATH, lambda body: isinstance(body["data"], list)),
        ("product", "/v1/whoami", lambda body: isinstance(body["data"], list)),
        ("page", "/health", lambda body: body["status"] == 1),
        ("meta", "/health", lambda body: body["status"] == 1),
    ],
)
async def test_wrong_type(simulate, where, path, find):
    """A field has a value of another type."""
    raw, entry = await first(simulate, Fault.wrong_type(where), path)
    assert find(json.loads(split(raw)[2]))
    assert entry.status == 200


def without_unknown(data):
    """Give JSON data without the unknown fields."""
    if isinstance(data, list):
        return [without_unknown(item) for item in data]
    if isinstance(data, dict):
        return {name: without_unknown(item) for name, item in data.items() if name != "xSince2027"}
    return data


async def test_unknown_fields(simulate):
    """New fields appear at every level, and the known ones are unchanged."""
    async with simulate(faults=[Fault.unknown_fields()]) as ask:
        reply = await ask.page("a.45products")
        products = reply.data["products"]
        parts = [product[name] for product in products for name in ("price", "image", "seller")]
        for place in (reply.json, reply.data, reply.data["page"], reply.json["meta"], *products):
            assert "xSince2027" in place
        assert all("xSince2027" in part for part in parts if part is not None)
        assert any(part is not None for part in parts)
        assert without_unknown(products) == ask.sim.showcase("a.45products")[:20]
        assert "xSince2027" in (await ask.get("/health")).json


async def test_not_json(simulate):
    """A 200 that is charged is a page of HTML."""
    raw, entry = await first(simulate, Fault.not_json())
    status, headers, body = split(raw)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (body[:1], entry.charged) == (b"<", 1)


async def test_missing_meta(simulate):
    """A 200 that is charged has no meta."""
    raw, entry = await first(simulate, Fault.missing_meta())
    assert set(json.loads(split(raw)[2])) == {"data"}
    assert entry.charged == 1


async def test_set_cookie(simulate):
    """A cookie is set; the ledger tells when one comes back."""
    async with simulate(faults=[Fault.set_cookie()]) as ask:
        reply = await ask.page("a.45products")
        assert reply.data["products"]
        key = {"x-api-key": ask.sim.api_key}
        await ask.get("/health", headers=key | {"Cookie": reply.headers["Set-Cookie"]})
        assert [entry.cookie for entry in ask.sim.ledger] == [False, True]


async def test_price(simulate):
    """A page costs what the fault says, and says so; more than is left is a 402."""
    async with simulate(credits=4, faults=[Fault.price(3)]) as ask:
        reply = await ask.page("a.45products")
        assert reply.json["meta"]["creditsCharged"] == ask.sim.ledger.charged == 3
        assert (await ask.page("a.45products")).status == 402
        assert (ask.sim.balance, ask.sim.ledger.charged) == (1, 3)


async def test_cursor_loop(simulate):
    """Any page but the first leads to itself, by the very cursor that was sent."""
    async with simulate(faults=[Fault.cursor_loop()]) as ask:
        start = (await ask.page("a.45products")).data["page"]
        once = (await ask.page("a.45products", cursor=start["nextCursor"])).data
        assert once["page"] == start == {"nextCursor": start["nextCursor"], "hasMore": True}
        assert once["products"] == ask.sim.showcase("a.45products")[20:40]


async def test_cursor_loop_after_an_empty_page(simulate):
    """The very cursor that was sent is repeated even if another one leads to the same page."""
    empty = Fault.empty_page_with_more(pages=[2], times=1)
    async with simulate(faults=[empty, Fault.cursor_loop(pages=[2])]) as ask:
        first = (await ask.page("a.45products")).data["page"]["nextCursor"]
        other = (await ask.page("a.45products", cursor=first)).data["page"]["nextCursor"]
        assert other != first
        again = (await ask.page("a.45products", cursor=other)).data["page"]["nextCursor"]
        assert again == other


async def test_cursor_loop_of_one_page(simulate):
    """A showcase of one page leads to an empty page that leads to itself."""
    async with simulate(faults=[Fault.cursor_loop()]) as ask:
        cursor = (await ask.page("a.5products")).data["page"]["nextCursor"]
        data = (await ask.page("a.5products", cursor=cursor)).data
        assert data == {"products": [], "page": {"nextCursor": cursor, "hasMore": True}}


async def test_cursor_cycle(simulate):
    """A longer cycle leads through other pages first."""
    async with simulate(faults=[Fault.cursor_loop(cycle=3)]) as ask:
        cursors, cursor = [], None
        for _ in range(8):
            cursor = (await ask.page("a.200products", cursor=cursor)).data["page"]["nextCursor"]
            cursors.append(cursor)
        assert len(set(cursors)) == 3
        assert cursors[:3] == cursors[3:6]


@pytest.mark.parametrize("cursor", [None, ""])
async def test_has_more_without_cursor(simulate, cursor):
    """A page says that there is more, but not where."""
    async with simulate(faults=[Fault.has_more_without_cursor(cursor)]) as ask:
        data = (await ask.page("a.5products")).data
        assert data["page"] == {"nextCursor": cursor, "hasMore": True}
        assert len(data["products"]) == 5


async def test_empty_page_with_more(simulate):
    """An empty page in between costs a credit, and its cursor goes on correctly."""
    async with simulate(faults=[Fault.empty_page_with_more(pages={1, 3}, times=3)]) as ask:
        assert await ask.showcase("a.45products") == ask.sim.showcase("a.45products")
        assert ask.sim.ledger.charged == 6
        assert ask.sim.ledger.paid_twice() == {}


async def test_empty_pages_come_to_an_end(simulate):
    """The same place shows an empty page 255 times at most."""
    async with simulate(faults=[Fault.empty_page_with_more()]) as ask:
        assert await ask.showcase("a.5products") == ask.sim.showcase("a.5products")
        assert ask.sim.ledger.charged == 256


async def test_cursor_without_more(simulate):
    """A last page gives a cursor although there is no more; other pages are left alone."""
    async with simulate(faults=[Fault.cursor_without_more()]) as ask:
        page = (await ask.page("a.5products")).data["page"]
        assert page["hasMore"] is False
        assert (await ask.page("a.5products", cursor=page["nextCursor"])).data["products"] == []
        await ask.page("a.45products")
        assert [entry.fault for entry in ask.sim.ledger] == [
            "cursor_without_more",
            "cursor_without_more",
            None,
        ]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.cursor_loop(), {"nextPage": 2, "hasMore": True}),
        (Fault.cursor_loop(cycle=2), {"nextPage": 3, "hasMore": True}),
        (Fault.has_more_without_cursor(""), {"nextPage": None, "hasMore": True}),
        (Fault.cursor_without_more(), {"nextPage": 3, "hasMore": False}),
        (Fault.empty_page_with_more(), {"nextPage": None, "hasMore": False}),
    ],
)
async def test_paging_faults_of_reviews(simulate, fault, expected):
    """Numbered pages go wrong in the same ways, except for empty pages in between."""
    async with simulate(faults=[fault]) as ask:
        reply = await ask.get("/v1/tiktok/products/reviews", productId="1", page=2)
        assert reply.data["page"] == {"currentPage": 2, **expected}


async def test_paging_faults_strike_pages_only(simulate):
    """A route without pages is spared."""
    faults = [Fault.cursor_loop(), Fault.cursor_without_more(), Fault.has_more_without_cursor()]
    async with simulate(faults=[*faults, Fault.empty_page_with_more()]) as ask:
        assert (await ask.get("/v1/tiktok/profiles/a")).data == ask.sim.tiktok_profile("a")
        assert [entry.fault for entry in ask.sim.ledger] == [None]
