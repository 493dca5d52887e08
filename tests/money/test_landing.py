"""What was sent lands, and reaches those that want it; what was not sent stays unsent."""

import asyncio

import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    Budget,
    BudgetReachedError,
    Client,
    ClientStateError,
    Retry,
    Timeout,
    UnavailableError,
    UnreachableError,
    Usage,
    events,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import Editions, held, ids, run_of
from tests.support import (
    KEY,
    client_of,
    enveloped,
    failure,
    http,
    outcomes_of,
    run_through,
    sql,
    told,
)

HANDLE = "mrbeast.5products"


@pytest.mark.parametrize("waits", ["for a place", "to try again"])
async def test_what_was_not_sent_is_sent_for_nobody(sim, archive, waits):
    """A call that is left before it was sent, or between attempts, ends there."""
    if waits == "to try again":
        sim.faults = [Fault.status(503, retry_after="2")]
    async with client_of(sim, concurrency=1, retry=Retry()) as client:
        blocker = None
        if waits == "for a place":
            blocker = asyncio.create_task(client.showcase_page("a.5products"))
            await asyncio.sleep(0.1)
        call = asyncio.create_task(client.showcase_page("b.5products", archive=archive))
        await asyncio.sleep(0.5 if blocker else 1.5)
        call.cancel()
        async with asyncio.timeout(0.1):
            await asyncio.wait({call})
        await asyncio.sleep(20)
        assert sim.ledger.requests == 1
        if blocker:
            await blocker


async def test_a_client_that_is_closed_sends_nothing_that_waits(sim, archive):
    """While sent requests land, those that wait for a place are not sent any more."""
    # One lands before the other, and gives its place back.
    sim.faults = [Fault.delay(Latency.fixed(2), handles=["c0.5products"])]
    async with client_of(sim, concurrency=2) as client:
        calls = [
            asyncio.create_task(client.showcase_page(f"c{n}.5products", archive=archive))
            for n in range(4)
        ]
        await asyncio.sleep(0.5)
    _, _, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(other) for other in others} == {ClientStateError}
    assert sim.ledger.requests == (await held(archive, "usage")).charged == 2


async def test_a_stop_at_once_leaves_others_what_lands(sim, client, archive):
    """A request whose caller has left still lands when a run beside it is stopped at once."""
    call = asyncio.create_task(client.showcase_page(HANDLE, archive=archive))
    await asyncio.sleep(0.3)
    call.cancel()
    async with client.showcases(["other.5products"]) as run:
        outcomes = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(0.3)
        run.stop(now=True)
        await outcomes
    await asyncio.wait({call})
    assert (await held(archive, "usage")).pages == 1
    assert sim.ledger.hits(HANDLE) == 1


