"""The routes as calls: checked arguments in, models out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from asyncsfk import _routes
from asyncsfk._listing import Listing
from asyncsfk.events import PageReceived
from asyncsfk.models import Answer, Health, Reply, ReviewPage, ShowcasePage
from asyncsfk.usage import Meter, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncsfk._call import Caller
    from asyncsfk._wire import Received, Request
    from asyncsfk.events import Emitter
    from asyncsfk.models import Product, Review
    from asyncsfk.models.reviews import ReviewData
    from asyncsfk.models.showcase import ShowcaseData

A = TypeVar("A", bound=Answer)


class Api:
    """Turns what a `Caller` receives into models.

    Args:
        caller: Makes the calls.
        emit: Is told of pages.
        meter: Counts pages and products.
    """

    def __init__(self, caller: Caller, *, emit: Emitter, meter: Meter) -> None:
        self._caller = caller
        self._emit = emit
        self._meter = meter

    async def showcase_page(
        self,
        handle: str,
        *,
        cursor: str | None,
        region: str | None,
        number: int = 1,
        meter: Meter | None = None,
    ) -> ShowcasePage:
        """Fetch one page of a (normalised) creator's showcase."""
        request = _routes.showcase(handle, cursor=cursor, region=region)
        received = await self._caller.fetch(request, meter)
        data: ShowcaseData = received.data
        products = data.products or ()
        has_more = data.page.has_more
        page = ShowcasePage(
            request_id=received.meta.request_id,
            cached=received.meta.cached or False,
            usage=self._count_page(received, len(products), meter),
            handle=handle,
            region=region,
            cursor=cursor,
            number=number,
            products=products,
            next_cursor=data.page.next_cursor,
            has_more=bool(data.page.next_cursor) if has_more is None else has_more,
        )
        self._tell(request, number, len(products), has_more=page.has_more)
        return page

    def showcase(
        self,
        handle: str,
        *,
        region: str | None,
        cursor: str | None = None,
        max_pages: int | None = None,
        max_items: int | None = None,
        meter: Meter | None = None,
        admit: Callable[[str | None], None] | None = None,
    ) -> Listing[ShowcasePage, Product, str]:
        """Return a (normalised) creator's showcase, to be iterated.

        ``admit`` is told the cursor of each page before it is fetched, and may raise.
        """

        async def fetch(cursor: str | None, number: int) -> ShowcasePage:
            if admit is not None:
                admit(cursor)
            return await self.showcase_page(
                handle, cursor=cursor, region=region, number=number, meter=meter
            )

        return Listing(
            fetch,
            subject=handle,
            route=_routes.SHOWCASE,
            start=cursor,
            max_pages=max_pages,
            max_items=max_items,
            items_of=lambda page: page.products,
            next_of=lambda page: page.next_cursor,
            has_more=lambda page: page.has_more,
        )

    async def review_page(self, request: Request, number: int = 1) -> ReviewPage:
        """Fetch one page of a product's reviews."""
        received = await self._caller.fetch(request)
        data: ReviewData = received.data
        reviews = data.reviews or ()
        has_more = data.page.has_more
        page = ReviewPage(
            request_id=received.meta.request_id,
            cached=received.meta.cached or False,
            usage=self._count_page(received, 0, None),
            lookup_status=data.lookup_status,
            reviews=reviews,
            summary=data.summary,
            page=data.page.current_page,
            next_page=data.page.next_page,
            has_more=data.page.next_page is not None if has_more is None else has_more,
        )
        self._tell(request, number, len(reviews), has_more=page.has_more)
        return page

    def reviews(
        self,
        *,
        product_id: str | None,
        url: str | None,
        region: str | None,
        page: int | None,
        max_pages: int | None,
        max_items: int | None,
    ) -> Listing[ReviewPage, Review, int]:
        """Return a product's reviews, to be iterated."""
        # Built once already here, so that bad arguments are refused before the iteration.
        _routes.reviews(product_id=product_id, url=url, region=region, page=page)

        async def fetch(page: int | None, number: int) -> ReviewPage:
            request = _routes.reviews(product_id=product_id, url=url, region=region, page=page)
            return await self.review_page(request, number)

        return Listing(
            fetch,
            subject=product_id or url,
            route=_routes.REVIEWS,
            start=page,
            max_pages=max_pages,
            max_items=max_items,
            items_of=lambda page: page.reviews,
            next_of=_next_page,
            has_more=lambda page: page.has_more,
        )

    async def answer(self, request: Request, model: type[A], meter: Meter | None = None) -> A:
        """Fetch an answer whose fields are those of its data."""
        received = await self._caller.fetch(request, meter)
        return model(**_meta(received), **msgspec.structs.asdict(received.data))

    async def reply(self, request: Request) -> Reply[Any]:
        """Fetch an answer with its data as one value."""
        received = await self._caller.fetch(request)
        return Reply(**_meta(received), data=received.data)

    async def health(self) -> Health:
        """Fetch the API's word on itself."""
        health: Health = (await self._caller.fetch(_routes.health())).data
        return health

    def _count_page(self, received: Received, products: int, meter: Meter | None) -> Usage:
        usage = Usage(pages=1, products=products)
        self._meter.add(usage)
        if meter is not None:
            meter.add(usage)
        return received.usage + usage

    def _tell(self, request: Request, number: int, items: int, *, has_more: bool) -> None:
        if self._emit.wants_detail:
            self._emit(
                PageReceived(
                    route=request.route,
                    handle=request.handle,
                    number=number,
                    items=items,
                    has_more=has_more,
                )
            )


def _next_page(page: ReviewPage) -> int | None:
    """Return the number that a page leads to, if it leads forward."""
    following = page.next_page
    return following if following is not None and following > (page.page or 1) else None


def _meta(received: Received) -> dict[str, Any]:
    return {
        "request_id": received.meta.request_id,
        "cached": received.meta.cached or False,
        "usage": received.usage,
    }
