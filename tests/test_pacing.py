"""Pauses, widths and rates: what one refusal means for all requests of a client."""

import asyncio
import gc
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsfk import (
    BadRequestError,
    Client,
    ConnectionFailedError,
    RateLimitedError,
    Retry,
    RunStoppedError,
    ServerError,
    UnavailableError,
    events,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import EMPTY, client_of, failure, http, told


def starts(sim):
    return sorted(entry.started for entry in sim.ledger)


def refused_at(sim, status=503):
    return next(entry.finished for entry in sim.ledger if entry.status == status)


@pytest.mark.parametrize("retry_after", ["2", "date:+2"])
async def test_one_refusal_pauses_the_whole_run_and_none_stampedes_after_it(retry_after):
    """After a 503 nothing starts until the time given, and then requests trickle in."""
    async with (
        Simulator(
            latency=Latency.uniform(0.2, 0.4),
            faults=[Fault.status(503, retry_after=retry_after, requests={300})],
        ) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        async with client.showcases(sim.handles(800), concurrency=200, max_pages=1) as run:
            outcomes = [outcome async for outcome in run]
        assert {outcome.status for outcome in outcomes} == {"complete"}
        pause = refused_at(sim)
        # A date has whole seconds, so its wait can be one shorter than it says.
        end = pause + (2 if retry_after == "2" else 1)
        assert sim.ledger.max_in_flight == 200
        assert not [start for start in starts(sim) if pause < start < end - 0.01]
        after = [start for start in starts(sim) if start >= end - 0.01]
        assert len(after) > 300
        # The width is halved to 100, and those 100 spread over a second: it begins gently, well
        # under what the full width does, 67 requests in a tenth.
        tenths = [
            len([start for start in after if tenth <= (start - after[0]) * 10 < tenth + 1])
            for tenth in range(10)
        ]
        assert tenths[0] <= 25
        assert max(tenths[:5]) <= 50


@pytest.mark.real_time
async def test_requests_that_have_waited_for_their_archive_are_one_wave(path, port):
    """They fail one after another, but all had been let through before the first one failed."""
    now = asyncio.get_running_loop().time
    pauses = []

    def on_event(event):
        if isinstance(event, events.Paused):
            pauses.append((now(), event))

    async with (
        Client("sfk_x", base_url=f"http://127.0.0.1:{port}", on_event=on_event) as client,
        client.showcases(map("c{}".format, range(100)), archive=path) as run,
    ):
        iterating = asyncio.create_task(anext(run))
        while len(pauses) < 3:  # noqa: ASYNC110 - of the client, which tells nobody
            await asyncio.sleep(0.01)
        run.stop(now=True)
        await iterating
    for (began, pause), (later, _) in pairwise(pauses):
        assert later >= began + pause.seconds


@pytest.mark.parametrize("stage", [events.RequestStarted, events.RequestFinished])
async def test_few_requests_begin_or_end_in_one_turn_of_the_event_loop(stage):
    """Of hundreds at once eight begin or end in one, though all are under way together."""
    passed = Counter()
    turn = 0
    counting = None

    def on_event(event):
        nonlocal counting
        if isinstance(event, stage):
            counting = counting or asyncio.create_task(count_turns())
            passed[turn] += 1

    async def count_turns():
        nonlocal turn
        # No longer than needed: the virtual clock stands still meanwhile.
        while passed.total() < 300:
            turn += 1
            await asyncio.sleep(0)

    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=300, on_event=on_event) as client,
    ):
        async with asyncio.timeout(1.5):
            pages = await asyncio.gather(*map(client.showcase_page, sim.handles(300)))
        await counting
        assert len(pages) == passed.total() == sim.ledger.max_in_flight == 300
        assert max(passed.values()) == 8


async def test_a_refusal_narrows_the_width_and_success_widens_it_again():
    """Many refusals at once halve the width once; it grows back to where it was."""
    async with (
        Simulator(latency=Latency.fixed(0.2), max_concurrent=60) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=80) as client,
    ):
        widths = []
        async with client.showcases(sim.handles(1500), max_pages=1) as run:
            async for outcome in run:
                assert outcome.status == "complete"
                widths.append(run.progress.width)
        # 80 were too many: halved. So are 61, once it has grown to that.
        assert 30 <= min(widths) <= 40
        assert max(widths[widths.index(40) :]) > 60


async def test_the_width_is_back_after_a_single_refusal():
    """A width that was halved once returns to all that was allowed, and not beyond."""
    async with (
        Simulator(
            latency=Latency.fixed(0.2), faults=[Fault.status(503, retry_after="1", requests={10})]
        ) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=32) as client,
    ):
        async with client.showcases(sim.handles(600), max_pages=1) as run:
            async for _ in run:
                pass
            assert run.progress.width == 32
        assert sim.ledger.max_in_flight == 32


