"""aiohttp, and nothing else: one request in, one answer or one typed error out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from asyncsfk._messages import Response
from asyncsfk._packing import GZIP
from asyncsfk._pool import Pool, is_enough
from asyncsfk._session import DisconnectedError, Session
from asyncsfk._version import __version__
from asyncsfk._watchdog import NothingSentError, Watchdog
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

    from asyncsfk._exchange import Exchange, Head
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


class Transport:
    """Sends requests through an aiohttp session that it owns or borrows.

    Must be made and used inside one running event loop.
    """

    def __init__(self, config: Config, session: aiohttp.ClientSession | None) -> None:
        self._owns_session = session is None
        self._session = session or _make_session(config)
        self._max_body_bytes = config.max_body_bytes
        self._watchdog = Watchdog(total=config.timeout.total, quiet=config.timeout.read)
        self._way = self._find_way(config)

    @property
    def width(self) -> int | None:
        """How many requests a borrowed session's pool lets out at once, if it limits them."""
        connector = self._session.connector
        if self._owns_session or connector is None:
            return None
        limits = [limit for limit in (connector.limit, connector.limit_per_host) if limit]
        return min(limits, default=None)

    async def get(self, target: str, *, with_key: bool) -> Response:
        """Send one GET, once, and read the answer.

        Args:
            target: Path and query, percent-encoded; sent byte for byte.
            with_key: Whether to send the key.

        Raises:
            ConnectionFailedError: Nothing was sent.
            RequestTimeoutError: No whole answer in time.
            ConnectionLostError: The connection broke.
            BodyTooLargeError: The body of a 200 is over the limit.
            ClientStateError: The borrowed session is closed.
        """
        if self._session.closed:
            raise ClientStateError("the borrowed aiohttp session is closed")
        exchange = self._way.begin(target, with_key=with_key)
        try:
            with exchange:
                head = await exchange.send()
                body = await self._read(exchange, head)
        except (aiohttp.ClientError, DisconnectedError, OSError) as error:
            if exchange.head is None or exchange.head.status == OK:
                raise _translate(error) from _presentable(error)
            # The status says it all; its explanation was lost.
            head, body = exchange.head, b""
        except ValueError as error:
            # A host that is no name, or a proxy of the environment that is no URL; what else the
            # hooks of a borrowed session raise is theirs.
            is_ours = self._owns_session or isinstance(error, UnicodeError)
            if not is_ours or exchange.is_sent():
                raise
            raise _translate(error) from _presentable(error)
        finally:
            exchange.close()
        return Response(status=head.status, headers=head.headers, body=body)

    async def aclose(self) -> None:
        """Close the session, if it is ours."""
        self._watchdog.close()
        if self._owns_session:
            await self._session.close()

    def _find_way(self, config: Config) -> Pool | Session:
        base = URL(config.base_url, encoded=True)
        headers = {with_key: _headers(config, with_key=with_key) for with_key in (False, True)}
        # aiohttp keeps the time only of connections, which are few.
        timeout = aiohttp.ClientTimeout(
            total=None, connect=config.timeout.connect, sock_connect=config.timeout.connect
        )
        session, proxy, connector = self._session, config.proxy, self._session.connector
        has_proxy = config.trust_env or proxy is not None
        if self._owns_session and connector is not None and not has_proxy and is_enough(session):
            return Pool(connector, base, headers, timeout=timeout, dog=self._watchdog)
        return Session(session, base, headers, proxy=proxy, timeout=timeout, dog=self._watchdog)

    async def _read(self, exchange: Exchange, head: Head) -> bytes:
        if head.status != OK:
            return (await exchange.read(head, ERROR_BYTES))[:ERROR_BYTES]
        body = await exchange.read(head, self._max_body_bytes)
        if len(body) > self._max_body_bytes:
            raise BodyTooLargeError(
                f"the body is over {self._max_body_bytes} bytes",
                Details(status=OK, usage=Usage(bytes=len(body))),
            )
        return body


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


def _headers(config: Config, *, with_key: bool) -> Mapping[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": GZIP,
        "User-Agent": config.user_agent or f"asyncsfk/{__version__}",
    }
    if with_key and config.api_key is not None:
        headers["x-api-key"] = config.api_key.header_value()
    return headers


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
