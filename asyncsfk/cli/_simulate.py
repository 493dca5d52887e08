"""``asyncsfk simulate``: a local Social Fetch to try things on."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from asyncsfk.cli._exit import ExitCode, in_words, run, say, tell

if TYPE_CHECKING:
    from asyncsfk.simulator import Simulator

# Entries of the ledger to keep; its totals cover all requests.
_KEPT = 10_000


@click.command(short_help="Run a simulated Social Fetch until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, the default: any free.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, another world.")
@click.option("--credits", "credits_", type=click.IntRange(0), help="The balance to begin with.")
@click.option(
    "--latency",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SECONDS",
    help="The median time of an answer; some take far longer.",
)
@click.option(
    "--storm",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="P",
    help="The probability of each of some 30 faults, e.g. 0.01.",
)
@click.option(
    "--max-concurrent",
    type=click.IntRange(1),
    metavar="N",
    help="Answer more than N requests at once with a 503.",
)
def simulate(
    *,
    port: int,
    seed: int,
    credits_: int | None,
    latency: float,
    storm: float,
    max_concurrent: int | None,
) -> None:
    """Run a simulated Social Fetch on this machine until Ctrl-C.

    Prints what to paste into another shell to let every other command, or your program, talk to
    it. At its end it prints what was asked and charged, and exits with 0.
    """
    from asyncsfk.simulator import Fault, Latency, Simulator

    try:
        simulator = Simulator(
            seed,
            port=port,
            credits=credits_,
            latency=Latency.lognormal(latency, cap=max(30.0, latency)) if latency else None,
            faults=Fault.storm(storm) if storm else (),
            max_concurrent=max_concurrent,
            keep_entries=_KEPT,
        )
    except ValueError as error:
        # For example nan or infinity, which click lets pass.
        raise click.UsageError(str(error)) from error
    run(_serve(simulator))


async def _serve(simulator: Simulator) -> ExitCode:
    try:
        async with simulator:
            some = ", ".join(simulator.handles(3))
            say(_settings(simulator))
            tell(f"Creators are, for example, {some}. Ctrl-C ends this.")
            await asyncio.Event().wait()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.UsageError(f"cannot listen: {in_words(error)}") from error
    except asyncio.CancelledError:
        # Not a failure: Ctrl-C is how this ends.
        ledger = simulator.ledger
        tell(
            f"{ledger.requests:,} requests, {ledger.charged:,} credits charged, at most "
            f"{ledger.max_in_flight:,} at once"
        )
    return ExitCode.COMPLETE


def _settings(simulator: Simulator) -> str:
    """Return what sets the environment for other commands, once pasted into a shell."""
    url, key = simulator.url, simulator.api_key
    if sys.platform == "win32":
        return (
            f'$env:SOCIALFETCH_BASE_URL="{url}"; $env:SOCIALFETCH_API_KEY="{key}"\n'
            f'set "SOCIALFETCH_BASE_URL={url}" & set "SOCIALFETCH_API_KEY={key}"\n'
            "(The first line is for PowerShell, the second for cmd.exe.)"
        )
    return f"export SOCIALFETCH_BASE_URL={url} SOCIALFETCH_API_KEY={key}"
