"""The routes as calls: checked arguments in, models out."""

from __future__ import annotations

import sys
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from asyncsfk import _reading, _routes
from asyncsfk._listing import Listing
from asyncsfk._paging import Chain
from asyncsfk._replay import CANNOT_DECODE
from asyncsfk._result import placed
from asyncsfk._showcase_cache import ShowcaseCache
from asyncsfk.errors import ArchiveError, BadRequestError, PaginationError, SfkError
from asyncsfk.events import PageReceived
from asyncsfk.models import Answer, Health, Reply, ReviewPage, ShowcasePage
from asyncsfk.usage import Meter, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncsfk._call import Caller
    from asyncsfk._messages import Received, Request
    from asyncsfk._terms import Payer, Terms
    from asyncsfk.events import Emitter
    from asyncsfk.models import Product, Review

A = TypeVar("A", bound=Answer)

_PRODUCTS = attrgetter("products")
_REVIEWS = attrgetter("reviews")
_NEXT_CURSOR = attrgetter("next_cursor")


class Api:
    """Turns what a `Caller` receives into models.

    Args:
        caller: Makes the calls.
        emit: Is told of pages.
        meter: Counts pages and products.

    Attributes:
        caller: Same as given.
    """

    def __init__(self, caller: Caller, *, emit: Emitter, meter: Meter) -> None:
        self.caller = caller
        self._emit = emit
        self._meter = meter

    async def showcase_page(
        self, handle: str, terms: Terms, *, cursor: str | None, region: str | None
    ) -> ShowcasePage:
        """Fetch one page of a (normalised) creator's showcase."""
        request = _routes.showcase(handle, cursor=cursor, region=region)
        received = await self.caller.fetch(request, *terms)
        return self._take_page(request, received, terms.payer, 1)

    def showcase(
        self,
        handle: str,
        terms: Terms,
        *,
        region: str | None,
        cursor: str | None = None,
        max_pages: int | None = None,
        max_items: int | None = None,
        cached: ShowcaseCache | None = None,
        admit: Callable[[], SfkError | None] | None = None,
    ) -> Listing[ShowcasePage, Product, str]:
        """Return a (normalised) creator's showcase, to be iterated.

        Args:
            handle: Whose.
            terms: Those of each page. Pages in their cache belong together as one showcase, except
                with a ``cursor``: then each stands alone, and only its own age counts.
            region: A country code.
            cursor: Where to begin.
            max_pages: The most pages to fetch.
            max_items: The most products to hand out.
            cached: The showcase's cache, if the caller has opened it already.
            admit: Asked before each page; returns why nothing more must be sent, if that is so.
        """
        if cached is None and terms.cache is not None and cursor is None:
            cached = ShowcaseCache(terms.cache, handle, region)

        async def fetch(cursor: str | None, number: int) -> ShowcasePage:
            request = _routes.showcase(handle, cursor=cursor, region=region)
            refusal = None if admit is None else admit()
            if cached is not None:
                received = await self._fetch_on(
                    cached, request, terms.payer, number, offline=refusal
                )
            elif refusal is not None:
                raise placed(refusal, request)
            else:
                received = await self.caller.fetch(request, *terms)
            return self._take_page(request, received, terms.payer, number)

        return Listing(
            fetch,
            subject=handle,
            route=_routes.SHOWCASE,
            start=cursor,
            max_pages=max_pages,
            max_items=max_items,
            items_of=_PRODUCTS,
            next_of=_NEXT_CURSOR,
        )

    async def probe(
        self,
        handle: str,
        terms: Terms,
        cached: ShowcaseCache,
        *,
        region: str | None,
        max_pages: int | None,
        admit: Callable[[], SfkError | None],
    ) -> Usage:
        """Buy the page after those that an archive holds of a showcase, and hand out nothing.

        Arguments as for `showcase`.

        Returns:
            What it cost; the page is in the archive by then.

        Raises:
            StaleCursorError: The API no longer takes the cursor that leads to it.
        """
        chain: Chain[str] = Chain(None, max_pages)
        cursor: str | None = None
        number = 1
        while True:
            request = _routes.showcase(handle, cursor=cursor, region=region)
            received = await self._fetch_on(cached, request, terms.payer, number, offline=admit())
            page = self._read_page(request, received, Usage(), number)
            with suppress(PaginationError):
                following = chain.advance(
                    page.next_cursor, has_more=page.has_more, empty=not page.products
                )
                if received.kept and following is not None:
                    cursor, number = following, number + 1
                    continue
            cached.rewind()
            return received.usage

    async def review_page(self, request: Request, terms: Terms, number: int = 1) -> ReviewPage:
        """Fetch one page of a product's reviews."""
        received = await self.caller.fetch(request, *terms)
        page = _reading.review_page(received, self._count_page(received, 0, terms.payer))
        self._tell(request, received, number, len(page.reviews), has_more=page.has_more)
        return page

    def reviews(
        self,
        terms: Terms,
        *,
        product_id: str | None,
        url: str | None,
        region: str | None,
        page: int | None,
        max_pages: int | None,
        max_items: int | None,
    ) -> Listing[ReviewPage, Review, int]:
        """Return a product's reviews, to be iterated."""
        # Built here as well, so that bad arguments are refused before the iteration.
        _routes.reviews(product_id=product_id, url=url, region=region, page=page)

        async def fetch(page: int | None, number: int) -> ReviewPage:
            request = _routes.reviews(product_id=product_id, url=url, region=region, page=page)
            return await self.review_page(request, terms, number)

        return Listing(
            fetch,
            subject=product_id or url,
            route=_routes.REVIEWS,
            start=page,
            max_pages=max_pages,
            max_items=max_items,
            items_of=_REVIEWS,
            next_of=_next_page,
        )

    async def answer(self, request: Request, model: type[A], terms: Terms) -> A:
        """Fetch an answer as a model that has the fields of its data."""
        return _reading.answer(await self.caller.fetch(request, *terms), model)

    async def reply(self, request: Request, terms: Terms) -> Reply[Any]:
        """Fetch an answer with its data as one value."""
        return _reading.reply(await self.caller.fetch(request, *terms))

    async def health(self, terms: Terms) -> Health:
        """Fetch the API's word on itself."""
        health: Health = (await self.caller.fetch(_routes.health(), *terms)).data
        return health

    async def _fetch_on(
        self,
        cached: ShowcaseCache,
        request: Request,
        payer: Payer,
        number: int,
        *,
        offline: SfkError | None,
    ) -> Received:
        """Fetch a page of a showcase, out of its archive or by going on from there."""
        try:
            cache = await cached.page(number, offline=offline)
        except ArchiveError as error:
            raise placed(error, request) from error.__cause__
        try:
            received = await self.caller.fetch(request, payer, cache)
        except BadRequestError as error:
            raise cached.judge(error) from error.__cause__
        except CANNOT_DECODE:
            # It is on file all the same, unless it was too large on its way; if a showcase was
            # begun anew, then with this page.
            await cached.passed(kept=False)
            raise
        await cached.passed(kept=received.kept)
        return received

    def _take_page(
        self, request: Request, received: Received, payer: Payer, number: int
    ) -> ShowcasePage:
        """Return a page of a showcase to hand out, having counted it and emitted its event."""
        usage = self._count_page(received, len(received.data.products or ()), payer)
        page = self._read_page(request, received, usage, number)
        self._tell(request, received, number, len(page.products), has_more=page.has_more)
        return page

    def _read_page(
        self, request: Request, received: Received, usage: Usage, number: int
    ) -> ShowcasePage:
        return _reading.showcase_page(
            received,
            usage,
            handle=request.handle or "",
            region=request.region,
            cursor=request.cursor,
            number=number,
            api_key=self.caller.api_key,
        )

    def _count_page(self, received: Received, products: int, payer: Payer) -> Usage:
        usage = Usage(pages=1, products=products, archived=int(received.kept))
        self._meter.add(usage)
        if payer.meter is not None:
            payer.meter.add(usage)
        return msgspec.structs.replace(
            received.usage, pages=1, products=products, archived=usage.archived
        )

    def _tell(
        self, request: Request, received: Received, number: int, items: int, *, has_more: bool
    ) -> None:
        if self._emit.wants_detail:
            self._emit(
                PageReceived(
                    route=request.route,
                    handle=request.handle,
                    number=number,
                    items=items,
                    has_more=has_more,
                    archived=received.kept,
                )
            )


def _next_page(page: ReviewPage) -> int | None:
    """Return the page number that a page leads to, if that is a later one and not absurdly high."""
    following = page.next_page
    return following if following and (page.page or 1) < following <= sys.maxsize else None
