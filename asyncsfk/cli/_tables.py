"""The demo's result, as tables."""

from __future__ import annotations

import errno
import os
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

from asyncsfk.cli._format import counted, listed

if TYPE_CHECKING:
    from asyncsfk import Progress
    from asyncsfk.cli._proof import Proof


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the command, whose exit code tells of a reader that went away."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def show(progress: Progress, pauses: int, proof: Proof) -> None:
    """Print on stdout what the run came to, what it met and how it compares with the truth."""
    console = _Console(highlight=False)
    for table in (_result(progress, pauses, proof), _books(progress, proof)):
        console.print()
        console.print(table)
    struck = Counter(entry.fault for entry in proof.simulator.ledger.entries if entry.fault)
    console.print(f"Faults met: {listed(dict(struck.most_common())) or '-'}.", style="dim")
    console.print()


def _result(progress: Progress, pauses: int, proof: Proof) -> Table:
    usage = progress.usage
    table = Table(
        box=box.SIMPLE_HEAD,
        title="What came of it",
        title_justify="left",
        title_style="bold",
        caption=(
            f"{counted(usage.pages, 'page')} with {counted(usage.products, 'product')} in "
            f"{progress.elapsed:.1f} s, {counted(usage.retries, 'retry', 'retries')}, "
            f"{counted(pauses, 'pause')}"
        ),
        caption_justify="left",
    )
    table.add_column("creators", justify="right")
    table.add_column("are")
    table.add_column("because of", overflow="fold")
    for status, style in (("complete", "green"), ("partial", "yellow"), ("failed", "red")):
        causes = {name: n for (of, name), n in proof.causes.most_common() if of == status}
        table.add_row(f"{proof.outcomes[status]:,}", f"[{style}]{status}[/]", listed(causes) or "-")
    return table


def _books(progress: Progress, proof: Proof) -> Table:
    usage, ledger, outcomes = progress.usage, proof.simulator.ledger, proof.outcomes
    table = Table(box=box.SIMPLE_HEAD, title="The proof", title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("the client counted", justify="right")
    table.add_column("the simulator knows", justify="right")
    table.add_row("requests", f"{usage.requests:,}", f"{ledger.requests:,}")
    table.add_row("credits charged", f"{usage.charged:,}", "")
    table.add_row("credits maybe charged", f"+ {usage.maybe:,}", "")
    table.add_row(
        "credits in all",
        f"{usage.charged:,} to {usage.charged + usage.maybe:,}",
        f"[bold]{ledger.charged:,}[/]",
    )
    for status, equal in (("complete", proof.equal), ("partial", proof.prefixes)):
        table.add_row(f"{status} creators", f"{outcomes[status]:,}", f"{equal:,} equal its truth")
    return table
