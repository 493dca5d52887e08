"""A 200 that cannot be decoded is paid for: kept, reported, not bought again, decoded later."""

import asyncio
import gzip
import json

import pytest

from asyncsfk import (
    Archive,
    ArchiveLockedError,
    BodyTooLargeError,
    InvalidArgumentError,
    RunStoppedError,
    UndecodableError,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import held, known, run_of
from tests.support import KEY, client_of, enveloped, failure, http, plain, run_through, told

LONG = "long.90products"

SPOILT = {
    "not_json": Fault.not_json(pages={2}),
    "wrong_type": Fault.wrong_type(pages={2}),
    "wrong_page": Fault.wrong_type("page", pages={2}),
    "wrong_data": Fault.wrong_type("data", pages={2}),
    "invalid_utf8": Fault.invalid_utf8(pages={2}),
    "nan": Fault.nan(pages={2}),
    "bomb": Fault.gzip_bomb(2**21, pages={2}),
}


@pytest.mark.parametrize("fault", SPOILT.values(), ids=SPOILT)
async def test_it_is_kept_and_not_bought_again(path, fault):
    """An undecodable page is kept as it came, reported by each run, and paid once."""
    async with (
        Simulator(faults=[fault]) as sim,
        client_of(sim, max_body_bytes=2**20) as client,
    ):
        first, before = await run_of(client, [LONG], archive=path)
        sim.faults = []
        second, after = await run_of(client, [LONG], archive=path)
        assert sim.ledger.requests == sim.ledger.charged == 2
        for outcome in (before[LONG], after[LONG]):
            assert isinstance(outcome.error, UndecodableError | BodyTooLargeError)
            assert outcome.status == "partial"
            assert plain(outcome.products) == sim.showcase(LONG)[:20]
            assert outcome.next_cursor == outcome.error.cursor is not None
        assert known(second.usage) == known(second.usage.__class__())
        assert first.usage.charged + first.usage.maybe == 2
    pages = await held(path, "answers")
    assert [page.decoded for page in pages] == [True, False]
    assert pages[1].cursor == before[LONG].next_cursor
    if before[LONG].error.body is not None:
        assert pages[1].body() == before[LONG].error.body
    with pytest.raises(UndecodableError if fault.name != "gzip_bomb" else BodyTooLargeError):
        pages[1].decode(max_body_bytes=2**20)
    info = await held(path, "info")
    assert (info.answers, info.undecodable, info.partial) == (2, 1, 1)
    assert (await held(path, "usage")).charged == first.usage.charged


@pytest.mark.parametrize(
    "fault",
    [fault for name, fault in SPOILT.items() if name not in {"bomb", "wrong_data"}],
    ids=[name for name in SPOILT if name not in {"bomb", "wrong_data"}],
)
async def test_salvage_of_what_still_cannot_be_decoded_changes_nothing(path, fault):
    """Salvaging a page that still cannot be decoded changes nothing."""
    async with Simulator(faults=[fault]) as sim, client_of(sim) as client:
        _, before = await run_of(client, [LONG], archive=path)
        pages = await held(path, "answers")
        for _ in range(2):
            assert await held(path, "salvage") == 0
        assert await held(path, "answers") == pages
        _, after = await run_of(client, [LONG], archive=path)
        assert after[LONG].error == before[LONG].error.evolve(
            usage=after[LONG].error.usage, attempts=0
        )
        assert sim.ledger.requests == 2


async def test_what_was_too_large_is_decoded_when_it_may_be(path):
    """salvage() with a larger limit decodes a page for free, and the next run goes on from it."""
    async with Simulator(page_size=200) as sim:
        handle = "large.900products"
        async with client_of(sim, max_body_bytes=30_000) as small:
            run, outcomes = await run_of(small, [handle], archive=path)
            assert isinstance(outcomes[handle].error, BodyTooLargeError)
            assert outcomes[handle].status == "failed"
        assert await held(path, "salvage", max_body_bytes=30_000) == 0
        pages = []
        assert await held(path, "salvage", pages.append) == 1
        (page,) = pages
        assert page.decoded
        assert [p.to_dict() for p in page.decode().products] == sim.showcase(handle)[:200]
        assert await held(path, "salvage") == 0
        assert (await held(path, "info")).undecodable == 0
        assert len(await held(path, "products")) == 200
        async with client_of(sim) as client:
            run, outcomes = await run_of(client, [handle], archive=path)
            assert plain(outcomes[handle].products) == sim.showcase(handle)
            assert (run.usage.charged, run.usage.archived) == (4, 1)
        assert sim.ledger.paid_twice() == {}


async def test_what_cannot_be_decoded_takes_the_place_of_nothing_that_can(path):
    """An undecodable answer that comes last does not replace a good one of the same page."""
    slow = [Fault.delay(Latency.fixed(1), requests=[2]), Fault.wrong_type(requests=[2])]
    async with Simulator(faults=slow, latency=Latency.fixed(0.1)) as sim:
        handle = "a.45products"
        async with client_of(sim) as one, client_of(sim) as two, Archive(path) as archive:
            first = asyncio.ensure_future(one.showcase_page(handle, archive=archive))
            await asyncio.sleep(0)
            await failure(two.showcase_page(handle, archive=archive), UndecodableError)
            await first
            run, outcomes = await run_of(one, [handle], archive=archive)
        assert outcomes[handle].status == "complete"
        assert run.usage.charged == 2
        assert len(await held(path, "answers")) == 4
        assert plain([p for _, p in await held(path, "products")]) == sim.showcase(handle)
        async with client_of(sim) as client:
            again, _ = await run_of(client, [handle], archive=path)
        assert again.progress.complete == again.usage.archived - 2 == 1


@pytest.mark.parametrize("limit", [0, -1, "1000", None, 1.5])
async def test_a_limit_that_is_none_is_refused(path, limit):
    """A max_body_bytes that is not a positive integer is refused."""
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, ["x"], archive=path)
    (answer,) = await held(path, "answers")
    for call in (answer.body, answer.decode, Archive(path).salvage):
        with pytest.raises(InvalidArgumentError, match="max_body_bytes"):
            call(max_body_bytes=limit)


