"""``asyncsfk archive``: what a fetch has kept, read at no cost and without a key."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Final

import click

from asyncsfk.cli._exit import ExitCode, needing_archive, say, tell
from asyncsfk.cli._fetch_options import BESIDE
from asyncsfk.cli._files import is_same_file
from asyncsfk.cli._format import counted, indented, json_line, outcome_line, page_lines
from asyncsfk.cli._lines import LineWriter
from asyncsfk.cli._options import country_code, max_body_bytes_option

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from asyncsfk import Archive, ArchivedAnswer, ShowcasePage

_CHUNK: Final = 1 << 16

_file_argument = click.argument("file", type=click.Path(dir_okay=False))
_output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    default="-",
    metavar="OUT",
    help="Where the JSON lines go; - is stdout, the default.",
)
_handle_option = click.option("--handle", metavar="HANDLE", help="Only of this creator.")
_region_option = click.option(
    "--region", type=country_code, metavar="CC", help="Only what was asked for with this region."
)


@click.group(short_help="Read what a fetch has kept; free, and needs no key.")
def archive() -> None:
    """Read the archive that a fetch has kept: free, without a key, also while it is written."""


@archive.command()
@_file_argument
def info(file: str) -> None:
    """Print what an archive holds and what it has cost, as JSON."""
    from asyncsfk import Archive

    with needing_archive():
        known = Archive(file).info()
    say(indented(known))


@archive.command()
@_file_argument
@_handle_option
@_region_option
@_output_option
def products(file: str, output: str, **wanted: str | None) -> None:
    """Print every product, as the lines that fetch writes."""
    from asyncsfk import Archive

    def lines() -> Generator[bytes]:
        first = 1
        for page in Archive(file).pages(**wanted):
            first = 1 if page.number == 1 else first
            yield from page_lines(page, first)
            first += len(page.products)

    _stream(file, output, lines())


@archive.command()
@_file_argument
@_handle_option
@_region_option
@_output_option
def errors(file: str, output: str, **wanted: str | None) -> None:
    """Print each creator that is not complete, and where to go on with it.

    The lines are those of fetch --errors. A creator that was under way when the archive was last
    written is partial.
    """
    from asyncsfk import Archive

    _stream(file, output, (outcome_line(each) for each in Archive(file).errors(**wanted)))


@archive.command()
@_file_argument
@_output_option
def ledger(file: str, output: str) -> None:
    """Print each request and what it cost, in the order of their ends."""
    from asyncsfk import Archive

    _stream(file, output, (json_line(each) for each in Archive(file).ledger()))


@archive.command()
@_file_argument
@_output_option
@max_body_bytes_option
def salvage(file: str, output: str, max_body_bytes: int) -> None:
    """Decode what could not be decoded when it came, and print it.

    Of showcases that is their products, as the lines that fetch writes; the position is null where
    the pages before it are not there. Of other routes it is the answer. The next fetch goes on
    from there without paying for these pages again.

    Exits with 1 if there is something left that cannot be decoded.
    """
    from asyncsfk import Archive

    _check_output(file, output)
    kept = Archive(file)
    with needing_archive(), ExitStack() as stack:

        @cache
        def writer() -> LineWriter:
            # Opened at the first answer: by then the archive has proved usable. Appended to: what
            # is in the file already will not be printed by another salvage.
            return stack.enter_context(LineWriter(output))

        def write(answer: ArchivedAnswer) -> None:
            writer().write_now(b"".join(_salvaged_lines(kept, answer, max_body_bytes)))

        count = kept.salvage(write, max_body_bytes=max_body_bytes)
        left = kept.info().undecodable
    tell(f"{counted(count, 'answer')} decoded that could not be before, {left:,} left")
    click.get_current_context().exit(ExitCode.INCOMPLETE if left else ExitCode.COMPLETE)


def _salvaged_lines(kept: Archive, answer: ArchivedAnswer, max_body_bytes: int) -> list[bytes]:
    from asyncsfk import ShowcasePage

    told = answer.decode(max_body_bytes=max_body_bytes)
    if isinstance(told, ShowcasePage):
        return page_lines(told, _first_position(kept, told))
    return [json_line({"route": answer.route, "handle": answer.handle, **told.to_dict()})]


def _first_position(kept: Archive, page: ShowcasePage) -> int | None:
    """Return the position of a page's first product on its showcase, if the archive knows it."""
    position = 1
    for other in kept.pages(page.handle):
        if other.region == page.region:
            if other.cursor == page.cursor:
                return position
            position += len(other.products)
    return None


def _stream(file: str, output: str, lines: Generator[bytes]) -> None:
    """Replace what is in the output by lines of an archive.

    Raises:
        UnusableFileError: The output cannot be opened.
        UnusableArchiveError: The archive cannot be read; the output was not touched.
        ArchiveError: It turned out to be damaged after some lines were written.
    """
    _check_output(file, output)
    # However this ends, and not only when Python does: by then it would complain of an open file.
    with closing(lines):
        chunks = _chunks(lines)
        with needing_archive():
            first = next(chunks)
        with LineWriter(output) as writer:
            writer.renew({})
            for chunk in chain([first], chunks):
                writer.write_now(chunk)
            writer.empty_outdated()


def _check_output(file: str, output: str) -> None:
    if output != "-":
        if is_same_file(file, output):
            raise click.UsageError("FILE and -o name the same file")
        if any(is_same_file(f"{file}{end}", output) for end in BESIDE):
            raise click.UsageError(f"-o {output} belongs to the archive: name another file")


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines into pieces that are worth a write; gives at least one, perhaps empty."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= _CHUNK:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)
