"""Cases in which an earlier version of the client hung, paid twice, or told less than the truth."""

import asyncio
import copy
import gzip
import json
import pickle
import time

import aiohttp
import pytest

from asyncsfk import (
    Client,
    ClientStateError,
    ConfigurationError,
    ConnectionFailedError,
    InvalidArgumentError,
    LookupFailedError,
    PaginationError,
    RedirectError,
    Retry,
    ServerError,
    UndecodableError,
    Usage,
    events,
)
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.support import KEY, failure, http, raw_server, told


def review_page(number, following):
    data = {
        "lookupStatus": "found",
        "reviews": [{"id": f"r{number}", "productId": "1"}],
        "page": {"currentPage": number, "nextPage": following, "hasMore": following is not None},
    }
    return http(200, json.dumps({"data": data, "meta": {"creditsCharged": 1}}).encode())


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (gzip.compress(b"<" * 300_000), ["Content-Encoding: gzip"]),
        (b"<" * 65_536, []),
        (b"<script" * 9_000, []),
        (gzip.compress(b"") * 200_000, ["Content-Encoding: gzip"]),
    ],
    ids=["small bomb", "brackets", "scripts", "members"],
)
@pytest.mark.parametrize("status", [200, 502])
async def test_no_answer_keeps_the_event_loop_busy(status, body, head):
    """Whatever stands in a page, explaining it takes a moment."""
    async with told(http(status, body, *head)) as (_, client):
        began = time.process_time()
        await failure(client.showcase_page("x"))
        assert time.process_time() - began < 1


async def test_calls_refused_together_do_not_return_together():
    """After a Retry-After that many calls were told at once, they come back one by one."""
    count = 100
    async with (
        Simulator(
            latency=Latency.fixed(0.3),
            faults=[Fault.status(503, retry_after="2", requests=range(1, count + 1))],
        ) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=count) as client,
    ):
        outcomes = await client.fetch_showcases(sim.handles(count), max_pages=1)
        assert {outcome.status for outcome in outcomes} == {"complete"}
        starts = sorted(entry.started for entry in sim.ledger)[count:]
        for start in starts:
            assert len([other for other in starts if start <= other < start + 0.05]) <= 25


async def test_a_run_closed_from_another_task_tells_its_consumer():
    """Who waits for an outcome while the client is closed elsewhere is told, not left waiting."""
    async with Simulator(faults=[Fault.hang()]) as sim:
        client = await Client(sim.api_key, base_url=sim.url).__aenter__()
        pages = None

        async def consume():
            async with client.showcases(["a", "b"]) as run:
                async for _ in run:
                    pass

        async def consume_pages():
            nonlocal pages
            async with client.showcases(["c"]) as run:
                pages = run.pages()
                await anext(pages)

        tasks = [asyncio.create_task(consume()), asyncio.create_task(consume_pages())]
        await asyncio.sleep(1)
        await client.aclose()
        for task in tasks:
            with pytest.raises(ClientStateError):
                await task


