"""What an archive costs a run: CPU a page and pages a second, with and without."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness import Slice, allow_many_sockets, alternate, machine, ratio
from server import GZIPPED, PAGES, PRODUCTS_A_PAGE, handle_of, pages_of, serving
from yardstick import Yardstick

from asyncsfk import Archive, Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncsfk._store._file import Durability

WIDTHS: Final = (50, 500)
KEY: Final = "sfk_benchmark"
YARDSTICK, WITHOUT = "yardstick", "without"
DURABILITIES: Final[tuple[Durability, ...]] = ("full", "normal")


class Contender:
    """A run over many creators, without an archive or into a new one each time."""

    def __init__(
        self, client: Client, *, width: int, folder: Path, durability: Durability | None = None
    ) -> None:
        self._client = client
        self._width = width
        self._durability = durability
        self._folder = folder

    async def fetch(self, handles: Sequence[str]) -> tuple[int, int]:
        """Fetch all creators' products; gives how many requests and products that were."""
        if self._durability is None:
            return await self._fetch(handles, None)
        path = self._folder / f"{self._durability}.sfk"
        path.unlink(missing_ok=True)
        async with Archive(path, durability=self._durability) as archive:
            return await self._fetch(handles, archive)

    async def _fetch(self, handles: Sequence[str], archive: Archive | None) -> tuple[int, int]:
        products = 0
        async with self._client.showcases(handles, concurrency=self._width, archive=archive) as run:
            async for outcome in run:
                products += len(outcome.raise_for_error().products)
        return run.usage.requests, products


async def compare(
    url: str, folder: Path, *, width: int, requests: int, seconds: float
) -> dict[str, list[Slice]]:
    """Measure runs with and without an archive, beside the yardstick, at one width."""
    creators, pages = 0, 0
    while pages < requests:
        pages += pages_of(creators)
        creators += 1
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(KEY, base_url=url, concurrency=width))
        yardstick = await stack.enter_async_context(Yardstick(url, key=KEY, width=width))
        jobs = {
            YARDSTICK: yardstick.fetch,
            WITHOUT: Contender(client, width=width, folder=folder).fetch,
        }
        for durability in DURABILITIES:
            jobs[durability] = Contender(
                client, width=width, folder=folder, durability=durability
            ).fetch
        return await alternate(
            jobs,
            [handle_of(number) for number in range(creators)],
            expected=(pages, pages * PRODUCTS_A_PAGE),
            seconds=seconds,
        )


def report(page: str, width: int, slices: dict[str, list[Slice]]) -> list[dict[str, Any]]:
    """Print a line of the table for each durability; gives them as JSON."""
    rows = []
    for durability in DURABILITIES:
        ours, without, theirs = slices[durability], slices[WITHOUT], slices[YARDSTICK]
        cpu = ratio(ours, without, lambda one: one.cpu_a_request)
        rate = ratio(ours, without, lambda one: one.rate)
        beside = ratio(ours, theirs, lambda one: one.cpu_a_request)
        added = sorted(
            1e6 * (a.cpu_a_request - b.cpu_a_request) for a, b in zip(ours, without, strict=True)
        )
        best = max(one.rate for one in ours)
        middle = added[len(added) // 2]
        threads = 1e6 * statistics.median(one.threads_a_request for one in ours)
        cells = [
            page,
            width,
            durability,
            len(ours),
            cpu,
            rate,
            f"{middle:.0f}",
            f"{threads:.0f}",
            beside,
            f"{best:.0f}",
        ]
        print("|", " | ".join(map(str, cells)), "|", flush=True)
        rows.append(
            {
                "page": page,
                "width": width,
                "durability": durability,
                "rounds": len(ours),
                "cpu": cpu._asdict(),
                "rate": rate._asdict(),
                "added_us": middle,
                "threads_us": threads,
                "cpu_beside_yardstick": beside._asdict(),
                "best_rate": best,
            }
        )
    return rows


def main() -> None:
    """Measure every page size at every width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some 10 s, for a first look")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--folder", type=Path, help="where the archives go, to measure another disk"
    )
    options = parser.parse_args()
    seconds, least, a_place = (2.0, 250, 1) if options.quick else (25.0, 800, 3)
    pages = (PAGES[0], GZIPPED[0]) if options.quick else PAGES + GZIPPED
    widths = WIDTHS[:1] if options.quick else WIDTHS
    allow_many_sockets()
    about = machine()
    for name, text in about.items():
        print(f"{name}: {text}")
    print(
        "\nWith an archive / without: median (quartiles) of the ratios of paired slices.\n\n"
        "| page | width | durability | pairs | CPU a page | pages/s | us of CPU a page added "
        "| in the archive's threads | CPU beside the yardstick | best pages/s |\n"
        "|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for page in pages:
            with serving(page) as url:
                for width in widths:
                    requests = max(least, a_place * width)
                    slices = asyncio.run(
                        compare(url, Path(folder), width=width, requests=requests, seconds=seconds)
                    )
                    rows += report(page, width, slices)
    if options.json is not None:
        result = {"benchmark": "archive", **about, "rows": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
