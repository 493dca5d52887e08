"""Live progress of a run on the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from asyncsfk._text import printable
from asyncsfk.cli._format import counted
from asyncsfk.cli._interrupt import NOTICE
from asyncsfk.errors import RunStoppedError
from asyncsfk.events import ASKED_FOR, Paused, PriceRaised, log_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from typing import TextIO

    from rich.console import RenderableType

    from asyncsfk import ShowcaseRun
    from asyncsfk.events import Event

_SECONDS_BETWEEN_FRAMES = 0.1
_BAR_WIDTH = 40
_LONG = 10.0  # seconds: a pause worth telling of even though the API asked for it


class EventSummary:
    """An ``on_event`` that keeps what a summary needs, and logs events as the default does.

    Attributes:
        pauses: How often the client paused.
        reason: Why it paused last.
        rise: The last rise of a price, in words.
        on_outage: Called once, with the reason, when nothing comes: no connection can be made, all
            that comes are failures that are or may be charged, or the API's refusals make a long
            pause.
    """

    def __init__(self) -> None:
        self.pauses = 0
        self.reason = ""
        self.rise = ""
        self.on_outage: Callable[[str], None] | None = None

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, PriceRaised):
            # Not logged: the command itself prints this warning, whatever the flags say.
            now = counted(event.charged, "credit")
            self.rise = f"Prices rose: {event.route} costs {now}, not {event.expected:,}"
            return
        if isinstance(event, Paused):
            self.pauses += 1
            self.reason = event.reason
            is_out = event.error not in ASKED_FOR or event.seconds >= _LONG
            if self.on_outage is not None and is_out:
                self.on_outage(event.reason)
                self.on_outage = None
        log_event(event)


@asynccontextmanager
async def live_progress(
    run: ShowcaseRun, summary: EventSummary, *, total: int | None
) -> AsyncGenerator[None]:
    """Show on stderr how far a run has come while the body runs; clear it at the end.

    Args:
        run: The run.
        summary: The ``on_event`` of its client.
        total: How many handles there are, if that is known.
    """
    from rich.console import Console
    from rich.live import Live

    def frame() -> RenderableType:
        return _frame(run, summary, total)

    # Drawn by us: a thread of rich's would ask the run from outside of its event loop.
    live = Live(
        frame(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )

    with suppress(OSError):
        live.start(refresh=True)

    async def draw() -> None:
        # Drawing ends, and nothing else, if the terminal goes away.
        with suppress(OSError):
            while True:
                await asyncio.sleep(_SECONDS_BETWEEN_FRAMES)
                live.update(frame(), refresh=True)

    drawing = asyncio.create_task(draw())
    try:
        yield
    finally:
        drawing.cancel()
        with suppress(asyncio.CancelledError):
            await drawing
        with suppress(OSError):
            live.stop()


def is_shown(*, quiet: bool, to_terminal: bool) -> bool:
    """Tell whether to show progress: on a terminal, unless the output itself goes there."""
    # `None` if the shell has closed it.
    stderr: TextIO | None = sys.stderr
    is_able = os.environ.get("TERM") not in {"dumb", "unknown"}
    return stderr is not None and stderr.isatty() and is_able and not quiet and not to_terminal


def _frame(run: ShowcaseRun, summary: EventSummary, total: int | None) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    progress = run.progress
    usage = progress.usage
    rate = usage.pages / progress.elapsed if progress.elapsed else 0.0
    # A handle that was given twice needs no work, and counts as done.
    dealt_with = progress.done + progress.duplicates
    done = f"{dealt_with:,} of {total:,}" if total is not None else f"{progress.done:,}"
    head = Table.grid(padding=(0, 1))
    head.add_row(
        ProgressBar(
            total=total,
            completed=dealt_with,
            width=_BAR_WIDTH,
            pulse=total is None,
            animation_time=progress.elapsed,
            complete_style="cyan",
            finished_style="green",
            pulse_style="cyan",
        ),
        Text.assemble((done, "bold"), f" creators, {progress.elapsed:.0f} s"),
    )
    maybe = f" (+{usage.maybe:,} maybe)" if usage.maybe else ""
    facts = [
        counted(usage.pages, "page"),
        counted(usage.products, "product"),
        f"{usage.charged:,}{maybe} credits",
        f"{rate:,.0f} pages/s",
    ]
    paused = f", now for {progress.paused_for:.1f} s" if progress.paused_for else ""
    trouble = [
        f"{progress.in_flight:,} in flight of {progress.width:,}",
        counted(usage.retries, "retry", "retries"),
        counted(summary.pauses, "pause") + paused,
    ]
    lines: list[RenderableType] = [
        head,
        Text(" · ".join(facts)),
        Text(" · ".join(trouble), style="dim"),
    ]
    if paused and summary.reason:
        lines.append(
            Text(printable(summary.reason), style="yellow", no_wrap=True, overflow="ellipsis")
        )
    if isinstance(run.stopped, RunStoppedError):
        lines.append(Text(NOTICE))
    return Group(*lines)
