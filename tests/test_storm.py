"""A run over thousands of creators with every fault at a few percent."""

from collections import Counter

import pytest

from asyncsfk import Client, Retry, Timeout
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import plain

# It takes a minute on a machine that does something else besides.
pytestmark = [pytest.mark.large, pytest.mark.timeout(300)]

CREATORS = 3_000


async def test_a_storm_of_every_fault_loses_nothing_that_was_paid():
    """Each creator gets one outcome, what it holds is the truth, and all that was paid is known."""
    faults = Fault.storm(0.02, size=2**21, hang=60.0)
    latency = Fault.delay(Latency.lognormal(0.2, 0.5, cap=3.0))
    async with (
        Simulator(seed=7, faults=(*faults, latency)) as sim,
        Client(
            sim.api_key,
            base_url=sim.url,
            max_body_bytes=2**20,
            timeout=Timeout(total=30, read=10),
            retry=Retry(max_backoff=5),
        ) as client,
    ):
        handles = list(sim.handles(CREATORS))
        async with client.showcases(handles, concurrency=200) as run:
            outcomes = [outcome async for outcome in run]
        usage = run.usage

        assert Counter(outcome.handle for outcome in outcomes) == Counter(handles)
        for outcome in outcomes:
            truth = sim.showcase(outcome.handle)
            products = plain(outcome.products)
            if outcome.status == "complete":
                assert products == truth
                assert outcome.error is None
            else:
                assert products == truth[: len(products)]
                assert outcome.status == ("partial" if outcome.pages else "failed")
                assert outcome.error is not None
                assert outcome.error.handle == outcome.handle
        assert sum(outcome.usage for outcome in outcomes) == usage
        assert usage == client.usage

        struck = {entry.fault for entry in sim.ledger if entry.fault}
        assert {fault.name for fault in faults} <= struck
        assert usage.requests == sim.ledger.requests
        assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe
        # A page is paid again only where its answer failed after charging: by default at most
        # twice on the server's side and once on the way.
        assert max(sim.ledger.paid_twice().values()) <= 1 + 2 + 1
