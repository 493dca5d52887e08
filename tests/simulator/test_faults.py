"""When faults strike, and how long answers take."""

import asyncio
from dataclasses import replace

import pytest

from asyncsfk.simulator import CURABLE, FATAL, Fault, Latency, Route, Simulator


async def test_delays_add_up(simulate):
    """All matching delays are waited for, even before another fault."""
    faults = [
        Fault.delay(Latency.fixed(1)),
        Fault.close(handles={"b"}),
        Fault.delay(Latency.fixed(2)),
        Fault.delay(Latency.fixed(90), handles={"c"}),
    ]
    async with simulate(latency=Latency.fixed(4), faults=faults) as ask:
        await ask.page("a")
        assert await ask.raw("/v1/tiktok/profiles/b") == b""
        slow, closed = ask.sim.ledger
        assert (slow.fault, closed.fault) == ("delay", "close")
        for entry in (slow, closed):
            assert entry.finished - entry.started == pytest.approx(7, abs=0.1)


async def test_conditions(simulate):
    """A fault strikes if all its conditions hold; of several, the first in the list does."""
    faults = [
        Fault.status(500, requests={3}),
        Fault.status(501, handles={"MrBeast"}, routes={Route.TIKTOK_PROFILE}),
        Fault.status(502, pages={2}),
        Fault.status(503, routes=["/v1/whoami"], times=1),
        Fault.status(504, handles={"mrbeast"}, requests=range(6, 99), pages=[1]),
    ]
    async with simulate(faults=faults) as ask:
        page = await ask.page("a.45products")  # 1
        cursor = page.data["page"]["nextCursor"]
        statuses = [
            (await ask.page("a.45products", cursor=cursor)).status,
            (await ask.page("a.45products", cursor=cursor)).status,
            (await ask.get("/v1/tiktok/profiles/mrbeast")).status,
            (await ask.page("mrbeast")).status,
            (await ask.page("mrbeast")).status,
            (await ask.get("/v1/whoami")).status,
            (await ask.get("/v1/whoami")).status,
            (await ask.get("/v1/tiktok/products/reviews", productId="1", page=2)).status,
        ]
        assert statuses == [502, 500, 501, 200, 504, 503, 200, 502]


async def test_faults_spare_bad_requests(simulate):
    """A request that is refused anyway is refused as usual, and struck by no fault."""
    async with simulate(faults=[Fault.not_json()]) as ask:
        assert (await ask.page("a", cursor="bad")).status == 400
        assert (await ask.get("/v1/whoami", headers={})).status == 401
        assert {entry.fault for entry in ask.sim.ledger} == {None}


async def test_faults_change_while_running(simulate):
    """Faults can be added and replaced at any time; replacing forgets how often they struck."""
    once = Fault.status(503, times=1)
    async with simulate(faults=[once]) as ask:
        statuses = [(await ask.page("a")).status for _ in range(2)]
        ask.sim.faults = [once]
        statuses += [(await ask.page("a")).status for _ in range(2)]
        ask.sim.add_fault(Fault.status(500))
        statuses.append((await ask.page("a")).status)
        assert len(ask.sim.faults) == 2
        ask.sim.faults = ()
        statuses.append((await ask.page("a")).status)
        assert statuses == [503, 200, 503, 200, 500, 200]


async def test_chance_is_seeded(simulate):
    """Which requests are struck follows from the seed and the page, not from the order."""
    faults = [Fault.status(503, probability=0.3), Fault.status(500, probability=0.2)]

    async def statuses(seed, handles):
        async with simulate(seed, faults=faults) as ask:
            pairs = await asyncio.gather(*(struck(ask, handle) for handle in handles))
            return dict(pairs)

    async def struck(ask, handle):
        return handle, tuple([(await ask.page(handle)).status for _ in range(3)])

    handles = [f"creator{number}" for number in range(60)]
    forth = await statuses(1, handles)
    back = await statuses(1, handles[::-1])
    assert forth == back != await statuses(2, handles)
    seen = [status for each in forth.values() for status in each]
    assert 30 < seen.count(503) < 80
    assert 10 < seen.count(500) < 45
    # A retry is a new draw.
    assert any(len(set(each)) > 1 for each in forth.values())


