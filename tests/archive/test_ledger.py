"""What the file says was paid: exact for clean runs, and between two bounds after a crash."""

import asyncio

import pytest

from asyncsfk import Archive, BudgetReachedError, Client, Retry, Timeout, Usage
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import copied, held, known, run_of
from tests.support import client_of, sql


def total(usages):
    """Add up what a ledger knows of usages."""
    return sum((known(usage) for usage in usages), Usage())


async def test_usage_is_the_sum_of_clean_runs(path):
    """The file's usage is the sum of runs, retries, failures, duplicates and single calls."""
    faults = Fault.storm(0.04, size=2**18, hang=400)
    async with (
        Simulator(faults=faults) as sim,
        Client(
            sim.api_key,
            base_url=sim.url,
            concurrency=20,
            max_body_bytes=2**17,
            timeout=Timeout(total=30),
            retry=Retry(backoff=0.01),
        ) as client,
    ):
        usages = []
        for start in (0, 20):
            handles = [*sim.handles(40, start), *sim.handles(5)]
            run, outcomes = await run_of(client, handles, archive=path)
            usages.append(run.usage)
            assert total(outcome.usage for outcome in outcomes.values()) == known(run.usage)
            usage = await held(path, "usage")
            assert known(usage) == total(usages)
            assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe
            assert usage.requests == sim.ledger.requests
        sim.faults = []
        async with Archive(path) as archive:
            async with client.showcases(["x.45products"], archive=archive) as run:
                await asyncio.gather(
                    client.showcase_page("x.45products", archive=archive),
                    client.showcase_page("x.45products", archive=archive),
                    anext(run),
                )
            assert known(await held(path, "usage")) == known(client.usage)
            assert usage.maybe > 0
    pages = await held(path, "answers")
    assert (await held(path, "usage")).pages == len(pages)
    assert sum(page.charged for page in pages) == client.usage.charged


async def test_the_ledger_adds_up_to_usage(path):
    """The ledger's lines add up to the usage."""
    faults = [Fault.status(503, probability=0.2), Fault.status(502, probability=0.2, charge=1)]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry(backoff=0.01)) as client,
    ):
        await run_of(client, sim.handles(30), archive=path)
    lines = await held(path, "ledger")
    usage = await held(path, "usage")
    assert len(lines) == usage.requests == sim.ledger.requests
    assert sum(line.charged for line in lines) == usage.charged
    assert sum(line.maybe for line in lines) == usage.maybe
    assert sum(line.bytes for line in lines) == usage.bytes
    assert sum(line.attempt > 1 for line in lines) == usage.retries > 0
    assert [line.at for line in lines] == sorted(line.at for line in lines)


async def test_after_a_crash_the_truth_lies_between(path, tmp_path):
    """After a crash the file gives a lower and an upper bound of what was paid."""
    async with (
        Simulator(
            latency=Latency.uniform(0.1, 1), faults=[Fault.close(charged=True, times=3)]
        ) as sim,
        client_of(sim, concurrency=30) as client,
        client.showcases(sim.handles(50), archive=path) as run,
    ):
        crashes = []

        async def crash():
            while True:
                await asyncio.sleep(0.21)
                truth = sim.ledger.charged
                copy = copied(path, tmp_path / str(len(crashes)))
                crashes.append((copy, truth, sim.ledger.in_flight))

        crashing = asyncio.create_task(crash())
        async for _ in run:
            pass
        crashing.cancel()
    assert max(in_flight for _, _, in_flight in crashes) >= 20
    for copy, truth, _ in crashes:
        before = await asyncio.to_thread(Archive(copy).info)
        assert truth <= before.usage.charged + before.usage.maybe + before.unsettled
        async with Archive(copy):
            pass
        usage = await held(copy, "usage")
        assert usage.charged <= truth <= usage.charged + usage.maybe
        assert usage.maybe == before.usage.maybe + before.unsettled
        # At most as many as were ever under way at once, rounded up to a power of two.
        assert usage.maybe <= 3 + 32


