"""How a fetch ends: what is told of it, how to go on, and its exit code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from asyncsfk._text import printable
from asyncsfk.cli._age import moment
from asyncsfk.cli._exit import ExitCode, exit_code, say_error, tell
from asyncsfk.cli._files import is_descriptor
from asyncsfk.cli._format import counted, program, quoted, quoted_file
from asyncsfk.errors import ArchiveError, RunStoppedError, is_account_wide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncsfk import ShowcaseRun
    from asyncsfk.cli._exit import BrokenFileError
    from asyncsfk.cli._fetch_options import FetchOptions
    from asyncsfk.cli._fetch_output import FetchOutput

_ARGUMENTS: Final = "asyncsfk.cli.arguments"
_NO_ARCHIVE: Final = (
    "There is no archive to go on from: -o FILE keeps one beside the output, --archive FILE "
    "anywhere."
)


class Repeatable(click.Command):
    """A command that knows its own command line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments before they are parsed."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def tell_end(run: ShowcaseRun, output: FetchOutput, options: FetchOptions) -> ExitCode:
    """Tell what stopped a run that was not interrupted, and how to go on; return the exit code.

    Args:
        run: What ended.
        output: What came of it.
        options: Those of the fetch that resumes it.
    """
    _tell_of_misplaced(output)
    stopped, progress = run.stopped, run.progress
    if stopped is not None:
        say_error(stopped)
        code = exit_code(stopped)
    else:
        is_all_there = progress.complete == progress.done and not output.misplaced
        code = ExitCode.COMPLETE if is_all_there else ExitCode.INCOMPLETE
    if code == ExitCode.BUDGET:
        _tell_of_ceiling(options)
    elif code != ExitCode.COMPLETE and not options.quiet:
        _tell_what_is_left(run, output, options)
    elif (missed := progress.done - progress.complete) and stopped is None and options.errors:
        # With --quiet nothing else would tell of them: cron, for one, mails only what is on stderr.
        missing = counted(missed, "creator")
        tell(f"Error: {missing} not complete: {printable(options.errors)} tells why.")
    if output.stale and not options.quiet:
        tell("--restart-stale starts those showcases over whose cursor is stale.")
    return code


def tell_breakage(error: BrokenFileError, options: FetchOptions) -> ExitCode:
    """Tell which file ended a fetch, and how to go on; return the exit code.

    Args:
        error: What became of the file.
        options: Those of the fetch that resumes this one.
    """
    tell(f"Error: {error.format_message()}")
    if not options.quiet:
        archive = options.archive_path
        mended = _once_mended(options.since)
        tell(_NO_ARCHIVE if archive is None else f"{mended}: {_kept(archive)}.")
    return ExitCode.INCOMPLETE


def _tell_of_misplaced(output: FetchOutput) -> None:
    """Tell which files do not have all that was written to them."""
    for name in output.misplaced:
        what = "moved, removed or cut short while it was written: not all lines are in it"
        tell(f"Error: {printable(name)} was {what}.")


def tell_of_answers(output: FetchOutput, options: FetchOptions) -> None:
    """Tell where those paid answers are of which nothing was written, however the fetch ended."""
    _tell_of_unkept(output, options)
    archive = options.archive_path
    if output.undecodable and archive is not None and not options.quiet and not _is_gone(archive):
        tell(
            f"{counted(output.undecodable, 'creator')} with answers that cannot be decoded: "
            f"they are kept, and not bought again. {program()} archive salvage "
            f"{quoted_file(archive)} tries once more, with --max-body-bytes what is too large; "
            "--refresh buys all creators that are named afresh."
        )


def _tell_of_unkept(output: FetchOutput, options: FetchOptions) -> None:
    """Tell where the paid answers are that the archive could not take."""
    what = "paid for and not in the archive"
    for name, answers in output.unkept.items():
        kept = f"each is the `body` of its line in {printable(name)}: keep that file."
        tell(f"{counted(answers, 'answer')} {what}: {kept}")
    if output.lost:
        kept = "--errors FILE" if options.errors is None else printable(options.errors)
        tell(
            f"{counted(output.lost, 'answer')} {what}: lost. {kept}, on another disk, would have "
            "kept them."
        )