@pytest.mark.parametrize("width", [2, 1_000])
async def test_the_width_is_halved_and_grows_by_one_with_every_four_successes(width):
    """Exactly so: in the larger tests another amount would not be noticed."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after="0", times=1)]) as sim,
        client_of(sim, concurrency=width) as client,
        client.showcases([]) as run,
    ):
        await failure(client.showcase_page("mrbeast"), UnavailableError)
        for successes in range(4):
            assert (successes, run.progress.width) == (successes, width // 2)
            await client.showcase_page(f"creator{successes}")
        assert run.progress.width == width // 2 + 1


async def test_an_answer_that_blames_the_call_widens_it_too():
    """A 400 says that the API works: the width grows, and the next refusal is a first one."""
    paused = []
    faults = [Fault.status(503, retry_after="0", requests={1, 18}), Fault.status(400)]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, on_event=paused.append, concurrency=8) as client,
    ):
        await failure(client.showcase_page("mrbeast"), UnavailableError)
        for _ in range(16):
            await failure(client.showcase_page("mrbeast"), BadRequestError)
        await failure(client.showcase_page("mrbeast"), UnavailableError)
    told = [(event.width, event.seconds) for event in paused if isinstance(event, events.Paused)]
    assert told == [(4, 0), (4, 0)]


async def test_half_a_place_is_none():
    """A refusal leaves one place of three, and one success is too few for another."""
    async with (
        Simulator(
            latency=Latency.fixed(1), faults=[Fault.status(503, retry_after="0", times=1)]
        ) as sim,
        client_of(sim, concurrency=3) as client,
    ):
        await failure(client.tiktok_profile("mrbeast"), UnavailableError)
        await asyncio.gather(*(client.tiktok_profile(f"c{number}") for number in range(3)))
        assert sim.ledger.requests == 4
        assert sim.ledger.max_in_flight == 1


@pytest.mark.parametrize("retry_after", [None, "0", Fault.date_ahead(0), "1"])
async def test_an_outage_is_met_with_fewer_and_fewer_requests(retry_after):
    """While everything is refused, the client slows down to a probe now and then.

    A hint that leads to nothing but the next refusal keeps it from that no more than none.
    """
    async with (
        Simulator(faults=[Fault.status(503, retry_after=retry_after)]) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=100) as client,
    ):
        async with client.showcases(sim.handles(100_000)) as run:
            with anyio.move_on_after(600):
                async for outcome in run:
                    assert outcome.status == "failed"
        assert sim.ledger.charged == 0
        began = starts(sim)[0]
        last_minutes = [start for start in starts(sim) if start > began + 300]
        assert 10 <= len(last_minutes) <= 30
        assert len(starts(sim)) < 400


@pytest.mark.parametrize(("max_backoff", "most"), [(30, 30), (2.5, 2.5), (0.1, 0.1), (1e6, 30)])
async def test_pauses_without_a_hint_grow_from_half_a_second_to_the_longest(
    port, max_backoff, most
):
    """Each is between half and all of its maximum, which doubles, however many there are.

    The maximum stops at `max_backoff`, or at half a minute: one outage must not look like two.
    What is free takes nothing of the quota.
    """
    count = 1_100
    paused = []
    async with Client(
        "sfk_x",
        base_url=f"http://127.0.0.1:{port}",
        concurrency=8,
        retry=Retry(attempts=count, quota=0, outage=1e6, max_backoff=max_backoff),
        on_event=lambda event: isinstance(event, events.Paused) and paused.append(event),
    ) as client:
        await failure(client.showcase_page("mrbeast"), ConnectionFailedError)
    assert len(paused) == count
    longest = [min(wait, most) for wait in (0.5, 1, 2, 4, 8, 16, *[30] * (count - 6))]
    parts = [event.seconds / wait for event, wait in zip(paused, longest, strict=True)]
    assert 0.5 <= min(parts) < 0.6
    assert 0.9 < max(parts) <= 1
    assert [event.width for event in paused[:4]] == [4, 2, 1, 1]


async def test_a_hint_of_no_seconds_is_no_pause():
    """The width is halved; nobody waits."""
    paused = []
    async with (
        Simulator(faults=[Fault.status(503, retry_after="0", times=1)]) as sim,
        client_of(sim, on_event=paused.append, concurrency=8) as client,
    ):
        await failure(client.showcase_page("mrbeast"), UnavailableError)
        await client.showcase_page("mrbeast")
        first, second = starts(sim)
        assert second - first < 0.1
    [event] = [event for event in paused if isinstance(event, events.Paused)]
    assert (event.seconds, event.width) == (0, 4)


async def test_a_late_hint_of_no_seconds_is_no_news():
    """Of requests that were under way together one is refused long after the others."""
    paused = []
    faults = [
        Fault.delay(Latency.fixed(3), requests={2}),
        Fault.status(503, retry_after="0", times=2),
    ]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, on_event=paused.append, concurrency=8) as client,
    ):
        calls = [client.showcase_page(f"creator{n}") for n in range(2)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [UnavailableError] * 2
    assert [event.width for event in paused if isinstance(event, events.Paused)] == [4]


async def test_of_several_hints_the_latest_time_holds():
    """A shorter one does not shorten the pause, and is not told; a longer one holds for all."""
    faults = [
        *(Fault.delay(Latency.fixed(number / 10), requests={number}) for number in (1, 2, 3)),
        *(
            Fault.status(503, retry_after=seconds, requests={number})
            for number, seconds in enumerate(("20", "1", "30"), 1)
        ),
    ]
    paused = []
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, on_event=paused.append) as client,
    ):
        calls = [asyncio.create_task(client.showcase_page(f"creator{n}")) for n in range(3)]
        await asyncio.wait(calls[:2])
        assert [call.exception().retry_after for call in calls[:2]] == [20, 1]
        told = [round(e.seconds) for e in paused if isinstance(e, events.Paused)]
        assert told == [20]
        waiting = asyncio.create_task(client.showcase_page("mrbeast"))
        with pytest.raises(UnavailableError):
            await calls[2]
        await waiting
        told = [round(e.seconds) for e in paused if isinstance(e, events.Paused)]
        assert told == [20, 30]
        assert starts(sim)[3] - refused_at(sim) >= 30


async def test_a_shorter_hint_shortens_no_pause():
    """Of two refusals at once the second asks for less: what begins then waits for the first."""
    faults = [
        Fault.delay(Latency.fixed(0.1), requests={2}),
        Fault.status(503, retry_after="20", requests={1}),
        Fault.status(503, retry_after="1", requests={2}),
    ]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        calls = (client.showcase_page(f"creator{n}") for n in range(2))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [error.retry_after for error in errors] == [20, 1]
        await client.showcase_page("mrbeast")
        assert starts(sim)[2] - refused_at(sim) >= 20


@pytest.mark.parametrize(("hint", "least", "most"), [("0", 0.5, 1), ("20", 20, 20)])
async def test_a_second_refusal_in_a_row_pauses_for_no_less_than_it_asks(hint, least, most):
    """Nor for less than half a second, since what was asked for first was too little."""
    paused = []
    faults = [
        Fault.status(503, retry_after="0", requests={1}),
        Fault.status(503, retry_after=hint, requests={2}),
    ]
    async with (
        Simulator(latency=Latency.fixed(0.1), faults=faults) as sim,
        client_of(sim, on_event=paused.append) as client,
    ):
        for _ in range(2):
            await failure(client.showcase_page("mrbeast"), UnavailableError)
            # A request that begins at that very moment would count to the first wave.
            await asyncio.sleep(0.1)
    first, second = (event.seconds for event in paused if isinstance(event, events.Paused))
    assert first == 0
    assert least <= round(second, 3) <= most


async def test_a_wave_of_refusals_is_one_pause():
    """Each moves its end by a moment, which is not told; one that moves it far is."""
    paused = []
    faults = [
        Fault.status(503, retry_after="3", requests=range(1, 200)),
        Fault.status(503, retry_after="6", requests={200}),
    ]
    async with (
        Simulator(latency=Latency.uniform(1, 1.5), faults=faults) as sim,
        client_of(sim, on_event=paused.append, concurrency=200) as client,
        client.showcases(sim.handles(200), max_pages=1) as run,
    ):
        assert {outcome.status async for outcome in run} == {"failed"}
    told = [event for event in paused if isinstance(event, events.Paused)]
    assert [(round(event.seconds), event.width) for event in told] == [(3, 100), (6, 100)]


async def test_what_began_before_a_refusal_narrows_no_further():
    """However late it is refused: requests under way together make one pushback."""
    faults = [Fault.status(503, retry_after="1", requests=range(1, 17))]
    async with (
        Simulator(latency=Latency.fixed(5), faults=faults) as sim,
        client_of(sim, concurrency=16, rate=10, burst=1) as client,
        client.showcases(sim.handles(16), max_pages=1) as run,
    ):
        async for outcome in run:
            assert outcome.status == "failed"
        ends = [entry.finished for entry in sim.ledger]
        assert max(ends) - min(ends) >= 1.4
        assert run.progress.width == 8


async def test_no_connection_slows_the_whole_client_too(port):
    """When the API cannot be reached, a run probes instead of failing all creators at once."""
    paused, url = [], f"http://127.0.0.1:{port}"
    async with Client("sfk_x", base_url=url, on_event=paused.append) as client:
        loop = asyncio.get_running_loop()
        began = loop.time()
        failed = 0
        async with client.showcases(f"creator{n}" for n in range(100_000)) as run:
            async for outcome in run:
                assert outcome.status == "failed"
                assert outcome.usage.maybe == 0
                failed += 1
                if loop.time() > began + 300:
                    break
    assert failed < 200
    assert [event for event in paused if isinstance(event, events.Paused)]


ADVERSARIAL = [
    # value, seconds that the call waits (None: it does as without the header)
    ("0", 0),
    ("1", 1),
    ("007", 7),
    (" 3 ", 3),
    ("2.5", 2.5),
    ("119", 119),
    ("5.", None),
    (".5", None),
    ("-10", None),
    ("+5", None),
    ("inf", None),
    ("nan", None),
    ("1e3", None),
    ("0x10", None),
    ("1_000", None),
    ("5 seconds", None),
    ("5, 10", None),
    ("", None),
    ("\u0665", None),
    ("soon", None),
    ("Fri, 32 Foo 2026 99:99:99 GMT", None),
    ("Fri, 31 Dec 100000 23:59:59 GMT", None),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
    ("Sun Nov  6 08:49:37 1994", 0),
]


@pytest.mark.parametrize(("value", "seconds"), ADVERSARIAL)
async def test_retry_after_is_obeyed_where_it_makes_sense_and_ignored_where_not(value, seconds):
    """A call waits what Retry-After asks for, its own backoff for nonsense, and succeeds."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after=value, times=1)]) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry(backoff=0.25)) as client,
    ):
        page = await client.showcase_page("mrbeast")
        assert page.usage.retries == 1
        first, second = starts(sim)
        # Beyond that: the call's own backoff (0.25 s at most), the client's pause where there is
        # no hint (0.5 s at most), and up to a second's spread after a pause.
        waited = second - first
        assert (seconds or 0) <= waited <= (seconds or 0) + 2


