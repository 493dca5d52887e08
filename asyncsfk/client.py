"""The client: what a user opens, calls and closes."""

from __future__ import annotations

import asyncio
import random
import warnings
from collections.abc import Callable  # noqa: TC003 - an annotation, as below
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

# Frameworks that make a client resolve the annotations of its arguments at run time.
import aiohttp  # noqa: TC002
from aiolimiter import AsyncLimiter
from anyio import CancelScope

from asyncsfk import _routes
from asyncsfk._api import Api
from asyncsfk._attempt import Attempts
from asyncsfk._bulk_calls import BulkCalls
from asyncsfk._call import Caller
from asyncsfk._checks import check_callback, check_flag, check_seconds
from asyncsfk._gate import Gate
from asyncsfk._resources import RunResources
from asyncsfk._run import ShowcaseRun
from asyncsfk._shield import Closing, check_may_close
from asyncsfk._terms import Payer, Terms
from asyncsfk._text import described
from asyncsfk._transport import Transport, check_session, running_loop
from asyncsfk.budget import Budget
from asyncsfk.config import (
    DEFAULT_CONCURRENCY,
    DEFAULT_MAX_BODY_BYTES,
    ApiKey,
    Config,
    Retry,
    Timeout,
    check_positive,
    check_type,
    key_from_environment,
    url_from_environment,
)
from asyncsfk.errors import ClientStateError, ConfigurationError, InvalidArgumentError
from asyncsfk.events import Emitter, Event
from asyncsfk.usage import Meter

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from asyncsfk._opening import Opening
    from asyncsfk._options import RunOptions
    from asyncsfk.archive import Archive
    from asyncsfk.usage import Usage

__all__ = ["Client"]

# The default burst is what the rate allows in so long, or one: 5% more than the rate a second.
_BURST_SECONDS = 0.05
_ELSEWHERE = "the client was opened in another event loop"