def _tell_of_ceiling(options: FetchOptions) -> None:
    archive = options.archive_path
    kept = "without an archive, it would begin anew" if archive is None else _kept(archive)
    tell(f"Run {_other_line(options.since) or 'it again'} with a higher --max-credits: {kept}.")


def _tell_what_is_left(run: ShowcaseRun, output: FetchOutput, options: FetchOptions) -> None:
    missing = run.progress.done - run.progress.complete
    if run.stopped is None and missing == output.invalid and not output.misplaced:
        what = "is not a handle" if output.invalid == 1 else "are not handles"
        if missing == run.progress.done:
            tell(f"Nothing was fetched: {output.invalid:,} of {missing:,} {what}.")
        else:
            tell(f"All is there but for {output.invalid:,} that {what}.")
        return
    archive = options.archive_path
    if archive is not None and _tell_if_gone(archive):
        return
    has_more = missing > output.invalid + output.undecodable + output.misled + output.stale
    if has_more or output.misplaced:
        if archive is None:
            tell(_NO_ARCHIVE)
        else:
            tell(_how_to_go_on(run, archive, options.since))
    if output.misled:
        tell(
            f"{counted(output.misled, 'creator')} with pages that lead nowhere new: there is no "
            "more to buy."
        )


def _tell_if_gone(archive: str) -> bool:
    """Return whether the archive is gone from its place; if so, tell what to do about it."""
    if is_gone := _is_gone(archive):
        tell(
            f"Put {printable(archive)} back before you go on, or give its new place with "
            "--archive: without it the same line begins anew."
        )
    return is_gone


def _is_gone(archive: str) -> bool:
    # Whatever the system says of it: it may have been on a disk that is gone.
    return not os.path.exists(archive)  # noqa: PTH110 - raises nothing


def _how_to_go_on(run: ShowcaseRun, archive: str, since: float | None) -> str:
    stopped = run.stopped
    if isinstance(stopped, ArchiveError):
        return f"{_once_mended(since)}."
    if stopped is not None and is_account_wide(stopped):
        return f"{_once_mended(since)}: {_kept(archive)}."
    return f"{_other_line(since) or 'The same line'} goes on from here: {_kept(archive)}."


def _once_mended(since: float | None) -> str:
    return f"Once that is mended, {_other_line(since) or 'the same line'} goes on from here"


def tell_interruption(run: ShowcaseRun, output: FetchOutput, options: FetchOptions) -> ExitCode:
    """Tell that the fetch was interrupted, and the line that resumes it; return the exit code.

    Args:
        run: What was interrupted.
        output: What came of it.
        options: Those of the fetch that resumes it.
    """
    _tell_of_misplaced(output)
    if run.stopped is not None and not isinstance(run.stopped, RunStoppedError):
        say_error(run.stopped)
    tell("Interrupted.")
    if options.archive_path is None:
        tell(_NO_ARCHIVE)
    else:
        _tell_if_gone(options.archive_path)
        tell(f"Go on with{_given(options.source)}: {_line(options.since)}")
    return ExitCode.INTERRUPTED


def _given(source: str | None) -> str:
    """Return what the user must supply with our line, if it names no file that can be reread."""
    if source in ("-", "/dev/stdin"):
        # Otherwise the line would silently wait for handles to be typed.
        return " the same list on stdin"
    if source is not None and is_descriptor(source):
        # As in `--from <(zcat list.gz)`: the shell makes such a name for one command only.
        return f" the same list in place of {printable(source)}"
    return ""


def _other_line(since: float | None) -> str | None:
    """Return the line to go on with, if ours would buy afresh what was just bought."""
    return None if since is None else _line(since)


def _kept(archive: str) -> str:
    return f"{printable(archive)} keeps what was bought"


def _line(since: float | None) -> str:
    """Return our own command line; a given time replaces its ``--max-age`` or ``--refresh``."""
    arguments: Sequence[str] = click.get_current_context().meta[_ARGUMENTS]
    if since is not None:
        arguments = ["--max-age", moment(since), *_without_age(arguments)]
    return " ".join([program(), "fetch", *map(quoted, arguments)])


def _without_age(arguments: Sequence[str]) -> list[str]:
    left: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*left, argument, *rest]
        if argument == "--max-age":
            next(rest, None)
        elif argument != "--refresh" and not argument.startswith("--max-age="):
            left.append(argument)
    return left
