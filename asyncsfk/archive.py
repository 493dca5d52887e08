"""An archive: every page that was paid for, in one file, so that it need not be paid for again."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from asyncsfk import _replay
from asyncsfk._checks import check_callback, check_count, check_seconds, is_path, region_code
from asyncsfk._opening import Opening
from asyncsfk._origin import ORIGIN
from asyncsfk._store import _scans, _sums
from asyncsfk._store._file import Durability, writing
from asyncsfk._store._schema import reading
from asyncsfk._store._sqlite import beside, shown
from asyncsfk._store._tables import Tables
from asyncsfk._store._writes import Decoded
from asyncsfk._text import described
from asyncsfk.config import DEFAULT_MAX_BODY_BYTES
from asyncsfk.errors import InvalidArgumentError
from asyncsfk.handles import tiktok_handle
from asyncsfk.records import (
    ArchivedAnswer,
    ArchiveInfo,
    LedgerEntry,
    answer_of,
    entry_of,
    when,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Generator, Iterable, Iterator

    from asyncsfk._store._reads import Showcase
    from asyncsfk.models import Product, ShowcasePage
    from asyncsfk.outcomes import Outcome
    from asyncsfk.usage import Usage

__all__ = ["Archive"]

T = TypeVar("T")

_STATUSES: Final = ("complete", "partial", "failed", "under_way")


class Archive:
    """One file that holds one job: each page that was paid for, and what each request cost.

    ::

        async with Archive("brands.sfk") as archive, client.showcases(h, archive=archive) as run:
            ...

        for handle, product in Archive("brands.sfk").products():   # needs no client
            ...

    Open it with ``async with`` to let calls write to it. A run that is given one that is not open,
    or a path, opens it, and the last such run closes it. While it is open it belongs to one event
    loop: a run in the event loop of another thread is refused.

    The reading methods open the file for themselves. They can be called at any time and from any
    thread, also while another process is writing the file. They block, as files do.

    The file is an SQLite database. While it is open there are ``-wal``, ``-shm`` and ``-lock``
    beside it; once it is closed it is a single file. It must lie on a local disk.

    Args:
        path: Where the file is, or will be made; by custom it ends in ``.sfk``.
        durability: ``full``: what was handed out survives a power failure. ``normal`` is faster:
            what was handed out survives the death of the process, but a power failure can take the
            last moments with it.
        wait: Seconds to wait for another process that has it open, before an
            `ArchiveLockedError`.

    Raises:
        InvalidArgumentError: An argument is unusable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        wait: float = 0.0,
    ) -> None:
        if not is_path(path):
            raise InvalidArgumentError(
                f"an archive needs the path of a file, not {described(path)}"
            )
        if durability not in ("full", "normal"):
            raise InvalidArgumentError(
                f"durability must be full or normal, not {described(durability)}"
            )
        check_seconds("wait", wait)
        self._path = _absolute(path)
        self._opening = Opening(self._path, durability, wait)

    def __reduce__(self) -> tuple[Any, ...]:
        # For another process, where it is not open, whether or not it is open here.
        opening = self._opening
        return partial(type(self), self._path, durability=opening.durability, wait=opening.wait), ()

    def __repr__(self) -> str:
        return f"<Archive {str(self._path)!r}, {'open' if self.is_open else 'not open'}>"

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether calls can write to it."""
        return self._opening.is_open

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Open the file for writing; make it if there is none.

        Raises:
            ArchiveLockedError: Another process, or another opening in this one, has it open.
            ArchiveFormatError: It is not an archive, is damaged, or is of a newer version.
            ArchiveWriteError: It cannot be written.
            ArchiveError: No thread could be started for it.
            ClientStateError: It is open already, or in use in another event loop.
        """
        await self._opening.open()

    async def aclose(self) -> None:
        """Write what is left, and close the file.

        Closing twice is fine: a second caller waits for the same end.

        Raises:
            ArchiveError: The end could not be written; what was committed is there.
            ClientStateError: It was opened in another event loop, which is running.
        """
        await self._opening.aclose()

    # --- reading, with neither client nor network

    def usage(self) -> Usage:
        """Return the sum of the ledger: answers of all routes as pages, and no products.

        What a process had on its way when it died is in it once the file has been opened again,
        and in `ArchiveInfo.unsettled` until then.

        Raises:
            ArchiveError: The file cannot be read.
        """
        with reading(self._path) as connection:
            return _sums.usage(connection)

    def info(self) -> ArchiveInfo:
        """Return what the archive holds.

        Raises:
            ArchiveError: The file cannot be read.
        """
        with reading(self._path) as connection:
            # One transaction, so all is of one moment: what is exposed now may be charged the next.
            connection.execute("BEGIN")
            usage, summary = _sums.usage(connection), _sums.Summary.read(connection)
            return ArchiveInfo(
                path=shown(self._path),
                size=_size(self._path),
                origin=summary.notes.get(ORIGIN),
                **{name: summary.statuses.get(name, 0) for name in _STATUSES},
                answers=usage.pages,
                undecodable=summary.undecodable,
                usage=usage,
                unsettled=summary.exposed,
                first=when(summary.first),
                last=when(summary.last),
            )

    def outcomes(
        self, handle: str | None = None, *, region: str | None = None
    ) -> Iterator[Outcome]:
        """Iterate the outcome of each creator, with its products, in the order in which they came.

        A showcase that was under way when the file was last written is ``partial``.

        Args:
            handle: Only this creator.
            region: Only what was asked for this region; if not given, all that is there.

        Raises:
            InvalidArgumentError: An argument is unusable.
            ArchiveError: The file cannot be read.
        """
        return self._replayed(handle, region, _replay.outcomes)

    def errors(self, handle: str | None = None, *, region: str | None = None) -> Iterator[Outcome]:
        """Iterate the outcome of each creator that is not complete, without products.

        Args:
            handle: Same as in `outcomes`.
            region: Same as in `outcomes`.

        Raises:
            InvalidArgumentError: An argument is unusable.
            ArchiveError: The file cannot be read.
        """
        return self._replayed(handle, region, _replay.errors)

    def products(
        self, handle: str | None = None, *, region: str | None = None
    ) -> Iterator[tuple[str, Product]]:
        """Iterate all products, each with its creator's handle, a page at a time in memory.

        Args:
            handle: Same as in `outcomes`.
            region: Same as in `outcomes`; `pages` tells which region a product is of.

        Raises:
            InvalidArgumentError: An argument is unusable.
            ArchiveError: The file cannot be read.
        """
        pages = self.pages(handle, region=region)
        return ((page.handle, product) for page in pages for product in page.products)

    def pages(
        self, handle: str | None = None, *, region: str | None = None
    ) -> Iterator[ShowcasePage]:
        """Iterate the pages of showcases as they are now, each showcase from its first page on.

        Args:
            handle: Same as in `outcomes`.
            region: Same as in `outcomes`.

        Raises:
            InvalidArgumentError: An argument is unusable.
            ArchiveError: The file cannot be read.
        """
        return self._replayed(handle, region, _replay.pages)

    def _replayed(
        self,
        handle: str | None,
        region: str | None,
        read: Callable[[sqlite3.Connection, Showcase], Iterable[T]],
    ) -> Iterator[T]:
        # Checked here, and not when the first item is asked for, which may be far from this call.
        wanted = None if handle is None else tiktok_handle(handle), region_code(region)

        def each() -> Iterator[T]:
            with reading(self._path) as connection:
                for showcase in _scans.showcases(connection, *wanted):
                    yield from read(connection, showcase)

        return each()

    def answers(self) -> Iterator[ArchivedAnswer]:
        """Iterate every answer that was ever kept, of any route, in the order in which they came.

        Answers that were later bought afresh are among them.

        Raises:
            ArchiveError: The file cannot be read.
        """
        with reading(self._path) as connection:
            yield from map(answer_of, _scans.pages(connection))

    def ledger(self) -> Iterator[LedgerEntry]:
        """Iterate the requests that were made, in the order of their ends.

        Raises:
            ArchiveError: The file cannot be read.
        """
        with reading(self._path) as connection:
            yield from map(entry_of, _scans.attempts(connection))

    def salvage(
        self,
        on_answer: Callable[[ArchivedAnswer], object] | None = None,
        *,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> int:
        """Decode the answers that could not be decoded when they came; costs nothing.

        An older version may not have been able to, or ``max_body_bytes`` was in the way. The next
        run goes on from them without buying them again.

        Args:
            on_answer: Called with each answer that can be decoded now. One at which it raises comes
                again the next time.
            max_body_bytes: The largest body, once unpacked.

        Returns:
            How many can be decoded now.

        Raises:
            InvalidArgumentError: ``on_answer`` cannot be called, or would have to be awaited; or
                ``max_body_bytes`` is not a whole number of 1 or more.
            ArchiveLockedError: Somebody has the archive open.
            ArchiveError: The file cannot be used.
        """
        check_callback("on_answer", on_answer)
        check_count("max_body_bytes", max_body_bytes)
        count = 0
        with closing(self._salvaged(max_body_bytes)) as answers:
            for answer in answers:
                count += 1
                if on_answer is not None:
                    on_answer(answer)
        return count

    def _salvaged(self, max_body_bytes: int) -> Generator[ArchivedAnswer]:
        with writing(self._path) as connection:
            for row in _scans.undecoded_pages(connection):
                answer = answer_of(row)
                try:
                    answer.decode(max_body_bytes=max_body_bytes)
                except _replay.CANNOT_DECODE:
                    continue
                try:
                    # Marked first, so that `on_answer` finds it among the pages of its showcase.
                    Decoded(row.id).apply(Tables(connection))
                    yield msgspec.structs.replace(answer, decoded=True)
                except BaseException:
                    # It was not taken, as on a full disk: unmark it, so that it comes again.
                    Decoded(row.id, can_be=False).apply(Tables(connection))
                    raise


def _absolute(path: str | os.PathLike[str]) -> Path:
    """Return a path that leads to the same file whatever folder the process changes to.

    Raises:
        InvalidArgumentError: There can be no such file.
    """
    try:
        os.fsencode(path)
        place = Path(path).absolute()
    except (UnicodeError, OSError, TypeError) as error:
        raise InvalidArgumentError(f"an archive cannot be at {described(path)}: {error}") from error
    if not place.name:
        raise InvalidArgumentError(f"an archive needs the path of a file, not {described(path)}")
    if "\0" in str(place):
        raise InvalidArgumentError(
            f"an archive cannot be at {described(path)}: no name has a NUL in it"
        )
    return place


def _size(path: Path) -> int:
    """Return how many bytes an archive has, with those still in the log beside it."""
    size = 0
    for part in (path, beside(path, "wal")):
        with suppress(OSError):
            size += part.stat().st_size
    return size


def opening_of(archive: object) -> Opening:
    """Return the `Opening` through which calls write to an archive.

    Raises:
        InvalidArgumentError: It is something else, such as the path of an archive.
    """
    if not isinstance(archive, Archive):
        raise InvalidArgumentError(
            "archive must be an Archive, which is opened with `async with` for a call alone, not "
            f"{described(archive)}"
        )
    return archive._opening  # noqa: SLF001 - of this module


# Users know it by its public name, in tracebacks too.
Archive.__module__ = "asyncsfk"
