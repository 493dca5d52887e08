"""Fetch the showcases of many creators under a ceiling of credits, and write them to a file.

    python bulk_to_jsonl.py [FILE_WITH_A_HANDLE_A_LINE]

showcases.sfk keeps every page that was paid for. Interrupt this, kill it, run out of credits or add
handles: when you run it again, it buys only what is missing. products.jsonl is then written anew
from the archive, with a line for each product.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from asyncsfk import Archive, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATORS = ["mrbeast", "@CharliDamelio", "@khaby.lame", "zachking", "spencerx"]
ARCHIVE = Path("showcases.sfk")
PRODUCTS = Path("products.jsonl")
MAX_CREDITS = 1_000
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def read_handles() -> Iterator[str]:
    """Yield the handles one by one."""
    if len(sys.argv) > 1:
        with Path(sys.argv[1]).open(encoding="utf-8-sig") as lines:
            yield from filter(None, map(str.strip, lines))
    else:
        yield from CREATORS


async def fetch() -> None:
    """Buy what the archive does not have yet."""
    async with Client() as client:
        plan = await client.plan(read_handles(), archive=ARCHIVE)
        print(f"{plan.complete} creators are there, {plan.to_continue + plan.to_start} are not")
        print(f"{plan.least} credits at least, of a balance of {plan.balance}")

        run = client.showcases(read_handles(), archive=ARCHIVE, max_credits=MAX_CREDITS)
        loop = asyncio.get_running_loop()

        def on_interrupt() -> None:
            # Send nothing more, but keep what is on its way. A second signal ends the program.
            run.stop()
            for signum in SIGNALS:
                loop.remove_signal_handler(signum)

        with suppress(NotImplementedError):  # on Windows
            for signum in SIGNALS:
                loop.add_signal_handler(signum, on_interrupt)
        async with run:
            async for outcome in run:
                if outcome.error is not None:
                    print(f"{outcome.handle}: {outcome.error}", file=sys.stderr)
            progress = run.progress

        print(f"{progress.complete} of {progress.done} creators are complete")
        print(f"{run.usage.charged} credits, perhaps {run.usage.maybe} more")


def write() -> None:
    """Write what the archive has; this needs neither network nor credits."""
    with PRODUCTS.open("w", encoding="utf-8") as lines:
        for handle, product in Archive(ARCHIVE).products():
            line = {"handle": handle, **product.to_dict()}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    print("all requests for this archive:", Archive(ARCHIVE).usage().charged, "credits")


if __name__ == "__main__":
    asyncio.run(fetch())
    write()
