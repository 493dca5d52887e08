"""What the ledger says."""

import asyncio
import gc

import pytest

from asyncsfk.simulator import Fault, Latency, Ledger, Page, Route


async def test_an_entry_tells_it_all(ask):
    """An entry says what was asked, what was answered, what it cost and when."""
    now = asyncio.get_running_loop().time()
    await ask.page("MrBeast", region="US")
    [entry] = ask.sim.ledger.entries
    assert entry.number == 1
    assert entry.route == "/v1/tiktok/profiles/{handle}/showcase-products" == Route.SHOWCASE
    assert entry.path == "/v1/tiktok/profiles/MrBeast/showcase-products?region=US"
    assert (entry.handle, entry.region, entry.cursor) == ("MrBeast", "US", None)
    assert (entry.status, entry.code, entry.charged, entry.delivered) == (200, None, 1, True)
    assert (entry.fault, entry.authorized, entry.cookie) == (None, True, False)
    assert now <= entry.started <= entry.finished
    assert entry.page == Page(Route.SHOWCASE, "mrbeast", "US", None)


async def test_entries_of_other_routes(ask):
    """Reviews are entered by product and page, unknown routes and refusals with what is known."""
    await ask.get("/v1/tiktok/products/reviews", productId="77", page=3, region="GB")
    await ask.get("/v1/tiktok/products/reviews", url="https://x.example")
    await ask.get("/nowhere")
    await ask.get("/v1/tiktok/profiles/-")
    reviews, by_url, unknown, refused = ask.sim.ledger
    assert reviews.page == Page(Route.REVIEWS, "77", "GB", "3")
    assert (by_url.handle, by_url.cursor) == ("https://x.example", None)
    assert (unknown.route, unknown.status, unknown.code) == (None, 404, "not_found")
    assert (refused.handle, refused.status, refused.code) == ("-", 400, "bad_request")


async def test_the_first_page_of_reviews_is_one_page(ask):
    """Page 1 of reviews is the same page whether or not it was asked for by number."""
    await ask.get("/v1/tiktok/products/reviews", productId="77")
    await ask.get("/v1/tiktok/products/reviews", productId="77", page=1)
    assert ask.sim.ledger.paid_twice() == {Page(Route.REVIEWS, "77", None, None): 2}


async def test_addresses_are_pages_of_their_own(ask):
    """Reviews by addresses without an id in them are as many pages as there are addresses."""
    for name in ("ZMabc", "ZMABC", "ZMxyz"):
        await ask.get("/v1/tiktok/products/reviews", url=f"https://vm.tiktok.com/{name}/")
    assert (ask.sim.ledger.charged, ask.sim.ledger.paid_twice()) == (3, {})
    await ask.get("/v1/tiktok/products/reviews", url="https://vm.tiktok.com/ZMabc/")
    [page] = ask.sim.ledger.paid_twice()
    assert page == Page(Route.REVIEWS, "https://vm.tiktok.com/ZMabc/", None, None)


async def test_hits_are_counted(ask):
    """Hits can be asked for by handle, cursor and route."""
    cursor = (await ask.page("a.30products")).data["page"]["nextCursor"]
    await ask.page("A.30Products", cursor=cursor)
    await ask.page("b.30products")
    await ask.get("/v1/tiktok/profiles/b.30products")
    hits = ask.sim.ledger.hits
    assert (hits(), hits("a.30products"), hits("B.30products"), hits("c")) == (4, 2, 2, 0)
    assert (hits(cursor=None), hits(cursor=cursor), hits("a.30products", cursor=None)) == (3, 1, 1)
    assert hits(route=Route.TIKTOK_PROFILE) == 1


async def test_pages_paid_twice_stand_out(ask):
    """A page paid more than once is found, whatever the case of the handle."""
    await ask.page("mrbeast")
    await ask.page("mrbeast", region="US")
    assert ask.sim.ledger.paid_twice() == {}
    await ask.page("MrBeast")
    assert ask.sim.ledger.paid_twice() == {Page(Route.SHOWCASE, "mrbeast", None, None): 2}
    await ask.page("mrbeast", region="us")
    assert ask.sim.ledger.paid_twice()[Page(Route.SHOWCASE, "mrbeast", "US", None)] == 2


async def test_what_was_free_was_not_paid(simulate):
    """A page that was refused and then bought was paid once; free answers are never paid."""
    async with simulate(faults=[Fault.status(503, times=2)]) as ask:
        assert [(await ask.page("a")).status for _ in range(3)] == [503, 503, 200]
        for _ in range(2):
            await ask.get("/v1/balance")
        assert (ask.sim.ledger.charged, ask.sim.ledger.paid_twice()) == (1, {})