async def test_pages_that_outlive_their_run_end():
    """An iterator kept beyond its run neither hangs nor gives what was left over."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        async with client.showcases(sim.handles(50)) as run:
            pages = run.pages()
            await anext(pages)
        with pytest.raises(ClientStateError, match="ended"):
            await anext(pages)


async def test_a_closed_client_sends_nothing_through_a_borrowed_session():
    """A listing of a closed client is refused, and one under way ends."""
    async with Simulator(latency=Latency.fixed(1)) as sim, aiohttp.ClientSession() as session:
        async with Client(sim.api_key, base_url=sim.url, session=session) as client:
            before = client.showcase("x.90products")
            under_way = asyncio.create_task(client.showcase("y.90products").collect())
            await asyncio.sleep(1.5)
        with pytest.raises(ClientStateError, match="closed") as caught:
            await before.collect()
        assert caught.value.handle == "x.90products"
        with pytest.raises(ClientStateError) as caught:
            await under_way
        assert len(caught.value.partial) == 20
        assert caught.value.cursor is not None
        assert caught.value.usage == Usage(
            requests=2, charged=1, maybe=1, pages=1, products=20, bytes=caught.value.usage.bytes
        )
        hits = sim.ledger.requests
        await asyncio.sleep(10)
        assert sim.ledger.requests == hits == 2


async def test_an_error_of_a_closed_client_says_what_all_attempts_may_have_cost():
    """A call closed during its backoff or its second attempt tells the first one's cost as well."""
    for seconds in (0.1, 3):
        async with Simulator(faults=[Fault.status(500, times=1), Fault.hang()]) as sim:
            async with Client(sim.api_key, base_url=sim.url, retry=Retry(backoff=1)) as client:
                calls = [asyncio.create_task(client.showcase_page("x")) for _ in range(5)]
                await asyncio.sleep(seconds)
                maybe = sim.ledger.requests
            errors = [await failure(call, ClientStateError) for call in calls]
            assert sum(error.usage.maybe for error in errors) == client.usage.maybe == maybe
            assert {error.handle for error in errors} == {"x"}


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_cancellation_inside_of_the_handles_is_an_error_of_theirs(asynchronous):
    """A source of handles that raises CancelledError does not make a run look complete."""

    async def handles():
        yield "a"
        raise asyncio.CancelledError

    def plain_handles():
        yield "a"
        raise asyncio.CancelledError

    outcomes = []
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        with pytest.raises(asyncio.CancelledError):
            async with client.showcases(handles() if asynchronous else plain_handles()) as run:
                async for outcome in run:
                    outcomes.append(outcome.handle)  # noqa: PERF401
    assert outcomes == ["a"]


@pytest.mark.real_time
async def test_handles_that_need_no_work_leave_the_loop_to_others():
    """Duplicates without end can be left by a timeout."""

    def handles():
        while True:
            yield "mrbeast"

    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), client.showcases(handles()) as run:
                async for _ in run:
                    pass


async def test_a_stopped_run_verifies_nothing():
    """After a 402 no profile is looked up, so nothing more is spent."""
    faults = [
        Fault.status(402, handles={"bad"}),
        Fault.delay(Latency.fixed(1), handles={"bad"}),
        Fault.delay(Latency.fixed(2), handles={"empty_0", "empty_1", "empty_2"}),
    ]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        handles = ["bad", "empty_0", "empty_1", "empty_2"]
        outcomes = await client.fetch_showcases(handles, verify_empty=True)
        assert sim.ledger.hits(route=Route.TIKTOK_PROFILE) == 0
        assert {type(outcome.error).__name__ for outcome in outcomes} == {
            "InsufficientCreditsError"
        }


async def test_a_failed_look_up_keeps_the_place_to_go_on():
    """When verify_empty fails, next_cursor still leads to the next page."""
    faults = [
        Fault.empty_page_with_more(times=1),
        Fault.status(502, routes={Route.TIKTOK_PROFILE}),
    ]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        (outcome,) = await client.fetch_showcases(["x.30products"], max_pages=1, verify_empty=True)
        assert outcome.status == "partial"
        assert isinstance(outcome.error, LookupFailedError)
        rest = await client.showcase("x.30products", cursor=outcome.next_cursor).collect()
        assert len(rest) == 30


@pytest.mark.parametrize("following", [1, 0, -1, 2])
async def test_review_pages_lead_forward_only(following):
    """A page that leads to itself or back ends the list without paying for it."""
    begin = 2 if following == 2 else None
    page = review_page(2 if following == 2 else 1, following)
    async with told(page, keep=True) as (server, client):
        reviews = client.reviews(product_id="1", page=begin)
        error = await failure(reviews.collect(), PaginationError)
        assert server.hits == 1
        assert len(error.partial) == 1
        assert error.page == begin


async def test_a_wrong_type_of_one_caller_is_not_the_others_problem():
    """Callers of one path who share a request each decode it as they asked, or fail alone."""
    path = "/v1/tiktok/profiles/x.5products/showcase-products"
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        wrong, page, plain, other = await asyncio.gather(
            client.get(path, type=int),
            client.showcase_page("x.5products"),
            client.get(path),
            client.get(path),
            return_exceptions=True,
        )
        assert isinstance(wrong, UndecodableError)
        assert wrong.usage.charged == 1
        assert len(page.products) == 5
        assert sim.ledger.requests == 1
        assert plain.data == other.data
        plain.data["products"].clear()
        assert len(other.data["products"]) == 5


