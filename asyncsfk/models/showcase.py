"""TikTok Shop products on a creator's showcase.

Source: ``GET /v1/tiktok/profiles/{handle}/showcase-products``.
"""

import re
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import force_setattr

from asyncsfk.errors import Details, UndecodableError
from asyncsfk.models.base import NOT_JSON, Answer, Id, Model, decode

_ANY = msgspec.json.Decoder()
_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def _amount(text: str | None) -> Decimal | None:
    # Decimal() alone would take "NaN", "1_0" and " 1 " as well.
    return Decimal(text) if text is not None and _AMOUNT.fullmatch(text) else None


class Image(Model, frozen=True, kw_only=True, gc=False):
    """A product's picture; sizes in pixels."""

    url: str | None = None
    urls: tuple[str, ...] | None = None
    width: int | None = None
    height: int | None = None


class Price(Model, frozen=True, kw_only=True, gc=False):
    """A product's price.

    Attributes:
        currency_code: E.g. ``USD``.
        currency_symbol: E.g. ``$``.
        sale_price: What it costs now, as the decimal string that the API sent.
        original_price: What it cost before the discount, likewise.
        discount_percent: As shown to shoppers, e.g. ``48%``.
    """

    currency_code: str | None = None
    currency_symbol: str | None = None
    sale_price: str | None = None
    original_price: str | None = None
    discount_percent: str | None = None

    @property
    def sale_amount(self) -> Decimal | None:
        """`sale_price` as an exact number; ``None`` if there is none or it is no plain number."""
        return _amount(self.sale_price)

    @property
    def original_amount(self) -> Decimal | None:
        """`original_price` as an exact number; ``None`` if there is none or it is no number."""
        return _amount(self.original_price)


class Rating(Model, frozen=True, kw_only=True, gc=False):
    """How shoppers rate a product."""

    score: float | None = None
    review_count: int | None = None


class Sales(Model, frozen=True, kw_only=True, gc=False):
    """How often a product was sold."""

    sold_count: int | None = None


class Seller(Model, frozen=True, kw_only=True, gc=False):
    """Who sells a product."""

    id: Id


class Product(Model, frozen=True, kw_only=True, gc=False):
    """A TikTok Shop product on a creator's showcase.

    Attributes:
        id: The product's id, never empty.
        raw_details: `details` as the API's JSON text, ``UNSET`` where it sent none.
    """

    id: Id
    title: str | None = None
    url: str | None = None
    image: Image | None = None
    price: Price | None = None
    rating: Rating | None = None
    sales: Sales | None = None
    seller: Seller | None = None
    raw_details: Raw | UnsetType = msgspec.field(default=UNSET, name="details")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Product):
            return NotImplemented
        mine, others = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        # The same details may be written with different spacing.
        same_details = mine.pop("raw_details") == others.pop("raw_details")
        return mine == others and (same_details or self.details == other.details)

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def details(self) -> Any:  # noqa: ANN401 - any JSON
        """TikTok-native fields that the API did not map: any JSON, or ``None``.

        Decoded anew each time this is read, and not at all if it never is.

        Raises:
            UndecodableError: The details are not valid JSON; ``body`` holds them.
        """
        if isinstance(self.raw_details, UnsetType):
            return None
        try:
            return decode(_ANY, self.raw_details)
        except NOT_JSON as error:
            raise UndecodableError(
                f"the details of product {self.id} are not valid JSON: {error}",
                Details(body=bytes(self.raw_details)),
            ) from error


class ShowcasePage(Answer, frozen=True, kw_only=True):
    """One page of a creator's showcase; costs one credit.

    A page without products can mean that none are showcased, that the account is private, or that
    it does not exist: `asyncsfk.Client.tiktok_profile` tells which.

    Attributes:
        handle: The creator's handle, normalised.
        region: The region that was asked for.
        cursor: The cursor that led here; ``None`` on the first page.
        number: 1 for the first page that was fetched in a row, 2 for the next, ...
        products: The products, in the order shown.
        next_cursor: Leads to the next page; opaque. The API may say that there is more and yet give
            none, or an empty one: then the next page cannot be fetched.
        has_more: Whether the API says that there is a next page.
    """

    handle: str
    region: str | None = None
    cursor: str | None = None
    number: int = 1
    products: tuple[Product, ...] = ()
    next_cursor: str | None = None
    has_more: bool = False


class _PageInfo(Model, frozen=True, kw_only=True, gc=False):
    next_cursor: str | None = None
    has_more: bool | None = None


class ShowcaseData(Model, frozen=True, kw_only=True):
    """The ``data`` of a showcase answer.

    ``products`` and ``page`` are required: an answer without them is not one of this route, and
    taking it for an empty showcase would be silently wrong.
    """

    products: tuple[Product, ...] | None
    page: _PageInfo

    def __post_init__(self) -> None:
        # Each product gets a copy of its details: a slice would keep the page's whole body alive.
        owned = [
            (product, raw)
            for product in self.products or ()
            if (raw := product.raw_details) is not UNSET
        ]
        if not owned:
            return
        # msgspec has not checked their text yet; a check of all of it at once is quick.
        text = b"".join([raw for _, raw in owned])
        own = Raw.copy if text.isascii() and not _has_line_ends(text) else _own
        for product, raw in owned:
            force_setattr(product, "raw_details", own(raw))


def _own(raw: Raw) -> Raw:
    """Return a copy of a piece of JSON, on one line.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    text = bytes(raw)
    if not text.isascii():
        text.decode()
    return Raw(msgspec.json.format(text, indent=-1) if _has_line_ends(text) else text)


def _has_line_ends(text: bytes) -> bool:
    # Many readers of lines, Python's among them, take a carriage return alone for an end, too.
    return b"\n" in text or b"\r" in text
