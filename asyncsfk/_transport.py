"""aiohttp, and nothing else: one request in, one answer or one typed error out.

The only module of the client that imports aiohttp.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

import aiohttp
from aiohttp import hdrs
from yarl import URL

from asyncsfk._messages import Response
from asyncsfk._watchdog import NothingSentError, Watch, Watchdog
from asyncsfk._wire import ERROR_BYTES, OK
from asyncsfk.errors import (
    BodyTooLargeError,
    ClientStateError,
    ConfigurationError,
    ConnectionFailedError,
    ConnectionLostError,
    Details,
    RequestTimeoutError,
    SfkError,
    TransportError,
)
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_middlewares import ClientHandlerType

    from asyncsfk.config import Config

_DNS_SECONDS: Final = 300
# At most aiohttp's default, the shortest that common servers close idle connections after.
_KEEPALIVE_SECONDS: Final = 15.0

# Foreign error -> ours. The most specific class wins; what is none of these is a lost connection.
_NOTHING_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    NothingSentError,
)

# Before the "@" of a proxy's URL, which may have come without its "http://".
_PASSWORD: Final = re.compile(r"[^\s/'\"@]+@")


class _DisconnectedError(Exception):
    """The connection dropped. Raised through aiohttp in place of what makes it send again."""


class _Sending(Watch):
    """One request on its way; the client middleware that lets one call be one request.

    aiohttp silently repeats a GET whose connection drops. A middleware runs for each attempt,
    inside of that repetition, which knows only aiohttp's own errors. A borrowed session's cookies
    stay at home, too.

    Args:
        dog: Keeps its deadlines.
        headers: Put in here: the session would take them one by one, twice, and tell its traces.
    """

    __slots__ = ("_headers", "_request")

    def __init__(self, dog: Watchdog, headers: Mapping[str, str]) -> None:
        super().__init__(dog)
        self._headers = headers
        self._request: aiohttp.ClientRequest | None = None

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send it."""
        self._request = request
        request.headers.popall(hdrs.COOKIE, None)
        request.headers.update(self._headers)
        try:
            return await handler(request)
        except _NOTHING_SENT:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _DisconnectedError(str(error)) from error

    def progress(self) -> int | None:
        """Return a number that grows from 0 as an answer comes; ``None`` until it can come."""
        if self._request is None:
            return None
        response: aiohttp.ClientResponse | None = self._request.response
        if response is None:
            return None
        # aiohttp declares it as never missing.
        content = cast("aiohttp.StreamReader | None", response.content)
        return 0 if content is None else 1 + content.total_bytes


