"""What an archive holds of each page, each creator and each request."""

import asyncio
import gzip
import json
import random
from datetime import UTC, datetime

import aiohttp
import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    ArchiveInfo,
    Client,
    ClientStateError,
    ConnectionFailedError,
    InstagramLookup,
    Outcome,
    Reply,
    ReviewPage,
    RunStoppedError,
    SfkError,
    ShowcasePage,
    TikTokLookup,
    Timeout,
    UndecodableError,
    Usage,
)
from asyncsfk.simulator import Fault, Simulator
from tests.archive.support import all_bytes, held, known, run_of
from tests.support import (
    KEY,
    ONCE,
    SHOWCASE,
    client_of,
    enveloped,
    failure,
    http,
    outcomes_of,
    sql,
    told,
)

REVIEWS = "/v1/tiktok/products/reviews"
PRODUCT = "1729384756102938475"

#: A random text of these characters can hardly be packed.
DENSE = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"\\')


def showcase_body(title="A thing", **spaces):
    """Make the body of a showcase of one product."""
    data = {
        "products": [{"id": "1", "title": title}],
        "page": {"nextCursor": None, "hasMore": False},
    }
    meta = {"requestId": "req_1", "creditsCharged": 1, "version": "v1"}
    return json.dumps({"data": data, "meta": meta}, ensure_ascii=False, **spaces).encode()


async def test_what_is_held_of_a_page(sim, client, archive):
    """A page is held with its route, handle, region, cursor, id, credits, time and decoded flag."""
    before = datetime.now(UTC)
    first = await client.showcase_page("@X.45Products", region="GB", archive=archive)
    second = await client.showcase_page(
        "x.45products", region="GB", cursor=first.next_cursor, archive=archive
    )
    after = datetime.now(UTC)
    one, other = await held(archive, "answers")
    assert (one.route, one.handle, one.region, one.cursor) == (SHOWCASE, "x.45products", "GB", None)
    assert other.cursor == first.next_cursor
    assert [page.request_id for page in (one, other)] == [first.request_id, second.request_id]
    assert (one.charged, one.maybe, one.decoded) == (1, 0, True)
    assert before <= one.received <= other.received <= after
    assert one.encoding == "gzip"
    assert one.decode().products == first.products
    assert json.loads(one.body())["data"]["products"] == sim.showcase("x.45products", "GB")[:20]
    assert (one.decode().handle, one.decode().region) == ("x.45products", "GB")


@pytest.mark.parametrize("kind", ["gzip", "x-gzip", "two members"])
async def test_a_gzip_answer_is_held_byte_for_byte(path, kind):
    """A gzip body is kept exactly as it came, in one member or several."""
    body = showcase_body("ünïcödé 漢 " * 50, indent=1)
    if kind == "two members":
        packed = gzip.compress(body[:70], 9, mtime=7) + gzip.compress(body[70:], 1, mtime=9)
    else:
        packed = gzip.compress(body, 3, mtime=5)
    encoding = "x-gzip" if kind == "x-gzip" else "gzip"
    answer = http(200, packed, f"Content-Encoding: {encoding}")
    async with told(answer) as (_, client), Archive(path) as archive:
        page = await client.showcase_page("x", archive=archive)
    (kept,) = await held(path, "answers")
    assert (kept.encoding, kept.raw, kept.body()) == ("gzip", packed, body)
    assert kept.decode().products == page.products


@pytest.mark.parametrize("kind", ["small", "large", "large and dense"])
async def test_a_plain_answer_is_held_byte_for_byte(path, kind):
    """A plain body is kept plain, or packed where that pays, and unpacks to the very same bytes."""
    dice = random.Random(5)
    title = {
        "small": "\n t\t",
        "large": "thing " * 40_000,
        "large and dense": "".join(dice.choices(DENSE, k=100_000)),
    }[kind]
    body = showcase_body(title, indent=3) + b" \n"
    async with told(http(200, body)) as (_, client), Archive(path) as archive:
        page = await client.showcase_page("x", archive=archive)
    (kept,) = await held(path, "answers")
    assert kept.body() == body
    assert kept.decode().products == page.products
    if kind == "large":
        assert kept.encoding == "gzip"
        assert len(kept.raw) < len(body) / 10
    else:
        assert (kept.encoding, kept.raw) == ("", body)


