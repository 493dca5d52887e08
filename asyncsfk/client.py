"""The client: what a user opens, calls and closes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, NamedTuple, Self

import anyio
from aiolimiter import AsyncLimiter

from asyncsfk import _routes
from asyncsfk._api import Api
from asyncsfk._call import Caller
from asyncsfk._calls import Calls
from asyncsfk._checks import check_limit, check_token, is_callback
from asyncsfk._gate import Gate
from asyncsfk._handles import tiktok_handle
from asyncsfk._run import RunOptions, ShowcaseRun, check_handles, invalid_handle
from asyncsfk._transport import Transport, check_session
from asyncsfk.config import ApiKey, Config, Retry, Timeout, make_config
from asyncsfk.errors import ClientStateError, ConfigurationError, InvalidArgumentError
from asyncsfk.events import Emitter
from asyncsfk.usage import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import aiohttp

    from asyncsfk.events import Event
    from asyncsfk.outcomes import Outcome
    from asyncsfk.usage import Usage

# A twentieth of a second's requests at once: bursts stay within 5% of the rate.
_BURST_SECONDS = 0.05


class _Open(NamedTuple):
    """What a client has while it is open."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    gate: Gate
    caller: Caller
    api: Api


class Client(Calls):
    """An asyncio client of the Social Fetch API.

    ::

        async with Client() as client:
            async for product in client.showcase("mrbeast"):
                print(product.id, product.title)

    A client is opened and used in one event loop. It may be shared by any number of tasks; calls
    for the same page that are under way together share one request.

    Args:
        api_key: The key, ``sfk_...``; without it, ``SOCIALFETCH_API_KEY`` of the environment. It
            is sent to the API's origin and shown nowhere.
        base_url: The API's origin; without it, ``SOCIALFETCH_BASE_URL`` of the environment, then
            the public API.
        concurrency: How many requests are on their way at once at most. A run that asks for more
            widens this while it lasts. The provider recommends to stay under 500 a key.
        rate: How many requests may start a second at most; unlimited without it.
        burst: How many of those may start at once after a lull; a twentieth of ``rate`` without
            it.
        timeout: How long requests may take.
        retry: Which failures are tried again.
        session: An aiohttp session to borrow, for its proxies, tracing or connections. It is
            never closed, its cookies and client middlewares are not used, and its connector's
            limits bound ``concurrency``.
        max_body_bytes: The largest body that is read, as sent and unpacked.
        trust_env: Take proxies from the environment (``HTTPS_PROXY``) and ``.netrc``.
        proxy: URL of an HTTP proxy.
        user_agent: The ``User-Agent`` header.
        on_event: Called with each `asyncsfk.events` value; without it they are logged to the
            logger ``asyncsfk``.
        allow_insecure_http: Let the key go over plain HTTP to hosts other than this one.

    Raises:
        ConfigurationError: A setting is unusable. A missing key is an error only when a route
            that needs it is called.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        concurrency: int = 100,
        rate: float | None = None,
        burst: float | None = None,
        timeout: Timeout = Timeout(),  # noqa: B008 - frozen
        retry: Retry = Retry(),  # noqa: B008 - frozen
        session: aiohttp.ClientSession | None = None,
        max_body_bytes: int = 16 * 1024 * 1024,
        trust_env: bool = False,
        proxy: str | None = None,
        user_agent: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        self._open: _Open | None = None
        self._closed = False
        # Out of this frame before anything can be raised in it: a traceback may show variables.
        key = None if api_key is None else ApiKey.parse(api_key)
        api_key = None
        if isinstance(key, ConfigurationError):
            raise key
        self._config = make_config(
            key,
            base_url,
            concurrency=concurrency,
            rate=rate,
            burst=burst,
            timeout=timeout,
            retry=retry,
            max_body_bytes=max_body_bytes,
            trust_env=trust_env,
            proxy=proxy,
            user_agent=user_agent,
            allow_insecure_http=allow_insecure_http,
        )
        if on_event is not None and not is_callback(on_event):
            raise ConfigurationError("on_event must be a plain function")
        check_session(session)
        self._borrowed = session
        self._emit = Emitter(on_event)
        self._meter = Meter()
        self._runs: set[ShowcaseRun] = set()

    def __repr__(self) -> str:
        if self._open is None:
            state = "closed" if self._closed else "not opened"
        else:
            state = f"open, {self._open.gate.active} requests in flight"
        return f"<asyncsfk.Client {state}>"

    def __reduce__(self) -> str:
        raise TypeError("a Client cannot be pickled; pickle its config and make a new one")

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        session: aiohttp.ClientSession | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Self:
        """Return a client made from the `config` of another, which may come from a pickle.

        Args:
            config: What the client is told.
            session: As of `Client`.
            on_event: As of `Client`.
        """
        client = cls(
            base_url=config.base_url,
            allow_insecure_http=config.allow_insecure_http,
            session=session,
            on_event=on_event,
        )
        client._config = config
        return client

    @property
    def config(self) -> Config:
        """What the client was told; pickles without the key."""
        return self._config

    @property
    def usage(self) -> Usage:
        """What all calls of this client have cost so far."""
        return self._meter.usage

    async def __aenter__(self) -> Self:
        if self._open is not None or self._closed:
            raise ClientStateError("a client can be opened only once; make a new one")
        config = self._config
        loop = asyncio.get_running_loop()
        limiter = None
        if config.rate is not None:
            burst = config.burst or max(1.0, config.rate * _BURST_SECONDS)
            limiter = AsyncLimiter(burst, burst / config.rate)
        transport = Transport(config, self._borrowed)
        gate = Gate(config.concurrency, limiter=limiter, clock=loop.time, rng=random.random)
        caller = Caller(
            config, transport, gate, emit=self._emit, meter=self._meter, clock=loop.time
        )
        api = Api(caller, emit=self._emit, meter=self._meter)
        self._open = _Open(loop, transport, gate, caller, api)
        self._fit_width()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client: end its runs and calls, close the connections that it owns.

        Calls under way in other tasks end with a `ClientStateError`. Closing twice is fine.
        """
        self._closed = True
        if self._open is None:
            return
        parts, self._open = self._open, None
        with anyio.CancelScope(shield=True):
            for run in tuple(self._runs):
                await run.aclose()
            await parts.caller.aclose()
            await parts.transport.aclose()

    def showcases(
        self,
        handles: Iterable[str] | AsyncIterable[str],
        *,
        region: str | None = None,
        concurrency: int | None = None,
        max_pages: int | None = None,
        verify_empty: bool = False,
        ordered: bool = False,
        dedupe: bool = True,
    ) -> ShowcaseRun:
        """Return a run over many creators' showcases: one credit a page.

        ::

            async with client.showcases(handles) as run:
                async for outcome in run:
                    print(outcome.handle, outcome.status, len(outcome.products))

        Handles are pulled as they are needed, so they may be any number; memory is that of some
        ``concurrency`` pages. One creator's failure does not disturb the others. Only 401, 402
        and 403 stop a run: the creators under way become partial, the rest skipped.

        Args:
            handles: The creators, each as ``mrbeast``, ``@MrBeast`` or a profile's URL.
            region: A country code, e.g. ``US``.
            concurrency: How many creators to work on at once; the client's own without it.
            max_pages: Credits to spend on a creator at most.
            verify_empty: Where a showcase is empty, spend one more credit on the creator's
                profile and put found, private or not_found in `Outcome.account_status`.
            ordered: Hand outcomes out in the order of the handles. Keeps workers waiting behind a
                long showcase, so it is slower.
            dedupe: Pass over handles that came before; remembers each in some 25 bytes.

        Raises:
            InvalidArgumentError: An argument is unusable; nothing was sent. An invalid handle
                among many is a failed outcome instead.
            ConfigurationError: There is no API key.

        Source: ``GET /v1/tiktok/profiles/{handle}/showcase-products``.
        """
        check_handles(handles)
        check_limit("max_pages", max_pages)
        check_token("region", region)
        if concurrency is not None:
            check_limit("concurrency", concurrency)
        parts = self._parts
        parts.caller.require_key(_routes.SHOWCASE)
        return ShowcaseRun(
            handles,
            RunOptions(
                region=region,
                concurrency=concurrency or self._config.concurrency,
                max_pages=max_pages,
                verify_empty=verify_empty,
                ordered=ordered,
                dedupe=dedupe,
            ),
            api=parts.api,
            gate=parts.gate,
            emit=self._emit,
            clock=parts.loop.time,
            on_enter=self._enter_run,
            on_exit=self._leave_run,
        )

    async def fetch_showcases(
        self,
        handles: Iterable[str] | AsyncIterable[str],
        *,
        region: str | None = None,
        concurrency: int | None = None,
        max_pages: int | None = None,
        verify_empty: bool = False,
    ) -> list[Outcome]:
        """Fetch many creators' showcases and return their outcomes: one credit a page.

        Holds everything in memory: for more than some thousand creators use `showcases`.

        Args:
            handles: As of `showcases`.
            region: As of `showcases`.
            concurrency: As of `showcases`.
            max_pages: As of `showcases`.
            verify_empty: As of `showcases`.

        Returns:
            One outcome for each handle, in the order of the handles; the very same for
            duplicates, whose cost is thus to be counted once.

        Raises:
            InvalidArgumentError: As `showcases`.
            ConfigurationError: As `showcases`.
        """
        check_handles(handles)
        if isinstance(handles, AsyncIterable):
            handles = [handle async for handle in handles]
        slots = [_outcome_or_handle(handle) for handle in handles]
        valid = [slot for slot in slots if isinstance(slot, str)]
        async with self.showcases(
            valid,
            region=region,
            concurrency=concurrency,
            max_pages=max_pages,
            verify_empty=verify_empty,
        ) as run:
            outcomes = {outcome.handle: outcome async for outcome in run}
        return [outcomes[slot] if isinstance(slot, str) else slot for slot in slots]

    @property
    def _parts(self) -> _Open:
        if self._open is None:
            raise ClientStateError(
                "the client is closed" if self._closed else "open the client with `async with`"
            )
        if self._open.loop is not asyncio.get_running_loop():
            raise ClientStateError("the client was opened in another event loop")
        return self._open

    @property
    def _api(self) -> Api:
        return self._parts.api

    def _enter_run(self, run: ShowcaseRun) -> None:
        _ = self._parts
        self._runs.add(run)
        self._fit_width()

    def _leave_run(self, run: ShowcaseRun) -> None:
        self._runs.discard(run)
        self._fit_width()

    def _fit_width(self) -> None:
        """Let the gate be as wide as the widest run, but no wider than a borrowed pool."""
        if self._open is not None:
            width = max([self._config.concurrency, *(run.concurrency for run in self._runs)])
            pool = self._open.transport.width
            self._open.gate.set_ceiling(width if pool is None else min(width, pool))


def _outcome_or_handle(given: object) -> str | Outcome:
    try:
        return tiktok_handle(given)
    except InvalidArgumentError as error:
        return invalid_handle(error)


# Users know it by its public name, in tracebacks too.
Client.__module__ = "asyncsfk"
