"""The peers: what users would take instead of asyncsfk, each as its competent user would write it.

All do the yardstick's job: ``width`` workers over one iterator, one client with as many
connections, every status checked, cursors followed. They differ in the library that fetches and in
what they make of a page: plain dicts or pydantic models. Unlike msgspec's `Raw`, pydantic and json
have no way to leave ``details`` undecoded. A peer whose libraries are not installed says so in
`Peer.missing`.
"""

from __future__ import annotations

import abc
import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import aiohttp
from aiolimiter import AsyncLimiter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Page = tuple[list[Any], str | None]
    """The products of a page, and the next cursor."""


def _optional(name: str) -> Any:  # noqa: ANN401 - a module or nothing
    try:
        return import_module(name)
    except ImportError:
        return None


httpx = _optional("httpx")
niquests = _optional("niquests")
pydantic = _optional("pydantic")
pyreqwest = _optional("pyreqwest.client")
requests = _optional("requests")
tenacity = _optional("tenacity")

RATE: Final = 100_000
"""Requests a second that rate limiters allow: above the load."""
_TIMEOUT: Final = 30.0
_ATTEMPTS: Final = 4
_PASSING: Final = (408, 429, 500, 502, 503, 504)
"""Statuses that may be gone at the next try."""


if pydantic is not None:
    from pydantic.alias_generators import to_camel

    class _Model(pydantic.BaseModel):
        """The fields of `asyncsfk.models`; others are ignored, as there."""

        model_config = pydantic.ConfigDict(alias_generator=to_camel, frozen=True)

    class _Image(_Model):
        url: str | None
        urls: list[str]
        width: int | None
        height: int | None

    class _Price(_Model):
        currency_code: str | None
        currency_symbol: str | None
        sale_price: str | None
        original_price: str | None
        discount_percent: str | None

    class _Rating(_Model):
        score: float | None
        review_count: int

    class _Sales(_Model):
        sold_count: int

    class _Seller(_Model):
        id: str

    class _Product(_Model):
        id: str
        title: str | None
        url: str | None
        image: _Image | None
        price: _Price | None
        rating: _Rating | None
        sales: _Sales
        seller: _Seller | None
        details: dict[str, Any] | None = None

    class _Page(_Model):
        next_cursor: str | None
        has_more: bool

    class _Data(_Model):
        products: list[_Product]
        page: _Page

    class _Meta(_Model):
        request_id: str
        credits_charged: int

    class _Answer(_Model):
        data: _Data
        meta: _Meta


def _typed(body: bytes) -> Page:
    data = _Answer.model_validate_json(body).data
    return data.products, data.page.next_cursor if data.page.has_more else None


def _plain(answer: dict[str, Any]) -> Page:
    data = answer["data"]
    page = data["page"]
    return data["products"], page["nextCursor"] if page["hasMore"] else None


def _path(handle: str) -> str:
    return f"/v1/tiktok/profiles/{handle}/showcase-products"


def _query(cursor: str | None) -> dict[str, str]:
    return {"cursor": cursor} if cursor else {}


class Peer(abc.ABC):
    """Fetches creators' showcases, ``width`` at once."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """The libraries that it uses."""

    def __init__(self, url: str, *, key: str, width: int) -> None:
        self._url = url
        self._headers = {"x-api-key": key}
        self._width = width

    @classmethod
    def missing(cls) -> list[str]:
        """Return the libraries that it needs and that are not installed."""
        return [name for name in cls.needs if globals().get(name) is None]

    @abc.abstractmethod
    async def __aenter__(self) -> Self: ...

    @abc.abstractmethod
    async def __aexit__(self, *exc: object) -> None: ...

    @abc.abstractmethod
    async def fetch(self, handles: Sequence[str]) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of requests and products."""