async def test_each_route_is_held_and_decoded_as_itself(client, archive):
    """Every route that costs is kept under its template and decodes to what the call returned."""
    answers = [
        await client.showcase_page("x.5products", archive=archive),
        await client.tiktok_profile("@X.5products", archive=archive),
        await client.instagram_profile("Someone", archive=archive),
        await client.review_page(product_id=PRODUCT, page=2, region="US", archive=archive),
        await client.get("/v1/tiktok/profiles/y", archive=archive),
    ]
    pages = await held(archive, "answers")
    assert [(page.route, page.handle, page.cursor) for page in pages] == [
        (SHOWCASE, "x.5products", None),
        ("/v1/tiktok/profiles/{handle}", "x.5products", None),
        ("/v1/instagram/profiles/{handle}", "someone", None),
        (REVIEWS, PRODUCT, "2"),
        ("/v1/tiktok/profiles/y", None, None),
    ]
    kinds = [ShowcasePage, TikTokLookup, InstagramLookup, ReviewPage, Reply]
    for kind, page, answer in zip(kinds, pages, answers, strict=True):
        kept = page.decode()
        assert type(kept) is type(answer) is kind
        assert kept.usage.charged == 0
        plain, told_then = kept.to_dict(), answer.to_dict()
        assert plain.pop("usage") != told_then.pop("usage")
        assert plain == told_then


async def test_free_routes_are_no_business_of_an_archive(client, archive):
    """The free routes take no archive, since nothing of them needs to be kept."""
    for call in (client.whoami, client.balance, client.health):
        with pytest.raises(TypeError, match="archive"):
            await call(archive=archive)


