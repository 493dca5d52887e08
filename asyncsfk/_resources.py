"""What a run may spend, and where what it buys is kept."""

from __future__ import annotations

import secrets
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from asyncsfk._terms import Payer, Terms, distinct
from asyncsfk.budget import Budget
from asyncsfk.errors import ClientStateError
from asyncsfk.usage import Meter

if TYPE_CHECKING:
    from asyncsfk._opening import Opening
    from asyncsfk._options import RunOptions
    from asyncsfk._page_cache import PageCache


class RunResources:
    """A run's budgets and its archive, which is open as long as a run needs it.

    Args:
        own: The budget of its client.
        max_credits: The run's ceiling, or a budget that it shares; without it, only the client's
            counts.
        archive: Where its pages are kept.
        base_url: Whose answers those are.

    Attributes:
        run_id: Tells the run from others in the archive.
        meter: Counts what its calls cost.
        terms: On what terms its calls are made; until it is open, they count in the client's budget
            alone.
        budget: The run's own ceiling, or the one that it shares, once it is open.
    """

    def __init__(
        self,
        own: Budget,
        max_credits: int | Budget | None,
        archive: Opening | None,
        base_url: str,
    ) -> None:
        self._own = own
        self._max_credits = max_credits
        self._archive = archive
        self._base_url = base_url
        self._leaving = AsyncExitStack()
        self._is_closed = False
        self.run_id = secrets.randbits(62)
        self.meter = Meter()
        self.terms = Terms(Payer((own,), self.meter))
        self.budget: Budget | None = None

    async def open(self, options: RunOptions) -> None:
        """Open the archive, and settle the terms.

        Args:
            options: What the run was told.

        Raises:
            ArchiveError: The archive cannot be used.
            ClientStateError: It was closed meanwhile.
        """
        archive, max_credits = self._archive, self._max_credits
        cache: PageCache | None = None
        job: list[Budget] = []
        if archive is not None:
            await archive.enter()
            self._leaving.push_async_callback(archive.leave)
            if self._is_closed:
                raise ClientStateError("the run was closed while it was entered")
            cache = archive.cache(self._base_url, max_age=options.max_age, refresh=options.refresh)
            cache.store.runs.add(self.run_id)
            self._leaving.callback(cache.store.runs.discard, self.run_id)
            job = archive.budgets
        own = [self._own]
        if isinstance(max_credits, Budget):
            self.budget = max_credits
            own.append(max_credits)
        elif max_credits is not None and cache is not None:
            store = cache.store
            # The ceiling is that of the whole archive: what earlier runs spent counts. So does what
            # others have under way, since this budget is not told how that ends.
            maybe = store.maybe + store.exposed
            # The API sets no limit to what it says that an answer cost.
            charged, maybe = min(store.charged, sys.maxsize), min(maybe, sys.maxsize)
            self.budget = Budget(max_credits, charged=charged, maybe=maybe)
            # It binds everything that writes to the archive.
            job.append(self.budget)
            self._leaving.callback(job.remove, self.budget)
        elif max_credits is not None:
            self.budget = Budget(max_credits)
            own.append(self.budget)
        self.terms = Terms(Payer(distinct(*own), self.meter, job), cache)

    async def close(self) -> None:
        """Leave the archive; the last run to leave closes it, if runs opened it."""
        self._is_closed = True
        await self._leaving.aclose()
