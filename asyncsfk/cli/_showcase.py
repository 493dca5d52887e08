"""``asyncsfk showcase``: one creator's products."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from asyncsfk.cli._exit import ExitCode, exit_code, run, say_error, tell
from asyncsfk.cli._format import cost, counted, quoted
from asyncsfk.cli._lines import LineWriter
from asyncsfk.cli._options import (
    ClientOptions,
    client_options,
    make_client,
    max_pages_option,
    quiet_option,
    region_option,
)
from asyncsfk.errors import PaginationError, SfkError

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
def showcase(client: ClientOptions, /, **flags: Any) -> None:  # noqa: ANN401 - those above
    """Print the products on a creator's showcase as JSON lines, one credit a page.

    HANDLE is a TikTok name, with or without @, or a profile's URL.
    """
    run(_showcase(client, **flags))


async def _showcase(
    options: ClientOptions,
    *,
    handle: str,
    region: str | None,
    cursor: str | None,
    max_pages: int | None,
    max_items: int | None,
    quiet: bool,
) -> ExitCode:
    from asyncsfk.cli._progress import EventSummary

    summary = EventSummary()
    page: ShowcasePage | None = None
    left = max_items
    cut = 0
    code = ExitCode.COMPLETE
    async with await make_client(options, on_event=summary) as client:
        listing = client.showcase(
            handle, region=region, cursor=cursor, max_pages=max_pages, max_items=max_items
        )
        output = LineWriter("-")
        try:
            async for page in listing.pages():
                shown = page.products[:left]
                await output.write(product.to_json() + b"\n" for product in shown)
                cut = len(page.products) - len(shown)
                if left is not None:
                    left -= len(shown)
        except (SfkError, click.ClickException, asyncio.CancelledError) as error:
            code, cursor = _break_off(error, cursor, page, is_cut=output.is_cut)
        else:
            cursor = page.next_cursor if page is not None and page.has_more else None
    if not quiet:
        if whereto := _whereto(cursor, page, cut):
            tell(whereto)
        tell(cost(client.usage))
    if summary.rise:
        tell(summary.rise)
    return code


def _break_off(
    error: SfkError | click.ClickException | asyncio.CancelledError,
    begun: str | None,
    last: ShowcasePage | None,
    *,
    is_cut: bool,
) -> tuple[ExitCode, str | None]:
    """Tell why there is no more; return the exit code, and the cursor to go on from.

    Args:
        error: What ended it.
        begun: The cursor that it began at.
        last: The last page that came.
        is_cut: Whether that page may be half printed, since its reader did not take it.
    """
    if isinstance(error, asyncio.CancelledError):
        tell("Interrupted.")
        if last is None:
            return ExitCode.INTERRUPTED, begun
        return ExitCode.INTERRUPTED, last.cursor if is_cut else last.next_cursor
    if isinstance(error, click.ClickException):
        # The last page could not be printed: going on means going back to it.
        error.show()
        return ExitCode.INCOMPLETE, begun if last is None else last.cursor
    say_error(error)
    # A PaginationError's cursor leads to the last page, which is printed already.
    return exit_code(error), None if isinstance(error, PaginationError) else error.cursor


def _whereto(cursor: str | None, last: ShowcasePage | None, cut: int) -> str:
    """Return where to go on.

    Args:
        cursor: What leads to the next page.
        last: The last page that came.
        cut: How many of its products were not printed: going on behind it would skip them.
    """
    if cut and last is not None:
        begins = "" if last.cursor is None else f"; it begins at --cursor {quoted(last.cursor)}"
        return f"{counted(cut, 'product')} of the last page not printed{begins}"
    return f"There is more: --cursor {quoted(cursor)}" if cursor else ""