class _Open(NamedTuple):
    """What a client has while it is open."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    gate: Gate
    api: Api


class Client(BulkCalls):
    """An asyncio client of the Social Fetch API.

    ::

        async with Client() as client:
            async for product in client.showcase("mrbeast"):
                print(product.id, product.title)

    A client is opened and used in one event loop. It may be shared by any number of tasks; calls
    for the same page that are under way together share one request.

    Args:
        api_key: The key, ``sfk_...``; if not given, ``SOCIALFETCH_API_KEY`` of the environment. It
            is sent to the API's origin and shown nowhere.
        base_url: The API's origin; if not given, ``SOCIALFETCH_BASE_URL`` of the environment, else
            the public API.
        concurrency: How many requests may be on their way at once. A run that asks for more widens
            this while it lasts. The provider recommends staying under 500 a key.
        rate: How many requests may start a second; if not given, there is no limit.
        burst: How many may start at once after a lull; if not given, a twentieth of ``rate``, at
            least 1. No more than ``rate`` and this together start in any one second.
        max_credits: The most that the client may spend in its life, or a `Budget` that it shares
            with others. See `budget`.
        timeout: How long requests may take; a number is seconds in all, silence included.
        retry: Which failures are tried again.
        session: An aiohttp session to borrow, for its proxies, tracing or connections. It is
            never closed, its cookies and client middlewares are not used, and its connector's
            limits bound ``concurrency``.
        max_body_bytes: The largest body that is read, as sent and unpacked.
        trust_env: Take proxies from the environment (``HTTPS_PROXY``) and ``.netrc``.
        proxy: URL of an HTTP proxy.
        user_agent: The ``User-Agent`` header.
        on_event: Called with each event, see `asyncsfk.events`; if not given, events are logged to
            the logger ``asyncsfk``.
        allow_insecure_http: Let the key go over plain HTTP to hosts other than this one.

    Raises:
        ConfigurationError: A setting is unusable. A missing key is an error only when a route
            that needs it is called.
    """

    # On the class, so that `repr` works for a client whose `__init__` has failed.
    _open: _Open | None = None
    _closed = False
    _closing: Closing | None = None

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        rate: float | None = None,
        burst: float | None = None,
        max_credits: int | Budget | None = None,
        timeout: Timeout | float = Timeout(),  # noqa: B008 - frozen
        retry: Retry = Retry(),  # noqa: B008 - frozen
        session: aiohttp.ClientSession | None = None,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        trust_env: bool = False,
        proxy: str | None = None,
        user_agent: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        allow_insecure_http: bool = False,
    ) -> None:
        # No variable here may hold the key once anything can raise: a traceback may show them.
        key = None if api_key is None else ApiKey.parse(api_key)
        api_key = None
        if isinstance(key, ConfigurationError):
            raise key
        config = Config(
            api_key=key_from_environment() if key is None else key,
            base_url=url_from_environment() if base_url is None else base_url,
            concurrency=concurrency,
            rate=rate,
            burst=burst,
            timeout=_timeout(timeout),
            retry=retry,
            max_body_bytes=max_body_bytes,
            trust_env=trust_env,
            proxy=proxy,
            user_agent=user_agent,
            allow_insecure_http=allow_insecure_http,
        )
        self._set_up(config, max_credits, session, on_event)

    def _set_up(
        self,
        config: Config,
        max_credits: int | Budget | None,
        session: aiohttp.ClientSession | None,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        check_callback("on_event", on_event, error=ConfigurationError)
        check_session(session)
        self._config = config
        self._budget = _budget(max_credits)
        self._borrowed = session
        self._emit = Emitter(on_event)
        self._meter = Meter()
        self._runs: set[ShowcaseRun] = set()

    def __del__(self) -> None:
        if self._open is not None:
            # aiohttp would tell of a session and a connector, which its user has never seen.
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)

    def __repr__(self) -> str:
        if self._open is None:
            state = "closed" if self._closed else "not opened"
        else:
            state = f"open, {self._open.gate.in_flight} requests in flight"
        return f"<asyncsfk.Client {state}>"

    def __reduce__(self) -> str:
        raise TypeError("a Client cannot be pickled; pickle its config and make a new one")

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        max_credits: int | Budget | None = None,
        session: aiohttp.ClientSession | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Self:
        """Return a client made from the `config` of another, which may come from a pickle.

        ``__init__`` is not called, not even that of a subclass.

        Args:
            config: The settings.
            max_credits: Same as in `Client`.
            session: Same as in `Client`.
            on_event: Same as in `Client`.

        Raises:
            ConfigurationError: A setting is unusable.
        """
        check_type("config", config, Config)
        client = cls.__new__(cls)
        client._set_up(config, max_credits, session, on_event)  # noqa: SLF001 - of this class
        return client

    @property
    def config(self) -> Config:
        """The client's settings; they pickle without the key."""
        return self._config

    @property
    def usage(self) -> Usage:
        """What all calls of this client have cost so far."""
        return self._meter.usage

    @property
    def budget(self) -> Budget:
        """What the client may spend and has spent, with or without a ceiling."""
        return self._budget

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Make the client ready for calls; `aclose` must follow. ``async with`` does both.

        Raises:
            ClientStateError: It was opened before, or no event loop of asyncio is running.
        """
        if self._open is not None or self._closed:
            raise ClientStateError("a client can be opened only once; make a new one")
        config = self._config
        loop = running_loop(self._borrowed)
        # anyio imports modules when they are first needed. Let it do so now: a retry or the closing
        # may come about because no file can be opened any more, and then it could not.
        CancelScope()
        limiter = None
        if config.rate is not None:
            burst = config.burst or max(1.0, config.rate * _BURST_SECONDS)
            limiter = AsyncLimiter(burst, burst / config.rate)
        transport = Transport(config, self._borrowed)
        gate = Gate(
            config.concurrency,
            limiter=limiter,
            longest_pause=config.retry.max_backoff,
            clock=loop.time,
            rng=random.random,
        )
        attempts = Attempts(
            config, transport, gate, emit=self._emit, meter=self._meter, clock=loop.time
        )
        api = Api(Caller(config, attempts, emit=self._emit), emit=self._emit, meter=self._meter)
        self._open = _Open(loop, transport, gate, api)
        self._fit_width()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client: end its runs and calls, close the connections that it owns.

        Calls under way in other tasks end with a `ClientStateError`. Closing twice is fine: a
        second caller waits for the same end. A caller that is cancelled still waits, once.

        Raises:
            ClientStateError: It was opened in another event loop, or is closed by what that would
                have to wait for, such as the iterator of a run's handles.
        """
        if (parts := self._open) is not None:
            check_may_close(parts.loop, _ELSEWHERE)
            task = asyncio.current_task()
            runs = any(run._employs(task) for run in self._runs)  # noqa: SLF001 - ours
            if runs or parts.api.caller.employs(task):
                raise ClientStateError(
                    "a client cannot be closed by what it waits for; a run's handles can stop() it"
                )
            self._open = None
            self._closing = Closing(partial(self._close, parts))
        self._closed = True
        if self._closing is not None:
            await self._closing()

    async def _close(self, parts: _Open) -> None:
        # All begin to close at once: one by one, the later ones would go on buying while the first
        # lands. A copy, since with eager tasks a run may leave the set during the iteration.
        ends = [Closing(run.aclose) for run in tuple(self._runs)]
        ends.append(Closing(parts.api.caller.aclose))
        for end in ends:
            end.begin()
        # Everything is closed, even if closing some of it fails.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(parts.transport.aclose)
            for end in ends:
                stack.push_async_callback(end)

    def _parts(self) -> _Open:
        if self._open is None:
            raise ClientStateError(
                "the client is closed" if self._closed else "open the client with `async with`"
            )
        if self._open.loop is not running_loop(None):
            raise ClientStateError(_ELSEWHERE)
        return self._open

    def _api(self) -> Api:
        return self._parts().api

    def _terms(
        self, archive: Archive | None = None, max_age: float | None = None, refresh: bool = False
    ) -> Terms:
        if max_age is not None:
            check_seconds("max_age", max_age)
        check_flag("refresh", refresh)
        if archive is None:
            if max_age is not None or refresh:
                raise InvalidArgumentError("max_age and refresh need an archive")
            return Terms(Payer((self._budget,)))
        from asyncsfk.archive import opening_of  # noqa: PLC0415 - loads SQLite

        opening = opening_of(archive)
        cache = opening.cache(self._config.base_url, max_age=max_age, refresh=refresh)
        return Terms(Payer((self._budget,), None, opening.budgets), cache)

    def _make_run(
        self,
        handles: Iterable[object] | AsyncIterable[object],
        options: RunOptions,
        max_credits: int | Budget | None,
        archive: Opening | None,
    ) -> ShowcaseRun:
        parts = self._parts()
        parts.api.caller.require_key(_routes.SHOWCASE)
        return ShowcaseRun(
            handles,
            options,
            RunResources(self._budget, max_credits, archive, self._config.base_url),
            api=parts.api,
            gate=parts.gate,
            emit=self._emit,
            on_enter=self._enter_run,
            on_exit=self._leave_run,
        )

    def _enter_run(self, run: ShowcaseRun) -> None:
        self._parts()
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


def _timeout(timeout: Timeout | float) -> Timeout:
    if isinstance(timeout, int | float):
        check_positive("timeout", timeout)
        # A request that may take so long may be silent for so long too.
        return Timeout(total=timeout, read=timeout)
    if not isinstance(timeout, Timeout):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"timeout must be a number of seconds, or a Timeout, not {described(timeout)}"
        )
    return timeout


def _budget(max_credits: int | Budget | None) -> Budget:
    if isinstance(max_credits, Budget):
        return max_credits
    try:
        return Budget(max_credits)
    except InvalidArgumentError as error:
        raise ConfigurationError(error.message) from None


# Users know it by its public name, in tracebacks too.
Client.__module__ = "asyncsfk"
