"""What asyncsfk costs beside the yardstick: CPU a request and requests a second, as ratios.

asyncsfk has everything on, including two things that are off by default: a rate limiter, set above
the load, and a listener for events.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from authority import CERTIFICATE, run_under_authority
from harness import Slice, allow_many_sockets, alternate, options_of, ratio, tell_machine, write
from server import GZIPPED, PAGES, PRODUCTS_A_PAGE, creators_with, serving
from yardstick import Yardstick

from asyncsfk import Client, Retry

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterable

    from harness import Spread

    from asyncsfk import Archive

WIDTHS: Final = (10, 50, 500)
KEY: Final = "sfk_benchmark"
ASYNCSFK, YARDSTICK, AGAIN = "asyncsfk", "yardstick", "yardstick again"
BORROWED = "asyncsfk, borrowed session"


RATE: Final = 100_000.0
"""Requests a second that the limiter lets through: above any load."""


class Contender:
    """asyncsfk as users run it: a run over many creators."""

    def __init__(self, client: Client, *, width: int) -> None:
        self._client = client
        self._width = width

    async def fetch(
        self, handles: Iterable[str], archive: Archive | None = None
    ) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of pages and products."""
        products = 0
        async with self._client.showcases(handles, concurrency=self._width, archive=archive) as run:
            async for outcome in run:
                products += len(outcome.raise_for_error().products)
        return run.usage.pages, products


def client_of(
    url: str,
    *,
    width: int,
    everything: bool,
    session: aiohttp.ClientSession | None = None,
    retry: Retry = Retry(),  # noqa: B008 - frozen
) -> Client:
    """Return a client with its defaults; with ``everything``, a rate limiter and events as well."""
    return Client(
        KEY,
        base_url=url,
        concurrency=width,
        session=session,
        retry=retry,
        rate=RATE if everything else None,
        on_event=(lambda _: None) if everything else None,
    )


@asynccontextmanager
async def both(
    url: str,
    *,
    width: int,
    everything: bool = False,
    retry: Retry = Retry(),  # noqa: B008 - frozen
) -> AsyncIterator[tuple[Contender, Yardstick]]:
    """Open asyncsfk and the yardstick at one width."""
    async with (
        client_of(url, width=width, everything=everything, retry=retry) as client,
        Yardstick(url, key=KEY, width=width) as yardstick,
    ):
        yield Contender(client, width=width), yardstick


async def compare(
    url: str, *, width: int, requests: int, seconds: float, everything: bool
) -> dict[str, list[Slice]]:
    """Measure asyncsfk beside the yardstick, and the yardstick beside itself, at one width."""
    handles, pages = creators_with(requests)
    async with (
        both(url, width=width, everything=everything) as (contender, one),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        client_of(url, width=width, everything=everything, session=session) as borrower,
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
    """Print one line of the table; return it as JSON."""
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
    parser.add_argument(
        "--defaults", action="store_true", help="without a rate limiter and a listener for events"
    )
    parser.add_argument("--tls", action="store_true", help="over TLS")
    options = parser.parse_args()
    if options.tls:
        run_under_authority()
    measure(options, Path(os.environ[CERTIFICATE]) if options.tls else None)


def measure(options: argparse.Namespace, certificate: Path | None) -> None:
    """Measure against a server that speaks TLS if it has a certificate."""
    # Seconds for each line of the table, and requests a slice for each place of the width.
    seconds, least, a_place = (0.5, 250, 1) if options.quick else (30.0, 800, 4)
    pages = (PAGES[0], GZIPPED[-1]) if options.quick else PAGES + GZIPPED
    widths = WIDTHS[:2] if options.quick else WIDTHS
    allow_many_sockets()
    about = tell_machine()
    everything = not options.defaults
    given = {"rate": RATE if everything else None, "events": everything, "tls": options.tls}
    print(
        f"asyncsfk: {'everything on' if everything else 'its defaults'}"
        f"{', over TLS' if options.tls else ''}\n\n"
        "asyncsfk / yardstick: median (quartiles) of the ratios of paired slices; noise is the "
        "yardstick / itself.\n\n"
        "| page | width | pairs | CPU a request | requests/s | CPU, borrowed session | CPU, noise "
        "| requests/s, noise | best us a request | best requests/s |\n"
        "|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    requests, before = 0, os.times()
    for page in pages:
        with serving(page, certificate=certificate) as url:
            for width in widths:
                slices = asyncio.run(
                    compare(
                        url,
                        width=width,
                        requests=max(least, a_place * width),
                        seconds=seconds,
                        everything=everything,
                    )
                )
                rows.append(report(page, width, slices))
                requests += sum(one.requests for many in slices.values() for one in many)
    after = os.times()
    served = after.children_user + after.children_system
    served -= before.children_user + before.children_system
    # This includes the warm-up, so the true figure is a little lower.
    print(f"\nThe server took {1e6 * served / requests:.0f} us of CPU a request at most.")
    write(options.json, "overhead", {**given, **about}, rows)


if __name__ == "__main__":
    main()
