"""What became of each creator of a run, and of the run so far."""

from typing import Literal, Self

import msgspec

from asyncsfk._text import abridged
from asyncsfk.errors import SfkError
from asyncsfk.models import Model, Product
from asyncsfk.usage import Usage

__all__ = ["Outcome", "Progress", "Status"]

Status = Literal["complete", "partial", "failed", "skipped"]


class Outcome(Model, frozen=True, kw_only=True):
    """What became of one creator; every distinct handle of a run gets exactly one.

    Attributes:
        handle: The handle, normalised; an invalid one as it was given, in printable form and cut to
            80 characters.
        status: ``complete``: everything asked for is here (`next_cursor` is then set only where
            ``max_pages`` cut the showcase short). ``partial``: something is here and `error` says
            why not all. ``failed``: nothing is here, `error` says why. ``skipped``: not tried,
            because `error` had stopped the run.
        region: The region that was asked for, in capitals.
        products: The products received; always empty with ``run.pages()``, which hands them out.
        pages: How many pages were received.
        usage: What this creator cost.
        next_cursor: Where to go on: ``client.showcase(handle, cursor=outcome.next_cursor)``.
        error: Why it is not complete.
        account_status: A `LookupStatus`, where ``verify_empty=True`` met an empty showcase.
        request_ids: The API's ids of the answers, in order: of the pages, and of the account's
            look-up if there was one.
    """

    handle: str
    status: Status
    region: str | None = None
    products: tuple[Product, ...] = ()
    pages: int = 0
    usage: Usage = Usage()
    next_cursor: str | None = None
    error: SfkError | None = None
    account_status: str | None = None
    request_ids: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return abridged(self)

    def raise_for_error(self) -> Self:
        """Return this outcome if it is complete, else raise its `error`.

        Raises:
            SfkError: Why the outcome is not complete.
        """
        if self.error is not None:
            # Otherwise its traceback would grow each time that it is raised.
            raise self.error.with_traceback(None)
        return self


class Progress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a run stands.

    Attributes:
        total: How many handles were given, if that is known beforehand (duplicates included).
        started: Handles begun, the finished ones included; invalid and skipped ones, too.
        complete: Outcomes with that status; `partial`, `failed` and `skipped` likewise.
        duplicates: Handles passed over because they came before.
        in_flight: Requests on their way in the whole client.
        width: How many requests the client now allows itself at once.
        paused_for: Seconds until the client sends again; `Paused` has the reasons for a pause.
        elapsed: Seconds since the run began.
        usage: What the run has cost.
    """

    total: int | None = None
    started: int = 0
    complete: int = 0
    partial: int = 0
    failed: int = 0
    skipped: int = 0
    duplicates: int = 0
    in_flight: int = 0
    width: int = 0
    paused_for: float = 0.0
    elapsed: float = 0.0
    usage: Usage = Usage()

    @property
    def done(self) -> int:
        """How many outcomes there are."""
        return self.complete + self.partial + self.failed + self.skipped
