"""The calls of a client that fetch many creators' showcases."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import msgspec

from asyncsfk._checks import check_limit, region_code
from asyncsfk._options import RunOptions
from asyncsfk._run import invalid_handle
from asyncsfk._single_calls import SingleCalls
from asyncsfk._text import described
from asyncsfk.budget import Budget
from asyncsfk.errors import InvalidArgumentError
from asyncsfk.handles import tiktok_handle

if TYPE_CHECKING:
    import os

    from asyncsfk._opening import Opening
    from asyncsfk._run import ShowcaseRun
    from asyncsfk.archive import Archive
    from asyncsfk.config import Config
    from asyncsfk.outcomes import Outcome
    from asyncsfk.plan import Plan


class BulkCalls(SingleCalls):
    """What can be asked of many creators at once through an open client."""

    @property
    @abstractmethod
    def config(self) -> Config:
        """The client's settings; they pickle without the key."""

    @property
    @abstractmethod
    def budget(self) -> Budget:
        """What the client may spend and has spent, with or without a ceiling."""

    @abstractmethod
    def _make_run(
        self,
        handles: Iterable[object] | AsyncIterable[object],
        options: RunOptions,
        max_credits: int | Budget | None,
        archive: Opening | None,
    ) -> ShowcaseRun:
        """Return a run, yet to be entered; raises if the client is not open."""

    def showcases(
        self,
        handles: Iterable[str] | AsyncIterable[str],
        *,
        region: str | None = None,
        concurrency: int | None = None,
        max_pages: int | None = None,
        verify_empty: bool = False,
        ordered: bool = False,
        dedupe: bool = True,
        max_credits: int | Budget | None = None,
        archive: Archive | str | os.PathLike[str] | None = None,
        max_age: float | None = None,
        refresh: bool = False,
        restart_stale: bool = False,
    ) -> ShowcaseRun:
        """Return a run over many creators' showcases: one credit a page.

        ::

            async with client.showcases(handles) as run:
                async for outcome in run:
                    print(outcome.handle, outcome.status, len(outcome.products))

        Handles are pulled as they are needed, so there may be any number of them; some
        ``concurrency`` pages are in memory at a time. One creator's failure does not disturb the
        others. The run stops at what every further request would meet, too: 401, 402, 403, a
        ceiling of credits that is reached, an archive that cannot be written, an API that is out
        of reach for `Retry.outage` seconds, a borrowed session that is closed. Creators under way
        are then partial, the rest skipped.

        With an archive, the same call goes on where the last run ended, however it ended: pages on
        file are handed out at no cost, and only what is missing is bought.

        Args:
            handles: The creators, each as ``mrbeast``, ``@MrBeast`` or a profile's URL.
            region: A country code of two letters, e.g. ``US``, for all of them.
            concurrency: How many creators to work on at once; if not given, the client's own.
            max_pages: The most pages to fetch of a creator. Each that is not on file costs a
                credit, and a retry can cost another: ``max_credits`` is what bounds the credits.
            verify_empty: Where a showcase is empty, spend one more credit on the creator's
                profile and put found, private or not_found in `Outcome.account_status`.
            ordered: Hand outcomes out in the order of the handles. Workers then wait behind a long
                showcase, so this is slower.
            dedupe: Pass over handles that came before; each is remembered in some 25 bytes, or in
                the archive.
            max_credits: The most that the run may spend; with an archive, that all runs of that
                archive together may spend, and, while this run lasts, single calls into it. Or a
                `Budget` that it shares with others, which knows nothing of archives.
            archive: Where each page is kept before it is handed out: an `Archive`, or its path. One
                that is not open yet is opened, and closed when the run ends.
            max_age: Seconds: a showcase on file whose first page is older is bought afresh.
            refresh: Buy every showcase afresh.
            restart_stale: If the API no longer takes the cursor of a showcase on file in part,
                start it over; without this it stays partial, with a `StaleCursorError`.

        Raises:
            InvalidArgumentError: An argument is unusable; nothing was sent. An invalid handle
                among many is a failed outcome instead.
            ConfigurationError: There is no API key.
            ClientStateError: The client is not open. The loop raises it if the client is closed
                meanwhile, and entering the run if another event loop has the archive in use.
            ArchiveError: The archive cannot be used; raised on entering, before anything is sent.

        Source: ``GET /v1/tiktok/profiles/{handle}/showcase-products``.
        """
        _check_handles(handles)
        _check_max_credits(max_credits)
        options = self._options(
            archive,
            region=region,
            concurrency=concurrency,
            max_pages=max_pages,
            verify_empty=verify_empty,
            ordered=ordered,
            dedupe=dedupe,
            max_age=max_age,
            refresh=refresh,
            restart_stale=restart_stale,
        )
        return self._make_run(handles, options, max_credits, _as_opening(archive))

    async def fetch_showcases(
        self,
        handles: Iterable[str] | AsyncIterable[str],
        *,
        region: str | None = None,
        concurrency: int | None = None,
        max_pages: int | None = None,
        verify_empty: bool = False,
        max_credits: int | Budget | None = None,
        archive: Archive | str | os.PathLike[str] | None = None,
        max_age: float | None = None,
        refresh: bool = False,
        restart_stale: bool = False,
    ) -> list[Outcome]:
        """Fetch many creators' showcases and return their outcomes: one credit a page.

        Holds everything in memory: for more than some thousand creators use `showcases`.

        Args:
            handles: Same as in `showcases`.
            region: Same as in `showcases`.
            concurrency: Same as in `showcases`.
            max_pages: Same as in `showcases`.
            verify_empty: Same as in `showcases`.
            max_credits: Same as in `showcases`.
            archive: Same as in `showcases`.
            max_age: Same as in `showcases`.
            refresh: Same as in `showcases`.
            restart_stale: Same as in `showcases`.

        Returns:
            One outcome for each handle, in the order of the handles. Duplicates of a valid handle
            share one object, whose cost is to be counted once.

        Raises:
            InvalidArgumentError: As `showcases`.
            ConfigurationError: As `showcases`.
            ArchiveError: The archive cannot be used; nothing was sent.
            ClientStateError: The client is not open, or was closed meanwhile; what had come by then
                is only in the archive, if there is one.
        """
        _check_handles(handles)
        if isinstance(handles, AsyncIterable):
            handles = [handle async for handle in handles]
        region = region_code(region)
        slots = [_outcome_or_handle(handle, region) for handle in handles]
        valid = [slot for slot in slots if isinstance(slot, str)]
        async with self.showcases(
            valid,
            region=region,
            concurrency=concurrency,
            max_pages=max_pages,
            verify_empty=verify_empty,
            max_credits=max_credits,
            archive=archive,
            max_age=max_age,
            refresh=refresh,
            restart_stale=restart_stale,
        ) as run:
            outcomes: dict[str, Outcome] = {}
            async for outcome in run:
                # If the archive broke, a handle that was given again can have a second outcome.
                outcomes.setdefault(outcome.handle, outcome)
        return [outcomes[slot] if isinstance(slot, str) else slot for slot in slots]

    async def plan(
        self,
        handles: Iterable[str] | AsyncIterable[str],
        *,
        region: str | None = None,
        concurrency: int | None = None,
        max_pages: int | None = None,
        verify_empty: bool = False,
        max_credits: int | Budget | None = None,
        archive: Archive | str | os.PathLike[str] | None = None,
        max_age: float | None = None,
        refresh: bool = False,
        restart_stale: bool = False,
    ) -> Plan:
        """Tell what `showcases` would do and cost; only asks for the balance, which is free.

        ::

            plan = await client.plan(handles, archive="brands.sfk")
            print(plan.to_start, "creators to start, some", plan.likely, "credits")

        Takes what `fetch_showcases` takes, so that one dict of options does for both. Remembers
        each distinct handle in some 25 bytes.

        Args:
            handles: Same as in `showcases`; they are pulled to their end.
            region: Same as in `showcases`.
            concurrency: Same as in `showcases`.
            max_pages: Same as in `showcases`.
            verify_empty: Same as in `showcases`.
            max_credits: Same as in `showcases`; what it leaves is `Plan.left`.
            archive: Same as in `showcases`; it is only read, and need neither be open nor exist.
            max_age: Same as in `showcases`.
            refresh: Same as in `showcases`.
            restart_stale: Same as in `showcases`; only the API knows which cursors are stale, so
                `Plan.most` takes all showcases on file in part to be started over.

        Raises:
            InvalidArgumentError: An argument is unusable; nothing was sent.
            ArchiveError: The archive cannot be read, or holds answers of another origin.
            SfkError: The balance could not be fetched.
        """
        from asyncsfk._forecast import left_of, make_plan  # noqa: PLC0415 - see `_as_opening`

        _check_handles(handles)
        _check_max_credits(max_credits)
        options = self._options(
            archive,
            region=region,
            concurrency=concurrency,
            max_pages=max_pages,
            verify_empty=verify_empty,
            max_age=max_age,
            refresh=refresh,
            restart_stale=restart_stale,
        )
        opening = _as_opening(archive)
        path = None if opening is None else opening.path
        if path is not None:
            from asyncsfk._origin import check_file_origin  # noqa: PLC0415 - see `_as_opening`

            await anyio.to_thread.run_sync(check_file_origin, path, self.config.base_url)
        plan = await make_plan(options, path, self.config, handles, self.balance)
        left = await anyio.to_thread.run_sync(left_of, max_credits, path)
        ceilings = [credits for credits in (left, self.budget.left) if credits is not None]
        return msgspec.structs.replace(plan, left=min(ceilings, default=None))

    def _options(
        self,
        archive: object,
        *,
        concurrency: int | None,
        **told: Any,  # noqa: ANN401 - the other fields of RunOptions
    ) -> RunOptions:
        width = self.config.concurrency if concurrency is None else concurrency
        options = RunOptions(concurrency=width, **told)
        of_archives = (options.max_age is not None, options.refresh, options.restart_stale)
        if archive is None and any(of_archives):
            raise InvalidArgumentError("max_age, refresh and restart_stale need an archive")
        return options


def _as_opening(value: Archive | str | os.PathLike[str] | None) -> Opening | None:
    """Return the `Opening` that writes to an archive, which may be given by its path."""
    if value is None:
        return None
    from asyncsfk.archive import Archive, opening_of  # noqa: PLC0415 - loads SQLite, as not all need

    return opening_of(value if isinstance(value, Archive) else Archive(value))


def _check_handles(handles: object) -> None:
    """Refuse what cannot be a list of handles, such as a single handle.

    Raises:
        InvalidArgumentError: It is a string, or cannot be iterated.
    """
    if isinstance(handles, str | bytes) or not isinstance(handles, Iterable | AsyncIterable):
        raise InvalidArgumentError(
            f"handles must be a list or another iterable of handles, not {described(handles)}"
        )


def _check_max_credits(value: object) -> None:
    """Refuse what is not a ceiling of credits.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not isinstance(value, Budget):
        check_limit("max_credits", value)


def _outcome_or_handle(given: object, region: str | None) -> str | Outcome:
    try:
        return tiktok_handle(given)
    except InvalidArgumentError as error:
        return invalid_handle(error, region)
