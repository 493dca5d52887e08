"""What goes into the file and comes out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

import msgspec

from asyncsfk._packing import GZIP, pack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

# Below this, packing a body costs more time than writing it plainly.
_WORTH_PACKING: Final = 64 * 1024
_MOST: Final = 1 << 40
_WORTH_KEEPING: Final = 0.8  # of its size


class Write(Protocol):
    """Something to be written, within a transaction of others."""

    def apply(self, connection: sqlite3.Connection) -> Any:  # noqa: ANN401 - of each its own
        """Write it and return what its submitter gets."""


class Read(Protocol):
    """Something to be looked for."""

    def read(self, connection: sqlite3.Connection) -> Any:  # noqa: ANN401 - of each its own
        """Return what is found."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as the ledger keeps it.

    Attributes:
        at: When it ended, in seconds since 1970.
        seconds: How long it took; ``None`` for what was not measured.
        number: 1 for the first attempt of a call.
        status: HTTP status, if an answer came.
        failure: Name of the error's class; ``None`` for a good answer.
        bytes: Body bytes received.
    """

    at: float
    seconds: float | None
    route: str
    handle: str | None
    number: int
    status: int | None
    failure: str | None
    charged: int
    maybe: int
    bytes: int = 0
    request_id: str | None = None

    _INSERT: ClassVar = (
        "INSERT INTO attempt (at, seconds, route, handle, number, status, failure, charged, "
        "maybe, bytes, request_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write it."""
        bounded = msgspec.structs.replace(
            self, charged=_bounded(self.charged), maybe=_bounded(self.maybe)
        )
        connection.execute(self._INSERT, msgspec.structs.astuple(bounded))


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that was paid for, with the attempt that got it.

    Attributes:
        key: What was asked for, shortened to 16 bytes.
        region: Part of a showcase's identity; ``None`` where the route is another.
        decoded: Whether this version could decode it.
        encoding: Of the body: ``gzip``, or nothing for a plain one.
        body: As it came over the wire.
        attempt: The attempt that got it.
        opens: It may be the first page of its showcase in the file.
        floor: Where it begins a showcase anew: pages below this id are of an older one.
        apart: It is of another time than the showcase that is there, and no part of it if that
            has such a page.
        unless_from: It is not kept if there is one under its key from this id on.
    """

    key: bytes
    region: str | None
    cursor: str | None
    decoded: bool
    encoding: str
    body: bytes
    attempt: Attempt
    opens: bool = False
    floor: int | None = None
    apart: bool = False
    unless_from: int | None = None

    _INSERT: ClassVar = (
        "INSERT INTO page (key, route, handle, region, cursor, request_id, charged, maybe, "
        "received, decoded, encoding, body, apart) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )

    def apply(self, connection: sqlite3.Connection) -> int:
        """Write it and its attempt; return its id."""
        attempt = self.attempt
        attempt.apply(connection)
        if self.unless_from is not None:
            same = Find(self.key, self.unless_from).read(connection)
            if same is not None:
                return same.id
        if self.opens:
            handle, region = attempt.handle, self.region or ""
            connection.execute(
                "INSERT INTO showcase (handle, region) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (handle, region),
            )
            if self.floor is not None:
                connection.execute(
                    "UPDATE showcase SET floor = ?, status = NULL, outcome = NULL "
                    "WHERE handle = ? AND region = ?",
                    (self.floor, handle, region),
                )
        encoding, body = _packed(self.encoding, self.body)
        cursor = connection.execute(
            self._INSERT,
            (
                self.key,
                attempt.route,
                attempt.handle,
                self.region,
                self.cursor,
                attempt.request_id,
                _bounded(attempt.charged),
                _bounded(attempt.maybe),
                attempt.at,
                self.decoded,
                encoding,
                body,
                self.apart and self._is_there(connection),
            ),
        )
        assert cursor.lastrowid is not None  # noqa: S101 - for the type checkers: it was inserted
        return cursor.lastrowid

    def _is_there(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the showcase that is there has a page under this key."""
        row = connection.execute(
            "SELECT 1 FROM page WHERE key = ? AND NOT apart AND id >= "
            "(SELECT floor FROM showcase WHERE handle = ? AND region = ?) LIMIT 1",
            (self.key, self.attempt.handle, self.region or ""),
        ).fetchone()
        return row is not None