async def test_overload(simulate):
    """More requests at once than allowed are refused, with a Retry-After; free routes are not."""
    options = {"max_concurrent": 2, "overload_retry_after": "7", "latency": Latency.fixed(1)}
    async with simulate(**options) as ask:
        pages = asyncio.gather(*(ask.page("a") for _ in range(5)))
        await asyncio.sleep(0.5)
        stranger = await ask.get("/v1/tiktok/profiles/a", headers={})
        free = await asyncio.gather(*map(ask.get, ("/v1/whoami", "/v1/balance", "/health")))
        assert [reply.status for reply in (stranger, *free)] == [401, 200, 200, 200]
        refused = [reply for reply in await pages if reply.status != 200]
        assert [reply.status for reply in refused] == [503] * 3
        assert {(reply.code, reply.headers["Retry-After"]) for reply in refused} == {
            ("temporarily_unavailable", "7")
        }
        assert ask.sim.ledger.charged == 2


async def test_overload_without_a_hint(simulate):
    """An overload may be refused without a Retry-After."""
    async with simulate(max_concurrent=0, overload_retry_after=None) as ask:
        refused = await ask.page("a")
        assert (refused.status, refused.headers.get("Retry-After")) == (503, None)


@pytest.mark.parametrize("latency", [Latency.uniform(1, 3), Latency.lognormal(1, 2, cap=3)])
async def test_latency_varies_by_seed(simulate, latency):
    """Random latencies stay in bounds, vary from page to page, and follow from the seed."""

    async def times(seed):
        async with simulate(seed, latency=latency) as ask:
            for handle in ask.sim.handles(15):
                await ask.page(handle)
            return [round(entry.finished - entry.started, 2) for entry in ask.sim.ledger]

    one, same, other = await times(1), await times(1), await times(2)
    assert one == pytest.approx(same, abs=0.05)
    assert one != pytest.approx(other, abs=0.05)
    assert len(set(one)) > 5
    assert max(one) <= 3.1
    assert latency.shape == "lognormal" or min(one) >= 1


