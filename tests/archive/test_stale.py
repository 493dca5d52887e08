"""Cursors on file that the API no longer takes: told clearly, nothing lost, or begun anew."""

import asyncio

import pytest

from asyncsfk import (
    Archive,
    BadRequestError,
    RunStoppedError,
    ServerError,
    SfkError,
    StaleCursorError,
    Usage,
)
from asyncsfk.simulator import Fault, Simulator
from tests.archive.support import Editions, held, ids, run_of
from tests.support import client_of, failure, plain, told

LONG = "long.90products"


@pytest.fixture
def editions():
    return Editions(pages=4)


@pytest.fixture
def client(pair):
    return pair[1]


@pytest.fixture
async def stale(client, editions, path):
    """Put two pages of x on file, and make the cursor that they lead to stale."""
    await run_of(client, ["x"], archive=path, max_pages=2)
    editions.edition = editions.fresh = 2


NEW = ["2.1", "2.2", "2.3", "2.4"]


@pytest.mark.usefixtures("stale")
async def test_a_stale_cursor_is_named_as_such(client, path):
    """The creator stays partial with what is on file, and the error says what to do."""
    run, outcomes = await run_of(client, ["x", "y"], archive=path)
    outcome = outcomes["x"]
    assert (outcome.status, ids(outcome)) == ("partial", ["1.1", "1.2"])
    error = outcome.error
    assert isinstance(error, StaleCursorError)
    assert isinstance(error, BadRequestError)
    assert "restart_stale=True" in str(error)
    assert "The cursor is old." in str(error)
    assert (error.status, error.code, error.handle) == (400, "bad_request", "x")
    assert error.cursor == outcome.next_cursor == "0/3"
    assert outcomes["y"].status == "complete"
    assert run.usage.charged == 4
    assert outcome.usage.charged == outcome.usage.maybe == 0
    (kept,) = await held(path, "errors")
    assert kept.error == error
    assert kept.error.evolve() == SfkError.from_dict(error.to_dict())
    # The next run says the same, at no cost.
    run, outcomes = await run_of(client, ["x"], archive=path)
    assert isinstance(outcomes["x"].error, StaleCursorError)
    assert run.usage.charged == 0


async def test_starting_over_a_showcase_of_one_page(client, editions, path):
    """Starting over buys the first page anew, even if it is the newest on file."""
    await run_of(client, ["x"], archive=path, max_pages=1)
    editions.edition = editions.fresh = 2
    run, outcomes = await run_of(client, ["x"], archive=path, restart_stale=True)
    assert (outcomes["x"].status, ids(outcomes["x"])) == ("complete", NEW)
    assert run.usage.charged == 4


async def test_runs_that_start_over_one_after_the_other_buy_it_once(path):
    """A run that finds a cursor stale takes the showcase that another has begun anew meanwhile."""
    editions = Editions(pages=4)

    async def answer(head, writer):
        await asyncio.sleep(1)
        writer.write(editions(head))
        await writer.drain()

    async with told(answer, keep=True) as (_, client), Archive(path) as archive:
        await run_of(client, ["x"], archive=archive, max_pages=2)
        editions.edition = editions.fresh = 2
        runs = []
        for _ in range(2):
            runs.append(
                asyncio.create_task(run_of(client, ["x"], archive=archive, restart_stale=True))
            )
            await asyncio.sleep(1.5)
        for run in runs:
            _, outcomes = await run
            assert (outcomes["x"].status, ids(outcomes["x"])) == ("complete", NEW)
    assert (await held(path, "usage")).charged == 2 + 4
    assert (await held(path, "info")).complete == 1


async def test_a_page_on_file_is_not_bought_again_behind_a_first_page_that_is_not(path):
    """A later page on file is taken by a run that starts over what is stale, and buys the first."""
    async with Simulator() as sim, client_of(sim) as client, Archive(path) as archive:
        first = await client.showcase_page(LONG)
        await client.showcase_page(LONG, cursor=first.next_cursor, archive=archive)
        options = {"archive": archive, "restart_stale": True, "max_pages": 3}
        run, outcomes = await run_of(client, [LONG], **options)
        assert outcomes[LONG].pages == 3
        assert run.usage.charged == 2


async def test_a_refusal_of_the_new_beginning_is_no_stale_cursor(path):
    """A refusal of the first page, when it is bought anew, is not called a stale cursor."""
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, [LONG], archive=path, max_pages=2)
        sim.faults = [Fault.status(400, pages={1, 3})]
        _, outcomes = await run_of(client, [LONG], archive=path, restart_stale=True)
        assert type(outcomes[LONG].error) is BadRequestError


@pytest.mark.usefixtures("stale")
async def test_a_listing_is_started_over_by_refresh(client, path):
    """A listing's error suggests refresh=True, since listings have no restart_stale."""
    async with Archive(path) as archive:
        error = await failure(client.showcase("x", archive=archive).collect(), StaleCursorError)
        assert "; refresh=True starts this showcase over: " in str(error)
        products = await client.showcase("x", archive=archive, refresh=True).collect()
    assert [product.id for product in products] == NEW


