"""Requests by an aiohttp session, with its tracing and its proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import hdrs
from yarl import URL

from asyncsfk._exchange import Exchange, Head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_middlewares import ClientHandlerType

    from asyncsfk._watchdog import Watchdog


class DisconnectedError(Exception):
    """The connection dropped. Raised through aiohttp in place of what makes it send again."""


class Session:
    """Sends requests to one origin by a session.

    Must be made and used inside one running event loop.

    Args:
        session: Sends them.
        base: The origin, and the path before all targets.
        headers: What to send with a request, by whether the key is among it.
        proxy: The proxy's URL, if there is one.
        timeout: Of connecting.
        dog: Keeps the deadlines.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: URL,
        headers: Mapping[bool, Mapping[str, str]],
        *,
        proxy: str | None,
        timeout: aiohttp.ClientTimeout,
        dog: Watchdog,
    ) -> None:
        self.session = session
        # What goes through its own middleware is one attempt, and never repeated by aiohttp.
        self.options: dict[str, Any] = {
            "allow_redirects": False,
            "auto_decompress": False,
            "proxy": proxy,
            "raise_for_status": False,
            "timeout": timeout,
        }
        self._base = base
        self._headers = headers
        self._dog = dog

    def begin(self, target: str, *, with_key: bool) -> Exchange:
        """Return a request that is about to be sent.

        Args:
            target: Path and query, percent-encoded; sent byte for byte.
            with_key: Whether to send the key.
        """
        path, _, query = target.partition("?")
        url = URL.build(
            # Of its parts: to take a URL apart takes twice as long.
            scheme=self._base.scheme,
            authority=self._base.raw_authority,
            path=self._base.raw_path.rstrip("/") + path,
            query_string=query,
            encoded=True,
        )
        return _Exchange(self._dog, self, url, self._headers[with_key])


class _Exchange(Exchange):
    """A request by a session; the client middleware that lets one call be one request.

    aiohttp silently repeats a GET whose connection drops. A middleware runs for each attempt,
    inside of that repetition, which knows only aiohttp's own errors. A borrowed session's cookies
    stay at home, too.

    Args:
        dog: Keeps its deadlines.
        by: The session, and how.
        url: What to ask for.
        headers: Put in here: the session would take them one by one, twice, and tell its traces.
    """

    __slots__ = ("_by", "_headers", "_request", "_response", "_url")

    def __init__(self, dog: Watchdog, by: Session, url: URL, headers: Mapping[str, str]) -> None:
        super().__init__(dog)
        self._by = by
        self._url = url
        self._headers = headers
        self._request: aiohttp.ClientRequest | None = None
        self._response: aiohttp.ClientResponse | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send it."""
        self._request = request
        request.headers.popall(hdrs.COOKIE, None)
        request.headers.update(self._headers)
        try:
            return await handler(request)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise DisconnectedError(str(error)) from error

    async def send(self) -> Head:
        """Send it, and wait for the answer's head."""
        self._response = response = await self._by.session.get(
            self._url, middlewares=(self,), **self._by.options
        )
        self.head = Head(response.status, response.headers, response.content)
        return self.head

    async def read(self, head: Head, limit: int) -> bytes:
        """Read the body, by the response where its length is told, so that traces hear of it."""
        response = self._response
        if response is None or response.content_length is None or response.content_length > limit:
            return await super().read(head, limit)
        return await response.read()

    def is_sent(self) -> bool:
        """Tell whether it is on its way."""
        return self._request is not None and self._request.response is not None

    def close(self) -> None:
        """Close the connection, unless all was read: then it is free already."""
        if self._response is not None and not self._response.closed:
            self._response.close()
