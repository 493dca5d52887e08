"""A showcase is bought afresh as a whole, and never mixes pages from before and after."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from asyncsfk import Archive, ServerError, Timeout
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import held, ids, known, run_of
from tests.support import client_of, sql, told


@pytest.fixture
def client(pair):
    return pair[1]


OLD = ["1.1", "1.2", "1.3"]
NEW = ["2.1", "2.2", "2.3"]


async def on_file(path, handle="x"):
    """Give the ids of a creator's products on file, on which outcomes and products must agree."""
    found = [ids(o) for o in await held(path, "outcomes") if o.handle == handle]
    listed = [product.id for name, product in await held(path, "products") if name == handle]
    assert found == [listed]
    return listed


def grow_old(path, handle="%"):
    """Make the pages of a creator two hours older."""
    sql(path, "UPDATE page SET received = received - 7200 WHERE handle LIKE ?", handle)


async def test_a_refresh_that_joins_a_request_keeps_what_it_brings(path):
    """A refresh that joins a request keeps its page, even if another call was given the old one."""
    handle = "a.40products"
    async with (
        Simulator(latency=Latency.fixed(0.2)) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        await client.fetch_showcases([handle], archive=archive)
        first = asyncio.ensure_future(client.showcase_page(handle))
        await asyncio.sleep(0.1)
        assert (await client.showcase_page(handle, archive=archive)).usage.archived == 1
        (outcome,) = await client.fetch_showcases([handle], archive=archive, refresh=True)
        assert (await first).request_id == outcome.request_ids[0]
        assert sim.ledger.requests == 4
    kept = [page.request_id for page in await held(path, "pages")]
    assert kept == list(outcome.request_ids)


async def test_a_page_that_another_bought_afresh_meanwhile_is_not_bought_again(path):
    """A refresh takes a later page that was bought while it ran, instead of buying it again."""
    handle = "a.50products"
    async with Simulator() as sim, client_of(sim) as client, Archive(path) as archive:
        first = await client.showcase_page(handle, archive=archive)
        second = await client.showcase_page(handle, archive=archive, cursor=first.next_cursor)
        bought = []
        async for page in client.showcase(handle, archive=archive, refresh=True).pages():
            bought.append(page.usage.charged)
            if len(bought) == 1:
                await client.showcase_page(handle, archive=archive, cursor=second.next_cursor)
        assert bought == [1, 1, 0]
        assert sim.ledger.charged == 2 + 3


async def test_of_a_creator_that_was_skipped_nothing_new_is_on_file(path):
    """A skipped creator keeps its old outcome on file, or has none."""
    handles = ["a.1products", "b.1products"]
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, handles[1:], archive=path)
        sim.add_fault(Fault.status(401))
        _, outcomes = await run_of(
            client, [*handles, "c"], archive=path, refresh=True, concurrency=1
        )
        assert [outcome.status for outcome in outcomes.values()] == ["failed", "skipped", "skipped"]
    told = [(o.handle, o.status) for o in await held(path, "outcomes")]
    assert sorted(told) == [(handles[0], "failed"), (handles[1], "complete")]
    assert [o.handle for o in await held(path, "errors")] == handles[:1]


async def test_refresh_buys_everything_afresh(server, client, editions, path):
    """The new showcase takes the old one's place in outcomes; the old pages stay in answers()."""
    handles = ["x", "y", "z"]
    await run_of(client, handles, archive=path)
    editions.edition = 2
    run, outcomes = await run_of(client, handles, archive=path, refresh=True)
    assert {tuple(ids(outcome)) for outcome in outcomes.values()} == {tuple(NEW)}
    assert (run.usage.charged, run.usage.archived) == (9, 0)
    for handle in handles:
        assert await on_file(path, handle) == NEW
    pages = await held(path, "answers")
    assert sorted(page.request_id for page in pages if page.handle == "x") == [
        f"req_{one}" for one in [*OLD, *NEW]
    ]
    run, outcomes = await run_of(client, handles, archive=path)
    assert run.usage.charged == 0
    assert ids(outcomes["x"]) == NEW
    assert server.hits == 18


