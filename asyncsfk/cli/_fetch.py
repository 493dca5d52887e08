"""``asyncsfk fetch``: many creators' showcases, as JSON lines."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from asyncsfk._text import printable
from asyncsfk.cli._age import age, moment
from asyncsfk.cli._dry_run import dry_run
from asyncsfk.cli._exit import BrokenFileError, ExitCode, needing_archive, run, tell
from asyncsfk.cli._fetch_end import (
    Repeatable,
    tell_breakage,
    tell_end,
    tell_interruption,
    tell_of_answers,
)
from asyncsfk.cli._fetch_options import FetchOptions
from asyncsfk.cli._interrupt import NOTICE, Interruption
from asyncsfk.cli._lines import LineWriter
from asyncsfk.cli._options import (
    ClientOptions,
    client_options,
    concurrency_option,
    is_verbose,
    make_client,
    max_backoff_option,
    max_body_bytes_option,
    max_pages_option,
    quiet_option,
    rate_option,
    region_option,
)
from asyncsfk.cli._source import HandleFile
from asyncsfk.cli._threads import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from asyncsfk import Client, ShowcaseRun
    from asyncsfk.cli._fetch_output import FetchOutput
    from asyncsfk.cli._progress import EventSummary

_FILE = click.Path(dir_okay=False, allow_dash=True)
_LANDING: Final = "what has been asked for will land. Ctrl-C leaves at once."


def _only(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return an option's only value; given two, click would silently take the last."""
    if len(values) > 1:
        raise click.BadParameter("it can be given once; join the lists", param=option)
    return values[0] if values else None


