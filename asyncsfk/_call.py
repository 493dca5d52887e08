"""The life of a call: join one in flight, or pass the gate, send, settle, and try again or end."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec

from asyncsfk import _wire
from asyncsfk._flight import SingleFlight
from asyncsfk._retry import Failure, RetryQuota, Stop, decide, failure_of
from asyncsfk._version import __version__
from asyncsfk._wire import Received
from asyncsfk.config import KEY_VARIABLE
from asyncsfk.errors import (
    ClientStateError,
    ConfigurationError,
    ConnectionFailedError,
    Details,
    SfkError,
    UndecodableError,
)
from asyncsfk.events import Paused, RequestFinished, RequestRetried, RequestStarted
from asyncsfk.usage import Meter, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from asyncsfk._gate import Gate
    from asyncsfk._transport import Transport
    from asyncsfk._wire import Request
    from asyncsfk.config import Config
    from asyncsfk.events import Emitter


class Caller:
    """Makes calls: the one place where requests are sent, counted and tried again.

    Args:
        config: Key, retry policy and limits.
        transport: Sends one request.
        gate: Says when.
        emit: Is told what happens.
        meter: Counts what all calls cost.
        clock: The event loop's clock, in seconds.
    """

    def __init__(
        self,
        config: Config,
        transport: Transport,
        gate: Gate,
        *,
        emit: Emitter,
        meter: Meter,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._transport = transport
        self._gate = gate
        self._emit = emit
        self._meter = meter
        self._clock = clock
        self._quota = RetryQuota(config.retry.quota)
        self._flights: SingleFlight[Received | SfkError] = SingleFlight()
        self._headers = _headers(config, with_key=True)
        self._open_headers = _headers(config, with_key=False)
        self._closing = False

    def require_key(self, route: str) -> None:
        """Refuse a route that needs a key where there is none.

        Raises:
            ConfigurationError: There is none.
        """
        if self._config.api_key is None:
            raise ConfigurationError(
                f"{route} needs an API key: pass api_key= or set {KEY_VARIABLE}",
                Details(route=route),
            )

    async def fetch(self, request: Request, meter: Meter | None = None) -> Received:
        """Return the answer to a request.

        Calls for the same path and query that are under way share one request: one of them
        answers for its cost, and the others' answers say a cost of nothing.

        Args:
            request: What to ask for.
            meter: Also counts what this call costs, once it has ended.

        Raises:
            ConfigurationError: The route needs a key and there is none.
            ClientStateError: The client is closed.
            SfkError: The call failed for good.
        """
        if self._closing:
            raise _placed(ClientStateError("the client is closed"), request)
        if request.needs_key:
            self.require_key(request.route)
        try:
            result, answers = await self._flights.do(
                request.target, partial(self._perform, request), meter
            )
        except ClientStateError as error:
            raise _placed(error, request) from None
        if not answers:
            result = _shared(request, result)
        if isinstance(result, SfkError):
            raise result
        return result

    async def aclose(self) -> None:
        """End all calls under way; their callers get a `ClientStateError`."""
        self._closing = True
        await self._flights.aclose()

    async def _perform(self, request: Request, cost: Meter) -> Received | SfkError:
        """Make a call and return what came of it, with what all its attempts cost."""
        failures: list[Failure] = []
        try:
            result = await self._try(request, failures, cost)
        except asyncio.CancelledError:
            if not self._closing:
                raise
            result = ClientStateError("the client was closed under the call")
        if isinstance(result, SfkError):
            result = _placed(result, request).evolve(attempts=len(failures))
        return _with_usage(result, cost.usage) if result.usage != cost.usage else result

    async def _try(
        self, request: Request, failures: list[Failure], cost: Meter
    ) -> Received | SfkError:
        """Send a request until it is answered, or until trying again would not do."""
        while True:
            await self._gate.enter()
            try:
                result = await self._attempt(request, len(failures) + 1, cost)
            finally:
                self._gate.leave()
            if isinstance(result, Received):
                self._quota.earn()
                return result
            failures.append(failure_of(result))
            verdict = decide(self._config.retry, result, failures, random.random)
            if not isinstance(verdict, Stop) and not self._quota.take():
                verdict = Stop("the client's retry quota is used up")
            if isinstance(verdict, Stop):
                return result.evolve(gave_up=verdict.reason)
            self._emit(
                RequestRetried(
                    route=request.route,
                    handle=request.handle,
                    attempt=len(failures),
                    error=type(result).__name__,
                    wait=verdict.seconds,
                )
            )
            await anyio.sleep(verdict.seconds)

    async def _attempt(self, request: Request, attempt: int, cost: Meter) -> Received | SfkError:
        """Send one request and settle it, whatever becomes of it."""
        if self._emit.wants_detail:
            self._emit(RequestStarted(route=request.route, handle=request.handle, attempt=attempt))
        started = self._clock()
        status = None
        try:
            response = await self._transport.get(
                request.target, self._headers if request.needs_key else self._open_headers
            )
        except SfkError as error:
            result: Received | SfkError = _wire.redacted(
                error.evolve(usage=_cost_of_loss(request, error)), self._config.api_key
            )
        except BaseException as error:
            # Cancelled, or a hook of a borrowed session raised: the request may have arrived.
            self._settle(
                request,
                Usage(requests=1, maybe=request.price),
                cost,
                attempt=attempt,
                started=started,
                failure=type(error).__name__,
            )
            raise
        else:
            status = response.status
            result = _wire.read(
                request,
                response,
                max_body_bytes=self._config.max_body_bytes,
                key=self._config.api_key,
            )
        failure = type(result).__name__ if isinstance(result, SfkError) else None
        self._settle(
            request,
            result.usage,
            cost,
            attempt=attempt,
            started=started,
            failure=failure,
            status=status,
        )
        if isinstance(result, SfkError):
            self._heed(result, started)
        else:
            self._gate.succeeded()
        return result

    def _settle(
        self,
        request: Request,
        usage: Usage,
        cost: Meter,
        *,
        attempt: int,
        started: float,
        failure: str | None,
        status: int | None = None,
    ) -> None:
        """Count what an attempt cost, and tell of its end."""
        if attempt > 1:
            usage += Usage(retries=1)
        self._meter.add(usage)
        cost.add(usage)
        if self._emit.wants_detail:
            self._emit(
                RequestFinished(
                    route=request.route,
                    handle=request.handle,
                    attempt=attempt,
                    status=status,
                    error=failure,
                    seconds=self._clock() - started,
                    bytes=usage.bytes,
                    charged=usage.charged,
                    maybe=usage.maybe,
                )
            )

    def _heed(self, error: SfkError, started: float) -> None:
        """Let the gate know of a failure that concerns all calls, or of its absence."""
        failure = failure_of(error)
        if failure is Failure.FINAL:
            self._gate.succeeded()
        if failure is not Failure.FREE:
            return
        asked = error.retry_after
        if asked is not None and asked > self._config.retry.max_retry_after:
            # The call ends; the others slow down, but do not sleep for an hour.
            asked = None
        if self._gate.push_back(asked, started):
            self._emit(
                Paused(
                    seconds=self._gate.paused_for,
                    width=self._gate.width,
                    error=type(error).__name__,
                )
            )


def _placed(error: SfkError, request: Request) -> SfkError:
    """Return an error that says what it was about, and where to go on."""
    return error.evolve(
        handle=request.handle, route=request.route, cursor=request.cursor, page=request.page
    )


def _with_usage(result: Received | SfkError, usage: Usage) -> Received | SfkError:
    if isinstance(result, SfkError):
        return result.evolve(usage=usage)
    return msgspec.structs.replace(result, usage=usage)


def _cost_of_loss(request: Request, error: SfkError) -> Usage:
    """Return what an attempt without a whole answer cost."""
    if isinstance(error, ClientStateError):
        return Usage()
    free = isinstance(error, ConnectionFailedError)
    return error.usage + Usage(requests=1, maybe=0 if free else request.price)


def _shared(request: Request, result: Received | SfkError) -> Received | SfkError:
    """Return another call's result as this call's: it cost nothing more."""
    # The same path may be decoded into another type, even where the other's was wrong.
    if isinstance(result, Received):
        if result.decoder is not request.decoder:
            result = _wire.reread(request, result.body)
    elif isinstance(result, UndecodableError) and result.body is not None:
        result = _wire.reread(request, result.body)
    if isinstance(result, SfkError):
        result = _placed(result, request)
    return _with_usage(result, Usage())


def _headers(config: Config, *, with_key: bool) -> Mapping[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": _wire.ACCEPT_ENCODING,
        "User-Agent": config.user_agent or f"asyncsfk/{__version__}",
    }
    if with_key and config.api_key is not None:
        headers["x-api-key"] = config.api_key.header_value()
    return headers
