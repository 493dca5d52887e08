"""A run goes on where the last one ended: what is on file is never paid again."""

import asyncio
from collections import Counter

import pytest

from asyncsfk import (
    Archive,
    ArchiveLockedError,
    BudgetReachedError,
    InvalidArgumentError,
    LookupFailedError,
    Outcome,
    PaginationError,
    Usage,
)
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.archive.support import Editions, held, ids, known, run_of
from tests.support import SHOWCASE, client_of, enveloped, failure, http, plain, told

LONG = "long.90products"  # five pages


async def test_what_is_complete_comes_out_of_the_file(sim, client, path):
    """A second run sends nothing, and hands the very same products out."""
    handles = [*sim.handles(25), LONG]
    first, before = await run_of(client, handles, archive=path)
    asked = sim.ledger.requests
    second, after = await run_of(client, handles, archive=path)
    assert sim.ledger.requests == asked
    assert before.keys() == after.keys() == set(handles)
    for handle, outcome in after.items():
        assert plain(outcome.products) == sim.showcase(handle)
        assert outcome.products == before[handle].products
        assert outcome.request_ids == before[handle].request_ids
        assert (outcome.status, outcome.next_cursor) == ("complete", None)
        pages = before[handle].pages
        assert outcome.usage == Usage(pages=pages, products=len(outcome.products), archived=pages)
    assert known(second.usage) == Usage()
    assert second.usage.archived == second.usage.pages == first.usage.pages
    assert first.usage.archived == 0


@pytest.mark.parametrize("stop_after", [1, 12])
async def test_a_run_that_was_left_goes_on(sim, client, path, stop_after):
    """However often a run is left in the middle, no page of it is ever paid twice."""
    handles = [*sim.handles(20), LONG, "empty_one"]
    for _ in range(3):
        async with client.showcases(handles, archive=path) as run:
            async for _ in run:
                if run.progress.complete >= stop_after:
                    break
    _, outcomes = await run_of(client, handles, archive=path)
    for handle in handles:
        assert plain(outcomes[handle].products) == sim.showcase(handle)
    assert sim.ledger.paid_twice() == {}
    pages = Counter(entry.page for entry in sim.ledger if entry.charged)
    assert len(pages) == sum(outcome.pages for outcome in outcomes.values())


async def test_what_is_there_in_part_goes_on_from_its_cursor(sim, client, path):
    """A partial showcase is continued by its cursor, without asking for pages on file."""
    sim.faults = [Fault.status(502, pages={3}, times=1)]
    _, before = await run_of(client, [LONG], archive=path)
    assert (before[LONG].status, before[LONG].pages) == ("partial", 2)
    asked = sim.ledger.requests
    _, after = await run_of(client, [LONG], archive=path)
    assert plain(after[LONG].products) == sim.showcase(LONG)
    assert (after[LONG].usage.charged, after[LONG].usage.archived) == (3, 2)
    later = [entry.cursor for entry in sim.ledger][asked:]
    assert later[0] == before[LONG].next_cursor
    assert sim.ledger.paid_twice() == {}


async def test_failed_and_skipped_ones_are_tried_again(path):
    """The next run tries failed and skipped creators again, and pays for no page twice."""
    async with Simulator(credits=3) as sim, client_of(sim, concurrency=1) as client:
        sim.faults = [Fault.status(404, handles={"bad.5products"}, times=1)]
        handles = ["bad.5products", *(f"c{n}.5products" for n in range(8))]
        run, before = await run_of(client, handles, archive=path)
        assert Counter(o.status for o in before.values()) == {
            "complete": 3,
            "failed": 2,
            "skipped": 4,
        }
        sim.balance = 100
        run, after = await run_of(client, handles, archive=path)
        assert {outcome.status for outcome in after.values()} == {"complete"}
        assert run.usage.charged == 6
        assert sim.ledger.paid_twice() == {}
    info = await held(path, "info")
    assert (info.complete, info.failed) == (9, 0)


