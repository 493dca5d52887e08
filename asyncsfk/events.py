"""What ``on_event`` is told: frozen values, one for each thing that happens to a request.

None of them holds the key or a body. In JSON each has its name as ``type``, so that any of them is
read back by ``msgspec.json.decode(line, type=Event)``.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from asyncsfk.errors import RateLimitedError, UnavailableError
from asyncsfk.outcomes import Status  # noqa: TC001 - a field's type, which msgspec may look up

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Event",
    "HandleFinished",
    "PageReceived",
    "Paused",
    "PriceRaised",
    "RequestFinished",
    "RequestRetried",
    "RequestStarted",
    "log_event",
]

logger = logging.getLogger("asyncsfk")


class RequestStarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag=True):
    """A request is about to be sent; ``attempt`` is 1 for the first."""

    route: str
    handle: str | None
    attempt: int


class RequestFinished(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag=True):
    """A request has ended, well or not.

    Attributes:
        status: HTTP status, if an answer came.
        error: Name of the error's class, if it failed.
        seconds: From when it could begin, its connection included, to the end of the body.
        bytes: Body bytes received.
        charged: Credits charged for certain.
        maybe: Credits that may have been charged.
        request_id: The API's id of the answer, if it said one.
    """

    route: str
    handle: str | None
    attempt: int
    status: int | None
    error: str | None
    seconds: float
    bytes: int
    charged: int
    maybe: int
    request_id: str | None


class RequestRetried(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag=True):
    """A failed request will be tried again after ``wait`` seconds."""

    route: str
    handle: str | None
    attempt: int
    error: str
    wait: float


class Paused(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag=True):
    """The client sends nothing for ``seconds``, and then at most ``width`` requests at once.

    The API asked for it or refused (429, 503), no connection can be made, or there were 20 failures
    in a row that were or may have been charged.

    Attributes:
        error: Name of the class of the error that made it pause.
        reason: What that error says.
    """

    seconds: float
    width: int
    error: str
    reason: str = ""


class PriceRaised(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag=True):
    """A request was charged more than ``expected``; the new price is reserved from now on."""

    route: str
    handle: str | None
    expected: int
    charged: int


class PageReceived(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag=True):
    """A page was received and is about to be handed out.

    Attributes:
        number: 1 for the first page that was fetched in a row, 2 for the next, ...
        items: How many products or reviews are on it.
        has_more: Whether the API says that there is a next page.
        archived: Whether it came out of an archive, at no cost.
    """

    route: str
    handle: str | None
    number: int
    items: int
    has_more: bool
    archived: bool


class HandleFinished(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag=True):
    """A run is done with a creator.

    Attributes:
        status: Its outcome's.
        pages: How many pages were received.
        products: How many products were on them.
        error: Name of the error's class, if it is not complete.
    """

    handle: str
    status: Status
    pages: int
    products: int
    error: str | None


Event: TypeAlias = (
    RequestStarted
    | RequestFinished
    | RequestRetried
    | Paused
    | PriceRaised
    | PageReceived
    | HandleFinished
)

_LEVELS: dict[type, int] = {
    RequestRetried: logging.INFO,
    Paused: logging.INFO,
    PriceRaised: logging.WARNING,
}
ASKED_FOR: Final = frozenset({RateLimitedError.__name__, UnavailableError.__name__})
"""Values of `Paused.error` for pauses that the API itself asked for."""


def log_event(event: Event) -> None:
    """Write one line about an event to ``asyncsfk``.

    Prices that rose are WARNING, and so are pauses because no connection can be made, or because
    nothing comes but failures that are or may be charged. Other waits are INFO, the rest is DEBUG.
    """
    level = _LEVELS.get(type(event), logging.DEBUG)
    if isinstance(event, Paused) and event.error not in ASKED_FOR:
        # For example a wrong origin or an unknown certificate: a run keeps trying for minutes.
        level = logging.WARNING
    if logger.isEnabledFor(level):
        logger.log(level, "%s", event)


class Emitter:
    """Hands events to a callback, or to `log_event`.

    A callback that raises does not harm the call, whose page is paid for: the error is logged.
    """

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        self._tell = log_event if on_event is None else on_event

    @property
    def wants_detail(self) -> bool:
        """Whether anybody would see the events of requests that go well."""
        return self._tell is not log_event or logger.isEnabledFor(logging.DEBUG)

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        try:
            self._tell(event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            # A test's failure too, or a cancellation: in a plain function, which nobody can cancel,
            # that cannot be meant for us.
            with suppress(Exception):
                logger.exception("on_event raised at %s", event)
