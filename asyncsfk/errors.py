"""Every error that asyncsfk raises.

::

    SfkError
    ├── ConfigurationError          a client's setting or key is unusable; nothing was sent
    ├── InvalidArgumentError        an argument of anything else is unusable; nothing was sent
    ├── ClientStateError            the client is not open, or was closed under the call
    ├── TransportError              no whole answer arrived
    │   ├── ConnectionFailedError   no connection, nothing was sent: free
    │   │   └── UnreachableError    none for minutes: free, and stops runs
    │   ├── RequestTimeoutError     no answer in time: maybe charged
    │   └── ConnectionLostError     the connection broke before the answer ended: maybe charged
    ├── AnswerError                 an answer arrived and cannot be used
    │   ├── RedirectError           a redirect, never followed: the key stays with its origin
    │   ├── BodyTooLargeError       the body is over ``max_body_bytes``
    │   └── UndecodableError        not the JSON that was asked for; carries the raw bytes
    ├── PaginationError             more pages are promised, but not how to reach them
    ├── BudgetReachedError          the ceiling of credits is reached; nothing was sent
    ├── RunStoppedError             the run was told to stop
    ├── ArchiveError                the archive cannot be used as asked
    │   ├── ArchiveLockedError      another process, or another opening, holds it
    │   ├── ArchiveFormatError      not an archive, damaged, or of another version
    │   └── ArchiveWriteError       it cannot be written: read-only, full disk, I/O error
    └── APIError                    the API (or a proxy before it) answered with an error status
        ├── BadRequestError         400
        │   └── StaleCursorError    a cursor from an archive that the API no longer takes
        ├── UnauthorizedError       401
        ├── InsufficientCreditsError  402
        ├── ForbiddenError          403
        ├── NotFoundError           404: an unknown route, not an unknown creator
        ├── RateLimitedError        429
        └── ServerError             5xx: maybe charged
            ├── LookupFailedError   502
            └── UnavailableError    503: free

Every error carries what is known of the call in `Details`, readable as attributes of the error,
and pickles to an equal error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec

from asyncsfk._text import abridged, printable
from asyncsfk.usage import Usage

__all__ = [
    "APIError",
    "AnswerError",
    "ArchiveError",
    "ArchiveFormatError",
    "ArchiveLockedError",
    "ArchiveWriteError",
    "BadRequestError",
    "BodyTooLargeError",
    "BudgetReachedError",
    "ClientStateError",
    "ConfigurationError",
    "ConnectionFailedError",
    "ConnectionLostError",
    "Details",
    "ForbiddenError",
    "InsufficientCreditsError",
    "InvalidArgumentError",
    "LookupFailedError",
    "NotFoundError",
    "PaginationError",
    "RateLimitedError",
    "RedirectError",
    "RequestTimeoutError",
    "RunStoppedError",
    "ServerError",
    "SfkError",
    "StaleCursorError",
    "TransportError",
    "UnauthorizedError",
    "UnavailableError",
    "UndecodableError",
    "UnreachableError",
]


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What is known about the call that failed; unknown things are ``None``.

    Attributes:
        handle: The creator, product or other subject that the call was about.
        route: The route's template, e.g. ``/v1/tiktok/profiles/{handle}/showcase-products``.
        status: HTTP status of the last answer.
        code: The API's stable error code, e.g. ``insufficient_credits``.
        request_id: The API's id of the last answer, for their support.
        attempts: How many requests were made for this call.
        retry_after: Seconds that the API asked to wait.
        usage: What the call cost: ``usage.charged`` for certain, at most ``usage.maybe`` more.
        cursor: Pass it as ``cursor=`` to go on from the page that failed; ``None`` is the start.
        page: Pass it as ``page=`` to go on from the review page that failed.
        gave_up: Why no further attempt was made, where one could have been.
        checkout_url: Where the user can buy credits.
        location: Where a refused redirect pointed.
        body: The raw bytes of an answer that cannot be decoded, or could not be archived.
        partial: What ``collect()`` had received, and paid for, before the failure.
    """

    handle: str | None = None
    route: str | None = None
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    attempts: int = 0
    retry_after: float | None = None
    usage: Usage = Usage()
    cursor: str | None = None
    page: int | None = None
    gave_up: str | None = None
    checkout_url: str | None = None
    location: str | None = None
    body: bytes | None = None
    partial: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return abridged(self)


