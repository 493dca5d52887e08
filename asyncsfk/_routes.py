"""The API's routes: checked arguments -> requests, without I/O."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, unquote

import msgspec

from asyncsfk._checks import check_count, check_mapping, plain_text, plain_token, region_code
from asyncsfk._messages import Decoder, Envelope, Request
from asyncsfk._text import described
from asyncsfk.errors import InvalidArgumentError
from asyncsfk.models import Balance, Health, InstagramLookup, TikTokLookup, Whoami
from asyncsfk.models.base import data_type
from asyncsfk.models.reviews import ReviewData
from asyncsfk.models.showcase import ShowcaseData

if TYPE_CHECKING:
    from collections.abc import Mapping

Param: TypeAlias = str | int | bool | None
"""A query parameter's value; ``None`` leaves the parameter out."""

SHOWCASE: Final = "/v1/tiktok/profiles/{handle}/showcase-products"
TIKTOK_PROFILE: Final = "/v1/tiktok/profiles/{handle}"
REVIEWS: Final = "/v1/tiktok/products/reviews"
INSTAGRAM_PROFILE: Final = "/v1/instagram/profiles/{handle}"
WHOAMI: Final = "/v1/whoami"
BALANCE: Final = "/v1/balance"
HEALTH: Final = "/health"

_MAX_URL: Final = 4096
_IN_JSON: Final[tuple[object, ...]] = ("", 0, 0.5, True, None, [], {})
"""A value of each kind that there is in JSON."""
_SHOWCASE_PATH: Final = re.compile(r"/v1/tiktok/profiles/([A-Za-z0-9_.]{1,64})/showcase-products")
# RFC 3986, section 3.3: the characters of a path's segments.
_PATH: Final = re.compile(r"/v1(/([A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+)+/?", re.ASCII)
_ESCAPES: Final = str.maketrans({chr(code): quote(chr(code), safe="") for code in range(128)})


def _envelope(data: Any) -> Decoder:  # noqa: ANN401 - any type form
    # Type checkers take no variable in a type form, which is what msgspec asks for from 0.23 on.
    envelope: Any = Envelope
    return msgspec.json.Decoder(envelope[data])


_showcase_decoder = _envelope(ShowcaseData)
_reviews_decoder = _envelope(ReviewData)
_tiktok_decoder = _envelope(data_type(TikTokLookup))
_instagram_decoder = _envelope(data_type(InstagramLookup))
_whoami_decoder = _envelope(data_type(Whoami))
_balance_decoder = _envelope(data_type(Balance))
_health_decoder = msgspec.json.Decoder(Health)


_DECODERS: Final = {
    SHOWCASE: _showcase_decoder,
    TIKTOK_PROFILE: _tiktok_decoder,
    REVIEWS: _reviews_decoder,
    INSTAGRAM_PROFILE: _instagram_decoder,
}


def showcase(handle: str, *, cursor: str | None, region: str | None) -> Request:
    """Return the request for one page of a (normalised) creator's showcase."""
    path = f"/v1/tiktok/profiles/{_quoted(handle)}/showcase-products"
    query = "" if cursor is None is region else _query({"cursor": cursor, "region": region})
    return Request(
        route=SHOWCASE,
        target=path + query,
        decoder=_showcase_decoder,
        price=1,
        handle=handle,
        cursor=cursor,
        region=region,
        is_showcase=True,
    )


def tiktok_profile(handle: str) -> Request:
    """Return the request for a (normalised) TikTok creator's profile."""
    return Request(
        route=TIKTOK_PROFILE,
        target=f"/v1/tiktok/profiles/{_quoted(handle)}",
        decoder=_tiktok_decoder,
        price=1,
        handle=handle,
    )


def instagram_profile(handle: str) -> Request:
    """Return the request for a (normalised) Instagram account's profile."""
    return Request(
        route=INSTAGRAM_PROFILE,
        target=f"/v1/instagram/profiles/{_quoted(handle)}",
        decoder=_instagram_decoder,
        price=1,
        handle=handle,
    )


def reviews(
    *, product_id: str | None, url: str | None, region: str | None, page: int | None
) -> Request:
    """Return the request for one page of a product's reviews.

    Raises:
        InvalidArgumentError: Neither ``product_id`` nor ``url`` is given, or one is unusable.
    """
    if product_id is None and url is None:
        raise InvalidArgumentError("reviews need a product_id, a url, or both")
    product_id, url = plain_token("product_id", product_id), plain_token("url", url)
    region = region_code(region)
    if product_id is not None and "/" in product_id:
        # A URL given as the first argument would be sent as an id: a credit for "not found".
        raise InvalidArgumentError(
            f"{described(product_id)} is not a product_id; pass a product's URL as url="
        )
    if url is not None and len(url) > _MAX_URL:
        raise InvalidArgumentError(f"url is over {_MAX_URL} characters")
    if page is not None:
        check_count("page", page)
    # Sorted, like the parameters of `other`.
    query = _query(
        _as_of_reviews({"page": page, "productId": product_id, "region": region, "url": url})
    )
    return Request(
        route=REVIEWS,
        target=REVIEWS + query,
        decoder=_reviews_decoder,
        price=1,
        handle=product_id or url,
        page=page,
    )


