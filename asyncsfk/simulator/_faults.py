"""Faults: what goes wrong, and when."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypedDict, TypeVar, Unpack, get_args

from asyncsfk.simulator import _actions as actions
from asyncsfk.simulator import _retry_after
from asyncsfk.simulator._arguments import (
    check_flag,
    check_header,
    check_no_json,
    check_seconds,
    check_text,
    check_whole,
)
from asyncsfk.simulator._calls import Route
from asyncsfk.simulator._creators import bare
from asyncsfk.simulator._latency import Latency, check_latency

_T = TypeVar("_T", int, str)

_CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    429: "temporarily_unavailable",
    500: "internal_error",
    502: "lookup_failed",
    503: "temporarily_unavailable",
}


class When(TypedDict, total=False):
    """When a fault strikes: all the conditions that are given must hold.

    Attributes:
        probability: how likely, from 0 to 1 (1 if not given). Drawn from the simulator's seed, the
            page asked for and how often it was asked for before: a retry is a new draw, and the
            order in which requests arrive changes nothing.
        requests: the numbers of the requests, counted from 1 over all that arrive.
        handles: the creators (of any case, with or without `@`) or, for reviews, the product ids.
        routes: the routes, as `Route` or its template.
        pages: the numbers of the pages of a showcase or of reviews, counted from 1.
        times: how often at most, in all.
    """

    probability: float
    requests: Collection[int]
    handles: Collection[str]
    routes: Collection[str]
    pages: Collection[int]
    times: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of going wrong; made by the methods below, each of which also takes `When`.

    Faults strike only requests that would otherwise be answered as asked: one with a bad key,
    handle or cursor, or without the credits, is refused first. If several match, the first in the
    list strikes, except that all delays add up.
    """

    name: str
    action: actions.Action
    probability: float = 1.0
    requests: frozenset[int] | None = None
    handles: frozenset[str] | None = None
    routes: frozenset[str] | None = None
    pages: frozenset[int] | None = None
    times: int | None = None

    @classmethod
    def _make(cls, name: str, action: actions.Action, when: When) -> "Fault":
        if unknown := sorted(when.keys() - When.__annotations__.keys()):
            raise TypeError(f"a fault has no condition {', '.join(unknown)}")
        probability = when.get("probability", 1.0)
        times = when.get("times")
        if not 0 <= probability <= 1:
            raise ValueError("a probability lies between 0 and 1")
        if times is not None:
            check_whole("times", times, 0)
        return cls(
            name,
            action,
            probability,
            requests=_all(when.get("requests"), lambda number: check_whole("a request", number, 1)),
            handles=_all(when.get("handles"), bare),
            # `Route` refuses an unknown one, which would never strike.
            routes=_all(when.get("routes"), lambda route: str(Route(route))),
            pages=_all(when.get("pages"), lambda number: check_whole("a page", number, 1)),
            times=times,
        )

    @classmethod
    def status(
        cls,
        status: int,
        *,
        body: actions.BodyKind = "envelope",
        code: str | None = None,
        retry_after: str | None = None,
        charge: int = 0,
        checkout_url: str | None = None,
        **when: Unpack[When],
    ) -> "Fault":
        """Answer with an error status, charging `charge` credits: 0 is right for most statuses.

        `body` is the API's error envelope, a proxy's HTML page, a proxy's problem+json, or nothing.
        `retry_after` is sent as it is; `Fault.date_ahead` makes one that is a date.
        """
        check_whole("a status", status, 200, 999)
        check_whole("a charge", charge, 0)
        if body not in get_args(actions.BodyKind):
            raise ValueError(f"a body is one of {get_args(actions.BodyKind)}, not {body!r}")
        _retry_after.check_retry_after("retry_after", retry_after)
        check_text("a code", code)
        check_text("a checkout_url", checkout_url)
        known = _CODES.get(status, "internal_error")
        action = actions.Status(status, body, code or known, retry_after, charge, checkout_url)
        return cls._make("status", action, when)

    @staticmethod
    def date_ahead(seconds: int) -> str:
        """Make a `retry_after` that is sent as an HTTP date, `seconds` after that of the answer."""
        return _retry_after.date_ahead(seconds)

    @classmethod
    def redirect(cls, location: str, status: int = 302, **when: Unpack[When]) -> "Fault":
        """Redirect to a location, with a status from 300 to 399; nothing is charged."""
        check_header("a location", location)
        check_whole("a status", status, 300, 399)
        return cls._make("redirect", actions.Redirect(location, status), when)

    @classmethod
    def close(cls, *, charged: bool = False, **when: Unpack[When]) -> "Fault":
        """Close the connection before any byte of an answer."""
        check_flag("charged", charged)
        return cls._make("close", actions.Close(charged, reset=False), when)

    @classmethod
    def reset(cls, *, charged: bool = False, **when: Unpack[When]) -> "Fault":
        """Reset the connection (a TCP RST) before any byte of an answer."""
        check_flag("charged", charged)
        return cls._make("reset", actions.Close(charged, reset=True), when)

    @classmethod
    def garbage(cls, *, charged: bool = False, **when: Unpack[When]) -> "Fault":
        """Answer with bytes that are not HTTP, and close."""
        check_flag("charged", charged)
        return cls._make("garbage", actions.Garbage(charged), when)

    @classmethod
    def hang(
        cls, seconds: float = 3600.0, *, charged: bool = False, **when: Unpack[When]
    ) -> "Fault":
        """Say nothing for so long, then close; a client with a shorter timeout gives up first."""
        check_seconds(seconds)
        check_flag("charged", charged)
        return cls._make("hang", actions.Hang(seconds, charged), when)

    @classmethod
    def truncate(
        cls, *, charged: bool = True, chunked: bool = False, **when: Unpack[When]
    ) -> "Fault":
        """Send half of the body and close.

        The Content-Length is that of the whole body; with `chunked`, the last chunk is missing.
        """
        check_flag("charged", charged)
        check_flag("chunked", chunked)
        return cls._make("truncate", actions.Truncate(charged, chunked), when)

    @classmethod
    def drip(cls, chunk: int = 64, interval: float = 0.1, **when: Unpack[When]) -> "Fault":
        """Send the whole body, but only `chunk` bytes every `interval` seconds."""
        check_whole("a chunk", chunk, 1)
        check_seconds(interval)
        return cls._make("drip", actions.Drip(chunk, interval), when)

    @classmethod
    def gzip_bomb(cls, size: int = 2**30, **when: Unpack[When]) -> "Fault":
        """Send valid JSON that unpacks to `size` bytes from about a thousandth of that."""
        check_whole("a size", size, 1)
        return cls._make("gzip_bomb", actions.Bomb(size), when)

    @classmethod
    def oversized(
        cls, size: int = 2**28, *, chunked: bool = False, **when: Unpack[When]
    ) -> "Fault":
        """Send `size` bytes of JSON, not compressed; with a Content-Length unless `chunked`."""
        check_whole("a size", size, 1)
        check_flag("chunked", chunked)
        return cls._make("oversized", actions.Oversized(size, chunked), when)

    @classmethod
    def invalid_utf8(cls, **when: Unpack[When]) -> "Fault":
        """Put bytes that are not UTF-8 into a string; `meta` stays readable."""
        return cls._make("invalid_utf8", actions.InvalidUtf8(), when)

    @classmethod
    def deep_nesting(cls, depth: int = 100_000, **when: Unpack[When]) -> "Fault":
        """Nest arrays `depth` deep inside `data`; `meta` stays readable."""
        check_whole("a depth", depth, 1)
        return cls._make("deep_nesting", actions.DeepNesting(depth), when)

    @classmethod
    def nan(cls, token: str = "NaN", **when: Unpack[When]) -> "Fault":  # noqa: S107 - of JSON
        """Write a number that JSON does not have: NaN, Infinity, 1e400, 01."""
        check_no_json(token)
        return cls._make("nan", actions.BadNumber(token), when)

    @classmethod
    def wrong_type(cls, where: actions.WrongPlace = "product", **when: Unpack[When]) -> "Fault":
        """Give a field of a product, of `page`, `data` itself or a field of `meta` another type."""
        if where not in get_args(actions.WrongPlace):
            raise ValueError(f"a place is one of {get_args(actions.WrongPlace)}, not {where!r}")
        return cls._make("wrong_type", actions.WrongType(where), when)

    @classmethod
    def unknown_fields(cls, **when: Unpack[When]) -> "Fault":
        """Add fields that no client knows at every level: harmless."""
        return cls._make("unknown_fields", actions.UnknownFields(), when)

    @classmethod
    def not_json(cls, **when: Unpack[When]) -> "Fault":
        """Answer 200, charged, with a page of HTML."""
        return cls._make("not_json", actions.NotJson(), when)

    @classmethod
    def missing_meta(cls, **when: Unpack[When]) -> "Fault":
        """Leave `meta` out of an answer that is charged."""
        return cls._make("missing_meta", actions.MissingMeta(), when)

    @classmethod
    def set_cookie(cls, **when: Unpack[When]) -> "Fault":
        """Set a cookie; the ledger tells whether one ever comes back."""
        return cls._make("set_cookie", actions.SetCookie(), when)

    @classmethod
    def price(cls, credits: int, **when: Unpack[When]) -> "Fault":
        """Charge another price than the route's, as `meta` says; free routes stay free."""
        check_whole("a price", credits, 0)
        return cls._make("price", actions.Price(credits), when)

    @classmethod
    def delay(cls, latency: Latency, **when: Unpack[When]) -> "Fault":
        """Take longer; adds to the simulator's latency, to other delays and to other faults."""
        check_latency(latency)
        return cls._make("delay", actions.Delay(latency), when)

    @classmethod
    def cursor_loop(cls, cycle: int = 1, **when: Unpack[When]) -> "Fault":
        """Lead back to a page `cycle` pages ago; 1 repeats the very cursor that was sent.

        Pages too early for that, such as the first, lead to the one after them, even if none is.
        """
        check_whole("a cycle", cycle, 1)
        return cls._make("cursor_loop", actions.CursorLoop(cycle), when)

    @classmethod
    def has_more_without_cursor(cls, cursor: str | None = None, **when: Unpack[When]) -> "Fault":
        """Say `hasMore` with a cursor that is null or empty."""
        if cursor not in (None, ""):
            raise ValueError(f"a cursor that leads nowhere is None or empty, not {cursor!r}")
        return cls._make("has_more_without_cursor", actions.NoCursor(cursor), when)

    @classmethod
    def empty_page_with_more(cls, **when: Unpack[When]) -> "Fault":
        """Charge for an empty page whose (new) cursor leads to what it should have shown."""
        return cls._make("empty_page_with_more", actions.EmptyPage(), when)

    @classmethod
    def cursor_without_more(cls, **when: Unpack[When]) -> "Fault":
        """Give a cursor although `hasMore` is false; strikes last pages only, and is harmless."""
        return cls._make("cursor_without_more", actions.CursorWithoutMore(), when)

    @classmethod
    def storm(
        cls,
        probability: float = 0.02,
        *,
        curable: bool = False,
        size: int = 2**26,
        hang: float = 3600.0,
    ) -> tuple["Fault", ...]:
        """Make one fault of every kind that a run should survive, each with this probability.

        A run survives a fault if it goes on to the next creator. Some are harmless, or over when it
        tries again (`CURABLE`); others end the creator that they strike (`FATAL`), and are left out
        with `curable=True`. What stops a whole account (401, 402, 403) is never among them. `size`
        is that of the large bodies: keep it above what the client accepts. `hang` is how many
        seconds a connection is held open that gets no answer.
        """
        check_flag("curable", curable)
        each: When = {"probability": probability}
        faults = (
            cls.status(503, retry_after="1", **each),
            cls.status(503, retry_after=cls.date_ahead(2), body="html", **each),
            cls.status(503, body="empty", **each),
            cls.status(500, **each),
            cls.status(502, charge=1, **each),
            cls.status(502, body="problem", **each),
            cls.close(**each),
            cls.close(charged=True, **each),
            cls.reset(**each),
            cls.reset(charged=True, **each),
            cls.truncate(**each),
            cls.truncate(chunked=True, **each),
            cls.garbage(**each),
            cls.hang(hang, charged=True, **each),
            cls.drip(chunk=2048, interval=0.01, **each),
            cls.delay(Latency.lognormal(0.2, 1.0, cap=3.0), **each),
            cls.price(2, **each),
            cls.unknown_fields(**each),
            cls.set_cookie(**each),
            cls.empty_page_with_more(**each),
            cls.cursor_without_more(**each),
            cls.redirect("http://127.0.0.1:9/elsewhere", **each),
            cls.gzip_bomb(size, **each),
            cls.oversized(size, **each),
            cls.invalid_utf8(**each),
            cls.deep_nesting(**each),
            cls.nan(**each),
            cls.wrong_type(**each),
            cls.not_json(**each),
            cls.missing_meta(**each),
            cls.cursor_loop(**each),
            cls.has_more_without_cursor(**each),
            cls.has_more_without_cursor("", **each),
        )
        return tuple(fault for fault in faults if not curable or fault.name in CURABLE)


def _all(given: Collection[_T] | None, checked: Callable[[_T], _T]) -> frozenset[_T] | None:
    """Return all that a condition holds for, each checked; None if it is not given."""
    if isinstance(given, str):
        # It would be taken for a list of its letters.
        raise TypeError("conditions are lists of what they hold for, not one string")
    return None if given is None else frozenset(map(checked, given))


#: The kinds in a storm that are harmless, or over when one tries again.
CURABLE: Final = frozenset(
    {
        "close", "cursor_without_more", "delay", "drip", "empty_page_with_more", "garbage", "hang",
        "price", "reset", "set_cookie", "status", "truncate", "unknown_fields",
    }
)  # fmt: skip

#: The kinds in a storm that end the one creator they strike, or hide what its page cost.
FATAL: Final = frozenset(
    {
        "cursor_loop", "deep_nesting", "gzip_bomb", "has_more_without_cursor", "invalid_utf8",
        "missing_meta", "nan", "not_json", "oversized", "redirect", "wrong_type",
    }
)  # fmt: skip