@pytest.mark.usefixtures("stale")
async def test_starting_over(server, client, path):
    """restart_stale=True buys that showcase afresh as a whole; the old pages stay in answers()."""
    asked = server.hits
    run, outcomes = await run_of(client, ["x"], archive=path, restart_stale=True)
    assert (outcomes["x"].status, ids(outcomes["x"])) == ("complete", NEW)
    assert (run.usage.charged, run.usage.requests) == (4, 5)
    assert server.hits - asked == 5
    assert outcomes["x"].usage == run.usage
    kept = {page.request_id for page in await held(path, "answers")}
    assert kept == {f"req_{one}" for one in ["1.1", "1.2", *NEW]}
    (outcome,) = await held(path, "outcomes")
    assert ids(outcome) == NEW
    run, outcomes = await run_of(client, ["x"], archive=path, restart_stale=True)
    assert (run.usage.requests, ids(outcomes["x"])) == (0, NEW)


@pytest.mark.usefixtures("stale")
async def test_starting_over_by_page(client, path):
    """Starting over in run.pages() hands out the new pages alone, each once."""
    outcomes = []
    async with client.showcases(["x"], archive=path, restart_stale=True) as run:
        pages = [page async for page in run.pages(outcomes.append)]
    assert [product.id for page in pages for product in page.products] == NEW
    assert [page.number for page in pages] == [1, 2, 3, 4]
    assert (outcomes[0].status, outcomes[0].pages) == ("complete", 4)


async def test_nothing_is_started_over_that_still_leads_on(client, editions, path):
    """With restart_stale=True a showcase whose cursor still works just goes on."""
    await run_of(client, ["x", "y"], archive=path, max_pages=2)
    editions.edition = 2
    run, outcomes = await run_of(client, ["x"], archive=path, restart_stale=True)
    assert ids(outcomes["x"]) == ["1.1", "1.2", "2.3", "2.4"]
    assert run.usage.charged == 2
    async with client.showcases(["y"], archive=path, restart_stale=True) as run:
        found = [product.id async for page in run.pages() for product in page.products]
    assert found == ["1.1", "1.2", "2.3", "2.4"]
    assert run.usage.charged == 2


@pytest.mark.usefixtures("stale")
async def test_starting_over_and_cut_again(client, path):
    """A showcase that was started over and cut again goes on with new pages alone."""
    await run_of(client, ["x"], archive=path, restart_stale=True, max_pages=3)
    _, outcomes = await run_of(client, ["x"], archive=path)
    assert ids(outcomes["x"]) == NEW


async def test_starting_over_that_fails_loses_nothing(path):
    """If starting over fails, the old pages are still on file."""
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, [LONG], archive=path, max_pages=2)
        sim.faults = [Fault.status(400, pages={3}), Fault.status(502, pages={1})]
        _, outcomes = await run_of(client, [LONG], archive=path, restart_stale=True)
        assert (outcomes[LONG].status, outcomes[LONG].error.status) == ("failed", 502)
        (kept,) = await held(path, "outcomes")
        assert plain(kept.products) == sim.showcase(LONG)[:40]
        sim.faults = [Fault.status(400, pages={3}, times=1)]
        _, outcomes = await run_of(client, [LONG], archive=path, restart_stale=True)
        assert plain(outcomes[LONG].products) == sim.showcase(LONG)


async def test_where_the_next_page_fails_otherwise_nothing_is_started_over(path):
    """An error that does not refuse the cursor starts nothing over; pages on file are given."""
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, [LONG], archive=path, max_pages=2)
        sim.faults = [Fault.status(502, pages={3})]
        for by_page in (False, True):
            outcomes = []
            async with client.showcases([LONG], archive=path, restart_stale=True) as run:
                if by_page:
                    pages = [page.number async for page in run.pages(outcomes.append)]
                    assert pages == [1, 2]
                else:
                    outcomes = [outcome async for outcome in run]
                    assert plain(outcomes[0].products) == sim.showcase(LONG)[:40]
            (outcome,) = outcomes
            assert (outcome.status, outcome.error.status) == ("partial", 502)
            assert (outcome.usage.requests, outcome.usage.maybe) == (1, 1)
            assert (outcome.error.attempts, outcome.error.usage.maybe) == (1, 1)
        assert sim.ledger.hits(LONG, cursor=None) == 1


async def test_a_stop_after_a_next_page_that_failed_is_told_as_a_stop(path):
    """What the failed page may have cost is in the outcome; the stop itself cost nothing."""
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, [LONG], archive=path, max_pages=2)
        sim.faults = [Fault.status(502, pages={3})]
        outcomes = []
        async with client.showcases([LONG], archive=path, restart_stale=True) as run:
            async for _ in run.pages(outcomes.append):
                run.stop()
        (outcome,) = outcomes
        assert (outcome.status, outcome.pages) == ("partial", 2)
        assert (outcome.usage.requests, outcome.usage.maybe) == (1, 1)
        assert type(outcome.error) is RunStoppedError
        assert (outcome.error.attempts, outcome.error.usage) == (0, Usage())


