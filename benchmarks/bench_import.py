"""How long the import of asyncsfk takes beyond its dependencies, and its command line's help."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from harness import options_of, tell_machine, write

# The client is loaded when it is first touched.
IMPORTS: Final = """
from time import perf_counter
start = perf_counter()
import aiohttp, aiolimiter, anyio, msgspec
middle = perf_counter()
import asyncsfk
asyncsfk.Client
print(middle - start, perf_counter() - middle)
"""
NOTHING, THEIRS, OURS, HELP = "python -c pass", "dependencies", "asyncsfk beyond", "asyncsfk --help"
TARGETS: Final = {OURS: 25.0, HELP: 300.0}
"""Milliseconds."""


def time_imports() -> tuple[float, float]:
    """Return the milliseconds of the dependencies and of asyncsfk after them, in a new process."""
    theirs, ours = _run([sys.executable, "-c", IMPORTS]).split()
    return 1000 * float(theirs), 1000 * float(ours)


def time_command(command: list[str]) -> float:
    """Return the milliseconds that a command takes, its process included."""
    began = time.perf_counter()
    _run(command)
    return 1000 * (time.perf_counter() - began)


def help_command() -> list[str]:
    """Return what prints the command line's help: the installed script, if it is there."""
    for name in ("asyncsfk", "asyncsfk.exe"):
        script = Path(sys.executable).parent / name
        if script.exists():
            return [str(script), "--help"]
    call = "import sys; from asyncsfk.cli import main; sys.argv[1:] = ['--help']; main()"
    return [sys.executable, "-c", call]


def measure(times: int) -> dict[str, list[float]]:
    """Return the milliseconds of each, measured in turn."""
    found: dict[str, list[float]] = {NOTHING: [], THEIRS: [], OURS: [], HELP: []}
    command = help_command()
    # Compiles what is not compiled yet.
    time_imports()
    time_command(command)
    for _ in range(times):
        found[NOTHING].append(time_command([sys.executable, "-c", "pass"]))
        theirs, ours = time_imports()
        found[THEIRS].append(theirs)
        found[OURS].append(ours)
        found[HELP].append(time_command(command))
    return found


def _run(command: list[str]) -> str:
    # With compiled files, as where it is installed, even if the environment forbids writing them.
    environment = os.environ.copy()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(  # noqa: S603 - our own
        command,
        check=True,
        capture_output=True,
        text=True,
        # Not in this folder, where `import server` and the like would find ours.
        cwd=Path(sys.executable).parent,
        env=environment,
    )
    if not done.stdout and command[-1] != "pass":
        raise RuntimeError(f"{command} said nothing")
    return done.stdout


def main() -> None:
    """Measure all of them."""
    parser = options_of(__doc__, quick="some 5 s")
    options = parser.parse_args()
    times = 3 if options.quick else 15
    about = tell_machine()
    print(
        f"\nMilliseconds of wall time, {times} times each in new processes.\n\n"
        "| what | median | least | target |\n|---|---|---|---|"
    )
    rows = []
    for name, found in measure(times).items():
        middle, least, target = statistics.median(found), min(found), TARGETS.get(name)
        wanted = "" if target is None else f"<= {target:.0f}"
        print(f"| {name} | {middle:.1f} | {least:.1f} | {wanted} |", flush=True)
        rows.append({"what": name, "median_ms": middle, "least_ms": least, "target_ms": target})
    write(options.json, "import", {"times": times, **about}, rows)


if __name__ == "__main__":
    main()
