"""The server that every benchmark asks: fast enough that no Python client can saturate it.

A bare ``asyncio.Protocol`` in a process of its own, on uvloop where that is installed. Its answers
are rendered before it starts; of each only the cursor is filled in. It knows one route, TikTok
showcases, as far as a correct client needs it; for tests there is `asyncsfk.simulator`.

Run alone it prints its URL and serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import re
import ssl
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

PRODUCTS_A_PAGE: Final = 20
LONGEST: Final = 4
"""Creators have from one to this many pages, in turn: see `pages_of`."""
PAGES: Final = ("14 KB", "45 KB")
"""What a page can weigh; the heavy ones have `details`."""
GZIPPED: Final = tuple(f"{page}, gzip" for page in PAGES)
"""The same, packed."""

_REQUEST: Final = re.compile(
    rb"GET /v1/tiktok/profiles/creator(\d{8})/showcase-products"
    rb"(?:\?cursor=([^\s&]+))? HTTP/1\.1\r\n"
)
_END: Final = b"\r\n\r\n"
# Of a fixed length, so that Content-Length is, too; with characters that must be percent-encoded.
_CURSOR: Final = b"%b/%d+=="
_CURSOR_FORM: Final = re.compile(rb"(\d{8})/(\d)\+==")
_CURSOR_PLACE: Final = b"<the next cursor>"
_REFUSED: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def handle_of(number: int) -> str:
    """Return the handle of a creator."""
    return f"creator{number:08d}"


def pages_of(number: int) -> int:
    """Return how many pages a creator's showcase has."""
    return 1 + number % LONGEST


def body_of(page: str) -> bytes:
    """Return the body of a showcase's first page, as it is sent; another one follows it."""
    return _Answers(page).find(b"%08d" % (LONGEST - 1), None).partition(_END)[2]


def creators_with(least: int) -> tuple[list[str], int]:
    """Return the first creators with ``least`` pages between them, and how many they have."""
    handles: list[str] = []
    pages = 0
    while pages < least:
        pages += pages_of(len(handles))
        handles.append(handle_of(len(handles)))
    return handles, pages


@contextlib.contextmanager
def serving(
    page: str, *, latency: float = 0.0, errors: float = 0.0, certificate: Path | None = None
) -> Iterator[str]:
    """Run a server with pages of `PAGES` or `GZIPPED`; yield its URL.

    Args:
        page: What a page weighs.
        latency: Seconds that each answer takes.
        errors: The share of requests that are refused with a 502, which costs nothing.
        certificate: A PEM file with key and certificate for ``localhost``; with it TLS is spoken.
    """
    command = [sys.executable, __file__, "--page", page]
    command += ["--latency", str(latency), "--errors", str(errors)]
    if certificate is not None:
        command += ["--certificate", str(certificate)]
    with subprocess.Popen(  # noqa: S603 - this file
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C must reach us alone; the server ends when its input does, however we end.
        start_new_session=True,
    ) as process:
        # Leaving closes the pipes and waits for the end.
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            raise RuntimeError("the server did not start")
        yield url


# 64 of them, so that pages pack about as well as real ones.
_WORDS: Final = [
    "tumbler",
    "straw",
    "leakproof",
    "bottle",
    "lipstick",
    "matte",
    "velvet",
    "serum",
    "vitamin",
    "lotion",
    "hydrating",
    "repair",
    "brush",
    "holder",
    "magnetic",
    "wireless",
    "charger",
    "cable",
    "braided",
    "fast",
    "phone",
    "case",
    "clear",
    "shockproof",
    "ring",
    "light",
    "tripod",
    "portable",
    "foldable",
    "chair",
    "camping",
    "lamp",
    "solar",
    "garden",
    "hose",
    "nozzle",
    "kitchen",
    "knife",
    "bamboo",
    "board",
    "towel",
    "cotton",
    "soft",
    "blanket",
    "fleece",
    "hoodie",
    "oversized",
    "jeans",
    "stretch",
    "sneakers",
    "running",
    "socks",
    "compression",
    "mask",
    "charcoal",
    "peel",
    "toothpaste",
    "whitening",
    "strips",
    "candle",
    "scented",
    "jar",
    "organizer",
    "drawer",
]


class _Answers:
    """All that the server says, rendered; packed pages only when first asked for."""

    def __init__(self, page: str) -> None:
        details = page.startswith(PAGES[1])
        self._packs = page in GZIPPED
        self._packed: dict[tuple[bytes, int], bytes] = {}
        self._last = [self._render(index, details, more=False) for index in range(LONGEST)]
        self._more = [
            self._render(index, details, more=True).split(_CURSOR_PLACE) for index in range(LONGEST)
        ]

    def find(self, creator: bytes, cursor: bytes | None) -> bytes:
        """Return the answer to a request, head and all."""
        index = 0
        if cursor is not None:
            form = _CURSOR_FORM.fullmatch(unquote_to_bytes(cursor))
            if form is None or form[1] != creator:
                return _REFUSED
            index = int(form[2])
        left = pages_of(int(creator)) - 1 - index
        if left < 0:
            return _REFUSED
        if not self._packs:
            return self._answer(creator, index, more=left > 0)
        packed = self._packed.get((creator, index))
        if packed is None:
            body = self._answer(creator, index, more=left > 0).partition(_END)[2]
            body = gzip.compress(body, 6)
            packed = self._packed[creator, index] = _head(len(body), packed=True) + body
        return packed

    def _answer(self, creator: bytes, index: int, *, more: bool) -> bytes:
        if not more:
            return self._last[index]
        return (_CURSOR % (creator, index + 1)).join(self._more[index])

    def _render(self, index: int, details: bool, *, more: bool) -> bytes:
        first = index * PRODUCTS_A_PAGE
        products = [_product(number, details) for number in range(first, first + PRODUCTS_A_PAGE)]
        cursor = _CURSOR_PLACE.decode() if more else None
        answer = {
            "data": {"products": products, "page": {"nextCursor": cursor, "hasMore": more}},
            "meta": {
                "requestId": "req_01k5m8x2v7c4h9t6b3n0q1w8ez",
                "creditsCharged": 1,
                "version": "v1",
            },
        }
        body = json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()
        length = len(body)
        if more:
            length += len(_CURSOR % (b"00000000", 0)) - len(_CURSOR_PLACE)
        return _head(length) + body


