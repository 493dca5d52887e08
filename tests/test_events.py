"""What `on_event` and the log are told, in order."""

import asyncio
import logging
import pickle
from typing import get_args

import msgspec
import pytest

from asyncsfk import (
    Archive,
    Client,
    ConfigurationError,
    ConnectionFailedError,
    Event,
    HandleFinished,
    InvalidArgumentError,
    PageReceived,
    Paused,
    RequestFinished,
    RequestRetried,
    RequestStarted,
    Retry,
    events,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.support import SHOWCASE, client_of, failure

HANDLE = "some.30products"


def kinds(events):
    return [type(event).__name__ for event in events]


async def events_of(faults=(), *, call=None, retry=None, **options):
    """Make one call and give its events, and the simulator's ledger."""
    events = []
    async with (
        Simulator(faults=faults, latency=Latency.fixed(0.25)) as sim,
        client_of(sim, on_event=events.append, retry=retry or Retry(), **options) as client,
    ):
        call = call or (lambda client: client.showcase_page(f"@{HANDLE}"))
        try:
            await call(client)
        except Exception as error:  # noqa: BLE001 - what it is, is another test's matter
            events.append(error)
    return events, sim.ledger


async def test_a_good_call():
    """A call that goes well: started, finished, page received."""
    events, ledger = await events_of()
    assert kinds(events) == ["RequestStarted", "RequestFinished", "PageReceived"]
    started, finished, page = events
    assert started == RequestStarted(route=SHOWCASE, handle=HANDLE, attempt=1)
    assert isinstance(finished, RequestFinished)
    assert (finished.route, finished.handle, finished.attempt) == (SHOWCASE, HANDLE, 1)
    assert (finished.status, finished.error) == (200, None)
    assert finished.request_id.startswith("req_")
    assert (finished.charged, finished.maybe) == (ledger.charged, 0) == (1, 0)
    assert finished.bytes > 100
    assert 0.25 <= finished.seconds < 0.5
    expected = PageReceived(
        route=SHOWCASE, handle=HANDLE, number=1, items=20, has_more=True, archived=False
    )
    assert page == expected


async def test_a_paged_call():
    """Pages are told one by one, numbered."""
    events, _ = await events_of(call=lambda client: client.showcase(HANDLE).collect())
    assert kinds(events) == ["RequestStarted", "RequestFinished", "PageReceived"] * 2
    pages = [event for event in events if isinstance(event, PageReceived)]
    assert [(page.number, page.items, page.has_more) for page in pages] == [
        (1, 20, True), (2, 10, False),
    ]  # fmt: skip


async def test_a_failed_call():
    """A call that fails for good: started, finished with status and error, and nothing more."""
    events, _ = await events_of([Fault.status(400)])
    assert kinds(events) == ["RequestStarted", "RequestFinished", "BadRequestError"]
    finished, error = events[1:]
    assert (finished.status, finished.error) == (400, "BadRequestError")
    assert finished.request_id == error.request_id
    assert error.request_id
    assert (finished.charged, finished.maybe) == (0, 0)


async def test_a_lost_call():
    """A lost answer has no status, and may have cost its price; then it is tried again."""
    events, _ = await events_of([Fault.close(charged=True, times=1)])
    assert kinds(events) == [
        "RequestStarted", "RequestFinished", "RequestRetried",
        "RequestStarted", "RequestFinished", "PageReceived",
    ]  # fmt: skip
    lost, retried, again, finished = events[1:5]
    assert (lost.status, lost.error, lost.maybe) == (None, "ConnectionLostError", 1)
    assert (retried.route, retried.handle, retried.attempt) == (SHOWCASE, HANDLE, 1)
    assert retried.error == "ConnectionLostError"
    assert 0 <= retried.wait <= 0.5
    assert again.attempt == finished.attempt == 2
    assert (finished.error, finished.charged) == (None, 1)


async def test_a_paused_call():
    """A pushback is told with its pause and the narrower width, before the retry."""
    events, ledger = await events_of([Fault.status(503, retry_after="7", times=1)], concurrency=10)
    assert kinds(events) == [
        "RequestStarted", "RequestFinished", "Paused", "RequestRetried",
        "RequestStarted", "RequestFinished", "PageReceived",
    ]  # fmt: skip
    paused, retried = events[2:4]
    assert isinstance(paused, Paused)
    assert paused.seconds == pytest.approx(7, abs=0.1)
    assert (paused.width, paused.error) == (5, "UnavailableError")
    assert isinstance(retried, RequestRetried)
    assert retried.wait >= 7
    first, second = ledger.entries
    assert second.started - first.finished >= 7


async def test_exhausted_attempts():
    """The last failure is told as finished; no retry follows it."""
    events, _ = await events_of([Fault.status(502)])
    assert kinds(events) == [
        *["RequestStarted", "RequestFinished", "RequestRetried"] * 2,
        "RequestStarted", "RequestFinished", "LookupFailedError",
    ]  # fmt: skip
    attempts = [event.attempt for event in events if isinstance(event, RequestStarted)]
    assert attempts == [1, 2, 3]


async def test_a_run():
    """A run tells when it is done with each creator, and how that went."""
    events, _ = await events_of(
        [Fault.status(403, handles=["bad"])],
        call=lambda client: client.fetch_showcases([HANDLE, "empty_x", "..", HANDLE]),
    )
    done = {event.handle: event for event in events if isinstance(event, HandleFinished)}
    expected = HandleFinished(handle=HANDLE, status="complete", pages=2, products=30, error=None)
    assert done[HANDLE] == expected
    assert (done["empty_x"].status, done["empty_x"].products) == ("complete", 0)
    counts = [event.handle for event in events if isinstance(event, HandleFinished)]
    assert len(counts) == len(set(counts))


async def test_a_run_by_page():
    """How many products a creator has is told though its outcome has none of them."""

    async def by_page(client):
        async with client.showcases([HANDLE]) as run:
            async for _ in run.pages():
                pass

    events, _ = await events_of(call=by_page)
    (done,) = [event for event in events if isinstance(event, HandleFinished)]
    assert (done.pages, done.products) == (2, 30)


async def test_pages_out_of_an_archive_are_told_as_such(tmp_path):
    """A counter of pages can tell those that were bought from those on file."""

    async def twice(client):
        for _ in range(2):
            await client.fetch_showcases([HANDLE], archive=tmp_path / "job.sfk")

    events, ledger = await events_of(call=twice)
    pages = [event.archived for event in events if isinstance(event, PageReceived)]
    assert pages == [False, False, True, True]
    assert ledger.charged == 2


async def test_a_run_tells_of_failures():
    """A creator that failed is told with the error's name."""
    events, _ = await events_of(
        [Fault.not_json()], call=lambda client: client.fetch_showcases(["bad"])
    )
    (done,) = [event for event in events if isinstance(event, HandleFinished)]
    assert (done.status, done.error, done.pages) == ("failed", "UndecodableError", 0)


async def test_every_request_is_told_once():
    """As many requests are told as started and as finished as the API saw, costs included."""
    faults = Fault.storm(0.1, curable=True, hang=5)
    events, ledger = await events_of(
        faults, call=lambda client: client.fetch_showcases([f"creator{n}" for n in range(60)])
    )
    started = [event for event in events if isinstance(event, RequestStarted)]
    finished = [event for event in events if isinstance(event, RequestFinished)]
    assert len(started) == len(finished) == ledger.requests
    charged = sum(event.charged for event in finished)
    assert charged <= ledger.charged <= charged + sum(event.maybe for event in finished)


async def test_events_are_frozen_plain_values():
    """Events cannot be changed, and pickle; in JSON each says what it is, and is read back."""
    events, _ = await events_of(
        [Fault.status(503, times=1), Fault.price(2)],
        call=lambda client: client.fetch_showcases([HANDLE]),
    )
    assert {type(event) for event in events} == {*get_args(Event)}
    for event in events:
        for name in event.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(event, name, None)
        assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 - our own
        line = msgspec.json.encode(event)
        assert msgspec.json.decode(line)["type"] == type(event).__name__
        assert msgspec.json.decode(line, type=Event) == event


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("callback"),
        KeyError("k"),
        StopIteration(),
        asyncio.CancelledError(),
        pytest.fail.Exception("an assertion in a test's callback"),
    ],
)
async def test_a_callback_that_raises_harms_nothing(error, caplog):
    """A callback's failure is logged, and the page that was paid for is handed out."""

    def on_event(_):
        raise error

    faults = [Fault.status(503, times=1), Fault.close(times=1)]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, on_event=on_event, retry=Retry()) as client,
    ):
        page = await client.showcase_page(HANDLE)
        assert len(page.products) == 20
        (outcome,) = await client.fetch_showcases([HANDLE])
        assert outcome.status == "complete"
    records = [record for record in caplog.records if record.name == "asyncsfk"]
    assert len(records) >= 9
    assert {record.levelno for record in records} == {logging.ERROR}
    assert all(record.exc_info[1] is error for record in records)
    assert "RequestStarted" in records[0].getMessage()


