"""What faults do, as data: one small class for each way of going wrong."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from asyncsfk.simulator._latency import Latency

BodyKind: TypeAlias = Literal["envelope", "html", "empty", "problem"]
WrongPlace: TypeAlias = Literal["product", "page", "data", "meta"]


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with an error."""

    status: int
    body: BodyKind
    code: str
    retry_after: str | None
    charge: int
    checkout_url: str | None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the client somewhere else."""

    location: str
    status: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection instead of answering."""

    charged: bool
    reset: bool


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answer with bytes that are not HTTP."""

    charged: bool


@dataclass(frozen=True, slots=True)
class Hang:
    """Say nothing for a long time, then close."""

    seconds: float
    charged: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    """Stop in the middle of the body."""

    charged: bool
    chunked: bool


@dataclass(frozen=True, slots=True)
class Drip:
    """Send the body in small pieces."""

    chunk: int
    interval: float


@dataclass(frozen=True, slots=True)
class Bomb:
    """Send a small gzip that unpacks to a large body."""

    size: int


@dataclass(frozen=True, slots=True)
class Oversized:
    """Send a large body, not compressed."""

    size: int
    chunked: bool


@dataclass(frozen=True, slots=True)
class Price:
    """Charge another price."""

    credits: int


@dataclass(frozen=True, slots=True)
class Delay:
    """Take longer."""

    latency: Latency


@dataclass(frozen=True, slots=True)
class SetCookie:
    """Set a cookie."""


@dataclass(frozen=True, slots=True)
class CursorLoop:
    """Lead in circles."""

    cycle: int


@dataclass(frozen=True, slots=True)
class NoCursor:
    """Say that there is more but not where."""

    cursor: str | None


@dataclass(frozen=True, slots=True)
class EmptyPage:
    """Show no products, though more are to come."""


@dataclass(frozen=True, slots=True)
class CursorWithoutMore:
    """Say that there is no more, but give a cursor all the same."""


@dataclass(frozen=True, slots=True)
class InvalidUtf8:
    """Put bytes that are not UTF-8 into a string."""


@dataclass(frozen=True, slots=True)
class DeepNesting:
    """Nest arrays deeply."""

    depth: int


@dataclass(frozen=True, slots=True)
class BadNumber:
    """Write a number that JSON does not have."""

    token: str


@dataclass(frozen=True, slots=True)
class WrongType:
    """Give a field a value of another type."""

    where: WrongPlace


@dataclass(frozen=True, slots=True)
class UnknownFields:
    """Add fields that no client knows."""


@dataclass(frozen=True, slots=True)
class NotJson:
    """Answer 200 with something other than JSON."""


@dataclass(frozen=True, slots=True)
class MissingMeta:
    """Leave out `meta`."""


#: Faults of the body of a 200.
Distortion: TypeAlias = (
    InvalidUtf8 | DeepNesting | BadNumber | WrongType | UnknownFields | NotJson | MissingMeta
)

#: Faults of paging; they strike only routes that have pages.
PagingFault: TypeAlias = CursorLoop | NoCursor | EmptyPage | CursorWithoutMore

Action: TypeAlias = (
    Status
    | Redirect
    | Close
    | Garbage
    | Hang
    | Truncate
    | Drip
    | Bomb
    | Oversized
    | Price
    | Delay
    | SetCookie
    | PagingFault
    | Distortion
)