def whoami() -> Request:
    """Return the request for the key's owner."""
    return Request(route=WHOAMI, target=WHOAMI, decoder=_whoami_decoder, price=0, is_free=True)


def balance() -> Request:
    """Return the request for the account's balance."""
    return Request(route=BALANCE, target=BALANCE, decoder=_balance_decoder, price=0, is_free=True)


def health() -> Request:
    """Return the request for the API's health."""
    return Request(
        route=HEALTH, target=HEALTH, decoder=_health_decoder, price=0, is_free=True, needs_key=False
    )


def other(path: str, params: Mapping[str, Param] | None, data: Any, price: int) -> Request:  # noqa: ANN401 - any type form
    """Return the request for any other route.

    Raises:
        InvalidArgumentError: The path could lead elsewhere, or an argument is unusable.
    """
    path = plain_text("path", path)
    segments = unquote(path).split("/") if _PATH.fullmatch(path) else [".."]
    if {".", ".."} & set(segments) or "%2f" in path.lower() or "%5c" in path.lower():
        raise InvalidArgumentError(
            f"{described(path)} is not a path of the API: it must begin with /v1/, be "
            "percent-encoded, and have no query and no dot segments; parameters go into params="
        )
    check_count("price", price, least=0)
    if data is None:
        # An answer would be paid for, and then refused unless its data is null.
        raise InvalidArgumentError("type= must be a type; without it the data is plain JSON data")
    try:
        # One for each request: concurrent callers of the same path must not share mutable data.
        decoder = _envelope(data)
        foreign: type[Any] | None = None
        with suppress(TypeError):  # a type that cannot be hashed, or used with `isinstance`
            foreign = _foreign_class_in(data)
    except Exception as error:
        # Names in it that cannot be resolved, and whatever else a caller's type may raise.
        raise InvalidArgumentError(f"type= cannot be decoded into: {error}") from error
    if foreign is not None:
        raise InvalidArgumentError(f"type= cannot be decoded into: msgspec knows no {foreign!r}")
    check_mapping("params", params)
    # Sorted, as in all requests: an archive finds an answer in whatever order they were given.
    given = dict(sorted((params or {}).items(), key=lambda item: str(item[0])))
    query = _query(given)
    if (page := _showcase_at(path, given)) is not None:
        return msgspec.structs.replace(page, route=path, decoder=decoder, price=price)
    if path == REVIEWS:
        query = _query(_as_of_reviews(given))
    return Request(route=path, target=path + query, decoder=decoder, price=price)


@lru_cache(maxsize=256)
def _foreign_class_in(kind: Any) -> type[Any] | None:  # noqa: ANN401 - any type form
    """Return a class in a type that no JSON value is: msgspec would refuse it only on decoding."""
    seen: set[int] = set()
    inside: list[object] = [msgspec.inspect.type_info(kind)]
    while inside:
        part = inside.pop()
        if isinstance(part, msgspec.inspect.CustomType):
            if not any(isinstance(value, part.cls) for value in _IN_JSON):
                return part.cls
        elif isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field):
            # A type may contain itself.
            if id(part) not in seen:
                seen.add(id(part))
                inside += msgspec.structs.astuple(part)
        elif isinstance(part, tuple):
            inside += part
    return None


def _as_of_reviews(params: Mapping[str, Param]) -> dict[str, Param]:
    """Return parameters of the reviews' route in the one form by which a page is known."""
    given = dict(params)
    # No number means the first page.
    if given.get("page") in (1, "1") and given["page"] is not True:
        given["page"] = None
    if isinstance(region := given.get("region"), str):
        with suppress(InvalidArgumentError):  # no country code: sent as it is
            given["region"] = region_code(region)
    return given


def _showcase_at(path: str, params: Mapping[str, Param]) -> Request | None:
    """Return the request for a showcase's page, if the generic one given is for such a page.

    An archive then takes both for the same, in whatever order the parameters are given.
    """
    match = _SHOWCASE_PATH.fullmatch(path)
    given = {name: value for name, value in params.items() if value is not None}
    cursor, region = given.pop("cursor", None), given.pop("region", None)
    if match is None or given or not isinstance(cursor, str | None):
        return None
    try:
        region = region_code(region)
    except InvalidArgumentError:
        return None
    return showcase(match[1].lower(), cursor=plain_token("cursor", cursor), region=region)


def decoder_of(route: str) -> Decoder:
    """Return what decodes the answers of a route."""
    return _DECODERS.get(route) or _envelope(Any)


def _query(params: Mapping[str, Param]) -> str:
    pairs: list[str] = []
    for name, value in params.items():
        if value is None:
            continue
        if isinstance(value, bool):
            sent = "true" if value else "false"
        elif isinstance(value, int):
            try:
                # An enum of numbers has a text of its own.
                sent = str(int(value))
            except ValueError as error:
                raise InvalidArgumentError(f"parameter {name!a} has too many digits") from error
        else:
            sent = plain_text(f"parameter {name!a}", value)
        known = plain_text("a parameter's name", name)
        pairs.append(f"{_quoted(known)}={_quoted(sent)}")
    return "?" + "&".join(pairs) if pairs else ""


def _quoted(text: str) -> str:
    # What `quote` would do, but much faster.
    return text.translate(_ESCAPES) if text.isascii() else quote(text, safe="")
