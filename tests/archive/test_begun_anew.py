"""A showcase that was begun anew: what is counted, found and bought of it since."""

import asyncio
from functools import partial

import pytest

from asyncsfk import Archive, BodyTooLargeError, Client, UndecodableError
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.archive.support import held, ids, run_of
from tests.support import ONCE, client_of, failure


@pytest.fixture
def client(pair):
    return pair[1]


async def test_it_is_under_way_again(client, path):
    """A showcase that was begun anew is under way to all readers until a run has completed it."""
    async with Archive(path) as archive:
        await run_of(client, ["x", "y"], archive=archive)
        await client.showcase_page("x", archive=archive, refresh=True)
        info = await held(path, "info")
        assert (info.complete, info.under_way) == (1, 1)
        (error,) = await held(path, "errors")
        assert (error.handle, error.status, error.next_cursor) == ("x", "partial", "0/2")
        await run_of(client, ["x"], archive=archive)
        info = await held(path, "info")
        assert (info.complete, info.under_way) == (2, 0)
        assert await held(path, "errors") == []


async def test_who_ends_the_older_one_leaves_it_under_way(client, editions, path):
    """What a run says of a showcase that was begun anew meanwhile is not said of the new one."""
    editions.pages = 5
    async with (
        Archive(path) as archive,
        client.showcases(["x", "x"], archive=archive, concurrency=1) as run,
    ):
        outcomes = []
        async for page in run.pages(outcomes.append):
            if page.number == 2:
                await client.showcase_page("x", archive=archive, refresh=True)
    assert [(one.status, one.pages) for one in outcomes] == [("complete", 5)]
    (error,) = await held(path, "errors")
    assert (error.status, error.next_cursor) == ("partial", "0/2")
    info = await held(path, "info")
    assert (info.complete, info.under_way) == (0, 1)
    _, outcomes = await run_of(client, ["x"], archive=path)
    assert outcomes["x"].usage.charged > 0
    assert await held(path, "errors") == []


async def test_a_later_page_of_the_new_beginning_is_bought_once(server, client, editions, path):
    """A later page bought afresh is set apart only if the current showcase has it already."""
    async with Archive(path) as archive:
        await run_of(client, ["x"], archive=archive)
        editions.edition = 2
        await client.showcase_page("x", archive=archive, refresh=True)
        await client.showcase_page("x", cursor="0/2", archive=archive, refresh=True)
        run, outcomes = await run_of(client, ["x"], archive=archive)
    assert ids(outcomes["x"]) == ["2.1", "2.2", "2.3"]
    assert (run.usage.charged, server.hits) == (1, 6)


async def test_a_page_that_callers_of_two_clients_joined_is_kept_once(path):
    """Callers of two clients who join calls without an archive keep the page once between them."""
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        Client(sim.api_key, base_url=sim.url, retry=ONCE) as one,
        client_of(sim) as other,
        Archive(path) as archive,
    ):
        calls = []
        for client in (one, other):
            calls += [
                client.showcase_page("a.5products"),
                client.showcase_page("a.5products", archive=archive),
            ]
        await asyncio.gather(*calls)
        assert sim.ledger.charged == 2
        assert (await held(archive, "info")).answers == 1


async def test_runs_of_two_regions_do_not_confuse_duplicates(client, archive):
    """Two runs of a region each pass over duplicates, with another region's showcase on file."""
    await run_of(client, ["x"], archive=archive)

    async def handles(number):
        yield "x"
        await asyncio.sleep(1 + number)
        yield "x"

    async def run(number):
        async with client.showcases(handles(number), region="US", archive=archive) as run:
            return [outcome.handle async for outcome in run]

    assert await asyncio.gather(run(0), run(1)) == [["x"], ["x"]]


async def test_a_refresh_that_bought_nothing_leaves_the_count_as_it_was(client, editions, path):
    """A showcase on file still counts as complete after a refresh of it has failed."""
    await run_of(client, ["x"], archive=path)
    await run_of(client, ["y"], archive=path, max_pages=1)
    editions.failing = True
    _, outcomes = await run_of(client, ["x", "y"], archive=path, refresh=True)
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    info = await held(path, "info")
    assert (info.complete, info.failed) == (2, 0)
    assert await held(path, "errors") == []


async def test_the_latest_failure_is_the_one_on_file(path):
    """If nothing was ever bought of a creator, its latest failure is the one on file."""
    faults = [Fault.status(404, times=1), Fault.status(400, times=1)]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        for _ in faults:
            await run_of(client, ["x"], archive=path)
    (outcome,) = await held(path, "outcomes")
    assert outcome.error.status == 400


@pytest.mark.parametrize("by_run", [True, False])
async def test_an_outcome_of_pages_that_were_replaced_meanwhile_is_not_on_file(path, by_run):
    """A run's outcome says nothing of a showcase that others have begun anew since."""
    faults = [
        Fault.delay(Latency.fixed(5), routes=[Route.TIKTOK_PROFILE]),
        Fault.not_json(requests=[3]),
    ]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        running = asyncio.create_task(
            run_of(client, ["empty_x"], archive=archive, verify_empty=True)
        )
        await asyncio.sleep(1)
        if by_run:
            await run_of(client, ["empty_x"], archive=archive, refresh=True)
        else:
            await failure(client.showcase_page("empty_x", archive=archive, refresh=True))
        _, outcomes = await running
        assert outcomes["empty_x"].status == "complete"
        _, outcomes = await run_of(client, ["empty_x"], archive=archive)
        assert isinstance(outcomes["empty_x"].error, UndecodableError)
        (error,) = await held(path, "errors")
        assert (error.status, type(error.error)) == ("failed", UndecodableError)
        info = await held(path, "info")
        assert (info.complete, info.failed) == (0, 1)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault.not_json, UndecodableError), (partial(Fault.gzip_bomb, 10**6), BodyTooLargeError)],
    ids=["undecodable", "too large"],
)
async def test_what_cannot_be_decoded_is_told_among_others_that_are_bought_afresh(
    path, fault, kind
):
    """A run's outcome is on file where the first page bought afresh cannot be decoded."""
    handles = [f"{name}.5products" for name in "abcdef"]
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        client_of(sim, max_body_bytes=100_000) as client,
    ):
        await run_of(client, handles, archive=path)
        sim.faults = [fault(handles=[handles[3]])]
        await run_of(client, handles, archive=path, refresh=True)
    (error,) = await held(path, "errors")
    assert (error.handle, error.status) == (handles[3], "failed")
    assert isinstance(error.error, kind)
    info = await held(path, "info")
    assert (info.complete, info.failed, info.under_way) == (5, 1, 0)


async def test_who_takes_over_a_refresh_leaves_an_outcome_on_file(path):
    """A run that answers for a refresh whose caller has left leaves its outcome on file."""
    handle = "a.50products"
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        call = asyncio.create_task(client.showcase_page(handle, archive=archive, refresh=True))
        await asyncio.sleep(0.05)
        running = asyncio.create_task(run_of(client, [handle], archive=archive))
        await asyncio.sleep(0.02)
        call.cancel()
        run, _ = await running
        assert run.usage.charged == sim.ledger.charged == 3
        assert (await held(path, "info")).complete == 1


async def test_a_page_that_a_call_adds_leaves_the_outcome_as_it_was(client, path):
    """A showcase that a run has completed stays complete when calls buy more of its pages."""
    async with Archive(path) as archive:
        await run_of(client, ["x"], archive=archive, max_pages=1)
        await client.showcase_page("x", cursor="0/2", archive=archive)
        info = await held(path, "info")
    assert (info.complete, info.under_way) == (1, 0)