async def test_a_refusal_of_a_fresh_cursor_is_not_stale(path):
    """A 400 on a cursor that has just come is not called stale, and starts nothing over."""
    faults = [Fault.status(400, pages={2})]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        for options in ({}, {"restart_stale": True, "refresh": True}):
            _, outcomes = await run_of(client, [LONG], archive=path, **options)
            assert type(outcomes[LONG].error) is BadRequestError
        assert sim.ledger.charged == 2


async def test_a_refusal_behind_a_page_just_bought_is_not_stale(path):
    """A refusal of a cursor from a page that this run has bought is not called stale."""
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, [LONG], archive=path, max_pages=2)
        sim.faults = [Fault.status(400, pages={4})]
        _, outcomes = await run_of(client, [LONG], archive=path, restart_stale=True)
        assert type(outcomes[LONG].error) is BadRequestError
        assert plain(outcomes[LONG].products) == sim.showcase(LONG)[:60]
        # For the next run the cursor comes from the file, and so it is stale.
        _, outcomes = await run_of(client, [LONG], archive=path)
        assert type(outcomes[LONG].error) is StaleCursorError


async def test_a_refusal_of_the_first_page_is_not_stale(path):
    """A refusal of a first page, to which no cursor led, is not called stale."""
    async with Simulator(faults=[Fault.status(400)]) as sim, client_of(sim) as client:
        for _ in range(2):
            _, outcomes = await run_of(client, ["x"], archive=path, restart_stale=True)
            assert type(outcomes["x"].error) is BadRequestError
            assert outcomes["x"].status == "failed"


@pytest.mark.usefixtures("stale")
async def test_a_single_listing_says_so_too(client, path):
    """A listing over a stale cursor hands out what is on file, then says that it is stale."""
    async with Archive(path) as archive:
        listing = client.showcase("x", archive=archive)
        error = await failure(listing.collect(), StaleCursorError)
        assert [product.id for product in error.partial] == ["1.1", "1.2"]
        # A call that is given the cursor gets the API's own error.
        error = await failure(client.showcase_page("x", cursor="0/3", archive=archive))
        assert type(error) is BadRequestError
        error = await failure(client.showcase("x", cursor="0/3", archive=archive).collect())
        assert type(error) is BadRequestError


async def test_a_listing_that_is_iterated_again_says_so_too(path):
    """Pages that one iteration of a listing has bought are on file for the next."""
    async with Simulator() as sim, client_of(sim) as client, Archive(path) as archive:
        listing = client.showcase(LONG, archive=archive)
        for status, kind in ((500, ServerError), (400, StaleCursorError)):
            sim.faults = [Fault.status(status, pages={3})]
            assert type(await failure(listing.collect())) is kind
        assert sim.ledger.charged == 2


async def test_a_stale_one_among_many(path):
    """One creator's stale cursor affects no other creator."""
    handles = [f"c{n}.60products" for n in range(12)]
    async with Simulator() as sim, client_of(sim) as client:
        await run_of(client, handles, archive=path, max_pages=1)
        sim.faults = [Fault.status(400, pages={2}, handles=handles[:4], times=4)]
        run, outcomes = await run_of(client, handles, archive=path)
        stale = {handle for handle, o in outcomes.items() if o.status == "partial"}
        assert stale == set(handles[:4])
        assert run.usage.charged == 2 * 8
        sim.faults = [Fault.status(400, pages={2}, handles=handles[:4], times=4)]
        run, outcomes = await run_of(client, handles, archive=path, restart_stale=True)
        assert run.usage.charged == 3 * 4
        for handle in handles:
            assert plain(outcomes[handle].products) == sim.showcase(handle)


async def test_those_that_are_bought_afresh_together_are_bought_once(path):
    """Looking for stale cursors has bought their first pages, many of them in one transaction."""
    handles = [f"c{n}.25products" for n in range(20)]
    async with Simulator() as sim, client_of(sim) as client:
        for options in ({}, {"refresh": True, "restart_stale": True}):
            run, outcomes = await run_of(client, handles, archive=path, **options)
            assert {outcome.status for outcome in outcomes.values()} == {"complete"}
            assert run.usage.charged == 2 * len(handles)


@pytest.mark.parametrize("options", [{"max_pages": 2}, {"max_pages": 1}], ids=str)
@pytest.mark.usefixtures("stale")
async def test_nobody_looks_further_than_needed(server, client, path, options):
    """If the pages on file are enough, the cursor behind them is not tried."""
    asked = server.hits
    run, outcomes = await run_of(client, ["x"], archive=path, restart_stale=True, **options)
    assert outcomes["x"].status == "complete"
    assert (run.usage.requests, server.hits - asked) == (0, 0)


async def test_a_run_that_was_stopped_starts_nothing_over(client, editions, path):
    """At its ceiling a run does not find a cursor stale, and hands out what is on file."""
    await run_of(client, ["x"], archive=path, max_pages=2)
    editions.edition = editions.fresh = 2
    run, outcomes = await run_of(client, ["x"], archive=path, restart_stale=True, max_credits=2)
    assert (outcomes["x"].status, ids(outcomes["x"])) == ("partial", ["1.1", "1.2"])
    assert run.usage.requests == 0