async def test_a_client_that_may_read_more_needs_no_salvage(path):
    """A run with a larger limit decodes what is on file by itself."""
    async with Simulator(page_size=200) as sim:
        async with client_of(sim, max_body_bytes=30_000) as small:
            await run_of(small, ["large.300products"], archive=path)
        async with client_of(sim) as client:
            run, outcomes = await run_of(client, ["large.300products"], archive=path)
            assert plain(outcomes["large.300products"].products) == sim.showcase(
                "large.300products"
            )
            assert run.usage.charged == 1
    assert (await held(path, "info")).undecodable == 0
    assert await held(path, "salvage") == 0


async def test_what_was_salvaged_is_no_error_any_more(path):
    """The error of a creator that still goes on does not name a page that can be decoded now."""
    handle = "x.45products"
    async with Simulator() as sim, client_of(sim, max_body_bytes=5_000) as client:
        _, outcomes = await run_of(client, [handle], archive=path)
        assert isinstance(outcomes[handle].error, BodyTooLargeError)
        (error,) = await held(path, "errors")
        assert isinstance(error.error, BodyTooLargeError)
        assert await held(path, "salvage") == 1
        (error,) = await held(path, "errors")
        assert isinstance(error.error, RunStoppedError)
        assert (error.status, error.pages) == ("partial", 1)
        assert error.error.cursor == error.next_cursor is not None


