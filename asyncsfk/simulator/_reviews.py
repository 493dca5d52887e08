"""The reviews of a product."""

import re
from typing import Final

from asyncsfk.simulator._dice import Dice
from asyncsfk.simulator._products import Json
from asyncsfk.simulator._words import CDN, REVIEW_REGIONS, REVIEW_TEXTS, VARIANTS

_PRODUCT_ID: Final = re.compile(r"1729[0-9]{15}")
_STARS: Final = ("oneStar", "twoStar", "threeStar", "fourStar", "fiveStar")


def product_of(product_id: str | None, url: str | None) -> str:
    """Find the product that a request is about; its id wins over its address."""
    if product_id is not None:
        return product_id
    found = _PRODUCT_ID.search(url or "")
    return found[0] if found else ""


def review_count(key: bytes, product_id: str) -> int | None:
    """Count a product's reviews; None when there is no such product."""
    if not _PRODUCT_ID.fullmatch(product_id):
        return None
    dice = Dice(key, "reviewed:" + product_id)
    return dice.below(10 ** (1 + dice.below(3)))


def reviews(key: bytes, product_id: str, region: str | None, start: int, stop: int) -> list[Json]:
    """Derive the reviews number `start` to `stop - 1` of a product, as seen from a region."""
    count = review_count(key, product_id) or 0
    return [_review(key, product_id, region, index) for index in range(start, min(stop, count))]


def summary(key: bytes, product_id: str) -> Json:
    """Derive the summary beside a product's reviews: all null for an unknown product."""
    count = review_count(key, product_id)
    if count is None:
        stars: dict[str, int | None] = dict.fromkeys(_STARS)
        return {"totalReviews": None, "averageRating": None, "ratingDistribution": stars}
    ratings = [_rating(_dice(key, product_id, index)) for index in range(count)]
    return {
        "totalReviews": count,
        "averageRating": round(sum(ratings) / count, 2) if count else None,
        "ratingDistribution": {name: ratings.count(star + 1) for star, name in enumerate(_STARS)},
    }


def _dice(key: bytes, product_id: str, index: int) -> Dice:
    return Dice(key, f"review:{product_id}:{index}")


def _rating(dice: Dice) -> int:
    """Draw a rating; it is the first throw of a review's dice, so the summary draws the same."""
    return 5 - min(4, dice.below(9))


def _review(key: bytes, product_id: str, region: str | None, index: int) -> Json:
    dice = _dice(key, product_id, index)
    rating = _rating(dice)
    pictures = [f"{CDN}/review-{index}-{side}.webp" for side in range(dice.below(3))]
    return {
        "id": f"74{index:05d}{dice.below(10**12):012d}",
        "productId": product_id,
        "skuId": None if dice.chance(15) else f"{product_id}{dice.below(4)}",
        "rating": rating,
        "text": None if dice.chance(10) else dice.pick(REVIEW_TEXTS),
        "createdAt": None if dice.chance(5) else f"2026-0{1 + dice.below(9)}-11T08:00:00.000Z",
        "verifiedPurchase": None if dice.chance(10) else dice.chance(80),
        "incentivized": None if dice.chance(30) else dice.chance(10),
        "reviewer": {
            "id": None if dice.chance(10) else str(dice.below(10**12)),
            "name": None if dice.chance(10) else f"{dice.pick('abcdef')}**{dice.below(10)}",
            "avatarUrl": None if dice.chance(40) else f"{CDN}/reviewer-{index}.webp",
        },
        "media": {
            "displayImageUrl": pictures[0] if pictures else None,
            "imageUrls": pictures,
        },
        "variant": None if dice.chance(30) else dice.pick(VARIANTS),
        "country": None if dice.chance(20) else region or dice.pick(REVIEW_REGIONS),
    }