@pytest.mark.parametrize("bought", [1, 2])
async def test_a_refresh_that_was_cut_goes_on_with_new_pages(client, editions, path, bought):
    """The next run goes on from a cut refresh with new pages, and never with an old one."""
    await run_of(client, ["x"], archive=path)
    editions.edition = 2
    await run_of(client, ["x"], archive=path, refresh=True, max_pages=bought)
    assert await on_file(path) == NEW[:bought]
    editions.edition = 3
    run, outcomes = await run_of(client, ["x"], archive=path)
    assert ids(outcomes["x"]) == NEW[:bought] + ["3.2", "3.3"][bought - 1 :]
    assert run.usage.charged == 3 - bought
    assert await on_file(path) == ids(outcomes["x"])


async def test_a_refresh_that_crashed_goes_on_with_new_pages(client, editions, path):
    """The same holds for a refresh that ended, as by a crash, after its first page."""
    await run_of(client, ["x"], archive=path)
    editions.edition = 2
    async with Archive(path) as archive:
        async for _ in client.showcase("x", archive=archive, refresh=True).pages():
            break
    (outcome,) = await held(path, "outcomes")
    assert (outcome.status, ids(outcome)) == ("partial", NEW[:1])
    _, outcomes = await run_of(client, ["x"], archive=path)
    assert ids(outcomes["x"]) == NEW


async def test_a_refresh_that_bought_nothing_changes_nothing(client, editions, path):
    """A creator of which a refresh bought nothing keeps its old showcase, which is still free."""
    await run_of(client, ["x", "y"], archive=path)
    editions.edition = 2
    run, outcomes = await run_of(client, ["x", "y"], archive=path, refresh=True, max_credits=7)
    statuses = {handle: outcome.status for handle, outcome in outcomes.items()}
    assert run.usage.charged == 1
    assert sorted(statuses.values()) in (["partial", "skipped"], ["failed", "partial"])
    (other,) = [handle for handle, status in statuses.items() if status != "partial"]
    kept = {outcome.handle: outcome for outcome in await held(path, "outcomes")}
    assert (kept[other].status, ids(kept[other])) == ("complete", OLD)
    run, outcomes = await run_of(client, [other], archive=path)
    assert (run.usage.charged, ids(outcomes[other])) == (0, OLD)


async def test_duplicates_in_a_refresh_are_bought_once(server, client, editions, path):
    """A handle that comes twice in a run with refresh is bought afresh once."""
    await run_of(client, ["x"], archive=path)
    editions.edition = 2
    given = ["x", "@X", "y", "x", "Y", "x"]
    async with client.showcases(given, archive=path, refresh=True) as run:
        handles = [outcome.handle async for outcome in run]
    assert sorted(handles) == ["x", "y"]
    assert server.hits == 9
    # Without dedupe each has an outcome, of pages that this run has bought.
    async with client.showcases(given, archive=path, refresh=True, dedupe=False) as run:
        outcomes = [outcome async for outcome in run]
    assert len(outcomes) == 6
    assert {tuple(ids(outcome)) for outcome in outcomes} == {tuple(NEW)}
    assert server.hits == 15


async def test_an_old_showcase_is_bought_afresh_as_a_whole(server, client, editions, path):
    """max_age goes by the first page: a showcase that began too long ago begins anew."""
    await run_of(client, ["x", "y"], archive=path)
    grow_old(path, "x")
    editions.edition = 2
    _, outcomes = await run_of(client, ["x", "y"], archive=path, max_age=3600)
    assert (ids(outcomes["x"]), ids(outcomes["y"])) == (NEW, OLD)
    assert await on_file(path, "x") == NEW
    assert await on_file(path, "y") == OLD
    run, _ = await run_of(client, ["x", "y"], archive=path, max_age=3600)
    assert run.usage.charged == 0
    assert server.hits == 9
    # Without max_age, pages of any age are still free.
    grow_old(path)
    run, _ = await run_of(client, ["x", "y"], archive=path)
    assert run.usage.charged == 0


async def test_an_age_goes_on_after_an_interruption(client, editions, path):
    """The next run continues one with max_age that was cut, and buys nothing twice."""
    await run_of(client, ["x", "y"], archive=path)
    grow_old(path)
    editions.edition = 2
    await run_of(client, ["x"], archive=path, max_age=3600, max_pages=2)
    editions.edition = 3
    run, outcomes = await run_of(client, ["x", "y"], archive=path, max_age=3600)
    assert (ids(outcomes["x"]), ids(outcomes["y"])) == (
        ["2.1", "2.2", "3.3"],
        ["3.1", "3.2", "3.3"],
    )
    assert run.usage.charged == 4