@pytest.mark.parametrize(
    "value",
    ["121", "3600", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"],
)
async def test_a_retry_after_over_the_cap_ends_the_call_with_the_time_in_the_error(value):
    """Rather than sleep for an hour, a call ends at once, free and resumable."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after=value, times=1)]) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        with pytest.raises(UnavailableError) as caught:
            await client.showcase_page("mrbeast")
        assert caught.value.retry_after >= 121
        assert caught.value.attempts == 1
        assert caught.value.usage.maybe == caught.value.usage.charged == 0
        assert "120" in (caught.value.gave_up or "")
        assert caught.value.retry_after <= 365 * 24 * 3600
        assert (await client.showcase_page("mrbeast")).usage.charged == 1
        first, second = starts(sim)
        # The others do not sleep for that hour, either.
        assert second - first <= 2


async def test_a_retry_after_of_just_the_cap_is_waited_for():
    """A longer one does not."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after="120", times=1)]) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        await client.showcase_page("mrbeast")
        first, second = starts(sim)
        assert 120 <= second - first <= 122


async def test_a_retry_after_of_just_the_cap_holds_for_all():
    """Calls that were not refused themselves wait for it too."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after="120", times=1)]) as sim,
        client_of(sim) as client,
    ):
        await failure(client.showcase_page("mrbeast"), UnavailableError)
        await client.showcase_page("mrbeast")
        first, second = starts(sim)
        assert 120 <= second - first <= 122


async def test_failures_between_refusals_are_no_successes():
    """They do not widen the gate, and the pauses go on growing."""
    paused = []
    faults = [
        Fault.status(503, requests={1, 2, 15}),
        Fault.status(500, requests=range(3, 9)),
        Fault.close(charged=True, requests=range(9, 15)),
    ]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, on_event=paused.append, concurrency=80) as client,
    ):
        for _ in range(15):
            await failure(client.showcase_page("mrbeast"))
    paused = [event for event in paused if isinstance(event, events.Paused)]
    assert [event.width for event in paused] == [40, 20, 10]
    assert 1 <= paused[2].seconds <= 2


async def test_refusals_with_successes_between_them_are_no_outage():
    """Without a hint the pause is as short as the first one's, however many there were before."""
    async with (
        Simulator(faults=[Fault.status(503, requests=range(1, 60, 2))]) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry(backoff=0.1)) as client,
    ):
        for handle in sim.handles(30):
            await client.showcase_page(handle)
        assert sim.ledger.requests == 60
        waits = [later - sooner for sooner, later in pairwise(starts(sim))]
        # Half a second of pause, and up to a second's spread.
        assert max(waits) <= 2


