"""Runs every benchmark for a moment, and tells if one fails or gives figures that cannot be.

The margins are wide: it holds that the benchmarks work, not how fast anything is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SANE: Final = (0.01, 200.0)
"""Between which every ratio lies, on any machine."""
OPTIONS: Final = {"bench_latency.py": [[], ["--errors", "0.02"]], "bench_overhead.py": [["--tls"]]}
"""How those are run that can do more than they do without options."""


def ratios(value: Any) -> list[float]:  # noqa: ANN401 - JSON
    """Return all medians of ratios within a result."""
    if isinstance(value, dict):
        found = [value["median"]] if {"low", "median", "high"} == value.keys() else []
        return found + [one for part in value.values() for one in ratios(part)]
    if isinstance(value, list):
        return [one for part in value for one in ratios(part)]
    return []


def check(script: Path, options: list[str], result: Path) -> None:
    """Run a benchmark and look at its result."""
    subprocess.run(  # noqa: S603 - our own script
        [sys.executable, script, "--quick", "--json", result, *options], check=True, timeout=120
    )
    told = json.loads(result.read_text())
    if not told["rows"]:
        raise SystemExit(f"{script.name}: no rows")
    for ratio in ratios(told["rows"]):
        if not SANE[0] < ratio < SANE[1]:
            raise SystemExit(f"{script.name}: a ratio of {ratio} cannot be")


def main() -> None:
    """Run them all."""
    with tempfile.TemporaryDirectory() as folder:
        for script in sorted(HERE.glob("bench_*.py")):
            for options in OPTIONS.get(script.name, [[]]):
                began = time.monotonic()
                print("\n---", script.name, *options, flush=True)
                check(script, options, Path(folder) / "result.json")
                print(f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