async def test_old_later_pages_of_a_young_start_are_used(client, path):
    """The age of a showcase is that of its first page, even if later pages are older."""
    await run_of(client, ["x"], archive=path)
    sql(path, "UPDATE page SET received = received - 7200 WHERE cursor IS NOT NULL")
    run, outcomes = await run_of(client, ["x"], archive=path, max_age=3600)
    assert (run.usage.charged, ids(outcomes["x"])) == (0, OLD)


async def test_look_ups_grow_old_too(path):
    """A profile looked up by verify_empty is bought afresh together with its showcase."""
    async with Simulator() as sim, client_of(sim) as client:
        await look_ups_grow_old(client, path)
    assert sim.ledger.charged == 6


async def look_ups_grow_old(client, path):
    for options, charged in (({}, 2), ({"max_age": 3600}, 0), ({"refresh": True}, 2)):
        run, _ = await run_of(client, ["empty_one"], archive=path, verify_empty=True, **options)
        assert run.usage.charged == charged
    grow_old(path)
    run, _ = await run_of(client, ["empty_one"], archive=path, verify_empty=True, max_age=3600)
    assert run.usage.charged == 2


async def test_a_listing_that_is_refreshed_is_a_whole(client, editions, path):
    """A single listing with refresh begins the showcase anew, for runs as well."""
    async with Archive(path) as archive:
        await run_of(client, ["x"], archive=archive)
        editions.edition = 2
        listing = client.showcase("x", archive=archive, refresh=True, max_pages=2)
        assert [product.id for product in await listing.collect()] == NEW[:2]
        editions.edition = 3
        _, outcomes = await run_of(client, ["x"], archive=archive)
        assert ids(outcomes["x"]) == ["2.1", "2.2", "3.3"]
    assert await on_file(path) == ["2.1", "2.2", "3.3"]


@pytest.mark.parametrize("cursor", [None, "0/2"], ids=["first", "later"])
async def test_a_page_that_is_refreshed_alone_does_not_mix(client, editions, path, cursor):
    """Buying one page afresh never leaves a showcase of mixed editions."""
    async with Archive(path) as archive:
        await run_of(client, ["x"], archive=archive)
        editions.edition = 2
        await client.showcase_page("x", cursor=cursor, archive=archive, refresh=True)
        found = await on_file(path)
        assert len({one[0] for one in found}) == 1
        _, outcomes = await run_of(client, ["x"], archive=archive)
        assert ids(outcomes["x"]) == (NEW if cursor is None else OLD)


async def test_a_later_duplicate_in_a_refresh_is_bought_once(client, editions, path):
    """A later duplicate in a refreshing run takes the pages that the run has bought already."""
    await run_of(client, ["x"], archive=path)
    editions.edition = 2
    options = {"refresh": True, "dedupe": False, "concurrency": 1}
    async with client.showcases(["x", "x"], archive=path, **options) as run:
        assert [ids(outcome) async for outcome in run] == [NEW, NEW]
    assert run.usage.charged == 3


async def test_a_first_page_joins_later_ones_on_file(client, path):
    """A first page that is bought later, without refresh, joins the later pages on file."""
    async with Archive(path) as archive:
        await client.showcase_page("x", cursor="0/2", archive=archive)
        await client.showcase_page("x", archive=archive)
        run, outcomes = await run_of(client, ["x"], archive=archive)
    assert (run.usage.charged, ids(outcomes["x"])) == (1, OLD)


@pytest.mark.parametrize("options", [{"refresh": True}, {"max_age": 3600}], ids=str)
async def test_a_listing_that_is_refreshed_from_its_midst_does_not_mix(
    client, editions, path, options
):
    """A listing from a cursor on buys its pages afresh; the showcase on file stays as it was."""
    async with Archive(path) as archive:
        await run_of(client, ["x"], archive=archive)
        grow_old(path)
        editions.edition = 2
        for charged in (2, 0) if "max_age" in options else (2, 2):
            before = client.usage.charged
            listing = client.showcase("x", cursor="0/2", archive=archive, **options)
            assert [product.id for product in await listing.collect()] == NEW[1:]
            assert client.usage.charged - before == charged
        assert await on_file(path) == OLD
        _, outcomes = await run_of(client, ["x"], archive=archive)
        assert ids(outcomes["x"]) == OLD


