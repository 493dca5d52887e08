"""Reviews of a TikTok Shop product.

Source: ``GET /v1/tiktok/products/reviews``.
"""

from asyncsfk.models.base import Answer, Id, Model


class Reviewer(Model, frozen=True, kw_only=True, gc=False):
    """Who wrote a review."""

    id: str | None = None
    name: str | None = None
    avatar_url: str | None = None


class ReviewMedia(Model, frozen=True, kw_only=True, gc=False):
    """Pictures of a review."""

    display_image_url: str | None = None
    image_urls: tuple[str, ...] | None = None


class Review(Model, frozen=True, kw_only=True, gc=False):
    """One review of a product; ``rating`` is 1 to 5."""

    id: Id
    product_id: str | None = None
    sku_id: str | None = None
    rating: int | None = None
    text: str | None = None
    created_at: str | None = None
    verified_purchase: bool | None = None
    incentivized: bool | None = None
    reviewer: Reviewer | None = None
    media: ReviewMedia | None = None
    variant: str | None = None
    country: str | None = None


class RatingDistribution(Model, frozen=True, kw_only=True, gc=False):
    """How many reviews gave each rating."""

    one_star: int | None = None
    two_star: int | None = None
    three_star: int | None = None
    four_star: int | None = None
    five_star: int | None = None


class ReviewSummary(Model, frozen=True, kw_only=True, gc=False):
    """All reviews of a product taken together."""

    total_reviews: int | None = None
    average_rating: float | None = None
    rating_distribution: RatingDistribution | None = None


class ReviewPage(Answer, frozen=True, kw_only=True):
    """One numbered page of a product's reviews; costs one credit.

    Attributes:
        lookup_status: A `LookupStatus`, or a newer word of the API.
        reviews: The reviews, in the API's order.
        summary: All reviews of the product taken together.
        page: This page's number.
        next_page: The next page's number.
        has_more: Whether the API says that there is a next page.
    """

    lookup_status: str | None = None
    reviews: tuple[Review, ...] = ()
    summary: ReviewSummary | None = None
    page: int | None = None
    next_page: int | None = None
    has_more: bool = False


class _ReviewPageInfo(Model, frozen=True, kw_only=True, gc=False):
    current_page: int | None = None
    next_page: int | None = None
    has_more: bool | None = None


class ReviewData(Model, frozen=True, kw_only=True):
    """The ``data`` of a reviews answer; two fields are required, as in `ShowcaseData`."""

    reviews: tuple[Review, ...] | None
    page: _ReviewPageInfo
    lookup_status: str | None = None
    summary: ReviewSummary | None = None
