"""What a run would do and cost, before it is run."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Plan"]


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run over some handles would do and cost; made by `asyncsfk.Client.plan`.

    Its credits are those of good answers: a retry after a lost answer can cost more. What bounds a
    run for certain is ``max_credits``.

    Attributes:
        given: How many handles were given.
        duplicates: How many of them came before.
        invalid: How many distinct ones are not handles.
        complete: Creators with nothing left to buy: all that is wanted of the showcase is in the
            archive, or its pages lead nowhere new. Free, but for profiles with ``verify_empty``.
        to_continue: Creators whose showcase is there in part.
        to_start: Creators with nothing usable in the archive.
        undecodable: Creators with a page in the archive that this client cannot decode; it is not
            bought again, so they are free.
        least: Credits that it costs at least, unless the API refuses what is asked for.
        likely: Credits that it likely costs, going by the showcases in the archive and what a page
            cost last; ``None`` if there are none, or too many were cut short to tell.
        most: Credits that it costs at most, at the highest price in the archive, and with
            ``restart_stale`` if every cursor should be stale; ``None`` without ``max_pages``,
            unless nothing is left to buy.
        balance: Credits that the account has.
        left: Credits that the client's ceiling and ``max_credits`` leave for it; ``None`` if there
            is neither.
        concurrency: How many requests at once the forecast is for.
        seconds: How long it likely takes, going by the requests in the archive; ``None`` if those
            do not tell.
    """

    given: int
    duplicates: int
    invalid: int
    complete: int
    to_continue: int
    to_start: int
    least: int
    likely: int | None
    most: int | None
    balance: int
    concurrency: int
    seconds: float | None
    undecodable: int = 0
    left: int | None = None

    @property
    def distinct(self) -> int:
        """How many creators it is about."""
        return self.complete + self.to_continue + self.to_start + self.undecodable

    @property
    def covered(self) -> Literal["certain", "likely", "perhaps", "no"]:
        """Whether the balance covers it.

        ``certain``: even the most that it costs. ``likely``: what it likely costs. ``perhaps``:
        the least, and nothing is known of the rest. ``no``: not even that, or not what is likely.
        """
        if self.most is not None and self.balance >= self.most:
            return "certain"
        if self.likely is not None:
            return "likely" if self.balance >= self.likely else "no"
        return "perhaps" if self.balance >= self.least else "no"