async def test_a_listing_from_the_midst_of_what_is_not_there_goes_by_age(client, editions, path):
    """Without a showcase on file, a listing from a cursor on goes by the age of each page."""
    async with Archive(path) as archive:
        for edition, found, charged in ((1, OLD, 2), (2, OLD, 0)):
            editions.edition = edition
            listing = client.showcase("x", cursor="0/2", archive=archive, max_age=3600)
            pages = [page async for page in listing.pages()]
            assert [page.products[0].id for page in pages] == found[1:]
            assert sum(page.usage.charged for page in pages) == charged
        grow_old(path)
        listing = client.showcase("x", cursor="0/2", archive=archive, max_age=3600)
        assert [product.id for product in await listing.collect()] == NEW[1:]


@pytest.mark.parametrize("options", [{"refresh": True}, {"max_age": 3600}], ids=str)
async def test_a_later_page_bought_afresh_for_the_first_time_is_kept_for_runs(
    server, client, path, options
):
    """A later page bought afresh that was not on file before is free to the next run."""
    async with Archive(path) as archive:
        await run_of(client, ["x"], archive=archive, max_pages=1)
        page = await client.showcase_page("x", cursor="0/2", archive=archive, **options)
        assert page.usage.charged == 1
        run, outcomes = await run_of(client, ["x"], archive=archive)
        assert ids(outcomes["x"]) == OLD
        assert run.usage.charged == 1
    assert server.hits == 3


async def test_two_refreshing_runs_at_once_agree(server, client, editions, archive, path):
    """Two runs that refresh the same creators together pay for each page once."""
    handles = [f"c{n}" for n in range(6)]
    await run_of(client, handles, archive=archive)
    editions.edition = 2
    asked = server.hits
    results = await asyncio.gather(
        run_of(client, handles, archive=archive, refresh=True),
        run_of(client, handles, archive=archive, refresh=True),
    )
    for _, outcomes in results:
        assert {tuple(ids(outcome)) for outcome in outcomes.values()} == {tuple(NEW)}
    assert server.hits - asked == 18
    for handle in handles:
        assert await on_file(path, handle) == NEW


async def test_a_refresh_beside_a_run_that_does_not(client, editions, archive, path):
    """A run beside a refreshing one gets each showcase either wholly old or wholly new."""
    handles = [f"c{n}" for n in range(10)]
    await run_of(client, handles, archive=archive)
    editions.edition = 2
    (_, fresh), (_, other) = await asyncio.gather(
        run_of(client, handles, archive=archive, refresh=True, concurrency=2),
        run_of(client, handles, archive=archive, concurrency=1),
    )
    assert {tuple(ids(outcome)) for outcome in fresh.values()} == {tuple(NEW)}
    for outcome in other.values():
        assert ids(outcome) in (OLD, NEW)
    for handle in handles:
        assert await on_file(path, handle) == NEW


async def test_regions_are_refreshed_apart(client, editions, path):
    """Buying one region afresh leaves the others as they are."""
    for region in (None, "US"):
        await run_of(client, ["x"], archive=path, region=region)
    editions.edition = 2
    await run_of(client, ["x"], archive=path, region="US", refresh=True)
    kept = {outcome.region: ids(outcome) for outcome in await held(path, "outcomes")}
    assert kept == {None: OLD, "US": NEW}


async def test_pages_of_a_refreshing_run(client, editions, path):
    """run.pages() of a refreshing run hands out new pages alone."""
    await run_of(client, ["x", "y"], archive=path)
    editions.edition = 2
    async with client.showcases(["x", "y"], archive=path, refresh=True) as run:
        found = [product.id async for page in run.pages() for product in page.products]
    assert sorted(found) == sorted(NEW * 2)


async def test_the_ledger_forgets_nothing(client, editions, path):
    """What was bought before a refresh still counts in the archive's usage."""
    total = None
    for edition in (1, 2, 3):
        editions.edition = edition
        run, _ = await run_of(client, ["x"], archive=path, refresh=True)
        total = run.usage if total is None else total + run.usage
    usage = await held(path, "usage")
    assert (usage.charged, usage.pages) == (9, 9)
    assert known(usage) == known(total)


