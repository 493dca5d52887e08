"""How well the client's rate limiter keeps to the rate: what it achieves, and its worst second.

Tasks enter and leave the gate of a real client without end, so that the same number wait for the
rate at any time; nothing is sent. The share achieved is measured after the beginning, once the
burst is spent. The worst second is the fullest of all, including the burst at the beginning, which
is a twentieth of a second's requests: hence the target.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, NoReturn

from harness import options_of, tell_machine, write

from asyncsfk import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncsfk._gate import Gate

RATES: Final = (100, 1000, 5000)
WAITERS: Final = (500, 5000)
SKIPPED: Final = 0.5
"""Seconds at the beginning that are not steady yet."""
LEAST_ACHIEVED: Final = 0.99
WORST_SECOND: Final = 1.05


async def record_starts(*, rate: int, waiters: int, seconds: float) -> tuple[list[float], float]:
    """Return when requests could start, in seconds from the beginning, and the steady CPU time."""
    loop = asyncio.get_running_loop()
    starts: list[float] = []

    async def wait(gate: Gate) -> NoReturn:
        while True:
            await gate.enter()
            starts.append(loop.time())
            gate.succeeded()
            gate.leave()

    # Nobody listens there, and nothing is sent.
    async with Client("sfk_benchmark", base_url="http://127.0.0.1:9", rate=rate) as client:
        gate = client._parts().gate  # noqa: SLF001 - the client's own, made as it makes it
        # So wide that they wait for nothing but the rate.
        gate.set_ceiling(waiters)
        began = loop.time()
        tasks = [asyncio.create_task(wait(gate)) for _ in range(waiters)]
        await asyncio.sleep(SKIPPED)
        cpu = time.process_time()
        await asyncio.sleep(seconds)
        cpu = time.process_time() - cpu
        for task in tasks:
            task.cancel()
        faults = [
            fault
            for fault in await asyncio.gather(*tasks, return_exceptions=True)
            if not isinstance(fault, asyncio.CancelledError)
        ]
    if faults:
        raise RuntimeError(f"a waiter ended: {faults[0]!r}")
    return [start - began for start in starts if start - began < SKIPPED + seconds], cpu


def fullest_second(starts: Sequence[float]) -> int:
    """Return how many starts there are in the fullest second, wherever it begins."""
    return max(bisect_left(starts, start + 1.0) - index for index, start in enumerate(starts))


def measure(*, rate: int, waiters: int, seconds: float) -> dict[str, Any]:
    """Measure one rate, and print its line of the table; return it as JSON."""
    starts, cpu = asyncio.run(record_starts(rate=rate, waiters=waiters, seconds=seconds))
    first = bisect_left(starts, SKIPPED)
    steady = len(starts) - first
    row = {
        "rate": rate,
        "waiters": waiters,
        "achieved": steady / seconds / rate,
        "worst_second": fullest_second(starts) / rate,
        "worst_steady_second": fullest_second(starts[first:]) / rate,
        "cpu_us": 1e6 * cpu / steady,
    }
    print(
        f"| {rate} | {waiters} | {row['achieved']:.3f} | {row['worst_second']:.3f} "
        f"| {row['worst_steady_second']:.3f} | {row['cpu_us']:.0f} |",
        flush=True,
    )
    return row


def main() -> None:
    """Measure every rate with every number of waiters."""
    parser = options_of(__doc__, quick="some 12 s")
    options = parser.parse_args()
    seconds = 1.5 if options.quick else 5.0
    about = tell_machine()
    print(
        f"\nShares of the rate asked for, over {seconds} s; targets: achieved >= {LEAST_ACHIEVED}, "
        f"worst second <= {WORST_SECOND}.\n\n"
        "| rate | waiters | achieved | worst second | worst after the first burst "
        "| us of CPU a start |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    rows = [
        measure(rate=rate, waiters=waiters, seconds=seconds)
        for rate in RATES
        for waiters in WAITERS
    ]
    write(options.json, "limiter", {"seconds": seconds, **about}, rows)


if __name__ == "__main__":
    main()