@pytest.mark.parametrize(
    ("fault", "status", "failed", "cost"),
    [
        (None, 200, None, (1, 0)),
        (Fault.price(3), 200, None, (3, 0)),
        (Fault.missing_meta(), 200, None, (0, 1)),
        (Fault.not_json(), 200, "UndecodableError", (0, 1)),
        (Fault.wrong_type(), 200, "UndecodableError", (1, 0)),
        (Fault.status(400), 400, "BadRequestError", (0, 0)),
        (Fault.status(401), 401, "UnauthorizedError", (0, 0)),
        (Fault.status(402), 402, "InsufficientCreditsError", (0, 0)),
        (Fault.status(404), 404, "NotFoundError", (0, 0)),
        (Fault.status(429), 429, "RateLimitedError", (0, 0)),
        (Fault.status(500), 500, "ServerError", (0, 1)),
        (Fault.status(502, charge=1), 502, "LookupFailedError", (0, 1)),
        (Fault.status(503), 503, "UnavailableError", (0, 0)),
        (Fault.redirect("http://127.0.0.1:9/"), 302, "RedirectError", (0, 1)),
        (Fault.close(), None, "ConnectionLostError", (0, 1)),
        (Fault.truncate(), None, "ConnectionLostError", (0, 1)),
        (Fault.hang(), None, "RequestTimeoutError", (0, 1)),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_the_ledgers_line_on_an_attempt(path, fault, status, failed, cost):
    """Each request has a ledger line with its status, its error, and its charged and maybe cost."""
    async with Simulator(faults=[fault] if fault else []) as sim:
        timeout = Timeout(total=30)
        async with client_of(sim, timeout=timeout) as client, Archive(path) as archive:
            try:
                answer = await client.showcase_page("x.5products", archive=archive)
            except SfkError as error:
                answer = error
        assert sim.ledger.requests == 1
    (line,) = await held(path, "ledger")
    assert (line.status, line.error) == (status, failed)
    assert (line.charged, line.maybe) == cost
    assert (line.route, line.handle, line.attempt) == (SHOWCASE, "x.5products", 1)
    assert line.request_id == answer.request_id
    assert line.bytes == answer.usage.bytes
    assert line.seconds == pytest.approx(30 if failed == "RequestTimeoutError" else 0, abs=0.1)
    assert await held(path, "usage") == known(answer.usage) + Usage(pages=int(status == 200))


async def test_each_attempt_of_a_call_has_a_line_of_its_own(path):
    """Each attempt has a ledger line of its own, with its number and how it went."""
    faults = [Fault.status(503, times=1), Fault.close(times=1), Fault.status(500, times=1)]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
        Archive(path) as archive,
    ):
        page = await client.showcase_page("x.5products", archive=archive)
    lines = await held(path, "ledger")
    assert [(line.attempt, line.error) for line in lines] == [
        (1, "UnavailableError"),
        (2, "ConnectionLostError"),
        (3, "ServerError"),
        (4, None),
    ]
    assert [line.maybe for line in lines] == [0, 1, 1, 0]
    usage = await held(path, "usage")
    assert (usage.requests, usage.retries, usage.charged, usage.maybe) == (4, 3, 1, 2)
    assert usage == known(page.usage) + Usage(pages=1)


async def test_a_request_that_could_not_be_sent_is_free(path):
    """A request that found no connection has a ledger line, and cost nothing."""
    async with (
        Client("sfk_x", base_url="http://127.0.0.1:9", retry=ONCE) as client,
        Archive(path) as archive,
    ):
        await failure(client.showcase_page("x", archive=archive), ConnectionFailedError)
    (line,) = await held(path, "ledger")
    assert (line.error, line.charged, line.maybe) == ("ConnectionFailedError", 0, 0)
    assert await held(path, "usage") == Usage(requests=1)


async def test_what_could_not_even_be_tried_is_no_request(sim, path):
    """A call that could not be tried has a ledger line, but counts as neither request nor retry."""
    async with (
        aiohttp.ClientSession() as session,
        client_of(sim, session=session) as client,
        Archive(path) as archive,
    ):
        await client.showcase_page("x", archive=archive)
        await session.close()
        await failure(client.showcase_page("y", archive=archive), ClientStateError)
    assert [line.attempt for line in await held(path, "ledger")] == [1, 0]
    assert (await held(path, "usage")).requests == sim.ledger.requests == 1


async def test_what_became_of_each_creator(sim, path):
    """Complete, partial and failed creators are on file with all that their outcomes said."""
    sim.faults = [
        Fault.status(502, pages={2}, handles={"cut.45products"}),
        Fault.status(404, handles={"bad"}),
    ]
    handles = ["cut.45products", "bad", "good.45products", "empty_one"]
    async with client_of(sim) as client:
        _, outcomes = await run_of(client, handles, archive=path, verify_empty=True)
        _, more = await run_of(client, ["short.45products"], archive=path, max_pages=1)
    outcomes |= more
    kept = {outcome.handle: outcome for outcome in await held(path, "outcomes")}
    assert kept == outcomes
    assert kept["cut.45products"].error == outcomes["cut.45products"].error
    assert kept["empty_one"].account_status == sim.account_status("empty_one")
    for outcome in kept.values():
        assert Outcome.from_json(outcome.to_json()) == outcome
    assert {o.handle for o in await held(path, "errors")} == {"cut.45products", "bad"}
    assert all(o.products == () for o in await held(path, "errors"))
    products = await held(path, "products")
    for handle, outcome in outcomes.items():
        assert [product for name, product in products if name == handle] == [*outcome.products]


@pytest.mark.parametrize("what", ["outcomes", "errors", "products", "pages"])
async def test_every_reader_is_told_whom_to_read_in_the_same_way(sim, path, what):
    """All readers take the creator as their first argument, by position or by name."""
    sim.faults = [Fault.status(502, pages={2})]
    async with client_of(sim) as client:
        await run_of(client, ["a.45products", "b.45products"], archive=path)
    found = await held(path, what, "@A.45products")
    assert 0 < len(found) < len(await held(path, what))
    assert found == await held(path, what, handle="a.45products")


ASKED = {
    "get": (lambda client, **k: client.get("/v1/x/search", **k), {}),
    "get with parameters": (
        lambda client, **k: client.get("/v1/x", params={"q": "a + b&c=ü", "n": 2, "no": None}, **k),
        {"q": "a + b&c=ü", "n": "2"},
    ),
    "review_page": (
        lambda client, **k: client.review_page(url="https://x.test/?a=b&c", region="gb", **k),
        {"url": "https://x.test/?a=b&c", "region": "GB"},
    ),
    "tiktok_profile": (lambda client, **k: client.tiktok_profile("x", **k), {}),
    "showcase_page": (lambda client, **k: client.showcase_page("x", region="GB", **k), None),
    "the key": (lambda client, **k: client.get("/v1/x", params={"key": KEY}, **k), None),
}


@pytest.mark.parametrize(("call", "params"), ASKED.values(), ids=ASKED)
async def test_what_was_asked_with_is_held(path, call, params):
    """A generic answer or a review page is kept with its parameters, unless they hold the key."""
    answer = http(200, enveloped({"products": [], "reviews": [], "page": {"hasMore": False}}))
    async with told(answer) as (_, client), Archive(path) as archive:
        await call(client, archive=archive)
    (page,) = await held(path, "answers")
    assert page.params == params
    assert KEY.encode() not in all_bytes(path)


async def test_a_skipped_creator_is_not_on_file(path):
    """A creator that was skipped has no outcome on file."""
    async with Simulator(credits=2) as sim, client_of(sim, concurrency=1) as client:
        handles = [f"c{n}.5products" for n in range(6)]
        _, outcomes = await run_of(client, handles, archive=path)
    info = await held(path, "info")
    assert (info.complete, info.failed, info.partial) == (2, 1, 0)
    kept = {outcome.handle: outcome.status for outcome in await held(path, "outcomes")}
    assert kept == {
        handle: outcome.status
        for handle, outcome in outcomes.items()
        if outcome.status != "skipped"
    }
    assert sum(outcome.status == "skipped" for outcome in outcomes.values()) == 3


@pytest.mark.parametrize(("now", "under_way"), [(False, 1), (True, 0)])
async def test_a_creator_that_a_stop_cut_short_is_under_way(sim, client, path, now, under_way):
    """A creator that a stop cut short counts as under way, or not at all if no page came."""
    async with client.showcases(["x.45products"], archive=path) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.05)
        assert sim.ledger.in_flight == 1
        run.stop(now=now)
        (outcome,) = await outcomes
    assert outcome.status == ("failed" if now else "partial")
    info = await held(path, "info")
    assert (info.under_way, info.partial, info.failed) == (under_way, 0, 0)


