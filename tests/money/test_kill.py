"""A run that is killed again and again loses and pays no more than what was in the air."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import asyncsfk
from asyncsfk import Archive
from asyncsfk.simulator import Latency
from tests.money import buyer
from tests.support import plain, running, wait_for

pytestmark = pytest.mark.large

SEED = 11
KILLS = 10
WIDTH = 16


class Job:
    """Processes that buy the same into the same archive, one after the other."""

    def __init__(self, sim, path):
        self._sim = sim
        self._path = path
        self._log = path.with_suffix(".log")

    def start(self, ceiling=None):
        return subprocess.Popen(  # noqa: S603 - our own program
            [
                *(sys.executable, "-W", "error", buyer.__file__),
                *(self._sim.url, self._sim.api_key, self._path, self._log),
                *("--seed", str(SEED), "--width", str(WIDTH)),
                *(() if ceiling is None else ("--ceiling", str(ceiling))),
            ],
            env=os.environ | {"PYTHONPATH": str(Path(asyncsfk.__file__).parents[1])},
        )

    def run(self, ceiling=None):
        assert self.start(ceiling).wait(50) == 0

    def told(self):
        """Count what was handed out: pages, and outcomes of each status, by their handles."""
        told = {}
        for line in self._log.read_text().splitlines():
            what, handle = line.split()
            told.setdefault(what, Counter())[handle] += 1
        return told

    def on_file(self):
        """Count the pages on file, by what they are."""
        pages = Archive(self._path).answers()
        return Counter((page.route, page.handle, page.region, page.cursor) for page in pages)

    def is_whole(self):
        with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def lost(sim, on_file):
    """Count what was charged, and is not on file."""
    return sim.ledger.charged - on_file.total()


@pytest.mark.timeout(120)
def test_killed_ten_times(tmp_path):
    """Every page is on file once in the end; the ceiling holds across all kills."""
    rng = random.Random(SEED)
    handles = list(buyer.handles(SEED))
    with running(seed=SEED, page_size=buyer.PAGE, latency=Latency.uniform(0.002, 0.01)) as sim:
        pages = {handle: -(-sim.product_count(handle) // buyer.PAGE) for handle in handles}
        total = sum(pages.values())
        ceiling = total - 100
        job = Job(sim, tmp_path / "job.sfk")
        in_flight, gone = [], 0
        for moment in sorted(rng.sample(range(20, int(total * 0.8)), KILLS)):
            process = job.start(ceiling)
            wait_for(lambda moment=moment: sim.ledger.requests >= moment)
            time.sleep(rng.uniform(0, 0.01))
            process.kill()
            in_flight.append(sim.ledger.in_flight)
            assert process.wait() == -9
            wait_for(lambda: sim.ledger.in_flight == 0)
            assert in_flight[-1] <= WIDTH
            on_file = job.on_file()
            assert set(on_file.values()) <= {1}
            assert job.is_whole()
            # What this kill has cost: never more than there may be in the air.
            before, gone = gone, lost(sim, on_file)
            assert 0 <= gone - before <= WIDTH
            # What was handed out was on file before.
            kept = Counter(handle for _, handle, _, _ in on_file)
            told = job.told()
            assert all(kept[handle] >= count for handle, count in told.get("page", {}).items())
            assert all(kept[handle] == pages[handle] for handle in told.get("complete", ()))
            assert sim.ledger.charged <= ceiling

        # With its ceiling the job comes to an end before it is done.
        job.run(ceiling)
        told = job.told()
        assert told.keys() - {"partial"} == {"page", "complete", "skipped"}
        assert told["page"].total() == job.on_file().total()
        assert sim.ledger.charged <= ceiling
        spent = Archive(tmp_path / "job.sfk").usage()
        assert spent.charged <= sim.ledger.charged <= spent.charged + spent.maybe <= ceiling
        assert spent.charged + spent.maybe > ceiling - 1
        assert lost(sim, job.on_file()) == gone

        job.run()
        assert job.told() == {"page": pages, "complete": dict.fromkeys(handles, 1)}
        assert job.is_whole()
        on_file = job.on_file()
        assert on_file.total() == total == len(on_file)
        assert Counter(handle for _, handle, _, _ in on_file) == Counter(pages)
        for outcome in Archive(tmp_path / "job.sfk").outcomes():
            assert outcome.status == "complete"
            assert plain(outcome.products) == sim.showcase(outcome.handle)
        twice = sum(count - 1 for count in sim.ledger.paid_twice().values())
        assert twice == gone == sim.ledger.charged - total
        assert gone <= KILLS * WIDTH
        # Shown with -s: README quotes it.
        print(f"{total} pages, {KILLS} kills, width {WIDTH}: {gone} pages paid twice")  # noqa: T201
