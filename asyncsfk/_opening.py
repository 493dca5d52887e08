"""An archive from its opening to its end: by whoever opens it, or by the runs that need it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from asyncsfk._origin import ORIGIN, check_origin, origin_of
from asyncsfk._page_cache import PageCache
from asyncsfk._store._store import Store
from asyncsfk.errors import ArchiveError, ClientStateError

if TYPE_CHECKING:
    from pathlib import Path

    from asyncsfk._store._file import Durability
    from asyncsfk.budget import Budget


class Opening:
    """Opens an archive's file for writing, closes it, and says on what terms calls write to it.

    Args:
        path: Where the file is, or will be made.
        durability: Same as in `Archive`.
        wait: Same as in `Archive`.

    Attributes:
        path: Where the file is.
        budgets: The ceilings of the runs that write to it, for all who write to it.
    """

    def __init__(self, path: Path, durability: Durability, wait: float) -> None:
        self.path = path
        self._durability: Durability = durability
        self._wait = wait
        self._opened: Store | None = None
        self._leaving: Store | None = None
        self._entering = anyio.Lock()
        self._runs = 0
        self._is_opened_by_runs = False
        self.budgets: list[Budget] = []

    @property
    def is_open(self) -> bool:
        """Whether calls can write to it."""
        return self._opened is not None

    async def open(self) -> None:
        """Open the file; see `Archive.open`.

        Raises:
            ArchiveError: It cannot be used.
            ClientStateError: It is open already.
        """
        if self._opened is not None:
            raise ClientStateError("the archive is open already")
        if self._leaving is not None:
            with suppress(ArchiveError):
                await self.aclose()
        store = Store(self.path, durability=self._durability, wait=self._wait)
        await store.open()
        self._opened = store

    async def aclose(self) -> None:
        """Write what is left, and close the file; see `Archive.aclose`.

        Raises:
            ArchiveError: The end could not be written; what was committed is there.
            ClientStateError: It was opened in another event loop, which is running.
        """
        if self._opened is not None:
            loop = self._opened.loop
            if loop is not asyncio.get_running_loop() and loop.is_running():
                raise ClientStateError("the archive was opened in another event loop")
            self._leaving, self._opened = self._opened, None
            self._is_opened_by_runs = False
        if (store := self._leaving) is not None:
            # Given up, it goes on: who comes next waits for it.
            await store.aclose()
            if self._leaving is store:
                self._leaving = None

    async def enter(self) -> None:
        """Open it for a run, unless it is open.

        Raises:
            ArchiveError: It cannot be opened.
        """
        async with self._entering:
            if self._opened is None:
                await self.open()
                self._is_opened_by_runs = True
            self._runs += 1

    async def leave(self) -> None:
        """Close it after the last run, if it was opened for one."""
        self._runs -= 1
        if self._is_opened_by_runs and not self._runs:
            await self.aclose()

    def cache(
        self, base_url: str, *, max_age: float | None = None, refresh: bool = False
    ) -> PageCache:
        """Return on what terms calls use this archive, which holds one origin's answers alone.

        Args:
            base_url: Whose answers are to be kept.
            max_age: Seconds; older answers will not do.
            refresh: None that is there will do.

        Raises:
            ArchiveError: It holds another's.
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
