"""How near a run comes to the ideal rate, `width / latency`, when each answer takes 200 ms.

Ramp-up and tail do not count. All creators have the same two pages, so that each place of the width
takes every `width`-th of them; the rate is that between the second and the last creator that a
place takes, on the mean of all places. When a creator is taken is seen by the iterator that the
client pulls from, which is the same for both.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from bench_overhead import ASYNCSFK, YARDSTICK, both
from harness import Slice, Spread, allow_many_sockets, alternate, options_of, tell_machine, write
from server import LONGEST, PAGES, PRODUCTS_A_PAGE, handle_of, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    Job = Callable[[Iterable[str]], Awaitable[tuple[int, int]]]
    """Fetches creators' showcases; gives how many requests and products that were."""

WIDTHS: Final = (100, 500)
LATENCY: Final = 0.2
PAGES_EACH: Final = 2


class Watched:
    """A client that is watched while it takes creators."""

    def __init__(self, job: Job, *, width: int) -> None:
        self._job = job
        self._width = width
        self._taken: list[float] = []
        self.rates: list[float] = []
        """Requests a second in the middle of each slice, that of warming up first."""

    async def fetch(self, handles: Iterable[str]) -> tuple[int, int]:
        """Fetch all creators' products; gives how many requests and products that were."""
        self._taken = []
        received = await self._job(self._watch(handles))
        second = self._taken[self._width : 2 * self._width]
        last = self._taken[-self._width :]
        seconds = statistics.mean(last) - statistics.mean(second)
        self.rates.append((len(self._taken) - 2 * self._width) * PAGES_EACH / seconds)
        return received

    def _watch(self, handles: Iterable[str]) -> Iterator[str]:
        for handle in handles:
            self._taken.append(time.perf_counter())
            yield handle


async def compare(
    url: str, *, width: int, a_place: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[Slice]]]:
    """Measure both at one width, so many creators for each place of it.

    Returns:
        Requests a second in the middle of each slice, and the slices.
    """
    creators = width * a_place
    pages = creators * PAGES_EACH
    async with both(url, width=width) as (contender, yardstick):
        watched = {
            ASYNCSFK: Watched(contender.fetch, width=width),
            YARDSTICK: Watched(yardstick.fetch, width=width),
        }
        slices = await alternate(
            {name: one.fetch for name, one in watched.items()},
            # Every LONGEST-th creator has as many pages.
            [handle_of(LONGEST * number + PAGES_EACH - 1) for number in range(creators)],
            expected=(pages, pages * PRODUCTS_A_PAGE),
            seconds=0.0,
            least=rounds,
        )
    return {name: one.rates[1:] for name, one in watched.items()}, slices


def report(
    width: int, rates: dict[str, list[float]], slices: dict[str, list[Slice]]
) -> dict[str, Any]:
    """Print one line of the table; gives it as JSON."""
    ideal = width / LATENCY
    rate = {name: statistics.median(rates[name]) for name in rates}
    share = {name: rate[name] / ideal for name in rates}
    cpu = {name: 1e6 * statistics.median(s.cpu_a_request for s in slices[name]) for name in slices}
    beside = Spread.of([a / b for a, b in zip(rates[ASYNCSFK], rates[YARDSTICK], strict=True)])
    cells = [
        width,
        len(rates[ASYNCSFK]),
        f"{ideal:.0f}",
        f"{rate[ASYNCSFK]:.0f} / {rate[YARDSTICK]:.0f}",
        f"{share[ASYNCSFK]:.3f} / {share[YARDSTICK]:.3f}",
        f"{beside.median:.3f} ({beside.low:.3f} to {beside.high:.3f})",
        f"{cpu[ASYNCSFK]:.0f} / {cpu[YARDSTICK]:.0f}",
    ]
    print("|", " | ".join(map(str, cells)), "|", flush=True)
    return {
        "width": width,
        "rounds": len(rates[ASYNCSFK]),
        "ideal": ideal,
        "rate": rate,
        "share": share,
        "beside_yardstick": beside._asdict(),
        "cpu_us": cpu,
    }


def main() -> None:
    """Measure every width."""
    parser = options_of(__doc__, quick="some 10 s")
    options = parser.parse_args()
    rounds, a_place = (2, 4) if options.quick else (7, 16)
    widths = WIDTHS[:1] if options.quick else WIDTHS
    allow_many_sockets()
    about = tell_machine()
    print(
        f"\nPages of {PAGES[0]}, answers after {1000 * LATENCY:.0f} ms, {a_place * PAGES_EACH} in "
        "a row a slice; asyncsfk / yardstick, medians. Where\nthe yardstick falls short of the "
        "ideal as well, it is the core that is full.\n\n"
        "| width | pairs | ideal requests/s | requests/s | share of the ideal "
        "| asyncsfk / yardstick (quartiles) | us of CPU a request |\n"
        "|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    with serving(PAGES[0], latency=LATENCY) as url:
        for width in widths:
            found = asyncio.run(compare(url, width=width, a_place=a_place, rounds=rounds))
            rows.append(report(width, *found))
    write(options.json, "latency", {"latency": LATENCY, **about}, rows)


if __name__ == "__main__":
    main()
