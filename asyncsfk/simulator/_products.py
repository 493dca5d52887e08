"""The products of a showcase, as the API shows them."""
# ruff: noqa: PLR2004 - every second line holds a likelihood

from collections.abc import Callable
from typing import Any, Final, TypeAlias
from zlib import crc32

from asyncsfk.simulator._creators import Creator
from asyncsfk.simulator._dice import Dice, digest
from asyncsfk.simulator._words import CDN, CURRENCIES, TITLES, Currency

#: A JSON object, as `json` reads it.
Json: TypeAlias = dict[str, Any]

_Flip: TypeAlias = Callable[[], int]

_TENS: Final = tuple(10**power for power in range(8))
_FIRST_ID: Final = 1_729_000_000_000_000_000
_ID_SPAN: Final = 100_000
_CURRENCIES: Final = tuple(CURRENCIES.values())


def products(key: bytes, creator: Creator, region: str | None, start: int, stop: int) -> list[Json]:
    """Derive the products number `start` to `stop - 1` of a creator, as seen from a region."""
    currency = currency_of(region or creator.home)
    market = currency.code + (region or creator.home).upper()
    return [
        _product(key, creator, index, currency, market)
        for index in range(start, min(stop, creator.products))
    ]


def currency_of(region: str) -> Currency:
    """Return the currency of a region; an unknown region has one, too, always the same."""
    region = region.upper()
    return CURRENCIES.get(region) or _CURRENCIES[crc32(region.encode()) % len(_CURRENCIES)]


def _product(key: bytes, creator: Creator, index: int, currency: Currency, market: str) -> Json:
    # The hot path: each likelihood takes a byte (below 5 is 2%, below 13 is 5%), numbers the rest.
    entropy = digest(key, f"product:{creator.handle}:{index}", 64)
    flip = iter(entropy).__next__
    pool = int.from_bytes(entropy[36:], "little")
    number = (index * 38_917 + creator.serial) % _ID_SPAN
    product_id = str(_FIRST_ID + creator.serial % (7 * 10**9) * _ID_SPAN + number)
    pool, sold = divmod(pool, _TENS[1 + flip() % 6])
    pool, seller = divmod(pool, 10**15)
    pool, cents = divmod(pool, _TENS[2 + flip() % 4])
    product: Json = {
        "id": product_id,
        "title": None if flip() < 5 else _title(flip, index),
        "url": None if flip() < 8 else f"https://www.tiktok.com/shop/pdp/{product_id}",
        "image": None if flip() < 10 else _image(flip, product_id),
        "price": None
        if flip() < 13
        else _price(flip, 99 + cents, crc32((product_id + market).encode()), currency),
        "rating": None if flip() < 38 else _rating(flip, pool),
        "sales": {"soldCount": 0 if flip() < 25 else sold},
        "seller": None if flip() < 15 else {"id": f"7495{seller:015d}"},
    }
    if flip() < 64:
        dice = Dice(key, f"details:{product_id}")
        product["details"] = _details(dice, product_id, currency)
    return product


def _title(flip: _Flip, index: int) -> str:
    title = TITLES[flip() % len(TITLES)]
    if flip() < 3:
        title *= 12
    return title if flip() < 50 else f"{title} #{index}"


def _image(flip: _Flip, product_id: str) -> Json:
    urls = [f"{CDN}/{product_id}~{side}.webp" for side in range(flip() % 6)]
    sized = flip() > 30
    return {
        "url": urls[0] if urls and flip() > 10 else None,
        "urls": urls,
        "width": 300 + 50 * (flip() % 20) if sized else None,
        "height": 300 + 50 * (flip() % 20) if sized and flip() > 10 else None,
    }


def _price(flip: _Flip, cents: int, tilt: int, currency: Currency) -> Json:
    sale = cents / 100 * (0.9 + tilt % 2001 / 10_000) * currency.per_dollar
    off = flip() % 90 if flip() < 140 else 0
    digits = currency.decimals
    return {
        "currencyCode": None if flip() < 8 else currency.code,
        "currencySymbol": None if flip() < 13 else currency.symbol,
        "salePrice": None if flip() < 10 else f"{sale:.{digits}f}",
        "originalPrice": f"{sale * 100 / (100 - off):.{digits}f}" if off else None,
        "discountPercent": f"{off}%" if off else None,
    }


def _rating(flip: _Flip, pool: int) -> Json:
    if flip() < 50:
        return {"score": None, "reviewCount": 0}
    score = 5 if flip() < 25 else 2 + flip() % 31 / 10
    return {"score": score, "reviewCount": 1 + pool % _TENS[1 + flip() % 5]}


def _details(dice: Dice, product_id: str, currency: Currency) -> Json:
    return {
        "product_status": dice.below(4),
        "skus": [
            {"sku_id": f"{product_id}{sku}", "stock": None if dice.chance(30) else dice.below(999)}
            for sku in range(dice.below(4))
        ],
        "promotion": None if dice.chance(60) else {"label": "⚡ Flash", "ends_at": 1_790_000_000},
        "commission_rate": dice.below(40) / 100,
        "currency": currency.code,
        "flags": {"is_ad": dice.chance(10), "free_shipping": dice.chance(40)},
    }
