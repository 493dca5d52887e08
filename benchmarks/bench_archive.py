"""What an archive costs a run: CPU a page and pages a second, with and without.

Beside it runs the yardstick with the plainest archive, which tells how much of that SQLite takes at
the least.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench_overhead import KEY, YARDSTICK, Contender, both
from harness import Slice, allow_many_sockets, alternate, options_of, ratio, tell_machine, write
from server import GZIPPED, PAGES, PRODUCTS_A_PAGE, creators_with, serving
from yardstick_archive import KeepingYardstick

from asyncsfk import Archive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Job

    from asyncsfk._store._file import Durability

WIDTHS: Final = (50, 500)
WITHOUT: Final = "without"
BY_HAND: Final = "yardstick with an archive"
DURABILITIES: Final[tuple[Durability, ...]] = ("full", "normal")


class Keeper:
    """A run over many creators into a new archive each time."""

    def __init__(self, contender: Contender, folder: Path, durability: Durability) -> None:
        self._contender = contender
        self._path = folder / f"{durability}.sfk"
        self._durability: Durability = durability

    async def fetch(self, handles: Sequence[str]) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of requests and products."""
        self._path.unlink(missing_ok=True)
        async with Archive(self._path, durability=self._durability) as archive:
            return await self._contender.fetch(handles, archive)

    def kept(self) -> int:
        """Return how many products the last archive has; blocks."""
        return sum(1 for _ in Archive(self._path).products())


async def compare(
    url: str, folder: Path, *, width: int, requests: int, seconds: float
) -> dict[str, list[Slice]]:
    """Measure runs with and without an archive, beside the yardstick, at one width."""
    handles, pages = creators_with(requests)
    async with (
        both(url, width=width) as (contender, yardstick),
        KeepingYardstick(url, key=KEY, width=width, path=folder / "by-hand.db") as by_hand,
    ):
        jobs: dict[str, Job] = {
            YARDSTICK: yardstick.fetch,
            BY_HAND: by_hand.fetch,
            WITHOUT: contender.fetch,
        }
        keepers: dict[str, Keeper | KeepingYardstick] = {BY_HAND: by_hand}
        for durability in DURABILITIES:
            keepers[durability] = Keeper(contender, folder, durability)
            jobs[durability] = keepers[durability].fetch
        products = pages * PRODUCTS_A_PAGE
        slices = await alternate(jobs, handles, expected=(pages, products), seconds=seconds)
        for name, keeper in keepers.items():
            if (kept := await asyncio.to_thread(keeper.kept)) != products:
                raise RuntimeError(f"{name} is wrong: {kept} products kept, expected {products}")
        return slices


def report(page: str, width: int, slices: dict[str, list[Slice]]) -> list[dict[str, Any]]:
    """Print a line of the table for each durability; return them as JSON."""
    rows = []
    for durability in DURABILITIES:
        ours, without, theirs = slices[durability], slices[WITHOUT], slices[YARDSTICK]
        by_hand = ratio(slices[BY_HAND], theirs, lambda one: one.cpu_a_request)
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
            by_hand,
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
                "cpu_by_hand_beside_yardstick": by_hand._asdict(),
                "best_rate": best,
            }
        )
    return rows


def main() -> None:
    """Measure every page size at every width."""
    parser = options_of(__doc__, quick="some 10 s")
    parser.add_argument(
        "--folder", type=Path, help="where the archives go, to measure another disk"
    )
    options = parser.parse_args()
    seconds, least, a_place = (2.0, 250, 1) if options.quick else (30.0, 2000, 4)
    pages = (PAGES[0], GZIPPED[0]) if options.quick else PAGES + GZIPPED
    widths = WIDTHS[:1] if options.quick else WIDTHS
    allow_many_sockets()
    about = tell_machine()
    print(
        "\nWith an archive / without: median (quartiles) of the ratios of paired slices.\n\n"
        "| page | width | durability | pairs | CPU a page | pages/s | us of CPU a page added "
        "| in the archive's threads | CPU beside the yardstick | the yardstick with an archive "
        "| best pages/s |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|",
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
    write(options.json, "archive", about, rows)


if __name__ == "__main__":
    main()