async def test_what_is_under_way_is_partial(client, path):
    """A showcase without an outcome yet reads as partial, with its pages and next cursor."""
    async with Archive(path) as archive:
        first = await client.showcase_page("x.45products", archive=archive)
        (outcome,) = await held(path, "outcomes")
        assert (outcome.status, outcome.pages) == ("partial", 1)
        assert outcome.next_cursor == outcome.error.cursor == first.next_cursor
        assert isinstance(outcome.error, RunStoppedError)
        assert outcome.products == first.products
        assert (outcome.usage.pages, outcome.usage.products) == (1, 20)
        info = await held(path, "info")
        assert (info.under_way, info.partial, info.complete) == (1, 0, 0)


async def test_what_calls_have_bought_beyond_an_outcome(sim, client, path):
    """Pages bought later by calls count: a complete one stays so, a failed one becomes partial."""
    sim.faults = [
        Fault.status(404, handles={"y.45products"}, times=1),
        Fault.not_json(handles={"z"}),
    ]
    _, told = await run_of(client, ["x.45products", "y.45products"], archive=path, max_pages=1)
    following = told["x.45products"].next_cursor
    async with Archive(path) as archive:
        x = await client.showcase_page("x.45products", cursor=following, archive=archive)
        y = await client.showcase_page("y.45products", archive=archive)
        await failure(client.showcase_page("z", archive=archive), UndecodableError)
    outcomes = await held(path, "outcomes")
    assert [outcome.usage.pages for outcome in outcomes] == [2, 1, 0]
    found = [(o.status, o.pages, o.next_cursor) for o in outcomes]
    assert found == [
        ("complete", 2, x.next_cursor),
        ("partial", 1, y.next_cursor),
        ("failed", 0, None),
    ]


async def test_where_the_last_page_that_was_wanted_leads_does_not_matter(sim, client, path):
    """A creator complete by max_pages is complete on file, even if its last page leads nowhere."""
    sim.add_fault(Fault.has_more_without_cursor(None))
    _, told = await run_of(client, ["x.45products"], archive=path, max_pages=1)
    (outcome,) = await held(path, "outcomes")
    assert outcome == told["x.45products"]
    assert (outcome.status, outcome.error) == ("complete", None)


