"""A crawler lends its aiohttp session to the client, with its tracing and its connections.

The crawler counts every request that leaves its session. The client's own count is the same,
since it sends each request once and follows no redirect.
"""

from __future__ import annotations

import asyncio

import aiohttp

from asyncsfk import Client

CREATORS = ["mrbeast", "zachking", "khaby.lame", "jlo", "willsmith", "spencerx"]


class Crawler:
    """Owns the session, whose pool limits how many requests are under way at once."""

    def __init__(self) -> None:
        self.sent = 0
        tracing = aiohttp.TraceConfig()
        tracing.on_request_start.append(self._count)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=50),
            trace_configs=[tracing],
        )

    async def _count(self, *_: object) -> None:
        self.sent += 1

    async def aclose(self) -> None:
        """Close the session."""
        await self.session.close()


async def main() -> None:
    """Crawl some showcases, at most three pages each."""
    crawler = Crawler()
    try:
        async with (
            Client(session=crawler.session) as client,
            client.showcases(CREATORS, max_pages=3, ordered=True) as run,
        ):
            async for outcome in run:
                pages = [product.url for product in outcome.products if product.url is not None]
                print(f"{outcome.handle}: {outcome.status}, {len(pages)} product pages to crawl")
        print(f"the session sent {crawler.sent} requests, the client made {run.usage.requests}")
        # The client is closed, the session is still the crawler's.
        print("the session is open" if not crawler.session.closed else "the session is closed")
    finally:
        await crawler.aclose()


if __name__ == "__main__":
    asyncio.run(main())
