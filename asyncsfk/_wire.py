"""What the API answers, without I/O: status, headers and body -> data or a typed error.

Source: the answer envelope, the error envelope and the billing table of the API's seven routes.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from asyncsfk._messages import Envelope, Meta, Received
from asyncsfk._packing import CANNOT_UNPACK, TooLargeError, encoding_of, unpack, unpack_some
from asyncsfk._retry import parse_retry_after
from asyncsfk._text import writable
from asyncsfk.errors import (
    APIError,
    BadRequestError,
    BodyTooLargeError,
    Details,
    ForbiddenError,
    InsufficientCreditsError,
    LookupFailedError,
    NotFoundError,
    RateLimitedError,
    RedirectError,
    ServerError,
    SfkError,
    UnauthorizedError,
    UnavailableError,
    UndecodableError,
)
from asyncsfk.models.base import NOT_JSON, decode
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    from asyncsfk._messages import Decoder, Response
    from asyncsfk.config import ApiKey

OK: Final = 200
"""The one status of a good, and charged, answer."""
_REDIRECTS: Final = range(300, 400)
_SERVER_ERRORS: Final = range(500, 600)
_NO_PRICE: Final = 10**100
"""Far below what Python refuses to write down, as then some sum of prices would be."""
_EXCERPT: Final = 200
_LONGEST: Final = 2000  # of codes, ids and addresses, which are otherwise kept as they are
ERROR_BYTES: Final = 64 * 1024
"""How much of an error's body is read: enough for an explanation."""
_PAGE_TEXT: Final = 4 * 1024

_BY_STATUS: Final[dict[int, type[APIError]]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    402: InsufficientCreditsError,
    403: ForbiddenError,
    404: NotFoundError,
    429: RateLimitedError,
    502: LookupFailedError,
    503: UnavailableError,
}
# What the billing table calls uncharged; any other failure may have been charged.
_FREE: Final = frozenset({400, 401, 402, 403, 404, 429, 503})

_MARKUP: Final = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]*>", re.DOTALL | re.IGNORECASE)


_meta_decoder = msgspec.json.Decoder(Meta)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


def read(
    decoder: Decoder, response: Response, *, price: int, max_body_bytes: int, api_key: ApiKey | None
) -> Received | SfkError:
    """Return what a response holds, or the error that it stands for, with what it cost.

    Args:
        decoder: Decodes the whole body.
        response: What came.
        price: The most credits that it can have cost, as far as is known.
        max_body_bytes: The largest body, once unpacked.
        api_key: Struck out of errors.
    """
    if response.status == OK:
        result = _read_success(decoder, response, price, max_body_bytes)
    elif response.status in _REDIRECTS:
        result = _read_redirect(response, price, api_key)
    else:
        result = _read_failure(response, price, api_key)
    return _without_key(result, api_key)


def reread(decoder: Decoder, body: bytes, api_key: ApiKey | None) -> Received | SfkError:
    """Return an answer's (plain) body, decoded anew."""
    return _without_key(_decode(decoder, body, len(body), 0), api_key)


def read_kept(
    decoder: Decoder, encoding: str, body: bytes, *, max_body_bytes: int
) -> Received | SfkError:
    """Return what a kept answer holds, or the error that it stands for; at no cost."""
    try:
        plain = unpack(encoding, body, max_body_bytes)
        # The key was struck out before it was kept.
        result = reread(decoder, plain, None)
    except CANNOT_UNPACK as error:
        result = not_unpacked(error, Details(status=OK, body=body), max_body_bytes)
    if isinstance(result, SfkError):
        return result.evolve(usage=Usage())
    return msgspec.structs.replace(result, usage=Usage(), kept=True)


def _without_key(result: Received | SfkError, api_key: ApiKey | None) -> Received | SfkError:
    """Return a result with the key struck out of its error, or of its request id."""
    if isinstance(result, SfkError):
        return redacted(result, api_key)
    request_id = result.meta.request_id
    if api_key is None or request_id is None:
        return result
    if (clean := api_key.redact(request_id)) is not request_id:
        meta = msgspec.structs.replace(result.meta, request_id=clean)
        return msgspec.structs.replace(result, meta=meta)
    return result


