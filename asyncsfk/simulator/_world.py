"""The world that a simulator shows: the truth of every route, derived and never stored."""

from collections.abc import Iterator
from typing import Final

from asyncsfk.simulator import _creators, _products, _profiles, _reviews
from asyncsfk.simulator._calls import Call, Route
from asyncsfk.simulator._cursors import Place, make_cursor, read_cursor
from asyncsfk.simulator._dice import make_key
from asyncsfk.simulator._products import Json

_FIRST: Final = Place(0)


class World:
    """Everything that follows from a seed."""

    def __init__(self, seed: int, page_size: int) -> None:
        self.seed = seed
        self.page_size = page_size
        self.key = make_key(seed)

    def handles(self, count: int, start: int) -> Iterator[str]:
        """Name creators that exist."""
        return _creators.handles(self.seed, count, start)

    def creator(self, handle: str) -> _creators.Creator:
        """Derive a creator."""
        return _creators.creator(self.key, handle)

    def products(self, handle: str, region: str | None, start: int, stop: int) -> list[Json]:
        """Derive part of a showcase."""
        return _products.products(self.key, self.creator(handle), region, start, stop)

    def reviews(self, product: str, region: str | None, start: int, stop: int) -> list[Json]:
        """Derive part of a product's reviews."""
        return _reviews.reviews(self.key, product, region, start, stop)

    def review_summary(self, product: str) -> Json:
        """Derive the summary of a product's reviews."""
        return _reviews.summary(self.key, product)

    def tiktok_profile(self, handle: str) -> Json:
        """Derive the `data` of a TikTok profile."""
        return _profiles.tiktok_profile(self.key, self.creator(handle))

    def instagram_profile(self, handle: str) -> Json:
        """Derive the `data` of an Instagram profile."""
        return _profiles.instagram_profile(self.key, self.creator(handle))

    def place(self, call: Call) -> Place | None:
        """Find where a call's page starts; None for a cursor that is not one of ours."""
        if call.route is Route.REVIEWS:
            return Place(((call.page or 1) - 1) * self.page_size)
        if call.handle is None or call.cursor is None:
            return _FIRST
        return read_cursor(self.key, call.handle, call.region, call.cursor)

    def cursor(self, call: Call, place: Place) -> str:
        """Make the cursor to another place in the showcase that a call is about."""
        return make_cursor(self.key, call.handle or "", call.region, place)

    def has_more(self, call: Call, place: Place) -> bool:
        """Tell whether there is a page after this one."""
        return place.offset + self.page_size < self._length(call)

    def data(self, call: Call, place: Place) -> Json:
        """Derive the `data` that answers a call on a route with content."""
        match call.route:
            case Route.SHOWCASE:
                return self._showcase_page(call, place)
            case Route.REVIEWS:
                return self._reviews_page(call, place)
            case Route.TIKTOK_PROFILE:
                return self.tiktok_profile(call.handle or "")
            case _:
                return self.instagram_profile(call.handle or "")

    def _length(self, call: Call) -> int:
        if call.route is Route.REVIEWS:
            product = _reviews.product_of(call.product, call.url)
            return _reviews.review_count(self.key, product) or 0
        return self.creator(call.handle or "").products

    def _showcase_page(self, call: Call, place: Place) -> Json:
        end = place.offset + self.page_size
        more = self.has_more(call, place)
        return {
            "products": self.products(call.handle or "", call.region, place.offset, end),
            "page": {
                "nextCursor": self.cursor(call, Place(end)) if more else None,
                "hasMore": more,
            },
        }

    def _reviews_page(self, call: Call, place: Place) -> Json:
        product = _reviews.product_of(call.product, call.url)
        end = place.offset + self.page_size
        more = self.has_more(call, place)
        number = call.page or 1
        summary = self.review_summary(product)
        return {
            "lookupStatus": "not_found" if summary["totalReviews"] is None else "found",
            "reviews": self.reviews(product, call.region, place.offset, end),
            "summary": summary,
            "page": {
                "currentPage": number,
                "nextPage": number + 1 if more else None,
                "hasMore": more,
            },
        }
