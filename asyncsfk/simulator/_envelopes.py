"""The documents of 200 answers, before any fault spoils them as bytes."""

from typing import Final

from asyncsfk.simulator import _actions as actions
from asyncsfk.simulator._calls import PRICES, Call, Route
from asyncsfk.simulator._cursors import Place
from asyncsfk.simulator._dice import number
from asyncsfk.simulator._paging import mislead
from asyncsfk.simulator._products import Json
from asyncsfk.simulator._world import World

_ENDLESS: Final = 1_000_000


def price_of(action: actions.Action | None, route: Route) -> int:
    """Tell what a request costs when a fault strikes it; nothing on a free route."""
    if not PRICES[route]:
        return 0
    match action:
        case actions.Price(credits=price) | actions.Status(charge=price):
            return price
        case (
            actions.Redirect()
            | actions.Close(charged=False)
            | actions.Garbage(charged=False)
            | actions.Hang(charged=False)
            | actions.Truncate(charged=False)
        ):
            return 0
        case _:
            return PRICES[route]


def needed_for(action: actions.Action | None, route: Route) -> int:
    """Tell the balance below which a request is refused, whatever would strike it otherwise."""
    price = price_of(action, route)
    return price if isinstance(action, actions.Price) else max(price, PRICES[route])


def document(
    world: World,
    call: Call,
    place: Place,
    action: actions.Action | None,
    *,
    request_id: str,
    price: int,
    balance: int | None,
) -> Json:
    """Make the document that answers a call."""
    match call.route:
        case Route.HEALTH:
            return {"status": "ok"}
        case Route.WHOAMI:
            data: Json = {"user": {"id": "usr_simulated", "name": "Sim Ulated", "email": None}}
        case Route.BALANCE:
            data = _balance(_ENDLESS if balance is None else balance)
        case _:
            data = world.data(call, place)
    if isinstance(action, actions.PagingFault):
        mislead(world, action, call, place, data)
    meta: Json = {"requestId": request_id, "creditsCharged": price, "version": "v1"}
    if price:
        # It depends on the page, not on the moment, so that answers stay the same.
        cached = number(world.key, f"cached:{call!r}") % 4
        if cached < 2:  # noqa: PLR2004 - told in half of the cases, either way
            meta["cached"] = bool(cached)
    return {"data": data, "meta": meta}


def _balance(left: int) -> Json:
    return {
        "balance": left,
        "payg": left,
        "paygSpendable": left,
        "graceDebtCredits": 0,
        "refillState": "healthy" if left else "exhausted",
        "billingAlert": "none",
        "subscriptionIncludedRemaining": 0,
        "subscriptionIncludedTotal": 0,
        "subscription": None,
        "collectionStatus": "current",
    }
