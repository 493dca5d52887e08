"""The calls of a client that fetch one thing each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, overload

from asyncsfk import _routes
from asyncsfk._checks import plain_token, region_code
from asyncsfk.handles import instagram_handle, tiktok_handle
from asyncsfk.models import Balance, InstagramLookup, TikTokLookup, Whoami

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncsfk._api import Api
    from asyncsfk._listing import Listing
    from asyncsfk._routes import Param
    from asyncsfk._terms import Terms
    from asyncsfk.archive import Archive
    from asyncsfk.models import Health, Product, Reply, Review, ReviewPage, ShowcasePage

T = TypeVar("T")


class SingleCalls(ABC):
    """What can be asked of the API through an open client."""

    # Not a property: tools that inspect an object, to mock it for example, read every property.
    @abstractmethod
    def _api(self) -> Api:
        """Return the routes; raises a `ClientStateError` if the client is not open."""

    @abstractmethod
    def _terms(
        self, archive: Archive | None = None, max_age: float | None = None, refresh: bool = False
    ) -> Terms:
        """Return the terms of a single call; raises if an argument is unusable."""

    async def showcase_page(
        self,
        handle: str,
        *,
        region: str | None = None,
        cursor: str | None = None,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> ShowcasePage:
        """Fetch one page of a creator's showcase: one credit.

        Args:
            handle: ``mrbeast``, ``@MrBeast`` or the profile's URL.
            region: A country code of two letters, e.g. ``US``, to see prices and products as there.
            cursor: `ShowcasePage.next_cursor` of the page before; ``None`` is the first page.
            archive: An open `Archive`. An answer that it holds is taken from it, at no cost; one
                that is bought is committed to it before the call returns.
            max_age: Seconds: an archived answer that is older at the time of the call is bought
                afresh.
            refresh: Buy the page afresh if the archive holds it at the time of the call.

        Raises:
            InvalidArgumentError: An argument is unusable; nothing was sent.
            SfkError: The page could not be fetched; see `asyncsfk.errors`.

        Source: ``GET /v1/tiktok/profiles/{handle}/showcase-products``.
        """
        name, cursor, region = _checked(handle, cursor, region)
        terms = self._terms(archive, max_age, refresh)
        return await self._api().showcase_page(name, terms, cursor=cursor, region=region)

    def showcase(
        self,
        handle: str,
        *,
        region: str | None = None,
        cursor: str | None = None,
        max_pages: int | None = None,
        max_items: int | None = None,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Listing[ShowcasePage, Product, str]:
        """Return a creator's showcase, to be iterated: one credit a page.

        ``async for product in client.showcase("mrbeast")`` fetches pages as they are needed;
        ``.pages()`` iterates the pages, ``await .collect()`` returns a list. Each iteration
        fetches, and pays, anew.

        Args:
            handle: ``mrbeast``, ``@MrBeast`` or the profile's URL.
            region: Same as in `showcase_page`.
            cursor: Where to begin: the ``cursor`` of an error, the ``next_cursor`` of a page.
            max_pages: The most pages to fetch; each costs a credit, and a retry can cost another.
            max_items: The most products to hand out.
            archive: Same as in `showcase_page`; an iteration goes on where an earlier one
                ended.
            max_age: Same as in `showcase_page`.
            refresh: Same as in `showcase_page`.

        Raises:
            InvalidArgumentError: An argument is unusable; nothing was sent.
            ClientStateError: The client or the archive is not open.
            ArchiveError: The archive holds answers of another origin.

        Source: ``GET /v1/tiktok/profiles/{handle}/showcase-products``.
        """
        name, cursor, region = _checked(handle, cursor, region)
        return self._api().showcase(
            name,
            self._terms(archive, max_age, refresh),
            region=region,
            cursor=cursor,
            max_pages=max_pages,
            max_items=max_items,
        )

    async def tiktok_profile(
        self,
        handle: str,
        *,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> TikTokLookup:
        """Look a TikTok creator up: one credit, found or not.

        Args:
            handle: ``mrbeast``, ``@MrBeast`` or the profile's URL.
            archive: Same as in `showcase_page`.
            max_age: Same as in `showcase_page`.
            refresh: Same as in `showcase_page`.

        Raises:
            InvalidArgumentError: The handle is unusable; nothing was sent.
            SfkError: The call failed.

        Source: ``GET /v1/tiktok/profiles/{handle}``.
        """
        request = _routes.tiktok_profile(tiktok_handle(handle))
        return await self._api().answer(
            request, TikTokLookup, self._terms(archive, max_age, refresh)
        )

    async def instagram_profile(
        self,
        handle: str,
        *,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> InstagramLookup:
        """Look an Instagram account up: one credit, found or not.

        Args:
            handle: ``mrbeast``, ``@mrbeast`` or the profile's URL.
            archive: Same as in `showcase_page`.
            max_age: Same as in `showcase_page`.
            refresh: Same as in `showcase_page`.

        Raises:
            InvalidArgumentError: The handle is unusable; nothing was sent.
            SfkError: The call failed.

        Source: ``GET /v1/instagram/profiles/{handle}``.
        """
        request = _routes.instagram_profile(instagram_handle(handle))
        return await self._api().answer(
            request, InstagramLookup, self._terms(archive, max_age, refresh)
        )

    async def review_page(
        self,
        product_id: str | None = None,
        *,
        url: str | None = None,
        region: str | None = None,
        page: int | None = None,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> ReviewPage:
        """Fetch one page of a product's reviews: one credit.

        Args:
            product_id: `Product.id`; this or ``url`` must be given.
            url: The product's URL, at most 4096 characters.
            region: A country code of two letters, e.g. ``US``.
            page: The page's number, from 1.
            archive: Same as in `showcase_page`.
            max_age: Same as in `showcase_page`.
            refresh: Same as in `showcase_page`.

        Raises:
            InvalidArgumentError: An argument is missing or unusable; nothing was sent.
            SfkError: The call failed.

        Source: ``GET /v1/tiktok/products/reviews``.
        """
        request = _routes.reviews(product_id=product_id, url=url, region=region, page=page)
        return await self._api().review_page(request, self._terms(archive, max_age, refresh))

    def reviews(
        self,
        product_id: str | None = None,
        *,
        url: str | None = None,
        region: str | None = None,
        page: int | None = None,
        max_pages: int | None = None,
        max_items: int | None = None,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Listing[ReviewPage, Review, int]:
        """Return a product's reviews, to be iterated as a `showcase`: one credit a page.

        Args:
            product_id: `Product.id`; this or ``url`` must be given.
            url: The product's URL, at most 4096 characters.
            region: A country code of two letters, e.g. ``US``.
            page: The number of the page to begin with.
            max_pages: The most pages to fetch; each costs a credit, and a retry can cost another.
            max_items: The most reviews to hand out.
            archive: Same as in `showcase_page`.
            max_age: Same as in `showcase_page`.
            refresh: Same as in `showcase_page`.

        Raises:
            InvalidArgumentError: An argument is missing or unusable; nothing was sent.
            ClientStateError: The client or the archive is not open.
            ArchiveError: The archive holds answers of another origin.

        Source: ``GET /v1/tiktok/products/reviews``.
        """
        return self._api().reviews(
            self._terms(archive, max_age, refresh),
            product_id=product_id,
            url=url,
            region=region,
            page=page,
            max_pages=max_pages,
            max_items=max_items,
        )

    async def whoami(self) -> Whoami:
        """Ask whom the key belongs to: free.

        Raises:
            UnauthorizedError: The key is wrong.
            SfkError: The call failed otherwise.

        Source: ``GET /v1/whoami``.
        """
        return await self._api().answer(_routes.whoami(), Whoami, self._terms())

    async def balance(self) -> Balance:
        """Ask what the account can spend: free.

        Raises:
            SfkError: The call failed.

        Source: ``GET /v1/balance``.
        """
        return await self._api().answer(_routes.balance(), Balance, self._terms())

    async def health(self) -> Health:
        """Ask whether the API is well: free, needs no key.

        Raises:
            SfkError: The call failed.

        Source: ``GET /health``.
        """
        return await self._api().health(self._terms())

    @overload
    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, Param] | None = None,
        price: int = 1,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Reply[Any]: ...
    @overload
    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, Param] | None = None,
        type: type[T],
        price: int = 1,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Reply[T]: ...
    @overload
    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, Param] | None = None,
        type: Any,  # noqa: ANN401 - a union and the like
        price: int = 1,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Reply[Any]: ...
    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, Param] | None = None,
        type: Any = Any,  # noqa: A002 - msgspec's own word for it
        price: int = 1,
        archive: Archive | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Reply[Any]:
        """Call any other route of the API, under the same guarantees.

        ::

            reply = await client.get("/v1/tiktok/profiles/mrbeast/videos", type=Videos)

        Args:
            path: The route's path, ``/v1/...``, percent-encoded, without a query.
            params: The query's parameters, not encoded; ``None`` values are left out.
            type: What to decode the answer's ``data`` into: a msgspec struct or any type that
                msgspec knows; if not given, plain JSON data.
            price: The most that the route charges, in credits, which is reserved under a ceiling.
                At 0 the call is sent even when a ceiling is reached, unless the route was seen to
                charge.
            archive: Same as in `showcase_page`.
            max_age: Same as in `showcase_page`.
            refresh: Same as in `showcase_page`.

        Raises:
            InvalidArgumentError: An argument is unusable; nothing was sent.
            SfkError: The call failed.
        """
        request = _routes.other(path, params, type, price)
        return await self._api().reply(request, self._terms(archive, max_age, refresh))


def _checked(
    handle: str, cursor: str | None, region: str | None
) -> tuple[str, str | None, str | None]:
    return tiktok_handle(handle), plain_token("cursor", cursor), region_code(region)
