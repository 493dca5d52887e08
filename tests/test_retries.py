"""How long a call waits before it tries again, and how often it may."""

import asyncio
from collections import defaultdict

import pytest

from asyncsfk import LookupFailedError, NotFoundError, Retry, UnavailableError, events
from asyncsfk.simulator import Fault, Simulator
from tests.support import client_of, failure

ATTEMPTS = 7


async def waits_of(retry, calls, status=502, **fault):
    """Make calls that fail to the end; give the waits before each further attempt."""
    waits = defaultdict(list)
    kind = {502: LookupFailedError, 503: UnavailableError}[status]

    def on_event(event):
        if isinstance(event, events.RequestRetried):
            waits[event.attempt].append(event.wait)

    async with (
        Simulator(faults=[Fault.status(status, **fault)]) as sim,
        client_of(sim, retry=retry, on_event=on_event) as client,
    ):
        await asyncio.gather(*(failure(client.showcase_page(f"c{n}"), kind) for n in range(calls)))
        assert sim.ledger.requests == calls * retry.attempts
    return waits


async def test_waits_double_up_to_the_longest_and_are_random():
    """The n-th wait is between nothing and backoff * 2 ** (n - 1), or max_backoff if less."""
    retry = Retry(
        attempts=ATTEMPTS, server_errors=ATTEMPTS, backoff=2, max_backoff=40, quota=10_000
    )
    waits = await waits_of(retry, 60)
    assert list(waits) == list(range(1, ATTEMPTS))
    for longest, had in zip((2, 4, 8, 16, 32, 40), waits.values(), strict=True):
        assert 0.9 * longest < max(had) <= longest
        assert min(had) < 0.1 * longest
        assert 0.35 * longest < sum(had) / len(had) < 0.65 * longest


@pytest.mark.parametrize("backoff", [0.001, 20])
async def test_what_the_api_asks_for_is_waited_for_besides(backoff):
    """The call's own wait, or up to a second if that is longer, comes on top."""
    retry = Retry(attempts=2, backoff=backoff, quota=10_000)
    waits = await waits_of(retry, 60, status=503, retry_after="3")
    assert list(waits) == [1]
    longest = max(1, backoff)
    assert 3 <= min(waits[1]) < 3 + 0.1 * longest
    assert 3 + 0.9 * longest < max(waits[1]) <= 3 + longest


async def test_a_call_may_be_tried_as_often_as_one_likes():
    """However many attempts there are, computing the wait does not overflow."""
    attempts = 1_050  # a float ends at 2 ** 1024
    retry = Retry(
        attempts=attempts,
        server_errors=attempts,
        backoff=0.001,
        max_backoff=0.001,
        quota=attempts,
    )
    waits = await waits_of(retry, 1)
    assert len(waits) == attempts - 1


async def test_what_is_not_tried_again_takes_nothing_of_the_quota():
    """However many calls fail for good, calls that may be tried again still are."""
    faults = [Fault.status(404, times=9), Fault.status(500, times=1)]
    async with Simulator(faults=faults) as sim, client_of(sim, retry=Retry(quota=1)) as client:
        for number in range(9):
            await failure(client.showcase_page(f"c{number}"), NotFoundError)
        page = await client.showcase_page("late.1products")
        assert (page.usage.retries, page.usage.charged) == (1, 1)