@pytest.mark.parametrize(
    ("named", "make"),
    [
        ("probability", lambda: Fault.reset(probability=1.5)),
        ("probability", lambda: Fault.reset(probability=-0.1)),
        ("times is", lambda: Fault.reset(times=-1)),
        ("condition probabilty", lambda: Fault.reset(probabilty=0.1)),
        ("one string", lambda: Fault.reset(handles="mrbeast")),
        ("one string", lambda: Fault.reset(routes=Route.SHOWCASE)),
        ("one string", lambda: Fault.reset(pages="1")),
        ("Route", lambda: Fault.reset(routes=["showcase"])),
        ("a handle, not", lambda: Fault.reset(handles=["https://www.tiktok.com/@mrbeast"])),
        ("a page is", lambda: Fault.reset(pages=["1"])),
        ("a page is", lambda: Fault.reset(pages=[0])),
        ("a request is", lambda: Fault.reset(requests=[0])),
        ("a chunk is", lambda: Fault.drip(0)),
        ("finite seconds", lambda: Fault.drip(1, -1)),
        ("finite seconds", lambda: Fault.drip(1, float("nan"))),
        ("finite seconds", lambda: Fault.hang(float("inf"))),
        ("a cycle is", lambda: Fault.cursor_loop(cycle=0)),
        ("a cycle is", lambda: Fault.cursor_loop(cycle=1.5)),
        ("times is", lambda: Fault.reset(times=1.5)),
        ("times is", lambda: Fault.reset(times=float("nan"))),
        ("leads nowhere", lambda: Fault.has_more_without_cursor("somewhere")),
        ("leads nowhere", lambda: Fault.has_more_without_cursor(0)),
        ("a depth is", lambda: Fault.deep_nesting(0)),
        ("a size is", lambda: Fault.gzip_bomb(1e6)),
        ("a size is", lambda: Fault.oversized(-1)),
        ("a size is", lambda: Fault.storm(size=0)),
        ("curable is", lambda: Fault.storm(curable="no")),
        ("JSON does not have", lambda: Fault.nan("5")),
        ("JSON does not have", lambda: Fault.nan("1e40")),
        ("a token is", lambda: Fault.nan(float("nan"))),
        ("a location is", lambda: Fault.redirect(5)),
        ("a location is", lambda: Fault.redirect("/a\r\nX-B: c")),
        ("a status is", lambda: Fault.redirect("/", 200)),
        ("a status is", lambda: Fault.redirect("/", "302")),
        ("charged is", lambda: Fault.close(charged="no")),
        ("charged is", lambda: Fault.reset(charged=None)),
        ("charged is", lambda: Fault.garbage(charged=1)),
        ("charged is", lambda: Fault.hang(charged="no")),
        ("charged is", lambda: Fault.truncate(charged=0)),
        ("chunked is", lambda: Fault.truncate(chunked="no")),
        ("chunked is", lambda: Fault.oversized(chunked=None)),
        ("retry_after is", lambda: Fault.status(503, retry_after="1\nX-B: c")),
        ("retry_after is", lambda: Fault.status(503, retry_after="date:soon")),
        ("retry_after is", lambda: Fault.status(503, retry_after=Fault.date_ahead(10**12))),
        ("a code is", lambda: Fault.status(503, code=5)),
        ("a checkout_url is", lambda: Fault.status(402, checkout_url=5)),
        ("retry_after is", lambda: Fault.status(503, retry_after=1)),
        ("a body is", lambda: Fault.status(503, body="HTML")),
        ("a charge is", lambda: Fault.status(503, charge=-1)),
        ("a status is", lambda: Fault.status("503")),
        ("a status is", lambda: Fault.status(1000)),
        ("a price is", lambda: Fault.price(-1)),
        ("a price is", lambda: Fault.price(1.5)),
        ("a place is", lambda: Fault.wrong_type("price")),
        ("finite seconds", lambda: Latency.fixed(-1)),
        ("finite seconds", lambda: Latency.fixed(float("inf"))),
        ("finite seconds", lambda: Latency.uniform(2, 1)),
        ("finite seconds", lambda: Latency.lognormal(1, float("nan"))),
        ("a latency is one of", lambda: Latency("normal", 0, 1)),
        ("a latency is made", lambda: Fault.delay(0.1)),
        ("a latency is made", lambda: Fault.delay(None)),
        ("a latency is made", lambda: Simulator(latency=0.1)),
        ("faults are made", lambda: Simulator(faults=[Fault.storm(0.1)])),
        ("faults are made", lambda: Simulator().add_fault("status")),
        ("Route", lambda: Simulator().ledger.hits(route="tiktok_profile")),
        ("a handle, not", lambda: Simulator().ledger.hits("https://www.tiktok.com/@mrbeast")),
        ("a handle, not", lambda: Simulator().product_count("https://www.tiktok.com/@mrbeast")),
        ("a handle, not", lambda: Simulator().showcase("mr-beast")),
        ("a handle, not", lambda: Simulator().account_status("")),
        ("a handle, not", lambda: Simulator().tiktok_profile("...")),
        ("a count is", lambda: Simulator().handles(-1)),
        ("a start is", lambda: Simulator().handles(2, -1)),
        ("a balance is", lambda: setattr(Simulator(), "balance", -1)),
    ],
)
def test_a_slip_is_refused(named, make):
    """A wrong argument is refused at once and by name: a test with it would prove nothing."""
    with pytest.raises((TypeError, ValueError), match=named):
        make()


async def test_what_goes_wrong_in_the_simulator_fails_the_test(simulate):
    """An error in the simulator itself fails the test; a client would only try again."""
    broken = replace(Fault.close(), pages=5)
    with pytest.raises(RuntimeError, match="simulator itself"):
        async with simulate(faults=[broken]) as ask:
            assert (await ask.page("zachking")).status == 500
    # An exception of the test's own comes first.
    with pytest.raises(KeyError):
        async with simulate(faults=[broken]) as ask:
            await ask.page("zachking")
            raise KeyError


async def test_free_routes_stay_free(simulate):
    """No fault makes an account, its balance or the API's health cost anything."""
    faults = [Fault.price(3, times=3), Fault.status(502, charge=1, times=3)]
    async with simulate(credits=9, faults=faults) as ask:
        for status in 200, 502:
            for path in "/v1/whoami", "/v1/balance", "/health":
                reply = await ask.get(path)
                assert reply.status == status
                assert reply.json.get("meta", {"creditsCharged": 0})["creditsCharged"] == 0
        assert (ask.sim.ledger.charged, ask.sim.balance) == (0, 9)


