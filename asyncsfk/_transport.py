"""One request in, one answer or one typed error out."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from asyncsfk._messages import Response
from asyncsfk._packing import GZIP
from asyncsfk._pool import Connector, PoolSender, can_do_without
from asyncsfk._session import DisconnectedError, SessionSender, is_tried
from asyncsfk._text import described
from asyncsfk._version import __version__
from asyncsfk._watchdog import Deadline, Watchdog
from asyncsfk._wire import ERROR_BYTES, OK
from asyncsfk.errors import (
    BodyTooLargeError,
    ClientStateError,
    ConfigurationError,
    ConnectionFailedError,
    ConnectionLostError,
    Details,
    RequestTimeoutError,
    TransportError,
)
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncsfk._exchange import Exchange
    from asyncsfk.config import Config

# So that an API that moves to another address is found again well within `Retry.outage`.
_DNS_SECONDS: Final = 60
# At most aiohttp's default: common servers keep idle connections open at least so long.
_KEEPALIVE_SECONDS: Final = 15.0

# What comes before the "@" of a proxy's URL, which may lack its "http://".
_PASSWORD: Final = re.compile(r"[^\s/'\"@]+@")
_LONGEST_REASON: Final = 500
_CLOSED: Final = "the borrowed aiohttp session is closed"
# Said in place of the words of errors that quote what came: the key, a part of it, or a proxy's
# password may be in there.
_WORDS: Final[dict[type[Exception], str]] = {
    aiohttp.ClientHttpProxyError: "the proxy answered HTTP {0.status}",
    aiohttp.ServerDisconnectedError: "the server closed it",
    aiohttp.ClientPayloadError: "the body is malformed, or was cut short",
    aiohttp.ClientResponseError: "what came is not HTTP",
    HttpProcessingError: "what came is not HTTP",
    UnicodeEncodeError: "a host's name or a proxy's password cannot be encoded",
}


class Transport:
    """Sends requests by a borrowed aiohttp session, or on connections of its own.

    Must be made and used inside one running event loop.
    """

    def __init__(self, config: Config, session: aiohttp.ClientSession | None) -> None:
        self._owns_session = session is None
        self._session = session or _make_session(config)
        self._max_body_bytes = config.max_body_bytes
        self._watchdog = Watchdog(total=config.timeout.total, quiet=config.timeout.read)
        # Keyed by whether to send the API key.
        self._senders = {key: self._make_sender(config, with_key=key) for key in (False, True)}

    @property
    def width(self) -> int | None:
        """How many requests the session's pool lets out at once, if it limits them."""
        connector = self._session.connector
        if connector is None:
            return None
        limits = [limit for limit in (connector.limit, connector.limit_per_host) if limit]
        return min(limits, default=None)

    def begin(self, target: str, *, with_key: bool) -> Exchange:
        """Return one GET, for `send`.

        Args:
            target: Path and query, percent-encoded; sent byte for byte after the path of the base.
            with_key: Whether to send the key.
        """
        return self._senders[with_key].begin(target)

    async def send(self, exchange: Exchange) -> Response:
        """Send a request, once, and read the answer.

        Raises:
            ConnectionFailedError: Nothing was sent.
            RequestTimeoutError: No whole answer in time.
            ConnectionLostError: The connection broke.
            BodyTooLargeError: The body of a 200 is over the limit.
            ClientStateError: The borrowed session is closed.
        """
        if self._session.closed:
            raise ClientStateError(_CLOSED)
        try:
            with Deadline(self._watchdog, exchange.progress):
                head = await exchange.send()
                body = await self._read(exchange, head.status)
        except (aiohttp.ClientError, HttpProcessingError, DisconnectedError, OSError) as error:
            if exchange.head is None or exchange.head.status == OK:
                failure = _failure(error, is_sent=exchange.is_sent())
                raise failure from failure.__cause__
            # The status says enough; only the explanation in the body was lost.
            head, body = exchange.head, b""
        except (ValueError, RuntimeError) as error:
            # An invalid host name, a proxy of the environment that is no URL, no thread left for a
            # DNS look-up. With a borrowed session, it may be an error of a hook, which is not ours.
            if not self._owns_session or exchange.is_sent():
                raise
            failure = _failure(error, is_sent=False)
            raise failure from failure.__cause__
        except asyncio.CancelledError:
            if exchange.is_sent() or not self._was_cut_short():
                raise
            raise ClientStateError(_CLOSED) from None
        finally:
            exchange.close()
        return Response(status=head.status, headers=head.headers, body=body)

    def _was_cut_short(self) -> bool:
        """Tell whether aiohttp cancelled this: closing its session ends a DNS look-up like that."""
        task = asyncio.current_task()
        return self._session.closed and task is not None and not task.cancelling()

    async def aclose(self) -> None:
        """Close the session, if it is ours."""
        self._watchdog.close()
        if self._owns_session:
            await self._session.close()

    def _make_sender(self, config: Config, *, with_key: bool) -> SessionSender | PoolSender:
        base = URL(config.base_url, encoded=True)
        headers = _headers(config, with_key=with_key)
        # aiohttp times only the making of connections, which are few. In a borrowed pool others may
        # have all the places: waiting for one does not mean that the API is out of reach.
        seconds = config.timeout.connect
        timeout = aiohttp.ClientTimeout(
            total=None, connect=seconds if self._owns_session else None, sock_connect=seconds
        )
        # A session is made even where it is not used, to see if a program adds traces to each one.
        session, connector = self._session, self._session.connector
        needs_session = not self._owns_session or config.trust_env or config.proxy is not None
        if connector is None or needs_session or not can_do_without(session):
            return SessionSender(
                session,
                base,
                headers,
                timeout,
                config.proxy,
                may_use_proxies=_may_use_proxies(config),
            )
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
    """Refuse to borrow anything but an aiohttp session.

    Raises:
        ConfigurationError: It is something else.
    """
    if session is not None and not isinstance(session, aiohttp.ClientSession):
        raise ConfigurationError(
            f"session must be an aiohttp.ClientSession, not {described(session)}"
        )