@given(
    value=st.text(alphabet=st.characters(codec="latin-1", exclude_categories=["Cc"]))
    | st.integers(-10, 1_000).map(str)
    | st.floats().map(str)
)
async def test_no_retry_after_breaks_a_call(value):
    """Whatever a server writes into Retry-After, the call ends well or in a typed error."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after=value.strip(), times=1)]) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        try:
            await client.showcase_page("mrbeast")
        except UnavailableError as error:
            assert error.retry_after > 120  # noqa: PT017


async def test_a_date_is_read_by_the_clock_of_the_server():
    """A Retry-After date means the time until it on the server's clock, however wrong that is."""
    wrong = datetime(2001, 1, 1, tzinfo=UTC)
    until = format_datetime(wrong + timedelta(seconds=7), usegmt=True)
    date = format_datetime(wrong, usegmt=True)
    answer = http(503, b"", f"Date: {date}", f"Retry-After: {until}")
    async with told(answer) as (_, client):
        error = await failure(client.showcase_page("mrbeast"), UnavailableError)
    assert error.retry_after == 7


async def test_a_free_route_over_its_limit_is_tried_again():
    """A 429 is free and tried again as a 503 is."""
    async with (
        Simulator(faults=[Fault.status(429, retry_after="3", times=1)]) as sim,
        Client(sim.api_key, base_url=sim.url) as client,
    ):
        assert (await client.whoami()).usage.requests == 2
        first, second = starts(sim)
        assert 3 <= second - first <= 5

        sim.add_fault(Fault.status(429))
        with pytest.raises(RateLimitedError) as caught:
            await client.whoami()
        assert caught.value.attempts == 5
        assert caught.value.usage.charged == caught.value.usage.maybe == 0


