"""Sorts handles by what an archive holds of them, and adds up what the rest may cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Final

import anyio.lowlevel
import anyio.to_thread
import msgspec

from asyncsfk import _replay, _routes
from asyncsfk._handles import SeenHandles, fingerprint, tiktok_handle
from asyncsfk._keep import find, key_of
from asyncsfk._store._reads import FindShowcase
from asyncsfk._store._schema import reading
from asyncsfk._store._sums import Past
from asyncsfk.errors import InvalidArgumentError, PaginationError
from asyncsfk.plan import Plan
from asyncsfk.usage import Usage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
    from pathlib import Path

    from asyncsfk._options import RunOptions
    from asyncsfk._store._reads import Begun
    from asyncsfk.models import Balance

_CHUNK: Final = 500


class _ToldError(msgspec.Struct):
    """What is of use in a kept error."""

    type: str


class _Told(msgspec.Struct, rename="camel"):
    """What is of use in a kept outcome."""

    status: str
    pages: int = 0
    next_cursor: str | None = None
    account_status: str | None = None
    usage: Usage = Usage()
    error: _ToldError | None = None

    @property
    def is_over(self) -> bool:
        """Whether a run buys no more of it, however many pages are wanted."""
        if self.error is not None:
            # It comes again for nothing, out of the pages that are there.
            return self.error.type == PaginationError.__name__
        return self.status == "complete" and self.next_cursor is None


async def make_plan(
    options: RunOptions,
    path: Path | None,
    rate: float | None,
    handles: Iterable[object] | AsyncIterable[object],
    ask_balance: Callable[[], Awaitable[Balance]],
) -> Plan:
    """Pull handles to their end, look them up in the archive, and say what a run would do.

    Args:
        options: What the run would be told.
        path: The archive's file, if there were one.
        rate: How many requests may start a second.
        handles: Whose showcases.
        ask_balance: Asks for the credits that are left.

    Raises:
        ArchiveError: The archive cannot be read.
        SfkError: The balance could not be had.
    """
    forecast = _Forecast(options, path, rate)
    seen = SeenHandles()
    counts: Counter[str] = Counter()
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
    return await anyio.to_thread.run_sync(
        lambda: forecast.plan(
            given=counts["given"],
            duplicates=counts["duplicates"],
            invalid=counts["invalid"],
            balance=balance,
        )
    )


async def _each(items: Iterable[object] | AsyncIterable[object]) -> AsyncGenerator[object, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for number, item in enumerate(items, 1):
            if number % _CHUNK == 0:
                # Others want to run as well.
                await anyio.lowlevel.checkpoint()
            yield item


class _Forecast:
    """Takes handles in, some at a time, and says what a run over them would do; blocks."""

    def __init__(self, options: RunOptions, path: Path | None, rate: float | None) -> None:
        self._options = options
        self._path = path
        self._rate = rate
        self._since = 0.0 if options.max_age is None else time.time() - options.max_age
        self._complete = 0
        self._to_start = 0
        self._to_verify = 0
        self._undecodable = 0
        self._pages_had: list[int] = []

    def add(self, handles: Sequence[str]) -> None:
        """Sort (normalised, distinct) handles by what the archive holds of them.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        if self._path is None or self._options.refresh or not self._path.exists():
            self._to_start += len(handles)
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
                    self._to_start += 1
                else:
                    self._sort(found, connection)

    def plan(self, *, given: int, duplicates: int, invalid: int, balance: int) -> Plan:
        """Add up.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        options, past = self._options, self._read_past()
        begun = len(self._pages_had)
        least = self._to_start + begun + self._to_verify
        likely: int | None = 0 if least == 0 else None
        if past.pages is not None:
            rest = sum(max(1.0, past.pages - had) for had in self._pages_had)
            look_ups = self._to_start * (past.empty or 0.0) if options.verify_empty else 0.0
            likely = round(self._to_start * past.pages + rest + look_ups) + self._to_verify
        most: int | None = 0 if least == 0 else None
        if options.max_pages is not None:
            # All of its pages can be empty, and then its profile is looked up.
            each = options.max_pages + options.verify_empty
            most = self._to_verify + self._to_start * each
            most += sum(max(1, each - had) for had in self._pages_had)
        seconds: float | None = None
        if likely is not None and past.seconds is not None:
            seconds = likely * past.seconds / options.concurrency
            if self._rate is not None:
                seconds = max(seconds, likely / self._rate)
        return Plan(
            given=given,
            duplicates=duplicates,
            invalid=invalid,
            complete=self._complete,
            to_continue=begun,
            to_start=self._to_start,
            undecodable=self._undecodable,
            least=least,
            likely=likely,
            most=most,
            balance=balance,
            concurrency=options.concurrency,
            seconds=seconds,
        )

    def _sort(self, begun: Begun, connection: sqlite3.Connection) -> None:
        showcase = begun.showcase
        outcome = showcase.outcome
        if outcome is None or showcase.status != "complete":
            # Its pages may be there to the end all the same: calls alone have bought them.
            outcome = _replay.outcome(connection, showcase, products=False).to_json()
        told = msgspec.json.decode(outcome, type=_Told)
        most = self._options.max_pages
        is_enough = most is not None and told.pages >= most
        if begun.is_blocked and not is_enough:
            self._undecodable += 1
            return
        # One that broke off is complete where no more of it is wanted than is there.
        if not is_enough and not told.is_over:
            self._pages_had.append(max(1, told.pages))
            return
        self._complete += 1
        # Of an empty one the profile was perhaps never looked up.
        is_known = told.usage.products or told.account_status is not None or told.error is not None
        if self._options.verify_empty and not is_known:
            profile = find(_routes.tiktok_profile(showcase.handle), floor=0, since=self._since)
            self._to_verify += profile.read(connection) is None

    def _read_past(self) -> Past:
        if self._path is None or not self._path.exists():
            return Past()
        with reading(self._path) as connection:
            return Past.read(connection, self._options.max_pages)
