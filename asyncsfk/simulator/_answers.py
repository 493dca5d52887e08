"""Answers as bytes: envelopes, errors, and bodies that a fault has spoilt."""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, assert_never, cast

from asyncsfk.simulator import _actions as actions
from asyncsfk.simulator._products import Json
from asyncsfk.simulator._retry_after import retry_after_headers

_JSON: Final = "application/json; charset=utf-8"
_PLACEHOLDER: Final = "\ue000"
_QUOTED: Final = f'"{_PLACEHOLDER}"'.encode()
_BLOCK: Final = 2**16
_MEBIBYTE: Final = b"0" * 2**20
_HTML_OK: Final = b"<!doctype html><html><body><h1>It works!</h1></body></html>"

_BEFORE_PADDING: Final = b'{"padding":"'

#: At which byte of a body its padding goes in.
PADDED_AT: Final = len(_BEFORE_PADDING)

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Answer:
    """A status, headers and a body, ready to be sent.

    `padding` bytes are to be sent after the first `PADDED_AT` of the body.
    """

    status: int
    body: bytes
    code: str | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": _JSON})
    padding: int = 0


def dump(document: Json) -> bytes:
    """Write a JSON document as the API does: compact, in UTF-8."""
    return _encode(document).encode()


def error(
    status: int, code: str, message: str, request_id: str, checkout_url: str | None = None
) -> Answer:
    """Make an answer with the error envelope."""
    body = {"code": code, "message": message, "requestId": request_id}
    if checkout_url is not None:
        body["checkoutUrl"] = checkout_url
    return Answer(status, dump({"error": body}), code)


def faulty_status(action: actions.Status, request_id: str) -> Answer:
    """Make the error answer that a fault asks for."""
    match action.body:
        case "envelope":
            answer = error(
                action.status,
                action.code,
                f"Simulated {action.status}.",
                request_id,
                action.checkout_url,
            )
        case "html":
            page = f"<html><head><title>{action.status}</title></head><body>proxy</body></html>"
            answer = Answer(action.status, page.encode(), headers={"Content-Type": "text/html"})
        case "problem":
            problem = {"type": "about:blank", "title": "proxy", "status": action.status}
            kind = {"Content-Type": "application/problem+json"}
            answer = Answer(action.status, dump(problem), headers=kind)
        case "empty":
            answer = Answer(action.status, b"", headers={})
        case _:  # pragma: no cover - a type checker's matter
            assert_never(action.body)
    if action.retry_after is not None:
        answer.headers |= retry_after_headers(action.retry_after)
    return answer


def redirect(action: actions.Redirect) -> Answer:
    """Make a redirect."""
    return Answer(action.status, b"", headers={"Location": action.location})


def compose(action: actions.Action | None, document: Json, price: int) -> Answer:
    """Make a 200 from a document, with the body and headers that the action asks for."""
    if isinstance(action, actions.Distortion):
        return _distort(action, document)
    match action:
        case actions.Bomb(size):
            answer = Answer(200, _bomb(size, price))
            answer.headers["Content-Encoding"] = "gzip"
        case actions.Oversized(size):
            answer = _padded(size, document)
        case actions.SetCookie():
            answer = Answer(200, dump(document))
            answer.headers["Set-Cookie"] = "sfk_session=simulated; Path=/; HttpOnly"
        case _:
            answer = Answer(200, dump(document))
    return answer


def _distort(action: actions.Distortion, document: Json) -> Answer:
    """Make a 200 with a spoilt document; what the fault does not touch stays valid."""
    match action:
        case actions.NotJson():
            return Answer(200, _HTML_OK, headers={"Content-Type": "text/html; charset=utf-8"})
        case actions.MissingMeta():
            document.pop("meta", None)
        case actions.UnknownFields():
            _add_unknown_fields(document)
        case actions.WrongType(where):
            _mistype(document, where)
        case actions.InvalidUtf8():
            return _with_raw(*_a_text(document), b'"caf\xe9 \xff\xfe \xed\xa0\x80"', document)
        case actions.DeepNesting(depth):
            nested = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
            return _with_raw(_content(document), "details", nested, document)
        case actions.BadNumber(token):
            rating = f'{{"score":{token},"reviewCount":1}}'.encode()
            return _with_raw(_content(document), "rating", rating, document)
    return Answer(200, dump(document))