async def test_a_log_that_raises_harms_nothing(tmp_path):
    """A filter may be written for others' records; what was paid for is kept and handed out."""

    def broken(_):
        raise AttributeError

    logger = logging.getLogger("asyncsfk")
    logger.addFilter(broken)
    try:
        async with (
            Simulator(faults=[Fault.price(2)]) as sim,
            client_of(sim) as client,
            Archive(tmp_path / "job.sfk") as archive,
        ):
            page = await client.showcase_page(HANDLE, archive=archive)
            assert page.usage.charged == sim.ledger.charged == 2
            assert (await asyncio.to_thread(archive.info)).answers == 1
    finally:
        logger.removeFilter(broken)


# Default logging


async def logged(caplog, level, faults=()):
    caplog.set_level(level, logger="asyncsfk")
    async with Simulator(faults=faults) as sim, client_of(sim, retry=Retry()) as client:
        await client.fetch_showcases([HANDLE])
    return [record for record in caplog.records if record.name == "asyncsfk"]


async def test_debug_logs_everything(caplog):
    """At DEBUG, each event is one line; waits are at INFO."""
    records = await logged(caplog, logging.DEBUG, [Fault.status(503, times=1)])
    levels = [(record.getMessage().split("(")[0], record.levelname) for record in records]
    assert levels == [
        ("RequestStarted", "DEBUG"), ("RequestFinished", "DEBUG"),
        ("Paused", "INFO"), ("RequestRetried", "INFO"),
        ("RequestStarted", "DEBUG"), ("RequestFinished", "DEBUG"), ("PageReceived", "DEBUG"),
        ("RequestStarted", "DEBUG"), ("RequestFinished", "DEBUG"), ("PageReceived", "DEBUG"),
        ("HandleFinished", "DEBUG"),
    ]  # fmt: skip
    assert all("\n" not in record.getMessage() for record in records)
    assert any(HANDLE in record.getMessage() for record in records)


