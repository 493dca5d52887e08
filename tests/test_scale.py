"""A million handles: pulled lazily, in memory that does not grow."""

import asyncio

import pytest

from asyncsfk import Client, UnauthorizedError
from asyncsfk.simulator import Simulator
from tests.support import Grown

pytestmark = pytest.mark.large

MILLION = 1_000_000
MIB = 1024 * 1024


class Pulled:
    """A generator of handles that notes how many were pulled."""

    def __init__(self, count):
        self._left = count
        self.count = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.count == self._left:
            raise StopIteration
        self.count += 1
        return f"creator.{self.count:07}"


async def test_a_slow_consumer_of_a_million_handles():
    """Handles are pulled as they are needed, never far ahead of a consumer that takes its time."""
    async with (
        Simulator(keep_entries=10) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=50) as client,
    ):
        handles = Pulled(MILLION)
        taken = 0
        async with client.showcases(handles, max_pages=1) as run:
            async for _ in run:
                taken += 1
                await asyncio.sleep(1)
                # Fifty under way, fifty waiting to be taken, and one in hand.
                assert handles.count <= taken + 50 + 50 + 1
                if taken == 500:
                    break
        assert handles.count < 700


@pytest.mark.parametrize(
    ("dedupe", "bytes_each"), [(True, 100), (False, 1)], ids=["dedupe", "no dedupe"]
)
async def test_a_great_many_handles_take_no_memory(dedupe, bytes_each):
    """Memory is flat over many handles, except for what dedupe remembers of each."""
    # Tracing memory takes most of the time of this; a million take ten times as long.
    count = MILLION // 10
    # The first refusal stops the run: the rest passes through it without a request.
    async with (
        Simulator(api_key="another") as sim,
        Client("sfk_x", base_url=sim.url, concurrency=50) as client,
    ):
        handles = Pulled(count)
        outcomes = 0
        with Grown() as grown:
            async with client.showcases(handles, dedupe=dedupe) as run:
                async for outcome in run:
                    assert isinstance(outcome.error, UnauthorizedError)
                    outcomes += 1
                progress = run.progress
                del outcome
        assert outcomes == handles.count == count
        assert progress.skipped >= count - 50
        assert sim.ledger.requests <= 50
        assert grown.peak <= 2 * MIB + count * bytes_each


async def test_pages_are_not_kept():
    """A run that fetches many pages holds a few of them at a time, streamed by either way."""
    async with (
        Simulator(keep_entries=10) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=10) as client,
    ):
        grown = {}
        for creators in (50, 200):
            handles = (f"c{n}.60products" for n in range(creators))
            with Grown() as grown[creators]:
                async with client.showcases(handles, dedupe=False) as run:
                    async for outcome in run:
                        assert len(outcome.products) == 60
                    del outcome
        assert grown[200].peak <= 1.1 * grown[50].peak + MIB / 2


async def test_no_handle_is_taken_for_another():
    """Handles that are each the end of another one are all distinct to dedupe."""
    # The longer come first, so that a shorter one could be found in them.
    handles = [str(number) for number in reversed(range(30_000))]
    async with (
        Simulator(api_key="another") as sim,
        Client("sfk_x", base_url=sim.url) as client,
        client.showcases([*handles, *handles]) as run,
    ):
        assert sorted([outcome.handle async for outcome in run]) == sorted(handles)
        assert run.progress.duplicates == len(handles)
