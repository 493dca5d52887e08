"""The yardstick: the client that a good engineer would write by hand for this one job.

Some worker tasks over one iterator, one aiohttp session, ``await response.read()``, a reused typed
msgspec decoder. It follows cursors and does nothing else: a failure of any kind ends it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Struct(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The fields of `asyncsfk.models`, in the fastest kind of struct."""


class _Image(_Struct, frozen=True):
    url: str | None
    urls: list[str]
    width: int | None
    height: int | None


class _Price(_Struct, frozen=True):
    currency_code: str | None
    currency_symbol: str | None
    sale_price: str | None
    original_price: str | None
    discount_percent: str | None


class _Rating(_Struct, frozen=True):
    score: float | None
    review_count: int


class _Sales(_Struct, frozen=True):
    sold_count: int


class _Seller(_Struct, frozen=True):
    id: str


class Product(_Struct, frozen=True):
    """A product, as the API sends it."""

    id: str
    title: str | None
    url: str | None
    image: _Image | None
    price: _Price | None
    rating: _Rating | None
    sales: _Sales
    seller: _Seller | None
    details: msgspec.Raw = msgspec.Raw()


class _Page(_Struct, frozen=True):
    next_cursor: str | None
    has_more: bool


class _Data(_Struct, frozen=True):
    products: list[Product]
    page: _Page


class _Meta(_Struct, frozen=True):
    request_id: str
    credits_charged: int


class _Answer(_Struct, frozen=True):
    data: _Data
    meta: _Meta


class Yardstick:
    """Fetches creators' showcases, ``width`` at once."""

    def __init__(self, url: str, *, key: str, width: int) -> None:
        self._url = url
        self._key = key
        self._width = width
        self._decoder = msgspec.json.Decoder(_Answer)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"x-api-key": self._key}
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def fetch(self, handles: Iterable[str]) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of requests and products."""
        left = iter(handles)
        totals = await asyncio.gather(*(self._work(left) for _ in range(self._width)))
        return sum(requests for requests, _ in totals), sum(products for _, products in totals)

    async def _work(self, handles: Iterator[str]) -> tuple[int, int]:
        requests = received = 0
        for handle in handles:
            url = f"{self._url}/v1/tiktok/profiles/{handle}/showcase-products"
            products: list[Product] = []
            params: dict[str, str] = {}
            while True:
                async with self._session.get(url, params=params) as response:
                    response.raise_for_status()
                    data = self._decoder.decode(await response.read()).data
                requests += 1
                products += data.products
                if not data.page.has_more or not data.page.next_cursor:
                    break
                params = {"cursor": data.page.next_cursor}
            received += len(products)
        return requests, received
