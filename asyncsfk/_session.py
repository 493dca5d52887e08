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


# The undocumented parts of aiohttp that we use have been the same for years. In a version that they
# were not tried with they are left alone.
_TRIED: Final = ("3.14.",)


class DisconnectedError(Exception):
    """The connection dropped. Raised through aiohttp in place of errors that make it send again.

    Args:
        cause: What aiohttp said.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


def is_tried() -> bool:
    """Tell whether the undocumented parts were tried with this version of aiohttp."""
    return aiohttp.__version__.startswith(_TRIED)


def is_as_it_came(session: aiohttp.ClientSession) -> bool:
    """Tell whether the method that sends is aiohttp's own, not that of a mock or a tracer."""
    method: object = getattr(session, "_request", None)
    # Told by its code: a stand-in may have the name of what it replaces, and claim its class.
    code = getattr(method.__func__, "__code__", None) if type(method) is MethodType else None
    return code is not None and code.co_filename == aiohttp.client.__file__


class SessionSender:
    """Sends requests to one origin by a session, all with the same headers.

    Must be made and used inside one running event loop.

    Args:
        session: Sends them.
        base: The origin, and the path before all targets.
        headers: What to send with each request.
        timeout: For connecting.
        proxy: The proxy's URL, if there is one.
        may_use_proxies: Whether a proxy may see what is sent; if not, the session's is bypassed.
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
        # Built from parts: parsing a whole URL takes twice as long.
        url = URL.build(
            scheme=self._scheme,
            authority=self._authority,
            path=self._prefix + path,
            query_string=query,
            encoded=True,
        )
        return SessionExchange(self, url)


class SessionExchange(Exchange):
    """A request by a session; also the client middleware that makes one call send one request.

    aiohttp silently repeats a GET whose connection drops, but only upon its own errors. A
    middleware runs for each attempt, inside that repetition, so it can raise another error instead.
    It also keeps a borrowed session's cookies from being sent.

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
        # Here, since the session would copy them one by one, twice, and tell its traces.
        request.headers.update(self._sender.headers)
        if not self._sender.may_use_proxies:
            request.proxy = request.proxy_auth = None
        send = request.send

        async def send_on(connection: Connection) -> aiohttp.ClientResponse:
            # For `close`: when cut short, aiohttp lets go of it, and over TLS awaits a farewell.
            self._transport = connection.transport
            return await send(connection)

        if is_tried():
            request.send = send_on  # type: ignore[assignment, method-assign]
        try:
            response = await handler(request)
        except aiohttp.ClientConnectorError:
            # A subclass of one below, but nothing was sent.
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise DisconnectedError(error) from None
        except (aiohttp.ClientError, OSError):
            raise
        except Exception as error:
            if self._reply() is not None or self._sender.session.trace_configs:
                # Perhaps a hook's own error, which must reach the user.
                raise
            # The error of a connector that is not aiohttp's, for SOCKS say, or of a resolver.
            raise DisconnectedError(error) from None
        finally:
            # It makes a cycle, which would keep what is read until the garbage collector runs.
            vars(request).pop("send", None)
        # From now on the connection may be released at any time, and serve another request.
        self._transport = None
        return response

    def _check_first(self) -> None:
        """Keep a custom session from trying again by itself: only its first attempt counts."""
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
            # Nothing was sent, not even by a stand-in.
            self._has_begun = False
            raise
        self._response = response
        if response.connection is not None:
            self._transport = response.connection.transport
        self.head = Head(response.status, response.headers, response.content)
        return self.head

    async def read(self, limit: int) -> bytes:
        """Read the body; by the response, if its length is known, so that traces hear of it."""
        # No variable holds the response: tracebacks would show its headers; see `Head`.
        assert self._response is not None  # noqa: S101 - for the type checkers
        length = self._response.content_length
        if length is None or length > limit:
            return await super().read(limit)
        return await self._response.read()

    def _reply(self) -> aiohttp.ClientResponse | None:
        """Return the response that aiohttp makes as it sends, whether an answer has come or not."""
        return None if self._request is None else self._request.response

    def is_sent(self) -> bool:
        """Tell whether it is on its way."""
        if self._request is not None:
            return self._reply() is not None
        # A stand-in for the session may have sent it without calling the middleware.
        return self._has_begun and not is_as_it_came(self._sender.session)

    def close(self) -> None:
        """Close the connection, unless all was read: then it was released already."""
        response, transport = self._response, self._transport
        if transport is not None and (response is None or not response.content.is_eof()):
            # Otherwise TLS would wait for the server's farewell.
            transport.abort()
        if response is not None:
            response.close()
