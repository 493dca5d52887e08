"""``asyncsfk demo``: fetch from a simulator that misbehaves, and prove that the result is right."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import click

from asyncsfk.cli._exit import ExitCode, run, say

if TYPE_CHECKING:
    from asyncsfk import Usage
    from asyncsfk.cli._proof import Proof
    from asyncsfk.simulator import Fault

# A few seconds of work for 300 creators, with some 80 faults on the way.
_CONCURRENCY: Final = 40
_LATENCY: Final = 0.2
_SLOWEST: Final = 1.0
_TIMEOUT: Final = 2.0
_CHANCE: Final = 0.004
# The largest body that the client reads, and what the simulator's large ones unpack to.
_LARGEST_BODY: Final = 1 << 20
_LARGE_BODY: Final = 1 << 21


@click.command(short_help="Watch the client at work; needs no key.")
@click.option(
    "--creators", type=click.IntRange(1), default=300, show_default=True, help="How many to fetch."
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Another seed, another world and faults."
)
@click.option("-q", "--quiet", is_flag=True, help="Only the verdict.")
def demo(creators: int, seed: int, *, quiet: bool) -> None:
    """Watch the client at work: no key needed, nothing leaves this machine.

    Starts a simulated Social Fetch on a local port, which answers a good part of the requests
    with overload, lost connections, broken bodies and the like. Fetches the showcases of many
    creators from it, then holds products and credits against what the simulator knows.

    Exits with 0 if they agree.
    """
    run(_demo(creators, seed, quiet=quiet))


def _faults() -> tuple[Fault, ...]:
    """Return what goes wrong in the demo: every kind of fault that a run survives."""
    from asyncsfk.simulator import Fault

    return (
        # Each of these pauses the client, so there are just enough of them to be seen.
        Fault.status(503, retry_after="1", probability=5 * _CHANCE, times=2),
        Fault.status(500, probability=_CHANCE),
        Fault.status(502, charge=1, probability=_CHANCE),
        *(fault for fault in Fault.storm(_CHANCE, size=_LARGE_BODY) if fault.name != "status"),
    )


async def _demo(creators: int, seed: int, *, quiet: bool) -> ExitCode:
    from asyncsfk import Client, Timeout
    from asyncsfk.cli._progress import EventSummary, is_shown, live_progress
    from asyncsfk.cli._proof import Proof
    from asyncsfk.cli._tables import show
    from asyncsfk.simulator import Latency, Simulator

    summary = EventSummary()
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(
            Simulator(
                seed,
                faults=_faults(),
                latency=Latency.lognormal(_LATENCY, cap=_SLOWEST),
            )
        )
        if not quiet:
            say(
                f"A simulated Social Fetch at {simulator.url} loses, delays and garbles answers.\n"
                f"Fetching the showcases of {creators:,} creators from it."
            )
        client = await stack.enter_async_context(
            Client(
                simulator.api_key,
                base_url=simulator.url,
                concurrency=_CONCURRENCY,
                timeout=Timeout(total=_TIMEOUT),
                max_body_bytes=_LARGEST_BODY,
                on_event=summary,
            )
        )
        showcases = await stack.enter_async_context(client.showcases(simulator.handles(creators)))
        if is_shown(quiet=quiet, to_terminal=False):
            await stack.enter_async_context(live_progress(showcases, summary, total=creators))
        proof = Proof(simulator)
        async for outcome in showcases:
            proof.check(outcome)
        progress = showcases.progress
    if not quiet:
        show(progress, summary.pauses, proof)
    return tell_verdict(progress.usage, proof, creators)


def tell_verdict(usage: Usage, proof: Proof, creators: int) -> ExitCode:
    """Say whether the proof holds, or why it does not; return the demo's exit code."""
    ledger = proof.simulator.ledger
    if failures := proof.failures(usage, creators):
        say("\n".join(failures))
        click.secho("The proof fails.", fg="red", bold=True)
        return ExitCode.INCOMPLETE
    say(
        f"The simulator charged {ledger.charged:,} credits, between the {usage.charged:,} and "
        f"{usage.charged + usage.maybe:,} that the client counted.\n"
        f"All {proof.equal:,} complete creators equal its truth, product by product."
    )
    click.secho("The proof holds.", fg="green", bold=True)
    return ExitCode.COMPLETE
