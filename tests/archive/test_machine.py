"""Random rows of runs, calls, crashes and closings, against a model of what is on file and paid."""

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asyncsfk import Archive
from asyncsfk.simulator import Latency, Simulator
from tests.archive.support import copied, read_now
from tests.support import SHOWCASE, client_of, plain, sql
from tests.virtual_time import VirtualTimeLoop

PAGE = 20

#: Creators, and how many pages their showcases have.
PAGES = {"a.5products": 1, "b.25products": 2, "c.45products": 3, "d.65products": 4, "empty_e": 1}

#: What the next session may count as maybe of a dead one, which asked for five creators at most.
EXPOSED = (0, 1, 2, 4, 8)

handles = st.sampled_from(sorted(PAGES))
some_handles = st.lists(handles, min_size=1, max_size=5)
limits = st.sampled_from([1, 2, 3, None])


class ArchiveMachine(RuleBasedStateMachine):
    """An archive, a simulator and a client, and what we know of them.

    Attributes:
        depth: How many pages of each creator's current showcase are on file, from the first on.
        profiles: Creators whose profiles are on file.
        answers: How many answers are on file, those of older showcases included.
        charged: Credits that the file knows to be charged.
        maybe: Credits that dead sessions may have spent besides.
        truth: Credits that were charged.
        lost: How many of those the file lacks, since their sessions died.
    """

    def __init__(self):
        super().__init__()
        self.depth = Counter()
        self.profiles = set()
        self.answers = 0
        self.charged = 0
        self.maybe = 0
        self.truth = 0
        self.lost = 0
        self.crashes = 0
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "0" / "job.sfk"
        self.path.parent.mkdir()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.sim = Simulator(latency=Latency.uniform(0.1, 1))
        self.client = None
        self.archive = Archive(self.path)

    @initialize()
    def begin(self):
        self.do(self.sim.__aenter__())
        self.client = client_of(self.sim, concurrency=4)
        self.do(self.client.__aenter__())
        self.do(self.archive.open())

    def teardown(self):
        try:
            for closing in (self.archive.aclose, self.client.aclose):
                self.do(closing())
            assert sql(self.path, "PRAGMA integrity_check") == [("ok",)]
        finally:
            self.do(self.sim.__aexit__(None, None, None))
            self.runner.close()
            shutil.rmtree(self.folder)

    def do(self, coroutine):
        return self.runner.run(coroutine)

    def bought(self, count):
        """Take note of answers that were bought, all of which are on file."""
        self.answers += count
        self.charged += count
        self.truth += count

    def expect(self, handle, most, *, refresh=False):
        """Take note that a showcase was gone through; give how many pages that must have bought."""
        depth = min(PAGES[handle], most or PAGES[handle])
        missing = depth if refresh else max(0, depth - self.depth[handle])
        self.depth[handle] = depth if refresh else max(depth, self.depth[handle])
        self.bought(missing)
        return missing

    # --- what is done

    @rule(given=some_handles, most=limits, refresh=st.booleans(), by_page=st.booleans())
    def run(self, given, most, refresh, by_page):
        """Follow a run to its end: each creator comes once, and what is on file is free."""
        found = self.do(self._run(given, most, refresh=refresh, by_page=by_page))
        assert found.keys() == set(given)
        for handle in set(given):
            products, charged = found[handle]
            assert charged == self.expect(handle, most, refresh=refresh)
            assert products == self.sim.showcase(handle)[: PAGE * most if most else None]

    async def _run(self, given, most, *, refresh, by_page):
        found = {}
        options = {"archive": self.archive, "max_pages": most, "refresh": refresh}
        async with self.client.showcases(given, **options) as run:
            if by_page:
                ends = []
                async for page in run.pages(ends.append):
                    products, charged = found.get(page.handle, ([], 0))
                    products = products + plain(page.products)
                    found[page.handle] = (products, charged + page.usage.charged)
                assert [end.status for end in ends] == ["complete"] * len(found)
                return found
            async for outcome in run:
                assert outcome.status == "complete"
                assert outcome.handle not in found
                found[outcome.handle] = (plain(outcome.products), outcome.usage.charged)
        return found

    @rule(handle=handles, most=limits, refresh=st.booleans())
    def listing(self, handle, most, refresh):
        """Go through one showcase by itself."""
        options = {"archive": self.archive, "max_pages": most, "refresh": refresh}

        async def collect():
            pages = [page async for page in self.client.showcase(handle, **options).pages()]
            return [len(page.products) for page in pages], sum(p.usage.charged for p in pages)

        lengths, charged = self.do(collect())
        assert sum(lengths) == min(self.sim.product_count(handle), PAGE * (most or 99))
        assert charged == self.expect(handle, most, refresh=refresh)

    @rule(handle=handles)
    def page(self, handle):
        """Ask for a first page alone."""
        page = self.do(self.client.showcase_page(handle, archive=self.archive))
        assert page.usage.charged == self.expect(handle, 1)

    @rule(handle=handles, refresh=st.booleans())
    def profile(self, handle, refresh):
        """Ask for a profile."""
        lookup = self.do(self.client.tiktok_profile(handle, archive=self.archive, refresh=refresh))
        missing = refresh or handle not in self.profiles
        assert lookup.usage.charged == missing
        self.profiles.add(handle)
        self.bought(int(missing))

    @rule(given=some_handles, seconds=st.sampled_from([0.05, 0.3, 0.8, 1.6]))
    def leave(self, given, seconds):
        """Leave a run early: what was sent lands."""
        before = self.sim.ledger.charged

        async def leave():
            async with self.client.showcases(given, archive=self.archive) as run:
                end = asyncio.get_running_loop().time() + seconds
                async for _ in run:
                    if asyncio.get_running_loop().time() > end:
                        break

        self.do(leave())
        self.truth += self.sim.ledger.charged - before
        self.learn()
        assert self.charged == self.truth - self.lost

    @rule()
    def reopen(self):
        """Close the archive and open it again."""
        self.do(self.archive.aclose())
        assert [found.name for found in self.path.parent.iterdir()] == ["job.sfk"]
        self.do(self.archive.open())

    @rule(given=some_handles, seconds=st.sampled_from([0, 0.05, 0.3, 0.8, 1.6]))
    def crash(self, given, seconds):
        """Go on from a copy of the files, as if the process had died in the middle of a run."""
        before = self.sim.ledger.charged

        async def crash():
            seen = []
            async with self.client.showcases(given, archive=self.archive) as run:

                async def consume():
                    async for outcome in run:
                        seen.extend(outcome.request_ids)

                consuming = asyncio.create_task(consume())
                await asyncio.sleep(seconds)
                self.crashes += 1
                copy = copied(self.path, self.folder / str(self.crashes))
                had, truth = tuple(seen), self.sim.ledger.charged
                is_over = consuming.done()
                # What the old process does from here on counts as never done.
                await consuming
            await self.archive.aclose()
            self.path, self.archive = copy, Archive(copy)
            await self.archive.open()
            return had, truth, is_over

        had, truth, is_over = self.do(crash())
        self.truth += truth - before
        maybe = self.maybe
        self.learn()
        assert {page.request_id for page in read_now(self.archive, "answers")} >= set(had)
        assert self.maybe - maybe in EXPOSED
        # Once the run is over and all has been quiet for a second, nothing is at risk any more.
        if truth > before and not is_over:
            assert self.maybe > maybe
        self.lost = self.truth - self.charged

    def learn(self):
        """Look up what was left to chance: how far the showcases on file have come."""
        usage = read_now(self.archive, "usage")
        assert usage.charged >= self.charged
        assert usage.pages >= self.answers
        self.charged, self.maybe, self.answers = usage.charged, usage.maybe, usage.pages
        for outcome in read_now(self.archive, "outcomes"):
            depth = -(-len(outcome.products) // PAGE)
            if not self.sim.product_count(outcome.handle):
                depth = outcome.pages
            assert depth >= self.depth[outcome.handle]
            self.depth[outcome.handle] = depth

    # --- what must hold at any time

    @invariant()
    def what_is_on_file(self):
        """Each showcase is on file as deep as was bought, in order; nothing is lost."""
        if self.client is None:
            return
        outcomes = {outcome.handle: outcome for outcome in read_now(self.archive, "outcomes")}
        for handle, depth in self.depth.items():
            if depth:
                assert plain(outcomes[handle].products) == self.sim.showcase(handle)[: PAGE * depth]
        pages = read_now(self.archive, "answers")
        assert len(pages) == self.answers
        assert {page.handle for page in pages if page.route != SHOWCASE} == self.profiles

    @invariant()
    def what_was_paid(self):
        """The ledger agrees with the model, and the truth lies between its bounds."""
        if self.client is None:
            return
        usage = read_now(self.archive, "usage")
        assert (usage.charged, usage.maybe) == (self.charged, self.maybe)
        assert usage.charged <= self.truth <= usage.charged + usage.maybe


hypothesis_settings = hypothesis.settings(
    max_examples=8 if hypothesis.settings.default.derandomize else 80,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
TestArchiveMachine = ArchiveMachine.TestCase
TestArchiveMachine.settings = hypothesis_settings
