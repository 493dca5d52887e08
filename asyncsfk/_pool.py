"""Requests on the connections of aiohttp's pool, without its session between.

Most of what a session does for a request none of ours may have: redirects, cookies, passwords of
other sources, another try. It takes more CPU than all else that a request does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.http import HttpProcessingError

from asyncsfk._exchange import Exchange, Head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from yarl import URL

    from asyncsfk._watchdog import Watchdog

# What is called of aiohttp here has been the same for years, but no document promises it: a version
# that it was not tried with gets its session.
_TRIED: Final = ("3.14.",)
_INFORMATIONAL: Final = range(100, 200)
_SWITCHING_PROTOCOLS: Final = 101


def is_enough(session: aiohttp.ClientSession) -> bool:
    """Tell whether a session's connections will do without it, and nobody would miss it."""
    return aiohttp.__version__.startswith(_TRIED) and not session.trace_configs


class Pool:
    """Sends requests to one origin by a connector's connections.

    Must be made and used inside one running event loop.

    Args:
        connector: Has the connections.
        base: The origin, and the path before all targets.
        headers: What to send with a request, by whether the key is among it.
        timeout: Of connecting.
        dog: Keeps the deadlines.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        base: URL,
        headers: Mapping[bool, Mapping[str, str]],
        *,
        timeout: aiohttp.ClientTimeout,
        dog: Watchdog,
    ) -> None:
        self._connector = connector
        self._timeout = timeout
        # Never sent; it tells the connector where to.
        self.origin = aiohttp.ClientRequest("GET", base)
        self._dog = dog
        # RFC 9112, section 3: what is before a target on the wire, and what is after it.
        self._start = f"GET {base.raw_path.rstrip('/')}".encode()
        self._ends = {
            with_key: _end({"Host": self.origin.headers["Host"], **lines})
            for with_key, lines in headers.items()
        }

    def begin(self, target: str, *, with_key: bool) -> Exchange:
        """Return a request that is about to be sent.

        Args:
            target: Path and query, percent-encoded; sent byte for byte.
            with_key: Whether to send the key.
        """
        return _Exchange(self._dog, self, self._start + target.encode() + self._ends[with_key])

    async def connect(self) -> Connection:
        """Return a connection that is free, or was made."""
        while True:
            try:
                connection = await self._connector.connect(
                    self.origin, traces=[], timeout=self._timeout
                )
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError("it took too long") from error
            # An answer that nobody asked for would be taken for that to the next request.
            if connection.protocol is None or len(connection.protocol) == 0:
                return connection
            connection.close()


def _end(headers: Mapping[str, str]) -> bytes:
    lines = (f"{name}: {value}" for name, value in headers.items())
    # In no variable, which a traceback may show: the key is in it.
    return "\r\n".join((" HTTP/1.1", *lines, "", "")).encode()


class _Exchange(Exchange):
    """A request on a connection of the pool.

    Args:
        dog: Keeps its deadlines.
        pool: Whose connections.
        data: What to send.
    """

    __slots__ = ("_connection", "_data", "_pool")

    def __init__(self, dog: Watchdog, pool: Pool, data: bytes) -> None:
        super().__init__(dog)
        self._pool = pool
        self._data = data
        self._connection: Connection | None = None

    async def send(self) -> Head:
        """Send it, and wait for the answer's head."""
        connection = await self._pool.connect()
        self._connection = connection
        protocol, transport = connection.protocol, connection.transport
        # For the type checkers: one that is closed is not given out.
        assert protocol is not None  # noqa: S101
        assert transport is not None  # noqa: S101
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        transport.write(self._data)
        try:
            message, content = await protocol.read()
            while message.code in _INFORMATIONAL and message.code != _SWITCHING_PROTOCOLS:
                message, content = await protocol.read()
        except HttpProcessingError as error:
            # What the session makes of it.
            raise aiohttp.ClientResponseError(
                self._pool.origin.request_info,
                (),
                status=error.code,
                message=error.message,
                headers=error.headers,
            ) from error
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
