"""How near a run comes to the ideal rate, `width / latency`, when each answer takes 200 ms.

Ramp-up and tail do not count. All creators have two pages, so each place of the width takes every
`width`-th of them; the rate is that from the second to the last creator that a place takes, as the
mean of all places. The iterator that the client pulls from notes when each creator is taken; it is
the same for both.

With ``--errors`` a share of the answers is a 502, and is asked for again after a wait. Then only
asyncsfk is measured: the yardstick would end at the first.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from bench_overhead import ASYNCSFK, YARDSTICK, both
from harness import Slice, Spread, allow_many_sockets, alternate, options_of, tell_machine, write
from server import LONGEST, PAGES, PRODUCTS_A_PAGE, handle_of, serving

from asyncsfk import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    Job = Callable[[Iterable[str]], Awaitable[tuple[int, int]]]
    """Fetches creators' showcases; returns the numbers of pages and products."""

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
        """Pages a second in the middle of each slice, beginning with the warm-up."""

    async def fetch(self, handles: Iterable[str]) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of pages and products."""
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
    url: str, *, width: int, a_place: int, rounds: int, alone: bool
) -> tuple[dict[str, list[float]], dict[str, list[Slice]]]:
    """Measure both, or asyncsfk ``alone``, at one width, with ``a_place`` creators for each place.

    Returns:
        Pages a second in the middle of each slice, and the slices.
    """
    creators = width * a_place
    pages = creators * PAGES_EACH
    # One page in a hundred thousand fails three times in a row, which would end the benchmark.
    retry = Retry(server_errors=9) if alone else Retry()
    async with both(url, width=width, retry=retry) as (contender, yardstick):
        watched = {ASYNCSFK: Watched(contender.fetch, width=width)}
        if not alone:
            watched[YARDSTICK] = Watched(yardstick.fetch, width=width)
        slices = await alternate(
            {name: one.fetch for name, one in watched.items()},
            # Every LONGEST-th creator has the same number of pages.
            [handle_of(LONGEST * number + PAGES_EACH - 1) for number in range(creators)],
            expected=(pages, pages * PRODUCTS_A_PAGE),
            seconds=0.0,
            least=rounds,
        )
    return {name: one.rates[1:] for name, one in watched.items()}, slices


def report(
    width: int, rates: dict[str, list[float]], slices: dict[str, list[Slice]]
) -> dict[str, Any]:
    """Print one line of the table; return it as JSON."""
    ideal = width / LATENCY
    rate = {name: statistics.median(rates[name]) for name in rates}
    share = {name: rate[name] / ideal for name in rates}
    cpu = {name: 1e6 * statistics.median(s.cpu_a_request for s in slices[name]) for name in slices}
    row = {
        "width": width,
        "rounds": len(rates[ASYNCSFK]),
        "ideal": ideal,
        "rate": rate,
        "share": share,
        "cpu_us": cpu,
    }
    beside = ""
    if YARDSTICK in rates:
        pairs = zip(rates[ASYNCSFK], rates[YARDSTICK], strict=True)
        spread = Spread.of([ours / theirs for ours, theirs in pairs])
        row["beside_yardstick"] = spread._asdict()
        beside = f"{spread.median:.3f} ({spread.low:.3f} to {spread.high:.3f})"
    cells = [
        width,
        len(rates[ASYNCSFK]),
        f"{ideal:.0f}",
        " / ".join(f"{one:.0f}" for one in rate.values()),
        " / ".join(f"{one:.3f}" for one in share.values()),
        beside,
        " / ".join(f"{one:.0f}" for one in cpu.values()),
    ]
    print("|", " | ".join(map(str, cells)), "|", flush=True)
    return row


def main() -> None:
    """Measure every width."""
    parser = options_of(__doc__, quick="some 10 s")
    parser.add_argument("--errors", type=float, default=0.0, help="the share of answers that fail")
    options = parser.parse_args()
    rounds, a_place = (2, 4) if options.quick else (7, 16)
    widths = WIDTHS[:1] if options.quick else WIDTHS
    errors: float = options.errors
    allow_many_sockets()
    about = tell_machine()
    print(
        f"\nPages of {PAGES[0]}, answers after {1000 * LATENCY:.0f} ms, {a_place * PAGES_EACH} in "
        f"a row a slice{f', {errors:.1%} of them failures' if errors else ''}; asyncsfk / "
        "yardstick, medians. Where\nthe yardstick falls short of the ideal as well, it is the "
        "machine.\n\n"
        "| width | pairs | ideal pages/s | pages/s | share of the ideal "
        "| asyncsfk / yardstick (quartiles) | us of CPU a page |\n"
        "|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    with serving(PAGES[0], latency=LATENCY, errors=errors) as url:
        for width in widths:
            found = asyncio.run(
                compare(url, width=width, a_place=a_place, rounds=rounds, alone=errors > 0)
            )
            rows.append(report(width, *found))
    write(options.json, "latency", {"latency": LATENCY, "errors": errors, **about}, rows)


if __name__ == "__main__":
    main()
