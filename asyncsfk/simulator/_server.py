"""The simulator: a Social Fetch of one's own, on a real socket."""

import asyncio
import logging
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from anyio import CancelScope

from asyncsfk.simulator._arguments import check_flag, check_whole
from asyncsfk.simulator._creators import AccountStatus, named
from asyncsfk.simulator._fault_injector import FaultInjector
from asyncsfk.simulator._faults import Fault
from asyncsfk.simulator._handler import RequestHandler
from asyncsfk.simulator._latency import Latency
from asyncsfk.simulator._ledger import Ledger
from asyncsfk.simulator._products import Json
from asyncsfk.simulator._retry_after import check_retry_after
from asyncsfk.simulator._world import World

_BACKLOG: Final = 4096
_LONGEST_LINE: Final = 2**16
_CLOSING_TURNS: Final = 1000
_LONGEST_CLOSING: Final = 60.0
_ACCEPTING_TURNS: Final = 4


class Simulator:
    """A local Social Fetch: all seven routes, deterministic by seed, with a ledger and faults.

    ```python
    async with Simulator(seed=7, faults=[Fault.status(503, probability=0.1)]) as sim:
        async with Client(base_url=sim.url, api_key=sim.api_key) as client:
            ...
        assert not sim.ledger.paid_twice()
    ```

    Any valid handle, in any case, names a creator, whose content follows from the seed and the
    handle alone. Most are found; about twelve in a hundred are private, or show nothing. Some
    spellings choose what one gets:

    - `unknown_...` is not found,
    - `private_...` is private,
    - `empty_...` is found and shows no products,
    - `....45products` (the end of the handle, up to 99999) is found and shows that many.

    Product ids with reviews have 19 digits and begin with 1729, as all those in showcases do; any
    other id is not found.

    Args:
        seed: the same seed shows the same world and makes the same decisions, everywhere.
        api_key: the only key that is let in. It is never shown in a repr, the ledger or a log.
        page_size: products, and reviews, on a page.
        credits: the balance to begin with; None if it never runs out.
        faults: what goes wrong; of several that match a request, the first in the list strikes.
        latency: how long answers take; None answers at once.
        max_concurrent: while more requests than this are in flight, those to routes that cost are
            answered with a 503.
        overload_retry_after: the Retry-After of that 503, sent as it is; None sends none.
        gzip: compress answers for clients that accept it.
        keep_entries: how many entries the ledger keeps; None keeps all. With a number, memory stays
            bounded, and "asked for before" (see `When`) counts what the ledger still remembers.
        host: the address to listen on.
        port: the port to listen on; 0 picks a free one.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        api_key: str = "sfk_simulated_0123456789",
        page_size: int = 20,
        credits: int | None = None,
        faults: Iterable[Fault] = (),
        latency: Latency | None = None,
        max_concurrent: int | None = None,
        overload_retry_after: str | None = "1",
        gzip: bool = True,
        keep_entries: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        check_whole("a seed", seed)
        check_whole("a page_size", page_size, 1)
        for name, value in (("max_concurrent", max_concurrent), ("keep_entries", keep_entries)):
            if value is not None:
                check_whole(name, value, 0)
        check_whole("a port", port, 0, 65_535)
        _check_text("a key to let in", api_key)
        _check_text("an address to listen on", host)
        check_retry_after("overload_retry_after", overload_retry_after)
        check_flag("gzip", gzip)
        _check_credits(credits)
        self._api_key = api_key
        self._host = host
        self._port = port
        self._world = World(seed, page_size)
        self._injector = FaultInjector(self._world, faults, latency)
        self._ledger = Ledger(keep_entries)
        self._handler = RequestHandler(
            self._world,
            self._injector,
            self._ledger,
            api_key=api_key,
            credits=credits,
            max_concurrent=max_concurrent,
            overload_retry_after=overload_retry_after,
            gzip=gzip,
        )
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None

    def __repr__(self) -> str:
        where = f"at {self.url}" if self._listener is not None else "not running"
        return f"<Simulator {where}, seed {self._world.seed}: {self._ledger!r}>"

    async def __aenter__(self) -> Self:
        if self._server is not None:
            raise RuntimeError("a simulator runs once: make another one")
        server = web.Server(
            self._handler.serve,
            handler_cancellation=True,
            access_log=None,
            logger=_logger(),
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._socket = socket.create_server((self._host, self._port), family=family)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                server, sock=self._socket, backlog=_BACKLOG
            )
        except BaseException:
            self._stop_listening()
            self._socket.close()
            raise
        self._port = self._socket.getsockname()[1]
        self._server = server
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        listener, self._listener = self._listener, None
        if listener is None or self._server is None:
            return
        try:
            with CancelScope(shield=True):
                # First let asyncio accept what it has begun to: closing now would leave that open.
                self._stop_listening()
                for _ in range(_ACCEPTING_TURNS):
                    await asyncio.sleep(0)
                listener.close()
                # Connections that were being accepted only show up a few turns of the loop later.
                for turn in range(_CLOSING_TURNS):
                    self._cut_off(self._server)
                    if turn >= _ACCEPTING_TURNS and not self._server.connections:
                        break
                    await asyncio.sleep(0)
                await self._server.shutdown(_LONGEST_CLOSING)
        finally:
            # In case that was cancelled. Not in every event loop is it this socket that listens.
            listener.close()
            self._cut_off(self._server)
            self._socket.close()
        if self._handler.mistake is not None and exc is None:
            raise RuntimeError("the simulator itself went wrong") from self._handler.mistake

    def _stop_listening(self) -> None:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().remove_reader(self._socket)

    @staticmethod
    def _cut_off(server: web.Server) -> None:
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    @property
    def url(self) -> str:
        """The origin to talk to, without a slash at its end."""
        if self._listener is None:
            raise RuntimeError("the simulator is not running: enter it with `async with` first")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def api_key(self) -> str:
        """The key that is let in."""
        return self._api_key

    @property
    def ledger(self) -> Ledger:
        """What was asked, charged and delivered so far."""
        return self._ledger

    @property
    def balance(self) -> int | None:
        """The credits left; None if they never run out."""
        return self._handler.balance

    @balance.setter
    def balance(self, credits: int | None) -> None:
        _check_credits(credits)
        self._handler.balance = credits

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What goes wrong. Setting it forgets how often faults struck; see also `add_fault`."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        self._injector.replace(faults)

    def add_fault(self, fault: Fault) -> None:
        """Add a fault after those that there are."""
        self._injector.add(fault)

    def handles(self, count: int, start: int = 0) -> Iterator[str]:
        """Yield handles of creators that exist: of those numbered from `start`, all different."""
        check_whole("a count", count, 0)
        check_whole("a start", start, 0)
        return self._world.handles(count, start)

    def account_status(self, handle: str) -> AccountStatus:
        """Return what the profile route says about a creator: found, private or not_found."""
        return self._world.creator(named(handle)).status

    def product_count(self, handle: str) -> int:
        """Return how many products a creator shows."""
        return self._world.creator(named(handle)).products

    def showcase(self, handle: str, region: str | None = None) -> list[Json]:
        """Return all products that a creator shows, as the API shows them."""
        return self._world.products(named(handle), region, 0, sys.maxsize)

    def tiktok_profile(self, handle: str) -> Json:
        """Return the `data` of the TikTok profile route."""
        return self._world.tiktok_profile(named(handle))

    def instagram_profile(self, handle: str) -> Json:
        """Return the `data` of the Instagram profile route."""
        return self._world.instagram_profile(named(handle))

    def reviews(self, product_id: str, region: str | None = None) -> list[Json]:
        """Return all reviews of a product."""
        region = None if region is None else region.upper()
        return self._world.reviews(product_id, region, 0, sys.maxsize)

    def review_summary(self, product_id: str) -> Json:
        """Return the summary beside a product's reviews."""
        return self._world.review_summary(product_id)


def _check_text(name: str, value: object) -> None:
    # Not shown: it may be a key.
    if not isinstance(value, str) or not value:
        raise ValueError(f"the simulator needs {name}")


def _check_credits(credits: int | None) -> None:
    if credits is not None:
        check_whole("a balance", credits, 0)


def _logger() -> logging.Logger:
    """Return a logger for aiohttp that drops what a client got wrong in HTTP.

    That is not worth a traceback, which could quote the line that was wrong, and the key in it.
    """
    logger = logging.getLogger("asyncsfk.simulator")
    if _is_ours not in logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return (
        not isinstance(error, web.HTTPException) and "http_exceptions" not in type(error).__module__
    )