def running_loop(session: aiohttp.ClientSession | None) -> asyncio.AbstractEventLoop:
    """Return the running event loop, in which a borrowed session must have been made.

    Raises:
        ClientStateError: No event loop is running, or the session was made in another.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise ClientStateError("a client needs a running event loop of asyncio") from None
    made_in: object = getattr(session, "_loop", loop)
    if made_in is not loop:
        raise ClientStateError("the borrowed aiohttp session was made in another event loop")
    return loop


def _make_session(config: Config) -> aiohttp.ClientSession:
    make_connector = Connector if is_tried() else aiohttp.TCPConnector
    return aiohttp.ClientSession(
        connector=make_connector(
            # The gate is the limit: waiting in the pool as well would count towards the timeouts.
            limit=0,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            # Pinned: installing aiodns would silently switch to another resolver.
            resolver=aiohttp.ThreadedResolver(),
            ttl_dns_cache=_DNS_SECONDS,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=config.trust_env and _may_use_proxies(config),
    )


def _may_use_proxies(config: Config) -> bool:
    """Tell whether requests may go by a proxy: over plain http it would see the key."""
    return config.is_encrypted or config.allow_insecure_http


def _headers(config: Config, *, with_key: bool) -> Mapping[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": GZIP,
        "User-Agent": config.user_agent or f"asyncsfk/{__version__}",
    }
    if with_key and config.api_key is not None:
        headers["x-api-key"] = config.api_key.header_value()
    return headers


def _failure(error: Exception, *, is_sent: bool) -> TransportError:
    """Return a foreign error as ours, with its cause if that may be shown."""
    if isinstance(error, DisconnectedError):
        error = error.cause
    words = next((words for kind, words in _WORDS.items() if isinstance(error, kind)), "")
    words = words.format(error)
    if not words:
        # "ssl:default" says nothing, and is there for plain http as well.
        reason = str(error).replace(" ssl:default", "") or type(error).__name__
        if isinstance(error, aiohttp.InvalidURL):
            # That of a proxy of the environment, say; aiohttp's message is the URL alone.
            reason = f"not a usable URL: {reason}"
        elif isinstance(error, aiohttp.ClientConnectorError):
            # aiohttp says "None" if a handshake was cut short, or if several addresses failed.
            told = str(error.os_error) or type(error.os_error).__name__
            reason = reason.replace("[None]", f"[{told}]")
        words = _PASSWORD.sub("***@", reason[:_LONGEST_REASON])
    if not is_sent:
        failure: TransportError = ConnectionFailedError(f"no connection: {words}")
    elif isinstance(error, TimeoutError):
        failure = RequestTimeoutError(f"no whole answer in time: {words}")
    else:
        failure = ConnectionLostError(f"the connection was lost: {words}")
    shown = f"{error}{error!r}"
    # The cause may show a proxy's password, in a URL or as "BasicAuth".
    if not isinstance(error, tuple(_WORDS)) and "@" not in shown and "BasicAuth" not in shown:
        failure.__cause__ = error
    return failure
