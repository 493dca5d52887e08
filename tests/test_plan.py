"""A plan says what a run would do and cost, and costs nothing itself."""

import asyncio
import itertools
import os
import sys
from string import ascii_lowercase

import msgspec
import pytest

from asyncsfk import (
    Archive,
    ArchiveError,
    ArchiveFormatError,
    BodyTooLargeError,
    Budget,
    Client,
    InvalidArgumentError,
    PaginationError,
    Plan,
    UnauthorizedError,
    UndecodableError,
)
from asyncsfk.simulator import Fault, Latency, Simulator
from tests.archive.support import held
from tests.support import KEY, client_of, failure, run_through, sql


@pytest.fixture
async def sim():
    async with Simulator(credits=100, latency=Latency.fixed(1)) as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with Client(sim.api_key, base_url=sim.url, concurrency=4) as client:
        yield client


async def test_without_an_archive_all_is_to_start(sim, client):
    """Handles are sorted out; nothing is sent but the question for the balance."""
    handles = ["a", "@B", "https://www.tiktok.com/@7?x=1", "A", "no good", "no good", 7]
    plan = await client.plan(handles)
    assert (plan.given, plan.distinct, plan.duplicates, plan.invalid) == (7, 3, 2, 2)
    assert (plan.complete, plan.to_continue, plan.to_start) == (0, 0, 3)
    assert (plan.least, plan.likely, plan.most, plan.seconds) == (3, None, None, None)
    assert (plan.balance, plan.concurrency, plan.covered) == (100, 4, "perhaps")
    assert sim.ledger.charged == 0
    assert [entry.route for entry in sim.ledger] == ["/v1/balance"]


async def test_handles_of_which_one_is_the_end_of_another(client):
    """They are different creators, even where many of them have to be told apart."""
    handles = [letter * length for length in range(64, 0, -1) for letter in ascii_lowercase]
    plan = await client.plan([*handles, *handles])
    assert plan.distinct == plan.duplicates == len(handles)


async def test_an_archive_that_is_not_there_yet(client, path):
    """A first run can be planned; the file is not made."""
    plan = await client.plan(["a"], archive=path, max_pages=3)
    assert (plan.to_start, plan.least, plan.most, plan.covered) == (1, 1, 3, "certain")
    assert not path.exists()


async def test_what_the_archive_holds_is_free(sim, client, path):
    """Complete, begun and unknown creators are told apart, and the forecast goes by them."""
    handles = [f"c{number}.30products" for number in range(6)]
    await run_through(client, handles[:3], archive=path)
    sim.faults = [Fault.status(400, pages=[2])]
    await run_through(client, handles[3:4], archive=path)
    paid = sim.ledger.charged
    assert paid == 7
    plan = await client.plan(handles, archive=Archive(path), concurrency=2)
    assert (plan.complete, plan.to_continue, plan.to_start) == (3, 1, 2)
    # Two pages each, and one for the one that was begun.
    assert (plan.least, plan.likely, plan.most) == (3, 5, None)
    assert plan.balance == 100 - paid
    assert plan.covered == "likely"
    assert plan.seconds == pytest.approx(5 * 1.0 / 2, rel=0.1)
    line = msgspec.json.encode(plan)
    assert msgspec.json.decode(line, type=Plan) == plan
    assert msgspec.json.decode(line)["toContinue"] == 1
    assert sim.ledger.charged == paid
    sim.faults = []
    await run_through(client, handles, archive=path)
    assert sim.ledger.charged - paid == plan.likely


async def test_the_rate_bounds_the_forecast(sim, path):
    """A rate below what the width allows is what the time goes by."""
    async with Client(sim.api_key, base_url=sim.url, rate=0.5) as client:
        await run_through(client, ["a.1products"], archive=path)
        plan = await client.plan(["b", "c"], archive=path)
        assert plan.likely == 2
        assert plan.seconds == pytest.approx(4)
        await run_through(client, ["empty_d"], archive=path)
        plan = await client.plan(["b", "c"], archive=path, verify_empty=True)
        # Look-ups are requests as well.
        assert (plan.likely, plan.seconds) == (3, pytest.approx(6))
    async with Client(sim.api_key, base_url=sim.url, rate=100, concurrency=1) as client:
        plan = await client.plan(["b", "c"], archive=path)
        assert plan.seconds == pytest.approx(2, rel=0.1)


async def test_how_long_requests_take_is_what_the_good_ones_took_on_average(sim, path):
    """Neither a single slow request nor a failed one tells how long the others will take."""
    sim.faults = [
        Fault.delay(Latency.fixed(3), handles=["slow.1products"]),
        Fault.delay(Latency.fixed(20), handles=["bad"]),
        Fault.status(500, handles=["bad"]),
    ]
    async with client_of(sim) as client:
        handles = ["a.1products", "b.1products", "slow.1products", "bad"]
        await run_through(client, handles, archive=path)
        plan = await client.plan(["c", "d"], archive=path, concurrency=1)
    # One second, one, and four.
    assert (plan.likely, plan.seconds) == (2, pytest.approx(4, rel=0.05))


