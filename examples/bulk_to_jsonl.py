"""Write the showcases of many creators to a file, and go on where an earlier call stopped.

    python bulk_to_jsonl.py [FILE_WITH_A_HANDLE_A_LINE]

Products go to products.jsonl, a line each, as soon as their page is there. journal.jsonl gets a
line for each page: which creators are done, and where to go on with the others. Interrupt it, run
it again, and only what is missing is paid for.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from asyncsfk import Client, PaginationError, SfkError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncsfk import Outcome, ShowcasePage

CREATORS = ["mrbeast", "@CharliDamelio", "@khaby.lame", "zachking", "spencerx"]
JOURNAL = Path("journal.jsonl")
PRODUCTS = Path("products.jsonl")


class Sink:
    """Where products and the journal are written."""

    def __init__(self, products: TextIO, journal: TextIO) -> None:
        self._products = products
        self._journal = journal

    def take_page(self, page: ShowcasePage) -> None:
        """Write a page's products, then that they are written."""
        for product in page.products:
            line = {"handle": page.handle, **product.to_dict()}
            self._products.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._products.flush()
        if page.has_more and page.next_cursor:
            self._note(page.handle, cursor=page.next_cursor, done=False)

    def take_outcome(self, outcome: Outcome) -> None:
        """Write what became of a creator."""
        self.end(outcome.handle, outcome.error)

    def end(self, handle: str, error: SfkError | None) -> None:
        """Write that a creator is done, or tell why not."""
        if error is not None:
            print(f"{handle}: {error}", file=sys.stderr)
        # A list that leads nowhere has no page to go on to.
        if error is None or isinstance(error, PaginationError):
            self._note(handle, cursor=None, done=True)

    def _note(self, handle: str, *, cursor: str | None, done: bool) -> None:
        self._journal.write(json.dumps({"handle": handle, "cursor": cursor, "done": done}) + "\n")
        self._journal.flush()


def read_journal() -> tuple[set[str], dict[str, str]]:
    """Return who is done, and the cursors of those who were under way."""
    done: set[str] = set()
    cursors: dict[str, str] = {}
    if JOURNAL.exists():
        with JOURNAL.open(encoding="utf-8") as lines:
            for line in lines:
                note = json.loads(line)
                if note["done"]:
                    done.add(note["handle"])
                    cursors.pop(note["handle"], None)
                else:
                    cursors[note["handle"]] = note["cursor"]
    return done, cursors


def read_handles() -> Iterator[str]:
    """Give the handles one by one, as the client writes them, so that the journal knows them."""
    if len(sys.argv) > 1:
        with Path(sys.argv[1]).open(encoding="utf-8") as lines:
            yield from filter(None, map(plain, lines))
    else:
        yield from map(plain, CREATORS)


def plain(handle: str) -> str:
    """Return ``mrbeast`` for ``@MrBeast``."""
    return handle.strip().removeprefix("@").lower()


async def go_on(client: Client, handle: str, cursor: str, sink: Sink) -> None:
    """Fetch the rest of a showcase."""
    try:
        async for page in client.showcase(handle, cursor=cursor).pages():
            sink.take_page(page)
    except SfkError as error:
        sink.end(handle, error)
    else:
        sink.end(handle, None)


async def fetch(sink: Sink) -> None:
    """Fetch what the journal does not know to be done."""
    done, cursors = read_journal()
    known = {*done, *cursors}

    async with Client() as client:
        for handle, cursor in cursors.items():
            await go_on(client, handle, cursor, sink)

        new = (handle for handle in read_handles() if handle not in known)
        async with client.showcases(new) as run:
            async for page in run.pages(sink.take_outcome):
                sink.take_page(page)
            progress = run.progress

        usage = client.usage
        print(f"{progress.complete} of {progress.done} new creators are complete")
        print(f"{usage.products} products, {usage.charged} credits, perhaps {usage.maybe} more")


def main() -> None:
    """Run."""
    with PRODUCTS.open("a", encoding="utf-8") as products, JOURNAL.open("a", encoding="utf-8") as j:
        asyncio.run(fetch(Sink(products, j)))


if __name__ == "__main__":
    main()
