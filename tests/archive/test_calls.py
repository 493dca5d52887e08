"""Single calls with an archive: an answer on file is free; a new one is kept before it returns."""

import asyncio
from hashlib import blake2b
from typing import ClassVar
from urllib.parse import quote

import msgspec
import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    BodyTooLargeError,
    Budget,
    Client,
    ClientStateError,
    InvalidArgumentError,
    LookupFailedError,
    NotFoundError,
    Retry,
    UndecodableError,
    Usage,
    events,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import beside, held
from tests.support import KEY, SHOWCASE, client_of, failure, sql, turns

PRODUCT = "1729384756102938475"

#: Every call that costs, by what it is told.
CALLS = {
    "showcase_page": lambda client, **k: client.showcase_page("x.5products", **k),
    "showcase_page of a region": lambda client, **k: client.showcase_page("x", region="GB", **k),
    "tiktok_profile": lambda client, **k: client.tiktok_profile("@x.5products", **k),
    "instagram_profile": lambda client, **k: client.instagram_profile("someone", **k),
    "review_page": lambda client, **k: client.review_page(product_id=PRODUCT, **k),
    "a later page of reviews": lambda client, **k: client.review_page(
        product_id=PRODUCT, page=3, region="US", **k
    ),
    "get": lambda client, **k: client.get("/v1/tiktok/profiles/x", **k),
    "get with parameters": lambda client, **k: client.get(
        "/v1/tiktok/products/reviews", params={"productId": PRODUCT, "page": 2}, **k
    ),
}

#: The calls that come in pages.
LISTINGS = {
    "showcase": lambda client, **k: client.showcase("x.65products", **k),
    "reviews": lambda client, **k: client.reviews(product_id=PRODUCT, **k),
}


def content(answer):
    """Give what an answer says, without what it cost."""
    plain = answer.to_dict()
    del plain["usage"]
    return plain


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_what_is_on_file_is_free(sim, client, path, call):
    """The second time, and in a later opening too, the same answer comes from the file for free."""
    async with Archive(path) as archive:
        first = await call(client, archive=archive)
        again = await call(client, archive=archive)
    async with Archive(path) as archive:
        later = await call(client, archive=archive)
    assert sim.ledger.requests == 1
    assert first.usage.charged == 1
    for answer in (again, later):
        assert type(answer) is type(first)
        assert content(answer) == content(first)
        assert (answer.usage.requests, answer.usage.charged) == (0, 0)
    assert client.usage.charged == 1


@pytest.mark.parametrize("region", [None, "GB"])
async def test_a_file_that_is_still_open_knows_all_that_was_put_into_it(
    sim, client, archive, region
):
    """In an open archive a run finds what calls have bought, and a second run finds everything."""
    handles = [f"c{number}.25products" for number in range(60)]
    for number, handle in enumerate(handles):
        if number % 3 == 0:
            await client.showcase_page(handle, region=region, archive=archive)
        elif number % 3 == 1:
            params = {"region": region}
            path = f"/v1/tiktok/profiles/{handle}/showcase-products"
            await client.get(path, params=params, archive=archive)
    assert sim.ledger.charged == 40
    for _ in range(2):
        async with client.showcases(handles, region=region, archive=archive) as run:
            assert [outcome.pages async for outcome in run] == [2] * 60
        assert sim.ledger.charged == 120


