"""A process that buys showcases into an archive, and may be killed doing so (see test_kill)."""

import asyncio
import os
import random
from argparse import ArgumentParser

from asyncsfk import Archive, Client

COUNT = 2_000
PAGE = 3
LONGEST = 8


def handles(seed):
    """Name creators of 1 to 8 pages, most of them short, as they are."""
    rng = random.Random(seed)
    for n in range(COUNT):
        pages = 1
        while pages < LONGEST and rng.random() < 0.3:
            pages += 1
        yield f"c{n}.{pages * PAGE - rng.randrange(PAGE)}products"


async def buy(arguments):
    """Write down each page and outcome as it is handed out; nothing is held back in a buffer."""
    log = os.open(arguments.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def note(what, handle):
        os.write(log, f"{what} {handle}\n".encode())

    async with (
        Client(arguments.key, base_url=arguments.url) as client,
        client.showcases(
            handles(arguments.seed),
            archive=Archive(arguments.archive),
            concurrency=arguments.width,
            max_credits=arguments.ceiling,
        ) as run,
    ):
        async for page in run.pages(lambda outcome: note(outcome.status, outcome.handle)):
            note("page", page.handle)


if __name__ == "__main__":
    parser = ArgumentParser()
    for name in ("url", "key", "archive", "log"):
        parser.add_argument(name)
    for name in ("--seed", "--width", "--ceiling"):
        parser.add_argument(name, type=int)
    asyncio.run(buy(parser.parse_args()))