async def test_what_is_still_answered_is_not_given_up():
    """An answer on its way is waited for, even if no further connection can be made."""
    body = b'{"data":{"products":[],"page":{}},"meta":{"creditsCharged":1}}'

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(50)
        writer.write(http(200, body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with Client(KEY, base_url=url, retry=Retry(outage=5)) as client:
        first = asyncio.create_task(client.showcase_page("a"))
        await asyncio.sleep(1)
        server.close()
        await failure(client.showcase_page("b"), UnreachableError)
        assert not first.done()
        assert (await first).usage.charged == 1
    assert client.usage.maybe == 0


async def test_who_comes_during_the_grace_of_another_is_not_cut_short(archive):
    """A request that somebody waits for again outlives the grace of an earlier caller."""
    async with (
        Simulator(latency=Latency.fixed(3)) as sim,
        client_of(sim, timeout=Timeout(grace=1)) as client,
    ):
        first = asyncio.create_task(client.showcase_page(HANDLE, archive=archive))
        await asyncio.sleep(0.3)
        first.cancel()
        await asyncio.sleep(0.3)
        page = await client.showcase_page(HANDLE, archive=archive)
        assert page.usage.charged == sim.ledger.requests == 1
        await asyncio.wait({first})


async def test_one_who_leaves_as_the_answer_comes_takes_it_from_nobody(sim):
    """A caller cancelled at the very moment of the answer does not harm the others."""
    calls = []

    def on_event(event):
        if isinstance(event, events.RequestFinished):
            calls[1].cancel()

    async with client_of(sim, on_event=on_event) as client:
        calls += [asyncio.create_task(client.showcase_page(HANDLE)) for _ in range(3)]
        async with asyncio.timeout(5):
            results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results.pop(1), asyncio.CancelledError)
    assert [len(page.products) for page in results] == [5, 5]


async def test_a_beginner_whose_archive_is_closed_is_no_concern_of_others(sim, archive):
    """If the first caller's archive keeps a call from being sent, the joiner makes it itself."""
    async with client_of(sim, concurrency=1) as client:
        blocker = asyncio.create_task(client.showcase_page("a.5products"))
        await asyncio.sleep(0.1)
        first = asyncio.create_task(client.showcase_page("b.5products", archive=archive))
        await asyncio.sleep(0.1)
        joined = asyncio.create_task(client.showcase_page("b.5products"))
        await asyncio.sleep(0.1)
        await archive.aclose()
        await failure(first, ArchiveError)
        assert (await joined).usage.charged == 1
        await blocker
    assert sim.ledger.requests == 2


def echo(**meta):
    """Give an answer in which the key is, and its body without it."""
    body = enveloped({"seen": KEY}, **meta)

    async def answer(_, writer):
        await asyncio.sleep(1)
        writer.write(http(200, body))

    return answer, body.replace(KEY.encode(), b"***")


async def test_what_the_archive_of_who_joined_cannot_take_is_handed_out(path):
    """The joiner's error holds the answer that another paid for, without the key."""
    answer, clean = echo()
    async with told(answer) as (server, client):
        archive = Archive(path)
        await archive.open()
        first = asyncio.create_task(client.get("/v1/a/b"))
        joined = asyncio.create_task(client.get("/v1/a/b", archive=archive))
        await asyncio.sleep(0.1)
        await archive.aclose()
        error = await failure(joined, ArchiveError)
        assert (await first).usage.charged == server.hits == 1
    assert (error.usage, error.body) == (Usage(), clean)


async def test_what_an_archive_cannot_take_is_told_without_the_key(path):
    """The error with an answer that the archive could not keep identifies it, without the key."""
    answer, clean = echo(requestId="req_1")
    async with told(answer) as (_, client):
        archive = Archive(path)
        await archive.open()
        call = asyncio.create_task(client.get("/v1/a/b", archive=archive))
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(archive.aclose())
        await asyncio.sleep(0.1)
        closing.cancel()
        error = await failure(call, ArchiveError)
    assert (error.usage.charged, error.status, error.request_id) == (1, 200, "req_1")
    assert error.body == clean


async def test_a_callback_that_ends_a_program_leaves_no_credit_reserved(sim):
    """An exception that ends the program mid-request leaves it counted in a shared budget."""
    budget = Budget(5)

    def on_event(event):
        if isinstance(event, events.RequestStarted):
            raise SystemExit

    async def main():
        async with client_of(sim, max_credits=budget, on_event=on_event) as client:
            await client.showcase_page(HANDLE)

    def work():
        with pytest.raises(SystemExit):
            asyncio.run(main())

    await asyncio.to_thread(work)
    assert (budget.reserved, budget.maybe) == (0, 1)


async def test_a_price_that_one_budget_knows_binds_in_the_others():
    """A run's waiting request is reserved anew, even if only the client's budget knows why."""
    async with (
        Simulator(faults=[Fault.price(3)], latency=Latency.fixed(1)) as sim,
        client_of(sim, concurrency=1) as client,
    ):
        call = asyncio.create_task(client.showcase_page("a.1products"))
        await asyncio.sleep(0.5)
        run, (outcome,) = await run_through(client, ["b.1products"], max_credits=2)
        await call
    assert isinstance(outcome.error, BudgetReachedError)
    assert (run.budget.charged, sim.ledger.charged) == (0, 3)


async def test_a_place_is_given_back_when_the_price_rose():
    """A request that waited at the old price and is refused at the new one holds no place."""
    faults = [Fault.status(503, times=1, retry_after="5"), Fault.price(3)]
    async with (
        Simulator(faults=faults, latency=Latency.fixed(1)) as sim,
        client_of(sim, max_credits=40, concurrency=40) as client,
    ):
        await failure(client.showcase_page("x"), UnavailableError)
        calls = [client.showcase_page(f"c{n}.1products") for n in range(40)]
        await asyncio.gather(*calls, return_exceptions=True)
        assert "open, 0 requests in flight" in repr(client)
        assert client.budget.reserved == 0


async def test_a_stopped_run_probes_no_cursor(sim, client, path):
    """After a 402 no request is sent to find out whether a cursor on file still works."""
    await run_through(client, ["x.45products"], archive=path, max_pages=1)
    sim.faults = [Fault.status(402, handles=["bad"])]
    _, outcomes = await run_through(
        client, ["bad", "x.45products"], archive=path, restart_stale=True, concurrency=1
    )
    assert [outcome.status for outcome in outcomes] == ["failed", "partial"]
    assert sim.ledger.hits("x.45products") == 1


@pytest.mark.parametrize("region", [None, "GB"])
async def test_a_page_that_another_buys_before_a_run_gets_there(client, path, region):
    """A run over a creator of whom nothing was on file finds what a call has bought meanwhile."""
    first = await client.showcase_page("c.70products", region=region)
    async with Archive(path) as archive:
        call = asyncio.create_task(
            client.showcase_page(
                "c.70products", cursor=first.next_cursor, region=region, archive=archive
            )
        )
        await asyncio.sleep(0.3)
        run, _ = await run_through(client, ["c.70products"], archive=archive, region=region)
        await call
    assert (run.usage.charged, run.usage.archived) == (3, 1)


async def test_the_last_showcase_of_a_file_begins_anew_as_any_other(path):
    """A showcase that max_age has bought afresh holds no old page, wherever it was in the file."""
    editions = Editions()
    async with told(editions, keep=True) as (server, client):
        await run_of(client, ["x"], archive=path)
        sql(path, "UPDATE page SET received = received - 7200")
        editions.edition = 2
        _, outcomes = await run_of(client, ["x"], archive=path, max_age=3600)
        assert ids(outcomes["x"]) == ["2.1", "2.2", "2.3"]
        assert server.hits == 6