async def test_a_fault_waits_for_a_request_that_is_served(simulate):
    """A request that is refused for lack of credits does not use a fault up."""
    async with simulate(credits=0, faults=[Fault.not_json(times=1)]) as ask:
        assert (await ask.page("zachking")).status == 402
        ask.sim.balance = 10
        await ask.page("zachking")
        assert [entry.fault for entry in ask.sim.ledger] == [None, "not_json"]


@pytest.mark.parametrize("fault", [Fault.status(503, times=1), Fault.close(times=1)])
async def test_an_uncharged_fault_waits_for_credits_too(simulate, fault):
    """A request that there are no credits for is a 402, though its fault would be free."""
    async with simulate(credits=0, faults=[fault]) as ask:
        assert (await ask.page("zachking")).status == 402
        assert (await ask.get("/v1/tiktok/products/reviews", productId="1")).status == 402
        assert {entry.fault for entry in ask.sim.ledger} == {None}
        ask.sim.balance = 1
        await ask.raw("/v1/tiktok/profiles/zachking")
        assert ask.sim.ledger.entries[-1].fault == fault.name
        assert ask.sim.balance == 1


async def test_a_fault_that_costs_more_than_the_page_needs_those_credits(simulate):
    """Nothing is charged that is not there, so a balance never falls below 0."""
    async with simulate(credits=1, faults=[Fault.status(502, charge=2)]) as ask:
        assert (await ask.page("zachking")).status == 402
        assert (ask.sim.balance, ask.sim.ledger.charged) == (1, 0)


async def test_a_page_that_costs_nothing_needs_no_credits(simulate):
    """A page whose price has become 0 is served whatever the balance."""
    async with simulate(credits=0, faults=[Fault.price(0)]) as ask:
        reply = await ask.page("zachking")
        assert (reply.status, reply.json["meta"]["creditsCharged"]) == (200, 0)


async def test_handles_as_people_write_them(simulate):
    """Faults, the ledger and the truth also know a creator by a handle with an @."""
    async with simulate(faults=[Fault.status(500, handles=["@ZachKing"])]) as ask:
        assert (await ask.page("zachking")).status == 500
        assert ask.sim.ledger.hits("@ZachKing") == 1
        assert ask.sim.showcase("@ZachKing") == ask.sim.showcase("zachking") != []
        assert ask.sim.product_count("@zachking") == ask.sim.product_count("zachking")
        assert ask.sim.account_status("@unknown_1") == "not_found"
        assert ask.sim.tiktok_profile("@zachking") == ask.sim.tiktok_profile("ZachKing")


def test_a_latency_is_never_infinite():
    """Not even the wildest distribution leaves its cap."""
    assert Latency.lognormal(1, 1e300, cap=2).sample(0.999, 0.0) == 2


def test_a_storm_has_every_kind():
    """A storm has each kind of fault that a run survives, at the probability asked for."""
    storm = Fault.storm(0.05)
    assert {fault.name for fault in storm} == CURABLE | FATAL
    assert {fault.probability for fault in storm} == {0.05}
    assert {fault.name for fault in Fault.storm(curable=True)} == CURABLE
    assert not CURABLE & FATAL
    made = {name for name, value in vars(Fault).items() if isinstance(value, classmethod)}
    assert made - {"_make", "storm"} == CURABLE | FATAL


async def test_a_storm_strikes_with_all_it_has(simulate):
    """Under a heavy storm over many requests the server stays up, and its ledger consistent."""
    storm = Fault.storm(0.15, size=2**17, hang=1)
    async with simulate(faults=storm) as ask:
        targets = [f"/v1/tiktok/profiles/{h}/showcase-products" for h in ask.sim.handles(150)]
        await asyncio.gather(*(ask.raw(target) for target in targets), return_exceptions=True)
        ledger = ask.sim.ledger
        assert ledger.requests == 150
        assert ledger.in_flight == 0
        assert ledger.charged == sum(entry.charged for entry in ledger)
        assert len({entry.fault for entry in ledger}) > 6
        assert {entry.status for entry in ledger} >= {None, 200, 500, 502, 503}
        ask.sim.faults = ()
        assert (await ask.page("a")).status == 200
