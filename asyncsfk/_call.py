"""The life of a call: join one in flight, or look in an archive, send, try again, end."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from asyncsfk import _wire
from asyncsfk._flight import Landing, SingleFlight
from asyncsfk._messages import Received
from asyncsfk._packing import ACCEPTED
from asyncsfk._page_cache import line_of
from asyncsfk._result import CallResult, placed, priced, shared
from asyncsfk._retry import Failure, RetryQuota, Stop, decide, failure_of
from asyncsfk.config import KEY_VARIABLE
from asyncsfk.errors import (
    ArchiveError,
    BudgetReachedError,
    ClientStateError,
    ConfigurationError,
    Details,
    RunStoppedError,
    SfkError,
    UnreachableError,
)
from asyncsfk.events import RequestRetried
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncsfk._attempt import Attempts
    from asyncsfk._flight import Flight
    from asyncsfk._messages import Request, Response
    from asyncsfk._page_cache import PageCache
    from asyncsfk._store._store import Store
    from asyncsfk._terms import Payer
    from asyncsfk.config import ApiKey, Config
    from asyncsfk.events import Emitter


class _Coming:
    """A call on its way to an answer; ``verdict``: why it must not send for one, if that is so."""

    def __init__(self, payer: Payer, verdict: SfkError | None) -> None:
        self.payer = payer
        self.verdict = verdict


class Caller:
    """Makes calls: the one place where requests are joined, looked up and tried again.

    Args:
        config: Key, retry policy and limits.
        attempts: Sends one request.
        emit: Is told what happens.
    """

    def __init__(self, config: Config, attempts: Attempts, *, emit: Emitter) -> None:
        self._config = config
        self._attempts = attempts
        self._emit = emit
        self._quota = RetryQuota(config.retry.quota)
        self._flights: SingleFlight[CallResult] = SingleFlight(config.timeout.grace)
        self._coming: set[_Coming] = set()
        self._closing = False
        self._loop = asyncio.get_running_loop()

    @property
    def api_key(self) -> ApiKey | None:
        """The key, which must not show anywhere."""
        return self._config.api_key

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

    async def fetch(
        self, request: Request, payer: Payer, cache: PageCache | None = None
    ) -> Received:
        """Return the answer to a request.

        Concurrent calls for the same path and query share one request: one of them answers for
        its cost, and the answers of the others say that they cost nothing.

        Args:
            request: What to ask for.
            payer: Who answers for the cost.
            cache: Where the answer is looked for first, and kept.

        Raises:
            ConfigurationError: The route needs a key and there is none.
            ClientStateError: The client is closed, or of another event loop.
            SfkError: The call failed for good.
        """
        if asyncio.get_running_loop() is not self._loop:
            # A listing can be iterated in any event loop.
            raise placed(ClientStateError("the client was opened in another event loop"), request)
        if request.needs_key:
            self.require_key(request.route)
        coming = _Coming(payer, None if cache is None else cache.offline)
        self._coming.add(coming)
        try:
            landing, inherited = await self._come_by(request, coming, cache)
        finally:
            self._coming.discard(coming)
        answer = landing.result
        result = answer.result
        if landing.began:
            if inherited.requests:
                result = priced(result, result.usage + inherited)
        else:
            cost = inherited + result.usage if landing.answers else inherited
            result = self._for_others(request, answer)
            paid = answer.paid
            if cache is not None and paid is not None and cache.store not in answer.stores:
                try:
                    await self._cache_too(request, paid, result, cache)
                except ArchiveError as error:
                    # It was paid for: the error brings the body, since the archive cannot.
                    result = _wire.redacted(error.evolve(body=result.body), self._config.api_key)
            result = shared(request, result, cost, self._config.api_key)
        if isinstance(result, SfkError):
            raise result
        return result

    async def _come_by(
        self, request: Request, coming: _Coming, cache: PageCache | None
    ) -> tuple[Landing[CallResult], Usage]:
        """Return an answer that will do, by joining a call under way or beginning one.

        Also return the cost of answers before it that this call pays for but could not use.
        """
        payer, inherited = coming.payer, Usage()
        while True:
            joining = cache if request.target in self._flights else None
            if joining is not None:
                # The call under way may be buying afresh what will do for this one as it is on
                # file. Hold it until that is known: all its callers may leave meanwhile.
                self._flights.hold(request.target, joining)
            if joining is not None or coming.verdict is not None:
                # What must not be sent begins nothing that others could join: why that is so
                # concerns only this caller.
                answer = await self._look_up_first(request, coming, cache)
                if answer is not None:
                    return Landing(answer), inherited
            if self._closing:
                closed = ClientStateError("the client is closed", Details(usage=inherited))
                raise placed(closed, request)
            try:
                landing = await self._flights.do(
                    request.target, partial(self._perform, request, payer, cache), payer, cache
                )
            except (ClientStateError, RunStoppedError) as error:
                cost = error.usage + inherited
                raise placed(error, request).evolve(usage=cost) from None
            if landing.began or landing.was_stopped or landing.result.serves(cache):
                return landing, inherited
            # It ended for a reason of its beginner's alone, or came from an archive not ours.
            if landing.answers:
                inherited += landing.result.result.usage

    def stop(self, payer: Payer, error: SfkError, *, now: bool) -> None:
        """End a payer's calls with an error; what has been sent may land, unless ``now``."""
        self._flights.stop(payer, error, now=now)
        for coming in self._coming:
            if coming.payer.meter is payer.meter:
                coming.verdict = error

    def refuse(self, payer: Payer, error: SfkError) -> None:
        """End with an error those of a payer's calls that still wait to send."""
        self._flights.end_others(None, error, payer)

    def employs(self, task: asyncio.Task[Any] | None) -> bool:
        """Tell whether a task makes a call, which cannot wait for its own end."""
        return self._flights.employs(task)

    async def aclose(self) -> None:
        """End all calls under way; their callers get a `ClientStateError`."""
        self._closing = True
        await self._flights.aclose(ClientStateError("the client was closed under the call"))

    async def _perform(
        self, request: Request, payer: Payer, cache: PageCache | None, flight: Flight[CallResult]
    ) -> CallResult:
        """Make a call and return what came of it, with what all its attempts cost."""
        answer = None
        try:
            if flight.verdict is not None:
                answer = CallResult(flight.verdict)
            elif cache is not None:
                answer = await self._look_up(request, cache)
            if answer is None:
                answer = await self._try(request, payer, cache, flight)
        except (BudgetReachedError, ArchiveError) as error:
            answer = CallResult(error)
        except asyncio.CancelledError:
            if (stopped := flight.verdict) is None:
                raise
            answer = CallResult(stopped)
        if len(flight.caches) > (cache is not None):
            answer = await self._keep_for_others(request, answer, flight)
        result, cost = answer.result, flight.cost.usage
        if isinstance(result, SfkError):
            result = placed(result, request).evolve(usage=cost, attempts=cost.requests)
        elif result.usage == cost:
            return answer
        else:
            result = priced(result, cost)
        return msgspec.structs.replace(answer, result=result)

    async def _look_up_first(
        self, request: Request, coming: _Coming, cache: PageCache | None
    ) -> CallResult | None:
        """Return the kept answer; if there is none, the error that says why nothing may be sent."""
        answer = None
        if cache is not None:
            try:
                answer = await self._look_up(request, cache)
            except ArchiveError as error:
                answer = CallResult(error)
        if answer is None and coming.verdict is not None:
            answer = CallResult(coming.verdict.evolve(usage=Usage()))
        if answer is not None and isinstance(answer.result, SfkError):
            answer = CallResult(placed(answer.result, request))
        return answer

    async def _look_up(self, request: Request, cache: PageCache) -> CallResult | None:
        """Return the kept answer, if there is one that will do."""
        row = await cache.find(request)
        if row is None:
            return None
        # Decoded anew: this version may read what an older one could not. What was accepted once
        # is not refused as too large now.
        limit = ACCEPTED if row.decoded else self._config.max_body_bytes
        result = _wire.read_kept(request.decoder, row.encoding, row.body, max_body_bytes=limit)
        if isinstance(result, Received) and not row.decoded:
            cache.store.decoded_soon(row.id)
        return CallResult(result, stores=(cache.store,), row=row)

    async def _try(
        self, request: Request, payer: Payer, cache: PageCache | None, flight: Flight[CallResult]
    ) -> CallResult:
        """Send a request until it is answered, or until it must not be tried again."""
        flight.is_buying = True
        failures: list[Failure] = []
        answer = await self._attempts.send(request, 1, payer, cache, flight)
        while not isinstance(result := answer.result, Received):
            failures.append(failure_of(result))
            if isinstance(result, UnreachableError):
                # The other calls would wait in line only to find the API unreachable, too.
                self._flights.end_others(flight, result.evolve(usage=Usage()))
            verdict = decide(self._config.retry, result, failures, random.random)
            if not isinstance(verdict, Stop):
                flight.dismiss()
                if (told := _told_to_end(flight, result)) is not None:
                    return msgspec.structs.replace(answer, result=told)
                if not flight.is_wanted:
                    verdict = Stop("nobody waits for it any more")
                elif not self._quota.take(failures[-1]):
                    verdict = Stop("the client's retry quota is used up")
            if isinstance(verdict, Stop):
                gave_up = result.evolve(gave_up=verdict.reason)
                return msgspec.structs.replace(answer, result=gave_up)
            self._emit(
                RequestRetried(
                    route=request.route,
                    handle=request.handle,
                    attempt=len(failures),
                    error=type(result).__name__,
                    wait=verdict.seconds,
                )
            )
            send = partial(self._attempts.send, request, len(failures) + 1, payer, cache, flight)
            try:
                answer = await self._retry(verdict.seconds, send, flight, failures[-1])
            except BudgetReachedError as error:
                # The failure before this attempt is why it was needed at all.
                raise error from result
        self._quota.earn()
        return answer

    async def _retry(
        self,
        seconds: float,
        send: Callable[[], Awaitable[CallResult]],
        flight: Flight[CallResult],
        failure: Failure,
    ) -> CallResult:
        """Wait after a failure and send again; the retry is given back if it ends before that."""
        sent = flight.cost.usage.requests
        try:
            await anyio.sleep(seconds)
            return await send()
        except BaseException:
            if flight.cost.usage.requests == sent:
                self._quota.give_back(failure)
            raise

    async def _keep_for_others(
        self, request: Request, answer: CallResult, flight: Flight[CallResult]
    ) -> CallResult:
        """Keep an answer in the archives of those who joined, before any of them gets it.

        Until it is kept, a caller that asks for it joins, too, instead of buying it again.
        """
        if (paid := answer.paid) is None:
            return answer
        # It is paid for: it should not be cancelled now, and is returned all the same if it is.
        flight.in_air = True
        with suppress(asyncio.CancelledError):
            result = self._for_others(request, answer)
            own = answer.stores
            kept: set[tuple[Store, int, float]] = set()
            # The list may grow meanwhile.
            for cache in flight.caches:
                # Callers with the same archive may differ in which of its pages will do.
                terms = (cache.store, cache.floor, cache.since)
                if cache.store not in own and terms not in kept:
                    # The caller with this archive tries again, in `fetch`, and is told then.
                    with suppress(ArchiveError):
                        await self._cache_too(request, paid, result, cache)
                        kept.add(terms)
                        stores = (*answer.stores, cache.store)
                        answer = msgspec.structs.replace(answer, stores=stores)
        flight.in_air = False
        return answer

    def _for_others(self, request: Request, answer: CallResult) -> Received | SfkError:
        """Return a call's result for the others, without an error of its beginner's archive."""
        response = answer.paid
        if response is None or not isinstance(answer.result, ArchiveError):
            return answer.result
        return _wire.read(
            request.decoder,
            response,
            # The caller that answers for it tells what it cost.
            price=0,
            max_body_bytes=self._config.max_body_bytes,
            api_key=self._config.api_key,
        )

    async def _cache_too(
        self, request: Request, paid: Response, result: Received | SfkError, cache: PageCache
    ) -> None:
        """Keep in an archive an answer that another caller paid for."""
        await cache.put(
            request,
            paid,
            result,
            line_of(
                request,
                Usage(),
                number=0,
                status=paid.status,
                answer=result if isinstance(result, SfkError) else result.meta,
            ),
            api_key=self._config.api_key,
            max_body_bytes=self._config.max_body_bytes,
            once=True,
        )


def _told_to_end(flight: Flight[CallResult], failed: SfkError) -> SfkError | None:
    """Return why a call must end instead of trying again, if it must."""
    if flight.verdict is not None:
        stopped = flight.verdict.evolve()
        stopped.__cause__ = failed
        return stopped
    if flight.is_wanted and not flight.is_paid_for:
        # Those who still wait begin anew, in budgets of their own.
        return RunStoppedError("whoever asked for it first has left")
    return None