class Transport:
    """Sends requests through an aiohttp session that it owns or borrows.

    Must be made and used inside one running event loop.
    """

    def __init__(self, config: Config, session: aiohttp.ClientSession | None) -> None:
        self._owns_session = session is None
        self._session = session or _make_session(config)
        base = URL(config.base_url, encoded=True)
        self._scheme = base.scheme
        self._authority = base.raw_authority
        self._prefix = base.raw_path.rstrip("/")
        self._proxy = config.proxy
        self._max_body_bytes = config.max_body_bytes
        # aiohttp keeps the time only of connections, which are few.
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=config.timeout.connect, sock_connect=config.timeout.connect
        )
        self._watchdog = Watchdog(total=config.timeout.total, quiet=config.timeout.read)

    @property
    def width(self) -> int | None:
        """How many requests a borrowed session's pool lets out at once, if it limits them."""
        connector = self._session.connector
        if self._owns_session or connector is None:
            return None
        limits = [limit for limit in (connector.limit, connector.limit_per_host) if limit]
        return min(limits, default=None)

    async def get(self, target: str, headers: Mapping[str, str]) -> Response:
        """Send one GET, once, and read the answer.

        Args:
            target: Path and query, percent-encoded; sent byte for byte.
            headers: Sent as they are.

        Raises:
            ConnectionFailedError: Nothing was sent.
            RequestTimeoutError: No whole answer in time.
            ConnectionLostError: The connection broke.
            BodyTooLargeError: The body of a 200 is over the limit.
            ClientStateError: The borrowed session is closed.
        """
        if self._session.closed:
            raise ClientStateError("the borrowed aiohttp session is closed")
        path, _, query = target.partition("?")
        sending = _Sending(self._watchdog, headers)
        try:
            with sending:
                response = await self._session.get(
                    # Of its parts: to take a URL apart takes twice as long.
                    URL.build(
                        scheme=self._scheme,
                        authority=self._authority,
                        path=self._prefix + path,
                        query_string=query,
                        encoded=True,
                    ),
                    allow_redirects=False,
                    auto_decompress=False,
                    middlewares=(sending,),
                    proxy=self._proxy,
                    raise_for_status=False,
                    timeout=self._timeout,
                )
        except (aiohttp.ClientError, _DisconnectedError, OSError) as error:
            raise _translate(error) from _presentable(error)
        except ValueError as error:
            # A host that is no name, or a proxy of the environment that is no URL; what else the
            # hooks of a borrowed session raise is theirs.
            is_ours = self._owns_session or isinstance(error, UnicodeError)
            if not is_ours or sending.progress() is not None:
                raise
            raise _translate(error) from _presentable(error)
        try:
            return await self._read(response, sending)
        finally:
            # It is closed already if the body was read to its end, and its connection free.
            if not response.closed:
                response.close()

    async def aclose(self) -> None:
        """Close the session, if it is ours."""
        self._watchdog.close()
        if self._owns_session:
            await self._session.close()

    async def _read(self, response: aiohttp.ClientResponse, sending: Watch) -> Response:
        status = response.status
        try:
            if response.closed:  # it has come whole
                body = await self._read_body(response)
            else:
                with sending:
                    body = await self._read_body(response)
        except (aiohttp.ClientError, OSError) as error:
            if status == OK:
                raise _translate(error) from _presentable(error)
            # The status says it all; its explanation was lost.
            body = b""
        return Response(status=status, headers=response.headers, body=body)

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        ok = response.status == OK
        limit = self._max_body_bytes if ok else ERROR_BYTES
        length = response.content_length
        if length is not None and length <= limit:
            # aiohttp holds the server to the length that it gave.
            return await response.read()
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                if ok:
                    raise BodyTooLargeError(
                        f"the body is over {limit} bytes",
                        Details(status=response.status, usage=Usage(bytes=len(body))),
                    )
                break
        return bytes(body[:limit])


def check_session(session: object) -> None:
    """Refuse to borrow what is no aiohttp session.

    Raises:
        ConfigurationError: It is not.
    """
    if session is not None and not isinstance(session, aiohttp.ClientSession):
        raise ConfigurationError(f"session must be an aiohttp.ClientSession, not {session!r}")


def _make_session(config: Config) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            # The gate is the limit; a pool that waits would do so inside the timeouts.
            limit=0,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            # Pinned: installing aiodns would silently switch to another resolver.
            resolver=aiohttp.ThreadedResolver(),
            ttl_dns_cache=_DNS_SECONDS,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Over plain http a proxy would see the key; `Config` refuses an explicit one.
        trust_env=config.trust_env and (config.is_encrypted or config.allow_insecure_http),
    )


def _translate(error: Exception) -> SfkError:
    kind: type[TransportError]
    if isinstance(error, (*_NOTHING_SENT, ValueError)):
        kind, what = ConnectionFailedError, "no connection"
    elif isinstance(error, TimeoutError):
        kind, what = RequestTimeoutError, "no whole answer in time"
    else:
        kind, what = ConnectionLostError, "the connection was lost"
    # "ssl:default" says nothing, and stands there for http as well.
    reason = str(error).replace(" ssl:default", "") or type(error).__name__
    return kind(f"{what}: {_PASSWORD.sub('***@', reason)}")


def _presentable(error: Exception) -> Exception | None:
    """Return an error as a cause that can be shown, unless a proxy's password may be in it."""
    return None if "@" in f"{error}{error!r}" else error