async def test_a_file_that_is_still_open_forgets_none_of_thousands(sim, client, archive):
    """An open archive finds each of thousands again; one forgotten would be paid for twice."""
    handles = [f"c{number}.5products" for number in range(1500)]
    for charged in (1500, 0):
        async with client.showcases(handles, archive=archive) as run:
            assert {outcome.pages async for outcome in run} == {1}
        assert run.usage.charged == charged
    assert sim.ledger.requests == 1500


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_refresh_and_age(sim, client, path, call):
    """refresh=True or an exceeded max_age buys again; otherwise the newest on file is used."""
    async with Archive(path) as archive:
        first = await call(client, archive=archive)
        fresh = await call(client, archive=archive, refresh=True)
        assert fresh.usage.charged == 1
        assert fresh.request_id != first.request_id
        assert (await call(client, archive=archive)).request_id == fresh.request_id
        young = await call(client, archive=archive, max_age=3600)
        assert young.usage.charged == 0
    sql(path, "UPDATE page SET received = received - 7200")
    async with Archive(path) as archive:
        old = await call(client, archive=archive, max_age=3600)
        assert old.usage.charged == 1
        assert (await call(client, archive=archive, max_age=3600)).request_id == old.request_id
        assert (await call(client, archive=archive)).request_id == old.request_id
        assert (await call(client, archive=archive, max_age=0)).usage.charged == 1
    assert sim.ledger.requests == sim.ledger.charged == 4
    assert len(await held(path, "answers")) == 4


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
async def test_listings(sim, client, archive, listing):
    """Pages on file are free, those after them are bought, and each iteration looks anew."""
    pages = [page async for page in listing(client, archive=archive, max_pages=2).pages()]
    assert [page.usage.charged for page in pages] == [1, 1]
    whole = listing(client, archive=archive)
    pages = [page async for page in whole.pages()]
    assert [page.usage.charged for page in pages][:3] == [0, 0, 1]
    assert [page.usage.archived for page in pages][:3] == [1, 1, 0]
    again = [page async for page in whole.pages()]
    assert {page.usage.charged for page in again} == {0}
    assert await whole.collect() == await listing(client).collect()
    assert sim.ledger.charged == 2 * len(pages)


async def test_two_iterations_of_one_listing(path):
    """One that begins while the other keeps its first page takes that; both get all there is."""
    came = asyncio.Event()

    def on_event(told):
        if isinstance(told, events.RequestFinished):
            came.set()

    async with Simulator() as sim, client_of(sim, on_event=on_event) as client:
        async with Archive(path) as archive:
            listing = client.showcase("x.65products", archive=archive)
            first = asyncio.create_task(listing.collect())
            await came.wait()
            second = await listing.collect()
            assert len(second) == 65
            assert await first == second
        assert sim.ledger.charged == len(second[::20])


async def test_a_listing_is_bought_afresh_as_it_is_read(sim, client, archive):
    """A refreshing listing that is left early has bought afresh only what was read."""
    await client.showcase("x.65products", archive=archive).collect()
    async for _ in client.showcase("x.65products", archive=archive, refresh=True):
        break
    assert sim.ledger.charged == 5
    assert await client.showcase("x.65products", archive=archive).collect()
    assert sim.ledger.charged == 8


async def test_joined_calls_with_and_without_an_archive(sim, client, archive):
    """Simultaneous calls for a page share one request, whether or not each of them keeps it."""
    sim.faults = [Fault.delay(Latency.fixed(1))]
    pages = await asyncio.gather(
        client.showcase_page("x.5products", archive=archive),
        client.showcase_page("x.5products"),
        client.showcase_page("x.5products", archive=archive, refresh=True),
        client.showcase_page("x.5products", archive=archive, max_age=5),
    )
    assert sim.ledger.requests == 1
    assert sum(page.usage.charged for page in pages) == client.usage.charged == 1
    assert len({page.request_id for page in pages}) == 1
    assert (await client.showcase_page("x.5products", archive=archive)).usage.charged == 0


async def test_a_kept_answer_serves_only_whom_it_suits(sim, client, path):
    """A kept answer serves no simultaneous call with another archive, with refresh or with none."""
    async with Archive(path) as mine, Archive(path.with_name("other.sfk")) as theirs:
        kept = await client.showcase_page("x.5products", archive=mine)
        pages = await asyncio.gather(
            client.showcase_page("x.5products", archive=mine),
            client.showcase_page("x.5products", archive=theirs),
            client.showcase_page("x.5products", archive=mine, refresh=True),
            client.showcase_page("x.5products"),
        )
        assert pages[0].request_id == kept.request_id
        assert {page.request_id for page in pages[1:]} == {pages[1].request_id}
        assert pages[1].request_id != kept.request_id
        assert sim.ledger.requests == 2
        for archive in (mine, theirs):
            again = await client.showcase_page("x.5products", archive=archive)
            assert again.request_id == pages[1].request_id
    assert sim.ledger.requests == 2


