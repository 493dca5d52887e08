"""Runs every benchmark for a moment, and fails if one fails or gives figures that cannot be.

The margins are wide: this checks that the benchmarks work, not how fast anything is.
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
SANE: Final = (0.05, 20.0)
"""The bounds of a ratio, on any machine."""
SANE_IN: Final = {
    "bench_bytecodes.py": (0.5, 2.5),
    "bench_limiter.py": (0.1, 1.2),
    "bench_peers.py": (0.01, 200.0),
}
"""Other bounds: counts and limits are alike on all machines, other clients are what they are."""
RATIOS: Final = ("achieved", "beside", "share", "worst_second")
"""The names of ratios that are not medians with quartiles."""
OPTIONS: Final = {"bench_latency.py": [[], ["--errors", "0.02"]], "bench_overhead.py": [["--tls"]]}
"""The runs of benchmarks that have options of their own, each with the options of that run."""


def ratios(value: Any, *, named: bool = False) -> list[float]:  # noqa: ANN401 - JSON
    """Return the ratios within a result, or all numbers within what is ``named`` as one."""
    if isinstance(value, dict):
        if {"low", "median", "high"} == value.keys():
            return [value["median"]]
        parts = value.items()
        return [one for name, part in parts for one in ratios(part, named=named or name in RATIOS)]
    if isinstance(value, list):
        return [one for part in value for one in ratios(part, named=named)]
    return [value] if named else []


def check(script: Path, options: list[str], result: Path) -> None:
    """Run a benchmark and look at its result."""
    # So long that only one which hangs is cut off, however busy the machine.
    subprocess.run(  # noqa: S603 - our own script
        [sys.executable, script, "--quick", "--json", result, *options], check=True, timeout=300
    )
    told = json.loads(result.read_text())
    if not told["rows"]:
        raise SystemExit(f"{script.name}: no rows")
    least, most = SANE_IN.get(script.name, SANE)
    for ratio in ratios(told["rows"]):
        if not least < ratio < most:
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