def _head(length: int, *, status: str = "200 OK", packed: bool = False) -> bytes:
    encoding = "Content-Encoding: gzip\r\n" if packed else ""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"{encoding}Content-Length: {length}\r\nDate: Tue, 01 Sep 2026 12:00:00 GMT\r\n\r\n"
    ).encode()


def _failure() -> bytes:
    error = {"code": "lookup_failed", "message": "Try again.", "requestId": "req_01k5m8x2v7"}
    body = json.dumps({"error": error}).encode()
    return _head(len(body), status="502 Bad Gateway") + body


def _product(number: int, details: bool) -> dict[str, Any]:
    key = f"17294{_any(number, 'id') % 10**14:014d}"
    words = _words(number, 8)
    picture = (
        "https://p16-oec-va.example.com/tos-maliva-i-o3syd03w52-us/"
        f"{_any(number, 'picture'):032x}~tplv-o3syd"
    )
    price = _any(number, "price") % 9000 + 999
    product: dict[str, Any] = {
        "id": key,
        "title": f"Café {' '.join(words)} ☕ {number}",
        "url": f"https://www.tiktok.com/shop/pdp/{'-'.join(words[:4])}/{key}",
        "image": {
            "url": f"{picture}-resize:800:800.jpeg",
            "urls": [f"{picture}-resize:300:300.jpeg"],
            "width": 800,
            "height": 800,
        },
        "price": {
            "currencyCode": "USD",
            "currencySymbol": "$",
            "salePrice": f"{price / 100:.2f}",
            "originalPrice": None if number % 5 == 0 else f"{price / 52:.2f}",
            "discountPercent": None if number % 5 == 0 else "48%",
        },
        "rating": {"score": price % 20 / 10 + 3, "reviewCount": _any(number, "rating") % 10_000},
        "sales": {"soldCount": _any(number, "sales") % 100_000},
        "seller": {"id": f"7495{_any(number // 3, 'seller') % 10**15:015d}"},
    }
    if details:
        product["details"] = {
            "product_status": 1,
            "need_request_shop_card": False,
            "skus": [
                {
                    "sku_id": f"17295{_any(number * 8 + variant, 'sku') % 10**14:014d}",
                    "stock": _any(number * 8 + variant, "stock") % 1000,
                    "price": {"amount": f"{(price + variant) / 100:.2f}", "currency": "USD"},
                    "properties": [
                        {"name": "Colour", "value": _words(number * 8 + variant, 1)[0]},
                        {"name": "Size", "value": "1.2 l"},
                    ],
                }
                for variant in range(1, 9)
            ],
            "labels": ["free_shipping", "top_choice"],
            "commission": {"rate": 0.15, "plan": None},
        }
    return product


def _any(number: int, of: str) -> int:
    """Return a large number without a pattern, the same each time."""
    return int.from_bytes(blake2b(f"{of} {number}".encode(), digest_size=16).digest(), "big")


def _words(number: int, count: int) -> list[str]:
    seed = _any(number, "words")
    return [_WORDS[seed >> 6 * place & 63] for place in range(count)]


class _Failures:
    """Says which requests fail: evenly spread, so that in any short time the share is the same."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._due = 0.0
        self.answer: Final = _failure()

    def is_next(self) -> bool:
        """Count a request; tell whether it fails."""
        self._due += self._share
        if self._due < 1:
            return False
        self._due -= 1
        return True


class _Connection(asyncio.Protocol):
    """Answers one request after the other; ours have no bodies."""

    def __init__(self, answers: _Answers, latency: float, failures: _Failures | None) -> None:
        self._answers = answers
        self._latency = latency
        self._failures = failures
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if self._unread:
            data = self._unread + data
        while (end := data.find(_END)) >= 0:
            request = _REQUEST.match(data)
            answer = self._answers.find(request[1], request[2]) if request else _REFUSED
            if self._failures is not None and self._failures.is_next():
                answer = self._failures.answer
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._transport.write, answer)
            else:
                self._transport.write(answer)
            if answer is _REFUSED:
                self._transport.close()
                return
            data = data[end + len(_END) :]
        self._unread = data


async def _serve(page: str, latency: float, errors: float, certificate: Path | None) -> None:
    answers, failures = _Answers(page), _Failures(errors) if errors else None
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(answers, latency, failures), "127.0.0.1", 0, backlog=2048, ssl=context
    )
    host, port = server.sockets[0].getsockname()
    print(f"https://localhost:{port}" if context else f"http://{host}:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--page", choices=PAGES + GZIPPED, default=PAGES[0], help="what a page weighs"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for each answer")
    parser.add_argument("--errors", type=float, default=0.0, help="the share of 502s")
    parser.add_argument(
        "--certificate", type=Path, help="speak TLS, with the key and certificate in this PEM file"
    )
    options = parser.parse_args()
    run(_serve(options.page, options.latency, options.errors, options.certificate))
