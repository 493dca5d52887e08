"""What asyncsfk costs beside what users would take instead: CPU and requests a second, as ratios.

Each line is a client divided by asyncsfk, which has its rate limiter on: CPU above 1 means that the
client needs more of it than asyncsfk.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from bench_overhead import KEY, Contender
from harness import Slice, allow_many_sockets, alternate, options_of, ratio, tell_machine, write
from peers import PEERS, RATE
from server import PAGES, PRODUCTS_A_PAGE, creators_with, serving
from yardstick import Yardstick

from asyncsfk import Client

if TYPE_CHECKING:
    from harness import Job

ASYNCSFK, AGAIN, YARDSTICK = "asyncsfk", "asyncsfk again", "yardstick (aiohttp + msgspec)"


def versions() -> dict[str, str]:
    """Return the versions of the peers' libraries."""
    found = {}
    for name in sorted({name for peer in PEERS for name in peer.needs}):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    with contextlib.suppress(ImportError, PackageNotFoundError):
        # What requests runs on. Where niquests is installed, this is not the urllib3 that was
        # installed: niquests puts urllib3-future in its place.
        found["urllib3"] = import_module("urllib3").__version__
        if found["urllib3"] != version("urllib3"):
            found["urllib3"] += " (urllib3-future)"
    return found


async def compare(
    url: str, *, width: int, requests: int, seconds: float, least: int
) -> dict[str, list[Slice]]:
    """Measure all contenders against each other."""
    handles, pages = creators_with(requests)
    jobs: dict[str, Job] = {}
    async with AsyncExitStack() as stack:
        for name in (ASYNCSFK, AGAIN):
            client = Client(KEY, base_url=url, concurrency=width, rate=RATE)
            jobs[name] = Contender(await stack.enter_async_context(client), width=width).fetch
        yardstick = Yardstick(url, key=KEY, width=width)
        jobs[YARDSTICK] = (await stack.enter_async_context(yardstick)).fetch
        for kind in PEERS:
            if not kind.missing():
                peer = await stack.enter_async_context(kind(url, key=KEY, width=width))
                jobs[kind.name] = peer.fetch
        return await alternate(
            jobs,
            handles,
            expected=(pages, pages * PRODUCTS_A_PAGE),
            seconds=seconds,
            least=least,
        )


def report(page: str, width: int, name: str, slices: dict[str, list[Slice]]) -> dict[str, Any]:
    """Print one line of the table; return it as JSON."""
    theirs, ours = slices[name], slices[ASYNCSFK]
    cpu = ratio(theirs, ours, lambda one: one.cpu_a_request)
    rate = ratio(theirs, ours, lambda one: one.rate)
    # The best slice is the one that the neighbours disturbed least.
    best = min(one.cpu_a_request for one in theirs) * 1e6
    ratios = ("1", "1") if name == ASYNCSFK else (cpu, rate)
    print("|", " | ".join(map(str, (page, name, len(theirs), *ratios, f"{best:.0f}"))), "|")
    return {
        "page": page,
        "width": width,
        "client": name,
        "rounds": len(theirs),
        "cpu": cpu._asdict(),
        "rate": rate._asdict(),
        "best_cpu_us": best,
        "best_rate": max(one.rate for one in theirs),
    }


def main() -> None:
    """Measure every page size."""
    parser = options_of(__doc__.partition("\n")[0], quick="under 30 s")
    parser.add_argument("--width", type=int, default=50, help="creators at once")
    options = parser.parse_args()
    # Seconds and rounds for each page size, and requests a slice for each place of the width.
    seconds, least, a_place = (1.0, 2, 4) if options.quick else (40.0, 8, 8)
    allow_many_sockets()
    about = tell_machine()
    peers = versions()
    left_out = {peer.name: peer.missing() for peer in PEERS if peer.missing()}
    print("peers:", ", ".join(f"{name} {number}" for name, number in peers.items()))
    print(
        f"\nclient / asyncsfk at width {options.width}: median (quartiles) of the ratios of paired "
        f"slices; {AGAIN!r} is the noise.\n\n"
        "| page | client | rounds | CPU a request | requests/s | best us a request |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    for page in PAGES:
        with serving(page) as url:
            slices = asyncio.run(
                compare(
                    url,
                    width=options.width,
                    requests=a_place * options.width,
                    seconds=seconds,
                    least=least,
                )
            )
        rows += [report(page, options.width, name, slices) for name in slices]
        for name, names in left_out.items():
            print(f"| {page} | {name} | left out: not installed: {', '.join(names)} | | | |")
    about_peers = {"width": options.width, "peers": peers, "left_out": left_out}
    write(options.json, "peers", about_peers | about, rows)


if __name__ == "__main__":
    main()
