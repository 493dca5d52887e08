"""A run: many creators' showcases at once, one outcome for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Iterable, Sized
from hashlib import blake2b
from typing import TYPE_CHECKING, Self, cast

import msgspec

from asyncsfk import _routes
from asyncsfk._checks import is_callback
from asyncsfk._fanout import FanOut
from asyncsfk._handles import SeenHandles, shown, tiktok_handle
from asyncsfk.errors import ClientStateError, InvalidArgumentError, SfkError, is_account_wide
from asyncsfk.events import HandleFinished
from asyncsfk.models import ShowcasePage, TikTokLookup
from asyncsfk.outcomes import Outcome, Progress
from asyncsfk.usage import Meter, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from asyncsfk._api import Api
    from asyncsfk._fanout import Emit
    from asyncsfk._gate import Gate
    from asyncsfk.events import Emitter
    from asyncsfk.models import Product
    from asyncsfk.outcomes import Status


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was told; see `asyncsfk.Client.showcases`."""

    region: str | None = None
    concurrency: int
    max_pages: int | None = None
    verify_empty: bool = False
    ordered: bool = False
    dedupe: bool = True


class ShowcaseRun:
    """A run over many creators; made by `asyncsfk.Client.showcases`.

    Enter it with ``async with``, then iterate it for one `Outcome` a creator, or `pages` for the
    pages as they come. When the ``async with`` ends, for whatever reason, so does all its work.
    """

    def __init__(
        self,
        handles: Iterable[object] | AsyncIterable[object],
        options: RunOptions,
        *,
        api: Api,
        gate: Gate,
        emit: Emitter,
        clock: Callable[[], float],
        on_enter: Callable[[ShowcaseRun], None],
        on_exit: Callable[[ShowcaseRun], None],
    ) -> None:
        self._handles = handles
        self._options = options
        self._api = api
        self._gate = gate
        self._emit = emit
        self._clock = clock
        self._on_enter = on_enter
        self._on_exit = on_exit
        self._seen = SeenHandles() if options.dedupe else None
        self._meter = Meter()
        self._counts: Counter[str] = Counter()
        self._stopped: SfkError | None = None
        self._stream: FanOut[object, Outcome | ShowcasePage] | None = None
        self._by_page = False
        self._entered_at: float | None = None
        self._left_at: float | None = None

    def __repr__(self) -> str:
        progress = self.progress
        return (
            f"<ShowcaseRun {progress.done} of {progress.total or '?'} done, "
            f"{progress.started - progress.done} under way>"
        )

    @property
    def concurrency(self) -> int:
        """How many creators are worked on at once."""
        return self._options.concurrency

    @property
    def usage(self) -> Usage:
        """What the run has cost so far: the calls that have ended."""
        return self._meter.usage

    @property
    def stopped(self) -> SfkError | None:
        """The error that stopped the run for the whole account (401, 402, 403), if one did."""
        return self._stopped

    @property
    def progress(self) -> Progress:
        """Where the run stands."""
        elapsed = 0.0
        if self._entered_at is not None:
            now = self._clock() if self._left_at is None else self._left_at
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
            in_flight=self._gate.active,
            width=self._gate.width,
            paused_for=self._gate.paused_for,
            elapsed=elapsed,
            usage=self._meter.usage,
        )

    async def __aenter__(self) -> Self:
        if self._entered_at is not None:
            raise ClientStateError("a run can be entered only once; make a new one")
        self._on_enter(self)
        self._entered_at = self._clock()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all work of the run; what was received is counted in `usage`."""
        if self._entered_at is None or self._left_at is not None:
            return
        self._left_at = self._clock()
        try:
            if self._stream is not None:
                await self._stream.aclose()
        finally:
            self._on_exit(self)

    def __aiter__(self) -> Self:
        self._open_stream(by_page=False)
        return self

    async def __anext__(self) -> Outcome:
        # Beside pages() the stream has pages in it; here it has outcomes alone.
        return cast("Outcome", await anext(self._open_stream(by_page=False)))

    async def pages(
        self, on_outcome: Callable[[Outcome], object] | None = None
    ) -> AsyncGenerator[ShowcasePage, None]:
        """Iterate the pages of all creators as they come, for showcases too long to hold.

        Args:
            on_outcome: Called with each creator's outcome, without its products, when all its
                pages were handed out. Without it, `progress` tells how many were not complete.

        Raises:
            InvalidArgumentError: ``on_outcome`` cannot be called, or would have to be awaited.
        """
        if on_outcome is not None and not is_callback(on_outcome):
            raise InvalidArgumentError("on_outcome must be a plain function")
        async for result in self._open_stream(by_page=True):
            if isinstance(result, ShowcasePage):
                yield result
            elif on_outcome is not None:
                on_outcome(result)

    def _open_stream(self, *, by_page: bool) -> FanOut[object, Outcome | ShowcasePage]:
        if self._entered_at is None or self._left_at is not None:
            raise ClientStateError("iterate a run inside of its `async with`")
        if self._stream is None:
            self._by_page = by_page
            self._stream = FanOut(
                self._handles,
                self._work,
                width=self._options.concurrency,
                ordered=self._options.ordered,
            )
        elif self._by_page is not by_page:
            raise ClientStateError("a run streams either outcomes or pages, not both")
        return self._stream

    async def _work(self, given: object, emit: Emit[Outcome | ShowcasePage]) -> None:
        invalid: InvalidArgumentError | None = None
        try:
            handle = tiktok_handle(given)
        except InvalidArgumentError as error:
            invalid, handle = error, error.handle or ""
        if self._seen is not None and not self._seen.add(_trace(given) if invalid else handle):
            self._counts["duplicates"] += 1
            return
        self._counts["started"] += 1
        if invalid is not None:
            outcome = invalid_handle(invalid)
        elif self._stopped is not None:
            outcome = Outcome(handle=handle, status="skipped", error=self._stopped)
        else:
            outcome = await self._follow(handle, emit)
        self._counts[outcome.status] += 1
        if self._emit.wants_detail:
            self._emit(
                HandleFinished(
                    handle=handle,
                    status=outcome.status,
                    pages=outcome.pages,
                    products=outcome.usage.products,
                    error=type(outcome.error).__name__ if outcome.error else None,
                )
            )
        await emit(outcome)

    async def _follow(self, handle: str, emit: Emit[Outcome | ShowcasePage]) -> Outcome:
        """Fetch a creator's pages one after the other, as far as it goes."""
        products: tuple[Product, ...] = ()
        request_ids: list[str] = []
        usage = Usage()
        account_status = None
        page: ShowcasePage | None = None
        error: SfkError | None = None
        next_cursor: str | None = None
        listing = self._api.showcase(
            handle,
            region=self._options.region,
            max_pages=self._options.max_pages,
            meter=self._meter,
            admit=self._admit,
        )
        try:
            async for page in listing.pages():
                usage += page.usage
                if page.request_id is not None:
                    request_ids.append(page.request_id)
                if self._by_page:
                    await emit(page)
                else:
                    products = products + page.products if products else page.products
            if page is not None and page.has_more:
                next_cursor = page.next_cursor
        except SfkError as caught:
            error, next_cursor = caught, caught.cursor
            usage += caught.usage
        if self._options.verify_empty and error is None and not usage.products:
            try:
                self._admit(None)
                lookup = await self._api.answer(
                    _routes.tiktok_profile(handle), TikTokLookup, self._meter
                )
                usage += lookup.usage
                account_status = lookup.lookup_status
            except SfkError as caught:
                # The showcase itself is whole, and next_cursor stays as it is.
                error = caught
                usage += caught.usage
        if error is not None and is_account_wide(error) and self._stopped is None:
            self._stopped = error.evolve(handle=None, cursor=None, usage=Usage(), attempts=0)
        return Outcome(
            handle=handle,
            status=_status(error, usage, self._stopped),
            region=self._options.region,
            products=products,
            pages=usage.pages,
            usage=usage,
            next_cursor=next_cursor,
            error=error,
            account_status=account_status,
            request_ids=tuple(request_ids),
        )

    def _admit(self, cursor: str | None) -> None:
        """Let a creator's next page be fetched, unless the run was stopped meanwhile."""
        if self._stopped is not None:
            raise self._stopped.evolve(cursor=cursor)


def _status(error: SfkError | None, usage: Usage, stopped: SfkError | None) -> Status:
    if error is None:
        return "complete"
    if usage.pages:
        return "partial"
    return "skipped" if stopped is not None and not usage.requests else "failed"


def _trace(given: object) -> str:
    """Return what tells an invalid handle from others, in few characters, and from valid ones."""
    text = given if isinstance(given, str) else shown(given)
    return "!" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def invalid_handle(error: InvalidArgumentError) -> Outcome:
    """Return what becomes of an invalid handle."""
    return Outcome(handle=error.handle or "", status="failed", error=error)


def check_handles(handles: object) -> None:
    """Refuse what cannot be a list of handles, such as a single handle.

    Raises:
        InvalidArgumentError: It is a string, or nothing that can be iterated.
    """
    if isinstance(handles, str | bytes) or not isinstance(handles, Iterable | AsyncIterable):
        raise InvalidArgumentError(
            f"handles must be a list or another iterable of handles, not {handles!r:.80}"
        )


# Users know it by its public name, in tracebacks too.
ShowcaseRun.__module__ = "asyncsfk"