async def test_options_that_buy_afresh(client, path):
    """With refresh or max_age, what is on file counts as to be started."""
    await run_through(client, ["a.1products"], archive=path)
    for options, complete in (
        ({}, 1),
        ({"refresh": True}, 0),
        ({"max_age": 0}, 0),
        ({"max_age": 3600}, 1),
        ({"region": "GB"}, 0),
    ):
        plan = await client.plan(["a.1products"], archive=path, **options)
        assert (plan.complete, plan.to_start) == (complete, 1 - complete), options


async def test_max_pages(client, path):
    """A showcase cut short is complete for a plan of as many pages, and begun for more."""
    await run_through(client, ["a.90products"], archive=path, max_pages=2)
    for max_pages, complete, least, most in ((1, 1, 0, 0), (2, 1, 0, 0), (4, 0, 1, 2)):
        plan = await client.plan(["a.90products"], archive=path, max_pages=max_pages)
        assert (plan.complete, plan.least, plan.most) == (complete, least, most), max_pages
    plan = await client.plan(["a.90products"], archive=path)
    assert (plan.complete, plan.to_continue, plan.most) == (0, 1, None)


@pytest.mark.parametrize("cursor", [None, ""], ids=["null", "empty"])
async def test_what_was_cut_where_it_leads_nowhere_is_complete(sim, client, path, cursor):
    """Behind a page that says there is more, but not where, nothing can be bought."""
    _, (outcome,) = await run_through(client, ["c.90products"], archive=path, max_pages=1)
    sim.add_fault(Fault.has_more_without_cursor(cursor))
    async with Archive(path) as archive:
        await client.showcase_page("a.90products", archive=archive)
        await client.showcase_page("c.90products", cursor=outcome.next_cursor, archive=archive)
    _, (outcome,) = await run_through(client, ["b.90products"], archive=path, max_pages=1)
    assert (outcome.status, outcome.next_cursor) == ("complete", None)
    plan = await client.plan([f"{name}.90products" for name in "abc"], archive=path)
    assert (plan.complete, plan.to_continue, plan.least) == (3, 0, 0)
    kept = {outcome.handle: outcome for outcome in await held(path, "outcomes")}
    assert kept["b.90products"].next_cursor is None
    run, outcomes = await run_through(client, ["a.90products", "c.90products"], archive=path)
    assert {outcome.status for outcome in outcomes} == {"partial"}
    assert run.usage.requests == 0
    for outcome in outcomes:
        assert kept[outcome.handle].next_cursor == outcome.next_cursor


async def test_a_showcase_cut_by_a_killed_process_is_to_continue(client, path):
    """A creator with pages but no outcome is to be continued."""
    async with Archive(path) as archive:
        await client.showcase_page("a.90products", archive=archive)
    plan = await client.plan(["a.90products"], archive=path, max_pages=5)
    assert (plan.to_continue, plan.least, plan.most) == (1, 1, 4)


async def test_what_cannot_be_decoded_is_not_bought_again(sim, client, path):
    """A creator whose page is on file and cannot be decoded costs nothing, as long as it is so."""
    sim.add_fault(Fault.not_json(handles={"odd"}))
    await client.fetch_showcases(["odd", "even.5products"], archive=path)
    plan = await client.plan(["odd", "even.5products", "new"], archive=path)
    assert (plan.complete, plan.undecodable, plan.to_continue, plan.to_start) == (1, 1, 0, 1)
    assert (plan.distinct, plan.least) == (3, 1)
    plan = await client.plan(["odd"], archive=path, refresh=True)
    assert (plan.undecodable, plan.to_start, plan.least) == (0, 1, 1)


async def test_what_cannot_be_decoded_beyond_what_is_wanted_is_in_nobodys_way(sim, client, path):
    """A plan of no more pages than those before it says so, as the run does."""
    sim.add_fault(Fault.not_json(pages=[2]))
    await run_through(client, ["a.90products"], archive=path)
    plan = await client.plan(["a.90products"], archive=path, max_pages=1)
    assert (plan.complete, plan.undecodable, plan.least) == (1, 0, 0)
    run, (outcome,) = await run_through(client, ["a.90products"], archive=path, max_pages=1)
    assert (outcome.status, run.usage.charged) == ("complete", 0)


