"""What many handles cost a run in time and memory: streamed from a generator, outcomes dropped.

First the fan-out alone, with work that takes no time; then whole runs against the server; then how
little more memory four times the handles take, without an archive and with one. What counts is the
peak of memory, and how far it rises above that of a client that has fetched one showcase: so each
measurement has a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness import allow_many_sockets, options_of, tell_machine, write
from server import LONGEST, PAGES, PRODUCTS_A_PAGE, handle_of, pages_of, serving

from asyncsfk import Client
from asyncsfk._fanout import FanOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncsfk._fanout import Put

KEY: Final = "sfk_benchmark"
WIDTH: Final = 100
WIDE: Final = 500
TIMES: Final = 4
KEPT: Final = "run, with an archive"
TARGETS: Final = dict(zip(PAGES, (31.0, 63.0), strict=True))
"""MiB at the wider width, without an archive."""
MORE: Final = 0.1
"""By which share the memory may grow with `TIMES` times the handles, if that is over a MiB."""
MIB: Final = 1 << 20


class Cost(NamedTuple):
    """What a number of handles took."""

    handles: int
    pages: int
    cpu: float
    grown: float
    """MiB that the peak rose."""

    def as_row(self, what: str, page: str | None, width: int) -> dict[str, Any]:
        """Return this as JSON, and print it as a line of the table."""
        a_handle = 1e6 * self.cpu / self.handles
        a_page = 1e6 * self.cpu / self.pages if self.pages else None
        cells = [
            what,
            page or "",
            width,
            self.handles,
            f"{a_handle:.1f}",
            "" if a_page is None else f"{a_page:.1f}",
            f"{self.grown:.1f}",
        ]
        row = {
            "what": what,
            "page": page,
            "width": width,
            "handles": self.handles,
            "us_a_handle": a_handle,
            "us_a_page": a_page,
            "grown_mib": self.grown,
        }
        target = TARGETS.get(page or "") if width == WIDE and what != KEPT else None
        cells.append("" if target is None else f"<= {target:.0f}")
        print("|", " | ".join(map(str, cells)), "|", flush=True)
        return row


def numbers(count: int, *, short: bool) -> range:
    """Return the numbers of ``count`` creators; if ``short``, of such as have one page."""
    return range(0, count * LONGEST, LONGEST) if short else range(count)


def peak() -> float:
    """Return the most MiB that this process has taken so far."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource  # noqa: PLC0415 - not on Windows

    # In KiB, on macOS in bytes.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (MIB if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """Reset the peak to what is taken just now, where the system can do that."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


async def fan_out(count: int) -> Cost:
    """Measure the fan-out alone."""

    async def work(handle: str, put: Put[str]) -> None:
        await put(handle)

    forget_peak()
    before, cpu, received = peak(), time.process_time(), 0
    async for _ in FanOut(map(handle_of, range(count)), work, width=WIDTH):
        received += 1
    cpu = time.process_time() - cpu
    if received != count:
        raise RuntimeError(f"{received} results of {count} handles")
    return Cost(count, 0, cpu, peak() - before)


async def run(url: str, width: int, count: int, *, short: bool, archive: Path | None) -> Cost:
    """Measure a run against the server."""
    creators = numbers(count, short=short)
    async with Client(KEY, base_url=url, concurrency=width) as client:
        # Loads and allocates what is needed only once.
        await client.fetch_showcases([handle_of(0)])
        forget_peak()
        before, cpu = peak(), time.process_time()
        products, wanted = 0, sum(map(pages_of, creators))
        handles = map(handle_of, creators)
        async with client.showcases(handles, dedupe=False, archive=archive) as run:
            async for outcome in run:
                products += len(outcome.raise_for_error().products)
        cpu = time.process_time() - cpu
    if products != wanted * PRODUCTS_A_PAGE or run.usage.requests != wanted:
        raise RuntimeError(f"{products} products in {run.usage.requests} of {wanted} pages")
    return Cost(count, wanted, cpu, peak() - before)


def measure_fan_out(count: int) -> Cost:
    """Measure the fan-out alone, in this process."""
    return asyncio.run(fan_out(count))


def measure_run(url: str, width: int, count: int, short: bool = False) -> Cost:
    """Measure a run, in this process."""
    return asyncio.run(run(url, width, count, short=short, archive=None))


def measure_kept_run(url: str, width: int, count: int) -> Cost:
    """Measure a run into a new archive, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "run.sfk")
        return asyncio.run(run(url, width, count, short=False, archive=archive))


def apart(measure: Callable[..., Cost], *given: object) -> Cost:
    """Measure in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *given).result()


def main() -> None:
    """Measure the fan-out, runs, and their memory."""
    parser = options_of(__doc__, quick="some 20 s")
    options = parser.parse_args()
    quick: bool = options.quick
    allow_many_sockets()
    about = tell_machine()
    print(
        "\nMicroseconds are of CPU; MiB are how far the peak rose.\n\n"
        "| what | page | width | handles | us a handle | us a page | MiB grown | target |\n"
        "|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows = [
        apart(measure_fan_out, count).as_row("fan-out alone", None, WIDTH)
        for count in (10_000, 100_000, 1_000_000)[: 1 if quick else 3]
    ]
    with serving(PAGES[0]) as url:
        rows += [
            apart(measure_run, url, WIDTH, count).as_row("run", PAGES[0], WIDTH)
            for count in ((1_000,) if quick else (10_000, 100_000))
        ]
        if not quick:
            cost = apart(measure_run, url, WIDTH, 1_000_000, True)
            rows.append(cost.as_row("run, one page each", PAGES[0], WIDTH))
    few, few_kept, notes = (1_500, 250, []) if quick else (5_000, 2_000, [])
    for page in PAGES:
        with serving(page) as url:
            costs = [apart(measure_run, url, WIDE, few * times) for times in (1, TIMES)]
            rows += [cost.as_row("run", page, WIDE) for cost in costs]
            one, many = (cost.grown for cost in costs)
            notes.append(
                f"{page}: {many - one:+.1f} MiB, at most {max(1.0, MORE * one):.1f} wanted"
            )
            rows += [
                apart(measure_kept_run, url, width, few_kept * times).as_row(KEPT, page, width)
                for width in (WIDTH, WIDE)
                for times in (1, TIMES)
            ]
    print(f"\n{TIMES} times the handles, without an archive: {'; '.join(notes)}.")
    write(options.json, "fanout", about, rows)


if __name__ == "__main__":
    main()