class AsyncPeer(Peer):
    """Does so in tasks that share one asynchronous client."""

    async def __aenter__(self) -> Self:
        self._client = self._connect()
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)

    async def fetch(self, handles: Sequence[str]) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of requests and products."""
        left = iter(handles)
        totals = await asyncio.gather(*(self._work(left) for _ in range(self._width)))
        return sum(pages for pages, _ in totals), sum(products for _, products in totals)

    async def _work(self, handles: Iterator[str]) -> tuple[int, int]:
        pages = received = 0
        for handle in handles:
            products: list[Any] = []
            cursor = None
            while True:
                more, cursor = await self._page(handle, cursor)
                pages += 1
                products += more
                if not cursor:
                    break
            received += len(products)
        return pages, received

    @abc.abstractmethod
    def _connect(self) -> Any:  # noqa: ANN401 - any library's client, an asynchronous context
        """Return the one client of this peer, not yet entered."""

    @abc.abstractmethod
    async def _page(self, handle: str, cursor: str | None) -> Page:
        """Fetch one page."""


class AiohttpJson(AsyncPeer):
    """Plain dicts from aiohttp."""

    name = "aiohttp + json"
    needs = ("aiohttp",)

    def _connect(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self._url,
            connector=aiohttp.TCPConnector(limit=self._width),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(_TIMEOUT),
            raise_for_status=True,
        )

    async def _page(self, handle: str, cursor: str | None) -> Page:
        async with self._client.get(_path(handle), params=_query(cursor)) as response:
            return _plain(await response.json())


class AiohttpPydantic(AiohttpJson):
    """Models from aiohttp."""

    name = "aiohttp + pydantic"
    needs = ("aiohttp", "pydantic")

    async def _page(self, handle: str, cursor: str | None) -> Page:
        async with self._client.get(_path(handle), params=_query(cursor)) as response:
            return _typed(await response.read())


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx.TransportError)


class HttpxSdk(AsyncPeer):
    """The usual shape of an SDK: httpx and models, with retries and a rate limiter.

    Most of its CPU at width 50 is httpcore's connection pool, which hands one idle connection to
    many requests and walks all connections each time: https://github.com/encode/httpcore/pull/1035
    """

    name = "httpx + pydantic + tenacity + aiolimiter"
    needs = ("httpx", "pydantic", "tenacity")

    def _connect(self) -> Any:  # noqa: ANN401 - an `httpx.AsyncClient`
        self._limiter = AsyncLimiter(RATE, 1)
        # Not as a decorator, since tenacity may be missing.
        self._answer = tenacity.retry(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=tenacity.wait_exponential_jitter(initial=0.5, max=8),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            reraise=True,
        )(self._attempt)
        return httpx.AsyncClient(
            base_url=self._url,
            headers=self._headers,
            timeout=_TIMEOUT,
            # By default connections are dropped after 5 s, which is about a round of slices.
            limits=httpx.Limits(
                max_connections=self._width,
                max_keepalive_connections=self._width,
                keepalive_expiry=60,
            ),
        )

    async def _attempt(self, handle: str, cursor: str | None) -> bytes:
        async with self._limiter:
            response = await self._client.get(_path(handle), params=_query(cursor))
        response.raise_for_status()
        return response.content

    async def _page(self, handle: str, cursor: str | None) -> Page:
        return _typed(await self._answer(handle, cursor))


class Niquests(AsyncPeer):
    """Plain dicts from niquests, over HTTP/1.1."""

    name = "niquests + json"
    needs = ("niquests",)

    def _connect(self) -> Any:  # noqa: ANN401 - a `niquests.AsyncSession`
        return niquests.AsyncSession(
            base_url=self._url,
            headers=self._headers,
            timeout=_TIMEOUT,
            pool_maxsize=self._width,
        )

    async def _page(self, handle: str, cursor: str | None) -> Page:
        response = await self._client.get(_path(handle), params=_query(cursor))
        response.raise_for_status()
        return _plain(response.json())


class Pyreqwest(AsyncPeer):
    """Plain dicts from pyreqwest, which decodes in Rust."""

    name = "pyreqwest + json"
    needs = ("pyreqwest",)

    def _connect(self) -> Any:  # noqa: ANN401 - a `pyreqwest.client.Client`
        return (
            pyreqwest.ClientBuilder()
            .base_url(self._url)
            .default_headers(self._headers)
            .timeout(timedelta(seconds=_TIMEOUT))
            .max_connections(self._width)
            .error_for_status()
            .build()
        )

    async def _page(self, handle: str, cursor: str | None) -> Page:
        request = self._client.get(_path(handle))
        if cursor:
            request = request.query(_query(cursor))
        response = await request.build().send()
        return _plain(await response.json())


class RequestsThreads(Peer):
    """Plain dicts from requests, in ``width`` threads with a session each."""

    name = "requests + threads + json"
    needs = ("requests",)

    async def __aenter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self._width)
        self._own = threading.local()
        self._sessions: list[Any] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.shutdown()
        for session in self._sessions:
            session.close()

    async def fetch(self, handles: Sequence[str]) -> tuple[int, int]:
        """Fetch all creators' products; return the numbers of requests and products."""
        # The event loop sleeps meanwhile: a program of threads would have none.
        totals = await asyncio.to_thread(lambda: list(self._pool.map(self._creator, handles)))
        return sum(pages for pages, _ in totals), sum(products for _, products in totals)

    def _creator(self, handle: str) -> tuple[int, int]:
        session = self._session()
        products: list[Any] = []
        pages, cursor = 0, None
        while True:
            response = session.get(
                self._url + _path(handle), params=_query(cursor), timeout=_TIMEOUT
            )
            response.raise_for_status()
            more, cursor = _plain(response.json())
            pages += 1
            products += more
            if not cursor:
                return pages, len(products)

    def _session(self) -> Any:  # noqa: ANN401 - a `requests.Session`
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
            self._own.session.headers.update(self._headers)
            self._sessions.append(self._own.session)
        return self._own.session


PEERS: Final[tuple[type[Peer], ...]] = (
    AiohttpJson,
    AiohttpPydantic,
    HttpxSdk,
    Niquests,
    RequestsThreads,
    Pyreqwest,
)