async def test_what_can_be_decoded_by_now_is_gone_on_with(path):
    """A client that may read larger bodies needs no salvage: its run just goes on, as planned."""
    handles = ["long.500products", "short.200products", "odd.5products"]
    async with Simulator(page_size=200, faults=[Fault.not_json(handles={handles[2]})]) as sim:
        async with client_of(sim, max_body_bytes=30_000) as small:
            await run_through(small, handles, archive=path)
            plan = await small.plan(handles, archive=path, max_pages=9)
            assert (plan.undecodable, plan.least, plan.most) == (3, 0, 0)
        async with client_of(sim) as client:
            plan = await client.plan(handles, archive=path, max_pages=1, verify_empty=True)
            assert (plan.complete, plan.undecodable, plan.least) == (2, 1, 0)
            plan = await client.plan(handles, archive=path, max_pages=9)
            assert (plan.complete, plan.to_continue, plan.undecodable) == (1, 1, 1)
            assert (plan.least, plan.most) == (1, 8)
            run, _ = await run_through(client, handles, archive=path, max_pages=9)
            assert plan.least <= run.usage.charged == 2 <= plan.most


async def test_a_cursor_that_led_nowhere_is_not_followed_again(sim, client, path):
    """What is on file says where it leads: a run buys nothing, and the plan says so."""
    sim.add_fault(Fault.cursor_loop(pages=[2]))
    _, (before,) = await run_through(client, ["a.90products"], archive=path)
    assert isinstance(before.error, PaginationError)
    plan = await client.plan(["a.90products"], archive=path)
    assert (plan.complete, plan.to_continue, plan.least) == (1, 0, 0)
    run, (after,) = await run_through(client, ["a.90products"], archive=path)
    assert isinstance(after.error, PaginationError)
    assert run.usage.charged == 0


async def test_a_limit_does_not_hide_where_a_cursor_led(sim, client, path):
    """A run that wanted no more pages told no error; still the next one buys nothing."""
    sim.add_fault(Fault.cursor_loop(pages=[2]))
    _, (before,) = await run_through(client, ["a.90products"], archive=path, max_pages=2)
    assert (before.status, before.error) == ("complete", None)
    plan = await client.plan(["a.90products"], archive=path)
    assert (plan.complete, plan.to_continue, plan.least) == (1, 0, 0)
    run, (after,) = await run_through(client, ["a.90products"], archive=path)
    assert isinstance(after.error, PaginationError)
    assert run.usage.requests == 0


async def test_who_is_empty_and_leads_nowhere_is_not_looked_up(sim, client, path):
    """Nobody can tell whether a showcase with further pages is empty, so no run asks."""
    sim.add_fault(Fault.has_more_without_cursor())
    await run_through(client, ["empty_a"], archive=path, max_pages=1)
    plan = await client.plan(["empty_a"], archive=path, verify_empty=True)
    assert (plan.complete, plan.least, plan.most) == (1, 0, 0)
    run, (after,) = await run_through(client, ["empty_a"], archive=path, verify_empty=True)
    assert isinstance(after.error, PaginationError)
    assert run.usage.requests == 0
    # A run of no more pages than that does.
    options = {"archive": path, "verify_empty": True, "max_pages": 1}
    plan = await client.plan(["empty_a"], **options)
    assert (plan.complete, plan.least, plan.most) == (1, 1, 1)
    run, _ = await run_through(client, ["empty_a"], **options)
    assert run.usage.charged == 1


@pytest.mark.parametrize("max_pages", [None, 1], ids=["call", "run and call"])
async def test_where_a_call_was_led_nowhere_it_is_known_too(sim, client, path, max_pages):
    """The file says the same of a creator whether a call or a run met the end of its pages."""
    sim.add_fault(Fault.cursor_loop(pages=[3]))
    if max_pages is not None:
        await run_through(client, ["a.90products"], archive=path, max_pages=max_pages)
    async with Archive(path) as archive:
        with pytest.raises(PaginationError):
            await client.showcase("a.90products", archive=archive).collect()
    (before,) = await held(path, "outcomes")
    plan = await client.plan(["a.90products"], archive=path)
    assert (plan.complete, plan.to_continue, plan.least) == (1, 0, 0)
    run, (after,) = await run_through(client, ["a.90products"], archive=path)
    assert run.usage.charged == 0
    assert isinstance(after.error, PaginationError)
    assert (before.status, before.next_cursor) == (after.status, after.next_cursor)
    assert before.error == after.error


async def test_an_empty_file_is_no_archive_yet(client, path):
    """A process killed while making an archive leaves one: a plan takes it as a run does."""
    path.touch()
    plan = await client.plan(["a.5products"], archive=path, max_credits=5)
    assert (plan.to_start, plan.left) == (1, 5)
    run, _ = await run_through(client, ["a.5products"], archive=path)
    assert run.usage.charged == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
async def test_a_pipe_is_no_archive(client, path):
    """Although it is empty: a run would not make an archive of it."""
    os.mkfifo(path)
    with pytest.raises(ArchiveFormatError, match="is not a file"):
        await client.plan(["a.5products"], archive=path)


async def test_an_archive_of_another_origin(client, path):
    """A plan is refused where the run would be."""
    await client.fetch_showcases(["x"], archive=path)
    async with Client(KEY, base_url="https://other.test") as other:
        with pytest.raises(ArchiveError, match="use another file"):
            await other.plan(["x"], archive=path)


