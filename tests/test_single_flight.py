"""Calls for the same page that are under way together share one request."""

import asyncio
import json
import pickle
import sys

import aiohttp
import msgspec
import pytest

from asyncsfk import Client, Retry, ServerError, UndecodableError, Usage, events
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import KEY, client_of, failure, http, told

HANDLE = "mrbeast.5products"
PATH = f"/v1/tiktok/profiles/{HANDLE}"


@pytest.fixture
async def sim():
    async with Simulator(latency=Latency.fixed(1)) as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with Client(sim.api_key, base_url=sim.url) as client:
        yield client


async def test_the_same_page_at_once_is_one_request(sim, client):
    """Many calls, one request; its cost is told once."""
    pages = await asyncio.gather(*(client.showcase_page("@MrBeast.5products") for _ in range(50)))
    assert sim.ledger.requests == sim.ledger.charged == 1
    assert len({page.products for page in pages}) == 1
    assert sorted(page.usage.charged for page in pages) == [0] * 49 + [1]
    assert client.usage.charged == client.usage.requests == 1
    assert sum(page.usage.bytes for page in pages) == client.usage.bytes


async def test_another_cursor_region_or_route_is_another_request(sim, client):
    """Only the very same route, parameters and cursor are shared."""
    first = await client.showcase_page("x.50products")
    await asyncio.gather(
        client.showcase_page("x.50products"),
        client.showcase_page("x.50products", cursor=first.next_cursor),
        client.showcase_page("x.50products", region="GB"),
        client.showcase_page("y.50products"),
        client.tiktok_profile("x.50products"),
    )
    assert sim.ledger.requests == 6


async def test_one_after_the_other_is_two_requests(sim, client):
    """Nothing is remembered once it has been answered."""
    await client.showcase_page(HANDLE)
    await client.showcase_page(HANDLE)
    assert sim.ledger.requests == 2


async def test_a_run_and_a_call_share_too(sim, client):
    """A single call for a page that a run is fetching joins it."""
    async with client.showcases([HANDLE]) as run:
        call = asyncio.create_task(client.showcase_page(HANDLE))
        outcomes = [outcome async for outcome in run]
        page = await call
    assert sim.ledger.requests == 1
    assert outcomes[0].products == page.products
    assert outcomes[0].usage.charged + page.usage.charged == 1


async def test_cancelling_one_does_not_cancel_the_others(sim, client):
    """Whether the first caller leaves or a later one, the others get the page."""
    for leaver in (0, 1, 2):
        calls = [asyncio.create_task(client.showcase_page(HANDLE)) for _ in range(3)]
        await asyncio.sleep(0.5)
        calls[leaver].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results.pop(leaver), asyncio.CancelledError)
        assert [len(page.products) for page in results] == [5, 5]
    assert sim.ledger.requests == 3
    assert client.usage.charged == 3
    assert client.usage.maybe == 0


async def test_when_all_leave_the_request_ends(sim, client):
    """When nobody waits any more the request ends; what it may have cost is counted."""
    calls = [asyncio.create_task(client.showcase_page(HANDLE)) for _ in range(3)]
    await asyncio.sleep(0.5)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert (client.usage.charged, client.usage.maybe) == (0, 1)
    assert "open, 0 requests in flight" in repr(client)
    page = await client.showcase_page(HANDLE)
    assert page.usage.charged == 1
    assert sim.ledger.requests == 2


async def test_a_call_that_comes_as_a_hook_has_failed_begins_anew(sim):
    """It was not there when the request was made, so it is not told of the hook's failure."""
    trace, later = aiohttp.TraceConfig(), []

    async def hook(*_):
        if not later:
            raise ValueError("of the hook")

    def on_event(told):
        if isinstance(told, events.RequestFinished) and not later:
            later.append(asyncio.create_task(client.showcase_page(HANDLE)))

    trace.on_request_start.append(hook)
    async with (
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client_of(sim, session=session, on_event=on_event) as client,
    ):
        with pytest.raises(ValueError, match="of the hook"):
            await client.showcase_page(HANDLE)
        assert (await later[0]).usage.charged == 1
        assert sim.ledger.requests == 1