async def test_info_logs_waits(caplog):
    """At INFO, only what makes a caller wait is logged."""
    records = await logged(caplog, logging.INFO, [Fault.status(503, times=1)])
    assert [record.getMessage().split("(")[0] for record in records] == ["Paused", "RequestRetried"]


async def test_a_callback_that_is_false_is_called():
    """For example an empty list with a ``__call__``."""

    class Kept(list):
        def __call__(self, event):
            self.append(event)

    kept = Kept()
    async with Simulator() as sim, client_of(sim, on_event=kept) as client:
        await client.showcase_page(HANDLE)
    assert kinds(kept) == ["RequestStarted", "RequestFinished", "PageReceived"]


async def test_no_connection_is_logged_as_a_warning(caplog):
    """Even without any logging set up, one is told why nothing comes for minutes."""
    caplog.set_level(logging.WARNING, logger="asyncsfk")
    async with Client("sfk_x", base_url="http://127.0.0.1:9", retry=Retry(attempts=2)) as client:
        await failure(client.showcase_page(HANDLE), ConnectionFailedError)
    messages = [record.getMessage() for record in caplog.records if record.name == "asyncsfk"]
    assert messages
    assert all(text.startswith("Paused(") and "no connection" in text for text in messages)


async def test_no_connection_for_too_long_is_logged_as_a_warning(caplog):
    """The last attempts of an outage, which end it, are logged as warnings too."""
    caplog.set_level(logging.INFO, logger="asyncsfk")
    retry = Retry(attempts=99, quota=99, outage=20)
    async with Client("sfk_x", base_url="http://127.0.0.1:9", retry=retry) as client:
        await client.fetch_showcases([HANDLE])
    paused = [record for record in caplog.records if record.getMessage().startswith("Paused(")]
    assert "UnreachableError" in paused[-1].getMessage()
    assert {record.levelname for record in paused} == {"WARNING"}