async def test_a_kept_answer_that_is_too_old_serves_nobody_who_joined(sim, client, archive):
    """A call with max_age buys even while another call is being handed the kept answer."""
    kept = await client.showcase_page("x.5products", archive=archive)
    old, young = await asyncio.gather(
        client.showcase_page("x.5products", archive=archive),
        client.showcase_page("x.5products", archive=archive, max_age=0),
    )
    assert (old.request_id, old.usage.charged) == (kept.request_id, 0)
    assert young.request_id != kept.request_id
    assert young.usage.charged == 1
    assert sim.ledger.requests == 2


async def test_another_type_of_the_same_answer(sim, client, archive):
    """The body is what is kept: another type decodes it, or fails to, at no cost."""
    path = "/v1/tiktok/profiles/x"
    plain = await client.get(path, archive=archive)
    lookup = await client.tiktok_profile("x", archive=archive)
    typed = await client.get(path, type=dict[str, object], archive=archive)
    assert lookup.lookup_status == plain.data["lookupStatus"] == typed.data["lookupStatus"]
    error = await failure(client.get(path, type=int, archive=archive))
    assert error.usage == Usage()
    assert sim.ledger.requests == 1


async def test_a_page_that_was_accepted_is_read_by_a_client_with_a_smaller_limit(sim, path):
    """A body on file is read whatever its size: max_body_bytes applies only to new answers."""
    async with client_of(sim) as client, Archive(path) as archive:
        await client.showcase_page("x.20products", archive=archive)
        async with client_of(sim, max_body_bytes=2_000) as small:
            page = await small.showcase_page("x.20products", archive=archive)
            assert (len(page.products), page.usage.charged) == (20, 0)
            await failure(small.showcase_page("y.20products"), BodyTooLargeError)
    assert sim.ledger.requests == 2


async def test_looking_tells_of_no_request(sim, path):
    """Handing out an answer on file emits PageReceived alone, and no event of a request."""
    seen = []
    async with client_of(sim, on_event=seen.append) as client, Archive(path) as archive:
        await client.showcase_page("x", archive=archive)
        seen.clear()
        await client.showcase_page("x", archive=archive)
    assert [type(event) for event in seen] == [events.PageReceived]


async def test_retries_end_in_the_archive(path):
    """An answer that came after retries is kept once, and is free afterwards."""
    async with (
        Simulator(faults=[Fault.status(503, times=2)]) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry(backoff=0.1)) as client,
        Archive(path) as archive,
    ):
        first = await client.showcase_page("x.5products", archive=archive)
        again = await client.showcase_page("x.5products", archive=archive)
    assert (first.usage.requests, again.usage.requests) == (3, 0)
    assert len(await held(path, "answers")) == 1


async def test_errors_are_not_kept_for_answers(sim, client, archive):
    """A call that failed is made again; only answers are taken from the file."""
    sim.faults = [Fault.status(502, times=1), Fault.status(404, times=1)]
    await failure(client.showcase_page("x.5products", archive=archive), LookupFailedError)
    await failure(client.showcase_page("x.5products", archive=archive), NotFoundError)
    page = await client.showcase_page("x.5products", archive=archive)
    assert page.usage.charged == 1
    assert sim.ledger.requests == 3


@pytest.mark.parametrize("options", [{"refresh": True}, {"max_age": 5}], ids=str)
@pytest.mark.parametrize("call", [*CALLS.values(), *LISTINGS.values()], ids=[*CALLS, *LISTINGS])
async def test_without_an_archive_its_options_are_refused(sim, client, call, options):
    """Options that mean nothing without an archive are refused before anything is sent."""
    with pytest.raises(InvalidArgumentError, match="need an archive"):
        await call(client, **options)
    assert sim.ledger.requests == 0


@pytest.mark.parametrize("archive", ["job.sfk", 3, Archive], ids=["path", "number", "class"])
async def test_a_call_takes_an_archive_alone(sim, client, archive):
    """A single call opens nothing, so it takes neither a path nor anything else but an Archive."""
    for call in (*CALLS.values(), *LISTINGS.values()):
        with pytest.raises(InvalidArgumentError, match=r"archive must be an Archive"):
            await call(client, archive=archive)
    assert sim.ledger.requests == 0


