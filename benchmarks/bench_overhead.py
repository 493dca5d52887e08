"""What asyncsfk costs beside the yardstick: CPU a request and requests a second, as ratios."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from harness import Slice, allow_many_sockets, alternate, options_of, ratio, tell_machine, write
from server import GZIPPED, PAGES, PRODUCTS_A_PAGE, creators_with, serving
from yardstick import Yardstick

from asyncsfk import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from harness import Spread

    from asyncsfk import Archive

WIDTHS: Final = (10, 50, 500)
KEY: Final = "sfk_benchmark"
ASYNCSFK, YARDSTICK, AGAIN = "asyncsfk", "yardstick", "yardstick again"
BORROWED = "asyncsfk, borrowed session"


class Contender:
    """asyncsfk as users run it: a run over many creators, everything on."""

    def __init__(self, client: Client, *, width: int) -> None:
        self._client = client
        self._width = width

    async def fetch(
        self, handles: Iterable[str], archive: Archive | None = None
    ) -> tuple[int, int]:
        """Fetch all creators' products; gives how many requests and products that were."""
        products = 0
        async with self._client.showcases(handles, concurrency=self._width, archive=archive) as run:
            async for outcome in run:
                products += len(outcome.raise_for_error().products)
        return run.usage.requests, products


@asynccontextmanager
async def both(
    url: str, *, width: int, rate: float | None = None
) -> AsyncIterator[tuple[Contender, Yardstick]]:
    """Open asyncsfk and the yardstick at one width."""
    async with (
        Client(KEY, base_url=url, concurrency=width, rate=rate) as client,
        Yardstick(url, key=KEY, width=width) as yardstick,
    ):
        yield Contender(client, width=width), yardstick


async def compare(
    url: str, *, width: int, requests: int, seconds: float, rate: float | None
) -> dict[str, list[Slice]]:
    """Measure asyncsfk beside the yardstick, and the yardstick beside itself, at one width."""
    handles, pages = creators_with(requests)
    async with (
        both(url, width=width, rate=rate) as (contender, one),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        Client(KEY, base_url=url, concurrency=width, rate=rate, session=session) as borrower,
        Yardstick(url, key=KEY, width=width) as other,
    ):
        return await alternate(
            {
                ASYNCSFK: contender.fetch,
                BORROWED: Contender(borrower, width=width).fetch,
                YARDSTICK: one.fetch,
                AGAIN: other.fetch,
            },
            handles,
            expected=(pages, pages * PRODUCTS_A_PAGE),
            seconds=seconds,
        )


def report(page: str, width: int, slices: dict[str, list[Slice]]) -> dict[str, Any]:
    """Print one line of the table; gives it as JSON."""
    ours, theirs, again = slices[ASYNCSFK], slices[YARDSTICK], slices[AGAIN]
    spreads: dict[str, Spread] = {
        "cpu": ratio(ours, theirs, lambda one: one.cpu_a_request),
        "rate": ratio(ours, theirs, lambda one: one.rate),
        "cpu_borrowed": ratio(slices[BORROWED], theirs, lambda one: one.cpu_a_request),
        "cpu_noise": ratio(again, theirs, lambda one: one.cpu_a_request),
        "rate_noise": ratio(again, theirs, lambda one: one.rate),
    }
    # The best slice is the one that the neighbours disturbed least.
    cpu = {name: min(one.cpu_a_request for one in slices[name]) * 1e6 for name in slices}
    rate = {name: max(one.rate for one in slices[name]) for name in slices}
    cells = [
        page,
        width,
        len(ours),
        *spreads.values(),
        f"{cpu[ASYNCSFK]:.0f} / {cpu[YARDSTICK]:.0f}",
        f"{rate[ASYNCSFK]:.0f} / {rate[YARDSTICK]:.0f}",
    ]
    print("|", " | ".join(map(str, cells)), "|", flush=True)
    return {
        "page": page,
        "width": width,
        "rounds": len(ours),
        "best_cpu_us": cpu,
        "best_rate": rate,
        **{name: spread._asdict() for name, spread in spreads.items()},
    }


def main() -> None:
    """Measure every page size at every width."""
    parser = options_of(__doc__, quick="some 10 s")
    parser.add_argument("--rate", type=float, help="asyncsfk's rate limiter; above the load")
    options = parser.parse_args()
    # Seconds for each line of the table, and requests a slice for each place of the width.
    seconds, least, a_place = (0.5, 250, 1) if options.quick else (30.0, 800, 4)
    pages = (PAGES[0], GZIPPED[-1]) if options.quick else PAGES + GZIPPED
    allow_many_sockets()
    about = tell_machine()
    print(
        "\nasyncsfk / yardstick: median (quartiles) of the ratios of paired slices; noise is the "
        "yardstick / itself.\n\n"
        "| page | width | pairs | CPU a request | requests/s | CPU, borrowed session | CPU, noise "
        "| requests/s, noise | best us a request | best requests/s |\n"
        "|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    requests, before = 0, os.times()
    for page in pages:
        with serving(page) as url:
            for width in WIDTHS:
                slices = asyncio.run(
                    compare(
                        url,
                        width=width,
                        requests=max(least, a_place * width),
                        seconds=seconds,
                        rate=options.rate,
                    )
                )
                rows.append(report(page, width, slices))
                requests += sum(one.requests for many in slices.values() for one in many)
    after = os.times()
    served = after.children_user + after.children_system
    served -= before.children_user + before.children_system
    # The warming up is in it, so it is a little less.
    print(f"\nThe server took {1e6 * served / requests:.0f} us of CPU a request at most.")
    write(options.json, "overhead", {"rate": options.rate, **about}, rows)


if __name__ == "__main__":
    main()