async def test_verify_empty_costs_a_look_up(client, path):
    """Empty showcases whose account was never looked up cost one more credit."""
    await run_through(client, ["empty_a", "b.1products"], archive=path)
    plan = await client.plan(["empty_a", "b.1products"], archive=path, verify_empty=True)
    assert (plan.complete, plan.least, plan.likely) == (2, 1, 1)
    # Half of those that are there were empty.
    plan = await client.plan(["x", "y"], archive=path, verify_empty=True)
    assert (plan.least, plan.likely) == (2, 3)
    assert plan.seconds == pytest.approx(3 / 4, rel=0.1)
    await run_through(client, ["empty_a"], archive=path, verify_empty=True)
    plan = await client.plan(["empty_a"], archive=path, verify_empty=True)
    assert (plan.least, plan.likely, plan.covered) == (0, 0, "certain")


async def test_one_that_has_products_is_not_looked_up(sim, client, path):
    """Half of those on file were empty, and so may be half of those yet to be started."""
    sim.faults = [Fault.status(500, pages=[2])]
    await run_through(client, ["a.30products", "empty_b"], archive=path)
    options = {"archive": path, "verify_empty": True, "max_pages": 2}
    plan = await client.plan(["a.30products", "x"], **options)
    assert (plan.to_continue, plan.to_start) == (1, 1)
    # A page of the one; one, half of a second and half of a look-up of the other.
    assert plan.likely == 1 + 1 + 0.5 + 0.5
    # Without verify_empty nobody is looked up.
    plan = await client.plan(["a.30products", "x", "y"], archive=path, max_pages=2)
    assert plan.likely == 1 + 2 * 1.5


async def test_what_was_never_timed_is_planned_without_a_time(client, path):
    """An archive's first version did not keep how long requests took."""
    await run_through(client, ["a.5products"], archive=path)
    sql(path, "UPDATE attempt SET seconds = NULL")
    plan = await client.plan(["b"], archive=path)
    assert (plan.likely, plan.seconds) == (1, None)


async def test_who_failed_is_not_taken_for_empty(sim, client, path):
    """Creators of whom nothing came do not count when look-ups are forecast."""
    sim.faults = [Fault.status(404, handles=["bad"])]
    await run_through(client, ["bad", "b.1products"], archive=path)
    plan = await client.plan(["x", "y"], archive=path, verify_empty=True)
    assert (plan.least, plan.likely) == (2, 2)


async def test_most_counts_look_ups(sim, client):
    """A run that looks every creator up costs no more than the plan's most."""
    handles = ["empty_a", "private_b"]
    plan = await client.plan(handles, max_pages=1, verify_empty=True)
    await run_through(client, handles, max_pages=1, verify_empty=True)
    assert plan.most == sim.ledger.charged == 4


async def test_most_counts_look_ups_of_those_that_are_begun(sim, client, path):
    """If all pages of a creator were empty so far, the rest may be too."""
    sim.faults = [Fault.empty_page_with_more(times=1)]
    await run_through(client, ["empty_a"], archive=path, max_pages=1)
    options = {"archive": path, "max_pages": 2, "verify_empty": True}
    plan = await client.plan(["empty_a"], **options)
    assert (plan.to_continue, plan.least, plan.most) == (1, 1, 2)
    paid = sim.ledger.charged
    await run_through(client, ["empty_a"], **options)
    assert sim.ledger.charged - paid == plan.most


async def test_most_counts_what_is_started_over(sim, client, path):
    """If cursors on file may be stale, begun showcases may have to be bought as a whole."""
    await run_through(client, ["a.90products"], archive=path, max_pages=2)
    sim.add_fault(Fault.status(400, pages=[3], times=1))
    options = {"archive": path, "max_pages": 4}
    plan = await client.plan(["a.90products"], **options)
    assert (plan.to_continue, plan.least, plan.most) == (1, 1, 2)
    plan = await client.plan(["a.90products"], restart_stale=True, **options)
    assert (plan.to_continue, plan.least, plan.most) == (1, 1, 4)
    run, (outcome,) = await run_through(client, ["a.90products"], restart_stale=True, **options)
    assert (outcome.status, run.usage.charged) == ("complete", plan.most)


async def test_where_nothing_but_failures_is_on_file_nothing_is_known(sim, client, path):
    """Not even how many showcases are empty."""
    sim.faults = [Fault.status(404, handles=["bad"])]
    await run_through(client, ["bad"], archive=path)
    plan = await client.plan(["x"], archive=path, verify_empty=True, max_pages=1)
    assert (plan.least, plan.likely, plan.most) == (1, None, 2)