@pytest.mark.parametrize("closed", [False, True], ids=["not opened", "closed"])
async def test_an_archive_that_is_not_open_is_refused(sim, client, path, closed):
    """A call refuses an archive that is not open before anything is sent."""
    archive = Archive(path)
    if closed:
        async with archive:
            pass
    for call in (*CALLS.values(), *LISTINGS.values()):
        with pytest.raises(ClientStateError, match="open the archive"):
            await call(client, archive=archive)
    assert sim.ledger.requests == 0


async def test_a_listing_outlives_its_archive(sim, client, path):
    """A listing whose archive was closed fails with an error that says so, and sends nothing."""
    async with Archive(path) as archive:
        listing = client.showcase("x.65products", archive=archive)
        pages = listing.pages()
        await anext(pages)
    error = await failure(anext(pages), ArchiveError)
    assert "closed" in str(error)
    assert error.cursor is not None
    again = await failure(listing.collect(), ArchiveError)
    assert (again.partial, again.handle, again.route) == ((), "x.65products", SHOWCASE)
    assert sim.ledger.requests == 1


async def test_a_call_that_would_join_tells_where_it_was_when_its_archive_was_closed(
    sim, client, path
):
    """What it looks for first, in its own archive, can no longer be looked for."""
    cursor = (await client.showcase_page("x.65products")).next_cursor
    async with Archive(path) as archive:
        listing = client.showcase("x.65products", cursor=cursor, archive=archive)
    page = asyncio.ensure_future(client.showcase_page("x.65products", cursor=cursor))
    await turns(3)
    error = await failure(listing.collect(), ArchiveError)
    assert (error.handle, error.route, error.cursor) == ("x.65products", SHOWCASE, cursor)
    assert (await page).products
    assert sim.ledger.requests == 2


@pytest.mark.parametrize("durability", ["half", None, []], ids=str)
def test_a_durability_that_is_none_is_refused(path, durability):
    """An unknown durability is refused before anything is touched."""
    with pytest.raises(InvalidArgumentError, match="durability"):
        Archive(path, durability=durability)
    assert not path.exists()


async def test_states_are_told(path):
    """The repr says where the file is and whether it is open; closing twice is fine."""
    archive = Archive(path)
    assert repr(archive) == f"<Archive {str(path)!r}, not open>"
    assert archive.path == path
    async with archive:
        assert repr(archive) == f"<Archive {str(path)!r}, open>"
        with pytest.raises(ClientStateError, match="open already"):
            await archive.open()
    await archive.aclose()
    assert not archive.is_open
    assert repr(archive).endswith("not open>")


def test_another_event_loop_is_refused(path):
    """An archive opened in another loop is refused with an error that says so; nothing is sent."""
    archive = Archive(path)

    async def use():
        async with Simulator() as sim, client_of(sim) as client:
            error = await failure(client.showcase_page("x", archive=archive), ClientStateError)
            assert "another event loop" in str(error)
            with pytest.raises(ClientStateError, match="another event loop"):
                async with client.showcases(["x"], archive=archive):
                    pass
            assert sim.ledger.requests == 0

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(archive.open())
        asyncio.run(use())
        loop.run_until_complete(archive.aclose())
    finally:
        loop.close()
    assert beside(path) == []


async def test_a_key_of_another_account_does_not_matter(sim, path):
    """An answer on file is handed out without a request, whatever key the client has."""
    async with client_of(sim) as client, Archive(path) as archive:
        await client.showcase_page("x", archive=archive)
        async with Client(KEY, base_url=sim.url) as other:
            assert (await other.showcase_page("x", archive=archive)).usage.charged == 0
    assert sim.ledger.requests == 1


class Found(msgspec.Struct, rename="camel"):
    """A caller's own type, which raises unless the creator was found."""

    problem: ClassVar[Exception] = KeyError("not found")

    lookup_status: str

    def __post_init__(self):
        if self.lookup_status != "found":
            raise self.problem


class UnspeakableError(Exception):
    """An error whose message cannot be shown."""

    def __str__(self):
        raise RuntimeError("no words")


class Speechless(Found):
    problem = UnspeakableError()


