"""An API that fails everything, and may charge for it: asked ever more rarely, never given up."""

import asyncio
import logging

import anyio
import pytest

from asyncsfk import (
    BadRequestError,
    Retry,
    ServerError,
    Timeout,
    UnavailableError,
    UndecodableError,
    events,
)
from asyncsfk.simulator import Fault, Latency, Route, Simulator
from tests.support import client_of, failure, outcomes_of, run_through, sql

MANY = 20
HOUR = 3600
FAILING = Fault.status(500, handles={"failing"})


def creators(count):
    """Name so many creators of one page each."""
    return (f"c{n}.5products" for n in range(count))


class Pauses(list):
    """An ``on_event`` that keeps the pauses."""

    def __call__(self, event):
        if isinstance(event, events.Paused):
            self.append(event)


async def fail(client, times):
    """Have so many calls fail, one after the other."""
    for _ in range(times):
        await failure(client.showcase_page("failing"), ServerError)


@pytest.mark.parametrize(
    ("fault", "width", "seconds"),
    [
        (Fault.status(500), 100, HOUR),
        (Fault.status(502), 1, HOUR / 3),
        (Fault.close(charged=True), 100, HOUR / 3),
        (Fault.truncate(), 1, HOUR / 3),
        (Fault.hang(), 1, HOUR / 3),
        (Fault.redirect("/elsewhere"), 1, HOUR / 3),
        (Fault.not_json(), 1, HOUR / 3),
        (Fault.wrong_type(), 100, HOUR / 3),
    ],
    ids=lambda value: getattr(value, "name", value),
)
async def test_a_night_of_failures_costs_little(fault, width, seconds):
    """Of 100,000 creators few are tried, one at a time, with half a minute between them."""
    pauses, requests = Pauses(), []
    async with (
        Simulator(latency=Latency.fixed(0.2), faults=[fault]) as sim,
        client_of(
            sim, on_event=pauses, concurrency=width, timeout=Timeout(read=1), retry=Retry()
        ) as client,
    ):
        async with client.showcases(creators(100_000)) as run:
            for _ in range(2):
                with anyio.move_on_after(seconds):
                    async for outcome in run:
                        assert outcome.status == "failed"
                assert run.stopped is None
                requests.append(sim.ledger.requests)
        assert requests[0] < 2 * width + MANY + seconds / 20
        assert seconds / 30 < requests[1] - requests[0] < seconds / 20
        assert [pause.width for pause in pauses][-30:] == [1] * 30
        assert min(pause.seconds for pause in pauses[-30:]) >= 15
    assert f"{MANY} failures in a row, each perhaps charged: " in pauses[0].reason


async def test_a_run_outlasts_twenty_minutes_of_failures():
    """It returns to full width once anything good comes, and few creators have failed."""
    async with (
        Simulator(latency=Latency.fixed(0.2), faults=[Fault.status(500)]) as sim,
        client_of(sim, concurrency=50, retry=Retry()) as client,
        client.showcases(creators(5_000)) as run,
    ):
        iterating = asyncio.create_task(outcomes_of(run))
        await asyncio.sleep(HOUR / 3)
        sim.faults = ()
        mended = asyncio.get_running_loop().time()
        outcomes = await iterating
        # 5,000 pages at 250 a second are 20 seconds; at worst it has just begun to pause.
        assert asyncio.get_running_loop().time() - mended < 20 + 30 + 10
        assert run.progress.width == 50
    statuses = [outcome.status for outcome in outcomes]
    assert len(statuses) == 5_000
    assert 10 < statuses.count("failed") < 100
    assert statuses.count("failed") + statuses.count("complete") == 5_000


async def test_failures_among_successes_pause_nothing():
    """A creator on whom the API fails is no reason to keep the others waiting."""
    pauses = Pauses()
    faults = [Fault.status(500, probability=0.3), Fault.close(charged=True, probability=0.4)]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, on_event=pauses) as client,
    ):
        _, outcomes = await run_through(client, creators(1_000))
    assert {outcome.status for outcome in outcomes} == {"complete", "failed"}
    assert pauses == []


