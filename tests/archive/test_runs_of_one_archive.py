"""Runs that come and go in one archive: each leaves it as if it had never been there."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from asyncsfk import Archive, ArchiveError, Client
from tests.archive.support import beside as lies_beside
from tests.archive.support import run_of
from tests.support import KEY, ONCE, sql


async def test_a_run_that_is_refused_does_not_count_as_one(client, path):
    """Runs that could not be entered do not keep the last run from closing the archive."""
    archive = Archive(path)
    await run_of(client, ["a.5products"], archive=archive)
    async with Client(KEY, base_url="https://api.example.test", retry=ONCE) as stranger:
        for _ in range(2):
            with pytest.raises(ArchiveError, match="holds"):
                async with stranger.showcases(["x"], archive=archive):
                    pass
    await run_of(client, ["b.5products"], archive=archive)
    assert not archive.is_open
    assert lies_beside(path) == []


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a run"])
async def test_who_finished_a_showcase_is_forgotten_with_the_run(client, archive, path, beside):
    """Runs over a showcase leave one stamp in all, so a service's archive does not grow by them."""
    end = asyncio.Event()

    async def handles():
        await end.wait()
        yield "b.5products"

    async with AsyncExitStack() as stack:
        if beside:
            other = await stack.enter_async_context(client.showcases(handles(), archive=archive))
            pulled = asyncio.create_task(anext(other))
        for _ in range(4):
            await run_of(client, ["a.5products"], archive=archive)
        end.set()
        if beside:
            assert (await pulled).status == "complete"
    stamps = await asyncio.to_thread(
        sql, path, "SELECT stamps FROM showcase WHERE handle LIKE 'a%'"
    )
    assert len(stamps[0][0].split()) == 1


@pytest.mark.parametrize("again", ["aclose", "open"])
async def test_after_a_closing_that_was_given_up(client, path, again):
    """A closing that was given up goes on to its end, and the next call waits for it."""
    async with Archive(path) as archive:
        await client.showcase_page("a.5products", archive=archive)
        closing = asyncio.create_task(archive.aclose())
        await asyncio.sleep(0)
        for _ in range(2):
            closing.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
        assert closing.cancelled()
        await getattr(archive, again)()
        assert archive.is_open is (again == "open")
        assert bool(lies_beside(path)) is archive.is_open
    assert lies_beside(path) == []
