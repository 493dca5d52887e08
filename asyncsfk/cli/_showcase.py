"""``asyncsfk showcase``: one creator's products."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING

import click

from asyncsfk.cli._exit import ExitCode, exit_code, run, say_error, tell
from asyncsfk.cli._options import (
    ClientOptions,
    client_options,
    make_client,
    max_pages_option,
    quiet_option,
    region_option,
)

if TYPE_CHECKING:
    from asyncsfk import ShowcasePage


@click.command(short_help="Print a creator's products as JSON lines.")
@click.argument("handle")
@region_option
@click.option("--cursor", help="Begin at the page that CURSOR leads to.")
@max_pages_option
@click.option("--max-items", type=click.IntRange(1), metavar="N", help="At most N products.")
@quiet_option
@client_options
def showcase(
    client: ClientOptions,
    handle: str,
    *,
    region: str | None,
    cursor: str | None,
    max_pages: int | None,
    max_items: int | None,
    quiet: bool,
) -> None:
    """Print the products on a creator's showcase as JSON lines, one credit a page.

    HANDLE is a TikTok name, with or without @, or a profile's URL.
    """
    run(
        _showcase(
            client,
            handle,
            region=region,
            cursor=cursor,
            max_pages=max_pages,
            max_items=max_items,
            quiet=quiet,
        )
    )


async def _showcase(
    options: ClientOptions,
    handle: str,
    *,
    region: str | None,
    cursor: str | None,
    max_pages: int | None,
    max_items: int | None,
    quiet: bool,
) -> ExitCode:
    from asyncsfk import SfkError
    from asyncsfk.cli._output import LineWriter, cost
    from asyncsfk.cli._progress import EventSummary

    summary = EventSummary()
    page: ShowcasePage | None = None
    left = max_items
    cut = 0
    code = ExitCode.COMPLETE
    async with make_client(options, on_event=summary) as client:
        listing = client.showcase(
            handle, region=region, cursor=cursor, max_pages=max_pages, max_items=max_items
        )
        output = LineWriter("-")
        try:
            async for page in listing.pages():
                await output.write(product.to_json() + b"\n" for product in page.products[:left])
                if left is not None:
                    cut = max(0, len(page.products) - left)
                    left -= min(left, len(page.products))
        except SfkError as error:
            say_error(error)
            code, cursor = exit_code(error), error.cursor
        except asyncio.CancelledError:
            # Taken note of: what was bought is told before we leave.
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            tell("Interrupted.")
            code = ExitCode.INTERRUPTED
            cursor = cursor if page is None else page.next_cursor
        else:
            cursor = page.next_cursor if page is not None and page.has_more else None
        usage = client.usage
    if quiet:
        return code
    if whereto := _whereto(cursor, page, cut):
        tell(whereto)
    tell(cost(usage))
    if summary.rise is not None:
        tell(summary.rise)
    return code


def _whereto(cursor: str | None, last: ShowcasePage | None, cut: int) -> str:
    """Return where to go on.

    Args:
        cursor: What leads to the next page.
        last: The last page that came.
        cut: How many of its products were not printed: behind them they would be left out.
    """
    from asyncsfk.cli._output import counted

    if cut and last is not None:
        begins = (
            "" if last.cursor is None else f"; it begins at --cursor {shlex.quote(last.cursor)}"
        )
        return f"{counted(cut, 'product')} of the last page not printed{begins}"
    return "" if cursor is None else f"There is more: --cursor {shlex.quote(cursor)}"
