"""What do buyers say about a creator's best-selling products?

    python best_seller_reviews.py [HANDLE]

Costs a credit for each page of the showcase (at most five) and for each page of reviews (at most
two for each of the five best products). If no products are shown, the profile costs one.
"""

from __future__ import annotations

import asyncio
import sys
from statistics import fmean

from asyncsfk import Client, Product, SfkError

BEST = 5


def sold(product: Product) -> int:
    """Return how often a product was sold, 0 if the API does not say."""
    return (product.sales.sold_count if product.sales else None) or 0


async def describe(client: Client, product: Product) -> str:
    """Return a line about a product and its newest reviews."""
    title = product.title or f"product {product.id}"
    try:
        reviews = await client.reviews(product.id, max_pages=2).collect()
    except SfkError as error:
        return f"{sold(product):>9,} sold  {title}: no reviews, {type(error).__name__}"
    ratings = [review.rating for review in reviews if review.rating is not None]
    stars = f"{fmean(ratings):.1f} stars in {len(ratings)} reviews" if ratings else "no reviews"
    return f"{sold(product):>9,} sold  {title}: {stars}"


async def main() -> None:
    """Print the best-selling products of a creator with their stars."""
    handle = sys.argv[1] if len(sys.argv) > 1 else "willsmith"
    async with Client() as client:
        products = await client.showcase(handle, max_pages=5).collect()
        if not products:
            lookup = await client.tiktok_profile(handle)
            print(f"{handle} shows no products; the account: {lookup.lookup_status}")
            return
        best = sorted(products, key=sold, reverse=True)[:BEST]
        for line in await asyncio.gather(*(describe(client, product) for product in best)):
            print(line)
        print(f"{client.usage.charged} credits, perhaps {client.usage.maybe} more")


if __name__ == "__main__":
    asyncio.run(main())
