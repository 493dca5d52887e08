"""Thousands of creators, every fault at a few percent, into an archive and under a ceiling."""

import asyncio
from collections import Counter

import pytest

from asyncsfk import (
    Archive,
    BodyTooLargeError,
    BudgetReachedError,
    Client,
    PaginationError,
    Retry,
    Timeout,
    UndecodableError,
)
from asyncsfk.simulator import FATAL, Fault, Latency, Simulator
from tests.money.accounts import Guard, assert_one_each, assert_true, creators
from tests.support import outcomes_of, plain

pytestmark = pytest.mark.large

#: Faults that charge, and after which there is nothing on file.
LOSSES = ("close", "reset", "truncate", "hang", "status", "garbage", "oversized")


@pytest.mark.parametrize(
    ("count", "ceiling", "prices"),
    [
        pytest.param(3_000, 3_000, True, id="with prices that rise"),
        pytest.param(500, 450, False, id="at an even price"),
    ],
)
async def test_a_storm_loses_nothing_and_passes_no_ceiling(tmp_path, count, ceiling, prices):
    """All charges are known and within the ceiling; the next run buys what is missing."""
    faults = [
        fault for fault in Fault.storm(0.02, size=2**17, hang=60.0)
        if prices or fault.name != "price"
    ]  # fmt: skip
    handles = creators(count, most=2)
    archive = Archive(tmp_path / "storm.sfk", durability="normal")
    guard = Guard()
    async with (
        Simulator(seed=5, faults=faults, latency=Latency.fixed(0.3), page_size=5) as sim,
        Client(
            sim.api_key,
            base_url=sim.url,
            concurrency=200,
            max_body_bytes=2**16,
            timeout=Timeout(total=30, read=10),
            retry=Retry(max_backoff=5),
            on_event=None if prices else guard,
        ) as client,
    ):
        async with client.showcases(handles, archive=archive, max_credits=ceiling) as run:
            outcomes = []
            async for outcome in run:
                outcomes.append(outcome)
                if not prices and not guard.budgets:
                    guard.budgets.append(run.budget)
        if not prices:
            guard.assert_held()
        budget, usage = run.budget, run.usage
        assert (budget.charged, budget.maybe, budget.reserved) == (usage.charged, usage.maybe, 0)
        assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe <= ceiling
        assert isinstance(run.stopped, BudgetReachedError)
        assert budget.left < (2 if prices else 1)
        kept = await asyncio.to_thread(archive.usage)
        assert (kept.charged, kept.maybe, kept.requests) == (
            *(usage.charged, usage.maybe), sim.ledger.requests,
        )  # fmt: skip
        assert sum((outcome.usage for outcome in outcomes), type(usage)()) == usage
        assert_one_each(handles, outcomes)
        assert_true(sim, outcomes)
        struck = {entry.fault for entry in sim.ledger}
        assert {fault.name for fault in faults} <= struck
        assert_paid_again_only_for_losses(sim)

        first, sim.faults = sim.ledger.requests, ()
        async with client.showcases(handles, archive=archive, max_credits=2 * ceiling) as run:
            outcomes = await outcomes_of(run)
        assert run.stopped is None
        assert run.usage.maybe == 0
        assert sim.ledger.charged <= run.budget.charged + run.budget.maybe <= 2 * ceiling
        spoilt = {entry.page.handle for entry in sim.ledger.entries[:first] if entry.fault in FATAL}
        statuses = Counter(outcome.status for outcome in outcomes)
        assert statuses["complete"] >= 0.6 * count
        assert_one_each(handles, outcomes)
        for outcome in outcomes:
            if outcome.status == "complete":
                assert plain(outcome.products) == sim.showcase(outcome.handle)
            else:
                # The answer is on file as it came, but cannot be used or leads nowhere.
                assert isinstance(
                    outcome.error, UndecodableError | BodyTooLargeError | PaginationError
                )
                assert outcome.handle in spoilt
        assert_paid_again_only_for_losses(sim)


def assert_paid_again_only_for_losses(sim):
    """A page was charged once, and once more for each time that it was charged in vain."""
    losses = Counter(entry.page for entry in sim.ledger if entry.charged and entry.fault in LOSSES)
    for page, count in sim.ledger.paid_twice().items():
        assert count - 1 <= losses[page]