@pytest.mark.parametrize("kind", [Found, Speechless])
async def test_whatever_a_callers_type_raises_the_answer_is_kept(sim, path, kind):
    """If a caller's type raises, the answer counts as undecodable, and is kept for other types."""
    url = "/v1/tiktok/profiles/unknown_x"
    async with Archive(path) as archive, client_of(sim, max_credits=1) as bound:
        joined = bound.get(url, archive=archive)
        error, reply = await asyncio.gather(
            failure(bound.get(url, type=kind, archive=archive), UndecodableError), joined
        )
        assert (error.usage.charged, error.attempts) == (1, 1)
        assert b"not_found" in error.body
        assert reply.data["lookupStatus"] == "not_found"
        assert (bound.budget.charged, bound.budget.reserved) == (1, 0)
    assert sim.ledger.charged == 1
    assert (await held(path, "info")).answers == 1


async def test_a_joined_answer_is_kept_beside_an_older_one(sim, client, archive):
    """An answer that another caller paid for satisfies max_age; the older one is kept as well."""
    await client.showcase_page("a.5products", archive=archive)
    await asyncio.sleep(60)
    sql(archive.path, "UPDATE page SET received = received - 60")
    await asyncio.gather(
        client.showcase_page("a.5products"),
        client.showcase_page("a.5products", archive=archive, max_age=30),
    )
    assert (await held(archive, "info")).answers == sim.ledger.charged == 2
    page = await client.showcase_page("a.5products", archive=archive, max_age=30)
    assert (page.usage.archived, sim.ledger.charged) == (1, 2)


async def test_the_order_of_parameters_does_not_matter_to_a_showcase(sim, client, archive):
    """A generic call finds a showcase's page in whatever order it gives the parameters."""
    first = await client.showcase_page("a.45products", region="US", archive=archive)
    await client.showcase_page(
        "a.45products", region="US", cursor=first.next_cursor, archive=archive
    )
    pair = {"cursor": first.next_cursor, "region": "US"}
    for params in (pair, dict(reversed(pair.items()))):
        path = "/v1/tiktok/profiles/a.45products/showcase-products"
        assert (await client.get(path, params=params, archive=archive)).usage.charged == 0
    assert sim.ledger.charged == 2


async def test_a_call_that_its_archive_refuses_at_last_leaves_nothing_taken(path):
    """A call refused because its archive was closed as it waited gives back place and credits."""
    budget = Budget(2)
    async with (
        Simulator() as sim,
        client_of(sim, concurrency=1, rate=1, burst=1, max_credits=budget) as client,
    ):
        archive = Archive(path)
        await archive.open()
        await client.showcase_page("a.1products", archive=archive)
        waiting = asyncio.create_task(client.showcase_page("b.1products", archive=archive))
        await asyncio.sleep(0.1)
        assert budget.reserved == 1
        await archive.aclose()
        error = await failure(waiting, ArchiveError)
        assert (error.usage.charged, error.usage.maybe) == (0, 0)
        assert (budget.charged, budget.reserved) == (1, 0)
        async with asyncio.timeout(5):
            page = await client.showcase_page("c.1products")
        assert page.usage.charged == budget.charged - 1 == 1
        assert sim.ledger.requests == 2


async def test_what_pages_are_found_by_stays_the_same(sim, path):
    """Pages are found by fixed keys: if those changed, all pages on file would be bought again."""
    async with Archive(path) as archive, client_of(sim) as client:
        await client.showcase_page("@MrBeast", archive=archive)
        (page,) = [
            page
            async for page in client.showcase(
                "a.45products", region="us", max_pages=1, archive=archive
            ).pages()
        ]
        cursor = page.next_cursor
        await client.showcase_page("a.45products", cursor=cursor, region="us", archive=archive)
        await client.tiktok_profile("mrbeast", archive=archive)
        await client.review_page("1729", region="us", page=2, archive=archive)
    showcase = "/v1/tiktok/profiles/a.45products/showcase-products"
    targets = [
        "/v1/tiktok/profiles/mrbeast/showcase-products",
        f"{showcase}?region=US",
        f"{showcase}?cursor={quote(cursor, safe='')}&region=US",
        "/v1/tiktok/profiles/mrbeast",
        "/v1/tiktok/products/reviews?page=2&productId=1729&region=US",
    ]
    keys = [blake2b(target.encode(), digest_size=16).digest() for target in targets]
    assert [key for (key,) in sql(path, "SELECT key FROM page ORDER BY id")] == keys
    assert keys[0].hex() == "ec0003cc7122b50344202e4b1834c4b6"
