"""What the proofs about money share: the truth to compare with, and a guard of the ceiling."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from asyncsfk import BudgetReachedError
from tests.archive.support import held
from tests.support import SHOWCASE, plain

#: Faults that leave the answer good.
HARMLESS = (
    *(None, "delay", "drip", "unknown_fields", "set_cookie", "price"),
    *("cursor_without_more", "empty_page_with_more"),
)


def creators(count, *, most=3, page_size=5, name="c"):
    """Name creators whose showcases have 1 to `most` pages, in turn."""
    return [f"{name}{n}.{(n % most) * page_size + 1 + n % page_size}products" for n in range(count)]


def pages_of(sim, handle, *, page_size=5):
    """Tell how many pages a creator's showcase has."""
    return max(1, -(-sim.product_count(handle) // page_size))


async def spent_in(archive):
    """Give what an archive, or the file at a path, says that all of it cost."""
    usage = await held(archive, "usage")
    return usage.charged, usage.maybe


def good_pages(sim):
    """Count the showcase pages that were charged and went out whole and as they should be."""
    return sum(
        entry.status == 200 and entry.delivered and entry.fault in HARMLESS
        for entry in sim.ledger
        if entry.route == SHOWCASE
    )


def assert_one_each(handles, outcomes):
    """Each distinct handle has one outcome."""
    assert Counter(outcome.handle for outcome in outcomes) == Counter(dict.fromkeys(handles, 1))


def assert_true(sim, outcomes):
    """Complete outcomes are the whole truth, partial ones its beginning, the others nothing."""
    for outcome in outcomes:
        truth, products = sim.showcase(outcome.handle, outcome.region), plain(outcome.products)
        if outcome.status == "complete":
            assert products == truth
            assert outcome.error is None
        else:
            assert products == truth[: len(products)]
            assert (outcome.status == "partial") is (outcome.pages > 0)
            assert outcome.error is not None


async def assert_can_go_on(sim, client, outcomes):
    """The cursor of a partial outcome leads to exactly what the outcome lacks."""
    for outcome in outcomes:
        if outcome.status != "partial" or outcome.next_cursor is None:
            continue
        rest = await client.showcase(outcome.handle, cursor=outcome.next_cursor).collect()
        assert plain((*outcome.products, *rest)) == sim.showcase(outcome.handle)


def assert_stopped_at_the_ceiling(outcomes):
    """Every outcome that is not complete says that the ceiling was reached."""
    for outcome in outcomes:
        if outcome.status != "complete":
            assert isinstance(outcome.error, BudgetReachedError)
            assert outcome.status in ("partial", "skipped", "failed")


class Guard:
    """Holds budgets to their ceilings; an `on_event` that never raises, and is asked later.

    Args:
        sim: A simulator that must charge no more than ``ceiling``, if any.
        ceiling: What it may charge.
    """

    def __init__(self, sim=None, ceiling=None):
        self._sim = sim
        self._ceiling = ceiling
        self.budgets = []
        self.events = []
        self.looks = 0
        self.broken = []

    def __call__(self, event):
        self.events.append(event)
        self.look()

    def look(self):
        """See whether all is well just now."""
        self.looks += 1
        for budget in self.budgets:
            taken = budget.charged + budget.reserved + budget.maybe
            if budget.max_credits is not None and taken > budget.max_credits:
                self.broken.append(f"{taken} taken: {budget}")
        if self._sim is not None and self._sim.ledger.charged > self._ceiling:
            self.broken.append(f"over {self._ceiling}: {self._sim.ledger}")

    def told(self, kind):
        """Give the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def assert_held(self):
        """No ceiling was ever seen to be passed, and nothing is reserved any more."""
        self.look()
        assert self.broken == []
        assert self.looks > 1
        assert [budget.reserved for budget in self.budgets] == [0] * len(self.budgets)


@asynccontextmanager
async def stepping(guard, seconds=0.25):
    """Look at regular times, besides at each event, while the body runs."""

    async def step():
        while True:
            guard.look()
            await asyncio.sleep(seconds)

    task = asyncio.create_task(step())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
