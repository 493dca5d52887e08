"""A run: many creators' showcases at once, one outcome for each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sized
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, cast

from asyncsfk._checks import check_callback, check_flag
from asyncsfk._creator import CreatorFetcher
from asyncsfk._fanout import ENDED, FanOut
from asyncsfk._seen import SeenHandles, fingerprint
from asyncsfk._shield import Closing, check_may_close
from asyncsfk._showcase_cache import ShowcaseCache
from asyncsfk.errors import (
    ArchiveError,
    ClientStateError,
    InvalidArgumentError,
    RunStoppedError,
    SfkError,
)
from asyncsfk.events import HandleFinished
from asyncsfk.handles import tiktok_handle
from asyncsfk.models import ShowcasePage
from asyncsfk.outcomes import Outcome, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from asyncsfk._api import Api
    from asyncsfk._fanout import Put
    from asyncsfk._gate import Gate
    from asyncsfk._options import RunOptions
    from asyncsfk._page_cache import PageCache
    from asyncsfk._resources import RunResources
    from asyncsfk.budget import Budget
    from asyncsfk.events import Emitter
    from asyncsfk.usage import Usage


_ELSEWHERE: Final = "the run was entered in another event loop"


class ShowcaseRun:
    """A run over many creators; made by `asyncsfk.Client.showcases`.

    Enter it with ``async with``, then iterate it for one `Outcome` a creator, or `pages` for the
    pages as they come. When the ``async with`` ends, for whatever reason, so does all its work.
    """

    def __init__(
        self,
        handles: Iterable[object] | AsyncIterable[object],
        options: RunOptions,
        resources: RunResources,
        *,
        api: Api,
        gate: Gate,
        emit: Emitter,
        on_enter: Callable[[ShowcaseRun], None],
        on_exit: Callable[[ShowcaseRun], None],
    ) -> None:
        self._handles = handles
        self._options = options
        self._resources = resources
        self._api = api
        self._gate = gate
        self._emit = emit
        self._on_enter = on_enter
        self._on_exit = on_exit
        self._seen = SeenHandles() if options.dedupe else None
        self._under_way: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._fetcher = CreatorFetcher(api, options, resources)
        self._is_stopping = False
        self._stream: FanOut[object, Outcome | ShowcasePage] | None = None
        self._by_page = False
        # That in which it was entered, and when that was.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entered_at = 0.0
        self._left_at: float | None = None
        self._closing = Closing(self._close)

    def __repr__(self) -> str:
        progress = self.progress
        total = "?" if progress.total is None else progress.total
        under_way = f"{progress.started - progress.done} under way"
        state = under_way if self._left_at is None else "ended"
        return f"<ShowcaseRun {progress.done} of {total} done, {state}>"

    @property
    def concurrency(self) -> int:
        """How many creators are worked on at once."""
        return self._options.concurrency

    @property
    def usage(self) -> Usage:
        """What the run has cost so far: the calls that have ended."""
        return self._resources.meter.usage

    @property
    def budget(self) -> Budget | None:
        """The run's own ceiling, or the one that it shares, once it is entered."""
        return self._resources.budget

    @property
    def stopped(self) -> SfkError | None:
        """Why the run buys nothing more, if that is so.

        That is an error of the account (401, 402, 403), of a ceiling of credits or of the
        archive, an API that is out of reach, a borrowed session that is closed, or a
        `RunStoppedError` after `stop`.
        """
        return self._fetcher.stopped

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        elapsed = 0.0
        if self._loop is not None:
            now = self._loop.time() if self._left_at is None else self._left_at
            elapsed = now - self._entered_at
        counts = self._counts
        return Progress(
            total=len(self._handles) if isinstance(self._handles, Sized) else None,
            started=counts["started"],
            complete=counts["complete"],
            partial=counts["partial"],
            failed=counts["failed"],
            skipped=counts["skipped"],
            duplicates=counts["duplicates"],
            in_flight=self._gate.in_flight,
            width=self._gate.width,
            paused_for=self._gate.paused_for,
            elapsed=elapsed,
            usage=self.usage,
        )

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise ClientStateError("a run can be entered only once; make a new one")
        self._on_enter(self)
        self._loop = asyncio.get_running_loop()
        self._entered_at = self._loop.time()
        try:
            await self._resources.open(self._options)
        except BaseException:
            await self.aclose()
            # Again, since the run may have been closed before these were opened.
            await self._resources.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all work of the run; what was received is counted in `usage`.

        With an archive, requests under way get `Timeout.grace` seconds to land in it. A second
        caller waits for the same end. A caller that is cancelled still waits, once.

        Raises:
            ClientStateError: It was entered in another event loop, or it is the iterator of its
                handles that would close it; `stop` is for that.
        """
        task = asyncio.current_task()
        if self._employs(task) or self._api.caller.employs(task):
            raise ClientStateError(
                "a run cannot be closed by what it waits for; its handles can stop() it"
            )
        if self._loop is None:
            return
        check_may_close(self._loop, _ELSEWHERE)
        if self._left_at is None:
            self._left_at = self._loop.time()
            if self._stream is not None:
                # Before the next turn of the event loop, whose results would reach nobody.
                self._stream.cancel()
        await self._closing()

    def _employs(self, task: asyncio.Task[Any] | None) -> bool:
        """Tell whether a task pulls the run's handles."""
        return self._stream is not None and self._stream.employs(task)

    async def _close(self) -> None:
        try:
            if self._stream is not None:
                await self._stream.aclose()
        finally:
            self._on_exit(self)
            await self._resources.close()

    def stop(self, *, now: bool = False) -> None:
        """Start nothing new, and let the loop over the run end by itself.

        No further handle is pulled and no further page requested. What has been sent is waited
        for, kept and handed out; creators under way are then ``partial``, with the cursor to go
        on from.

        Args:
            now: Wait for nothing: what has been sent may be charged and is not waited for.

        Raises:
            InvalidArgumentError: ``now`` is neither true nor false.
        """
        check_flag("now", now)
        error = RunStoppedError("the run was told to stop")
        self._is_stopping = True
        self._fetcher.stop(error)
        self._api.caller.stop(self._resources.terms.payer, error, now=now)
        if self._stream is not None:
            self._stream.stop()

    def __aiter__(self) -> Self:
        self._open_stream(by_page=False)
        return self

    async def __anext__(self) -> Outcome:
        # Only by way of pages() does the stream have pages in it; here it has outcomes alone.
        return cast("Outcome", await anext(self._open_stream(by_page=False)))

    def pages(
        self, on_outcome: Callable[[Outcome], object] | None = None
    ) -> AsyncGenerator[ShowcasePage, None]:
        """Iterate the pages of all creators as they come, for showcases too long to hold.

        Args:
            on_outcome: Called with each creator's outcome, without its products, when all its
                pages were handed out. Without it, `progress` tells how many were not complete.

        Raises:
            InvalidArgumentError: ``on_outcome`` cannot be called, or would have to be awaited.
        """
        check_callback("on_outcome", on_outcome)
        return _Pages(partial(self._open_stream, by_page=True), on_outcome)

    def _open_stream(self, *, by_page: bool) -> FanOut[object, Outcome | ShowcasePage]:
        if self._loop is None:
            raise ClientStateError("iterate a run inside of its `async with`")
        if self._left_at is not None:
            raise ClientStateError(ENDED)
        if self._loop is not asyncio.get_running_loop():
            raise ClientStateError(_ELSEWHERE)
        if self._stream is None:
            self._by_page = by_page
            self._stream = FanOut(
                self._handles,
                self._work,
                width=self._options.concurrency,
                ordered=self._options.ordered,
            )
            if self._is_stopping:
                self._stream.stop()
        elif self._by_page is not by_page:
            raise ClientStateError("a run streams either outcomes or pages, not both")
        return self._stream

    async def _work(self, given: object, put: Put[Outcome | ShowcasePage]) -> None:
        try:
            handle = tiktok_handle(given)
        except InvalidArgumentError as error:
            if self._is_new(fingerprint(given)):
                await self._finish(invalid_handle(error, self._options.region), put)
            return
        if (cache := self._resources.terms.cache) is not None:
            await self._work_kept(handle, cache, put)
        elif self._is_new(handle):
            on_page = put if self._by_page else None
            await self._finish(await self._fetcher.fetch(handle, None, on_page), put)

    async def _work_kept(
        self, handle: str, cache: PageCache, put: Put[Outcome | ShowcasePage]
    ) -> None:
        """Work on a creator who may have pages, or an outcome of this very run, on file."""
        # The archive remembers finished creators, except those that it could not take.
        seen = self._seen
        if seen is not None and (handle in self._under_way or handle in seen):
            self._counts["duplicates"] += 1
            return
        self._under_way.add(handle)
        try:
            with cache.store.watches.watching(handle, self._options.region or "") as watch:
                cached = ShowcaseCache(cache, handle, self._options.region, watch)
                outcome = await self._fetch_kept(handle, cached, put)
        finally:
            self._under_way.discard(handle)
        if outcome is not None:
            await self._finish(outcome, put)

    async def _fetch_kept(
        self, handle: str, cached: ShowcaseCache, put: Put[Outcome | ShowcasePage]
    ) -> Outcome | None:
        """Return what became of a creator; ``None`` if this run had finished it before."""
        try:
            known = await cached.open()
        except ArchiveError as error:
            self._is_new(handle)
            self._fetcher.stop(error)
            error = error.evolve(handle=handle)
            region = self._options.region
            return Outcome(handle=handle, status="skipped", region=region, error=error)
        is_finished = known is not None and known.is_finished_by(self._resources.run_id)
        if is_finished and self._seen is not None:
            self._counts["duplicates"] += 1
            return None
        self._counts["started"] += 1
        on_page = put if self._by_page else None
        # On file before it is handed out, and before its handle could be taken for a new one.
        outcome = await self._fetcher.fetch(handle, cached, on_page)
        outcome, is_on_file = await self._fetcher.keep(outcome, known, cached.floor)
        if self._seen is not None and not is_on_file:
            self._seen.add(handle)
        return outcome

    def _is_new(self, identity: str) -> bool:
        """Count a handle as started or as a duplicate, and tell whether it is new."""
        new = self._seen is None or self._seen.add(identity)
        self._counts["started" if new else "duplicates"] += 1
        return new

    async def _finish(self, outcome: Outcome, put: Put[Outcome | ShowcasePage]) -> None:
        self._counts[outcome.status] += 1
        if self._emit.wants_detail:
            self._emit(
                HandleFinished(
                    handle=outcome.handle,
                    status=outcome.status,
                    pages=outcome.pages,
                    products=outcome.usage.products,
                    error=type(outcome.error).__name__ if outcome.error else None,
                )
            )
        await put(outcome)