@pytest.mark.parametrize(
    ("meta", "charged", "maybe"),
    [
        ({"creditsCharged": 3, "cached": "yes"}, 3, 0),
        ({"creditsCharged": 2, "requestId": 5}, 2, 0),
        ({"creditsCharged": 2.0}, 2, 0),
        ({"creditsCharged": "2"}, 2, 0),
        ({"creditsCharged": 1.5}, 0, 1),
        ({"creditsCharged": -1}, 0, 1),
        ({"creditsCharged": None}, 0, 1),
        ({}, 0, 1),
        ([], 0, 1),
        (None, 0, 1),
    ],
    ids=str,
)
async def test_a_price_is_read_from_whatever_meta_has_it(meta, charged, maybe):
    """A fault elsewhere in meta does not hide what was charged, nor spoil the page."""
    data = {"products": [{"id": "1"}], "page": {"nextCursor": None, "hasMore": False}}
    body = json.dumps({"data": data, "meta": meta}).encode()
    async with told(http(200, body)) as (_, client):
        page = await client.showcase_page("x")
        assert len(page.products) == 1
        assert (page.usage.charged, page.usage.maybe) == (charged, maybe)


async def test_who_stays_answers_for_the_cost():
    """When the caller who began a request leaves, the next one's page and run say the cost."""
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        first = asyncio.create_task(client.showcase_page("x.5products"))
        await asyncio.sleep(0.5)
        async with client.showcases(["x.5products"]) as run:
            asyncio.get_running_loop().call_later(0.2, first.cancel)
            outcomes = [outcome async for outcome in run]
        assert outcomes[0].usage == run.usage == client.usage
        assert run.usage.charged == sim.ledger.charged == 1
        assert first.cancelled()


async def test_a_narrowed_width_holds_for_who_waits_for_the_rate():
    """Requests that had a place before the width shrank wait until there is one again."""
    faults = [
        Fault.status(503, retry_after="1", requests={1}),
        Fault.delay(Latency.fixed(0.1), requests={1}),
        Fault.delay(Latency.fixed(30), requests=range(2, 1_000)),
    ]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url, rate=5, concurrency=20) as client,
        client.showcases(sim.handles(40), max_pages=1) as run,
    ):
        # Until the first success the width stays halved.
        await anext(run)
        assert sim.ledger.max_in_flight == 10


@pytest.mark.parametrize("page", ["p/Cxyz", "reel/abc", "stories/mrbeast/1", "explore/tags/x"])
async def test_an_instagram_page_that_is_no_profile_is_refused(page):
    """The URL of a post is not taken for that of an account named p."""
    async with told(b"") as (server, client):
        with pytest.raises(InvalidArgumentError, match="Instagram profile"):
            await client.instagram_profile(f"https://www.instagram.com/{page}/")
        assert server.hits == 0


async def test_a_run_without_a_key_is_refused_at_once():
    """A missing key is one error, not a failed outcome for each of a million creators."""
    async with raw_server(b"") as server, Client(base_url=server.url) as client:
        with pytest.raises(ConfigurationError, match="SOCIALFETCH_API_KEY"):
            client.showcases(["a", "b"])
        with pytest.raises(ConfigurationError, match="SOCIALFETCH_API_KEY") as caught:
            await client.showcase_page("a")
        assert caught.value.route.endswith("/showcase-products")
        assert server.hits == 0


async def test_any_location_can_be_written_down():
    """A Location that is no Unicode text does not spoil the JSON of an outcome."""
    async with told(http(302, b"", b"Location: http://e/\xff".decode("latin-1"))) as (_, client):
        (outcome,) = await client.fetch_showcases(["x"])
        assert isinstance(outcome.error, RedirectError)
        assert type(outcome).from_json(outcome.to_json()) == outcome