async def test_a_poor_balance(sim, client, path):
    """A balance below what it likely costs does not cover it."""
    await run_through(client, ["a.90products"], archive=path)
    sim.balance = 9
    plan = await client.plan(["x", "y"], archive=path)
    assert (plan.likely, plan.covered) == (10, "no")
    sim.balance = 1
    assert (await client.plan(["x", "y"])).covered == "no"
    nothing = await client.plan([])
    assert (nothing.covered, nothing.least, nothing.likely, nothing.most) == ("certain", 0, 0, 0)


async def test_many_handles_from_an_async_source(client, path):
    """Handles may come from any iterable, in any number, while the archive is open."""

    async def source():
        for number in range(1_200):
            yield f"creator{number}"

    async with Archive(path) as archive:
        plan = await client.plan(source(), archive=archive)
    assert plan.to_start == plan.given == 1_200


async def test_one_dict_of_options_does_for_a_plan_and_its_run(client, path):
    """A plan takes the arguments of the call that it is for, and tells what the ceiling leaves."""
    options = {
        "archive": path,
        "max_pages": 2,
        "max_credits": 4,
        "verify_empty": True,
        "restart_stale": True,
        "max_age": 100,
        "refresh": False,
        "region": "GB",
        "concurrency": 1,
    }
    assert (await client.plan(["a.45products"], **options)).left == 4
    await client.fetch_showcases(["a.45products"], **options)
    assert (await client.plan(["a.45products"], **options)).left == 2
    # A number counts what the whole archive has cost, a budget what it was told of.
    assert (await client.plan(["a"], **options | {"max_credits": 1})).left == 0
    assert (await client.plan(["a"], **options | {"max_credits": Budget(7)})).left == 7


async def test_what_may_have_been_charged_is_not_left(sim, path):
    """As for a run, a lost answer counts towards the ceiling of an archive."""
    sim.faults = [Fault.close(charged=True, times=1)]
    async with client_of(sim) as client:
        (outcome,) = await client.fetch_showcases(["a.5products"], archive=path)
        assert (outcome.usage.charged, outcome.usage.maybe) == (0, 1)
        assert (await client.plan(["b"], archive=path, max_credits=5)).left == 4


async def test_the_nearest_ceiling_is_what_is_left(sim):
    """The client's own ceiling binds as well; without any nothing is said."""
    async with client_of(sim, max_credits=3) as client:
        assert (await client.plan(["a"])).left == 3
        assert (await client.plan(["a"], max_credits=2)).left == 2
    async with client_of(sim) as client:
        assert (await client.plan(["a"])).left is None


@pytest.mark.real_time
async def test_a_plan_of_many_leaves_the_loop_to_others(client):
    """Handles without end can be left by a timeout."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.plan(itertools.repeat("mrbeast"))


async def test_what_is_refused(sim, client, path):
    """Unusable arguments, files and keys are errors, as of a run."""
    for options in (
        {"max_pages": 0},
        {"region": ""},
        {"concurrency": 0},
        {"max_age": -1, "archive": path},
        {"max_age": 1},
        {"refresh": True},
        {"restart_stale": True},
        {"max_credits": 0},
    ):
        with pytest.raises(InvalidArgumentError, match=next(iter(options))):
            await client.plan(["a"], **options)
    with pytest.raises(InvalidArgumentError, match="iterable of handles"):
        await client.plan("mrbeast")
    path.write_text("something else " * 100)
    with pytest.raises(ArchiveFormatError):
        await client.plan(["a"], archive=path)
    async with Client("sfk_wrong", base_url=sim.url) as stranger:
        with pytest.raises(UnauthorizedError):
            await stranger.plan(["a"])
    assert sim.ledger.charged == 0


async def test_what_broke_off_beyond_what_is_wanted_is_complete(sim, client, path):
    """If no more pages are wanted than are on file, nothing is bought, and the plan says so."""
    sim.faults = [Fault.status(500, pages=[3])]
    await run_through(client, ["a.90products"], archive=path)
    plan = await client.plan(["a.90products"], archive=path, max_pages=2)
    assert (plan.complete, plan.to_continue, plan.least, plan.most) == (1, 0, 0, 0)
    _, (outcome,) = await run_through(client, ["a.90products"], archive=path, max_pages=2)
    assert (outcome.status, outcome.usage.charged) == ("complete", 0)


async def test_any_number_of_pages_may_be_the_most(client, path):
    """`sys.maxsize` pages, the most that may be asked for, are within what SQLite can count."""
    await run_through(client, ["a.5products"], archive=path)
    plan = await client.plan(["a.5products", "b"], archive=path, max_pages=sys.maxsize)
    assert (plan.complete, plan.to_start) == (1, 1)


async def test_what_calls_alone_have_gone_on_with_is_no_longer_to_be_bought(path):
    """Nor is a profile looked up if the showcase itself ended in an error."""
    faults = [
        Fault.status(500, times=1, pages=[2]),
        Fault.has_more_without_cursor(handles=["empty_c"]),
    ]
    async with Simulator(faults=faults) as sim, client_of(sim) as client:
        await run_through(client, ["a.45products", "empty_c"], archive=path, verify_empty=True)
        async with Archive(path) as archive:
            await client.showcase("a.45products", archive=archive).collect()
        before = sim.ledger.charged
        plan = await client.plan(["a.45products", "empty_c"], archive=path, verify_empty=True)
        assert (plan.complete, plan.least) == (2, 0)
        await run_through(client, ["a.45products", "empty_c"], archive=path, verify_empty=True)
        assert sim.ledger.charged == before


async def test_what_failed_and_was_bought_by_calls_since_is_complete(sim, client, path):
    """What is on file now counts, not the outcome that a run had noted."""
    sim.faults = [Fault.status(404, times=1, handles=["a.45products"])]
    await run_through(client, ["a.45products"], archive=path)
    async with Archive(path) as archive:
        await client.showcase("a.45products", archive=archive).collect()
    plan = await client.plan(["a.45products"], archive=path)
    assert (plan.complete, plan.to_continue, plan.least) == (1, 0, 0)


async def test_a_profile_that_is_too_old_is_looked_up_again(sim, client, path):
    """What is known of an empty showcase's account may be as old as the showcase may."""
    options = {"archive": path, "verify_empty": True, "max_age": 3600}
    for number, verify_empty in enumerate((False, True)):
        handle = f"empty_{number}"
        async with Archive(path) as archive:
            await client.tiktok_profile(handle, archive=archive)
        await run_through(client, [handle], archive=path, verify_empty=verify_empty)
        assert (await client.plan([handle], **options)).least == 0
        sql(path, "UPDATE page SET received = received - 7200 WHERE route NOT LIKE '%products'")
        plan = await client.plan([handle], **options)
        assert (plan.complete, plan.least) == (1, 1), verify_empty
        paid = sim.ledger.charged
        await run_through(client, [handle], **options)
        assert sim.ledger.charged - paid == plan.least


