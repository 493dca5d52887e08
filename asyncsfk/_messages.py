"""Requests and answers, in the forms in which the parts of the client hand them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncsfk.usage import Usage

T = TypeVar("T")

Decoder: TypeAlias = msgspec.json.Decoder[Any]
"""Turns a whole body into data."""


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
        region: The region in it, if it is for a showcase.
        is_showcase: Whether it is for a page of a showcase.
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
        """Handle and region of the showcase, if it is for a page of one."""
        return (self.handle or "", self.region or "") if self.is_showcase else None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: the head, and as much of the body as there was, as sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        # Tracebacks can show it, and the API may have echoed the key in it.
        return f"<Response {self.status}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status)]


class Meta(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What an answer says of itself; ``credits_charged`` is ``None`` where it says nothing."""

    request_id: str | None = None
    credits_charged: int | None = None
    cached: bool | None = None


class Envelope(msgspec.Struct, Generic[T]):
    """A successful answer. Its meta is decoded apart, so that no fault in it costs good data."""

    data: T
    meta: msgspec.Raw = msgspec.Raw(b"{}")


class Received(msgspec.Struct, frozen=True):
    """A decoded answer.

    Attributes:
        data: What the request's decoder made of the body: the envelope's data, if it has one.
        meta: What the answer says of itself.
        usage: What it cost.
        body: The plain body, for callers who want it decoded otherwise.
        decoder: What turned ``body`` into ``data``.
        kept: Whether it came out of an archive.
    """

    data: Any
    meta: Meta
    usage: Usage
    body: bytes
    decoder: Decoder
    kept: bool = False

    def __repr__(self) -> str:
        # As short as that of a `Response`, for the same reason.
        return "<Received>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