async def test_a_page_that_cannot_be_read_any_more(client, path):
    """The pages before one that can no longer be read are still read."""
    await run_of(client, ["x.45products"], archive=path)
    sql(path, "UPDATE page SET encoding = '', body = x'7b' WHERE id = 2")
    assert [page.number for page in await held(path, "pages")] == [1]
    (outcome,) = await held(path, "outcomes")
    assert (outcome.pages, len(outcome.products)) == (1, 20)
    sql(path, "UPDATE page SET encoding = '', body = x'7b'")
    assert await held(path, "pages") == []
    (outcome,) = await held(path, "outcomes")
    assert (outcome.pages, outcome.products) == (0, ())


async def test_info_adds_it_all_up(sim, path):
    """info() gives creators by status, answers, their cost, size, origin and times."""
    before = datetime.now(UTC)
    sim.faults = [Fault.status(404, handles={"bad"}), Fault.not_json(handles={"odd"})]
    async with client_of(sim) as client:
        run, _ = await run_of(client, ["a.45products", "bad", "odd", "b.5products"], archive=path)
    info = await held(path, "info")
    assert info == ArchiveInfo(
        path=str(path),
        size=path.stat().st_size,
        origin="this machine",
        complete=2,
        partial=0,
        failed=2,
        under_way=0,
        answers=5,
        undecodable=1,
        usage=info.usage,
        unsettled=0,
        first=info.first,
        last=info.last,
    )
    assert info.usage == known(run.usage) + Usage(pages=5)
    assert before <= info.first <= info.last <= datetime.now(UTC)


async def test_the_size_of_a_file_that_is_open(client, path, archive):
    """The size includes the log beside the file, even if the path is a link."""
    await client.showcase_page("x", archive=archive)
    log = path.with_name(f"{path.name}-wal").stat().st_size
    assert log > 0
    link = path.with_name("link")
    link.symlink_to(path)
    for one in (archive, link):
        assert (await held(one, "info")).size == path.stat().st_size + log


async def test_an_archive_that_was_never_used_is_empty(path):
    """A new file reads as empty, without an error."""
    async with Archive(path):
        pass
    info = await held(path, "info")
    assert (info.answers, info.usage, info.first, info.origin) == (0, Usage(), None, None)
    for what in ("outcomes", "errors", "products", "answers", "ledger"):
        assert await held(path, what) == []
    assert await held(path, "salvage") == 0


async def test_what_is_not_there_cannot_be_read(path):
    """Reading where there is no archive is an error, and makes no file."""
    for what in ("outcomes", "errors", "products", "answers", "ledger", "salvage", "info", "usage"):
        with pytest.raises(ArchiveError, match="there is no archive"):
            await held(path, what)
    assert list(path.parent.iterdir()) == []


async def test_an_archive_holds_one_origin(sim, path):
    """An archive never mixes the answers of two origins: a client of another is refused."""
    async with client_of(sim) as client:
        await run_of(client, ["x.5products"], archive=path)
    other = "https://api.example.test"
    async with Client(KEY, base_url=other, retry=ONCE) as client:
        run = client.showcases(["x.5products"], archive=path)
        with pytest.raises(ArchiveError, match="holds answers of this machine, not of https"):
            await run.__aenter__()
        async with Archive(path) as archive:
            error = await failure(client.showcase_page("x.5products", archive=archive))
            assert isinstance(error, ArchiveError)
            with pytest.raises(ArchiveError, match="use another file"):
                client.showcase("x", archive=archive)
    # Another port of this machine counts as the same simulator, started again.
    async with Simulator() as again, client_of(again) as client:
        run, _ = await run_of(client, ["x.5products"], archive=path)
    assert again.ledger.requests == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://api.example.test", "https://API.Example.test:443/", True),
        ("https://api.example.test/v9", "https://api.example.test", True),
        ("http://127.0.0.2:8001", "http://localhost:8002", True),
        ("https://api.example.test", "https://api.example.test:444", False),
        ("https://api.example.test", "https://example.test", False),
    ],
)
async def test_an_origin_is_one_however_it_is_written(path, one, other, same):
    """Origins are the same if scheme, host and port are (RFC 6454); all of this machine is one."""
    for url in (one, other):
        async with Client(KEY, base_url=url) as client:
            run = client.showcases([], archive=path)
            if url == one or same:
                async with run:
                    pass
            else:
                with pytest.raises(ArchiveError, match="holds answers of"):
                    await run.__aenter__()