async def test_pages_that_calls_have_bought_since_a_limit_are_seen(sim, client, path):
    """What `max_pages` cut is complete once its other pages are on file, whoever bought them."""
    await run_through(client, ["a.90products"], archive=path, max_pages=1)
    async with Archive(path) as archive:
        await client.showcase("a.90products", archive=archive, max_pages=3).collect()
        plan = await client.plan(["a.90products"], archive=path, max_pages=3)
        assert (plan.complete, plan.least) == (1, 0)
        plan = await client.plan(["a.90products"], archive=path, max_pages=5)
        assert (plan.to_continue, plan.least, plan.most) == (1, 1, 2)
        await client.showcase("a.90products", archive=archive).collect()
    plan = await client.plan(["a.90products"], archive=path)
    assert (plan.complete, plan.least) == (1, 0)
    paid = sim.ledger.charged
    await run_through(client, ["a.90products"], archive=path)
    assert sim.ledger.charged == paid


async def test_each_region_is_planned_for_itself(client, path):
    """A creator that is complete in one region is to be started in every other."""
    gb = {"archive": path, "region": "GB"}
    await run_through(client, ["a.45products"], max_pages=1, **gb)
    plan = await client.plan(["a.45products"], **gb)
    assert (plan.complete, plan.to_continue, plan.to_start) == (0, 1, 0)
    async with Archive(path) as archive:
        await client.showcase("a.45products", archive=archive, region="GB").collect()
    for region, found in (("GB", (1, 0, 0)), (None, (0, 0, 1)), ("US", (0, 0, 1))):
        plan = await client.plan(["a.45products"], archive=path, region=region)
        assert (plan.complete, plan.to_continue, plan.to_start) == found, region


@pytest.mark.parametrize(("max_pages", "least"), [(1, 1), (3, 1), (4, 0)])
async def test_who_is_empty_as_far_as_is_wanted_is_looked_up(sim, client, path, max_pages, least):
    """What went wrong on later pages does not concern this run."""
    sim.faults = [Fault.empty_page_with_more(pages=[1], times=1), Fault.cursor_loop()]
    _, (outcome,) = await run_through(client, ["empty_a"], archive=path)
    assert isinstance(outcome.error, PaginationError)
    assert outcome.pages == 3
    options = {"archive": path, "verify_empty": True, "max_pages": max_pages}
    plan = await client.plan(["empty_a"], **options)
    assert (plan.complete, plan.least, plan.most) == (1, least, least)
    run, _ = await run_through(client, ["empty_a"], **options)
    assert run.usage.charged == least


