"""Whether and when a failed call is tried again: pure decisions, no I/O, no clock."""

from __future__ import annotations

import enum
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import msgspec

from asyncsfk.errors import (
    ConnectionFailedError,
    ConnectionLostError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
    SfkError,
    UnavailableError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from asyncsfk.config import Retry

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_YEAR: Final = 365 * 24 * 3600.0
SPREAD: Final = 1.0
"""Seconds over which to spread requests that would otherwise begin together, as after a pause."""


class Failure(enum.Enum):
    """What trying again would risk."""

    FREE = enum.auto()
    """Nothing: the attempt was not charged."""
    SERVER = enum.auto()
    """A credit: the API failed, perhaps after charging."""
    LOST = enum.auto()
    """A credit: the answer, perhaps a good one, was lost."""
    FINAL = enum.auto()
    """It would fail again."""


class Wait(msgspec.Struct, frozen=True):
    """Try again after so many seconds."""

    seconds: float


class Stop(msgspec.Struct, frozen=True):
    """Do not try again; ``reason`` is the limit that forbids it, unless the error itself does."""

    reason: str | None


def failure_of(error: SfkError) -> Failure:
    """Tell what trying again after an error would risk."""
    match error:
        case ConnectionFailedError() | RateLimitedError() | UnavailableError():
            return Failure.FREE
        case ServerError():
            return Failure.SERVER
        case RequestTimeoutError() | ConnectionLostError():
            return Failure.LOST
        case _:
            return Failure.FINAL


def backoff(policy: Retry, n: int, rng: Callable[[], float]) -> float:
    """Return the n-th wait (from 1), with full jitter; ``rng`` gives 0 <= x < 1."""
    # The exponent is capped so that a long row of failures does not overflow a float.
    return rng() * min(policy.max_backoff, policy.backoff * 2.0 ** min(n - 1, 64))


def decide(
    policy: Retry, error: SfkError, failures: Sequence[Failure], rng: Callable[[], float]
) -> Wait | Stop:
    """Decide what follows a failed attempt.

    Args:
        policy: The limits.
        error: How the attempt failed.
        failures: The kind of each failed attempt of this call, this one included.
        rng: Gives 0 <= x < 1.
    """
    failure = failures[-1]
    if failure is Failure.FINAL or isinstance(error, UnreachableError):
        return Stop(None)
    if len(failures) >= policy.attempts:
        return Stop(f"Retry.attempts={policy.attempts} is used up")
    limits = {Failure.SERVER: "server_errors", Failure.LOST: "lost"}
    if (name := limits.get(failure)) is not None:
        limit: int = getattr(policy, name)
        if failures.count(failure) > limit:
            # Each further try could be charged.
            return Stop(f"Retry.{name}={limit} is used up")
    asked = error.retry_after or 0.0
    if asked > policy.max_retry_after:
        return Stop(
            f"asked to wait {asked:g} s, more than the {policy.max_retry_after:g} s allowed"
        )
    wait = backoff(policy, len(failures), rng)
    if error.retry_after is not None:
        # On top of what was asked for, spread over a second at least: calls that were refused
        # together must not return together.
        wait = asked + max(wait, rng() * SPREAD)
    return Wait(wait)


class RetryQuota:
    """A client's store of retries: each retry takes one, each success gives half of one back.

    It keeps a client with thousands of calls from multiplying its load, and what that may cost, on
    an API that fails everything. A retry of what was free takes none: the whole client pauses for
    it, so that an outage met by many calls at once does not use up their retries.
    """

    _EARNED = 0.5

    def __init__(self, capacity: int) -> None:
        self._capacity = float(capacity)
        self._left = float(capacity)

    def take(self, failure: Failure) -> bool:
        """Take a retry of such a failure, if there is one left."""
        if failure is Failure.FREE:
            return True
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self, failure: Failure) -> None:
        """Give back a retry that was taken, and is not made after all."""
        if failure is not Failure.FREE:
            self._add(1.0)

    def earn(self) -> None:
        """Give back what a success earns."""
        self._add(self._EARNED)

    def _add(self, retries: float) -> None:
        if self._left < self._capacity:
            self._left = min(self._capacity, self._left + retries)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks to wait, if it asks for any.

    Takes seconds or an HTTP date (RFC 9110, section 10.2.3), and ignores nonsense. A date in the
    past asks for no wait; anything over a year counts as a year.

    Args:
        value: The header.
        now: The time, with a zone, by the clock that the date was written by.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _YEAR)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = (date.replace(tzinfo=date.tzinfo or now.tzinfo) - now).total_seconds()
    return min(max(seconds, 0.0), _YEAR)
