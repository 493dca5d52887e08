"""Requests on the connections of aiohttp's pool, without its session in between.

Most of what a session does must not happen to a request of ours: redirects, cookies, passwords from
``.netrc``, a second try. See docs/design.md.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from asyncsfk._exchange import HEADER_BYTES, Exchange, Head
from asyncsfk._session import is_as_it_came, is_tried

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from yarl import URL

_INFORMATIONAL: Final = range(100, 200)
_SWITCHING_PROTOCOLS: Final = 101
# Windows has none.
_CAN_POLL: Final = hasattr(select, "poll")


def can_do_without(session: aiohttp.ClientSession) -> bool:
    """Tell whether aiohttp's version was tried, and nothing else sees what the session sends."""
    return is_tried() and not session.trace_configs and is_as_it_came(session)


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector, except that it gives out no used connection that is spent.

    Those are cut off at once. Only for versions of aiohttp that it was tried with.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as aiohttp has it
    ) -> Connection:
        """Return a free connection, or a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            if not _is_spent(connection.protocol, connection.transport):
                return connection
            connection.close()

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        should_close = should_close or protocol.should_close
        if should_close:
            # Otherwise TLS waits for the server's farewell, long after the client is closed.
            protocol.abort()
        super()._release(key, protocol, should_close=should_close)


class PoolSender:
    """Sends requests to one origin on a connector's connections, all with the same headers.

    Must be made and used inside one running event loop.

    Args:
        connector: Has the connections.
        base: The origin, and the path before all targets.
        headers: What to send with each request.
        timeout: For connecting.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        base: URL,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> None:
        self._connector = connector
        self._timeout = timeout
        # Never sent; it tells the connector where to connect to.
        self._origin = aiohttp.ClientRequest("GET", base)
        # RFC 9112, section 3: what comes before a target on the wire, and what comes after it.
        self._start = f"GET {base.raw_path.rstrip('/')}".encode()
        lines = {"Host": self._origin.headers["Host"], **headers}.items()
        self._end = "\r\n".join(
            (" HTTP/1.1", *(f"{name}: {value}" for name, value in lines), "", "")
        ).encode()

    def begin(self, target: str) -> Exchange:
        """Return a request that is about to be sent."""
        return PooledExchange(self, self._start + target.encode() + self._end)

    async def connect(self) -> Connection:
        """Return a free connection, or a new one."""
        try:
            return await self._connector.connect(self._origin, traces=[], timeout=self._timeout)
        except TimeoutError as error:
            raise TimeoutError("it took too long to connect") from error


def _is_spent(protocol: ResponseHandler | None, transport: asyncio.Transport | None) -> bool:
    """Tell whether a connection has been used and must not be used again."""
    # For the type checkers: a closed connection is not given out.
    assert protocol is not None  # noqa: S101
    parser: Any = protocol._parser  # noqa: SLF001 - a version that was tried
    # A connection that was just made is taken as it is: the next would be no better.
    if parser is None:
        return False
    # The next request would take an answer that nobody asked for as its own.
    return len(protocol) > 0 or _has_begun(parser) or _has_unread(transport)


def _has_begun(parser: Any) -> bool:  # noqa: ANN401 - one of two classes of aiohttp
    """Tell whether an answer that nobody asked for has begun to come."""
    try:
        if parser.feed_eof() is not None:
            return True
    except Exception:  # noqa: BLE001 - it cannot make sense of what has come
        return True
    # Where aiohttp's parser in pure Python keeps it; that one is used if there is none in C.
    return bool(getattr(parser, "_tail", b"") or getattr(parser, "_lines", ()))


def _has_unread(transport: asyncio.Transport | None) -> bool:
    """Tell whether something has come that the event loop has not noticed yet.

    While no request is under way, that is the server's farewell or an answer nobody asked for.
    """
    if transport is None or not _CAN_POLL:
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))


class PooledExchange(Exchange):
    """A request on a connection of the pool.

    Args:
        sender: Whose connections.
        data: What to send.
    """

    __slots__ = ("_connection", "_data", "_sender")

    def __init__(self, sender: PoolSender, data: bytes) -> None:
        super().__init__()
        self._sender = sender
        self._data = data
        self._connection: Connection | None = None

    async def send(self) -> Head:
        """Send it, and wait for the answer's head."""
        self._connection = connection = await self._sender.connect()
        protocol, transport = connection.protocol, connection.transport
        # For the type checkers: as above.
        assert protocol is not None  # noqa: S101
        assert transport is not None  # noqa: S101
        protocol.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            max_field_size=HEADER_BYTES,
        )
        transport.write(self._data)
        message, content = await protocol.read()
        while message.code in _INFORMATIONAL and message.code != _SWITCHING_PROTOCOLS:
            message, content = await protocol.read()
        self.head = Head(message.code, message.headers, content)
        return self.head

    def is_sent(self) -> bool:
        """Tell whether it is on its way."""
        return self._connection is not None

    def close(self) -> None:
        """Give the connection back if all of the answer was read, and close it if not."""
        connection, head = self._connection, self.head
        if connection is None:
            return
        if head is not None and head.content.is_eof():
            connection.release()
        else:
            connection.close()
