"""Opens an archive for writing and closes it: for its user, or for the runs that need it."""

from __future__ import annotations

import asyncio
import time
import warnings
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

import anyio

from asyncsfk._origin import ORIGIN, check_origin, origin_of
from asyncsfk._page_cache import PageCache
from asyncsfk._shield import check_may_close
from asyncsfk._store._sqlite import shown
from asyncsfk._store._store import Store
from asyncsfk.errors import ArchiveError, ClientStateError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from asyncsfk._store._file import Durability
    from asyncsfk.budget import Budget


class Opening:
    """Opens an archive's file for writing, closes it, and says on what terms calls write to it.

    It serves one event loop at a time.

    Args:
        path: Where the file is, or will be made.
        durability: Same as in `Archive`.
        wait: Same as in `Archive`.

    Attributes:
        path: Where the file is.
        durability: As it was given.
        wait: As it was given.
        budgets: The ceilings of the runs that write to it, which bind everything that does so.
    """

    def __init__(self, path: Path, durability: Durability, wait: float) -> None:
        self.path = path
        self.durability: Durability = durability
        self.wait = wait
        self._opened: Store | None = None
        self._leaving: Store | None = None
        # The event loop that opened it last or is opening it, and how many there are opening it.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending = 0
        # Event loops of several threads may want it at the same moment.
        self._guard = Lock()
        self._entering = anyio.Lock()
        self._runs = 0
        self._is_opened_by_runs = False
        self.budgets: list[Budget] = []

    def __del__(self) -> None:
        if self._opened is not None:
            # Its threads go on, and its file stays locked, for as long as the process lives.
            warnings.warn(
                f"unclosed archive {shown(self.path)}", ResourceWarning, source=self, stacklevel=1
            )

    @property
    def is_open(self) -> bool:
        """Whether calls can write to it."""
        return self._opened is not None

    async def open(self) -> None:
        """Open the file; see `Archive.open`.

        Raises:
            ArchiveError: It cannot be used.
            ClientStateError: It is open already, or in use in another event loop.
        """
        with self._in_this_loop():
            if self._opened is not None:
                raise ClientStateError("the archive is open already")
            await self._open()

    async def aclose(self) -> None:
        """Write what is left, and close the file; see `Archive.aclose`.

        Raises:
            ArchiveError: The end could not be written; what was committed is there.
            ClientStateError: It was opened in another event loop, which is running.
        """
        if (store := self._opened or self._leaving) is None:
            return
        check_may_close(store.loop, "the archive was opened in another event loop")
        self._leaving, self._opened = store, None
        self._is_opened_by_runs = False
        # If this wait is cancelled, the closing goes on, and the next caller waits for it.
        await store.aclose()
        if self._leaving is store:
            self._leaving = None

    async def enter(self) -> None:
        """Open it for a run, unless it is open.

        Raises:
            ArchiveError: It cannot be opened.
            ClientStateError: It is in use in another event loop.
        """
        with self._in_this_loop():
            async with self._entering:
                if self._opened is None:
                    await self._open()
                    self._is_opened_by_runs = True
                self._runs += 1

    async def leave(self) -> None:
        """Close it after the last run, if it was opened for one."""
        self._runs -= 1
        if self._is_opened_by_runs and not self._runs:
            await self.aclose()

    def cache(self, base_url: str, *, max_age: float | None, refresh: bool) -> PageCache:
        """Return the archive as a cache for calls; it only holds the answers of one origin.

        Args:
            base_url: Whose answers are to be kept.
            max_age: Seconds; older answers will not do.
            refresh: Whether no answer that is on file by now will do.

        Raises:
            ArchiveError: It holds those of another origin.
            ClientStateError: It is not open.
        """
        store = self._opened
        if store is None:
            raise ClientStateError("open the archive with `async with` to let calls write to it")
        if store.loop is not asyncio.get_running_loop():
            raise ClientStateError("the archive was opened in another event loop")
        known = store.notes.get(ORIGIN)
        check_origin(self.path, known, base_url)
        if known is None:
            store.note_soon(ORIGIN, origin_of(base_url))
        return PageCache(
            store=store,
            floor=store.last_page + 1 if refresh else 0,
            since=0.0 if max_age is None else time.time() - max_age,
        )

    @contextmanager
    def _in_this_loop(self) -> Generator[None]:
        """Keep other event loops out while it is being opened.

        Raises:
            ClientStateError: There is no event loop, or another one that runs has it in use.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ClientStateError("an archive needs a running event loop of asyncio") from None
        with self._guard:
            if self._loop is not loop:
                in_use = self._pending or self._opened is not None or self._leaving is not None
                if self._loop is not None and self._loop.is_running() and in_use:
                    raise ClientStateError("the archive is in use in another event loop")
                self._loop, self._pending, self._entering = loop, 0, anyio.Lock()
            self._pending += 1
        try:
            yield
        finally:
            with self._guard:
                if self._loop is loop:
                    self._pending -= 1

    async def _open(self) -> None:
        if self._leaving is not None:
            with suppress(ArchiveError):
                await self.aclose()
        store = Store(self.path, durability=self.durability, wait=self.wait)
        await store.open()
        self._opened = store