@pytest.mark.parametrize(("max_pages", "least"), [(1, 1), (2, 0), (None, 0)])
async def test_who_is_empty_on_the_pages_that_are_wanted_is_looked_up(
    sim, client, path, max_pages, least
):
    """Later pages on file do not concern a run that wants fewer."""
    sim.add_fault(Fault.empty_page_with_more(pages=[1], times=1))
    await run_through(client, ["a.45products"], archive=path)
    options = {"archive": path, "verify_empty": True, "max_pages": max_pages}
    plan = await client.plan(["a.45products"], **options)
    assert (plan.complete, plan.least, plan.most) == (1, least, least)
    run, _ = await run_through(client, ["a.45products"], **options)
    assert run.usage.charged == least


async def test_a_look_up_that_was_not_made_is_still_to_be_made(sim, client, path):
    """If the budget ended between an empty page and its look-up, only the look-up is missing."""
    handles = ["empty_a", "empty_b"]
    await run_through(client, handles, archive=path, verify_empty=True, max_credits=2)
    plan = await client.plan(handles, archive=path)
    assert (plan.complete, plan.least) == (2, 0)
    plan = await client.plan(handles, archive=path, verify_empty=True, max_pages=1)
    assert (plan.complete, plan.least, plan.likely, plan.most) == (2, 2, 2, 2)
    paid = sim.ledger.charged
    await run_through(client, handles, archive=path, verify_empty=True)
    assert sim.ledger.charged - paid == plan.most


async def test_what_was_cut_is_longer_than_it_was_seen(client, path):
    """Nobody can tell how long cut showcases are, only how they are up to the cut."""
    cut = [f"a{n}.90products" for n in range(4)]
    short = [f"b{n}.5products" for n in range(4)]
    await run_through(client, cut + short, archive=path, max_pages=2)
    new = [f"c{n}" for n in range(8)]
    plan = await client.plan(cut + short + new, archive=path)
    assert (plan.least, plan.likely, plan.seconds, plan.covered) == (12, None, None, "perhaps")
    # Half of them have a second page.
    plan = await client.plan(cut + short + new, archive=path, max_pages=2)
    assert (plan.likely, plan.most) == (12, 16)
    assert plan.seconds == pytest.approx(12 / 4, rel=0.1)
    # One that has been followed to its end does for the others.
    await run_through(client, cut[:1], archive=path)
    plan = await client.plan([*cut, "c0", "c1"], archive=path)
    assert plan.likely == 3 * 3 + 2 * (1 + 4 * 0.5)


async def test_few_that_were_cut_do_not_hide_the_rest(client, path):
    """If hardly any showcase is longer than was seen, the forecast stands."""
    handles = [f"a{n}.30products" for n in range(19)]
    await run_through(client, [*handles, "b.90products"], archive=path, max_pages=3)
    plan = await client.plan([f"c{n}" for n in range(20)], archive=path)
    # Two pages each, and of every twentieth a third and one more at least.
    assert plan.likely == 20 * 2 + 2
    # From cut showcases alone nothing can be told.
    assert (await client.plan(["b.90products"], archive=path)).likely is None
    # Three of 22 are more than a tenth.
    await run_through(client, ["d.90products", "e.90products"], archive=path, max_pages=3)
    plan = await client.plan([f"c{n}" for n in range(20)], archive=path)
    assert (plan.likely, plan.seconds) == (None, None)


async def test_one_that_goes_on_where_all_others_had_ended(client, path):
    """Nobody can tell how far it goes; among many others it counts for one page more."""
    await run_through(client, ["a.1products"], archive=path)
    async with Archive(path) as archive:
        await client.showcase_page("b.90products", archive=archive)
    plan = await client.plan(["b.90products"], archive=path)
    assert (plan.to_continue, plan.least, plan.likely) == (1, 1, None)
    plan = await client.plan(["b.90products", *(f"c{n}" for n in range(9))], archive=path)
    assert plan.likely == 1 + 9
    plan = await client.plan(["b.90products", *(f"c{n}" for n in range(8))], archive=path)
    assert plan.likely is None


@pytest.mark.parametrize("price", [3, 2])
async def test_a_raised_price_is_planned_with(price, path):
    """The last price of a page gives the likely cost, the highest ever the most."""
    faults, latency = [Fault.price(3)], Latency.fixed(1)
    async with Simulator(faults=faults, latency=latency) as sim, client_of(sim) as client:
        await run_through(client, ["a.5products"], archive=path)
        sim.faults = [Fault.price(price)]
        await run_through(client, ["b.5products"], archive=path)
        plan = await client.plan(["c.5products"], archive=path, max_pages=1, verify_empty=True)
        # A look-up costs a credit.
        assert (plan.least, plan.likely, plan.most) == (1, price, 3 + 1)
        # Dear requests take no longer than cheap ones.
        plan = await client.plan(["c.5products"], archive=path, concurrency=1)
        assert (plan.likely, plan.seconds) == (price, pytest.approx(1, rel=0.1))
        async with client_of(sim, rate=0.5) as slow:
            assert (await slow.plan(["c.5products"], archive=path)).seconds == pytest.approx(2)
        # A refusal, which costs nothing, says nothing of the price.
        sim.faults = [Fault.status(404, handles=["d.5products"])]
        await run_through(client, ["d.5products"], archive=path)
        assert (await client.plan(["c.5products"], archive=path)).likely == price


