"""How a fetch ends: what is told of it, how to go on, and its exit code."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import click

from asyncsfk.cli._age import moment
from asyncsfk.cli._exit import ExitCode, exit_code, printable, say_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncsfk import ShowcaseRun
    from asyncsfk.cli._harvest import Harvest
    from asyncsfk.cli._job import FetchOptions

_ARGUMENTS: Final = "asyncsfk.cli.arguments"


class Repeatable(click.Command):
    """A command that knows its own command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments before they are parsed."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def tell_end(run: ShowcaseRun, harvest: Harvest, options: FetchOptions, began: float) -> ExitCode:
    """Tell what stopped a run that was not interrupted, and how to go on; return the exit code.

    Args:
        run: What ended.
        harvest: What came of it.
        options: What it was told.
        began: When that was, in seconds since 1970.
    """
    stopped, progress = run.stopped, run.progress
    if stopped is not None:
        say_error(stopped)
        code = exit_code(stopped)
    else:
        code = ExitCode.COMPLETE if progress.complete == progress.done else ExitCode.INCOMPLETE
    archive = options.archive_path
    line: str | None = None
    if archive is not None and (since := _since(options, began)) is not None:
        # The same line would buy afresh what this one has just bought.
        line = printable(_line(since))
    if code == ExitCode.BUDGET:
        kept = "without an archive, it would begin anew" if archive is None else _kept(archive)
        click.echo(f"Run {line or 'it again'} with a higher --max-credits: {kept}.", err=True)
    elif stopped is None and harvest.invalid == progress.done - progress.complete > 0:
        if not options.quiet:
            what = "is no handle" if harvest.invalid == 1 else "are no handles"
            click.echo(f"All is there but for {harvest.invalid:,} that {what}.", err=True)
    elif code != ExitCode.COMPLETE and archive is not None and not options.quiet:
        click.echo(f"{line or 'The same line'} goes on from here: {_kept(archive)}.", err=True)
    if harvest.stale and not options.quiet:
        click.echo("--restart-stale starts those showcases over whose cursor is stale.", err=True)
    return code


def tell_interruption(run: ShowcaseRun, options: FetchOptions, began: float) -> ExitCode:
    """Tell that the fetch was interrupted, and the line that resumes it; return the exit code.

    Args:
        run: What was interrupted.
        options: What it was told.
        began: When that was, in seconds since 1970.
    """
    from asyncsfk import RunStoppedError  # noqa: PLC0415 - loads more than --help needs

    if run.stopped is not None and not isinstance(run.stopped, RunStoppedError):
        say_error(run.stopped)
    click.echo("Interrupted.", err=True)
    if options.archive_path is None:
        click.echo(
            "There is no archive to go on from: -o FILE keeps one beside the output, "
            "--archive FILE anywhere.",
            err=True,
        )
    else:
        click.echo(f"Go on with: {printable(_line(_since(options, began)))}", err=True)
    return ExitCode.INTERRUPTED


def _since(options: FetchOptions, began: float) -> float | None:
    """Return since when a kept showcase is fresh enough for whoever goes on, if that matters.

    What this run took for fresh is, however much later: hence a point in time.
    """
    return began if options.refresh else options.max_age


def _kept(archive: str) -> str:
    return f"{printable(archive)} keeps what was bought"


def _line(since: float | None) -> str:
    """Return our own command line, with the time since when a kept showcase will do."""
    arguments: Sequence[str] = click.get_current_context().meta[_ARGUMENTS]
    if since is not None:
        arguments = ["--max-age", moment(since), *_without_age(arguments)]
    return shlex.join(["asyncsfk", "fetch", *arguments])


def _without_age(arguments: Sequence[str]) -> list[str]:
    left: list[str] = []
    rest: Any = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*left, argument, *rest]
        if argument == "--max-age":
            next(rest, None)
        elif argument != "--refresh" and not argument.startswith("--max-age="):
            left.append(argument)
    return left
