"""Requests by an aiohttp session, with its tracing and its proxies."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Final

import aiohttp
import aiohttp.client
from aiohttp import hdrs
from yarl import URL

from asyncsfk._exchange import HEADER_BYTES, Exchange, Head

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.connector import Connection


# What is called of aiohttp, and no document promises, has been the same for years: a version that
# it was not tried with is left to itself.
_TRIED: Final = ("3.14.",)


class DisconnectedError(Exception):
    """The connection dropped. Raised through aiohttp in place of what makes it send again.

    Args:
        cause: What aiohttp said.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


def is_tried() -> bool:
    """Tell whether what no document promises was tried with aiohttp's version."""
    return aiohttp.__version__.startswith(_TRIED)


def is_as_it_came(session: aiohttp.ClientSession) -> bool:
    """Tell whether nothing stands in for the method that sends, as mocks and tracers do."""
    method: object = getattr(session, "_request", None)
    # By its code: a stand-in bears the name of what it stands for, and says to be of its class.
    code = getattr(method.__func__, "__code__", None) if type(method) is MethodType else None
    return code is not None and code.co_filename == aiohttp.client.__file__


class SessionSender:
    """Sends requests to one origin by a session, all with the same headers.

    Must be made and used inside one running event loop.

    Args:
        session: Sends them.
        base: The origin, and the path before all targets.
        headers: What to send with each request.
        timeout: Of connecting.
        proxy: The proxy's URL, if there is one.
        may_use_proxies: Whether a proxy may see what is sent; else the session's own is passed by.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: URL,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        proxy: str | None,
        *,
        may_use_proxies: bool,
    ) -> None:
        self.session = session
        self.headers = headers
        self.timeout = timeout
        self.proxy = proxy
        self.may_use_proxies = may_use_proxies
        self._scheme = base.scheme
        self._authority = base.raw_authority
        self._prefix = base.raw_path.rstrip("/")

    def begin(self, target: str) -> Exchange:
        """Return a request that is about to be sent."""
        path, _, query = target.partition("?")
        # Of its parts: to take a URL apart takes twice as long.
        url = URL.build(
            scheme=self._scheme,
            authority=self._authority,
            path=self._prefix + path,
            query_string=query,
            encoded=True,
        )
        return SessionExchange(self, url)


class SessionExchange(Exchange):
    """A request by a session; the client middleware that lets one call be one request.

    aiohttp silently repeats a GET whose connection drops. A middleware runs for each attempt,
    inside of that repetition, which knows only aiohttp's own errors. A borrowed session's cookies
    stay at home, too.

    Args:
        sender: Whose session.
        url: What to ask for.
    """

    __slots__ = ("_has_begun", "_request", "_response", "_sender", "_transport", "_url")

    def __init__(self, sender: SessionSender, url: URL) -> None:
        super().__init__()
        self._sender = sender
        self._url = url
        self._has_begun = False
        self._request: aiohttp.ClientRequest | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._transport: asyncio.Transport | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send it."""
        self._check_first()
        self._request = request
        request.headers.popall(hdrs.COOKIE, None)
        # Here, since the session would take them one by one, twice, and tell its traces.
        request.headers.update(self._sender.headers)
        if not self._sender.may_use_proxies:
            request.proxy = request.proxy_auth = None
        send = request.send

        async def send_on(connection: Connection) -> aiohttp.ClientResponse:
            # aiohttp lets go of it when it is cut short, and over TLS then waits for a farewell.
            self._transport = connection.transport
            return await send(connection)

        if is_tried():
            request.send = send_on  # type: ignore[assignment, method-assign]
        try:
            response = await handler(request)
        except aiohttp.ClientConnectorError:
            # One of those below, but nothing was sent.
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise DisconnectedError(error) from None
        except (aiohttp.ClientError, OSError):
            raise
        except Exception as error:
            if self._reply() is not None or self._sender.session.trace_configs:
                # Of a hook, perhaps, which is to be heard of.
                raise
            # Of a connector that is not aiohttp's, as there are for SOCKS, or of a resolver.
            raise DisconnectedError(error) from None
        finally:
            # A cycle: what is read would live until it is collected.
            vars(request).pop("send", None)
        # From now on it may be free at any time, and another's.
        self._transport = None
        return response

    def _check_first(self) -> None:
        """Keep a session of somebody's own make from trying again by itself: its first counts."""
        if (first := self._reply()) is not None:
            status: int | None = getattr(first, "status", None)
            if status is not None:
                self.head = Head(status, first.headers, first.content)
            first.close()
            raise DisconnectedError(ConnectionError("its session was about to send it again"))

    async def send(self) -> Head:
        """Send it, and wait for the answer's head."""
        sender = self._sender
        self._has_begun = True
        try:
            response = await sender.session.get(
                self._url,
                allow_redirects=False,
                auto_decompress=False,
                max_field_size=HEADER_BYTES,
                middlewares=(self,),
                proxy=sender.proxy,
                raise_for_status=False,
                timeout=sender.timeout,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            # Whoever was to send it.
            self._has_begun = False
            raise
        self._response = response
        if response.connection is not None:
            self._transport = response.connection.transport
        self.head = Head(response.status, response.headers, response.content)
        return self.head

    async def read(self, limit: int) -> bytes:
        """Read the body, by the response where its length is told, so that traces hear of it."""
        # No variable has the response: tracebacks would show its headers, as of `Head`.
        assert self._response is not None  # noqa: S101 - for the type checkers
        length = self._response.content_length
        if length is None or length > limit:
            return await super().read(limit)
        return await self._response.read()

    def _reply(self) -> aiohttp.ClientResponse | None:
        """Return the response that aiohttp makes as it sends, with or without an answer in it."""
        return None if self._request is None else self._request.response

    def is_sent(self) -> bool:
        """Tell whether it is on its way."""
        if self._request is not None:
            return self._reply() is not None
        # What stands in for the session may have sent it without a word to us.
        return self._has_begun and not is_as_it_came(self._sender.session)

    def close(self) -> None:
        """Close the connection, unless all was read: then it is free already."""
        response, transport = self._response, self._transport
        if transport is not None and (response is None or not response.content.is_eof()):
            # As in the pool.
            transport.abort()
        if response is not None:
            response.close()