def _read_success(
    decoder: Decoder, response: Response, price: int, max_body_bytes: int
) -> Received | SfkError:
    size = len(response.body)
    unknown = Details(
        status=OK, usage=Usage(requests=1, maybe=price, bytes=size), body=response.body
    )
    try:
        body = unpack(encoding_of(response.headers), response.body, max_body_bytes)
    except CANNOT_UNPACK as error:
        if not isinstance(error, TooLargeError):
            # It may be no gzip at all, or lack only its end: then the price can still be read.
            plain = unpack_some(response.body, max_body_bytes, members=1) or response.body
            unknown = _salvaged(unknown, plain, price, is_whole=False)
        return not_unpacked(error, unknown, max_body_bytes)
    return _decode(decoder, body, size, price)


def not_unpacked(error: Exception, known: Details, max_body_bytes: int) -> SfkError:
    """Return the error for a body that `unpack` refused."""
    if isinstance(error, TooLargeError):
        return BodyTooLargeError(
            f"the body is over {max_body_bytes} bytes once unpacked",
            msgspec.structs.replace(known, body=None),
        )
    return _caused(UndecodableError(f"the body cannot be unpacked: {error}", known), error)


def _decode(decoder: Decoder, body: bytes, size: int, price: int) -> Received | SfkError:
    try:
        value: Any = decode(decoder, body)
    except Exception as error:  # noqa: BLE001 - a type of the caller's may raise anything
        known = Details(status=OK, usage=Usage(bytes=size), body=body)
        known = _salvaged(known, body, price, is_whole=_is_object(body))
        reason = type(error).__name__
        with suppress(Exception):  # of such a type, too
            reason = str(error) or reason
        return _caused(UndecodableError(f"not the JSON of this route: {reason}", known), error)
    if isinstance(value, Envelope):
        envelope: Envelope[Any] = value  # pyright: ignore[reportUnknownVariableType]
        meta = _read_meta(envelope.meta)
        usage = _cost(price, meta, size)
        return Received(envelope.data, meta, usage, body, decoder)
    return Received(value, Meta(), Usage(requests=1, bytes=size), body, decoder)


def _caused(error: SfkError, cause: BaseException) -> SfkError:
    error.__cause__ = _bare(cause)
    return error


def _bare(error: BaseException) -> BaseException:
    """Return an error without tracebacks, whose frames hold the whole body, and perhaps the key."""
    seen: list[BaseException] = []
    behind: list[BaseException | None] = [error]
    while behind:
        one = behind.pop()
        if one is not None and one not in seen:
            seen.append(one)
            one.__traceback__ = None
            behind += [one.__cause__, one.__context__]
    return error


def _read_redirect(response: Response, price: int, api_key: ApiKey | None) -> RedirectError:
    location = response.headers.get("Location")
    if location is not None:
        # Headers may hold any bytes, which aiohttp gives as lone surrogates.
        location = writable(_struck(location, api_key)[:_LONGEST])
    return RedirectError(
        f"the API answered with a redirect to {location!r}, which is never followed",
        Details(
            status=response.status,
            location=location,
            usage=Usage(requests=1, maybe=price, bytes=len(response.body)),
        ),
    )


def _read_failure(response: Response, price: int, api_key: ApiKey | None) -> APIError:
    status = response.status
    fallback = ServerError if status in _SERVER_ERRORS else APIError
    try:
        body = unpack(encoding_of(response.headers), response.body, ERROR_BYTES)
    except CANNOT_UNPACK:
        body = b""
    told = _read_error_body(body, api_key)
    code, message = told.get("code"), told.get("message")
    return _BY_STATUS.get(status, fallback)(
        f"HTTP {status}: {message or 'no explanation'}",
        Details(
            status=status,
            code=code,
            request_id=told.get("requestId"),
            retry_after=parse_retry_after(
                response.headers.get("Retry-After"), _server_time(response)
            ),
            checkout_url=told.get("checkoutUrl"),
            usage=Usage(
                requests=1,
                maybe=0 if status in _FREE else price,
                bytes=len(response.body),
            ),
        ),
    )


def _struck(text: str, api_key: ApiKey | None) -> str:
    """Return a text with the key struck out, before it is cut: half a key could not be found."""
    return text if api_key is None else api_key.redact(text)


