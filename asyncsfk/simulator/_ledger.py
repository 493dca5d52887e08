"""The ledger: what was asked, what was charged, what arrived."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import NamedTuple

from asyncsfk.simulator._calls import Route
from asyncsfk.simulator._creators import bare


class Page(NamedTuple):
    """What requests for the same page have in common.

    The handle is in lower case, unless it is the address of a product, and the region in upper.
    """

    route: str | None
    handle: str | None
    region: str | None
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One request.

    Attributes:
        number: counted from 1 in the order of arrival.
        route: the template of the route, None for an unknown one.
        path: the raw target, as sent.
        handle: the handle as sent, or the name in an Instagram address; for reviews, the product
            id, or the whole address if none is in it.
        region: the region as sent.
        cursor: the cursor as sent; for reviews, the page number from 2 on. None for a first page.
        status: the status that was sent, None if none was (yet).
        code: the code of an error envelope.
        charged: the credits charged.
        delivered: the whole answer was written: no fault cut it, and the client did not leave.
        fault: the name of the fault that struck.
        authorized: the right key came with it.
        cookie: a cookie came with it.
        started: the time of the loop at arrival.
        finished: the time of the loop when the answer was written or given up, None before.
    """

    number: int
    route: str | None
    path: str
    handle: str | None
    region: str | None
    cursor: str | None
    authorized: bool
    cookie: bool
    started: float
    finished: float | None = None
    status: int | None = None
    code: str | None = None
    charged: int = 0
    delivered: bool = False
    fault: str | None = None

    @property
    def page(self) -> Page:
        """What was asked for, to be compared with other requests."""
        handle = self.handle
        if handle is not None and "/" not in handle:
            # In an address case matters: two short links may differ in nothing else.
            handle = handle.lower()
        region = None if self.region is None else self.region.upper()
        return Page(self.route, handle, region, self.cursor)


class Ledger:
    """Everything that was asked of a simulator.

    The totals (`requests`, `charged`, `in_flight`, `max_in_flight`) cover all requests. `entries`,
    `hits` and `paid_twice` cover the entries kept: all, or the newest `keep` of them.
    """

    __slots__ = (
        "_entries",
        "_hits",
        "_keep",
        "_payments",
        "charged",
        "in_flight",
        "max_in_flight",
        "requests",
    )

    def __init__(self, keep: int | None = None) -> None:
        self.requests = 0
        self.charged = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self._keep = keep
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._hits: Counter[Page] = Counter()
        self._payments: Counter[Page] = Counter()

    def __repr__(self) -> str:
        return (
            f"<Ledger: {self.requests} requests, {self.charged} credits charged, "
            f"{self.in_flight} in flight>"
        )

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries kept, as they are now, in the order of arrival."""
        return tuple(self._entries.values())

    def hits(
        self,
        handle: str | None = None,
        *,
        cursor: str | EllipsisType | None = ...,
        route: str | None = None,
    ) -> int:
        """Count requests, of one handle, cursor (None: first pages) or route where one is given."""
        handle = None if handle is None else bare(handle)
        route = None if route is None else str(Route(route))
        return sum(
            count
            for page, count in self._hits.items()
            if handle in (None, page.handle)
            and cursor in (..., page.cursor)
            and route in (None, page.route)
        )

    def paid_twice(self) -> Mapping[Page, int]:
        """Return the pages that were charged more than once, and how often."""
        return {page: count for page, count in self._payments.items() if count > 1}

    def _open(self, entry: Entry) -> int:
        """Enter a request; tell how often its page was asked for before."""
        page = entry.page
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        before = self._hits[page]
        self._hits[page] += 1
        self._entries[entry.number] = entry
        if self._keep is not None and len(self._entries) > self._keep:
            self._forget(self._entries.popitem(last=False)[1])
        return before

    def _charge(self, entry: Entry) -> None:
        """Charge what an entry says, at once."""
        self.charged += entry.charged
        if entry.charged and entry.number in self._entries:
            self._payments[entry.page] += 1
        self._write(entry)

    def _write(self, entry: Entry) -> None:
        """Write what became of a request."""
        if entry.number in self._entries:
            self._entries[entry.number] = entry

    def _close(self, entry: Entry) -> None:
        """Write an entry for the last time."""
        self.in_flight -= 1
        self._write(entry)

    def _forget(self, entry: Entry) -> None:
        page = entry.page
        _drop(self._hits, page)
        if entry.charged:
            _drop(self._payments, page)


def _drop(counts: Counter[Page], page: Page) -> None:
    counts[page] -= 1
    if not counts[page]:
        del counts[page]
