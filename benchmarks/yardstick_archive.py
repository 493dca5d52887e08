"""The yardstick with the plainest archive: what keeping pages in SQLite costs at the least.

One table with no index, one row a page, commits of as many pages as come in ten milliseconds, by a
thread; full durability, as `asyncsfk` has it. A page is decoded once it is on the disk. There is no
ledger, no outcome, nothing that would let a run go on, and a failure of any kind ends it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Final, Self

import aiohttp
from yardstick import Yardstick

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from yardstick import Product

    Row = tuple[str, str | None, bytes]

GATHER: Final = 0.01
ENOUGH: Final = 50


class Pages:
    """A file of pages, written by a thread."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1)
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.executescript(
            "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE page (id INTEGER PRIMARY KEY, handle TEXT, cursor TEXT, body BLOB);"
        )
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_busy = False

    def close(self) -> None:
        """Close the file."""
        self._thread.shutdown()
        self._file.close()

    def keep(self, row: Row) -> asyncio.Future[None]:
        """Keep a page; it is on the disk once the future is done."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((row, done))
        self._schedule()
        return done

    def _schedule(self) -> None:
        if self._is_busy or not self._waiting:
            return
        if len(self._waiting) >= ENOUGH:
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        self._is_busy = True
        commit = self._loop.run_in_executor(self._thread, self._commit, [row for row, _ in batch])
        commit.add_done_callback(lambda commit: self._end(commit, batch))

    def _end(
        self, commit: asyncio.Future[None], batch: Sequence[tuple[Row, asyncio.Future[None]]]
    ) -> None:
        commit.result()
        self._is_busy = False
        for _, done in batch:
            done.set_result(None)
        self._schedule()

    def _commit(self, rows: Sequence[Row]) -> None:
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO page (handle, cursor, body) VALUES (?, ?, ?)", rows)
        self._file.execute("COMMIT")


class KeepingYardstick(Yardstick):
    """Fetches creators' showcases, ``width`` at once, each time into a new file."""

    def __init__(self, url: str, *, key: str, width: int, path: Path) -> None:
        super().__init__(url, key=key, width=width)
        self._path = path

    async def __aenter__(self) -> Self:
        # Packed answers are kept as they come.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"x-api-key": self._key},
            auto_decompress=False,
        )
        return self

    async def fetch(self, handles: Iterable[str]) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of requests and products."""
        with closing(Pages(self._path)) as self._pages:
            return await super().fetch(handles)

    def kept(self) -> int:
        """Return how many products the last file has; blocks."""
        with closing(sqlite3.connect(self._path)) as file:
            bodies = [body for (body,) in file.execute("SELECT body FROM page")]
        return sum(len(self._decoder.decode(_plain(body)).data.products) for body in bodies)

    async def _work(self, handles: Iterator[str]) -> tuple[int, int]:
        requests = received = 0
        for handle in handles:
            url = f"{self._url}/v1/tiktok/profiles/{handle}/showcase-products"
            products: list[Product] = []
            cursor: str | None = None
            while True:
                params = {} if cursor is None else {"cursor": cursor}
                async with self._session.get(url, params=params) as response:
                    response.raise_for_status()
                    body = await response.read()
                await self._pages.keep((handle, cursor, body))
                if response.headers.get("Content-Encoding") == "gzip":
                    body = zlib.decompress(body, 31)
                data = self._decoder.decode(body).data
                requests += 1
                products += data.products
                cursor = data.page.next_cursor
                if not data.page.has_more or not cursor:
                    break
            received += len(products)
        return requests, received


def _plain(body: bytes) -> bytes:
    return zlib.decompress(body, 31) if body.startswith(b"\x1f\x8b") else body