def _read_error_body(body: bytes, api_key: ApiKey | None) -> dict[str, str]:
    """Return the texts of an error envelope, of a problem+json, or an excerpt of anything else."""
    with suppress(*NOT_JSON):
        told = decode(_object_decoder, body)
        # RFC 9457: what a proxy may answer as application/problem+json.
        problem = {"message": told.get("detail") or told.get("title")}
        fields = msgspec.convert(told.get("error", problem), dict[str, Any])
        texts = {
            name: _excerpt(text) if name == "message" else text[:_LONGEST]
            for name, value in fields.items()
            if isinstance(value, str) and (text := _struck(value, api_key))
        }
        if texts:
            return texts
    text = _struck(body.decode("utf-8", "replace"), api_key)[:_PAGE_TEXT]
    return {"message": _excerpt(_MARKUP.sub(" ", text))}


def _excerpt(text: str) -> str:
    """Return somebody else's text in a form fit for a log: one short, printable line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}..."


def _read_meta(raw: bytes | msgspec.Raw) -> Meta:
    try:
        meta = _meta_decoder.decode(raw)
    except NOT_JSON:
        meta = _read_odd_meta(raw)
    return meta if 0 <= (meta.credits_charged or 0) < _NO_PRICE else Meta(meta.request_id)


def _read_odd_meta(raw: bytes | msgspec.Raw) -> Meta:
    """Return what can be used of a meta in which some fields have the wrong type."""
    try:
        told = _object_decoder.decode(raw)
    except NOT_JSON:
        return Meta()
    known: dict[str, Any] = {}
    for field in msgspec.structs.fields(Meta):
        with suppress(msgspec.ValidationError):
            # Not strict: a price of 2.0 or "2" is one of 2.
            value = msgspec.convert(told.get(field.encode_name), field.type, strict=False)
            known[field.name] = value
    return Meta(**known)


def _is_object(body: bytes) -> bool:
    """Tell whether a body is a valid JSON object, though not that of its route."""
    try:
        decode(_object_decoder, body)
    except NOT_JSON:
        return False
    return True


def _salvaged(known: Details, plain: bytes, price: int, *, is_whole: bool) -> Details:
    """Return what is known of an undecodable body, with what can be read of its meta."""
    meta = _salvage_meta(plain)
    usage = _cost(price, meta, known.usage.bytes)
    if usage.charged < price and not is_whole:
        # A damaged body is believed if it says that it cost more, not if it says less.
        usage = msgspec.structs.replace(usage, maybe=price - usage.charged)
    return msgspec.structs.replace(known, request_id=meta.request_id, usage=usage)


def _salvage_meta(body: bytes) -> Meta:
    """Return the meta of a body that is no valid JSON, as far as a laxer parser can find it."""
    try:
        # The standard library's parser takes NaN and the like, and ignores what follows the JSON.
        text = body.decode("utf-8-sig", "replace").lstrip()
        value, _ = json.JSONDecoder().raw_decode(text)
        return _read_meta(json.dumps(value["meta"]).encode())
    except (ValueError, KeyError, TypeError, RecursionError):
        return Meta()


def _cost(price: int, meta: Meta, size: int) -> Usage:
    if meta.credits_charged is None:
        return Usage(requests=1, maybe=price, bytes=size)
    return Usage(requests=1, charged=meta.credits_charged, bytes=size)


def _server_time(response: Response) -> datetime:
    """Return the time by the server's clock, to which a date in ``Retry-After`` refers."""
    try:
        date = parsedate_to_datetime(response.headers.get("Date", ""))
    except (ValueError, OverflowError):
        return datetime.now(UTC)
    return date.replace(tzinfo=date.tzinfo or UTC)


def redacted(error: SfkError, api_key: ApiKey | None) -> SfkError:
    """Return an error with the key struck out wherever the API, or a proxy, may have echoed it.

    Its cause loses its traceback.
    """
    cause = error.__cause__
    if cause is not None:
        _bare(cause)
    if api_key is None:
        return error
    known = error.details
    texts = {
        name: api_key.redact(text)
        for name in ("code", "request_id", "checkout_url", "location")
        if (text := getattr(known, name)) is not None
    }
    body = None if known.body is None else api_key.redact_bytes(known.body)
    clean = type(error)(
        api_key.redact(error.message), msgspec.structs.replace(known, body=body, **texts)
    )
    # aiohttp quotes what it cannot parse of an answer: a cause that quotes the key must not show.
    clean.__cause__ = None if _tells(cause, api_key) else cause
    return clean


def _tells(cause: BaseException | None, api_key: ApiKey) -> bool:
    """Tell whether the key is in an error's words; taken for granted if these cannot be had."""
    try:
        words = f"{cause!r}{cause}"
    except Exception:  # noqa: BLE001 - of a class of the caller's
        return True
    return api_key.redact(words) is not words
