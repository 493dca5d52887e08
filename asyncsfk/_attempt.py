"""One attempt of a call: reserved before it is sent, kept before it is seen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from asyncsfk import _wire
from asyncsfk._messages import Received
from asyncsfk._outage import Outage
from asyncsfk._page_cache import line_of
from asyncsfk._result import CallResult
from asyncsfk._retry import Failure, failure_of
from asyncsfk._turn_limiter import TurnLimiter
from asyncsfk._wire import OK
from asyncsfk.budget import reserve_all
from asyncsfk.errors import (
    ArchiveError,
    ClientStateError,
    ConnectionFailedError,
    SfkError,
)
from asyncsfk.events import Paused, PriceRaised, RequestFinished, RequestStarted
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncsfk._flight import Flight
    from asyncsfk._gate import Gate
    from asyncsfk._messages import Meta, Request, Response
    from asyncsfk._page_cache import PageCache
    from asyncsfk._store._exposed import Exposed
    from asyncsfk._store._writes import LedgerLine
    from asyncsfk._terms import Payer
    from asyncsfk._transport import Transport
    from asyncsfk.budget import Reservations
    from asyncsfk.config import Config
    from asyncsfk.events import Emitter
    from asyncsfk.usage import Meter


# So many losses with no good answer that was paid for between them are not chance: the next would
# be lost too.
_MANY: Final = 20


class _Attempt(msgspec.Struct, frozen=True):
    """One attempt, once it has a place and its price is reserved."""

    request: Request
    number: int
    reserved: Reservations
    flight: Flight[CallResult]
    cache: PageCache | None
    exposed: Exposed | None
    started: float


class Attempts:
    """Sends requests, once each.

    Args:
        config: Key, retry policy and limits.
        transport: Sends one request.
        gate: Says when.
        emit: Is told what happens.
        meter: Counts what all attempts cost.
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
        self._turns = TurnLimiter()
        # Failures since the last good answer that was paid for, each perhaps charged itself.
        self._losses = 0
        # How many such rows came before, most of them of no failure: each such answer ends one.
        self._row = 0
        self._outage = Outage(config.retry.outage, config.timeout.connect, clock)

    async def send(
        self,
        request: Request,
        number: int,
        payer: Payer,
        cache: PageCache | None,
        flight: Flight[CallResult],
    ) -> CallResult:
        """Reserve the price, wait for a place, send, settle, and keep what came.

        Args:
            request: What to ask for.
            number: Which attempt of its call this is, from 1.
            payer: In whose budgets to reserve.
            cache: Where to keep what comes, and its line in the ledger.
            flight: Counts the cost, and is told here what could be lost just now.

        Raises:
            BudgetReachedError: A ceiling leaves no room for it; it was not sent.
            ArchiveError: The archive cannot be written; it was not sent.
        """
        reserved, exposed = await self._enter(request, payer, cache)
        flight.in_air, flight.at_stake = True, reserved
        try:
            this = _Attempt(request, number, reserved, flight, cache, exposed, self._clock())
            try:
                answer, line = await self._exchange(this)
            finally:
                self._gate.leave()
            if cache is None or line is None:
                return answer
            return await self._keep(this, cache, answer, line)
        except BaseException:
            # No effect once settled. What ends the program may come earlier: all is maybe then.
            reserved.settle(0, reserved.credits)
            if cache is not None and exposed is not None:
                cache.store.leave(exposed)
            raise
        finally:
            flight.in_air, flight.at_stake = False, None

    async def _enter(
        self, request: Request, payer: Payer, cache: PageCache | None
    ) -> tuple[Reservations, Exposed | None]:
        """Reserve the price, get a place, and put on file what may be charged.

        Returns:
            What was reserved, and what was filed.
        """

        def least() -> int:
            if cache is None:
                return request.price
            return cache.store.price(request.price, request.route)

        priced_as = "" if request.is_free else request.route
        while True:
            reserved = await reserve_all(lambda: payer.budgets, least(), priced_as)
            price = reserved.credits
            try:
                entered = await self._gate.enter()
            except BaseException:
                reserved.release()
                raise
            try:
                if cache is not None:
                    await cache.store.room()
                if reserved.credits == price >= least() and reserved.covers(payer.budgets):
                    if cache is None:
                        return reserved, None
                    # Last of all, since the archive may break or be closed while the call waits.
                    exposed = await cache.store.expose(price, request.route)
                    if reserved.credits == price >= least() and self._gate.may_start(entered):
                        return reserved, exposed
                    cache.store.withdraw(exposed)
            except BaseException:
                self._gate.leave()
                reserved.release()
                raise
            # While it waited for its place or the archive, the price rose, a pause began, the width
            # shrank, others had their turns at the rate, or a run entered the archive whose ceiling
            # must hold for this request too.
            self._gate.leave()
            reserved.release()

    async def _exchange(self, this: _Attempt) -> tuple[CallResult, LedgerLine | None]:
        """Send one request and settle it, whatever becomes of it."""
        request = this.request
        if self._emit.wants_detail:
            self._emit(
                RequestStarted(route=request.route, handle=request.handle, attempt=this.number)
            )
        exchange = self._transport.begin(request.target, with_key=request.needs_key)
        response: Response | None = None
        result: Received | SfkError
        try:
            response = await self._transport.send(exchange)
            if not self._turns.take():
                await self._wait_for_turn()
            self._outage.end()
            result = _wire.read(
                request.decoder,
                response,
                price=this.reserved.credits,
                max_body_bytes=self._config.max_body_bytes,
                api_key=self._config.api_key,
            )
        except SfkError as error:
            if isinstance(error, ConnectionFailedError):
                error = self._outage.judge(error, this.started)
            else:
                self._outage.end()
            usage = _cost_of_loss(this.reserved.credits, error)
            result = _wire.redacted(error.evolve(usage=usage), self._config.api_key)
        except BaseException as error:
            # Cancelled, or a hook of a borrowed session raised: what was sent may have arrived.
            usage = Usage(requests=1, maybe=this.reserved.credits if exchange.is_sent() else 0)
            line = self._settle(this, usage, error)
            if this.cache is not None and line is not None:
                this.cache.store.record_soon(line)
            raise
        line = self._settle(this, result.usage, result)
        if isinstance(result, SfkError):
            self._heed(result, this)
        else:
            self._went_well(is_paid=not request.is_free)
        return CallResult(result, response), line

    async def _wait_for_turn(self) -> None:
        """Wait until an answer may be read; it is paid for, so a cancellation must not lose it."""
        try:
            await self._turns.wait()
        except asyncio.CancelledError:
            # Let the cancellation come at the next await instead, that of the commit: by then the
            # archive has been handed the answer.
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - for the type checkers
            task.uncancel()
            task.cancel()

    def _settle(
        self, this: _Attempt, usage: Usage, result: Received | BaseException
    ) -> LedgerLine | None:
        """Count what an attempt cost, tell of its end, and return its line for the ledger."""
        request, seconds = this.request, self._clock() - this.started
        if this.number > 1 and usage.requests:
            usage += Usage(retries=1)
        self._meter.add(usage)
        this.flight.cost.add(usage)
        this.flight.at_stake = None
        if this.reserved.settle(usage.charged, usage.maybe):
            self._emit(
                PriceRaised(
                    route=request.route,
                    handle=request.handle,
                    expected=this.reserved.credits,
                    charged=usage.charged,
                )
            )
        status: int | None = None
        failure: str | None = None
        answer: Meta | SfkError | None = None
        if isinstance(result, Received):
            status, answer = OK, result.meta
        else:
            failure = type(result).__name__
            if isinstance(result, SfkError):
                # It tells the status even of an answer that was not read to its end.
                status, answer = result.status, result
        if self._emit.wants_detail:
            self._emit(
                RequestFinished(
                    route=request.route,
                    handle=request.handle,
                    attempt=this.number,
                    status=status,
                    error=failure,
                    seconds=seconds,
                    bytes=usage.bytes,
                    charged=usage.charged,
                    maybe=usage.maybe,
                    request_id=None if answer is None else answer.request_id,
                )
            )
        if this.cache is None:
            return None
        return line_of(
            request,
            usage,
            # An attempt that could not even be made is not a request.
            number=this.number if usage.requests else 0,
            seconds=seconds,
            status=status,
            failure=failure,
            answer=answer,
            exposed=this.exposed,
        )

    async def _keep(
        self, this: _Attempt, cache: PageCache, answer: CallResult, line: LedgerLine
    ) -> CallResult:
        """Keep a paid answer and the ledger's line before anybody sees them."""
        result, paid = answer.result, answer.paid
        try:
            if paid is not None:
                await cache.put(
                    this.request,
                    paid,
                    result,
                    line,
                    api_key=self._config.api_key,
                    max_body_bytes=self._config.max_body_bytes,
                )
            else:
                await cache.store.record(line)
        except ArchiveError as error:
            # The answer is paid for: those who asked get it all the same, in the error.
            body = None if paid is None else result.body
            known = error.evolve(body=body, status=line.status, request_id=line.request_id)
            return CallResult(_wire.redacted(known, self._config.api_key), answer.response)
        return CallResult(result, answer.response, (cache.store,))

    def _went_well(self, *, is_paid: bool) -> None:
        """Tell the gate that the API answers; in a long row of losses, only of what ends it."""
        if is_paid:
            self._losses = 0
            self._row += 1
        if self._losses < _MANY:
            self._gate.succeeded()

    def _heed(self, error: SfkError, this: _Attempt) -> None:
        """Tell the gate of a failure that concerns all calls, or that it concerns only this one."""
        failure, asked, reason = failure_of(error), None, error.message
        # Also an answer that was charged and cannot be decoded: if none can, buying more is no use.
        is_loss = error.usage.charged + error.usage.maybe > 0
        if is_loss and this.flight.lost_in is None:
            this.flight.lost_in = self._row
        counts = is_loss and self._is_news(this)
        self._losses += counts
        if failure is Failure.FREE:
            asked = error.retry_after
            if asked is not None and asked > self._config.retry.max_retry_after:
                # This call ends (see `_retry`); the others slow down, but do not sleep for an hour.
                asked = None
        elif counts and self._losses >= _MANY:
            reason = f"{self._losses} failures in a row, each perhaps charged: {reason}"
        else:
            if failure is Failure.FINAL:
                self._went_well(is_paid=False)
            return
        if self._gate.push_back(asked, this.started):
            self._emit(
                Paused(
                    seconds=self._gate.paused_for,
                    width=self._gate.width,
                    error=type(error).__name__,
                    reason=reason,
                )
            )

    def _is_news(self, this: _Attempt) -> bool:
        """Tell whether the loss of an attempt can be a sign that the API fails on all.

        One on which it fails each time is none. Such calls come in a row all the same: when a job
        is run again, since the others are on file, and when one comes to its end, since the others
        have ended while these were to be tried again.
        """
        is_known = this.cache is not None and this.cache.has_failed
        return this.flight.lost_in == self._row and not is_known


def _cost_of_loss(price: int, error: SfkError) -> Usage:
    """Return what an attempt without a whole answer cost."""
    if isinstance(error, ClientStateError):
        return Usage()
    free = isinstance(error, ConnectionFailedError)
    return error.usage + Usage(requests=1, maybe=0 if free else price)