async def test_what_lands_after_its_caller_left_is_old_to_a_refresh(editions, archive, path):
    """A page that was being kept as its caller left is on file, and not part of a later refresh."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def answer(head):
            if editions.edition == 1:
                # All writers wait for this transaction.
                other.execute("BEGIN IMMEDIATE")
            return editions(head)

        async with told(answer, keep=True, timeout=Timeout(grace=0)) as (server, client):
            call = asyncio.create_task(client.showcase_page("x", archive=archive))
            while not client.usage.requests:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled()
            assert await held(path, "answers") == []
            other.execute("ROLLBACK")
            await asyncio.sleep(0.1)
            assert await on_file(path) == OLD[:1]
            editions.edition = 2
            page = await client.showcase_page("x", archive=archive, refresh=True)
            assert ids(page) == NEW[:1]
            assert await on_file(path) == NEW[:1]
            assert server.hits == 2


async def test_runs_with_an_age_at_once_buy_each_page_once(tmp_path):
    """Runs with max_age at once pay for each page once: what one has bought is fresh to all."""
    handles = [f"c{n}.5products" for n in range(400)]
    async with (
        Simulator(latency=Latency.uniform(0.0001, 0.02)) as sim,
        Archive(tmp_path / "a.sfk", durability="normal") as archive,
        client_of(sim, concurrency=400) as client,
    ):

        async def run(delay=0.0, **options):
            await asyncio.sleep(delay)
            await run_of(client, handles, archive=archive, concurrency=200, **options)

        await run()
        for bought in range(2, 5):
            sql(archive.path, "UPDATE page SET received = received - 7200")
            await asyncio.gather(*(run(0.01 * n, max_age=3600) for n in range(4)))
            assert sim.ledger.charged == bought * len(handles)


@pytest.mark.real_time
@pytest.mark.parametrize("restart_stale", [False, True])
async def test_a_run_and_calls_with_an_age_at_once_buy_each_page_once(tmp_path, restart_stale):
    """A run goes on with what a call has begun anew meanwhile, instead of buying it again."""
    handles = [f"c{n}.25products" for n in range(100)]
    async with (
        Simulator(latency=Latency.uniform(0.005, 0.1)) as sim,
        Archive(tmp_path / "a.sfk", durability="normal") as archive,
        client_of(sim, concurrency=400) as client,
    ):

        async def run():
            # When half of what the calls ask for is coming in.
            await asyncio.sleep(0.05)
            options = {"max_age": 3600, "restart_stale": restart_stale, "concurrency": 400}
            await run_of(client, handles, archive=archive, **options)

        await run()
        for bought in range(2, 8):
            sql(archive.path, "UPDATE page SET received = received - 7200")
            await asyncio.gather(
                run(),
                *(client.showcase_page(one, archive=archive, max_age=3600) for one in handles),
            )
            assert sim.ledger.charged == bought * 2 * len(handles)


async def test_a_run_that_joins_a_call_and_lags_behind_buys_no_page_again(tmp_path):
    """A run that joined a call also takes later pages that others then buy of that showcase."""
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        Archive(tmp_path / "a.sfk") as archive,
        client_of(sim) as client,
    ):
        handle, since = "x.200products", {"archive": archive, "max_age": 3600}
        await run_of(client, [handle], archive=archive)
        sql(archive.path, "UPDATE page SET received = received - 7200")
        other = asyncio.create_task(client.showcase_page("other", archive=archive))
        await asyncio.sleep(0.05)
        call = asyncio.create_task(client.showcase_page(handle, **since))
        await asyncio.sleep(0)
        numbers = []
        async with client.showcases([handle], concurrency=1, **since) as run:
            async for page in run.pages():
                numbers.append(page.number)
                if page.number == 1:
                    await client.showcase(handle, **since).collect()
        await asyncio.gather(call, other)
        assert numbers == list(range(1, 11))
        assert sim.ledger.charged == 10 + 1 + 10


@pytest.mark.parametrize("way", ["waits", "leaves"])
@pytest.mark.parametrize("before", ["nothing", "another", "failed"])
@pytest.mark.parametrize("since", [{"refresh": True}, {"max_age": 3600}], ids=["refresh", "age"])
async def test_a_run_that_joins_the_first_call_of_all_buys_no_page_again(path, before, since, way):
    """The same holds where the archive had no page of that showcase, and the run asks no age.

    Nor does it matter if whoever began that call leaves, so that the run answers for its cost.
    """
    handle = "x.200products"
    faults = [Fault.status(500, times=1, handles=[handle])] if before == "failed" else []
    async with (
        Simulator(latency=Latency.fixed(0.1), faults=faults) as sim,
        Archive(path) as archive,
        client_of(sim) as client,
    ):
        if before != "nothing":
            await run_of(client, [handle if before == "failed" else "another"], archive=archive)
        paid = sim.ledger.charged
        call = asyncio.create_task(client.showcase_page(handle, archive=archive, **since))
        await asyncio.sleep(0.05)
        if way == "leaves":
            asyncio.get_running_loop().call_later(0.03, call.cancel)
        async with client.showcases([handle], concurrency=1, archive=archive) as run:
            async for page in run.pages():
                if page.number == 1:
                    assert page.usage.charged == (way == "leaves")
                    await client.showcase(handle, archive=archive).collect()
        await asyncio.wait([call])
        assert call.cancelled() == (way == "leaves")
        assert (run.usage.pages, sim.ledger.charged - paid) == (10, 10)
        assert (await held(path, "info")).complete == 1 + (before == "another")


@pytest.mark.parametrize(
    ("by_run", "options", "bought"),
    [(True, {}, 2), (False, {}, 2), (True, {"refresh": True}, 3), (True, {"max_age": 0}, 3)],
    ids=["run", "listing", "refresh", "max_age"],
)
async def test_who_joins_the_call_for_a_first_page_goes_on_from_what_will_do(
    path, by_run, options, bought
):
    """A later page on file is bought again only where it is too old, whoever's call it was."""
    handle = "a.50products"
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        first = await client.showcase_page(handle)
        await client.showcase_page(handle, cursor=first.next_cursor, archive=archive)
        call = asyncio.create_task(client.showcase_page(handle, archive=archive))
        await asyncio.sleep(0.05)
        if by_run:
            await run_of(client, [handle], archive=archive, **options)
        else:
            await client.showcase(handle, archive=archive).collect()
        await call
        assert sim.ledger.charged == 2 + bought


