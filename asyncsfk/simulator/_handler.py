"""Takes each request, decides, charges, answers and enters it in the ledger."""

import asyncio
import re
from dataclasses import replace
from typing import Final

from aiohttp import web

from asyncsfk.simulator import _actions as actions
from asyncsfk.simulator import _answers as answers
from asyncsfk.simulator import _delivery as delivery
from asyncsfk.simulator._answers import Answer
from asyncsfk.simulator._calls import PRICES, Call, Reading, Refusal, Route, read_call
from asyncsfk.simulator._cursors import Place
from asyncsfk.simulator._dice import number
from asyncsfk.simulator._envelopes import document, needed_for, price_of
from asyncsfk.simulator._fault_injector import FaultInjector, Strike
from asyncsfk.simulator._ledger import Entry, Ledger
from asyncsfk.simulator._reviews import product_of
from asyncsfk.simulator._world import World

_CHECKOUT: Final = "https://www.socialfetch.dev/checkout/simulated"
_WORTH_GZIP: Final = 1024
_NO_GZIP: Final = re.compile(r"q=0(\.0*)?")


class _Visit:
    """A request while it is being answered."""

    __slots__ = ("before", "entry", "ledger", "reading", "request_id")

    def __init__(self, ledger: Ledger, entry: Entry, reading: Reading, request_id: str) -> None:
        self.ledger = ledger
        self.entry = entry
        self.reading = reading
        self.request_id = request_id
        self.before = ledger._open(entry)  # noqa: SLF001 - the handler keeps the ledger

    def charge(self, credits: int, fault: str | None) -> None:
        self.entry = replace(self.entry, charged=credits, fault=fault)
        self.ledger._charge(self.entry)  # noqa: SLF001 - the handler keeps the ledger

    def sending(self, answer: Answer) -> None:
        self.entry = replace(self.entry, status=answer.status, code=answer.code)
        self.ledger._write(self.entry)  # noqa: SLF001 - the handler keeps the ledger

    def close(self, finished: float, *, delivered: bool) -> None:
        entry = replace(self.entry, finished=finished, delivered=delivered)
        self.ledger._close(entry)  # noqa: SLF001 - the handler keeps the ledger