async def test_more_and_fewer_pages(sim, client, path):
    """A larger max_pages buys more, and a smaller one takes what is on file."""
    spent = []
    for most in (2, 1, 3, None, 2):
        run, outcomes = await run_of(
            client, [LONG, "short.5products"], archive=path, max_pages=most
        )
        spent.append(run.usage.charged)
        outcome = outcomes[LONG]
        assert plain(outcome.products) == sim.showcase(LONG)[: 20 * most if most else None]
        assert outcome.status == "complete"
        assert (outcome.next_cursor is None) == (most is None)
    assert spent == [3, 0, 1, 2, 0]
    assert sim.ledger.paid_twice() == {}


@pytest.mark.parametrize("later", ["fewer pages by a run", "more pages by a call"])
async def test_an_outcome_on_file_agrees_with_its_products(client, path, later):
    """The counts of an outcome on file agree with the products that come with it."""
    async with Archive(path) as archive:
        if later == "fewer pages by a run":
            await run_of(client, [LONG], archive=archive)
            await run_of(client, [LONG], archive=archive, max_pages=1)
        else:
            await run_of(client, [LONG], archive=archive, max_pages=1)
            await client.showcase(LONG, archive=archive, max_pages=3).collect()
    (outcome,) = await held(path, "outcomes")
    assert outcome.usage.products == len(outcome.products)
    assert outcome.pages == -(-len(outcome.products) // 20)


async def test_regions_are_other_showcases(sim, client, path):
    """Each region has its own showcase: one on file does not serve another region."""
    seen = {}
    for region in (None, "GB", "US"):
        run, outcomes = await run_of(client, [LONG], archive=path, region=region)
        assert run.usage.charged == 5
        seen[region] = outcomes[LONG]
        assert plain(outcomes[LONG].products) == sim.showcase(LONG, region)
    for region, outcome in seen.items():
        run, outcomes = await run_of(client, [LONG], archive=path, region=region)
        assert run.usage.charged == 0
        assert outcomes[LONG].products == outcome.products
    kept = {outcome.region: outcome for outcome in await held(path, "outcomes")}
    assert kept.keys() == seen.keys()
    for region, outcome in kept.items():
        assert outcome.products == seen[region].products
    assert {page.region for page in await held(path, "answers")} == set(seen)


async def test_reading_one_creator_or_region(sim, client, path):
    """Reading can be limited to a creator, a region or both, in any spelling."""
    handles = ["a.45products", "b.3products"]
    for region in ("GB", "US"):
        sim.faults = [Fault.status(500, pages=[2])] if region == "US" else []
        await run_of(client, handles, archive=path, region=region)
    of_a, of_us = {"handle": " @A.45Products"}, {"region": "us"}
    everything = [(handle, region) for region in ("GB", "US") for handle in handles]
    for wanted, expected in (
        ({}, everything),
        (of_a, [("a.45products", "GB"), ("a.45products", "US")]),
        (of_us, [("a.45products", "US"), ("b.3products", "US")]),
        (of_a | of_us, [("a.45products", "US")]),
        ({"handle": "nobody"}, []),
    ):
        outcomes = await held(path, "outcomes", **wanted)
        told = [(outcome.handle, outcome.region) for outcome in outcomes]
        assert sorted(told) == sorted(expected)
        assert await held(path, "products", **wanted) == [
            (outcome.handle, product) for outcome in outcomes for product in outcome.products
        ]
        pages = await held(path, "pages", **wanted)
        assert [(page.handle, page.region) for page in pages if page.number == 1] == told
        failed = [
            (outcome.handle, outcome.region) for outcome in await held(path, "errors", **wanted)
        ]
        assert failed == [one for one in told if one == ("a.45products", "US")]


@pytest.mark.parametrize("wanted", [{"handle": "no good"}, {"region": ""}, {"region": 1}])
@pytest.mark.parametrize("what", ["outcomes", "errors", "products", "pages"])
def test_reading_of_what_cannot_be(path, what, wanted):
    """An unusable handle or region is refused at once, whether or not there is a file."""
    with pytest.raises(InvalidArgumentError):
        getattr(Archive(path), what)(**wanted)


async def test_a_region_is_one_however_it_is_written(sim, client, archive):
    """A region in small letters is the same region, in every call."""
    path = f"/v1/tiktok/profiles/{LONG}/showcase-products"
    run, outcomes = await run_of(client, [LONG], archive=archive, region="us", max_pages=1)
    assert outcomes[LONG].region == "US"
    await run_of(client, [LONG], archive=archive, region="US", max_pages=1)
    await client.showcase_page(LONG, region="Us", archive=archive)
    await client.showcase(LONG, region="us", max_pages=1, archive=archive).collect()
    await client.get(path, params={"region": "us"}, archive=archive)
    plan = await client.plan([LONG], region="us", archive=archive, max_pages=1)
    assert plan.complete == 1
    assert run.usage.charged == sim.ledger.charged == 1


async def test_look_ups_of_empty_showcases_are_kept_too(client, path):
    """verify_empty pays for each profile once; the next run finds it on file."""
    handles = ["empty_one", "private_two", "unknown_three", "shows.5products"]
    first, before = await run_of(client, handles, archive=path, verify_empty=True)
    second, after = await run_of(client, handles, archive=path, verify_empty=True)
    assert (first.usage.charged, second.usage.charged) == (7, 0)
    for handle in handles:
        assert after[handle].account_status == before[handle].account_status
    assert after["private_two"].account_status == "private"
    kept = {outcome.handle: outcome for outcome in await held(path, "outcomes")}
    assert kept["unknown_three"].account_status == "not_found"


async def test_a_look_up_that_failed_is_made_again(sim, client, path):
    """A failed look-up is made again without buying the empty showcase again."""
    sim.faults = [Fault.status(502, routes={Route.TIKTOK_PROFILE}, times=1)]
    _, before = await run_of(client, ["private_x"], archive=path, verify_empty=True)
    assert isinstance(before["private_x"].error, LookupFailedError)
    run, after = await run_of(client, ["private_x"], archive=path, verify_empty=True)
    assert (run.usage.charged, run.usage.archived) == (1, 1)
    assert after["private_x"].account_status == "private"
    assert sim.ledger.hits(route=SHOWCASE) == 1


async def test_a_look_up_may_be_asked_for_later(client, path):
    """A later run with verify_empty pays for the look-ups alone."""
    await run_of(client, ["empty_one", "b.5products"], archive=path)
    run, outcomes = await run_of(
        client, ["empty_one", "b.5products"], archive=path, verify_empty=True
    )
    assert run.usage.charged == 1
    assert outcomes["empty_one"].account_status == "found"


@pytest.mark.parametrize("concurrency", [1, 100])
async def test_each_distinct_handle_has_one_outcome(sim, client, path, concurrency):
    """Duplicates are passed over, whether their creator is still under way or done."""
    given = ["x.45products", "@X.45products", "y", "https://www.tiktok.com/@x.45products"]
    given += [*sim.handles(15), *sim.handles(15), "Y", "", ".."] * 2
    async with client.showcases(given, archive=path, concurrency=concurrency) as run:
        handles = [outcome.handle async for outcome in run]
    assert Counter(handles) == Counter([*sim.handles(15), "x.45products", "y", "", ".."])
    assert run.progress.duplicates == len(given) - len(handles)
    assert sim.ledger.paid_twice() == {}
    # The next run knows them from the file, and still hands each of them out once.
    async with client.showcases(given, archive=path, concurrency=concurrency) as run:
        assert Counter([outcome.handle async for outcome in run]) == Counter(handles)
    assert sim.ledger.paid_twice() == {}


async def test_a_duplicate_of_a_failed_one_is_passed_over_too(sim, client, path):
    """A duplicate of a failed creator is passed over, though nothing of it is on file."""
    sim.faults = [Fault.status(404)]
    handles = ["a", "b", "a", "b", "a"]
    async with client.showcases(handles, archive=path, concurrency=1) as run:
        statuses = [(outcome.handle, outcome.status) async for outcome in run]
    assert statuses == [("a", "failed"), ("b", "failed")]
    assert sim.ledger.requests == 2


@pytest.mark.parametrize("concurrency", [1, 100])
async def test_without_dedupe_each_has_its_outcome(sim, client, path, concurrency):
    """With dedupe=False a handle that comes twice has two outcomes, and is paid once."""
    handles = ["x.45products", "y.5products", "x.45products"]
    options = {"dedupe": False, "concurrency": concurrency}
    async with client.showcases(handles, archive=path, **options) as run:
        outcomes = [outcome async for outcome in run]
    assert sorted(outcome.handle for outcome in outcomes) == sorted(handles)
    assert {outcome.status for outcome in outcomes} == {"complete"}
    assert sum(outcome.usage.charged for outcome in outcomes) == 4
    assert sim.ledger.paid_twice() == {}
    assert await held(path, "usage") == known(run.usage) + Usage(pages=4)


async def test_outcomes_in_order(sim, client, path):
    """ordered=True keeps the order over what is on file, what is bought and what fails."""
    handles = [*sim.handles(15), LONG, "x.5products", "empty_one"]
    await run_of(client, handles[::3], archive=path)
    sim.faults = [Fault.status(404, handles={handles[1]})]
    given = [*handles, handles[0], ".."]
    async with client.showcases(given, archive=path, ordered=True) as run:
        outcomes = [outcome async for outcome in run]
    assert [outcome.handle for outcome in outcomes] == [*handles, ".."]
    for outcome in outcomes:
        if outcome.status == "complete":
            assert plain(outcome.products) == sim.showcase(outcome.handle)
    assert run.progress.duplicates == 1
    assert sim.ledger.paid_twice() == {}


async def test_pages_of_a_run(sim, client, path):
    """run.pages() hands out what is on file and what is missing, in each showcase's order."""
    sim.faults = [Fault.status(502, pages={3}, times=1)]
    handles = [LONG, "x.45products", "empty_one"]
    await run_of(client, handles, archive=path)
    outcomes = []
    async with client.showcases(handles, archive=path) as run:
        pages = [page async for page in run.pages(outcomes.append)]
    for handle in handles:
        own = [page for page in pages if page.handle == handle]
        assert [page.number for page in own] == list(range(1, len(own) + 1))
        products = [product.to_dict() for page in own for product in page.products]
        assert products == sim.showcase(handle)
    assert {outcome.handle: outcome.products for outcome in outcomes} == dict.fromkeys(handles, ())
    assert sim.ledger.paid_twice() == {}
    # A run of outcomes uses what a run of pages has put on file.
    again, complete = await run_of(client, handles, archive=path)
    assert again.usage.charged == 0
    assert plain(complete[LONG].products) == sim.showcase(LONG)


async def test_fetch_showcases(sim, client, path):
    """fetch_showcases() uses an archive as runs do, and keeps the order of its input."""
    given = ["b.5products", "", "a.45products", "@B.5products"]
    first = await client.fetch_showcases(given, archive=path)
    second = await client.fetch_showcases(given, archive=path)
    assert sim.ledger.charged == 4
    assert [o.handle for o in second] == ["b.5products", "", "a.45products", "b.5products"]
    assert [o.products for o in second] == [o.products for o in first]
    assert second[0] is second[3]
    third = await client.fetch_showcases(given, archive=path, refresh=True, max_pages=1)
    assert sim.ledger.charged == 6
    assert third[2].products == first[2].products[:20]


async def test_one_archive_for_runs_and_single_calls(sim, client, archive):
    """A page bought by a call, a listing or a run serves all the others."""
    page = await client.showcase_page(LONG, archive=archive)
    assert page.usage.charged == 1
    items = await client.showcase(LONG, archive=archive, max_pages=2).collect()
    assert len(items) == 40
    assert sim.ledger.charged == 2
    run, outcomes = await run_of(client, [LONG], archive=archive)
    assert (run.usage.charged, run.usage.archived) == (3, 2)
    products = await client.showcase(LONG, archive=archive).collect()
    assert tuple(products) == outcomes[LONG].products
    last = await client.showcase_page(LONG, cursor=page.next_cursor, archive=archive)
    assert (last.usage.charged, last.usage.archived) == (0, 1)
    await client.tiktok_profile("empty_one", archive=archive)
    run, outcomes = await run_of(client, ["empty_one"], archive=archive, verify_empty=True)
    assert outcomes["empty_one"].usage.charged == 1
    assert sim.ledger.paid_twice() == {}


async def test_a_page_bought_by_get_is_not_bought_again(sim, client, archive):
    """The generic call and the route's own call use each other's answers."""
    path = "/v1/tiktok/profiles/{}/showcase-products"
    await run_of(client, ["a.5products"], archive=archive)
    await client.get(path.format("a.5products"), archive=archive)
    assert sim.ledger.charged == 1
    await client.get(path.format("b.5products"), archive=archive)
    await client.showcase_page("b.5products", archive=archive)
    assert sim.ledger.charged == 2
    await run_of(client, ["b.5products"], archive=archive)
    assert sim.ledger.charged == 2


async def test_a_page_bought_by_get_is_one_however_it_is_written(sim, client, archive):
    """The order of parameters, page=1 and the case of a handle or region make no other page."""
    products = (await client.showcase_page("a.5products", archive=archive)).products
    await client.get("/v1/tiktok/profiles/A.5Products/showcase-products", archive=archive)
    assert sim.ledger.charged == 1
    path, number = "/v1/tiktok/products/reviews", products[0].id
    await client.review_page(product_id=number, region="US", archive=archive)
    for params in (
        {"region": "US", "productId": number},
        {"productId": number, "page": 1, "region": "US"},
        {"productId": number, "page": "1", "region": "us"},
    ):
        await client.get(path, params=params, archive=archive)
    assert sim.ledger.charged == 2
    await client.review_page(product_id=number, region="US", page=2, archive=archive)
    await client.get(path, params={"region": "US", "page": 2, "productId": number}, archive=archive)
    assert sim.ledger.charged == 3


async def test_two_runs_at_once_share_an_archive(sim, client, archive):
    """Two runs over the same creators pay for each page once between them."""
    handles = [*sim.handles(15), LONG]
    (one, first), (other, second) = await asyncio.gather(
        run_of(client, handles, archive=archive), run_of(client, handles, archive=archive)
    )
    assert first.keys() == second.keys() == set(handles)
    for handle in handles:
        assert (
            plain(first[handle].products) == plain(second[handle].products) == sim.showcase(handle)
        )
    assert sim.ledger.paid_twice() == {}
    assert one.usage.charged + other.usage.charged == sim.ledger.charged


async def test_two_runs_at_once_do_not_confuse_duplicates(client, archive):
    """Each of two runs at once has one outcome for a handle that it is given twice."""

    async def handles(number):
        yield "x.5products"
        await asyncio.sleep(1 + number)
        yield "x.5products"

    async def run(number):
        async with client.showcases(handles(number), archive=archive) as run:
            return [outcome.handle async for outcome in run]

    assert await asyncio.gather(run(0), run(1)) == [["x.5products"], ["x.5products"]]


async def test_two_clients_share_an_archive(sim, path):
    """Two clients of one process may write to one archive; what one bought, the other has."""
    async with (
        Archive(path) as archive,
        client_of(sim) as one,
        client_of(sim) as other,
    ):
        await run_of(one, [LONG], archive=archive)
        run, outcomes = await run_of(other, [LONG], archive=archive)
        assert run.usage.charged == 0
        assert plain(outcomes[LONG].products) == sim.showcase(LONG)


async def test_a_path_an_archive_and_an_open_one(sim, client, path):
    """A run takes a path or an archive, open or not, and closes only what it has opened."""
    handles = ["x.5products"]
    await run_of(client, handles, archive=path)
    await run_of(client, handles, archive=str(path))
    archive = Archive(path)
    await run_of(client, handles, archive=archive)
    assert not archive.is_open
    async with archive:
        assert archive.is_open
        await run_of(client, handles, archive=archive)
        assert archive.is_open
        await client.showcase_page("y.5products", archive=archive)
        error = await failure(archive.open())
        assert "open already" in str(error)
    assert not archive.is_open
    await archive.aclose()
    async with archive:
        await run_of(client, [*handles, "y.5products"], archive=archive)
    assert sim.ledger.charged == 2


async def test_a_run_opens_its_archive_when_it_is_entered(sim, client, path):
    """A run opens its file when it is entered, not when it is made, and releases it if unused."""
    run = client.showcases(["x"], archive=path)
    assert not path.exists()
    async with run, client.showcases(["x"], archive=path.with_name("other.sfk")):
        error = await failure(Archive(path).open(), ArchiveLockedError)
        assert "process" in str(error)
    async with Archive(path):
        pass
    assert sim.ledger.requests == 0


async def test_an_archive_that_cannot_be_opened_sends_nothing(sim, client, path):
    """A run whose archive is locked is refused at once, sends nothing and leaves nothing behind."""
    async with Archive(path):
        run = client.showcases(["x"], archive=path)
        error = await failure(run.__aenter__(), ArchiveLockedError)
        assert "process" in str(error)
    assert sim.ledger.requests == 0
    await run_of(client, ["x"], archive=path)


async def test_where_paging_was_refused_it_is_refused_again_for_nothing(path):
    """A showcase that leads in a circle is partial in the next run too, at no cost."""
    faults = [Fault.cursor_loop(pages={2})]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        _, before = await run_of(client, [LONG], archive=path)
        run, after = await run_of(client, [LONG], archive=path)
        assert run.usage.charged == 0
        for outcome in (before[LONG], after[LONG]):
            assert isinstance(outcome.error, PaginationError)
            assert (outcome.status, outcome.pages) == ("partial", 2)
    (kept,) = await held(path, "outcomes")
    assert len(kept.products) == 40


async def test_a_showcase_that_grew_goes_on_where_it_ended(path):
    """A showcase cut by max_pages is continued by its cursor, even if its start has changed."""
    editions = Editions()
    async with told(editions, keep=True) as (server, client):
        await run_of(client, ["x"], archive=path, max_pages=2)
        editions.edition = 2
        _, outcomes = await run_of(client, ["x"], archive=path)
        assert ids(outcomes["x"]) == ["1.1", "1.2", "2.3"]
        assert server.hits == 3


@pytest.mark.parametrize(
    "options", [{"max_age": 1}, {"refresh": True}, {"restart_stale": True}], ids=str
)
async def test_a_run_without_an_archive_takes_none_of_its_options(client, options):
    """Options that mean nothing without an archive are refused."""
    with pytest.raises(InvalidArgumentError, match="need an archive"):
        client.showcases(["x"], **options)
    error = await failure(client.fetch_showcases(["x"], **options), InvalidArgumentError)
    assert "need an archive" in str(error)


@pytest.mark.parametrize("archive", ["", 3, b"x.sfk", ["x.sfk"]], ids=repr)
async def test_what_is_no_archive_is_refused(sim, client, archive):
    """Anything but an archive or a usable path is refused before anything is sent."""
    with pytest.raises(InvalidArgumentError, match="path of a file"):
        client.showcases(["x"], archive=archive)
    with pytest.raises(InvalidArgumentError, match="path of a file"):
        Archive(archive)
    assert sim.ledger.requests == 0


@pytest.mark.parametrize("max_age", [-1, "1", float("nan"), float("inf"), True], ids=repr)
async def test_an_age_that_is_none_is_refused(client, archive, max_age):
    """A max_age that is not a finite number of seconds from 0 on is refused."""
    with pytest.raises(InvalidArgumentError, match="max_age"):
        client.showcases(["x"], archive=archive, max_age=max_age)
    error = await failure(client.showcase_page("x", archive=archive, max_age=max_age))
    assert isinstance(error, InvalidArgumentError)


async def test_a_slow_start_of_the_same_creator_is_joined(sim, client, archive):
    """A run joins a single call that is fetching its creator's page, and does not pay for it."""
    sim.faults = [Fault.delay(Latency.fixed(1))]
    page, (run, outcomes) = await asyncio.gather(
        client.showcase_page(LONG, archive=archive), run_of(client, [LONG], archive=archive)
    )
    assert outcomes[LONG].products[:20] == page.products
    assert sim.ledger.paid_twice() == {}
    assert page.usage.charged + run.usage.charged == sim.ledger.charged == 5


async def test_an_outcome_on_file_is_what_was_handed_out(sim, path):
    """Each outcome reads back equal to what was handed out, its error and usage included."""
    sim.faults = [*Fault.storm(0.05, size=2**18, hang=10)]
    async with client_of(sim, max_body_bytes=2**17) as client:
        _, outcomes = await run_of(client, sim.handles(60), archive=path, verify_empty=True)
    assert len({type(outcome.error) for outcome in outcomes.values()}) > 4
    kept = {outcome.handle: outcome for outcome in await held(path, "outcomes")}
    assert kept.keys() == outcomes.keys()
    for handle, outcome in outcomes.items():
        plain = outcome.to_dict()
        if outcome.error is not None:
            # The raw body is kept once, as a page.
            plain["error"].pop("body", None)
        assert kept[handle].to_dict() == plain
        assert isinstance(kept[handle], Outcome)


async def test_who_comes_out_of_the_file_stays_there_with_what_it_cost(sim, client, path):
    """Runs that buy nothing of a creator leave what the file says of its buying."""
    _, bought = await run_of(client, [LONG], archive=path)
    for max_pages in (None, 1):
        await run_of(client, [LONG], archive=path, max_pages=max_pages)
        (on_file,) = await held(path, "outcomes")
        assert on_file.usage == bought[LONG].usage
    assert on_file.usage.charged == sim.ledger.charged == 5


async def test_the_last_run_says_how_a_creator_ended(path):
    """Even if it sent nothing: cut short for another reason, or complete as far as it asked."""
    async with Simulator(faults=[Fault.status(502, pages={3})]) as sim, client_of(sim) as client:
        for options, status, error in (
            ({}, "partial", LookupFailedError),
            ({"max_credits": 2}, "partial", BudgetReachedError),
            ({"max_pages": 2}, "complete", type(None)),
        ):
            _, outcomes = await run_of(client, [LONG], archive=path, **options)
            (on_file,) = await held(path, "outcomes")
            for outcome in (outcomes[LONG], on_file):
                assert (outcome.status, type(outcome.error)) == (status, error)
        assert (await held(path, "info")).complete == 1
        assert sim.ledger.requests == 3


async def test_an_archive_under_a_run_that_does_not_own_it_may_be_closed_last(sim, client, path):
    """A run that fails does not close an archive that was open before it."""
    async with Archive(path) as archive:
        with pytest.raises(ZeroDivisionError):
            async with client.showcases(sim.handles(20), archive=archive) as run:
                async for _ in run:
                    raise ZeroDivisionError
        assert archive.is_open
        page = await client.showcase_page("x", archive=archive)
        assert page.usage.charged == 1
    assert (await held(path, "usage")).charged == sim.ledger.charged


async def test_what_a_call_alone_has_come_to_the_end_of_is_complete(path):
    """Outcomes on file, errors and plans count pages that calls alone have bought."""
    faults = [Fault.status(500, times=1, handles=["failed.45products"])]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        await run_of(client, ["failed.45products"], archive=path)
        async with Archive(path) as archive:
            for handle in ("failed.45products", "never.45products"):
                await client.showcase(handle, archive=archive).collect()
            await client.showcase("begun.45products", max_pages=1, archive=archive).collect()
        outcomes = {outcome.handle: outcome for outcome in await held(path, "outcomes")}
        for name in ("failed.45products", "never.45products"):
            assert (outcomes[name].status, outcomes[name].pages) == ("complete", 3)
            assert (outcomes[name].error, outcomes[name].next_cursor) == (None, None)
            assert plain(outcomes[name].products) == sim.showcase(name)
        begun = outcomes["begun.45products"]
        assert (begun.status, begun.pages) == ("partial", 1)
        assert [known.handle for known in await held(path, "errors")] == ["begun.45products"]
        plan = await client.plan(outcomes, archive=path)
        assert (plan.complete, plan.to_continue, plan.least) == (2, 1, 1)
        before = sim.ledger.charged
        await run_of(client, list(outcomes), archive=path)
        assert sim.ledger.charged - before == 2


@pytest.mark.parametrize("last", [None, "", "c2", "c3"], ids=["none", "empty", "repeat", "same"])
async def test_where_a_showcase_leads_nowhere_the_file_says_what_the_run_said(path, last):
    """A showcase that leads nowhere reads as the run told it; going on from it costs nothing."""

    def answer(head):
        target = head.split(b" ")[1]
        if b"balance" in target:
            return http(200, enveloped({"balance": 9, "currency": "c"}, charged=0))
        number = int(target.partition(b"cursor=c")[2] or b"1")
        page = {"nextCursor": f"c{number + 1}" if number < 3 else last, "hasMore": True}
        data = {"products": [{"id": str(number)}], "page": page}
        return http(200, enveloped(data))

    async with told(answer) as (server, client):
        _, outcomes = await run_of(client, ["x"], archive=path)
        (on_file,) = await held(path, "outcomes")
        assert isinstance(on_file.error, PaginationError)
        assert on_file.next_cursor == outcomes["x"].next_cursor == "c3"
        assert (on_file.status, on_file.pages) == ("partial", 3)
        plan = await client.plan(["x"], archive=path)
        assert (plan.least, plan.to_continue) == (0, 0)
        before = server.hits
        await run_of(client, ["x"], archive=path)
        assert server.hits == before


async def test_what_a_limit_had_completed_is_an_error_where_it_leads_nowhere(path):
    """A showcase that a limit has completed is among the errors once a call was led nowhere."""
    faults = [Fault.has_more_without_cursor(pages=[2])]
    async with Simulator(faults=faults) as sim, client_of(sim) as client, Archive(path) as archive:
        handles = ["a.90products", "b.90products"]
        await run_of(client, handles, archive=archive, max_pages=1)
        assert await held(path, "errors") == []
        await failure(client.showcase(handles[0], archive=archive).collect(), PaginationError)
        outcomes = await held(path, "outcomes")
        assert [known.status for known in outcomes] == ["partial", "complete"]
        (error,) = await held(path, "errors")
        assert (error.handle, error.pages) == (handles[0], 2)


async def test_a_profile_that_was_looked_up_alone_is_on_file_with_its_creator(client, path):
    """A profile that a call has bought is in later outcomes and plans, and on file."""
    await run_of(client, ["empty_c"], archive=path)
    async with Archive(path) as archive:
        await client.tiktok_profile("empty_c", archive=archive)
    run, outcomes = await run_of(client, ["empty_c"], archive=path, verify_empty=True)
    assert run.usage.charged == 0
    (on_file,) = await held(path, "outcomes")
    assert on_file.account_status == outcomes["empty_c"].account_status == "found"
    assert (await client.plan(["empty_c"], archive=path, verify_empty=True)).least == 0


async def test_a_path_is_that_of_where_it_was_said(sim, client, tmp_path, monkeypatch):
    """A relative path is bound where it is given: after a chdir the same file is used."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    archive = Archive("job.sfk")
    run = client.showcases(["a.5products"], archive="job.sfk")
    monkeypatch.chdir(tmp_path / "elsewhere")
    async with run:
        assert [outcome.status async for outcome in run] == ["complete"]
    assert archive.path == tmp_path / "job.sfk"
    async with archive:
        await client.showcase_page("a.5products", archive=archive)
        assert (await client.plan(["a.5products"], archive=archive)).complete == 1
    assert (await held(archive, "info")).answers == sim.ledger.charged == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []
