"""How many pages showcases have, going by those that are on file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

# No showcase has so many, and they would be counted one by one.
_MOST_PAGES: Final = 1 << 20


class Lengths:
    """How many pages showcases have, estimated from those that ended and those that were cut.

    Which were cut says nothing of how long they are, but that they are longer: leaving them out
    would leave the short ones. So what is asked at each page is which part of those that came so
    far ended there (Kaplan and Meier, 1958).

    Args:
        ended: How many came to their end after so many pages.
        cut: How many were followed for so many pages, and go on.
        most: As many pages as are of interest.
    """

    def __init__(self, ended: Counter[int], cut: Counter[int], most: int) -> None:
        self._most = most
        # Which part of all showcases has more pages than the index says.
        self._longer = [1.0]
        left = ended.total() + cut.total()
        for pages in range(1, min(most, max([0, *ended, *cut]) + 1)):
            ends = ended[pages] / left
            self._longer.append(self._longer[-1] * (1 - ends))
            left -= ended[pages] + cut[pages]

    @classmethod
    def read(cls, connection: sqlite3.Connection, most: int) -> Lengths:
        """Count the showcases of which a run has told what it came to.

        Raises:
            ValueError: Of one it says what cannot be; see `made_sense_of`.
        """
        ended: Counter[int] = Counter()
        cut: Counter[int] = Counter()
        # Counted here: for groups SQLite would hold all of these outcomes in memory.
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
        """Return how many pages are likely to come after so many; of what is unknown just one."""
        longer = self._longer[had:]
        return sum(longer) / longer[0] if longer and longer[0] else 1.0

    def unknown(self, had: int) -> float:
        """Return which part of those with more pages than that is longer than any was followed."""
        if len(self._longer) >= self._most:
            return 0.0
        longer = self._longer[had:]
        return longer[-1] / longer[0] if longer and longer[0] else 1.0