class RequestHandler:
    """Answers the requests of one simulator.

    Attributes:
        balance: The credits that are left; None if they never run out.
        mistake: The first error of the simulator itself, as against its faults.
    """

    def __init__(
        self,
        world: World,
        injector: FaultInjector,
        ledger: Ledger,
        *,
        api_key: str,
        credits: int | None,
        max_concurrent: int | None,
        overload_retry_after: str | None,
        gzip: bool,
    ) -> None:
        self.balance = credits
        self.mistake: Exception | None = None
        self._world = world
        self._injector = injector
        self._ledger = ledger
        self._api_key = api_key
        self._max_concurrent = max_concurrent
        self._overload = actions.Status(
            503, "envelope", "temporarily_unavailable", overload_retry_after, 0, None
        )
        self._gzip = gzip

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        loop = asyncio.get_running_loop()
        visit = self._arrive(request, loop.time())
        delivered = False
        try:
            response, delivered = await self._answer(request, visit)
        except ConnectionError:  # pragma: no cover - the client left while we were writing
            response = delivery.close(request)
        except Exception as error:
            # Kept, since the client takes the 500 that becomes of it for an answer of the API's.
            self.mistake = self.mistake or error
            raise
        finally:
            visit.close(loop.time(), delivered=delivered)
        return response

    def _arrive(self, request: web.BaseRequest, now: float) -> _Visit:
        target = request.raw_path
        reading = read_call(request.method, target, has_body=request.body_exists)
        count = self._ledger.requests + 1
        cursor, region, handle = None, None, reading.handle
        if isinstance(reading, Call):
            cursor, region = reading.cursor, reading.region
            if reading.route is Route.REVIEWS:
                handle = product_of(reading.product, reading.url) or reading.url
                cursor = None if reading.page in (None, 1) else str(reading.page)
        entry = Entry(
            number=count,
            route=None if reading.route is None else str(reading.route),
            path=target.replace(self._api_key, "[key]"),
            handle=self._hide_key(handle),
            region=self._hide_key(region),
            cursor=self._hide_key(cursor),
            authorized=request.headers.getall("x-api-key", []) == [self._api_key],
            cookie="Cookie" in request.headers,
            started=now,
        )
        request_id = f"req_{number(self._world.key, f'request:{count}'):016x}"
        return _Visit(self._ledger, entry, reading, request_id)

    def _hide_key(self, text: str | None) -> str | None:
        return None if text is None else text.replace(self._api_key, "[key]")

    async def _answer(
        self, request: web.BaseRequest, visit: _Visit
    ) -> tuple[web.StreamResponse, bool]:
        """Decide about a request and answer it; tell whether the whole answer was written."""
        wanted = self._admit(visit)
        if isinstance(wanted, Answer):
            return await self._send(request, visit, wanted)
        call, place = wanted
        strike = self._injector.decide(visit.entry, call, place, visit.before)
        return await self._perform(request, visit, call, place, strike)

    @property
    def _is_overloaded(self) -> bool:
        return self._max_concurrent is not None and self._ledger.in_flight > self._max_concurrent

    def _admit(self, visit: _Visit) -> tuple[Call, Place] | Answer:
        """Return what is asked for; a refusal, before any fault, of what cannot be served."""
        reading, request_id = visit.reading, visit.request_id
        # An unknown route is a 404 whatever the key.
        if reading.route not in (None, Route.HEALTH) and not visit.entry.authorized:
            return answers.error(401, "unauthorized", "The key is not right.", request_id)
        if reading.route is not None and PRICES[reading.route] and self._is_overloaded:
            return answers.faulty_status(self._overload, request_id)
        if isinstance(reading, Refusal):
            return answers.error(reading.status, reading.code, reading.message, request_id)
        place = self._world.place(reading)
        if place is None:
            return answers.error(400, "bad_request", "The cursor is bad.", request_id)
        return reading, place

    async def _perform(
        self, request: web.BaseRequest, visit: _Visit, call: Call, place: Place, strike: Strike
    ) -> tuple[web.StreamResponse, bool]:
        """Charge, wait, and answer as the strike asks for."""
        action = strike.action
        price = price_of(action, call.route)
        if self.balance is not None and needed_for(action, call.route) > self.balance:
            poor = answers.error(
                402, "insufficient_credits", "No credits left.", visit.request_id, _CHECKOUT
            )
            return await self._send(request, visit, poor)
        self._injector.count(strike)
        visit.charge(price, strike.name)
        if self.balance is not None:
            self.balance -= price
        if strike.delay:
            await asyncio.sleep(strike.delay)
        match action:
            case actions.Close(_, reset):
                return delivery.close(request, reset=reset), False
            case actions.Garbage():
                return delivery.send_garbage(request), False
            case actions.Hang(seconds):
                await asyncio.sleep(seconds)
                return delivery.close(request), False
            case actions.Status():
                answer = answers.faulty_status(action, visit.request_id)
            case actions.Redirect():
                answer = answers.redirect(action)
            case _:
                body = document(
                    self._world,
                    call,
                    place,
                    action,
                    request_id=visit.request_id,
                    price=price,
                    balance=self.balance,
                )
                answer = answers.compose(action, body, price)
        return await self._send(request, visit, answer, action)

    async def _send(
        self,
        request: web.BaseRequest,
        visit: _Visit,
        answer: Answer,
        action: actions.Action | None = None,
    ) -> tuple[web.StreamResponse, bool]:
        visit.sending(answer)
        match action:
            case actions.Truncate(_, chunked):
                return await delivery.send_truncated(request, answer, chunked=chunked), False
            case actions.Drip(chunk, interval):
                return await delivery.send_dripping(request, answer, chunk, interval), True
            case actions.Oversized(_, chunked):
                return await delivery.send_padded(request, answer, chunked=chunked), True
            case _:
                if self._gzip and len(answer.body) >= _WORTH_GZIP and _takes_gzip(request):
                    answers.compress(answer)
                return await delivery.send_whole(request, answer), True


def _takes_gzip(request: web.BaseRequest) -> bool:
    for coding in request.headers.get("Accept-Encoding", "").split(","):
        name, _, weight = coding.partition(";")
        if name.strip().lower() in {"gzip", "*"}:
            return not _NO_GZIP.fullmatch(weight.strip())
    return False