async def test_salvage_decodes_some_of_many(path):
    """salvage() decodes each page that it can, and leaves the others."""
    async with Simulator(page_size=200) as sim:
        sim.faults = [Fault.not_json(handles={"c1.150products", "c3.150products"})]
        handles = [f"c{n}.150products" for n in range(5)]
        async with client_of(sim, max_body_bytes=20_000) as small, Archive(path) as archive:
            await run_of(small, handles, archive=archive)
            await failure(
                small.get("/v1/tiktok/profiles/x", type=int, archive=archive), UndecodableError
            )
        salvaged = []
        assert await held(path, "salvage", salvaged.append) == 4
        # They come in the order of their arrival, which is not that of the handles.
        assert sorted(page.handle for page in salvaged if page.handle) == handles[::2]
    info = await held(path, "info")
    assert (info.answers, info.undecodable) == (6, 2)


async def test_salvage_that_breaks_off_gives_again_what_was_not_taken(path):
    """salvage() marks a page as decoded only if the callback took it without raising."""
    async with Simulator(page_size=200) as sim, client_of(sim, max_body_bytes=20_000) as small:
        await run_of(small, [f"c{n}.150products" for n in range(4)], archive=path)

    told = []

    def break_off(page):
        told.append(page.handle)
        if len(told) == 2:
            raise ValueError("of the caller's")

    with pytest.raises(ValueError, match="of the caller's"):
        await held(path, "salvage", break_off)
    assert (await held(path, "info")).undecodable == 3
    assert await held(path, "salvage", break_off) == 3
    assert told[1] == told[2]
    assert len(set(told)) == 4
    assert (await held(path, "info")).undecodable == 0


@pytest.mark.parametrize("on_answer", ["x", asyncio.sleep])
async def test_salvage_tells_plain_functions_alone(path, on_answer):
    """salvage() refuses a callback that is not a plain function."""
    with pytest.raises(InvalidArgumentError, match="plain function"):
        await held(path, "salvage", on_answer)


async def test_salvage_needs_the_file_to_itself(client, path):
    """salvage() is refused while somebody has the archive open."""
    async with Archive(path) as archive:
        await client.showcase_page("x", archive=archive)
        with pytest.raises(ArchiveLockedError, match="process"):
            await held(archive, "salvage")
    assert await held(path, "salvage") == 0


async def test_other_routes_are_kept_undecoded_too(path):
    """A profile or a generic answer that cannot be decoded is on file, and paid once."""
    async with (
        told(http(200, b"<html>", "Content-Type: text/html"), keep=True) as (server, client),
        Archive(path) as archive,
    ):
        for call in (client.tiktok_profile, client.instagram_profile):
            for _ in range(2):
                error = await failure(call("x", archive=archive), UndecodableError)
                assert error.body == b"<html>"
        for _ in range(2):
            await failure(client.review_page(product_id="1", archive=archive), UndecodableError)
            await failure(client.get("/v1/anything", archive=archive), UndecodableError)
        assert server.hits == 4
    assert (await held(path, "info")).undecodable == 4


async def test_the_error_of_a_kept_page_says_which_it_is(path):
    """The error of a kept page names the same place as the call's: a page's number or a cursor."""
    async with (
        told(http(200, b"<html>"), keep=True) as (_, client),
        Archive(path) as archive,
    ):
        bought = [
            await failure(client.review_page("1", page=3, archive=archive), UndecodableError),
            await failure(client.showcase_page("x", cursor="c", archive=archive), UndecodableError),
        ]
    kept = []
    for page in await held(path, "answers"):
        with pytest.raises(UndecodableError) as caught:
            page.decode()
        kept.append(caught.value)
    places = [(error.route, error.handle, error.page, error.cursor) for error in kept]
    assert places == [(error.route, error.handle, error.page, error.cursor) for error in bought]
    assert [place[2:] for place in places] == [(3, None), (None, "c")]


async def test_a_body_over_the_limit_on_the_wire_is_not_kept(path):
    """A body over the limit on the wire is not kept: it may be charged, and is asked for again."""
    async with (
        Simulator(faults=[Fault.oversized(2**18)]) as sim,
        client_of(sim, max_body_bytes=2**16) as client,
    ):
        for _ in range(2):
            run, outcomes = await run_of(client, ["x"], archive=path)
            assert isinstance(outcomes["x"].error, BodyTooLargeError)
            assert (run.usage.requests, run.usage.maybe) == (1, 1)
    assert await held(path, "answers") == []
    assert (await held(path, "usage")).maybe == 2