@pytest.mark.parametrize(
    ("rate", "burst", "at_once"), [(20, None, 1), (100, None, 5), (100, 20, 20), (3, None, 1)]
)
async def test_the_rate_holds_in_every_second(rate, burst, at_once):
    """No second sees more than the rate and one burst, and the rate is used to the full."""
    async with (
        Simulator() as sim,
        Client(sim.api_key, base_url=sim.url, rate=rate, burst=burst, concurrency=50) as client,
    ):
        async with client.showcases(sim.handles(rate * 4), max_pages=1) as run:
            async for _ in run:
                pass
        times = starts(sim)
        for start in times:
            assert len([t for t in times if start <= t < start + 1]) <= rate + at_once
        first = [t for t in times if t < times[0] + 0.5 / rate]
        assert len(first) <= at_once
        assert (len(times) - at_once) / (times[-1] - times[0]) >= 0.95 * rate


async def test_a_pause_holds_for_requests_that_wait_for_the_rate():
    """A pause that begins while requests wait for their turn at the rate holds for them as well."""
    async with (
        Simulator(
            latency=Latency.fixed(0.5), faults=[Fault.status(503, retry_after="9", requests={5})]
        ) as sim,
        Client(sim.api_key, base_url=sim.url, rate=10) as client,
    ):
        async with client.showcases(sim.handles(50), max_pages=1) as run:
            async for outcome in run:
                assert outcome.status == "complete"
        pause = refused_at(sim)
        assert not [start for start in starts(sim) if pause < start < pause + 9]
        after = [start for start in starts(sim) if start >= pause + 9]
        assert all(b - a >= 0.09 for a, b in pairwise(after))


async def test_a_retry_storm_ends_when_the_quota_is_used_up():
    """A client that meets nothing but failures soon stops to multiply its requests."""
    async with (
        Simulator(faults=[Fault.status(500)]) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry(quota=10)) as client,
    ):
        outcomes = await client.fetch_showcases(sim.handles(100))
        assert {outcome.status for outcome in outcomes} == {"failed"}
        assert client.usage.retries == 10
        assert sim.ledger.requests == 110
        refused = [o.error.gave_up for o in outcomes if "quota" in (o.error.gave_up or "")]
        assert len(refused) >= 80


async def test_who_leaves_before_it_is_tried_again_uses_up_no_retry():
    """Callers that do not wait for their retries leave them to others."""
    async with (
        Simulator(faults=[Fault.status(500, retry_after="9", requests={1, 2, 3, 4})]) as sim,
        client_of(sim, retry=Retry(quota=1)) as client,
    ):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await client.showcase_page("a")
            await asyncio.sleep(10)
        assert (await client.showcase_page("b")).usage.requests == 2
        assert (client.usage.retries, sim.ledger.requests) == (1, 5)


