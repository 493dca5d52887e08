"""What a request asks for, read from its raw target as strictly as possible."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from asyncsfk.simulator._creators import HANDLE
from asyncsfk.simulator._words import REVIEW_REGIONS


class Route(StrEnum):
    """The routes, as the templates by which the ledger names them."""

    SHOWCASE = "/v1/tiktok/profiles/{handle}/showcase-products"
    TIKTOK_PROFILE = "/v1/tiktok/profiles/{handle}"
    REVIEWS = "/v1/tiktok/products/reviews"
    INSTAGRAM_PROFILE = "/v1/instagram/profiles/{handle}"
    WHOAMI = "/v1/whoami"
    BALANCE = "/v1/balance"
    HEALTH = "/health"


#: What an answer of each route costs.
PRICES: Final[Mapping[Route, int]] = {
    Route.SHOWCASE: 1,
    Route.TIKTOK_PROFILE: 1,
    Route.REVIEWS: 1,
    Route.INSTAGRAM_PROFILE: 1,
    Route.WHOAMI: 0,
    Route.BALANCE: 0,
    Route.HEALTH: 0,
}

_FIXED: Final = {str(route): route for route in Route if "{" not in route}
_PARAMETERS: Final[Mapping[Route, frozenset[str]]] = {
    Route.SHOWCASE: frozenset({"cursor", "region"}),
    Route.REVIEWS: frozenset({"url", "productId", "region", "page"}),
}
_NONE: Final = frozenset[str]()

#: What may stand unencoded in a path segment, and in a query's name or value.
_SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*")
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,;:@/?]|%[0-9A-Fa-f]{2})*")
_ORIGIN: Final = re.compile(r"https?://[^/?#]+")
_INSTAGRAM_URL: Final = re.compile(
    r"(?:https?://)?(?:www\.|m\.)?instagram\.com/([A-Za-z0-9_.]+)/?(?:[?#].*)?"
)
_PAGE: Final = re.compile(r"[1-9][0-9]{0,18}")
_LONGEST_URL: Final = 4096
_LONGEST_INSTAGRAM: Final = 2048


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is valid, save perhaps for its cursor, which only `read_cursor` can judge."""

    route: Route
    handle: str | None = None
    cursor: str | None = None
    region: str | None = None
    product: str | None = None
    url: str | None = None
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not valid, and what is wrong with it."""

    route: Route | None
    status: int
    code: str
    message: str
    handle: str | None = None


Reading: TypeAlias = Call | Refusal


class _BadError(Exception):
    """A part of a request is not valid."""


def read_call(method: str, target: str, *, has_body: bool) -> Reading:
    """Read a request's method and raw target."""
    if origin := _ORIGIN.match(target):  # as sent to a proxy
        target = target[origin.end() :]
    path, _, query = target.partition("?")
    route, segment = _route(path)
    if route is None or method != "GET":
        return Refusal(route, 404, "not_found", "There is no such route.")
    handle: str | None = None
    try:
        handle = None if segment is None else _decode(segment, _SEGMENT, "path")
        if has_body:
            return Refusal(route, 400, "bad_request", "A GET has no body.", handle)
        parameters = _parameters(query, _PARAMETERS.get(route, _NONE))
        return _call(route, handle, parameters)
    except _BadError as bad:
        return Refusal(route, 400, "bad_request", str(bad), handle)


def _route(path: str) -> tuple[Route | None, str | None]:
    if fixed := _FIXED.get(path):
        return fixed, None
    match path.split("/"):
        case ["", "v1", "tiktok", "profiles", handle, "showcase-products"]:
            return Route.SHOWCASE, handle
        case ["", "v1", "tiktok", "profiles", handle]:
            return Route.TIKTOK_PROFILE, handle
        case ["", "v1", "instagram", "profiles", handle]:
            return Route.INSTAGRAM_PROFILE, handle
        case _:
            return None, None


def _call(route: Route, handle: str | None, given: dict[str, str]) -> Call:
    if route is Route.REVIEWS:
        return _reviews_call(given)
    if handle is None:
        return Call(route)
    if route is Route.INSTAGRAM_PROFILE:
        return Call(route, handle=_instagram_name(handle))
    if not HANDLE.fullmatch(handle):
        raise _BadError("The handle is not one of TikTok's.")
    return Call(route, handle=handle, cursor=given.get("cursor"), region=given.get("region"))


def _reviews_call(given: dict[str, str]) -> Call:
    product, url, region, page = map(given.get, ("productId", "url", "region", "page"))
    if product is None and url is None:
        raise _BadError("Either url or productId is needed.")
    if url is not None and len(url) > _LONGEST_URL:
        raise _BadError("The url is too long.")
    if region is not None and region not in REVIEW_REGIONS:
        raise _BadError("The region is not one of those served.")
    if page is not None and not _PAGE.fullmatch(page):
        raise _BadError("The page is not a number from 1.")
    number = None if page is None else int(page)
    return Call(Route.REVIEWS, region=region, product=product, url=url, page=number)


def _instagram_name(handle: str) -> str:
    if len(handle) <= _LONGEST_INSTAGRAM:
        if address := _INSTAGRAM_URL.fullmatch(handle):
            handle = address[1]
        name = handle.removeprefix("@")
        if HANDLE.fullmatch(name):
            return name
    raise _BadError("The handle is neither a name nor an address of Instagram's.")


def _parameters(query: str, known: frozenset[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        raw_name, equals, raw_value = pair.partition("=")
        name = _decode(raw_name, _QUERY, "query")
        if name not in known:
            raise _BadError("There is a query parameter that this route does not know.")
        if name in given:
            raise _BadError(f"{name} is given twice.")
        value = _decode(raw_value.replace("+", "%20"), _QUERY, "query")
        if not equals or not value:
            raise _BadError(f"{name} must not be empty.")
        given[name] = value
    return given


def _decode(raw: str, allowed: re.Pattern[str], where: str) -> str:
    if not allowed.fullmatch(raw):
        raise _BadError(f"The {where} holds characters that must be percent-encoded.")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _BadError(f"The {where} is not UTF-8.") from None
