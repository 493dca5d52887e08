"""What is asked of the API and what comes back, as parts of the client hand it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncsfk.usage import Usage

T = TypeVar("T")

Decoder: TypeAlias = msgspec.json.Decoder[Any]
"""What makes data of a whole body."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, ready to be sent.

    Attributes:
        route: The route's template, for errors and events.
        target: Path and query, percent-encoded: the identity of what is asked for.
        decoder: Decodes the whole body.
        price: Credits that it costs at most.
        needs_key: Whether the route is closed to callers without a key.
        is_free: Whether the route costs nothing by contract, whatever its answers say.
        handle: What it is about.
        cursor: The cursor in it.
        page: The page number in it.
        region: The region in it, where it is for a showcase.
        is_showcase: Whether it is for a page of one.
    """

    route: str
    target: str
    decoder: Decoder
    price: int
    needs_key: bool = True
    is_free: bool = False
    handle: str | None = None
    cursor: str | None = None
    page: int | None = None
    region: str | None = None
    is_showcase: bool = False

    @property
    def showcase(self) -> tuple[str, str] | None:
        """Handle and region of the showcase that it is for a page of, if it is."""
        return (self.handle or "", self.region or "") if self.is_showcase else None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: the head, and as much of the body as there was, as sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        # It is in frames that tracebacks show, and the API may have echoed the key.
        return f"<Response {self.status}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status)]


class Meta(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What an answer says of itself; ``credits_charged`` is ``None`` where it says nothing."""

    request_id: str | None = None
    credits_charged: int | None = None
    cached: bool | None = None


class Envelope(msgspec.Struct, Generic[T]):
    """A successful answer. Its meta is decoded apart, lest a fault there cost good data."""

    data: T
    meta: msgspec.Raw = msgspec.Raw(b"{}")


class Received(msgspec.Struct, frozen=True):
    """A decoded answer.

    Attributes:
        data: What the request's decoder made of the body: the envelope's data, if it has one.
        meta: What the answer says of itself.
        usage: What it cost.
        body: The plain body, for callers who want it decoded otherwise.
        decoder: What made ``data`` of ``body``.
        kept: Whether it came out of an archive.
    """

    data: Any
    meta: Meta
    usage: Usage
    body: bytes
    decoder: Decoder
    kept: bool = False

    def __repr__(self) -> str:
        # As that of a response.
        return "<Received>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