async def test_who_leaves_its_retry_in_a_longer_pause_uses_up_none():
    """The wait of a retry was over, but another call's refusal held it back, and it left."""
    faults = [
        Fault.status(500, retry_after="1", requests={1}),
        Fault.status(503, retry_after="50", requests={2}),
        Fault.status(500, requests={3}),
    ]
    async with Simulator(faults=faults) as sim, client_of(sim, retry=Retry(quota=1)) as client:
        leaver = asyncio.create_task(client.showcase_page("a"))
        await asyncio.sleep(0.5)
        refused = asyncio.create_task(client.showcase_page("b"))
        await asyncio.sleep(10)
        for call in (leaver, refused):
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
        assert sim.ledger.requests == 2
        assert (await client.showcase_page("c")).usage.requests == 2


async def test_who_leaves_its_retry_once_that_is_sent_has_used_it_up():
    """What was sent again counts, even if nobody waits for its answer.

    Who leaves the retry of a free failure, which took none, gives none back.
    """
    faults = [
        Fault.status(500, retry_after="0", requests={1, 4}),
        Fault.hang(60, requests={2}),
        Fault.status(503, retry_after="50", requests={3}),
    ]
    async with Simulator(faults=faults) as sim, client_of(sim, retry=Retry(quota=1)) as client:
        for requests, name in ((2, "a"), (3, "x")):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(30):
                    await client.showcase_page(name)
            assert sim.ledger.requests == requests
        other = await failure(client.showcase_page("b"), ServerError)
        assert "quota" in other.gave_up


@pytest.mark.parametrize("status", [429, 503])
async def test_an_outage_of_refusals_makes_no_creator_fail(status):
    """However many calls it meets at once: they cost nothing, so they use up no quota."""
    async with (
        Simulator(latency=Latency.fixed(0.3)) as sim,
        client_of(sim, concurrency=200, retry=Retry(quota=0)) as client,
        client.showcases(f"c{n}.5products" for n in range(400)) as run,
    ):
        assert (await anext(run)).status == "complete"
        sim.add_fault(Fault.status(status))
        asyncio.get_running_loop().call_later(15 * 60, setattr, sim, "faults", ())
        assert {outcome.status async for outcome in run} == {"complete"}
        assert client.usage.retries > 200


@pytest.mark.parametrize(
    ("at_once", "least", "most"), [(1, 6, 12), (5, 200, 300), (100, 3_600, 7_200)]
)
async def test_calls_outlast_refusals_the_longer_the_more_there_are(at_once, least, most):
    """They share the few attempts that are made; so many seconds pass until the first gives up."""
    now = asyncio.get_running_loop().time
    async with (
        Simulator(latency=Latency.fixed(0.3), faults=[Fault.status(503)]) as sim,
        client_of(sim, concurrency=at_once, retry=Retry()) as client,
        client.showcases(sim.handles(2 * at_once)) as run,
    ):
        began = now()
        assert (await anext(run)).status == "failed"
        assert least < now() - began < most


async def test_success_earns_retries_back():
    """A client whose failures are rare never runs out of retries."""
    async with (
        Simulator(faults=[Fault.status(500, probability=0.2)], seed=3) as sim,
        Client(sim.api_key, base_url=sim.url, retry=Retry(quota=5, server_errors=4)) as client,
    ):
        outcomes = await client.fetch_showcases(sim.handles(300), concurrency=4)
        assert client.usage.retries > 50
        assert sum(outcome.status == "complete" for outcome in outcomes) > 290