@pytest.mark.parametrize("share", [2, 10])
async def test_those_that_are_tried_again_hold_up_nobody(share):
    """Whoever fails each time takes longest, and comes in a row once the others have ended."""
    pauses = Pauses()
    handles = [f"c{n}.5products" for n in range(1_000)]
    fault = Fault.status(500, handles=handles[::share])
    async with (
        Simulator(latency=Latency.fixed(0.01), faults=[fault]) as sim,
        client_of(sim, on_event=pauses, concurrency=50, retry=Retry()) as client,
    ):
        _, outcomes = await run_through(client, handles)
    assert sum(outcome.status == "failed" for outcome in outcomes) == len(handles[::share])
    assert pauses == []


async def test_so_many_in_a_row_pause_and_one_less_does_not():
    """One page that is answered begins the count anew."""
    pauses = Pauses()
    async with (
        Simulator(faults=[FAILING]) as sim,
        client_of(sim, on_event=pauses, concurrency=8) as client,
    ):
        for _ in range(2):
            await fail(client, MANY - 1)
            await client.showcase_page("mrbeast")
        assert pauses == []
        await fail(client, MANY)
        assert [(pause.error, pause.width) for pause in pauses] == [("ServerError", 4)]
        assert 0.25 <= pauses[0].seconds <= 0.5
        assert pauses[0].reason.startswith(
            f"{MANY} failures in a row, each perhaps charged: HTTP 500"
        )
        # The pauses grow, until something good comes.
        await fail(client, 2)
        assert [pause.width for pause in pauses] == [4, 2, 1]
        assert pauses[2].seconds >= 1
        await client.showcase_page("mrbeast")
        await fail(client, MANY - 1)
        assert len(pauses) == 3


async def test_what_is_free_neither_counts_nor_ends_a_row():
    """A service that asks for its balance now and then is still protected."""
    pauses = Pauses()
    free = Fault.status(500, routes={Route.WHOAMI})
    refused = Fault.status(400, handles={"refused"})
    async with (
        Simulator(faults=[FAILING, free, refused]) as sim,
        client_of(sim, on_event=pauses, concurrency=8) as client,
    ):
        for _ in range(MANY - 1):
            await fail(client, 1)
            await failure(client.whoami(), ServerError)
            await client.balance()
            await failure(client.showcase_page("refused"), BadRequestError)
        assert pauses == []
        for n in range(1, 5):
            await fail(client, 1)
            assert len(pauses) == n
            await failure(client.whoami(), ServerError)
            await client.balance()
            await failure(client.showcase_page("refused"), BadRequestError)
        assert len(pauses) == 4
        assert [pause.width for pause in pauses] == [4, 2, 1, 1]
        assert pauses[-1].seconds >= 2


async def test_what_is_free_does_not_count_even_for_a_call_that_has_failed():
    """Refusals of a call that may have been charged before are refusals, and no more than that."""
    pauses = Pauses()
    faults = [Fault.status(500, requests={1}), Fault.status(503, requests=range(2, 2 + MANY))]
    async with (
        Simulator(faults=[*faults, FAILING]) as sim,
        client_of(sim, on_event=pauses, retry=Retry(attempts=1 + MANY)) as client,
    ):
        await failure(client.showcase_page("mrbeast"), UnavailableError)
        await fail(client, 1)
        assert {pause.error for pause in pauses} == {"UnavailableError"}


async def test_what_was_refused_before_a_good_answer_counts_after_it():
    """Only what may have been charged before says nothing of an API that fails everything now."""
    pauses = Pauses()
    faults = [
        Fault.delay(Latency.fixed(5), handles={"mrbeast"}),
        Fault.status(503, retry_after="10", requests=range(2, 2 + MANY)),
        Fault.status(500, handles=list(creators(MANY))),
    ]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, on_event=pauses, retry=Retry(attempts=2, server_errors=0)) as client,
    ):
        good = asyncio.create_task(client.showcase_page("mrbeast"))
        await asyncio.sleep(1)
        calls = [failure(client.showcase_page(name), ServerError) for name in creators(MANY)]
        await asyncio.gather(good, *calls)
        assert sim.ledger.requests == 1 + 2 * MANY
    assert f"{MANY} failures in a row" in pauses[-1].reason