async def test_a_charge_without_an_answer_is_entered(simulate):
    """A charge is in the ledger before the answer is sent."""
    async with simulate(latency=Latency.fixed(5)) as ask:
        asking = asyncio.create_task(ask.page("mrbeast"))
        await asyncio.sleep(1)
        [entry] = ask.sim.ledger
        assert (entry.charged, entry.status, entry.finished, entry.delivered) == (
            1,
            None,
            None,
            False,
        )
        assert (ask.sim.ledger.charged, ask.sim.ledger.in_flight) == (1, 1)
        assert (await asking).status == 200
        [entry] = ask.sim.ledger
        assert entry.finished - entry.started == pytest.approx(5, abs=0.1)
        assert ask.sim.ledger.in_flight == 0


async def test_a_client_that_leaves_was_charged_and_not_served(simulate):
    """When the client goes away, the work ends and the charge stays."""
    async with simulate(latency=Latency.fixed(5)) as ask:
        asking = asyncio.create_task(ask.page("mrbeast"))
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.sleep(1)
        [entry] = ask.sim.ledger
        assert (entry.charged, entry.status, entry.delivered) == (1, None, False)
        assert entry.finished is not None
        assert ask.sim.ledger.in_flight == 0


async def test_requests_in_flight_are_counted(simulate):
    """The ledger knows the most requests that were ever in work at once."""
    async with simulate(latency=Latency.fixed(1)) as ask:
        await asyncio.gather(*(ask.page(handle) for handle in ask.sim.handles(30)))
        assert (ask.sim.ledger.max_in_flight, ask.sim.ledger.in_flight) == (30, 0)
        await ask.page("mrbeast")
        assert ask.sim.ledger.max_in_flight == 30


async def test_requests_may_be_made_while_the_ledger_is_read(ask):
    """Iterating over the ledger gives what was there when it began."""
    for handle in ("a", "b"):
        await ask.page(handle)
    for entry in ask.sim.ledger:
        await ask.page(entry.handle)
    assert len(ask.sim.ledger) == 4


async def test_old_entries_are_forgotten(simulate):
    """With a limit, entries, hits and double payments cover the newest; totals cover all."""
    async with simulate(keep_entries=2) as ask:
        for handle in ("a", "b", "b", "c", "health"):
            await ask.page(handle)
        ledger = ask.sim.ledger
        assert [entry.handle for entry in ledger] == ["c", "health"]
        assert (len(ledger), ledger.requests, ledger.charged) == (2, 5, 5)
        assert (ledger.hits("b"), ledger.hits("c"), ledger.paid_twice()) == (0, 1, {})
        await ask.page("c", region="US")
        await ask.get("/health")
        await ask.get("/health")
        assert ledger.hits() == 2


async def test_of_one_page_what_is_kept_is_counted(simulate):
    """Of requests for a page the kept ones count, and the charged ones of those as paid."""
    async with simulate(keep_entries=4, faults=[Fault.status(503, requests=[2])]) as ask:
        ledger = ask.sim.ledger
        for handle in ("a", "a", "a", "b", "a"):
            await ask.page(handle)
        [page] = ledger.paid_twice()
        assert (ledger.hits("a"), ledger.paid_twice()) == (3, {page: 2})
        await ask.page("c")
        assert (ledger.hits("a"), ledger.paid_twice()) == (2, {page: 2})


async def test_nothing_is_left_of_a_forgotten_page(simulate):
    """The ledger's memory is that of the entries kept, however many pages are asked for."""
    async with simulate(keep_entries=2) as ask:
        for handle in ("forgotten", "b", "c"):
            await ask.page(handle)
        left = {each.handle for each in gc.get_objects() if type(each) is Page}
        assert "forgotten" not in left
        assert "c" in left


async def test_a_forgotten_request_still_counts(simulate):
    """A request forgotten while it is in work is charged and finished all the same."""
    async with simulate(keep_entries=0, faults=[Fault.close(charged=True, times=1)]) as ask:
        assert await ask.raw("/v1/tiktok/profiles/a") == b""
        ledger = ask.sim.ledger
        assert (len(ledger), ledger.charged, ledger.in_flight) == (0, 1, 0)
        # Which page it was is forgotten with it.
        await ask.get("/v1/tiktok/profiles/a")
        assert (ledger.charged, ledger.paid_twice()) == (2, {})


async def test_the_key_is_nowhere(ask, caplog):
    """The key is in no repr and no log record, not even when it was sent in a URL."""
    key = ask.sim.api_key
    await ask.get("/v1/whoami", api_key=key)
    await ask.get(f"/v1/tiktok/profiles/{key}")
    await ask.get(f"/v1/tiktok/profiles/{key}/showcase-products", region=key)
    await ask.get("/v1/tiktok/products/reviews", productId=key)
    shown = repr((ask.sim, ask.sim.ledger, ask.sim.ledger.entries, ask.sim.faults))
    assert key not in shown
    assert "[key]" in shown
    assert caplog.records == []
    assert ask.sim.ledger.hits(key) == 0


def test_an_empty_ledger():
    """A ledger begins with nothing."""
    assert repr(Ledger()) == "<Ledger: 0 requests, 0 credits charged, 0 in flight>"
    assert Ledger().entries == ()
