"""``asyncsfk fetch``: many creators' showcases, as JSON lines."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from asyncsfk.cli._exit import ExitCode, run
from asyncsfk.cli._options import (
    ClientOptions,
    client_options,
    concurrency_option,
    is_verbose,
    make_client,
    max_pages_option,
    quiet_option,
    rate_option,
    region_option,
)

if TYPE_CHECKING:
    from asyncsfk import ShowcaseRun
    from asyncsfk.cli._harvest import Harvest
    from asyncsfk.cli._progress import PauseCounter

_FILE = click.Path(dir_okay=False, allow_dash=True)


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """What to fetch, and where it goes."""

    handles: tuple[str, ...]
    source: str | None
    output: str
    errors: str | None
    outcomes: str | None
    append: bool
    region: str | None
    max_pages: int | None
    verify_empty: bool
    quiet: bool


@click.command()
@click.argument("handles", nargs=-1, metavar="[HANDLE]...")
@click.option(
    "--from",
    "source",
    type=_FILE,
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
@click.option("--append", is_flag=True, help="Add to the files instead of replacing them.")
@region_option
@max_pages_option
@click.option(
    "--verify-empty",
    is_flag=True,
    help="Where a showcase is empty, spend one more credit to tell found, private and not_found.",
)
@concurrency_option
@rate_option
@quiet_option
@client_options
def fetch(client: ClientOptions, /, **flags: Any) -> None:  # noqa: ANN401 - those above
    """Fetch the showcases of many creators, one credit a page.

    A HANDLE is a TikTok name, with or without @, or a profile's URL. Products go out as their
    pages arrive, one JSON object a line: the handle, the position on the showcase from 1, and the
    product's fields as the API names them.
    """
    options = FetchOptions(**flags)
    if not options.handles and options.source is None:
        raise click.UsageError("name some handles, or a file of them with --from FILE")
    _check_files(options)
    run(_fetch(client, options))


def _check_files(options: FetchOptions) -> None:
    from asyncsfk.cli._output import is_same_file  # noqa: PLC0415 - loads more than --help needs

    used: dict[str, str] = {}
    flags = ("--from", options.source), ("-o", options.output)
    for flag, path in (*flags, ("--errors", options.errors), ("--outcomes", options.outcomes)):
        if path is None or path == "-":
            continue
        for other_path, other_flag in used.items():
            if other_path == path or is_same_file(other_path, path):
                raise click.UsageError(f"{other_flag} and {flag} name the same file")
        used[path] = flag


async def _fetch(client_options: ClientOptions, options: FetchOptions) -> ExitCode:
    from asyncsfk.cli._harvest import Harvest  # noqa: PLC0415 - loads more than --help needs
    from asyncsfk.cli._output import LineWriter  # noqa: PLC0415
    from asyncsfk.cli._progress import PauseCounter  # noqa: PLC0415
    from asyncsfk.cli._source import HandleFile  # noqa: PLC0415

    pauses = PauseCounter()
    async with AsyncExitStack() as stack:
        # Whatever may be refused, before a file is emptied and before anything is sent.
        client = await stack.enter_async_context(make_client(client_options, on_event=pauses))
        source = stack.enter_context(HandleFile(options.source)) if options.source else None
        showcases = client.showcases(
            source.handles(options.handles) if source else options.handles,
            region=options.region,
            max_pages=options.max_pages,
            verify_empty=options.verify_empty,
        )

        def writer(path: str) -> LineWriter:
            return stack.enter_context(LineWriter(path, append=options.append))

        harvest = Harvest(
            writer(options.output),
            errors=writer(options.errors) if options.errors else None,
            outcomes=writer(options.outcomes) if options.outcomes else None,
        )
        try:
            async with showcases:
                await _gather(showcases, harvest, pauses, options)
        except BaseException:
            harvest.interrupt()
            raise
        finally:
            harvest.report(showcases.progress, quiet=options.quiet)
    return harvest.tell_end(showcases)


async def _gather(
    showcases: ShowcaseRun, harvest: Harvest, pauses: PauseCounter, options: FetchOptions
) -> None:
    """Take the run's pages in, under the eyes of whoever looks at the terminal."""
    from asyncsfk.cli._progress import is_shown, live_progress  # noqa: PLC0415 - see above

    total = None if options.source else len(set(options.handles))
    async with AsyncExitStack() as stack:
        if is_shown(quiet=options.quiet or is_verbose(), to_terminal=harvest.is_watched):
            await stack.enter_async_context(live_progress(showcases, pauses, total=total))
        try:
            async for page in showcases.pages(on_outcome=harvest.take_outcome):
                await harvest.take_page(page)
        except asyncio.CancelledError:
            await harvest.take_arrived(showcases)
            raise
