"""One client for a whole service: a page that several users want at once is paid for once.

`Showcases` is what a web service would open at its start and close at its end. Here fifty users
ask it at the same moment for the pages of four creators.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Self

from asyncsfk import (
    Client,
    InvalidArgumentError,
    RateLimitedError,
    Retry,
    SfkError,
    UnavailableError,
    Usage,
)

CREATORS = ["mrbeast", "@MrBeast", "zachking", "khaby.lame", "jlo", "not a handle"]
USERS = 50


@dataclass(frozen=True)
class Reply:
    """What a user is told: an HTTP status, and a text."""

    status: int
    text: str


class Showcases:
    """The part of a service that talks to the API."""

    def __init__(self) -> None:
        # The limits hold for all users together. Nobody is kept waiting by a longer Retry-After,
        # nor by an API that has been out of reach for longer.
        retry = Retry(attempts=3, max_retry_after=5, max_backoff=2, outage=10)
        self._client = Client(concurrency=200, retry=retry)

    async def __aenter__(self) -> Self:
        await self._client.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @property
    def usage(self) -> Usage:
        """What all users together have cost."""
        return self._client.usage

    async def answer(self, handle: str) -> Reply:
        """Answer one user; if that fails, no other user is affected."""
        try:
            # Users do not wait for minutes: this includes retries, and pauses of all calls.
            async with asyncio.timeout(25):
                page = await self._client.showcase_page(handle)
        except TimeoutError:
            return Reply(504, "no answer in time")
        except InvalidArgumentError as error:
            return Reply(400, error.message)
        except (RateLimitedError, UnavailableError) as error:
            return Reply(503, f"try again in {error.retry_after or 30:.0f} s")
        except SfkError as error:
            return Reply(502, type(error).__name__)
        return Reply(200, f"{page.handle} shows {len(page.products)} products first")


async def main() -> None:
    """Serve fifty users."""
    async with Showcases() as showcases, asyncio.TaskGroup() as users:
        tasks = [
            users.create_task(showcases.answer(CREATORS[number % len(CREATORS)]))
            for number in range(USERS)
        ]
        replies = Counter([await task for task in tasks])
    for reply, count in replies.most_common():
        print(f"{count:3} users: {reply.status} {reply.text}")
    usage = showcases.usage
    print(f"{usage.requests} requests, {usage.charged} credits for {USERS} users")


if __name__ == "__main__":
    asyncio.run(main())