async def test_another_origin_is_known_even_where_nothing_was_kept_yet(path):
    """The first client to use a file decides its origin, even if nothing is kept."""
    async with (
        Client(KEY, base_url="https://api.example.test", retry=ONCE) as client,
        client.showcases([], archive=path),
    ):
        pass
    assert (await held(path, "info")).origin == "https://api.example.test"


async def test_odd_texts_survive(path):
    """Cursors and ids with odd characters are found again unchanged."""
    odd = "a\x00b'\"\n%2B+& 漢😀\u202e"
    data = {"products": [{"id": "1"}], "page": {"nextCursor": odd, "hasMore": True}}
    meta = {"requestId": odd, "creditsCharged": 1}
    body = json.dumps({"data": data, "meta": meta}).encode()
    async with told(http(200, body)) as (server, client), Archive(path) as archive:
        page = await client.showcase_page("x", archive=archive)
        assert page.next_cursor == odd
        await client.showcase_page("x", cursor=odd, archive=archive)
        again = await client.showcase_page("x", cursor=odd, archive=archive)
        assert again.request_id == odd
        assert server.hits == 2
    assert [(p.cursor, p.request_id) for p in await held(path, "answers")] == [
        (None, odd),
        (odd, odd),
    ]


async def test_cursors_that_differ_in_a_byte_are_other_pages(archive):
    """A page is found by the very cursor that led to it, and by no other."""
    cursors = ["a", "A", "a ", "a%20", "á", "a\u0301"]
    body = showcase_body()
    async with told(http(200, body)) as (server, client):
        for _ in range(2):
            for cursor in cursors:
                await client.showcase_page("x", cursor=cursor, archive=archive)
            assert server.hits == len(cursors)


@pytest.mark.parametrize("charged", [2**63 - 1, 2**63, 10**30])
async def test_an_absurd_price_spoils_nothing(path, charged):
    """An absurd price spoils neither the pages, the run nor the file."""
    data = {"products": [{"id": "1"}], "page": {"nextCursor": None, "hasMore": False}}
    meta = {"requestId": "req_1", "creditsCharged": charged}
    body = json.dumps({"data": data, "meta": meta}).encode()
    async with told(http(200, body), keep=True) as (_, client):
        _, outcomes = await run_of(client, ["a", "b", "c", "d"], archive=path)
        assert {outcome.status for outcome in outcomes.values()} == {"complete"}
    assert (await held(path, "usage")).pages == 4
    async with Archive(path):
        pass


async def test_nothing_in_an_answer_breaks_the_file(path):
    """An answer with bytes that are not text gives an ordinary outcome, kept as it was given."""
    answers = [
        http(200, b"{}", b"X: \xff\x00\xff".decode("latin-1")),
        b"HTTP/1.1 \xff\xfe \x80\r\n\r\n",
        b"HTTP/1.1 200 \xff\xff\r\nContent-Length: 2\r\n\r\n\xff\xff",
        http(302, b"", b"Location: http://e/\xff".decode("latin-1")),
        http(500, b'{"error":{"code":"\\ud800","message":"\xff\xfe","requestId":"\\udc00"}}'),
        http(
            200,
            b'{"data":{"products":[{"id":"\\ud800"}],"page":{}},"meta":{"requestId":"\\ud800"}}',
        ),
        http(418, b"\x00" * 100),
    ]
    for number, answer in enumerate(answers):
        async with told(answer) as (_, client):
            _, outcomes = await run_of(client, [f"c{number}"], archive=path)
        (kept,) = [o for o in await held(path, "outcomes") if o.handle == f"c{number}"]
        outcome = outcomes[f"c{number}"]
        assert kept.error == (outcome.error and outcome.error.evolve(body=None))
        assert kept.products == outcome.products
    assert len(await held(path, "ledger")) == len(answers)


async def test_the_file_is_an_ordinary_database(sim, client, path):
    """A closed file passes SQLite's own checks, and any SQLite connection can read it."""
    await run_of(client, sim.handles(30), archive=path)
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
    assert sql(path, "PRAGMA journal_mode") == [("delete",)]
    count = (await held(path, "info")).answers
    assert sql(path, "SELECT count(*) FROM page") == [(count,)]