@pytest.mark.parametrize("kind", ["cut", "no gzip", "other encoding", "members"])
async def test_what_cannot_even_be_unpacked_is_kept(path, kind):
    """A broken gzip stream, or an encoding that nobody asked for, is on file byte for byte."""
    whole = gzip.compress(json.dumps({"data": {"products": [], "page": {}}}).encode())
    raw, encoding = {
        "cut": (whole[:-5], "gzip"),
        "no gzip": (b"{}", "gzip"),
        "other encoding": (b"\x00\x01", "br"),
        "members": (whole * 20, "gzip"),
    }[kind]
    answer = http(200, raw, f"Content-Encoding: {encoding}")
    async with told(answer, keep=True) as (server, client):
        for _ in range(2):
            _, outcomes = await run_of(client, ["x"], archive=path)
            assert isinstance(outcomes["x"].error, UndecodableError)
        assert server.hits == 1
    (page,) = await held(path, "answers")
    assert (page.raw, page.encoding, page.decoded) == (raw, encoding, False)
    with pytest.raises(UndecodableError):
        page.body()
    assert await held(path, "salvage") == 0


async def test_an_undecodable_page_may_be_bought_afresh(path):
    """refresh=True buys a page again that will never be decoded."""
    async with Simulator(faults=[Fault.not_json(pages={2}, times=1)]) as sim, client_of(sim) as one:
        await run_of(one, [LONG], archive=path)
        run, outcomes = await run_of(one, [LONG], archive=path, refresh=True)
        assert plain(outcomes[LONG].products) == sim.showcase(LONG)
        assert run.usage.charged == 5
    assert len(await held(path, "products")) == 90


async def test_another_type_decodes_what_one_cannot(path):
    """A body that one type cannot decode is decoded by another, at no cost."""
    body = {"products": [{"id": 7}], "page": {"nextCursor": None, "hasMore": False}}
    answer = http(200, enveloped(body))
    async with told(answer, keep=True) as (server, client), Archive(path) as archive:
        await failure(client.showcase_page("x", archive=archive), UndecodableError)
        # To this type it is a good answer, as it may be to a later version's.
        reply = await client.get(
            "/v1/tiktok/profiles/x/showcase-products", type=dict, archive=archive
        )
        assert reply.data == body
        assert server.hits == 1


@pytest.mark.parametrize("encoding", ["\xff\xfe", "gzip\xe9", "x" * 5000, KEY.lower()])
async def test_an_odd_encoding_costs_the_others_nothing(path, encoding):
    """An answer with an odd Content-Encoding is kept, and so are those that came with it."""
    good = enveloped({"products": [], "page": {}})

    def answer(head):
        return http(200, good, *([f"Content-Encoding: {encoding}"] if b"/odd/" in head else []))

    async with told(answer) as (server, client):
        _, outcomes = await run_of(client, ["a", "b", "odd", "c"], archive=path)
        assert server.hits == 4
    assert outcomes.pop("odd").status == "failed"
    assert {outcome.status for outcome in outcomes.values()} == {"complete"}
    assert len(await held(path, "answers")) == len(await held(path, "ledger")) == 4
    assert KEY.lower().encode() not in path.read_bytes()


async def test_what_was_salvaged_is_read_by_a_client_with_a_smaller_limit(path):
    """A run goes on from a salvaged page even if its client accepts only smaller answers."""
    async with (
        Simulator(page_size=200) as sim,
        client_of(sim, max_body_bytes=30_000) as client,
    ):
        _, (outcome,) = await run_through(client, ["large.900products"], archive=path)
        assert isinstance(outcome.error, BodyTooLargeError)
        assert await held(path, "salvage") == 1
        charged = sim.ledger.charged
        _, (outcome,) = await run_through(client, ["large.900products"], archive=path)
        assert outcome.pages == 1
        assert sim.ledger.charged == charged + 1