async def test_what_could_not_be_decoded_and_was_bought_afresh_is_complete(sim, client, path):
    """A page of an older showcase does not disturb the plan."""
    sim.faults = [Fault.not_json(pages=[2], times=1)]
    await run_through(client, ["a.90products"], archive=path)
    assert (await client.plan(["a.90products"], archive=path)).undecodable == 1
    await run_through(client, ["a.90products"], archive=path, refresh=True)
    plan = await client.plan(["a.90products"], archive=path)
    assert (plan.undecodable, plan.complete, plan.least) == (0, 1, 0)


async def test_a_page_apart_that_cannot_be_decoded_is_in_nobodys_way(sim, client, path):
    """It is not part of the showcase that is there."""
    async with Archive(path) as archive:
        await run_through(client, ["a.90products"], archive=archive)
        first = await client.showcase_page("a.90products", archive=archive)
        sim.faults = [Fault.not_json(handles=["a.90products"])]
        again = {"cursor": first.next_cursor, "refresh": True}
        await failure(
            client.showcase_page("a.90products", archive=archive, **again), UndecodableError
        )
        plan = await client.plan(["a.90products"], archive=path)
    assert (plan.undecodable, plan.complete, plan.least) == (0, 1, 0)


async def test_an_older_profile_does_for_a_showcase_bought_afresh(sim, client, path):
    """The account was looked up once, which holds however often its showcase is bought."""
    await run_through(client, ["empty_a"], archive=path, verify_empty=True)
    await run_through(client, ["empty_a"], archive=path, refresh=True)
    plan = await client.plan(["empty_a"], archive=path, verify_empty=True)
    assert (plan.complete, plan.least) == (1, 0)
    paid = sim.ledger.charged
    await run_through(client, ["empty_a"], archive=path, verify_empty=True)
    assert sim.ledger.charged == paid


async def test_pages_of_an_older_showcase_are_bought_again(sim, client, path):
    """Once a first page is bought afresh, the pages on file are not its continuation."""
    await run_through(client, ["a.90products"], archive=path)
    await run_through(client, ["a.90products"], archive=path, refresh=True, max_pages=1)
    plan = await client.plan(["a.90products"], archive=path, max_pages=5)
    assert (plan.to_continue, plan.undecodable, plan.least, plan.most) == (1, 0, 1, 4)
    paid = sim.ledger.charged
    await run_through(client, ["a.90products"], archive=path)
    assert sim.ledger.charged - paid == plan.most


async def test_a_page_bought_apart_while_its_showcase_begins_anew_is_not_of_it(sim, client, path):
    """It was kept apart from the old showcase, and is not part of the new one either."""
    handle = "a.90products"
    async with Archive(path) as archive:
        await run_through(client, [handle], archive=archive)
        first = await client.showcase_page(handle, archive=archive)
        sim.faults = [Fault.delay(Latency.fixed(5), pages=[1])]
        fresh = {"archive": archive, "refresh": True}
        run = asyncio.create_task(run_through(client, [handle], max_pages=1, **fresh))
        await asyncio.sleep(1)
        await client.showcase_page(handle, cursor=first.next_cursor, **fresh)
        assert not run.done()
        await run
        plan = await client.plan([handle], archive=archive, max_pages=5)
        assert (plan.to_continue, plan.undecodable, plan.least, plan.most) == (1, 0, 1, 4)
        paid = sim.ledger.charged
        await run_through(client, [handle], archive=archive)
        assert sim.ledger.charged - paid == plan.most


async def test_what_was_decoded_by_a_run_alone_is_planned_by_what_is_on_file(path):
    """The call could not decode what the run could; nor can a client that may read less."""
    handle = "short.200products"
    async with Simulator(page_size=200, latency=Latency.fixed(1)) as sim, client_of(sim) as client:
        async with Archive(path) as archive:
            target = f"/v1/tiktok/profiles/{handle}/showcase-products"
            call = asyncio.create_task(client.get(target, type=int, archive=archive))
            await asyncio.sleep(0.5)
            run, _ = await run_through(client, [handle], archive=archive)
            await failure(call, UndecodableError)
        assert (run.progress.complete, sim.ledger.charged) == (1, 1)
        plan = await client.plan([handle], archive=path)
        assert (plan.complete, plan.undecodable, plan.least) == (1, 0, 0)
        async with client_of(sim, max_body_bytes=30_000) as small:
            plan = await small.plan([handle], archive=path)
            assert (plan.complete, plan.undecodable, plan.least) == (0, 1, 0)
            _, (outcome,) = await run_through(small, [handle], archive=path)
        assert isinstance(outcome.error, BodyTooLargeError)
        assert sim.ledger.charged == 1