async def test_a_crash_counts_against_a_ceiling(path, tmp_path):
    """What a dead process may have spent counts towards max_credits of later runs."""
    async with Simulator(latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        async with Archive(path) as archive:
            calls = [
                asyncio.create_task(client.showcase_page(f"c{n}", archive=archive))
                for n in range(5)
            ]
            await asyncio.sleep(0.5)
            assert sim.ledger.charged == 5
            copy = copied(path, tmp_path / "copy")
            await asyncio.gather(*calls)
        async with client.showcases(sim.handles(3), archive=copy, max_credits=20) as run:
            assert run.budget.maybe == 8
            assert run.budget.left == 12


async def test_nothing_under_way_is_nothing_at_risk(path, tmp_path):
    """A process that died after a clean end of its archive leaves no doubt behind."""
    async with Simulator() as sim, client_of(sim) as client:
        run, _ = await run_of(client, sim.handles(20), archive=path)
        copy = copied(path, tmp_path / "copy")
    async with Archive(copy):
        pass
    assert known(await held(copy, "usage")) == known(run.usage)
    assert (await asyncio.to_thread(Archive(copy).info)).unsettled == 0


async def test_many_crashes_in_a_row(path, tmp_path):
    """Each death is counted once, by the next opening, however many there were."""
    async with Simulator(latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        for number in range(3):
            async with Archive(path) as archive:
                call = asyncio.create_task(client.showcase_page(f"c{number}", archive=archive))
                await asyncio.sleep(0.5)
                copy = copied(path, tmp_path / str(number))
                await call
            path = copy
        async with Archive(path):
            pass
        assert sim.ledger.charged == 3
    usage = await held(path, "usage")
    assert usage == Usage(maybe=3)
    assert [line.error for line in await held(path, "ledger")] == ["ProcessDied"] * 3
    assert sql(path, "SELECT count(*) FROM session WHERE ended IS NULL OR exposed") == [(0,)]


async def test_a_larger_price_is_exposed_as_such(path, tmp_path):
    """If a route was seen to cost more, as much is exposed for each request under way."""
    async with (
        Simulator(latency=Latency.fixed(1), faults=[Fault.price(30)]) as sim,
        client_of(sim) as client,
        Archive(path) as archive,
    ):
        await client.showcase_page("a", archive=archive)
        call = asyncio.create_task(client.showcase_page("b", archive=archive))
        await asyncio.sleep(0.5)
        copy = copied(path, tmp_path / "copy")
        truth = sim.ledger.charged
        await call
    async with Archive(copy):
        pass
    usage = await held(copy, "usage")
    assert usage.charged == 30
    assert truth == 60 <= usage.charged + usage.maybe


async def test_a_larger_price_is_known_to_who_opens_the_file_next(path):
    """The next to open the file knows a higher price, and buys nothing without room for it."""
    async with Simulator(faults=[Fault.price(2)]) as sim:
        async with client_of(sim) as client, Archive(path) as archive:
            await client.showcase_page("a", archive=archive)
        async with client_of(sim) as client:
            run, outcomes = await run_of(client, ["b"], archive=path, max_credits=3)
        assert isinstance(outcomes["b"].error, BudgetReachedError)
        assert (run.usage.requests, sim.ledger.charged) == (0, 2)


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.status(404)], ids=["503", "404"])
async def test_what_is_known_to_be_free_is_no_doubt(path, fault):
    """Refusals known to be free are lines in the ledger, and leave nothing exposed."""
    async with Simulator(faults=[fault]) as sim, client_of(sim) as client:
        await run_of(client, sim.handles(30), archive=path)
    usage = await held(path, "usage")
    assert (usage.requests, usage.charged, usage.maybe) == (30, 0, 0)


async def test_a_quiet_archive_has_nothing_at_risk(sim, path):
    """A process that dies while nothing is under way leaves no credit in doubt."""
    async with client_of(sim, concurrency=20) as client, Archive(path) as archive:
        await asyncio.gather(
            *(client.showcase_page(f"c{n}.5products", archive=archive) for n in range(20))
        )
        assert (await held(path, "info")).unsettled > 0
        await asyncio.sleep(2)
        assert (await held(path, "info")).unsettled == 0
        # Requests after the lull are exposed again.
        call = asyncio.create_task(client.showcase_page("d.5products", archive=archive))
        await asyncio.sleep(0.05)
        assert (await held(path, "info")).unsettled > 0
        await call
