"""Calls of every kind into one archive at once, left, stopped and cancelled at any moment."""

import asyncio
import random

import pytest

from asyncsfk import Archive, Budget, Retry, SfkError
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import held
from tests.money.accounts import assert_true
from tests.support import client_of, plain, sql

PAGE = 5
HANDLES = ["empty_a", "empty_b", *(f"c{n}.{7 * n % 20 + 1}products" for n in range(12))]
FAULTS = [
    Fault.status(503, probability=0.05),
    Fault.status(503, retry_after="1", probability=0.03),
    Fault.status(429, probability=0.03),
]


@pytest.mark.parametrize("seed", range(30))
async def test_each_page_is_bought_once(seed, tmp_path):
    """Nothing is lost, so nothing is paid twice, and all that was bought is true and on file."""
    rng = random.Random(f"at once:{seed}")
    archive = Archive(tmp_path / "job.sfk", durability="normal")
    async with (
        Simulator(
            seed=seed, page_size=PAGE, latency=Latency.uniform(0.05, 0.9), faults=FAULTS
        ) as sim,
        client_of(sim, concurrency=rng.choice([2, 5, 50]), retry=Retry()) as client,
    ):
        if rng.random() < 0.5:
            await archive.open()
        budgets = [Budget(rng.randint(5, 60)), Budget(1000)]
        calls = [Call(rng, sim, client, archive, budgets) for _ in range(rng.randint(4, 16))]
        async with asyncio.TaskGroup() as tasks:
            for call in calls:
                tasks.create_task(call.make())
            if rng.random() < 0.2:
                await asyncio.sleep(rng.uniform(0, 6))
                await client.aclose()
        await archive.aclose()

        assert sim.ledger.charged > 0
        assert sim.ledger.paid_twice() == {}
        assert (client.usage.charged, client.usage.maybe) == (sim.ledger.charged, 0)
        for budget in (*budgets, client.budget):
            assert budget.reserved == budget.maybe == 0
            assert budget.max_credits is None or budget.charged <= budget.max_credits
        kept = await held(archive, "usage")
        assert (kept.charged, kept.maybe) == (sim.ledger.charged, 0)
        for outcome in await held(archive, "outcomes"):
            products = plain(outcome.products)
            assert products == sim.showcase(outcome.handle)[: len(products)]
        assert sql(archive.path, "PRAGMA integrity_check") == [("ok",)]


class Call:
    """One call, of some kind, with some options, which ends in some way."""

    def __init__(self, rng, sim, client, archive, budgets):
        self.rng = random.Random(rng.random())
        self.sim = sim
        self.client = client
        self.handles = self.rng.sample(HANDLES, self.rng.randint(1, 8))
        self.keeping = {"archive": archive}
        self.limited = self.keeping | self.sometimes(0.3, max_pages=self.rng.randint(1, 3))
        ceiling = self.rng.choice([*budgets, self.rng.randint(1, 12), 40])
        self.options = {
            **self.limited,
            **self.sometimes(0.5, max_credits=ceiling),
            **self.sometimes(0.5, concurrency=self.rng.randint(1, 6)),
            **self.sometimes(0.2, verify_empty=True),
        }
        self.end = self.rng.choice(["wait", "wait", "break", "stop", "cancel"])

    def sometimes(self, probability, **options):
        """Give options, or none."""
        return options if self.rng.random() < probability else {}

    async def make(self):
        """Begin some time, and end: with a typed error, if any."""
        await asyncio.sleep(self.rng.choice([0, 0, self.rng.uniform(0, 8)]))
        kinds = [self.run, self.run, self.pages, self.fetch, self.showcase, self.page, self.plan]
        task = asyncio.create_task(self.rng.choice(kinds)())
        if self.end == "cancel":
            await asyncio.sleep(self.rng.uniform(0, 4))
            task.cancel()
        done, _ = await asyncio.wait([task], timeout=1000)
        assert done, "it hangs"
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, SfkError), error
            assert error.usage.maybe == 0

    async def run(self):
        handles, enough = set(), self.rng.randint(0, 4)
        async with self.client.showcases(
            self.handles + self.handles[:2], ordered=self.rng.random() < 0.3, **self.options
        ) as run:
            async for outcome in run:
                assert outcome.handle not in handles
                handles.add(outcome.handle)
                if "max_pages" not in self.options:
                    assert_true(self.sim, [outcome])
                if len(handles) > enough and self.end == "break":
                    return
                if len(handles) > enough and self.end == "stop":
                    run.stop()
        if self.end == "wait":
            assert handles == set(self.handles)

    async def pages(self):
        enough = self.rng.randint(1, 6)
        async with self.client.showcases(self.handles, **self.options) as run:
            async for _ in run.pages():
                enough -= 1
                if not enough and self.end == "break":
                    return
                if not enough and self.end == "stop":
                    run.stop()

    async def fetch(self):
        outcomes = await self.client.fetch_showcases(self.handles, **self.options)
        if "max_pages" not in self.options:
            assert_true(self.sim, outcomes)

    async def showcase(self):
        products = await self.client.showcase(self.handles[0], **self.limited).collect()
        most = self.limited.get("max_pages", 99) * PAGE
        assert plain(products) == self.sim.showcase(self.handles[0])[:most]

    async def page(self):
        page = await self.client.showcase_page(self.handles[0], **self.keeping)
        assert plain(page.products) == self.sim.showcase(self.handles[0])[:PAGE]

    async def plan(self):
        plan = await self.client.plan(self.handles, **self.keeping)
        assert plan.given == len(self.handles)
