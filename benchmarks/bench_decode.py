"""What a page costs to decode, and how much memory its products take while they are kept.

Hot: each page is decoded and dropped. Kept: pages are decoded until 30,000 products are alive, with
the garbage collector enabled, which goes through them on the way. Bytes are those that
`tracemalloc` counts; each page is decoded from a body of its own, which is then let go.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING, Any, Final

import msgspec
from harness import options_of, tell_machine, write
from server import PAGES, PRODUCTS_A_PAGE, body_of
from yardstick import _Answer

from asyncsfk import _routes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Decode = Callable[[bytes], Sequence[Any]]
    """Returns the products in a body, and lets go of all else."""

ALIVE: Final = 30_000
TARGETS: Final = dict(zip(PAGES, (1600, 3300), strict=True))
"""Bytes a product of asyncsfk's, without and with `details`."""
ASYNCSFK: Final = "asyncsfk"


def contenders() -> dict[str, Decode]:
    """Return the decoders by their names."""
    ours = _routes.showcase("anybody", cursor=None, region=None).decoder
    theirs = msgspec.json.Decoder(_Answer)
    return {
        ASYNCSFK: lambda body: ours.decode(body).data.products,
        "yardstick": lambda body: theirs.decode(body).data.products,
        "json.loads": lambda body: json.loads(body)["data"]["products"],
    }


def measure_hot(decode: Decode, body: bytes, times: int) -> float:
    """Return the microseconds a page when nothing is kept."""
    gc.collect()
    began = time.process_time()
    for _ in range(times):
        decode(body)
    return 1e6 * (time.process_time() - began) / times


def measure_kept(decode: Decode, body: bytes, times: int) -> float:
    """Return the microseconds a page when all pages are kept."""
    gc.collect()
    kept = []
    began = time.process_time()
    for _ in range(times):
        kept.append(decode(body))  # noqa: PERF401 - no comprehension, which is another loop
    return 1e6 * (time.process_time() - began) / times


def measure_bytes(decode: Decode, body: bytes, times: int) -> float:
    """Return how many bytes each product that is kept takes."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [decode(bytes(bytearray(body))) for _ in range(times)]
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / sum(len(products) for products in kept)


def compare(page: str, *, rounds: int, times: int) -> list[dict[str, Any]]:
    """Measure all contenders in turn; print a line of the table for each, and return those."""
    body, decoders = body_of(page), contenders()
    for name, decode in decoders.items():
        if (received := len(decode(body))) != PRODUCTS_A_PAGE:
            raise RuntimeError(f"{name} is wrong: {received} products, not {PRODUCTS_A_PAGE}")
    hot: dict[str, list[float]] = {name: [] for name in decoders}
    kept: dict[str, list[float]] = {name: [] for name in decoders}
    order = list(decoders)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            hot[name].append(measure_hot(decoders[name], body, times))
            kept[name].append(measure_kept(decoders[name], body, ALIVE // PRODUCTS_A_PAGE))
    rows = []
    for name, decode in decoders.items():
        row = {
            "page": page,
            "body_bytes": len(body),
            "decoder": name,
            "hot_us": statistics.median(hot[name]),
            "kept_us": statistics.median(kept[name]),
            "bytes_a_product": measure_bytes(decode, body, times),
            "target_bytes": TARGETS[page] if name == ASYNCSFK else None,
        }
        target = f"<= {TARGETS[page]}" if name == ASYNCSFK else ""
        print(
            f"| {page} | {name} | {row['hot_us']:.0f} | {row['kept_us']:.0f} "
            f"| {row['bytes_a_product']:.0f} | {target} |",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    """Measure a page of each weight."""
    parser = options_of(__doc__, quick="some 5 s")
    options = parser.parse_args()
    rounds, times = (1, 100) if options.quick else (9, 1000)
    about = tell_machine()
    print(
        f"\nPages of {PRODUCTS_A_PAGE} products; microseconds of CPU a page, medians; those of "
        f"{PAGES[1]} have `details`.\n\n"
        f"| page | decoder | us, hot | us, {ALIVE} products kept | bytes a product | target |\n"
        "|---|---|---|---|---|---|",
        flush=True,
    )
    rows = [row for page in PAGES for row in compare(page, rounds=rounds, times=times)]
    write(options.json, "decode", about, rows)


if __name__ == "__main__":
    main()
