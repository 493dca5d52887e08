"""From page to page: when to go on, when to stop, when to refuse. Pure; knows no page by name."""

from __future__ import annotations

from typing import Generic, TypeVar

from asyncsfk.errors import PaginationError

C = TypeVar("C", bound=str | int)

_MAX_EMPTY_PAGES = 10


class Chain(Generic[C]):
    """Follows one list from page to page.

    Args:
        start: The cursor (or page number) of the first page; ``None`` is the beginning.
        max_pages: The most pages to take.
    """

    def __init__(self, start: C | None, max_pages: int | None) -> None:
        self._seen: set[C | None] = {start}
        self._left = max_pages
        self._empty = 0

    def advance(self, next_cursor: C | None, *, has_more: bool, empty: bool) -> C | None:
        """Return the cursor of the page after one just received; ``None`` ends the list.

        Args:
            next_cursor: Where that page says the next one is.
            has_more: Whether it says that there is one.
            empty: Whether nothing was on it.

        Raises:
            PaginationError: There is more, but going on would pay for nothing new: there is no
                cursor, or one that was followed before, or ten pages in a row were empty.
        """
        if self._left is not None:
            self._left -= 1
        if not has_more or self._left == 0:
            return None
        if not next_cursor:
            raise PaginationError("the API says that there is more, but not where")
        if next_cursor in self._seen:
            raise PaginationError("the API leads back to a page that was fetched before")
        self._empty = self._empty + 1 if empty else 0
        if self._empty >= _MAX_EMPTY_PAGES:
            raise PaginationError(
                f"{self._empty} pages in a row were empty, and still there is more"
            )
        self._seen.add(next_cursor)
        return next_cursor