class _Pages(AsyncGenerator[ShowcasePage, None]):
    """The pages of a run.

    A generator that is cancelled while it waits, by a timeout around `anext` say, is at its end
    from then on, which would look like the end of the run. This goes on, as the run itself does.
    """

    def __init__(
        self,
        open_stream: Callable[[], FanOut[object, Outcome | ShowcasePage]],
        on_outcome: Callable[[Outcome], object] | None,
    ) -> None:
        self._open_stream = open_stream
        self._on_outcome = on_outcome
        self._is_closed = False

    async def __anext__(self) -> ShowcasePage:
        while not self._is_closed:
            try:
                result = await anext(self._open_stream())
            except StopAsyncIteration:
                # For good: once the run has been left, its stream could not be asked again.
                self._is_closed = True
                raise
            if isinstance(result, ShowcasePage):
                return result
            if self._on_outcome is not None:
                self._on_outcome(result)
        raise StopAsyncIteration

    async def asend(self, _: None) -> ShowcasePage:
        return await anext(self)

    async def athrow(self, error: Any, *_: object) -> ShowcasePage:  # noqa: ANN401 - or its class
        self._is_closed = True
        raise error

    async def aclose(self) -> None:
        self._is_closed = True


def invalid_handle(error: InvalidArgumentError, region: str | None) -> Outcome:
    """Return the outcome of an invalid handle."""
    return Outcome(handle=error.handle or "", status="failed", region=region, error=error)


# Users know it by its public name, in tracebacks too.
ShowcaseRun.__module__ = "asyncsfk"