def compress(answer: Answer) -> None:
    """Compress the body of an answer, fast, unless it already is compressed."""
    if "Content-Encoding" not in answer.headers:
        answer.headers["Content-Encoding"] = "gzip"
        answer.body = zlib.compress(answer.body, 1, wbits=31)


def blocks(count: int) -> Iterator[bytes]:
    """Yield `count` bytes of padding, in blocks."""
    block = b"0" * _BLOCK
    for _ in range(count // _BLOCK):
        yield block
    yield block[: count % _BLOCK]


def _padded(size: int, document: Json) -> Answer:
    body = _BEFORE_PADDING + b'",' + dump(document)[1:]
    return Answer(200, body, padding=max(0, size - len(body)))


@lru_cache(maxsize=4)
def _bomb(size: int, price: int) -> bytes:
    """Make a gzip of `size` bytes of valid JSON, without ever holding those in memory."""
    document: Json = {
        "data": {"products": [], "page": {"nextCursor": None, "hasMore": False}},
        "meta": {"requestId": "req_bomb", "creditsCharged": price, "version": "v1"},
    }
    answer = _padded(size, document)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)

    def packed(part: bytes) -> bytes:
        # After a full flush nothing refers back to earlier bytes, so a packed part can be repeated.
        return deflate.compress(part) + deflate.flush(zlib.Z_FULL_FLUSH)

    count, rest = divmod(answer.padding, len(_MEBIBYTE))
    before, after = answer.body[:PADDED_AT], _MEBIBYTE[:rest] + answer.body[PADDED_AT:]
    check = zlib.crc32(before)
    for _ in range(count):
        check = zlib.crc32(_MEBIBYTE, check)
    check = zlib.crc32(after, check)
    length = len(answer.body) + answer.padding
    return b"".join(
        (
            # RFC 1952, section 2.3: no name, no time, best compression, unknown system.
            b"\x1f\x8b\x08\0\0\0\0\0\x02\xff",
            packed(before),
            packed(_MEBIBYTE) * count,
            packed(after),
            deflate.flush(),
            struct.pack("<II", check, length & 0xFFFFFFFF),
        )
    )


def _data(document: Json) -> Json:
    """Return the object with the content: `data`, or a document that has no envelope itself."""
    data: Json = document.get("data", document)
    return data


def _content(document: Json) -> Json:
    """Return the first product, or `data` if there is none."""
    data = _data(document)
    products: list[Json] = data.get("products") or [data]
    return products[0]


def _a_text(document: Json) -> tuple[Json, str]:
    """Name a field that clients read a text from: a product's title, or the answer's first text."""
    content = _content(document)
    if "products" in content:
        # There is none, and nothing else that is a text.
        return content["page"], "nextCursor"
    if "title" not in content:
        user: Json = content.get("user", {})
        for place in (content, user):
            for name, value in place.items():
                if isinstance(value, str):
                    return place, name
    return content, "title"


def _with_raw(place: Json, name: str, raw: bytes, document: Json) -> Answer:
    """Put raw bytes in one field of a document."""
    place[name] = _PLACEHOLDER
    return Answer(200, dump(document).replace(_QUOTED, raw))


def _mistype(document: Json, where: actions.WrongPlace) -> None:
    data = _data(document)
    if where == "product" and data.get("products"):
        data["products"][0]["sales"] = {"soldCount": "a lot"}
    elif where == "page" and "page" in data:
        data["page"]["hasMore"] = "yes"
    elif where == "meta" and "meta" in document:
        document["meta"]["creditsCharged"] = "one"
    elif "data" in document:
        document["data"] = [data]
    else:
        document["status"] = 1


def _add_unknown_fields(place: Json) -> None:
    for name, value in [*place.items()]:
        for each in cast("Iterable[object]", value) if isinstance(value, list) else (value,):
            # Not in details: what is there is TikTok's, and of any form.
            if isinstance(each, dict) and name != "details":
                _add_unknown_fields(cast("Json", each))
    place["xSince2027"] = {"unheard": ["of", None, 1.5], "🙂": True}
