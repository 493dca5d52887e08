"""Sorts handles by what an archive holds of them, and adds up what the rest may cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import anyio.lowlevel
import anyio.to_thread

from asyncsfk import _replay, _routes
from asyncsfk._page_cache import find, key_of
from asyncsfk._seen import SeenHandles, fingerprint
from asyncsfk._store import _sums
from asyncsfk._store._reads import FindShowcase
from asyncsfk._store._schema import reading
from asyncsfk._store._sqlite import is_begun
from asyncsfk._store._sums import Past
from asyncsfk.budget import Budget
from asyncsfk.errors import InvalidArgumentError, PaginationError
from asyncsfk.handles import tiktok_handle
from asyncsfk.plan import Plan

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from asyncsfk._options import RunOptions
    from asyncsfk._store._lengths import Lengths
    from asyncsfk._store._reads import Begun
    from asyncsfk.config import Config
    from asyncsfk.models import Balance
    from asyncsfk.outcomes import Outcome

N = TypeVar("N", int, float)

_CHUNK: Final = 500
_UNKNOWN: Final = 0.1  # the part of showcases that may be longer than any was followed
_PRICED: Final = (_routes.SHOWCASE, _routes.TIKTOK_PROFILE)


async def make_plan(
    options: RunOptions,
    path: Path | None,
    config: Config,
    handles: Iterable[object] | AsyncIterable[object],
    ask_balance: Callable[[], Awaitable[Balance]],
) -> Plan:
    """Pull handles to their end, look them up in the archive, and say what a run would do.

    Args:
        options: What the run would be told.
        path: The file of the archive that the run would use, if any.
        config: That of the run's client.
        handles: Whose showcases.
        ask_balance: Asks for the credits that are left.

    Raises:
        ArchiveError: The archive cannot be read.
        SfkError: The balance could not be fetched.
    """
    forecast = _Forecast(options, path, config)
    seen = SeenHandles()
    counts = Counter(given=0, duplicates=0, invalid=0)
    chunk: list[str] = []
    async for given in _each(handles):
        counts["given"] += 1
        try:
            handle, valid = tiktok_handle(given), True
        except InvalidArgumentError:
            handle, valid = fingerprint(given), False
        if not seen.add(handle):
            counts["duplicates"] += 1
        elif not valid:
            counts["invalid"] += 1
        else:
            chunk.append(handle)
            if len(chunk) == _CHUNK:
                await anyio.to_thread.run_sync(forecast.add, chunk)
                chunk = []
    await anyio.to_thread.run_sync(forecast.add, chunk)
    balance = (await ask_balance()).balance
    return await anyio.to_thread.run_sync(partial(forecast.plan, **counts, balance=balance))


def left_of(max_credits: int | Budget | None, path: Path | None) -> int | None:
    """Return the credits that the ceiling of a run would leave it; blocks.

    Args:
        max_credits: The ceiling, if any; one that is a number counts all that the archive has cost.
        path: The file of the archive that the run would use, if any.

    Raises:
        ArchiveError: The archive cannot be read.
    """
    if isinstance(max_credits, Budget):
        return max_credits.left
    if max_credits is None or path is None or not is_begun(path):
        return max_credits
    with reading(path) as connection:
        # In one snapshot: what is exposed at one moment may be charged at the next.
        connection.execute("BEGIN")
        spent = _sums.spent(connection)
        maybe = spent.maybe + _sums.exposed(connection)
    return max(0, max_credits - spent.charged - maybe)


async def _each(items: Iterable[object] | AsyncIterable[object]) -> AsyncGenerator[object, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for number, item in enumerate(items, 1):
            if number % _CHUNK == 0:
                # Let other tasks run as well.
                await anyio.lowlevel.checkpoint()
            yield item


class _Forecast:
    """Takes handles in, some at a time, and says what a run over them would do; blocks."""

    def __init__(self, options: RunOptions, path: Path | None, config: Config) -> None:
        self._options = options
        self._path = path
        self._rate = config.rate
        self._max_body_bytes = config.max_body_bytes
        self._since = 0.0 if options.max_age is None else time.time() - options.max_age
        self._complete = 0
        self._to_verify = 0
        self._undecodable = 0
        # How many showcases are to be bought, by how many of their pages are on file.
        self._to_buy: Counter[int] = Counter()

    def add(self, handles: Sequence[str]) -> None:
        """Sort (normalised, distinct) handles by what the archive holds of them.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        if self._path is None or self._options.refresh or not is_begun(self._path):
            self._to_buy[0] += len(handles)
            return
        region = self._options.region
        with reading(self._path) as connection:
            asked = [
                FindShowcase(
                    handle,
                    region or "",
                    key_of(_routes.showcase(handle, cursor=None, region=region)),
                )
                for handle in handles
            ]
            for found in FindShowcase.read(connection, asked):
                if found is None or found.received is None or found.received < self._since:
                    self._to_buy[0] += 1
                else:
                    self._sort(found, connection)

    def plan(self, *, given: int, duplicates: int, invalid: int, balance: int) -> Plan:
        """Add up.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        past = self._read_past()
        least = self._to_buy.total() + self._to_verify
        likely, seconds = self._likely(past)
        return Plan(
            given=given,
            duplicates=duplicates,
            invalid=invalid,
            complete=self._complete,
            to_continue=self._to_buy.total() - self._to_buy[0],
            to_start=self._to_buy[0],
            undecodable=self._undecodable,
            least=least,
            likely=likely if least else 0,
            most=self._most(past) if least else 0,
            balance=balance,
            concurrency=self._options.concurrency,
            seconds=seconds,
        )

    def _likely(self, past: Past | None) -> tuple[int | None, float | None]:
        """Return what it likely costs, and how long it takes, if that can be told."""
        options = self._options
        if past is None or past.empty is None or not self._is_known(past.lengths):
            return None, None
        pages = sum(count * past.lengths.rest(had) for had, count in self._to_buy.items())
        empty = self._to_buy[0] * past.empty if options.verify_empty else 0.0
        look_ups = empty + self._to_verify
        likely = round(_cost(pages, look_ups, past.latest))
        if past.seconds is None:
            return likely, None
        seconds = (pages + look_ups) * past.seconds / options.concurrency
        if self._rate is not None:
            seconds = max(seconds, (pages + look_ups) / self._rate)
        return likely, seconds

    def _most(self, past: Past | None) -> int | None:
        """Return the most that it can cost, if that can be told."""
        max_pages = self._options.max_pages
        if max_pages is None:
            return None
        # A showcase on file in part may be stale, and is then bought as a whole.
        kept = not self._options.restart_stale
        pages = sum(count * (max_pages - had * kept) for had, count in self._to_buy.items())
        # All pages of a showcase can be empty, and then its profile is looked up.
        look_ups = self._to_buy.total() * self._options.verify_empty + self._to_verify
        return _cost(pages, look_ups, {} if past is None else past.highest)

    def _is_known(self, lengths: Lengths) -> bool:
        """Tell whether enough is known of how long the showcases are."""
        unknown = sum(count * lengths.unknown(had) for had, count in self._to_buy.items())
        return unknown <= _UNKNOWN * self._to_buy.total()

    def _sort(self, begun: Begun, connection: sqlite3.Connection) -> None:
        showcase = begun.showcase
        told = self._told(begun, connection)
        most = self._options.max_pages
        is_enough = most is not None and told.pages >= most
        # A cursor that led nowhere does so again, out of the pages on file, at no cost.
        is_misled = not is_enough and isinstance(told.error, PaginationError)
        # If all pages are on file, the only thing that can have gone wrong is the look-up.
        is_whole = told.pages > 0 and told.next_cursor is None
        # A showcase that broke off is complete if no more pages are wanted than are on file.
        if not (is_enough or is_whole or is_misled):
            # If the next page is on file all the same, it still cannot be decoded.
            if not told.pages or _replay.goes_on(connection, showcase, told):
                self._undecodable += 1
            else:
                self._to_buy[told.pages] += 1
            return
        self._complete += 1
        # The profile of an empty one may never have been looked up, or be too old by now.
        if is_misled or not self._options.verify_empty:
            return
        has_products = told.usage.products > 0
        if is_enough and has_products:
            # They may all be on pages after those that are wanted.
            kept = _replay.pages(connection, showcase, retried=self._max_body_bytes)
            wanted = islice(kept, most)
            has_products = any(page.products for page in wanted)
        if not has_products:
            profile = find(_routes.tiktok_profile(showcase.handle), floor=0, since=self._since)
            self._to_verify += profile.read(connection) is None

    def _told(self, begun: Begun, connection: sqlite3.Connection) -> Outcome:
        """Return what became of a showcase; by its pages, where they may say more.

        Calls may have bought some since, or a run's limit may hide that the last leads nowhere new.
        """
        showcase, told = begun.showcase, _replay.told(begun.showcase)
        if (
            begun.is_blocked
            or told is None
            or told.status != "complete"
            or _replay.goes_on(connection, showcase, told)
            or (self._options.verify_empty and not told.usage.products)
        ):
            return _replay.so_far(connection, showcase, retried=self._max_body_bytes)
        return told

    def _read_past(self) -> Past | None:
        if self._path is None or not is_begun(self._path):
            return None
        with reading(self._path) as connection:
            return Past.read(connection, self._options.max_pages, _PRICED)


def _cost(pages: N, look_ups: N, prices: Mapping[str, int]) -> N:
    """Return what so many requests cost, where some routes cost more than a credit."""
    page, look_up = (prices.get(route, 1) for route in _PRICED)
    return pages * page + look_ups * look_up