@click.command(cls=Repeatable)
@click.argument("handles", nargs=-1, metavar="[HANDLE]...")
@click.option(
    "--from",
    "source",
    type=_FILE,
    multiple=True,
    callback=_only,
    metavar="FILE",
    help="Read further handles from FILE, one a line; - is stdin. Blank lines and # comments are "
    "skipped.",
)
@click.option(
    "-o",
    "--output",
    type=_FILE,
    default="-",
    metavar="FILE",
    help="Where the products go, as JSON lines; - is stdout, the default.",
)
@click.option(
    "--errors",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where creators that are not complete go, as JSON lines with why and where to go on.",
)
@click.option(
    "--outcomes",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where a JSON line on each creator goes, complete or not; with --verify-empty it tells "
    "accountStatus.",
)
@click.option(
    "--append",
    is_flag=True,
    help="Add to the files instead of replacing them; not with an archive, whose lines come again.",
)
@click.option(
    "--archive",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep what is bought in FILE, so that the same line goes on where it ended.  [default: "
    "the output with the suffix .sfk; none where that is stdout]",
)
@click.option(
    "--no-archive", is_flag=True, help="Keep no archive: what is asked again costs again."
)
@region_option
@max_pages_option
@click.option(
    "--max-credits",
    type=click.IntRange(1),
    metavar="N",
    help="Spend at most N credits; with an archive, in all that was ever fetched into it.",
)
@click.option(
    "--verify-empty",
    is_flag=True,
    help="Where a showcase is empty, spend one more credit to tell found, private and not_found.",
)
@click.option(
    "--max-age",
    "since",
    type=age,
    metavar="AGE",
    help="Buy afresh what the archive has had for longer: 90s, 15m, 12h, 7d, or since a time such "
    "as 2026-10-01T12:00:00Z.",
)
@click.option("--refresh", is_flag=True, help="Buy everything afresh, whatever the archive has.")
@click.option(
    "--restart-stale",
    is_flag=True,
    help="Start a showcase over if the API no longer takes the cursor that the archive leads to.",
)
@click.option(
    "--dry-run", is_flag=True, help="Tell what this would cost; buy nothing, write nothing."
)
@concurrency_option
@rate_option
@max_backoff_option
@max_body_bytes_option
@quiet_option
@client_options
def fetch(client: ClientOptions, /, **flags: Any) -> None:  # noqa: ANN401 - those above
    """Fetch the showcases of many creators, one credit a page.

    A HANDLE is a TikTok name, with or without @, or a profile's URL. Products go out as their
    pages arrive, one JSON object a line: the handle, the position on the showcase from 1, and the
    product's fields as the API names them.

    With -o FILE, what is bought is kept in an archive beside FILE: the same line, run again, goes
    on where it ended and pays for nothing twice.
    """
    options = FetchOptions(**flags)
    options.check(client.api_key_file)
    run(dry_run(client, options) if options.dry_run else _fetch(client, options))


async def _fetch(client_options: ClientOptions, options: FetchOptions) -> ExitCode:
    began, started = time.time(), time.monotonic()
    done: tuple[ShowcaseRun, FetchOutput, bool] | None = None
    try:
        async with AsyncExitStack() as stack:
            done = await _fetch_all(stack, client_options, options, began)
        showcases, output, interrupted = done
    except BrokenFileError as error:
        return tell_breakage(error, options.resumed(began, started))
    except asyncio.CancelledError:
        if done is None:
            raise
        # Interrupted while things were being closed: the fetch itself was over.
        showcases, output, interrupted = *done[:2], True
    tell_how = tell_interruption if interrupted else tell_end
    return tell_how(showcases, output, options.resumed(began, started))


async def _fetch_all(
    stack: AsyncExitStack, client_options: ClientOptions, options: FetchOptions, began: float
) -> tuple[ShowcaseRun, FetchOutput, bool]:
    """Fetch; return the run, what came of it and whether it was interrupted."""
    from asyncsfk.cli._progress import EventSummary

    summary = EventSummary()
    # Everything that can be refused comes first, before anything is sent.
    client = await stack.enter_async_context(await make_client(client_options, on_event=summary))
    source = None
    if options.source is not None:
        source = stack.enter_context(await opened(HandleFile, options.source))
    handles = source.handles(options.handles) if source else options.handles
    showcases = await _enter_run(stack, client, handles, options)
    output = await _open_files(stack, options, client_options.max_body_bytes)
    if options.refresh and not options.quiet:
        tell(f"If this is killed, go on with --max-age {moment(began)} in place of --refresh.")
    try:
        interrupted = await _gather(showcases, output, summary, options, source)
    except asyncio.CancelledError:
        output.interrupt()
        interrupted = True
    except BaseException:
        # A second failure, here, must not hide what went wrong first.
        with suppress(click.ClickException, OSError):
            output.interrupt()
        raise
    finally:
        output.report(showcases.progress, summary, quiet=options.quiet)
        tell_of_answers(output, options)
    if not interrupted and 0 < showcases.progress.started == showcases.progress.complete:
        output.finish()
    output.look_for_files()
    return showcases, output, interrupted


async def _open_files(
    stack: AsyncExitStack, options: FetchOptions, max_body_bytes: int
) -> FetchOutput:
    """Open the files to write to; what they hold stays until there is something new for them.

    Raises:
        UnusableFileError: A file cannot be written.
    """
    from asyncsfk.cli._fetch_output import FetchOutput

    # The first product empties all files, an outcome only those of outcomes: if nothing but errors
    # comes, the products of an earlier fetch stay.
    products: dict[str, int] = {}
    outcomes: dict[str, int] = {}

    async def writer(path: str, *outdated: dict[str, int]) -> LineWriter:
        file = stack.enter_context(await opened(LineWriter, path))
        if not options.append:
            file.renew(*outdated)
        return file

    return FetchOutput(
        await writer(options.output, products, outcomes),
        max_body_bytes=max_body_bytes,
        errors=None if options.errors is None else await writer(options.errors, outcomes),
        outcomes=None if options.outcomes is None else await writer(options.outcomes, outcomes),
    )


async def _enter_run(
    stack: AsyncExitStack,
    client: Client,
    handles: Iterable[str] | AsyncIterable[str],
    options: FetchOptions,
) -> ShowcaseRun:
    """Open the archive, if there is one, and the run that writes to it; sends nothing.

    Raises:
        UnusableArchiveError: The archive cannot be used.
    """
    from asyncsfk import Archive

    with needing_archive():
        archive = None
        if (path := options.archive_path) is not None:
            archive = await stack.enter_async_context(Archive(path))
        return await stack.enter_async_context(
            client.showcases(
                handles,
                region=options.region,
                max_pages=options.max_pages,
                verify_empty=options.verify_empty,
                max_credits=options.max_credits,
                archive=archive,
                max_age=options.max_age,
                refresh=options.refresh,
                restart_stale=options.restart_stale,
            )
        )


async def _gather(
    showcases: ShowcaseRun,
    output: FetchOutput,
    summary: EventSummary,
    options: FetchOptions,
    source: HandleFile | None,
) -> bool:
    """Take in the run's pages, and close it; return whether it was interrupted.

    Its progress is shown meanwhile, if there is a terminal to show it on.
    """
    from asyncsfk.cli._progress import is_shown, live_progress

    shown = is_shown(quiet=options.quiet or is_verbose(), to_terminal=output.is_watched)

    def notify(notice: str) -> None:
        if not shown and not options.quiet:
            tell(notice)

    summary.on_outage = lambda reason: notify(f"{printable(reason).rstrip('.')}; trying on.")
    with Interruption(showcases, on_first=lambda: notify(NOTICE)) as interruption:
        try:
            async with AsyncExitStack() as stack:
                if shown:
                    total = await _total(options, source)
                    await stack.enter_async_context(live_progress(showcases, summary, total=total))
                async for page in showcases.pages(on_outcome=output.take_outcome):
                    await output.take_page(page)
        except BrokenFileError as error:
            interruption.loop_is_over()
            if options.archive_path is not None:
                interruption.stop()
                if showcases.progress.in_flight and not options.quiet:
                    # That can take a minute, where the API hangs.
                    tell(f"{error.format_message()}; {_LANDING}")
                await _land(showcases, output)
            raise
        finally:
            interruption.loop_is_over()
            await showcases.aclose()
    return interruption.signals > 0


async def _land(showcases: ShowcaseRun, output: FetchOutput) -> None:
    """Wait for what is on its way as a file breaks: the archive may be on the same full disk."""
    async for _ in showcases.pages(on_outcome=output.take_unkept):
        # The archive has it, and its lines have no place to go to.
        pass


async def _total(options: FetchOptions, source: HandleFile | None) -> int | None:
    """Return how many handles there are, if that can be known."""
    count = 0 if source is None else await source.count()
    return None if count is None else count + len(options.handles)