async def test_a_paused_call_can_be_cancelled():
    """A call that waits for the end of a pause leaves at once, and its place goes to the next."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after="100", times=1)]) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=1) as client,
    ):
        first = asyncio.create_task(client.showcase_page("mrbeast"))
        await asyncio.sleep(1)
        waiting = [asyncio.create_task(client.showcase_page(f"creator{n}")) for n in range(3)]
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for task in (first, *waiting[:2]):
            task.cancel()
        await asyncio.wait([first, *waiting[:2]])
        assert loop.time() - began < 1
        page = await waiting[2]
        assert page.usage.charged == 1
        assert client.usage.maybe == 0


async def test_who_is_cancelled_while_waiting_for_a_place_gives_none_back():
    """It never had a place, so the width must not grow by one."""
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, concurrency=2) as client,
    ):
        calls = [asyncio.create_task(client.tiktok_profile(f"c{number}")) for number in range(7)]
        await asyncio.sleep(0.1)
        for call in calls[2:]:
            call.cancel()
        await asyncio.gather(*(client.tiktok_profile(f"d{number}") for number in range(6)))
        assert sim.ledger.requests == 2 + 6
        assert sim.ledger.max_in_flight == 2


async def test_nothing_is_left_of_who_was_cancelled_while_waiting_for_a_place():
    """No future of theirs stays in the queue, however many give up while places are taken."""

    def futures():
        gc.collect()
        return sum(type(each) is asyncio.Future for each in gc.get_objects())

    async with (
        Simulator(latency=Latency.fixed(20)) as sim,
        client_of(sim, concurrency=1) as client,
    ):
        having_it = asyncio.create_task(client.tiktok_profile("first"))
        await asyncio.sleep(1)
        before = futures()
        for number in range(100):
            with anyio.move_on_after(0.1):
                await client.tiktok_profile(f"c{number}")
        assert futures() < before + 10
        await having_it
        assert sim.ledger.requests == 1


@pytest.mark.parametrize("is_given", [False, True])
async def test_a_place_of_who_is_cancelled_in_that_moment_goes_to_the_next(is_given):
    """Just about to be given or just given, it is not lost with the call that it was for."""

    def on_event(event):
        if isinstance(event, events.RequestFinished):
            # The place is given after this, and taken in the next turn of the event loop.
            stop = partial(run.stop, now=True)
            asyncio.get_running_loop().call_soon(stop) if is_given else stop()

    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, concurrency=1, on_event=on_event) as client,
        client.showcases(["second"], concurrency=1) as run,
    ):
        calls = []
        for awaitable in (
            client.tiktok_profile("first"),
            anext(run),
            client.tiktok_profile("third"),
        ):
            calls.append(asyncio.create_task(awaitable))
            await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            _, outcome, _ = await asyncio.gather(*calls)
        assert isinstance(outcome.error, RunStoppedError)
        assert [entry.handle for entry in sim.ledger] == ["first", "third"]


@pytest.mark.parametrize("concurrency", [4, 100])
async def test_calls_are_sent_in_the_order_in_which_they_were_made(concurrency):
    """Whatever they wait for, no call overtakes another."""
    begun = []
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        client_of(sim, concurrency=concurrency, on_event=begun.append) as client,
    ):
        handles = list(sim.handles(60))
        await asyncio.gather(*map(client.showcase_page, handles))
    assert [e.handle for e in begun if isinstance(e, events.RequestStarted)] == handles


async def test_who_is_cancelled_while_waiting_for_its_turn_holds_nobody_up():
    """The calls that wait behind it are sent."""

    def on_event(event):
        if isinstance(event, events.RequestStarted):
            begun.append(event.handle)
            if event.handle == handles[20]:
                calls[50].cancel()

    begun = []
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        client_of(sim, on_event=on_event) as client,
    ):
        handles = list(sim.handles(60))
        calls = [asyncio.create_task(client.showcase_page(handle)) for handle in handles]
        async with asyncio.timeout(5):
            await asyncio.wait(calls)
        assert begun == [*handles[:50], *handles[51:]]


@pytest.mark.parametrize(
    ("retry", "hint"),
    [(Retry(), "2"), (Retry(backoff=0.01), "2"), (Retry(backoff=0.01), "0")],
    ids=["default", "short", "at once"],
)
async def test_calls_refused_together_do_not_return_together(retry, hint):
    """After a Retry-After that many calls were told at once, they come back one by one."""
    count = 100
    async with (
        Simulator(
            latency=Latency.fixed(0.3),
            faults=[Fault.status(503, retry_after=hint, requests=range(1, count + 1))],
        ) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=count, retry=retry) as client,
    ):
        outcomes = await client.fetch_showcases(sim.handles(count), max_pages=1)
        assert {outcome.status for outcome in outcomes} == {"complete"}
        starts = sorted(entry.started for entry in sim.ledger)[count:]
        for start in starts:
            assert len([other for other in starts if start <= other < start + 0.05]) <= 25


async def test_who_waits_for_the_rate_or_a_pause_is_not_in_flight():
    """Progress counts the requests that are on their way."""
    async with (
        Simulator(latency=Latency.fixed(0.05)) as sim,
        Client(sim.api_key, base_url=sim.url, rate=10, burst=1) as client,
        client.showcases(f"c{n}.1products" for n in range(30)) as run,
    ):
        first = asyncio.create_task(anext(run))
        await asyncio.sleep(0.02)
        assert run.progress.in_flight == sim.ledger.in_flight == 1
        assert run.progress.paused_for == 0
        await first
        assert run.progress.started == 30
        assert run.progress.in_flight == sim.ledger.in_flight == 0
        sim.faults = [Fault.status(503, retry_after="10", times=1)]
        await asyncio.sleep(1)
        assert run.progress.paused_for > 0
        assert run.progress.in_flight == sim.ledger.in_flight == 0
        assert "open, 0 requests in flight" in repr(client)


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


async def test_a_narrowed_width_holds_for_who_waits_for_a_turn_of_the_event_loop():
    """Also after a refusal without a pause: of those that come at once few begin in each turn."""
    arrived = asyncio.Event()
    under_way, widths, late = 0, [], []

    async def answer(_, writer):
        if arrived.is_set():
            await asyncio.sleep(1)
            writer.write(EMPTY)
        else:
            arrived.set()
            writer.write(http(503, b"", "Retry-After: 0"))
        await writer.drain()

    def on_event(event):
        nonlocal under_way
        match event:
            case events.RequestStarted():
                under_way += 1
                late.extend([under_way] if widths else [])
            case events.RequestFinished():
                under_way -= 1
            case events.Paused():
                widths.append((event.width, under_way))

    async with told(answer, keep=True, concurrency=400, on_event=on_event) as (server, client):
        calls = (client.showcase_page(f"c{n}") for n in range(400))
        pages = await asyncio.gather(*calls, return_exceptions=True)
        assert server.hits == 400
        assert (
            client.usage.charged
            == len([page for page in pages if not isinstance(page, UnavailableError)])
            == 399
        )
    ((width, before),) = widths
    assert before < width == 200
    assert max(late) <= width


async def test_a_narrowed_width_holds_for_who_waits_for_the_end_of_a_pause():
    """Requests that had a place before the width shrank again in a pause wait as well."""
    faults = [
        Fault.delay(Latency.fixed(0.1), requests=range(1, 17)),
        Fault.status(503, retry_after="1", requests={1, 17}),
        Fault.delay(Latency.fixed(30), requests=range(18, 1_000)),
    ]
    async with (
        Simulator(faults=faults) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=16) as client,
        client.showcases(sim.handles(40), max_pages=1) as run,
    ):
        for _ in range(16):
            await anext(run)
        first, second = (entry.finished for entry in sim.ledger if entry.status == 503)
        # Halved to 8, and to some 10 by 15 successes; then halved again.
        after = [entry for entry in sim.ledger if first < entry.started < second + 25]
        assert len(after) == 1 + 5


async def test_a_wide_run_that_was_refused_comes_back_to_its_own_width():
    """And not to the width of its client alone, which is narrower."""
    refusal = Fault.status(503, retry_after="1", requests={10})
    async with (
        Simulator(latency=Latency.fixed(0.2), faults=[refusal]) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=2) as client,
        client.showcases(sim.handles(600), max_pages=1, concurrency=32) as run,
    ):
        async for _ in run:
            pass
        assert run.progress.width == 32


async def test_a_narrowed_wide_run_leaves_its_client_as_narrow_as_it_was():
    """Even though half of the run's width is more than the client's own."""
    refusal = Fault.status(503, retry_after="1", requests={30}, times=1)
    async with (
        Simulator(latency=Latency.fixed(1), faults=[refusal]) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=2) as client,
    ):
        async with client.showcases(sim.handles(35), max_pages=1, concurrency=32) as run:
            async for _ in run:
                pass
            assert 2 < run.progress.width < 32
        before = sim.ledger.requests
        await asyncio.gather(*(client.tiktok_profile(handle) for handle in sim.handles(10)))
        ends = [entry.finished for entry in sim.ledger.entries[before:]]
        assert max(Counter(round(end, 2) for end in ends).values()) == 2


async def test_a_wide_run_widens_no_client_that_was_narrowed():
    """A run's width is had at once only by a client at its limit; a narrowed one grows into it."""
    async with (
        Simulator(faults=[Fault.status(503, retry_after="1", times=1)]) as sim,
        client_of(sim, concurrency=8) as client,
    ):
        await failure(client.showcase_page("mrbeast"), UnavailableError)
        async with client.showcases([], concurrency=32) as run:
            assert run.progress.width == 4


async def test_a_wide_run_lets_in_who_waits_already():
    """Calls that already wait for a place get the width that a run brings."""
    async with (
        Simulator(latency=Latency.fixed(1)) as sim,
        Client(sim.api_key, base_url=sim.url, concurrency=1) as client,
    ):
        calls = [asyncio.create_task(client.tiktok_profile(f"c{number}")) for number in range(5)]
        await asyncio.sleep(0.5)
        assert sim.ledger.in_flight == 1
        async with client.showcases([], concurrency=5):
            await asyncio.sleep(0.1)
            assert sim.ledger.in_flight == 5
            await asyncio.gather(*calls)