@pytest.mark.parametrize("reader", ["products", "listing", "pages"])
async def test_who_is_in_the_middle_of_a_showcase_that_is_bought_afresh(
    client, editions, archive, path, reader
):
    """A reader in the middle of a showcase gets the rest of it, even if it is bought afresh."""
    await run_of(client, ["x"], archive=archive)
    editions.edition = 2
    got = []

    async def note(product):
        got.append(product.id)
        if len(got) == 1:
            await run_of(client, ["x"], archive=archive, refresh=True)

    if reader == "products":
        products = Archive(path).products()
        while found := await asyncio.to_thread(next, products, None):
            await note(found[1])
    elif reader == "listing":
        async for product in client.showcase("x", archive=archive):
            await note(product)
    else:
        async with client.showcases(["x"], archive=archive, concurrency=1) as run:
            async for page in run.pages():
                await note(page.products[0])
    assert got == OLD
    assert await on_file(path) == NEW


async def test_what_is_on_file_needs_nothing_of_a_refresh_under_way(client, editions, archive):
    """A run whose showcase is complete on file neither waits for a refresh nor fails with it."""
    await run_of(client, ["x"], archive=archive)
    editions.failing = True
    page = await client.showcase_page("x", archive=archive)
    refresh = asyncio.gather(
        client.showcase_page("x", archive=archive, refresh=True),
        client.showcase_page("x", cursor=page.next_cursor, archive=archive, refresh=True),
        return_exceptions=True,
    )
    await asyncio.sleep(0)
    run, outcomes = await run_of(client, ["x"], archive=archive)
    assert (outcomes["x"].status, ids(outcomes["x"])) == ("complete", OLD)
    assert run.usage.requests == 0
    assert {type(result) for result in await refresh} == {ServerError}


async def test_a_joined_look_up_takes_no_page_of_another_time(client, editions, archive):
    """A page bought afresh by itself serves calls for it, but no run over the older showcase."""
    for number in range(12):
        handle = f"x{number}"
        await run_of(client, [handle], archive=archive)
        first = await client.showcase_page(handle, archive=archive)
        editions.edition = 2
        cursor = first.next_cursor
        await client.showcase_page(handle, cursor=cursor, archive=archive, refresh=True)
        editions.edition = 1
        alone = asyncio.gather(
            *(client.showcase_page(handle, cursor=cursor, archive=archive) for _ in range(3))
        )
        for _ in range(number):
            await asyncio.sleep(0)
        _, outcomes = await run_of(client, [handle], archive=archive)
        assert ids(outcomes[handle]) == OLD
        assert {page.products[0].id for page in await alone} == {NEW[1]}


