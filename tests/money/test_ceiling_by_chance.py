"""Ceilings under chance: any width, any faults, any showcases, with and without an archive."""

import asyncio
import random

import pytest

from asyncsfk import Archive, BudgetReachedError, Client, Retry, Timeout, UndecodableError
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.money.accounts import (
    Guard,
    assert_can_go_on,
    assert_one_each,
    assert_true,
    good_pages,
    stepping,
)
from tests.support import outcomes_of, plain, run_through

PAGE = 3
CASES = 200
AT_ONCE = 20

FAULTS = (
    Fault.status,  # 503, charged nothing
    lambda _, **when: Fault.status(503, retry_after="2", **when),
    lambda _, **when: Fault.status(500, charge=1, **when),
    lambda _, **when: Fault.status(502, charge=1, **when),
    lambda _, **when: Fault.status(502, body="problem", **when),
    lambda _, **when: Fault.status(400, **when),
    lambda _, **when: Fault.close(**when),
    lambda _, **when: Fault.close(charged=True, **when),
    lambda _, **when: Fault.reset(charged=True, **when),
    lambda _, **when: Fault.garbage(charged=True, **when),
    lambda _, **when: Fault.hang(60, charged=True, **when),
    lambda _, **when: Fault.truncate(**when),
    lambda _, **when: Fault.redirect("http://127.0.0.1:9/elsewhere", **when),
    lambda _, **when: Fault.not_json(**when),
    lambda _, **when: Fault.empty_page_with_more(**when),
    lambda _, **when: Fault.drip(chunk=500, interval=0.5, **when),
)


class Case:
    """One run as chance has drawn it."""

    def __init__(self, seed):
        rng = random.Random(f"ceiling:{seed}")
        self.ceiling = rng.choice([1, 2, rng.randint(3, 20), rng.randint(10, 60)])
        self.width = rng.choice([1, 2, rng.randint(3, 12), 40])
        names = ("c", "c", "c", "empty_", "private_", "unknown_")
        self.handles = []
        for n in range(rng.randint(1, 24)):
            name = rng.choice(names)
            count = f".{rng.randint(1, 5 * PAGE)}products" if name == "c" else ""
            self.handles.append(f"{name}{n}{count}")
        kinds = rng.sample(FAULTS, rng.choice([0, 0, 2, 5, len(FAULTS)]))
        share = rng.choice([0.02, 0.1, 0.3]) / max(1, len(kinds) / 3)
        self.faults = [kind(503, probability=share) for kind in kinds]
        self.retry = Retry(
            attempts=rng.randint(1, 4), server_errors=rng.randint(0, 2), lost=rng.randint(0, 1)
        )
        self.verify = rng.random() < 0.5
        self.archived = rng.random() < 0.4
        self.ordered = rng.random() < 0.3
        self.latency = rng.choice([Latency.fixed(0.5), Latency.uniform(0, 1)])
        self.place = rng.choice(["run", "client", "both"])


@pytest.mark.large
@pytest.mark.parametrize("first", range(0, CASES, AT_ONCE))
async def test_no_chance_passes_the_ceiling(first, tmp_path):
    """The simulator never charges more than the ceiling, and what was bought is all there."""
    for seed in range(first, first + AT_ONCE):
        try:
            await prove(Case(seed), tmp_path / f"{seed}.sfk")
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


async def prove(case, path):
    """Run a case to its end, and look at everything there is to see."""
    limits = {
        "client": (case.ceiling, None),
        "run": (None, case.ceiling),
        "both": (case.ceiling + 3, case.ceiling),
    }[case.place]
    async with Simulator(
        seed=case.ceiling, page_size=PAGE, faults=case.faults, latency=case.latency
    ) as sim:
        guard = Guard(sim, case.ceiling)
        async with Client(
            sim.api_key,
            base_url=sim.url,
            max_credits=limits[0],
            retry=case.retry,
            timeout=Timeout(total=20, read=5),
            on_event=guard,
        ) as client:
            async with client.showcases(
                case.handles,
                concurrency=case.width,
                max_credits=limits[1],
                verify_empty=case.verify,
                ordered=case.ordered,
                archive=Archive(path, durability="normal") if case.archived else None,
            ) as run:
                guard.budgets += [b for b in (client.budget, run.budget) if b is not None]
                async with stepping(guard, 0.7):
                    outcomes = await outcomes_of(run)
            guard.assert_held()
            look_at(case, sim, client, run, outcomes)
            if case.archived:
                spent = await asyncio.to_thread(lambda: Archive(path).usage())
                assert (spent.charged, spent.maybe) == (run.usage.charged, run.usage.maybe)
        await finish(case, sim, outcomes, path)


def look_at(case, sim, client, run, outcomes):
    """Compare what came of a run with the truth, and what it cost with the simulator's books."""
    usage = run.usage
    assert usage == client.usage == sum((o.usage for o in outcomes), type(usage)())
    for budget in (client.budget, run.budget):
        if budget is not None:
            assert (budget.charged, budget.maybe) == (usage.charged, usage.maybe)
    assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe <= case.ceiling
    assert usage.requests == sim.ledger.requests
    assert_one_each(case.handles, outcomes)
    assert_true(sim, outcomes)
    # All that was charged and delivered is in an outcome.
    assert sum(outcome.pages for outcome in outcomes) == good_pages(sim)
    assert (run.stopped is None) or isinstance(run.stopped, BudgetReachedError)
    for outcome in outcomes:
        if outcome.status == "skipped":
            assert isinstance(outcome.error, BudgetReachedError)
            assert outcome.usage.requests == 0
    if not case.faults:
        wanted = sum(wanted_of(case, sim, handle) for handle in case.handles)
        assert sim.ledger.charged == usage.charged == min(case.ceiling, wanted)
        assert (run.stopped is not None) is (wanted > case.ceiling)
        for outcome in outcomes:
            assert (outcome.error is None) is (outcome.status == "complete")
            assert isinstance(outcome.error, BudgetReachedError | None)


def wanted_of(case, sim, handle):
    """Tell what all of a creator costs."""
    count = sim.product_count(handle)
    return -(-count // PAGE) if count else 1 + case.verify


async def finish(case, sim, outcomes, path):
    """See that a run without faults or ceiling goes on where each creator ended."""
    sim.faults = ()
    async with Client(sim.api_key, base_url=sim.url, retry=Retry.none()) as client:
        if not case.archived:
            await assert_can_go_on(sim, client, outcomes)
            return
        before = sim.ledger.charged
        have = sum(outcome.pages for outcome in outcomes)
        _, whole = await run_through(client, case.handles, archive=path)
        spoilt = {entry.handle for entry in sim.ledger if entry.fault == "not_json"}
        for outcome in whole:
            if outcome.status == "complete":
                assert plain(outcome.products) == sim.showcase(outcome.handle)
            else:
                # It was paid for, and is on file for a version that can decode it.
                assert isinstance(outcome.error, UndecodableError)
                assert outcome.handle in spoilt
        # What is on file was not bought again.
        bought = sim.ledger.charged - before
        assert sum(outcome.usage.archived for outcome in whole) == have
        assert sum(outcome.pages for outcome in whole) == have + bought