def test_a_config_makes_a_client_again(monkeypatch):
    """A client's config, pickled or not, makes another client that is told the same."""
    client = Client(KEY, base_url="http://127.0.0.1:9", concurrency=7, retry=Retry.none())
    assert Client.from_config(client.config).config == client.config
    assert Client.from_config(copy.deepcopy(client.config)).config == client.config
    pickled = pickle.dumps(client.config)
    assert Client.from_config(pickle.loads(pickled)).config.api_key is None  # noqa: S301
    monkeypatch.setenv("SOCIALFETCH_API_KEY", KEY)
    assert Client.from_config(pickle.loads(pickled)).config == client.config  # noqa: S301
    # Whoever passes a config is not asked what the environment says.
    monkeypatch.setenv("SOCIALFETCH_API_KEY", "no key\n")
    assert Client.from_config(client.config).config == client.config


async def test_progress_can_be_read_from_another_thread():
    """A progress bar's thread may ask a run where it stands."""
    async with (
        Simulator() as sim,
        Client(sim.api_key, base_url=sim.url) as client,
        client.showcases(sim.handles(5)) as run,
    ):
        async for _ in run:
            progress = await asyncio.to_thread(lambda: (run.progress, repr(run)))
            assert progress[0].done >= 1


async def test_a_cancelled_request_is_told_to_have_finished():
    """Each event of a start has one of an end, also where the caller left."""
    seen = []
    async with (
        Simulator(faults=[Fault.hang()]) as sim,
        Client(sim.api_key, base_url=sim.url, on_event=seen.append) as client,
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.showcase_page("x")
    assert [type(event) for event in seen] == [events.RequestStarted, events.RequestFinished]
    assert (seen[1].error, seen[1].maybe) == ("CancelledError", 1)


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".test"])
async def test_a_host_that_cannot_be_is_no_connection(host):
    """A host name that cannot be encoded is a typed, free failure."""
    async with Client(KEY, base_url=f"https://{host}", retry=Retry.none()) as client:
        error = await failure(client.showcase_page("x"), ConnectionFailedError)
        assert error.usage.maybe == 0


async def test_callbacks_that_would_have_to_be_awaited_are_refused():
    """An async callback, or what is none, is refused instead of never being awaited."""

    async def callback(_):
        raise AssertionError

    for wrong in (callback, 3):
        with pytest.raises(ConfigurationError, match="on_event"):
            Client(on_event=wrong)
    with pytest.raises(ConfigurationError, match="aiohttp"):
        Client(session="x")
    async with (
        Simulator() as sim,
        Client(sim.api_key, base_url=sim.url) as client,
        client.showcases(["x"]) as run,
    ):
        with pytest.raises(InvalidArgumentError, match="on_outcome"):
            await anext(run.pages(callback))


class Unprintable:
    """What raises when it is shown."""

    def __repr__(self):
        raise ValueError("cannot be shown")


async def test_a_handle_that_cannot_even_be_shown_disturbs_no_other():
    """An object whose repr raises is a failed outcome."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        bad, good = await client.fetch_showcases([Unprintable(), "mrbeast"])
        assert (bad.status, good.status) == ("failed", "complete")
        assert "Unprintable" in bad.handle


async def test_a_shared_failure_is_decoded_for_nobody():
    """Followers of a failed request get its failure, whatever type they asked for."""
    async with (
        Simulator(latency=Latency.fixed(1), faults=[Fault.status(500)]) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry.none()) as client,
    ):
        path = "/v1/tiktok/profiles/x"
        results = await asyncio.gather(
            client.get(path), client.tiktok_profile("x"), return_exceptions=True
        )
        assert {type(result) for result in results} == {ServerError}
        assert {result.handle for result in results} == {None, "x"}
        assert sum(result.usage.maybe for result in results) == 1


async def test_what_a_hook_of_a_borrowed_session_raises_is_counted():
    """An exception that is not the client's own arrives as itself, its request as maybe charged."""
    trace = aiohttp.TraceConfig()

    async def hook(*_):
        raise ZeroDivisionError

    trace.on_response_chunk_received.append(hook)
    async with (
        Simulator() as sim,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        Client(sim.api_key, base_url=sim.url, session=session) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            await client.showcase_page("x")
        assert client.usage.maybe == sim.ledger.charged == 1
        with pytest.raises(ZeroDivisionError):
            await client.fetch_showcases(["x"])
        assert client.usage.maybe == sim.ledger.charged == 2
