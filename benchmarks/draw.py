"""Draws the pictures from the results: ``python benchmarks/draw.py``, which needs matplotlib."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE / "results"
PICTURES: Final = HERE / "pictures"
OURS, OTHERS, LINE = "#1b7f5c", "#9aa5b1", "#334155"


def load(name: str) -> dict[str, Any]:
    """Return what a benchmark wrote with ``--json``."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def about(result: dict[str, Any]) -> str:
    """Return where and when it was measured, in one line."""
    return f"{result['cpu']}, {result['cores']} cores, {result['python']}, {result['date']}"


def errors(rows: list[dict[str, Any]], what: str) -> list[list[float]]:
    """Return how far the quartiles are from the medians."""
    return [
        [row[what]["median"] - row[what]["low"] for row in rows],
        [row[what]["high"] - row[what]["median"] for row in rows],
    ]


def save(figure: Any, name: str, result: dict[str, Any]) -> None:  # noqa: ANN401 - matplotlib's
    """Write a picture."""
    figure.text(0.01, 0.01, about(result), fontsize=7, color=OTHERS)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(PICTURES / f"{name}.png", dpi=130)
    plt.close(figure)


def draw_overhead() -> None:
    """CPU a request beside the yardstick, at each width."""
    result = load("overhead")
    pages = list(dict.fromkeys(row["page"] for row in result["rows"]))
    figure, axes = plt.subplots(1, len(pages), figsize=(3 * len(pages), 3.4), sharey=True)
    for axis, page in zip(axes, pages, strict=True):
        rows = [row for row in result["rows"] if row["page"] == page]
        names = [str(row["width"]) for row in rows]
        medians = [row["cpu"]["median"] for row in rows]
        bars = axis.bar(names, medians, color=OURS, yerr=errors(rows, "cpu"), ecolor=LINE)
        axis.bar_label(bars, fmt="%.2f", label_type="center", color="white")
        axis.axhline(1, color=LINE, linewidth=1)
        axis.set_title(f"pages of {page}", fontsize=10)
        axis.set_xlabel("width")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("CPU a request / bare aiohttp")
    figure.suptitle("asyncsfk beside a hand-written aiohttp + msgspec worker pool (1.0)")
    save(figure, "overhead", result)


def draw_peers() -> None:
    """CPU a request of other clients, as multiples of ours."""
    result = load("peers")
    pages = list(dict.fromkeys(row["page"] for row in result["rows"]))
    figure, axes = plt.subplots(1, len(pages), figsize=(9, 3.8), sharey=True)
    for axis, page in zip(axes, pages, strict=True):
        rows = [
            row
            for row in result["rows"]
            if row["page"] == page and not row["client"].endswith("again")
        ]
        rows.reverse()
        medians = [row["cpu"]["median"] for row in rows]
        colours = [OURS if row["client"] == "asyncsfk" else OTHERS for row in rows]
        bars = axis.barh([row["client"] for row in rows], medians, color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axis.set_title(f"pages of {page}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    figure.suptitle(f"CPU a request, asyncsfk = 1; width {result['width']}")
    save(figure, "peers", result)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    draw_overhead()
    draw_peers()
