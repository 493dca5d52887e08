"""What a fetch takes in: pages and outcomes, on their way to files."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from asyncsfk import (
    ArchiveError,
    BodyTooLargeError,
    ClientStateError,
    Details,
    InvalidArgumentError,
    Outcome,
    PaginationError,
    SfkError,
    StaleCursorError,
    UndecodableError,
    Usage,
)
from asyncsfk._text import cut, printable
from asyncsfk.cli._exit import in_flags, tell
from asyncsfk.cli._format import cost, counted, listed, outcome_line, page_lines
from asyncsfk.errors import stops_a_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncsfk import Progress, ShowcasePage
    from asyncsfk.cli._lines import LineWriter
    from asyncsfk.cli._progress import EventSummary

_TOLD: Final = 5
_MOST_STATUSES: Final = 8


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """How far a creator has come."""

    usage: Usage = field(default_factory=Usage)
    next_cursor: str | None = None

    def after(self, page: ShowcasePage) -> _UnderWay:
        """Return how far it has come with one more page."""
        return _UnderWay(self.usage + page.usage, page.next_cursor if page.has_more else None)


class FetchOutput:
    """Writes pages and outcomes as they come, and sums them up at the end.

    Args:
        products: Where the products go.
        errors: Where outcomes that are not complete go; without it a few are told on stderr.
        outcomes: Where all outcomes go.
        max_body_bytes: The largest body that is read.

    Attributes:
        stale: How many creators have a cursor in the archive that the API no longer takes.
        invalid: How many of the given handles are not handles.
        undecodable: How many creators have an answer that came whole, and cannot be decoded.
        misled: How many creators have pages that lead nowhere new.
        unkept: How many paid answers the archive could not take, by the file that has them instead.
        lost: How many the archive could not take, and no file has.
        misplaced: The files that others have moved, removed or cut, by `look_for_files`.
    """

    def __init__(
        self,
        products: LineWriter,
        *,
        errors: LineWriter | None,
        outcomes: LineWriter | None,
        max_body_bytes: int,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._products = products
        self._errors = errors
        self._outcomes = outcomes
        self._under_way: dict[str, _UnderWay] = {}
        self._account_statuses: Counter[str] = Counter()
        self._untold = 0
        self._told: list[str] = []
        self.stale = 0
        self.invalid = 0
        self.undecodable = 0
        self.misled = 0
        self.unkept: Counter[str] = Counter()
        self.lost = 0
        self.misplaced: list[str] = []

    @property
    def is_watched(self) -> bool:
        """Whether the products go to a terminal."""
        return self._products.is_terminal

    async def take_page(self, page: ShowcasePage) -> None:
        """Write a page's products."""
        before = self._under_way.get(page.handle, _UnderWay())
        self._under_way[page.handle] = before.after(page)
        try:
            await self._products.write(page_lines(page, before.usage.products + 1))
        except (OSError, click.ClickException):
            # Its lines were lost to a full disk or a closed pipe: going on means going back to it.
            self._under_way[page.handle] = before
            raise
        except asyncio.CancelledError:
            if self._products.is_cut:
                self._under_way[page.handle] = before
            raise

    def take_outcome(self, outcome: Outcome) -> None:
        """Write what became of a creator whose pages have all come."""
        self._under_way.pop(outcome.handle, None)
        if outcome.account_status is not None:
            self._count_status(cut(outcome.account_status))
        self._write_outcomes(outcome)
        self.stale += isinstance(outcome.error, StaleCursorError)
        self.invalid += isinstance(outcome.error, InvalidArgumentError)
        self.undecodable += self._is_undecodable(outcome.error)
        self.misled += isinstance(outcome.error, PaginationError)
        if outcome.error is None or stops_a_run(outcome.error):
            # What stopped the run is told once, at its end, and not for each creator.
            return
        if self._errors is None:
            if len(self._told) < _TOLD:
                error = outcome.error.evolve(handle=None)
                self._told.append(f"{outcome.handle}: {outcome.status}: {in_flags(error)}")
            else:
                self._untold += 1

    def _is_undecodable(self, error: SfkError | None) -> bool:
        if isinstance(error, BodyTooLargeError):
            # A body that was too large on the wire was not read to its end.
            return error.usage.bytes <= self._max_body_bytes
        return isinstance(error, UndecodableError)

    def take_unkept(self, outcome: Outcome) -> None:
        """Write a paid answer that the archive could not take, once another file has broken."""
        if _is_unkept(outcome):
            self._under_way.pop(outcome.handle, None)
            # What broke first is told, and nothing here ends what is still to come.
            with suppress(click.ClickException, OSError):
                self._write_outcomes(outcome)

    def _write_outcomes(self, *outcomes: Outcome) -> None:
        unkept = sum(map(_is_unkept, outcomes))
        self.lost += unkept
        # An answer that the archive could not take may be nowhere else: one of these files may be
        # on a full disk, too.
        try:
            unkept = self._write_to(self._errors, [end for end in outcomes if end.error], unkept)
        finally:
            self._write_to(self._outcomes, outcomes, unkept)

    def _write_to(self, file: LineWriter | None, outcomes: Iterable[Outcome], unkept: int) -> int:
        """Write outcomes to a file; return how many unkept answers no file has even so."""
        if file is None:
            return unkept
        file.write_now(b"".join(map(outcome_line, outcomes)))
        if unkept:
            self.unkept[file.name] += unkept
            self.lost -= unkept
        return 0

    def interrupt(self) -> None:
        """Write where to go on with each creator that was interrupted on its way."""
        self._write_outcomes(
            *(
                Outcome(
                    handle=handle,
                    status="partial",
                    pages=creator.usage.pages,
                    usage=creator.usage,
                    next_cursor=creator.next_cursor,
                    error=ClientStateError(
                        "interrupted before the next page",
                        Details(handle=handle, cursor=creator.next_cursor),
                    ),
                )
                for handle, creator in self._under_way.items()
                if creator.next_cursor is not None
            )
        )

    def _count_status(self, status: str) -> None:
        # Bounded, since these are the API's words: three today, but one for each creator would
        # fill the memory.
        if status not in self._account_statuses and len(self._account_statuses) >= _MOST_STATUSES:
            status = "of other kinds"
        self._account_statuses[status] += 1

    def finish(self) -> None:
        """Empty the files that got no line, so that nothing of an earlier fetch is left in them."""
        self._products.empty_outdated()

    def look_for_files(self) -> None:
        """Find out which files are not, as a whole, where they were opened."""
        files = (self._products, self._errors, self._outcomes)
        self.misplaced = [file.name for file in files if file is not None and file.is_misplaced]

    def report(self, progress: Progress, summary: EventSummary, *, quiet: bool) -> None:
        """Tell on stderr what the fetch came to."""
        for line in self._told:
            tell(printable(line))
        if self._untold:
            tell(f"... and {self._untold:,} more; --errors FILE keeps them all")
        if not quiet:
            for line in self._summary(progress):
                tell(printable(line))
        if summary.rise:
            tell(summary.rise)

    def _summary(self, progress: Progress) -> list[str]:
        usage = progress.usage
        counts = {
            "complete": progress.complete,
            "partial": progress.partial,
            "failed": progress.failed,
            "skipped": progress.skipped,
            "not finished": progress.started - progress.done,
            "given twice": progress.duplicates,
        }
        told = listed(counts)
        lines = [f"{counted(progress.started, 'creator')}: {told}" if told else "No creators."]
        lines.append(cost(usage))
        if self._account_statuses:
            most_first = sorted(
                self._account_statuses.items(), key=lambda item: (-item[1], item[0])
            )
            lines.append(f"Accounts of empty showcases: {listed(dict(most_first))}")
        return lines


def _is_unkept(outcome: Outcome) -> bool:
    return isinstance(outcome.error, ArchiveError) and outcome.error.body is not None