class _Described(msgspec.Struct):
    """What `SfkError.to_dict` says besides the details."""

    type: str
    message: str


class SfkError(Exception):
    """Base of every error of asyncsfk.

    Args:
        message: What happened, in words.
        details: What is known of the call; its fields are also attributes of the error.
    """

    _by_name: ClassVar[dict[str, type[SfkError]]] = {}

    def __init__(self, message: str, details: Details | None = None) -> None:
        # Both are positional, so that pickling and copying rebuild the error from its args.
        self.message = message
        self.details = details or Details()
        super().__init__(self.message, self.details)

    def __init_subclass__(cls) -> None:
        # Ours only: a class of the user's may have the name of one of them.
        if cls.__module__ == __name__:
            SfkError._by_name[cls.__name__] = cls

    if TYPE_CHECKING:
        # The fields of Details, for readers and type checkers.
        handle: str | None
        route: str | None
        status: int | None
        code: str | None
        request_id: str | None
        attempts: int
        retry_after: float | None
        usage: Usage
        cursor: str | None
        page: int | None
        gave_up: str | None
        checkout_url: str | None
        location: str | None
        body: bytes | None
        partial: tuple[Any, ...]
    else:

        def __getattr__(self, name: str) -> object:
            if name in Details.__struct_fields__:
                return getattr(self.details, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *Details.__struct_fields__]

    def __str__(self) -> str:
        known = self.details
        usage = known.usage
        facts = {
            "handle": known.handle,
            "status": known.status,
            "code": known.code,
            "request id": known.request_id,
            "attempts": known.attempts or None,
            "retry after": None if known.retry_after is None else f"{known.retry_after:g} s",
            "charged": usage.charged or None,
            "maybe charged": usage.maybe or None,
            "checkout": known.checkout_url,
        }
        told = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
        if known.gave_up is not None:
            told += f"; gave up: {known.gave_up}"
        return printable(f"{self.message} ({told})" if told else self.message)

    def __repr__(self) -> str:
        # Not the args: the raw body of an answer may be megabytes.
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.args == getattr(other, "args", None)

    def __hash__(self) -> int:
        return hash((type(self), self.message))

    def evolve(self, **changes: Any) -> Self:  # noqa: ANN401 - the fields of Details
        """Return the same error, not yet raised, with some of its `Details` changed."""
        other = type(self)(self.message, msgspec.structs.replace(self.details, **changes))
        other.__cause__ = self.__cause__
        return other

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data that `from_dict` turns back into an equal error.

        ``body`` is in base64. ``partial`` is left out: it is data, and describes no failure.
        """
        known: dict[str, Any] = msgspec.to_builtins(
            msgspec.structs.replace(self.details, partial=())
        )
        return {"type": type(self).__name__, "message": self.message, **known}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SfkError:
        """Return the error that `to_dict` described; an unknown type becomes an `SfkError`.

        Args:
            data: What `to_dict` returned, perhaps by way of JSON.

        Raises:
            UndecodableError: It is something else.
        """
        try:
            error, details = msgspec.convert(data, _Described), msgspec.convert(data, Details)
        except msgspec.ValidationError as wrong:
            raise UndecodableError(f"this describes no error: {wrong}") from wrong
        return cls._by_name.get(error.type, SfkError)(error.message, details)


class ConfigurationError(SfkError, ValueError):
    """A setting of a client is unusable, or its key is missing; nothing was sent.

    Settings are what `Client`, `Config`, `Timeout` and `Retry` take, and the environment.
    """


class InvalidArgumentError(SfkError, ValueError):
    """An argument of anything else is unusable; nothing was sent and nothing is charged.

    Arguments of calls, runs, `Budget` and `Archive`; some may come from an end user, as handles do.
    """


class ClientStateError(SfkError, RuntimeError):
    """The client is not open, is used in another event loop, or was closed under the call."""


class TransportError(SfkError):
    """No whole answer arrived."""


class ConnectionFailedError(TransportError):
    """No connection could be made: nothing was sent and nothing is charged."""


class UnreachableError(ConnectionFailedError):
    """No connection could be made for `Retry.outage` seconds: calls end at once, and so do runs.

    With an archive, the same run goes on once the API can be reached again.
    """


class RequestTimeoutError(TransportError):
    """No whole answer in time; the request was sent and may have been charged."""


class ConnectionLostError(TransportError):
    """The connection broke before the answer was whole; the request may have been charged."""


class AnswerError(SfkError):
    """An answer arrived that cannot be used."""


class RedirectError(AnswerError):
    """The answer is a redirect, which is never followed: the key goes to its origin only."""


class BodyTooLargeError(AnswerError):
    """The body, as sent or once decompressed, is over ``max_body_bytes``; maybe charged."""


class UndecodableError(AnswerError):
    """The body is not the JSON that the route promises; ``body`` holds its raw bytes.

    ``usage.charged`` tells the price where the answer's ``meta`` could still be read.
    """


class PaginationError(SfkError):
    """The API says that there is more, but gives no new cursor to it.

    The pages received until then are good. Going on would pay for them again.
    """


class BudgetReachedError(SfkError):
    """The ceiling of credits leaves no room for the request; it was not sent."""


class RunStoppedError(SfkError):
    """The run was told to stop, so that nothing more is sent.

    ``usage`` tells what may have been charged for requests that were sent and not waited for.
    """


class ArchiveError(SfkError):
    """The archive cannot be used as asked."""


class ArchiveLockedError(ArchiveError):
    """Another process, or another opening in this one, is writing the archive."""


class ArchiveFormatError(ArchiveError):
    """The file is not an archive, is damaged, or of a version that cannot be read as it is."""


class ArchiveWriteError(ArchiveError):
    """The archive cannot be written: read-only, on a full disk, or failing.

    Where an answer that was paid for could not be kept, ``body`` holds it.
    """


class APIError(SfkError):
    """An error status from the API, or from a proxy before it."""


class BadRequestError(APIError):
    """400: the API refused the handle, cursor or another parameter; not charged."""


class StaleCursorError(BadRequestError):
    """400: the API no longer takes a cursor that an archived page led to; not charged.

    ``restart_stale=True`` of a run, or ``refresh=True`` of a listing, starts that showcase over.
    """


class UnauthorizedError(APIError):
    """401: the key is missing or wrong; not charged."""


class InsufficientCreditsError(APIError):
    """402: the balance is empty; not charged. ``checkout_url`` may help."""


class ForbiddenError(APIError):
    """403: the key may not use this route; not charged."""


class NotFoundError(APIError):
    """404: no such *route*; a missing creator is not a 404. Not charged."""


class RateLimitedError(APIError):
    """429: the per-key limit of a free route; not charged."""


class ServerError(APIError):
    """5xx; maybe charged, but for 503."""


class LookupFailedError(ServerError):
    """502: the API could not look the creator up; maybe charged."""


class UnavailableError(ServerError):
    """503: overload; not charged."""


def is_account_wide(error: SfkError) -> bool:
    """Tell whether an error would meet every further request of the account as well."""
    return isinstance(error, UnauthorizedError | ForbiddenError | InsufficientCreditsError)


def stops_a_run(error: SfkError) -> bool:
    """Tell whether an error would meet, or should keep us from, every further request of a run."""
    return is_account_wide(error) or isinstance(
        error,
        BudgetReachedError | RunStoppedError | ArchiveError | UnreachableError | ClientStateError,
    )