@pytest.mark.parametrize("option", [{"refresh": True}, {"max_age": 0}], ids=["refresh", "max_age"])
async def test_pages_bought_since_a_refresh_began_are_behind_no_later_first_page(
    client, editions, path, option
):
    """A refreshing run that comes to a creator late takes no page of an older first one."""
    async with Archive(path) as archive:
        await run_of(client, ["x"], archive=archive, max_pages=1)
        gate = asyncio.Event()

        async def handles():
            yield "first"
            await gate.wait()
            yield "x"

        async with client.showcases(handles(), archive=archive, **option) as run:
            await anext(run)
            _, others = await run_of(client, ["x"], archive=archive)
            assert ids(others["x"]) == OLD
            editions.edition = 2
            gate.set()
            assert [ids(outcome) async for outcome in run] == [NEW]
    assert await on_file(path) == NEW


@pytest.mark.parametrize("option", [{"refresh": True}, {"max_age": 3600}, {}], ids=str)
async def test_later_pages_without_a_first_one_have_no_part_in_what_is_bought_afresh(
    client, editions, path, option
):
    """Later pages without a first one are used only by a run to which their age is all the same."""
    async with Archive(path) as archive:
        await client.showcase("x", cursor=f"{editions.cursor}/2", archive=archive).collect()
    grow_old(path)
    editions.edition = 2
    run, outcomes = await run_of(client, ["x"], archive=path, **option)
    assert ids(outcomes["x"]) == (NEW if option else ["2.1", "1.2", "1.3"])
    assert run.usage.charged == (3 if option else 1)


async def test_a_page_bought_as_a_new_first_page_is_on_its_way_is_of_the_older_showcase(path):
    """What lands just before a new first page is not put behind it, and serves older readers."""
    handle = "x.100products"
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Archive(path) as archive,
        client_of(sim) as client,
    ):
        await run_of(client, [handle], archive=archive, max_pages=2)
        older = client.showcase(handle, archive=archive).pages()
        assert [(await anext(older)).number for _ in range(2)] == [1, 2]
        going_on = asyncio.create_task(run_of(client, [handle], archive=archive, max_pages=3))
        await asyncio.sleep(0.5)
        await run_of(client, [handle], archive=archive, max_pages=1, refresh=True)
        await going_on
        assert sim.ledger.charged == 4
        assert (await anext(older)).number == 3
        await older.aclose()
        assert sim.ledger.charged == 4
        (outcome,) = await held(path, "outcomes")
        assert outcome.pages == 1
        _, outcomes = await run_of(client, [handle], archive=archive, max_pages=3)
        assert outcomes[handle].usage.charged == 2


async def test_two_clients_that_buy_afresh_at_once_share_what_follows(path):
    """Of two first pages bought afresh at once neither is older: who lags behind goes on free."""
    handle = "x.200products"
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim) as one,
        client_of(sim) as other,
        Archive(path) as archive,
    ):
        await run_of(one, [handle], archive=archive)
        options = {"archive": archive, "refresh": True, "concurrency": 1}
        async with one.showcases([handle], **options) as run:
            pages = run.pages()
            first = asyncio.create_task(anext(pages))
            await asyncio.sleep(0.5)
            second, _ = await run_of(other, [handle], **options)
            await first
            assert [page.number async for page in pages] == list(range(2, 11))
        assert second.usage.charged == 10
        # By the time that its consumer came for more, some had been fetched.
        assert run.usage.charged < 5


async def test_old_later_pages_are_not_put_behind_a_first_page_of_a_refreshs_own_time(
    client, editions, path
):
    """A refresh puts no old later page behind a first page that another call has just bought."""
    async with Archive(path) as archive:
        await client.showcase("x", cursor=f"{editions.cursor}/2", archive=archive).collect()
        gate = asyncio.Event()

        async def handles():
            yield "first"
            await gate.wait()
            yield "x"

        async with client.showcases(handles(), archive=archive, refresh=True) as run:
            await anext(run)
            editions.edition = 2
            await client.showcase_page("x", archive=archive)
            gate.set()
            assert [ids(outcome) async for outcome in run] == [NEW]
    assert await on_file(path) == NEW