class Showcase(msgspec.Struct, frozen=True, kw_only=True):
    """How far a creator's showcase has come, as it is kept.

    Attributes:
        floor: Its pages have ids from here on; lower ones are of an older showcase.
        stamps: Which of the runs that were under way then have finished it.
        status: Of its outcome; ``None`` while it is under way.
        outcome: The outcome as JSON, without its products.
    """

    handle: str
    region: str
    floor: int = 0
    stamps: str = ""
    status: str | None = None
    finished: float | None = None
    outcome: bytes | None = None

    COLUMNS: ClassVar = "handle, region, floor, stamps, status, finished, outcome"

    @classmethod
    def of(cls, columns: Sequence[Any]) -> Showcase:
        """Return what a row of those columns says."""
        return cls(**dict(zip(cls.COLUMNS.split(", "), columns, strict=True)))

    def is_finished_by(self, stamp: int) -> bool:
        """Tell whether a run has finished it."""
        return str(stamp) in self.stamps.split()


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """That a run has finished a showcase, and with what outcome.

    Attributes:
        stamp: Which run.
        others: Which others are under way: what they have finished stays noted.
        outcome: As JSON, without its products; ``None`` leaves the one that is there.
    """

    handle: str
    region: str
    stamp: int
    others: frozenset[int]
    status: str
    finished: float
    outcome: bytes | None

    _STAMP: ClassVar = (
        "INSERT INTO showcase (handle, region, stamps) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET stamps = excluded.stamps"
    )
    _OUTCOME: ClassVar = (
        "UPDATE showcase SET status = ?, finished = ?, outcome = ? WHERE handle = ? AND region = ?"
    )
    _EMPTY: ClassVar = ("failed", "skipped")

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write it.

        An outcome with nothing in it does not take the place of one that has pages on file, such
        as when buying them afresh failed.
        """
        stamps = [str(self.stamp)]
        if self.others:
            row = connection.execute(
                "SELECT stamps FROM showcase WHERE handle = ? AND region = ?",
                (self.handle, self.region),
            ).fetchone()
            noted: list[str] = [] if row is None else row[0].split()
            stamps += [stamp for stamp in noted if int(stamp) in self.others]
        connection.execute(self._STAMP, (self.handle, self.region, " ".join(stamps)))
        if self.outcome is None:
            return
        guard = ""
        if self.status in self._EMPTY:
            guard = " AND (status IS NULL OR status IN ('failed', 'skipped'))"
        connection.execute(
            f"{self._OUTCOME}{guard}",
            (self.status, self.finished, self.outcome, self.handle, self.region),
        )


class Exposure(msgspec.Struct, frozen=True):
    """How many credits requests under way may cost, should we die before their answers."""

    session: int
    credits: int

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write it."""
        connection.execute(
            "UPDATE session SET exposed = ? WHERE id = ?", (_bounded(self.credits), self.session)
        )


class Note(msgspec.Struct, frozen=True):
    """A fact about the whole file."""

    name: str
    value: str

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write it."""
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (self.name, self.value))


class Decoded(msgspec.Struct, frozen=True):
    """A page that can be decoded after all."""

    id: int

    def apply(self, connection: sqlite3.Connection) -> None:
        """Write it."""
        connection.execute("UPDATE page SET decoded = 1 WHERE id = ?", (self.id,))


class PageRow(NamedTuple):
    """A page as it is kept; see `Page`."""

    id: int
    route: str
    handle: str | None
    region: str | None
    cursor: str | None
    request_id: str | None
    charged: int
    maybe: int
    received: float
    decoded: int
    encoding: str
    body: bytes

    @classmethod
    def select(cls, rest: str) -> str:
        """Return the SQL that finds pages."""
        return f"SELECT {', '.join(cls._fields)} FROM page {rest}"  # noqa: S608 - our own words


class Totals(NamedTuple):
    """What the ledger adds up to."""

    requests: int
    retries: int
    charged: int
    maybe: int
    bytes: int
    pages: int

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Totals:
        """Add the ledger up."""
        sums = connection.execute(
            "SELECT count(*) FILTER (WHERE number > 0), count(*) FILTER (WHERE number > 1), "
            "ifnull(sum(charged), 0), ifnull(sum(maybe), 0), ifnull(sum(bytes), 0), "
            "(SELECT count(*) FROM page) FROM attempt"
        ).fetchone()
        return cls(*sums)


class Find(NamedTuple):
    """Look for the newest page under a key, from an id and a time on.

    Attributes:
        alone: Take those too that are no part of their showcase.
    """

    key: bytes
    floor: int
    since: float = 0.0
    alone: bool = True

    def read(self, connection: sqlite3.Connection) -> PageRow | None:
        """Find it."""
        row = connection.execute(
            PageRow.select(
                "WHERE key = ? AND id >= ? AND received >= ? AND (? OR NOT apart) "
                "ORDER BY id DESC LIMIT 1"
            ),
            self,
        ).fetchone()
        return None if row is None else PageRow(*row)


class FindShowcase(NamedTuple):
    """Look how far a showcase has come, and when its first page was received."""

    handle: str
    region: str
    first: bytes

    def read(self, connection: sqlite3.Connection) -> tuple[Showcase, float | None] | None:
        """Find it."""
        row = connection.execute(
            f"SELECT {Showcase.COLUMNS} FROM showcase WHERE handle = ? AND region = ?",  # noqa: S608 - our own words
            (self.handle, self.region),
        ).fetchone()
        if row is None:
            return None
        showcase = Showcase.of(row)
        first = connection.execute(
            "SELECT received FROM page WHERE key = ? AND id >= ? AND NOT apart "
            "ORDER BY id DESC LIMIT 1",
            (self.first, showcase.floor),
        ).fetchone()
        return showcase, None if first is None else first[0]


def _bounded(credits: int) -> int:  # noqa: A002 - the API's word
    """Return a number of credits that SQLite can hold, and add up: the API's have no bound."""
    return min(credits, _MOST)


def _packed(encoding: str, body: bytes) -> tuple[str, bytes]:
    """Return a plain body packed, where that pays."""
    if encoding or len(body) < _WORTH_PACKING:
        return encoding, body
    packed = pack(body)
    return (GZIP, packed) if len(packed) < len(body) * _WORTH_KEEPING else (encoding, body)
