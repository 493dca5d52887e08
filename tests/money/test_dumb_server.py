"""The same promises, kept with a server that has nothing in common with the simulator."""

import asyncio
from collections import Counter

import pytest

from asyncsfk import Archive, BudgetReachedError, Client, ConnectionLostError, Retry, events
from tests.money.accounts import Guard, assert_one_each
from tests.money.dumb_server import KEY, dumb_server
from tests.support import plain, run_through


def client_of(server, **options):
    return Client(KEY, base_url=server.url, concurrency=20, **options)


def assert_its_data(server, outcomes):
    """Outcomes hold what the server has, or as much of its beginning as they say."""
    for outcome in outcomes:
        truth = server.showcases[outcome.handle]
        products = [
            {name: value for name, value in product.items() if value is not None}
            for product in plain(outcome.products)
        ]
        if outcome.status == "complete":
            assert products == truth
        else:
            assert products == truth[: len(products)]


@pytest.mark.parametrize("seed", range(3))
async def test_its_books_agree_with_ours(seed, tmp_path):
    """A run under a ceiling, and the runs that go on with it, are honest and buy nothing twice."""
    archive = Archive(tmp_path / "dumb.sfk", durability="normal")
    async with dumb_server(seed, creators=120) as server:
        handles = list(server.showcases)
        wanted = sum(map(server.pages, handles))
        guard = Guard()
        async with client_of(server, retry=Retry(lost=0), on_event=guard) as client:
            run, outcomes = await run_through(
                client, handles, archive=archive, max_credits=wanted // 2
            )
            usage = run.usage
            assert isinstance(run.stopped, BudgetReachedError)
            assert run.budget.left == run.budget.reserved == 0
            assert usage.charged <= server.charged <= usage.charged + usage.maybe == wanted // 2
            assert usage.requests == len(server.books)
            assert len(guard.told(events.PriceRaised)) == 0
            assert_one_each(handles, outcomes)
            assert_its_data(server, outcomes)
            assert {"complete", "skipped"} <= {outcome.status for outcome in outcomes}
            assert sum(outcome.pages for outcome in outcomes) == usage.charged

            # Without a ceiling, and with answers still being lost.
            run, outcomes = await run_through(client, handles, archive=archive)
            assert_its_data(server, outcomes)
            for outcome in outcomes:
                if outcome.status != "complete":
                    assert isinstance(outcome.error, ConnectionLostError)
            spent = await asyncio.to_thread(archive.usage)
            assert spent.charged <= server.charged <= spent.charged + spent.maybe
            assert run.usage.charged + usage.charged == spent.charged

            server.is_fair = True
            run, outcomes = await run_through(client, handles, archive=archive)
            assert {outcome.status for outcome in outcomes} == {"complete"}
            assert_its_data(server, outcomes)
            assert run.usage.maybe == 0
        paid = [((handle, cursor), told) for handle, cursor, price, told in server.books if price]
        sold, lost = (
            Counter(page for page, _ in paid),
            Counter(page for page, told in paid if not told),
        )
        assert all(count - 1 <= lost[page] for page, count in sold.items())
        assert server.charged == wanted + lost.total()
        assert lost.total() > 0
        # Whatever was answered once was never asked for again.
        assert set(Counter(page for page, told in paid if told).values()) == {1}
        asked = len(server.books)
        async with client_of(server) as client:
            _, again = await run_through(client, handles, archive=archive, max_credits=1)
        assert {outcome.status for outcome in again} == {"complete"}
        assert len(server.books) == asked


async def test_a_wrong_key_buys_nothing(tmp_path):
    """A run that is refused ends with nothing charged, reserved or on file."""
    archive = Archive(tmp_path / "dumb.sfk", durability="normal")
    async with (
        dumb_server(1, creators=30) as server,
        Client("sfk_wrong", base_url=server.url, concurrency=5) as client,
    ):
        run, outcomes = await run_through(client, server.showcases, archive=archive, max_credits=10)
    assert server.charged == 0
    assert {outcome.status for outcome in outcomes} == {"failed", "skipped"}
    assert (run.budget.charged, run.budget.maybe, run.budget.reserved) == (0, 0, 0)
    info = await asyncio.to_thread(archive.info)
    assert (info.answers, info.usage.charged, info.usage.maybe) == (0, 0, 0)