async def test_the_status_of_an_answer_that_is_too_large():
    """The event has it, although the answer was not read to its end."""
    events, _ = await events_of([Fault.oversized(size=2_000_000)], max_body_bytes=1_000_000)
    (finished,) = [event for event in events if isinstance(event, RequestFinished)]
    assert (finished.status, finished.error) == (200, "BodyTooLargeError")


async def test_a_price_that_rose_is_a_warning(caplog):
    """Those who listen only to warnings are told that a route costs more than it did."""
    records = await logged(caplog, logging.WARNING, [Fault.price(3, times=1)])
    assert [record.getMessage().split("(")[0] for record in records] == ["PriceRaised"]
    assert [record.levelname for record in records] == ["WARNING"]


async def test_a_good_run_is_silent_at_info(caplog):
    """At INFO, a run that goes well logs nothing."""
    assert await logged(caplog, logging.INFO) == []


async def test_a_callback_replaces_the_log(caplog):
    """With `on_event`, nothing is logged beside it."""
    caplog.set_level(logging.DEBUG, logger="asyncsfk")
    await events_of([Fault.status(503, times=1)])
    assert [record for record in caplog.records if record.name == "asyncsfk"] == []


async def test_the_library_configures_no_logging():
    """Using the library adds no handler and sets no level."""
    await events_of([Fault.status(503, times=1)])
    logger = logging.getLogger("asyncsfk")
    assert logger.handlers == []
    assert logger.level == logging.NOTSET
    assert logger.propagate


async def test_a_redirect_and_a_body_fault_are_told():
    """Answers that cannot be used are told with their status and the error's name."""
    for fault, status, name in (
        (Fault.redirect("http://127.0.0.1:9/"), 302, "RedirectError"),
        (Fault.not_json(), 200, "UndecodableError"),
    ):
        events, _ = await events_of([fault])
        assert (events[1].status, events[1].error) == (status, name)
        assert type(events[-1]).__name__ == name


async def test_a_missing_key_is_no_event():
    """A call that is refused before sending tells of no request."""
    events = []
    async with Simulator() as sim, client_of(sim, on_event=events.append) as client:
        await failure(client.showcase_page(".."), InvalidArgumentError)
    assert events == []


async def test_a_cancelled_request_is_told_to_have_finished():
    """Each start has an event of its end, even if the caller left."""
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


async def test_callbacks_that_would_have_to_be_awaited_are_refused():
    """An async function is refused, since nobody would await it, and so is a non-callable."""

    async def callback(_):
        raise AssertionError

    class Callback:
        async def __call__(self, _):
            raise AssertionError

    for wrong in (callback, Callback(), 3):
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
            # At once, not at the first page, which would be paid for.
            run.pages(callback)