async def test_an_answer_that_cannot_be_decoded_does_not_end_a_row():
    """It was charged, but nobody can read it: if all were like that, a night would buy nothing."""
    pauses = Pauses()
    broken = Fault.wrong_type(handles={"broken"})
    async with (
        Simulator(faults=[FAILING, broken]) as sim,
        client_of(sim, on_event=pauses) as client,
    ):
        await fail(client, MANY - 1)
        error = await failure(client.showcase_page("broken"), UndecodableError)
        assert (error.usage.charged, error.usage.maybe) == (1, 0)
    assert [pause.error for pause in pauses] == ["UndecodableError"]


async def test_what_cannot_be_decoded_holds_up_nobody_once_it_is_on_file(path):
    """A job that is run again finds it there, and has nothing to buy of those creators."""
    handles = [f"c{n}.5products" for n in range(100)]
    pauses = Pauses()
    async with (
        Simulator(faults=[Fault.wrong_type(handles=handles[::2])]) as sim,
        client_of(sim, on_event=pauses, concurrency=4) as client,
    ):
        for _ in range(2):
            _, outcomes = await run_through(client, handles, archive=path, ordered=True)
            assert [outcome.handle for outcome in outcomes if outcome.error] == handles[::2]
            assert sim.ledger.requests == len(handles)
    assert pauses == []


async def test_its_pauses_are_no_longer_than_the_client_was_told():
    """With a short `max_backoff`, creators on whom the API always fails cost little time."""
    async with (
        Simulator(faults=[FAILING]) as sim,
        client_of(sim, retry=Retry(attempts=1, max_backoff=0.1)) as client,
    ):
        began = asyncio.get_running_loop().time()
        await fail(client, 60)
        # After each of the last 40, with up to a second's spread.
        assert asyncio.get_running_loop().time() - began < 40 * 1.1


async def test_it_is_a_warning(caplog):
    """Even without logging set up, one is told what may cost money for nothing."""
    caplog.set_level(logging.WARNING, logger="asyncsfk")
    async with Simulator(faults=[FAILING]) as sim, client_of(sim) as client:
        await fail(client, MANY)
    [record] = [record for record in caplog.records if record.name == "asyncsfk"]
    assert record.levelname == "WARNING"
    assert f"{MANY} failures in a row" in record.getMessage()


@pytest.mark.parametrize("max_age", [None, 3600])
@pytest.mark.parametrize("page", [1, 2])
async def test_who_failed_before_holds_up_nobody(path, page, max_age):
    """When a job is run again, its failed creators come in a row; that is no failing API."""
    handles = [f"c{n}.25products" for n in range(100)]
    bad = handles[1::2]
    fault = Fault.status(500, handles=bad, pages={page})
    pauses = Pauses()
    async with (
        Simulator(latency=Latency.fixed(0.1), faults=[fault]) as sim,
        client_of(sim, on_event=pauses, concurrency=4) as client,
    ):
        for requests in ((page + 2) * len(bad), len(bad), len(bad)):
            before, began = sim.ledger.requests, asyncio.get_running_loop().time()
            _, outcomes = await run_through(
                client, handles, archive=path, ordered=True, max_age=max_age
            )
            assert [outcome.handle for outcome in outcomes if outcome.error] == bad
            assert sim.ledger.requests - before == requests
            # They are not even tried one at a time.
            assert asyncio.get_running_loop().time() - began < 0.1 * requests
    assert pauses == []


