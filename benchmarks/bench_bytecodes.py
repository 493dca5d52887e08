"""Bytecodes a request: what Python has to run for one, whatever the state of the machine.

Unlike a time, a count is nearly the same in every run, but it says nothing of what C takes, nor of
waiting for memory. It shows where there is work to save, and tells a small change from none at all.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import multidict
import yarl
from bench_archive import Keeper
from bench_overhead import ASYNCSFK, YARDSTICK, both
from harness import options_of, receive, tell_machine, write
from server import PAGES, PRODUCTS_A_PAGE, creators_with, serving

import asyncsfk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, FrameType

    from harness import Job

WIDTH: Final = 50
WITH_ARCHIVE: Final = "asyncsfk, with an archive"
PARTS: Final = ("asyncsfk", "aiohttp", "asyncio", "other")
FOLDERS: Final = {
    Path(inspect.getfile(module)).parent: part
    for part, modules in {
        "asyncsfk": [asyncsfk],
        "aiohttp": [aiohttp, multidict, yarl],
        "asyncio": [asyncio],
    }.items()
    for module in modules
}
"""Which part of the program the source files below a folder belong to; all else is ``other``."""


class Meter:
    """Counts the bytecodes of this thread, by the part of the program that they belong to."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._parts: dict[CodeType, str] = {}

    def __enter__(self) -> Counter[str]:
        # Python 3.12 traces bytecodes only if a frame has asked for them before `settrace`.
        if (frame := inspect.currentframe()) is not None:
            frame.f_trace_opcodes = True
        sys.settrace(self._call)
        return self.counts

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        code = frame.f_code
        part = self._parts.get(code) or self._parts.setdefault(code, part_of(code.co_filename))

        def trace(_frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401
            self.counts[part] += event == "opcode"
            return trace

        return trace


def part_of(file: str) -> str:
    """Return which part of the program a source file belongs to."""
    return next((FOLDERS[folder] for folder in Path(file).parents if folder in FOLDERS), "other")


async def count(
    name: str, job: Job, handles: Sequence[str], expected: tuple[int, int]
) -> dict[str, float]:
    """Return how many bytecodes a request takes, by part; connections are opened before."""
    await receive(name, job, handles, expected)
    with Meter() as counts:
        await receive(name, job, handles, expected)
    return {part: counts[part] / expected[0] for part in PARTS}


async def compare(url: str, requests: int) -> dict[str, dict[str, float]]:
    """Count for the yardstick, for asyncsfk as it comes, and with an archive."""
    handles, pages = creators_with(requests)
    expected = (pages, pages * PRODUCTS_A_PAGE)
    with tempfile.TemporaryDirectory() as folder:
        async with both(url, width=WIDTH) as (contender, yardstick):
            jobs: dict[str, Job] = {
                YARDSTICK: yardstick.fetch,
                ASYNCSFK: contender.fetch,
                WITH_ARCHIVE: Keeper(contender, Path(folder), "full").fetch,
            }
            return {name: await count(name, job, handles, expected) for name, job in jobs.items()}


def main() -> None:
    """Print the table."""
    options = options_of(__doc__, quick="5 s").parse_args()
    about = tell_machine()
    with serving(PAGES[0]) as url:
        counted = asyncio.run(compare(url, 100 if options.quick else 400))
    print(f"\nBytecodes a request; width {WIDTH}, pages of {PAGES[0]}, the event loop's thread.\n")
    print("| client |", " | ".join(PARTS), "| all | beside the yardstick |")
    print("|---|", "---|" * len(PARTS), "---|---|", sep="")
    whole = {name: sum(parts.values()) for name, parts in counted.items()}
    rows = []
    for name, parts in counted.items():
        beside = whole[name] / whole[YARDSTICK]
        cells = [f"{parts[part]:.0f}" for part in PARTS]
        print("|", " | ".join([name, *cells, f"{whole[name]:.0f}", f"{beside:.2f}"]), "|")
        rows.append({"client": name, "bytecodes": parts, "all": whole[name], "beside": beside})
    write(options.json, "bytecodes", about, rows)


if __name__ == "__main__":
    main()