async def test_a_call_that_comes_as_the_last_one_leaves_begins_anew(sim, client):
    """Nobody joins a request that is being abandoned; later callers share the next one."""
    first = asyncio.create_task(client.showcase_page(HANDLE))
    await asyncio.sleep(0.5)
    first.cancel()
    second = asyncio.create_task(client.showcase_page(HANDLE))
    await asyncio.wait({first})
    assert first.cancelled()
    third = await client.showcase_page(HANDLE)
    assert (await second).products == third.products
    assert len(third.products) == 5
    assert sim.ledger.requests == 2


async def test_a_shared_failure_reaches_all_and_is_paid_once(sim, client):
    """Each caller gets an error of its own; only one of them says that it cost something."""
    sim.add_fault(Fault.status(500, times=3))
    results = await asyncio.gather(
        *(client.showcase_page(HANDLE) for _ in range(4)), return_exceptions=True
    )
    assert {type(result) for result in results} == {ServerError}
    assert len({id(result) for result in results}) == 4
    assert sorted(error.usage.maybe for error in results) == [0, 0, 0, 3]
    assert {error.attempts for error in results} == {3}
    assert client.usage.maybe == 3


async def test_a_shared_retry_is_one_retry(sim, client):
    """A caller that joins while the request is tried again waits for that."""
    sim.add_fault(Fault.status(503, retry_after="5", times=1))
    first = asyncio.create_task(client.showcase_page(HANDLE))
    await asyncio.sleep(3)
    page = await client.showcase_page(HANDLE)
    assert (await first).usage == Usage(
        requests=2, retries=1, charged=1, bytes=client.usage.bytes, pages=1, products=5
    )
    assert page.usage.requests == 0
    assert sim.ledger.requests == 2


async def test_the_same_path_is_shared_across_types(sim, client):
    """Each caller of get() gets its own type out of the one answer."""

    class Small(msgspec.Struct):
        lookupStatus: str  # noqa: N815 - the API's name

    class Wrong(msgspec.Struct):
        nothing: int

    plain, small, wrong, model = await asyncio.gather(
        client.get(PATH),
        client.get(PATH, type=Small),
        client.get(PATH, type=Wrong),
        client.tiktok_profile(HANDLE),
        return_exceptions=True,
    )
    assert plain.data["lookupStatus"] == small.data.lookupStatus == model.lookup_status == "found"
    assert isinstance(wrong, UndecodableError)
    assert wrong.usage.charged == 0
    assert wrong.body
    assert sim.ledger.requests == client.usage.charged == 1


@pytest.mark.parametrize("begins", ["page", "reply"])
async def test_who_inherits_a_call_gets_what_it_asked_for(sim, client, begins):
    """When the caller that began leaves, the next one bears the cost, and gets its own type."""
    calls = {
        "page": lambda: client.showcase_page(HANDLE),
        "reply": lambda: client.get(f"{PATH}/showcase-products"),
    }
    (joins,) = calls.keys() - {begins}
    beginner = asyncio.ensure_future(calls[begins]())
    await asyncio.sleep(0.3)
    heir = asyncio.ensure_future(calls[joins]())
    await asyncio.sleep(0.3)
    beginner.cancel()
    answer = await heir
    alone = await calls[joins]()
    assert type(answer) is type(alone)
    if joins == "page":
        assert answer.products == alone.products
    else:
        assert answer.data == alone.data
    assert (answer.usage.charged, sim.ledger.charged) == (1, 2)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin eagerly from Python 3.12 on")