async def test_a_look_up_that_failed_before_holds_up_nobody(path):
    """The same holds where it was the look-up of an empty showcase's creator that failed."""
    handles = [f"empty_{n}" for n in range(100)]
    bad = handles[1::2]
    fault = Fault.status(500, handles=bad, routes={Route.TIKTOK_PROFILE})
    pauses = Pauses()
    async with (
        Simulator(latency=Latency.fixed(0.1), faults=[fault]) as sim,
        client_of(sim, on_event=pauses, concurrency=4) as client,
    ):
        for requests in (2 * len(handles), len(bad), len(bad)):
            before = sim.ledger.requests
            _, outcomes = await run_through(
                client, handles, archive=path, ordered=True, verify_empty=True
            )
            assert [outcome.handle for outcome in outcomes if outcome.error] == bad
            assert sim.ledger.requests - before == requests
    assert pauses == []


async def test_who_has_not_failed_before_still_tells_of_a_failing_api(path):
    """A job that goes on while everything fails costs what it tries again, and little beyond."""
    handles = list(creators(10_000))
    fault = Fault.status(500, handles=handles[1:100:2])
    async with (
        Simulator(latency=Latency.fixed(0.1), faults=[fault]) as sim,
        client_of(sim, concurrency=4) as client,
    ):
        await run_through(client, handles[:100], archive=path)
        sim.faults = (Fault.status(500),)
        before = sim.ledger.requests
        async with client.showcases(handles, archive=path) as run:
            with anyio.move_on_after(HOUR / 3):
                await outcomes_of(run)
        assert sim.ledger.requests - before < 50 + 2 * 4 + MANY + HOUR / 3 / 20


@pytest.mark.parametrize(
    ("before", "now", "options"),
    [
        ({2: 500}, {3: 500}, {}),
        ({2: 500}, {1: 500}, {"refresh": True}),
        ({2: 500}, {1: 500, 2: 400}, {"restart_stale": True}),
        ({2: 400}, {2: 500}, {}),
        ({1: 400}, {1: 500}, {}),
    ],
    ids=["further", "afresh", "stale", "free", "free at once"],
)
async def test_who_failed_otherwise_before_tells_of_a_failing_api(path, before, now, options):
    """Only the very page that may have been charged each time says nothing of the API."""
    handles = [f"c{n}.45products" for n in range(2 * MANY)]
    faults, pauses = [Fault.status(code, pages={page}) for page, code in before.items()], Pauses()
    async with Simulator(latency=Latency.fixed(0.1), faults=faults) as sim:
        async with client_of(sim) as client:
            await run_through(client, handles, archive=path)
        sim.faults = [Fault.status(code, pages={page}) for page, code in now.items()]
        async with client_of(sim, on_event=pauses) as client:
            await run_through(client, handles, archive=path, **options)
    assert f"{MANY} failures in a row" in pauses[0].reason


@pytest.mark.parametrize("had", [False, True], ids=["never had", "had before"])
async def test_who_could_not_be_bought_afresh_holds_up_nobody(path, had):
    """A job that buys afresh and is run again meets in a row those on whom that failed."""
    handles = [f"c{n}.5products" for n in range(100)]
    bad = handles[1::2]
    fault = Fault.status(500, handles=bad)
    pauses = Pauses()
    async with (
        Simulator(latency=Latency.fixed(0.1)) as sim,
        client_of(sim, on_event=pauses, concurrency=4) as client,
    ):
        if had:
            await run_through(client, handles, archive=path)
        sim.faults = (fault,)
        for requests, again in (
            (len(handles), {"refresh": True}),
            (len(bad), {"max_age": HOUR}),
            (len(bad), {"max_age": HOUR}),
        ):
            if had:
                # What the first run bought is too old by now; what the second one did is not.
                sql(path, "UPDATE page SET received = received - ? WHERE id <= 100", 2 * HOUR)
            before, began = sim.ledger.requests, asyncio.get_running_loop().time()
            _, outcomes = await run_through(client, handles, archive=path, ordered=True, **again)
            assert [outcome.handle for outcome in outcomes if outcome.error] == bad
            assert sim.ledger.requests - before == requests
            assert asyncio.get_running_loop().time() - began < 0.1 * requests
    assert pauses == []
