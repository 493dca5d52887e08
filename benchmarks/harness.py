"""How the benchmarks measure: paired short slices, alternating in one process.

If contenders ran one after the other, or in processes of their own, each would meet a different
machine: clocks, caches and neighbours change within seconds. So all work is cut into slices of less
than a second, every contender gets one slice a round, and the order is shuffled. Only ratios within
a round count; the median of these is reported.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import platform
import random
import sqlite3
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    Job = Callable[[Sequence[str]], Awaitable[tuple[int, int]]]
    """Fetches the showcases of handles; returns the numbers of requests and products."""

LIBRARIES = ("asyncsfk", "aiohttp", "msgspec", "anyio", "aiolimiter", "yarl", "isal", "uvloop")


class Slice(NamedTuple):
    """One short measurement."""

    requests: int
    cpu: float
    wall: float
    threads: float

    @property
    def cpu_a_request(self) -> float:
        """Seconds of this process's CPU time a request."""
        return self.cpu / self.requests

    @property
    def threads_a_request(self) -> float:
        """Seconds of that in threads other than the event loop's."""
        return self.threads / self.requests

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.wall


class Spread(NamedTuple):
    """A median and its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of two values or more."""
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


async def alternate(
    jobs: Mapping[str, Job],
    handles: Sequence[str],
    *,
    expected: tuple[int, int],
    seconds: float,
    least: int = 2,
) -> dict[str, list[Slice]]:
    """Measure jobs against each other, in rounds of one slice each.

    Args:
        jobs: The jobs by their names.
        handles: What each job fetches in each slice.
        expected: How many requests and products that is.
        seconds: For how long new rounds are begun.
        least: The least number of rounds.

    Raises:
        RuntimeError: A job received something else.
    """
    order = list(jobs)
    for name in order:
        # Opens the connections, and warms everything up.
        await _slice(name, jobs[name], handles, expected)
    slices: dict[str, list[Slice]] = {name: [] for name in order}
    until = time.monotonic() + seconds
    while len(slices[order[0]]) < least or time.monotonic() < until:
        random.shuffle(order)
        for name in order:
            slices[name].append(await _slice(name, jobs[name], handles, expected))
    return slices


async def _slice(name: str, job: Job, handles: Sequence[str], expected: tuple[int, int]) -> Slice:
    gc.collect()
    cpu, wall, ours = time.process_time(), time.perf_counter(), time.thread_time()
    await receive(name, job, handles, expected)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    threads = cpu - (time.thread_time() - ours)
    return Slice(expected[0], cpu, wall, threads)


async def receive(name: str, job: Job, handles: Sequence[str], expected: tuple[int, int]) -> None:
    """Let a job fetch the handles, and check how much it received.

    Raises:
        RuntimeError: It received another number of requests or products.
    """
    received = await job(handles)
    if received != expected:
        raise RuntimeError(f"{name} is wrong: (requests, products) {received}, expected {expected}")


def ratio(of: Sequence[Slice], to: Sequence[Slice], value: Callable[[Slice], float]) -> Spread:
    """Return the spread of the ratios within each round."""
    return Spread.of([value(a) / value(b) for a, b in zip(of, to, strict=True)])


def machine() -> dict[str, str]:
    """Return what the figures depend on: the machine and the versions."""
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    versions["SQLite"] = sqlite3.sqlite_version
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "server": "uvloop" if "uvloop" in versions else "asyncio",
        "date": time.strftime("%Y-%m-%d"),
    }


def options_of(about: str | None, *, quick: str) -> argparse.ArgumentParser:
    """Return a parser of the options that every benchmark takes.

    Args:
        about: What the benchmark is for.
        quick: How long it takes with ``--quick``.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help=f"{quick}, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    return parser


def tell_machine() -> dict[str, str]:
    """Print what the figures depend on; return it, for `write`."""
    about = machine()
    for name, text in about.items():
        print(f"{name}: {text}")
    return about


def write(file: Path | None, benchmark: str, about: Mapping[str, Any], rows: Sequence[Any]) -> None:
    """Write a benchmark's results as JSON, if there is a file for them."""
    if file is not None:
        result = {"benchmark": benchmark, **about, "rows": rows}
        file.write_text(json.dumps(result, indent=2) + "\n")


def allow_many_sockets(needed: int = 8192) -> None:
    """Raise the limit of open files, which the server inherits."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        top = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
