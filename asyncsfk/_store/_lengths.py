"""How many pages showcases have, judging by those on file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

# No showcase has so many, and they would be counted one by one.
_MOST_PAGES: Final = 1 << 20


class Lengths:
    """How many pages showcases have, estimated from those that ended and those that were cut short.

    Of one that was cut short we know only that it is longer; leaving those out would leave mostly
    short ones. So for each page the estimate asks: of the showcases that were followed that far,
    what share ended there (Kaplan and Meier, 1958)?

    Args:
        ended: For each number of pages, how many showcases ended after it.
        cut: For each number of pages, how many were followed that far only, and go on.
        most: The most pages of a showcase that are of interest.
    """

    def __init__(self, ended: Counter[int], cut: Counter[int], most: int) -> None:
        self._most = most
        # At index n: the share of all showcases that have more than n pages.
        self._longer = [1.0]
        left = ended.total() + cut.total()
        for pages in range(1, min(most, max([0, *ended, *cut]) + 1)):
            ends = ended[pages] / left
            self._longer.append(self._longer[-1] * (1 - ends))
            left -= ended[pages] + cut[pages]

    @classmethod
    def read(cls, connection: sqlite3.Connection, most: int) -> Lengths:
        """Count the showcases for which a run has kept an outcome.

        Raises:
            ValueError: An outcome says what cannot be; see `made_sense_of`.
        """
        ended: Counter[int] = Counter()
        cut: Counter[int] = Counter()
        # Counted here: to group them, SQLite would hold all of these outcomes in memory.
        for pages, is_over in connection.execute(
            "SELECT json_extract(CAST(outcome AS TEXT), '$.pages') AS pages, "
            "json_extract(CAST(outcome AS TEXT), '$.nextCursor') IS NULL FROM showcase "
            "WHERE pages > 0"
        ):
            if not isinstance(pages, int) or pages > _MOST_PAGES:
                raise ValueError(f"{pages!r} pages of a showcase")
            (ended if is_over else cut)[pages] += 1
        return cls(ended, cut, most)

    def rest(self, had: int) -> float:
        """Return how many pages are likely to follow the first ``had``; 1 if nothing is known."""
        longer = self._longer[had:]
        return sum(longer) / longer[0] if longer and longer[0] else 1.0

    def unknown(self, had: int) -> float:
        """Of showcases with more than ``had`` pages, return the share longer than any followed."""
        if len(self._longer) >= self._most:
            return 0.0
        longer = self._longer[had:]
        return longer[-1] / longer[0] if longer and longer[0] else 1.0
