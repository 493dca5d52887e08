"""One creator of a run: page after page, to an outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from asyncsfk import _routes
from asyncsfk._store._writes import Finish
from asyncsfk._terms import Terms
from asyncsfk.errors import (
    RunStoppedError,
    SfkError,
    StaleCursorError,
    UndecodableError,
    is_account_wide,
    stops_a_run,
)
from asyncsfk.models import TikTokLookup
from asyncsfk.outcomes import Outcome
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncsfk._api import Api
    from asyncsfk._listing import Listing
    from asyncsfk._options import RunOptions
    from asyncsfk._resources import RunResources
    from asyncsfk._showcase_cache import ShowcaseCache
    from asyncsfk._store._reads import Showcase
    from asyncsfk.models import Product, ShowcasePage
    from asyncsfk.outcomes import Status


class CreatorFetcher:
    """Follows the showcases of one run's creators.

    Args:
        api: Fetches.
        options: What the run was told.
        resources: Who pays, and where the pages are kept.

    Attributes:
        stopped: Why nothing more must be bought, once that is so.
    """

    def __init__(self, api: Api, options: RunOptions, resources: RunResources) -> None:
        self._api = api
        self._options = options
        self._resources = resources
        self.stopped: SfkError | None = None

    async def fetch(
        self,
        handle: str,
        cached: ShowcaseCache | None,
        on_page: Callable[[ShowcasePage], Awaitable[None]] | None,
    ) -> Outcome:
        """Fetch as many of a creator's pages as can be had, and return what became of it.

        Args:
            handle: The (normalised) creator.
            cached: What the archive holds of it, opened.
            on_page: Takes the pages; without it their products are in the outcome.
        """
        blocked: SfkError | None = None
        usage = Usage()
        may_restart = self._options.restart_stale and self.stopped is None
        if may_restart and cached is not None and cached.is_begun:
            blocked, usage = await self._restart_if_stale(handle, cached)
        products: list[Product] = []
        request_ids: list[str | None] = []
        account_status = None
        error: SfkError | None = None
        next_cursor: str | None = None
        try:
            async for page in self._listing(handle, cached, blocked).pages():
                usage += page.usage
                request_ids.append(page.request_id)
                # An empty cursor leads nowhere.
                next_cursor = page.next_cursor or None if page.has_more else None
                if on_page is not None:
                    await on_page(page)
                else:
                    products += page.products
        except SfkError as caught:
            # The frames of its traceback would keep it, and whole pages, in memory.
            error, next_cursor = caught.with_traceback(None), caught.cursor
            usage += caught.usage
            if blocked is not None and error.message == blocked.message:
                # Its cost is counted already; here it tells what it was.
                error = error.evolve(usage=blocked.usage, attempts=blocked.attempts)
        if self._options.verify_empty and error is None and not usage.products:
            try:
                lookup = await self._look_up(handle, cached)
                usage += lookup.usage
                account_status = lookup.lookup_status
                request_ids.append(lookup.request_id)
            except SfkError as caught:
                # Only the look-up failed: the showcase is whole, and next_cursor stays as it is.
                error = caught.with_traceback(None)
                usage += caught.usage
        if error is not None and stops_a_run(error):
            self.stop(error)
        return Outcome(
            handle=handle,
            status=_status(error, usage, self.stopped),
            region=self._options.region,
            products=tuple(products),
            pages=usage.pages,
            usage=usage,
            next_cursor=next_cursor,
            error=error,
            account_status=account_status,
            request_ids=tuple(each for each in request_ids if each is not None),
        )

    async def keep(
        self, outcome: Outcome, known: Showcase | None, floor: int
    ) -> tuple[Outcome, bool]:
        """Put an outcome on file before it is handed out.

        Args:
            outcome: What became of a creator.
            known: What was on file of it before.
            floor: The lowest id that its pages can have.

        Returns:
            The outcome, changed if it could not be put on file; and whether it is on file.
        """
        cache = self._resources.terms.cache
        # If a creator was skipped or stopped, nothing is known of it but its pages on file.
        is_stopped = outcome.status == "skipped" or isinstance(outcome.error, RunStoppedError)
        if cache is None or is_stopped:
            return outcome, False
        error = outcome.error and outcome.error.evolve(body=None)
        told = msgspec.structs.replace(outcome, products=(), error=error).to_json()
        if (api_key := self._api.caller.api_key) is not None:
            # The API may have echoed the key in what it says of an account.
            told = api_key.redact_bytes(told)
        run_id = self._resources.run_id
        try:
            await cache.store.finish(
                Finish(
                    handle=outcome.handle,
                    region=outcome.region or "",
                    run_id=run_id,
                    others=frozenset(cache.store.runs - {run_id}),
                    floor=floor,
                    status=outcome.status,
                    finished=time.time(),
                    outcome=None if _is_known(outcome, known) else told,
                    was_lost=error is not None and not outcome.pages and error.usage.maybe > 0,
                )
            )
        except SfkError as failed:
            self.stop(failed)
            # Its pages are on file all the same.
            failed = failed.evolve(handle=outcome.handle, cursor=outcome.next_cursor)
            status: Status = "partial" if outcome.pages else "failed"
            if outcome.error is None:
                outcome = msgspec.structs.replace(outcome, status=status, error=failed)
            return outcome, False
        return outcome, True

    def stop(self, error: SfkError) -> None:
        """Buy nothing more; the first reason counts."""
        if self.stopped is None:
            self.stopped = error.evolve(
                handle=None, cursor=None, usage=Usage(), attempts=0, body=None
            )
            if is_account_wide(error):
                # Calls that wait in line, for minutes perhaps, would fail one by one all the same.
                self._api.caller.refuse(self._resources.terms.payer, self.stopped)

    def _listing(
        self, handle: str, cached: ShowcaseCache | None, blocked: SfkError | None
    ) -> Listing[ShowcasePage, Product, str]:
        return self._api.showcase(
            handle,
            self._resources.terms,
            region=self._options.region,
            max_pages=self._options.max_pages,
            cached=cached,
            admit=lambda: self.stopped or blocked,
        )

    async def _look_up(self, handle: str, cached: ShowcaseCache | None) -> TikTokLookup:
        payer, cache = self._resources.terms
        if cache is not None:
            has_failed = cached is not None and cached.has_failed
            cache = msgspec.structs.replace(cache, offline=self.stopped, has_failed=has_failed)
        elif self.stopped is not None:
            raise self.stopped.evolve(handle=handle, route=_routes.TIKTOK_PROFILE)
        request = _routes.tiktok_profile(handle)
        return await self._api.answer(request, TikTokLookup, Terms(payer, cache))

    async def _restart_if_stale(
        self, handle: str, cached: ShowcaseCache
    ) -> tuple[SfkError | None, Usage]:
        """Buy the page after those on file; return why it cannot be had, and what it cost.

        That way, a stale cursor shows before any page on file is handed out.
        """
        try:
            return None, await self._api.probe(
                handle,
                self._resources.terms,
                cached,
                region=self._options.region,
                max_pages=self._options.max_pages,
                admit=lambda: self.stopped,
            )
        except StaleCursorError as stale:
            cached.restart()
            return None, stale.usage
        except SfkError as error:
            return error, error.usage


def _status(error: SfkError | None, usage: Usage, stopped: SfkError | None) -> Status:
    if error is None:
        return "complete"
    if usage.pages:
        return "partial"
    return "skipped" if stopped is not None and not usage.requests else "failed"


def _is_known(outcome: Outcome, known: Showcase | None) -> bool:
    """Tell whether an outcome came out of the file, and the file already says as much or more."""
    if known is None or known.outcome is None or known.status != outcome.status:
        return False
    if outcome.usage.requests or outcome.error:
        return False
    try:
        told = Outcome.from_json(known.outcome)
    except UndecodableError:
        return False
    return told.pages >= outcome.pages and outcome.account_status in (None, told.account_status)
