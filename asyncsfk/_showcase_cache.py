"""An archive as a showcase's cache: which kept pages will do, and where to go on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from asyncsfk import _routes
from asyncsfk._page_cache import PageCache, key_of
from asyncsfk.errors import ArchiveError, StaleCursorError, UndecodableError
from asyncsfk.outcomes import Outcome

if TYPE_CHECKING:
    from asyncsfk._store._reads import Showcase
    from asyncsfk._store._watch import Watch
    from asyncsfk.errors import BadRequestError, SfkError


class ShowcaseCache:
    """Follows one showcase from page to page, through what an archive holds of it and beyond.

    Pages of one showcase belong together: where its first page is bought afresh, the later ones
    are too, whatever older ones the archive holds.

    Args:
        cache: The archive, and which kept pages will do for a first page.
        handle: The (normalised) creator.
        region: As the caller gave it.
        watch: Sees what others keep of it; without it the archive is asked for each page.

    Attributes:
        floor: The lowest id that its pages can have.
    """

    def __init__(
        self, cache: PageCache, handle: str, region: str | None, watch: Watch | None = None
    ) -> None:
        self._cache = cache
        self._handle = handle
        self._region = region
        self._watch = watch
        self.floor = 0
        self._anew: int | None = None
        # A first page with this id or a higher one is of a showcase that others began since.
        self._following = 0
        # Unless it goes on from a first page on file: the lowest id of one by others that will do.
        self._first_from: int | None = None
        self._look = True
        self._number = 1
        self._bought_from: int | None = None
        self._is_fresh = False
        self._has_failed = False

    async def open(self) -> Showcase | None:
        """Look how far the showcase has come; return what the archive says of it.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        first = key_of(_routes.showcase(self._handle, cursor=None, region=self._region))
        # Before we look: pages that others buy meanwhile are as fresh as ours would be.
        self._following = self._cache.store.last_page + 1
        found = await self._cache.store.find_showcase(self._handle, self._region or "", first)
        self._is_fresh = True
        # A showcase that the archive has never heard of need not be looked up page by page.
        self._look = found is not None
        self.floor = self._first_from = self._cache.floor
        self._anew = self._bought_from = None
        if found is None:
            return None
        showcase, cache = found.showcase, self._cache
        will_do = cache.floor <= (found.page or 0) and cache.since <= (found.received or 0.0)
        if will_do:
            self.floor = max(showcase.floor, cache.floor)
            self._first_from = self.floor if found.page is None else None
            self._following = max(self._following, (found.page or 0) + 1)
        else:
            # Later pages on file, however new, belong to a first page that will not do.
            self._begin_at(self._following)
        # Unless it failed at a later page than the first, which will be bought afresh.
        self._has_failed = showcase.was_lost or (will_do and _has_failed(showcase))
        return showcase

    def restart(self) -> None:
        """Begin anew, or go on with what others have begun anew: the older pages will not do."""
        self._begin_at(self._following)
        self.rewind()

    async def page(self, number: int, *, offline: SfkError | None) -> PageCache:
        """Return the cache in which a page is looked up and kept.

        Args:
            number: The page's number in the showcase, from 1.
            offline: Why it must not be bought, if it must not.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        if number == 1 and not self._is_fresh:
            await self.open()
        self._is_fresh = False
        self._number = number
        return msgspec.structs.replace(
            self._cache,
            offline=offline,
            floor=self.floor,
            since=0.0,
            look=self.is_begun,
            alone=False,
            anew=self._anew,
            watch=self._watch,
            has_failed=self.has_failed,
            # A showcase that others have begun since we looked is as fresh as ours would be.
            take_over=self._take_over if number == 1 and self._first_from is not None else None,
        )

    async def passed(self, *, kept: bool) -> None:
        """Take note of a page that was received: bought, or out of the archive."""
        if not kept:
            # Our own probe may have bought a later one before.
            self._bought_from = min(self._bought_from or self._number, self._number)
        # As of now: another iteration of the same listing may look for its first page meanwhile.
        first_from = self._first_from
        if self._number != 1 or first_from is None:
            return
        # It has this id, or a lower one.
        last = self.floor if kept else self._cache.store.last_page
        if self._anew is not None:
            self.floor = last
        # If it is on file, others have kept it since we looked, or our own probe has.
        if not kept and self._watch is not None and self._watch.is_alone:
            return
        # Go on with the showcase that others have begun, where that begins on file.
        with suppress(ArchiveError):
            found = await self._cache.store.find_showcase(self._handle, self._region or "", b"")
            # Meanwhile another iteration of the same listing may have found its first page on file.
            if found is not None and self._first_from is not None:
                # Not where it was begun anew once more since: our first page is of an older one.
                self.floor = max(first_from, min(found.showcase.floor, last))

    @property
    def is_begun(self) -> bool:
        """Whether the archive may hold pages of it that will do."""
        return self._look or self._watch is None or not self._watch.is_alone

    @property
    def has_failed(self) -> bool:
        """Whether what must be bought next has failed before; see `PageCache`."""
        # Nothing was kept of it behind that.
        return self._has_failed and self._bought_from is None

    def _take_over(self, first: int) -> None:
        """Go on with the showcase that others began with this page, and its further pages."""
        self.floor = first
        self._following = first + 1

    def _begin_at(self, page: int) -> None:
        self.floor = self._first_from = self._anew = page
        self._has_failed = False

    def rewind(self) -> None:
        """Go back to the first page, with what the archive holds by now."""
        if self._first_from is not None:
            self.floor = self._first_from
        self._is_fresh = True

    def judge(self, error: BadRequestError) -> BadRequestError:
        """Return the refusal of a page: as a stale cursor, if the archive led to that page."""
        # No page led to the first, and from one that was bought just now, by our own probe
        # perhaps, the cursor is new.
        if self._number == 1 or (self._bought_from or self._number) < self._number:
            return error
        # Without a watch this is a listing, which has no option but `refresh`.
        option = "refresh" if self._watch is None else "restart_stale"
        return StaleCursorError(
            f"the API no longer takes the cursor that the archive leads to; {option}=True starts "
            f"this showcase over: {error.message}",
            error.details,
        )


def _has_failed(showcase: Showcase) -> bool:
    """Tell whether a showcase ended with a failure that may have been charged."""
    if showcase.outcome is None or showcase.status == "complete":
        return False
    try:
        error = Outcome.from_json(showcase.outcome).error
    except UndecodableError:
        return False
    return error is not None and error.usage.maybe > 0