async def test_an_application_whose_tasks_begin_eagerly(tmp_path):
    """Calls are shared and land even if tasks begin to run as soon as they are made."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        one, other = await asyncio.gather(
            client.showcase_page("a.1products"), client.showcase_page("a.1products")
        )
        assert one.products == other.products
        assert sim.ledger.charged == 1
        handles = [f"c{number}.45products" for number in range(4)]
        async with client.showcases(handles, archive=tmp_path / "one.sfk") as run:
            outcomes = [outcome async for outcome in run]
        assert {outcome.status for outcome in outcomes} == {"complete"}
        assert sim.ledger.charged == client.usage.charged == 1 + 4 * 3
        assert run.usage.charged == 4 * 3
        async with client.showcases(sim.handles(30), ordered=True) as run:
            assert [outcome.handle async for outcome in run] == list(sim.handles(30))
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
        client.showcases(sim.handles(100), concurrency=2) as run,
    ):
        assert len([outcome async for outcome in run]) == 100
        assert sim.ledger.max_in_flight == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin eagerly from Python 3.12 on")
async def test_a_run_that_is_stopped_while_a_task_begins_eagerly():
    """A callback may stop the run in the very step in which a request begins."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    runs = []

    def on_event(event):
        if isinstance(event, events.RequestStarted):
            runs[0].stop(now=True)

    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url, on_event=on_event) as client,
        client.showcases(["a.1products", "b.1products"]) as run,
    ):
        runs.append(run)
        statuses = [outcome.status async for outcome in run]
    # The other handle had not been pulled by then.
    assert statuses == ["failed"]


async def test_a_joiner_with_another_type_is_shown_no_key():
    """What it decodes anew is as free of the key as what the first caller got."""
    body = json.dumps(
        {"data": {"seen": KEY}, "meta": {"requestId": f"req-{KEY}", "creditsCharged": 1}}
    ).encode()

    async def answer(_, writer):
        await asyncio.sleep(1)
        writer.write(http(200, body))

    async with told(answer) as (server, client):
        first, error, third = await asyncio.gather(
            client.get("/v1/a/b"),
            failure(client.get("/v1/a/b", type=list[int]), UndecodableError),
            client.get("/v1/a/b", type=dict),
        )
        assert server.hits == 1
    assert first.request_id == error.request_id == third.request_id == "req-***"
    assert KEY.encode() not in error.body
    assert KEY.encode() not in pickle.dumps(error)


async def test_a_wrong_type_of_one_caller_is_not_the_others_problem():
    """Callers that share a request each decode it into their own type, or fail alone."""
    path = "/v1/tiktok/profiles/x.5products/showcase-products"
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        wrong, page, plain, other = await asyncio.gather(
            client.get(path, type=int),
            client.showcase_page("x.5products"),
            client.get(path),
            client.get(path),
            return_exceptions=True,
        )
        assert isinstance(wrong, UndecodableError)
        assert wrong.usage.charged == 1
        assert len(page.products) == 5
        assert sim.ledger.requests == 1
        assert plain.data == other.data
        plain.data["products"].clear()
        assert len(other.data["products"]) == 5


async def test_who_stays_answers_for_the_cost():
    """When the caller that began leaves, the cost is told by the next one's page and run."""
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        first = asyncio.create_task(client.showcase_page("x.5products"))
        await asyncio.sleep(0.5)
        async with client.showcases(["x.5products"]) as run:
            asyncio.get_running_loop().call_later(0.2, first.cancel)
            outcomes = [outcome async for outcome in run]
        assert outcomes[0].usage == run.usage == client.usage
        assert run.usage.charged == sim.ledger.charged == 1
        assert first.cancelled()


async def test_a_shared_failure_is_decoded_for_nobody():
    """Followers of a failed request get its failure, whatever type they asked for."""
    async with (
        Simulator(latency=Latency.fixed(1), faults=[Fault.status(500)]) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry.none()) as client,
    ):
        path = "/v1/tiktok/profiles/x"
        results = await asyncio.gather(
            client.get(path), client.tiktok_profile("x"), return_exceptions=True
        )
        assert {type(result) for result in results} == {ServerError}
        assert {result.handle for result in results} == {None, "x"}
        assert sum(result.usage.maybe for result in results) == 1
