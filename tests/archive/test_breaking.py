"""An archive that breaks, or is closed, under a run: what was bought is told, once, and why."""

import asyncio
import gc
import os
import sys

import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    ArchiveWriteError,
    InsufficientCreditsError,
    PaginationError,
    RunStoppedError,
    Usage,
    events,
)
from asyncsfk.simulator import Fault
from tests.support import client_of, failure, run_through

#: `os.unlink` without the watch that is kept over blocking calls.
unlink = sys.modules[os.name].unlink


def unlink_at_page(path, number):
    """Give a callback that removes a file once `number` pages have been committed."""
    left = number

    def on_event(event):
        nonlocal left
        if isinstance(event, events.PageReceived):
            left -= 1
            if not left:
                unlink(path)

    return on_event


async def test_pages_whose_outcome_cannot_be_kept_are_handed_out(sim, path):
    """A creator whose outcome cannot be written comes as partial, with the pages it has bought."""
    async with client_of(sim, on_event=unlink_at_page(path, 1)) as client:
        # The repeated handle is a duplicate, even though the archive can no longer tell.
        handles = ["a.45products", "b.5products", "a.45products"]
        run, (first, second) = await run_through(
            client, handles, concurrency=1, archive=path, max_pages=1
        )
    assert (first.status, len(first.products)) == ("partial", 20)
    assert isinstance(first.error, ArchiveWriteError)
    assert first.error.handle == "a.45products"
    assert first.next_cursor == first.error.cursor is not None
    assert (second.status, second.error.usage) == ("skipped", Usage())
    assert isinstance(second.error, ArchiveWriteError)
    # The error of the second, which was not tried, does not name the first.
    assert (second.error.handle, second.error.cursor) == ("b.5products", None)
    assert (run.stopped.handle, run.stopped.cursor) == (None, None)
    assert run.usage.charged == sim.ledger.charged == 1


async def test_who_buys_is_told_of_a_file_that_is_gone_and_nobody_else(
    sim, client, path, monkeypatch
):
    """A call is told that its file is gone; asyncio complains of no write that nobody awaited."""
    complaints = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_exception_handler", complaints.append)
    async with Archive(path) as archive:
        unlink(path)
        await failure(client.showcase_page("x", archive=archive), ArchiveWriteError)
    assert sim.ledger.requests == 0
    gc.collect()
    assert complaints == []


async def test_the_last_outcome_that_cannot_be_kept_stops_the_run(sim, path):
    """A run says that its archive broke even if only its last outcome was left to be written."""
    async with client_of(sim, on_event=unlink_at_page(path, 1)) as client:
        run, _ = await run_through(client, ["a.5products"], concurrency=1, archive=path)
    assert isinstance(run.stopped, ArchiveWriteError)


async def test_what_ended_a_creator_before_its_outcome_could_not_be_kept(sim, path):
    """A creator that failed by itself keeps that error; the archive's error stops the run."""
    sim.faults = [Fault.has_more_without_cursor(handles=["lost.45products"])]
    async with client_of(sim, on_event=unlink_at_page(path, 1)) as client:
        run, (lost, other) = await run_through(
            client, ["lost.45products", "a.5products"], concurrency=1, archive=path
        )
    assert (lost.status, type(lost.error)) == ("partial", PaginationError)
    assert isinstance(other.error, ArchiveWriteError)
    assert isinstance(run.stopped, ArchiveWriteError)


async def test_a_handle_that_comes_again_after_the_archive_was_closed(sim, path):
    """After the archive was closed each distinct handle still has one outcome; none is bought."""
    archive, done = Archive(path), asyncio.Event()

    def on_event(event):
        if isinstance(event, events.HandleFinished):
            done.set()

    async def handles():
        yield "a.5products"
        await done.wait()
        await archive.aclose()
        for handle in ("b.5products", "b.5products", "c.5products", "b.5products"):
            yield handle

    async with client_of(sim, on_event=on_event) as client, archive:
        run, (first, *others) = await run_through(client, handles(), concurrency=1, archive=archive)
    assert first.status == "complete"
    assert [other.handle for other in others] == ["b.5products", "c.5products"]
    assert [other.error.handle for other in others] == ["b.5products", "c.5products"]
    assert {(other.status, type(other.error)) for other in others} == {("skipped", ArchiveError)}
    assert isinstance(run.stopped, ArchiveError)
    assert (run.progress.started, run.progress.duplicates) == (3, 2)
    assert sim.ledger.requests == 1


async def test_a_list_keeps_what_was_had_before_the_archive_was_closed(sim, path):
    """In a list, a handle given twice has the outcome from before the archive was closed."""
    archive, closing = Archive(path), []

    def on_event(event):
        if isinstance(event, events.HandleFinished) and not closing:
            closing.append(asyncio.create_task(archive.aclose()))

    async with client_of(sim, on_event=on_event) as client, archive:
        handles = ["a.5products", "b.5products", "a.5products"]
        outcomes = await client.fetch_showcases(handles, archive=archive, concurrency=1)
    assert [outcome.status for outcome in outcomes] == ["complete", "skipped", "complete"]
    assert sim.ledger.requests == 1
    await closing[0]


@pytest.mark.parametrize("kept", [True, False])
async def test_the_first_reason_counts(sim, path, kept):
    """What first stopped a run is the reason given in later outcomes, even after run.stop()."""
    sim.faults = [Fault.status(402, handles=["poor"])]
    async with (
        client_of(sim) as client,
        client.showcases(
            ["slow.45products", "poor", "late"], concurrency=2, archive=path if kept else None
        ) as run,
    ):
        outcomes = {}
        async for outcome in run:
            outcomes[outcome.handle] = outcome
            run.stop()
    slow = outcomes["slow.45products"]
    assert slow.status == "partial"
    assert isinstance(slow.error, InsufficientCreditsError)
    assert not isinstance(slow.error, RunStoppedError)
    assert (slow.error.handle, slow.error.usage) == ("slow.45products", Usage())
    assert slow.next_cursor is not None
    assert run.stopped.handle is None
