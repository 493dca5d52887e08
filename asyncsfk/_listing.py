"""A paged list as an async iterable: of its items, of its pages, or collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from asyncsfk._checks import check_limit
from asyncsfk._paging import C, Chain
from asyncsfk._text import described
from asyncsfk.errors import PaginationError, SfkError
from asyncsfk.models import ReviewPage, ShowcasePage
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

P = TypeVar("P", bound=ShowcasePage | ReviewPage)
I = TypeVar("I")  # noqa: E741 - an item


class Listing(Generic[P, I, C]):
    """A list that comes in pages, each of which costs a credit.

    Iterate it for its items, or `pages` for its pages, or `collect` it whole. Pages are fetched
    as they are needed, and anew for each iteration.

    Args:
        fetch: Fetches the page at a cursor; is also told its number in this iteration, from 1.
        subject: What the list is about, for errors.
        route: Where it comes from, for errors.
        start: The cursor of the first page.
        max_pages: The most pages to fetch.
        max_items: The most items to hand out.
        items_of: The items on a page.
        next_of: The cursor that a page leads to.
    """

    def __init__(
        self,
        fetch: Callable[[C | None, int], Awaitable[P]],
        *,
        subject: str | None,
        route: str,
        start: C | None,
        max_pages: int | None,
        max_items: int | None,
        items_of: Callable[[P], Sequence[I]],
        next_of: Callable[[P], C | None],
    ) -> None:
        check_limit("max_pages", max_pages)
        check_limit("max_items", max_items)
        self._fetch = fetch
        self._subject = subject
        self._route = route
        self._start = start
        self._max_pages = max_pages
        self._max_items = max_items
        self._items_of = items_of
        self._next_of = next_of

    def __repr__(self) -> str:
        return f"<Listing of {described(self._subject)} from {self._route}>"

    async def pages(self) -> AsyncGenerator[P, None]:
        """Iterate the pages.

        ``max_items`` ends this with the page on which that many items are reached.

        Raises:
            SfkError: A page could not be fetched; ``cursor`` (or ``page``) leads back to it.
            PaginationError: The API says that there is more, but leads nowhere new. Every page
                before that was handed out.
        """
        chain = Chain(self._start, self._max_pages)
        left = self._max_items
        cursor, number = self._start, 1
        while True:
            page = await self._fetch(cursor, number)
            items = self._items_of(page)
            yield page
            if left is not None:
                left -= len(items)
                if left <= 0:
                    return
            try:
                following = chain.advance(
                    self._next_of(page), has_more=page.has_more, empty=not items
                )
            except PaginationError as error:
                raise error.evolve(
                    handle=self._subject,
                    route=self._route,
                    request_id=page.request_id,
                    **_position(cursor),
                ) from None
            if following is None:
                return
            cursor, number = following, number + 1

    async def __aiter__(self) -> AsyncGenerator[I, None]:
        left = self._max_items
        async for page in self.pages():
            for item in self._items_of(page)[:left]:
                yield item
            if left is not None:
                left -= len(self._items_of(page))

    async def collect(self) -> list[I]:
        """Fetch all and return the items.

        Raises:
            SfkError: As `pages`; ``partial`` holds the items that were received and paid for, and
                ``usage`` what all of it cost.
        """
        items: list[I] = []
        usage = Usage()
        try:
            async for page in self.pages():
                items += self._items_of(page)
                usage += page.usage
        except SfkError as error:
            raise error.evolve(partial=tuple(items), usage=usage + error.usage) from error.__cause__
        return items[: self._max_items]


def _position(cursor: str | int | None) -> dict[str, str | int | None]:
    return {"page": cursor} if isinstance(cursor, int) else {"cursor": cursor}


# Users know it by its public name, in tracebacks too.
Listing.__module__ = "asyncsfk"
