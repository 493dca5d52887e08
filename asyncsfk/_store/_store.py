"""An archive's file, which only we may write, as the event loop sees it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from asyncsfk._shield import Closing
from asyncsfk._store._batches import Batches
from asyncsfk._store._bloom import BloomFilter
from asyncsfk._store._exposed import ExposedCredits
from asyncsfk._store._file import File
from asyncsfk._store._reads import Begun, Find, FindShowcase, PageRow, Read
from asyncsfk._store._sqlite import shown
from asyncsfk._store._watch import Watches
from asyncsfk._store._writes import (
    Decoded,
    Exposure,
    Finish,
    LedgerLine,
    Note,
    Page,
    Write,
)
from asyncsfk.errors import ArchiveError, ArchiveLockedError, ArchiveWriteError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from asyncsfk._store._exposed import Exposed
    from asyncsfk._store._file import Durability

# Seconds that a commit waits for more pages: a group costs little more than a single page.
_GATHER: Final = 0.01
# Seconds to wait for what comes at the same moment, as from tasks that were woken together.
_GATHER_AT_ONCE: Final = 0.002
_REST: Final = 1.0
# Bytes that the disk must have left for each request in the air: in the log, then in the file.
_ROOM_FOR_ONE: Final = 128 * 1024
_ROOM_BESIDES: Final = 1 << 20
_POLL: Final = 0.1


class Store:
    """An archive's file, which only we may write.

    A write that is awaited here is committed when the await ends.

    Args:
        path: Where the file is, or will be.
        durability: ``full`` survives a power failure, ``normal`` only the death of the process.
        wait: Seconds to wait if somebody else has it open.

    Attributes:
        loop: The event loop that it was opened in.
        charged: Credits that the ledger knows to be charged.
        maybe: Credits that it says may have been charged.
        watches: Those to be told about pages that others keep of a showcase.
        runs: The ids of the runs that are writing to it.
    """

    def __init__(self, path: Path, *, durability: Durability, wait: float) -> None:
        self._path = path
        self._wait = wait
        self.loop = asyncio.get_running_loop()
        self._file = File(path, durability)
        self._writer: Batches[Write] = Batches(
            self._file.write,
            name="asyncsfk-archive",
            after=self._settle,
            gather=self._patience,
        )
        self._reader: Batches[Read] = Batches(
            self._file.read, name="asyncsfk-archive-reader", gather=lambda: _GATHER_AT_ONCE
        )
        self._exposed = ExposedCredits()
        self._left = asyncio.Event()
        self._resting: asyncio.TimerHandle | None = None
        self._refusal: ArchiveError | None = None
        self._is_shut = False
        self._closing = Closing(self._close_in_order)
        # For a file that was empty: only we write it, so we know what it cannot hold.
        self._may_be_there: BloomFilter | None = None
        self.watches = Watches()
        self.runs: set[int] = set()
        self.charged = 0
        self.maybe = 0

    @property
    def exposed(self) -> int:
        """Credits that may be charged for requests whose answers have not come yet."""
        return self._exposed.unknown

    @property
    def notes(self) -> dict[str, str]:
        """Facts about the whole file."""
        return self._file.notes

    @property
    def last_page(self) -> int:
        """The highest id of a page."""
        return self._file.last_page

    async def open(self) -> None:
        """Open the file, making it where there is none.

        Raises:
            ArchiveLockedError: Somebody has it open.
            ArchiveError: It cannot be used.
        """
        try:
            # Polled, since whoever holds the lock has no way to wake us.
            deadline = time.monotonic() + self._wait
            while not await self._writer.run(  # noqa: ASYNC110 - see above
                partial(self._file.acquire, is_last=time.monotonic() >= deadline)
            ):
                await anyio.sleep(_POLL)
            spent = await self._writer.run(self._file.open)
            # Only to start its thread: if there can be none, opening fails, not a later look-up.
            await self._reader.run(partial(self._file.read, ()))
            self.charged, self.maybe = spent.charged, spent.maybe
            self._may_be_there = BloomFilter() if self._file.was_empty else None
        except BaseException:
            await self._closing()
            raise

    async def aclose(self) -> None:
        """Wait for what is in the air, write what is left, and close the file.

        It is then a single file again. When cancelled this no longer waits for what is in the air,
        and leaves the file as if we had died then.
        """
        self._refusal = ArchiveError(f"{shown(self._path)} is closed")
        try:
            with anyio.CancelScope(shield=True):
                while self._exposed.in_air and self._is_in_own_loop:
                    self._left.clear()
                    await self._left.wait()
        finally:
            await self._closing()

    # --- what is kept: committed once the future is done

    def keep(self, page: Page) -> asyncio.Future[Any]:
        """Keep a page and its line of the ledger.

        All who watch its showcase are told, except the one that keeps it.

        Raises:
            ArchiveError: It cannot be kept; the future may raise that, too.
        """
        self._tell(page)
        if page.opens and page.showcase is not None and self._may_be_there is not None:
            self._may_be_there.add(*page.showcase)
        return self._submit(page, page.line)

    def record(self, line: LedgerLine) -> asyncio.Future[Any]:
        """Enter a line into the ledger.

        Raises:
            ArchiveError: It cannot be entered; the future may raise that, too.
        """
        return self._submit(line, line)

    def record_soon(self, line: LedgerLine) -> None:
        """Enter a line into the ledger, at the latest when the file is closed."""
        with suppress(ArchiveError):
            _ = self._submit(line, line)

    async def finish(self, finish: Finish) -> None:
        """Keep what became of a showcase.

        Raises:
            ArchiveError: It could not be kept.
        """
        self._check()
        if self._may_be_there is not None:
            self._may_be_there.add(finish.handle, finish.region)
        await self._writer.submit(finish)

    def note_soon(self, name: str, value: str) -> None:
        """Keep a fact about the whole file, at the latest when the file is closed."""
        self.notes[name] = value
        _ = self._writer.submit(Note(name, value))

    def decoded_soon(self, page: int) -> None:
        """Take note that a page can be decoded after all."""
        if not self._is_shut:
            _ = self._writer.submit(Decoded(page))

    # --- what may be charged while nobody can tell

    def price(self, credits: int, route: str) -> int:
        """Return the most that a request should cost, given what its route cost before."""
        return max(credits, self._file.prices.get(route, 0))

    async def room(self) -> None:
        """Wait until the disk has room for all in the air and one more, to be exposed at once.

        Raises:
            ArchiveWriteError: There is no room even with nothing in the air.
            ArchiveError: It was closed, or broke, meanwhile.
        """
        while not self._has_room():
            self._check()
            self._check_open()
            if self._exposed.in_air:
                self._left.clear()
                await self._left.wait()
            else:
                # There may be some by now.
                await self._writer.run(self._file.look_for_room)
                if not self._has_room() and not self._exposed.in_air:
                    raise ArchiveWriteError(
                        f"{shown(self._path)} may not have room for what is bought: "
                        f"{self._file.room // 1024:,} KiB are left for it on its disk"
                    )

    async def expose(self, credits: int, route: str) -> Exposed:
        """Put on file, before a request is sent, that it may be charged, in case we die.

        What is put on file covers more requests than there are, so that few have to wait for it.
        Once this has returned, `keep`, `record`, `leave` or `withdraw` must follow.

        Raises:
            ArchiveError: It could not be put on file: nothing must be sent.
        """
        self._check()
        self._check_open()
        exposed = self._exposed.add(credits, route)
        try:
            if not self._exposed.is_covered:
                cover = self._exposed.cover()
                await self._writer.submit(Exposure(self._file.session, cover))
                self._exposed.covered = cover
                # It may have been closed meanwhile, or this very commit has found its lock gone.
                self._check_open()
        except BaseException:
            self.withdraw(exposed)
            raise
        return exposed

    def withdraw(self, exposed: Exposed) -> None:
        """Take back what was exposed for a request that is not going to be sent."""
        self._exposed.withdraw(exposed)
        self.leave(exposed)

    def _has_room(self) -> bool:
        return self._file.room >= _ROOM_BESIDES + _ROOM_FOR_ONE * (len(self._exposed.in_air) + 1)

    def leave(self, exposed: Exposed) -> None:
        """Stop waiting for a request; what was exposed for it stays so, unless it was settled."""
        self._exposed.in_air.discard(exposed)
        self._left.set()
        is_quiet = not self._exposed.in_air and not self._is_shut
        if is_quiet and self._resting is None and self.loop.is_running():
            self._resting = self.loop.call_later(_REST, self._rest)

    def _rest(self) -> None:
        """When all is quiet, file only what is still exposed, since we may be killed while idle."""
        self._resting = None
        exposed = self._exposed
        if not exposed.in_air and exposed.filed > exposed.credits:
            exposed.covered = exposed.filed = exposed.credits
            _ = self._writer.submit(Exposure(self._file.session, exposed.credits, is_all=True))

    # --- what is found

    async def find(self, wanted: Find) -> PageRow | None:
        """Return the page that is wanted, if it is on file.

        Raises:
            ArchiveError: The file cannot be read.
        """
        self._check_open()
        found: PageRow | None = await self._reader.submit(wanted)
        return found

    async def find_showcase(self, handle: str, region: str, first: bytes) -> Begun | None:
        """Return how far a showcase has come; ``first`` is the key of its first page.

        Raises:
            ArchiveError: The file cannot be read.
        """
        self._check_open()
        if self._may_be_there is not None and not self._may_be_there.may_have(handle, region):
            return None
        found: Begun | None = await self._reader.submit(FindShowcase(handle, region, first))
        return found

    def _submit(self, write: Write, line: LedgerLine) -> asyncio.Future[Any]:
        if self._is_shut and line.exposed is not None:
            self.leave(line.exposed)
        if self._is_shut or line.exposed is None:
            # No check for a request in the air, unless shut: closing waits for it.
            self._check()
        self.charged += line.charged
        self.maybe += line.maybe
        if line.exposed is not None:
            self._exposed.landing.add(line.exposed)
        if line.charged > self.price(1, line.route):
            self._file.prices[line.route] = line.charged
            self._exposed.raise_price(line.route, line.charged)
            if not self._exposed.is_covered:
                # Written before this line, or together with it.
                _ = self._writer.submit(Exposure(self._file.session, self._exposed.cover()))
        return self._writer.submit(write)

    def _settle(self, writes: Sequence[Write], error: BaseException | None) -> None:
        """Settle the attempts among some writes: they are on file, unless there was an error."""
        if self._file.is_contested and self._refusal is None:
            # What is in the air still lands, but nothing more is bought: the other may buy it too.
            self._refusal = ArchiveLockedError(
                f"{shown(self._path)} may be written by another process: its lock was removed"
            )
        for write in writes:
            line: Write = write
            if isinstance(write, Page):
                line = write.line
                # Told again: who looked before the commit may watch only since `keep` told.
                self._tell(write)
            if isinstance(line, LedgerLine) and line.exposed is not None:
                # What could not be entered into the ledger stays exposed.
                if error is None:
                    self._exposed.withdraw(line.exposed)
                self.leave(line.exposed)

    def _patience(self) -> float:
        """Return how many seconds a commit may wait for company."""
        exposed = self._exposed
        if not exposed.is_covered:
            # Requests wait for this very commit before they are sent, or will: a price has risen.
            return 0.0
        if not exposed.filed:
            # Nothing was sent of late: these writes are of a run that finds everything on file, and
            # come at once from as many workers as it has.
            return _GATHER_AT_ONCE
        # Wait while others in the air have yet to come; with none in the air, more will follow.
        is_last = exposed.in_air and len(exposed.landing) >= len(exposed.in_air)
        return 0.0 if is_last else _GATHER

    def _tell(self, page: Page) -> None:
        if page.showcase is not None:
            self.watches.tell(*page.showcase, page.by)

    def _check(self) -> None:
        """Refuse further work once a write has failed: what it would buy could not be kept."""
        if self._file.broken is not None:
            raise self._file.broken.evolve()
        if self._is_shut:
            self._check_open()

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise self._refusal.evolve()

    @property
    def _is_in_own_loop(self) -> bool:
        """Whether the running event loop is the one that opened it; another one may close it."""
        return self.loop is asyncio.get_running_loop()

    async def _close_in_order(self) -> None:
        """Close it; run in a task of its own."""
        # Every step is taken, even if one fails.
        async with AsyncExitStack() as stack:
            stack.callback(self._writer.close)
            stack.callback(self._reader.close)
            stack.push_async_callback(self._close_file)
            if self._is_in_own_loop:
                stack.push_async_callback(self._writer.flush)
                stack.push_async_callback(self._reader.flush)

    async def _close_file(self) -> None:
        self._is_shut = True
        if self._resting is not None:
            self._resting.cancel()
        await self._writer.run(partial(self._file.close, is_landed=not self._exposed.credits))
