"""One request in, one answer or one typed error out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from asyncsfk._messages import Response
from asyncsfk._packing import GZIP
from asyncsfk._pool import PoolSender, can_do_without
from asyncsfk._session import DisconnectedError, SessionSender
from asyncsfk._version import __version__
from asyncsfk._watchdog import Deadline, NothingSentError, Watchdog
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

    from asyncsfk._exchange import Exchange, Sender
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
    """Sends requests by a session of aiohttp that it borrows, or on connections of its own.

    Must be made and used inside one running event loop.
    """

    def __init__(self, config: Config, session: aiohttp.ClientSession | None) -> None:
        self._owns_session = session is None
        self._session = session or _make_session(config)
        self._max_body_bytes = config.max_body_bytes
        self._watchdog = Watchdog(total=config.timeout.total, quiet=config.timeout.read)
        # By whether to send the key.
        self._senders = {key: self._make_sender(config, with_key=key) for key in (False, True)}

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
        exchange = self._senders[with_key].begin(target)
        try:
            with Deadline(self._watchdog, exchange.progress):
                head = await exchange.send()
                body = await self._read(exchange, head.status)
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

    def _make_sender(self, config: Config, *, with_key: bool) -> Sender:
        base = URL(config.base_url, encoded=True)
        headers = _headers(config, with_key=with_key)
        # aiohttp keeps the time only of connections, which are few. In a borrowed pool others may
        # have all the places: to wait for one is no sign of an API out of reach.
        seconds = config.timeout.connect
        timeout = aiohttp.ClientTimeout(
            total=None, connect=seconds if self._owns_session else None, sock_connect=seconds
        )
        # Even where it is done without, a session is made: what traces a program adds to each.
        session, connector = self._session, self._session.connector
        needs_session = not self._owns_session or config.trust_env or config.proxy is not None
        if connector is None or needs_session or not can_do_without(session):
            return SessionSender(session, base, headers, timeout, config.proxy)
        return PoolSender(connector, base, headers, timeout)

    async def _read(self, exchange: Exchange, status: int) -> bytes:
        if status != OK:
            return (await exchange.read(ERROR_BYTES))[:ERROR_BYTES]
        body = await exchange.read(self._max_body_bytes)
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
