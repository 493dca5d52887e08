"""`asyncsfk archive` reads an archive, without a key and at no cost."""

import asyncio
import gzip
import json
import os
from collections import Counter

import pytest

from asyncsfk import Archive, Client, Outcome
from asyncsfk.simulator import Fault
from tests.cli.support import by_handle, lines, read
from tests.support import sql

COMMANDS = ["info", "products", "errors", "ledger", "salvage"]
FAULTS = [
    Fault.status(500, pages=[2], handles=["a.45products"]),
    Fault.not_json(handles=["b.3products"]),
    Fault.status(404, handles=["c.3products"]),
]
HANDLES = ["a.45products", "b.3products", "c.3products", "d.100products", "no good"]


@pytest.fixture
def archive(invoke, simulate, monkeypatch, out):
    """Make an archive of a fetch that met faults, and forget the key; give its path."""
    with simulate(faults=FAULTS) as simulator:
        args = ["--errors", out.with_name("errors.jsonl"), "-q"]
        assert invoke("fetch", *HANDLES, "-o", out, *args).exit_code == 1
        monkeypatch.delenv("SOCIALFETCH_API_KEY")
        yield out.with_suffix(".sfk")
        assert simulator.ledger.requests == 1 + 3 + 1 + 1 + 5  # none since


def test_info(invoke, archive):
    """`info` tells what the archive holds and what it has cost."""
    result = invoke("archive", "info", archive)
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["path"] == str(archive)
    assert told["size"] == archive.stat().st_size
    statuses = {name: told[name] for name in ("complete", "partial", "failed", "underWay")}
    assert statuses == {"complete": 1, "partial": 1, "failed": 2, "underWay": 0}
    assert (told["answers"], told["undecodable"]) == (1 + 1 + 5, 1)
    assert told["usage"]["requests"] == 11
    assert (told["usage"]["charged"], told["usage"]["maybe"]) == (6, 4)
    assert told["first"] < told["last"]


def test_products(invoke, archive, out):
    """`products` gives the lines that fetch wrote, to stdout or to a file."""
    result = invoke("archive", "products", archive)
    assert (result.exit_code, result.stderr) == (0, "")
    written = read(out)
    assert Counter(result.stdout.splitlines()) == Counter(out.read_text("utf-8").splitlines())
    out.unlink()
    assert invoke("archive", "products", archive, "-o", out).exit_code == 0
    assert out.read_text("utf-8") == result.stdout
    assert by_handle(read(out)) == by_handle(written)


def test_products_of_two_regions(invoke, simulate, out):
    """In another region's showcase of the same creator, positions count from 1 again."""
    with simulate(page_size=19) as simulator:
        for region in "US", "GB":
            assert invoke("fetch", "a.45products", "--region", region, "-o", out).exit_code == 0
    rows = lines(invoke("archive", "products", out.with_suffix(".sfk")).stdout)
    assert [row["position"] for row in rows] == [*range(1, 46)] * 2
    for row in rows:
        del row["handle"], row["position"]
    assert rows == [
        *simulator.showcase("a.45products", "US"),
        *simulator.showcase("a.45products", "GB"),
    ]


def test_one_creator_or_region(invoke, simulator, out):
    """`--handle` and `--region` choose whose lines are printed."""
    simulator.faults = [Fault.status(400, pages=[2])]
    for region in "US", "GB":
        fetch = ["fetch", "a.45products", "b.3products", "--region", region]
        assert invoke(*fetch, "-o", out).exit_code == 1
    kept = out.with_suffix(".sfk")
    wanted = "--handle", "@B.3products", "--region", "gb"
    rows = lines(invoke("archive", "products", kept, *wanted).stdout)
    assert [row.pop("handle") for row in rows] == ["b.3products"] * 3
    assert [row.pop("position") for row in rows] == [1, 2, 3]
    assert rows == simulator.showcase("b.3products", "GB")
    cut = lines(invoke("archive", "errors", kept, "--region", "US").stdout)
    assert [(row["handle"], row["region"]) for row in cut] == [("a.45products", "US")]
    assert invoke("archive", "errors", kept, "--handle", "b.3products").stdout == ""
    refused = invoke("archive", "products", kept, "--handle", "no good")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "'no good' is not a TikTok handle" in refused.stderr


def test_errors(invoke, archive, out):
    """`errors` gives the lines of creators that are not complete, as fetch --errors does."""
    result = invoke("archive", "errors", archive)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {row["handle"]: row for row in lines(result.stdout)}
    told = {row["handle"]: row for row in read(out.with_name("errors.jsonl"))}
    # What is not a handle cannot be in an archive.
    assert rows.keys() == told.keys() - {"no good"}
    for handle, row in rows.items():
        assert row["status"] == told[handle]["status"]
        assert row["error"]["type"] == told[handle]["error"]["type"]
        assert row["nextCursor"] == told[handle]["nextCursor"]
        assert Outcome.from_json(json.dumps(row)).error is not None


def test_ledger(invoke, archive):
    """`ledger` gives each request with what it cost."""
    result = invoke("archive", "ledger", archive)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = lines(result.stdout)
    assert len(rows) == 11
    assert sum(row["charged"] for row in rows) == 6
    assert sum(row["maybe"] for row in rows) == 4
    assert Counter(row["error"] for row in rows) == {
        None: 6,
        "ServerError": 3,
        "UndecodableError": 1,
        "NotFoundError": 1,
    }
    assert all(row["requestId"] for row in rows if row["status"] == 200 and not row["error"])


def test_salvage_of_nothing(invoke, simulator, out):
    """If everything is decoded, `salvage` prints nothing and exits with 0."""
    assert invoke("fetch", "a.45products", "-o", out).exit_code == 0
    result = invoke("archive", "salvage", out.with_suffix(".sfk"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "0 answers decoded that could not be before, 0 left\n"
    assert simulator.ledger.requests == 3


def test_salvage_of_what_cannot_be_decoded(invoke, archive):
    """What is not JSON stays as it is, and the exit code says so."""
    result = invoke("archive", "salvage", archive)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "0 answers decoded that could not be before, 1 left\n"


def undo_decoding(path, which, lost="id = 0"):
    """Leave an archive as an older version would, which could not decode some pages."""
    sql(path, f"UPDATE page SET decoded = 0 WHERE {which}")  # noqa: S608 - our own
    sql(path, f"DELETE FROM page WHERE {lost}")  # noqa: S608 - our own


def fetch_with_little_room(simulator, path, handles, room):
    """Fetch into an archive with a client that takes no answers over `room` bytes."""

    async def fetch():
        client = Client(simulator.api_key, base_url=simulator.url, max_body_bytes=room)
        async with client, client.showcases(handles, archive=path) as run:
            return [outcome async for outcome in run]

    return asyncio.run(fetch())


def test_salvage(invoke, simulate, out):
    """What can be decoded now is printed, once, and not bought again by the next fetch."""
    path, handles = out.with_suffix(".sfk"), ["a.20products", "b.45products", "c.3products"]
    with simulate() as simulator:
        outcomes = fetch_with_little_room(simulator, path, handles, 12_000)
        assert Counter(outcome.status for outcome in outcomes) == {"failed": 2, "complete": 1}
        assert simulator.ledger.charged == 3
        still = invoke("archive", "salvage", path, "--max-body-bytes", "12000")
        assert (still.exit_code, still.stdout) == (1, "")
        result = invoke("archive", "salvage", path)
        assert result.exit_code == 0
        assert result.stderr == "2 answers decoded that could not be before, 0 left\n"
        assert by_handle(lines(result.stdout)) == {
            name: simulator.showcase(name)[:20] for name in handles[:2]
        }
        again = invoke("archive", "salvage", path)
        assert (again.exit_code, again.stdout) == (0, "")
        assert invoke("fetch", *handles, "-o", out).exit_code == 0
        assert by_handle(read(out)) == {name: simulator.showcase(name) for name in handles}
        assert simulator.ledger.charged == 5
        assert simulator.ledger.paid_twice() == {}


def test_a_file_of_an_older_version(invoke, simulator, out):
    """Other commands say that an older file needs `salvage`, which brings it up to date."""
    path = out.with_suffix(".sfk")
    assert invoke("fetch", "a.45products", "-o", out).exit_code == 0
    undo_decoding(path, "cursor IS NULL")
    sql(path, "DROP INDEX page_undecoded")
    sql(path, "PRAGMA user_version = 4")
    for command in ["archive", "info", path], ["fetch", "a", "--dry-run", "--archive", path]:
        result = invoke(*command)
        assert result.exit_code == 2
        assert "asyncsfk archive salvage" in result.stderr
    result = invoke("archive", "salvage", path)
    assert (result.exit_code, len(lines(result.stdout))) == (0, 20)
    assert invoke("archive", "info", path).exit_code == 0
    assert simulator.ledger.charged == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_salvage_onto_a_full_disk(invoke, simulator, out):
    """What could not be printed comes again once there is room."""
    path = out.with_suffix(".sfk")
    invoke("fetch", "a.45products", "-o", out)
    sql(path, "UPDATE page SET decoded = 0")
    assert invoke("archive", "salvage", path, "-o", "/dev/full").exit_code == 1
    rows = lines(invoke("archive", "salvage", path).stdout)
    assert by_handle(rows) == {"a.45products": simulator.showcase("a.45products")}


def test_salvage_of_a_later_page(invoke, simulator, out):
    """A salvaged page has its positions in the showcase, or none if those cannot be known."""
    assert invoke("fetch", "a.45products", "-o", out).exit_code == 0
    path = out.with_suffix(".sfk")
    for first_page, positions in ("kept", [*range(21, 41)]), ("lost", [None] * 20):
        undo_decoding(path, "id = 2", lost="id = 1" if first_page == "lost" else "id = 0")
        result = invoke("archive", "salvage", path)
        assert result.exit_code == 0
        rows = lines(result.stdout)
        assert [row.pop("position") for row in rows] == positions
        assert {row.pop("handle") for row in rows} == {"a.45products"}
        assert rows == simulator.showcase("a.45products")[20:40]


def test_salvage_of_a_page_of_two_regions(invoke, simulator, out):
    """A salvaged page has its positions in the showcase of its own region."""
    path = out.with_suffix(".sfk")
    for region in "GB", "US":
        assert invoke("fetch", "a.45products", "-o", out, "--region", region).exit_code == 0
    undo_decoding(path, "region = 'US' AND cursor IS NOT NULL")
    rows = lines(invoke("archive", "salvage", path).stdout)
    assert [row["position"] for row in rows] == [*range(21, 46)]
    assert simulator.ledger.charged == 6


def test_salvage_of_a_very_large_answer(invoke, simulator, out):
    """--max-body-bytes lets `salvage` decode an answer over the usual limit."""
    path = out.with_suffix(".sfk")
    assert invoke("fetch", "a.1products", "-o", out).exit_code == 0
    (kept,) = Archive(path).answers()
    large = gzip.compress(kept.body() + b" " * (1 << 24))
    sql(path, "UPDATE page SET decoded = 0, encoding = 'gzip', body = ?", large)
    assert invoke("archive", "salvage", path).exit_code == 1
    result = invoke("archive", "salvage", path, "--max-body-bytes", 1 << 25)
    assert (result.exit_code, len(lines(result.stdout))) == (0, 1)
    assert simulator.ledger.charged == 1


def test_salvage_of_another_route(invoke, simulator, out):  # noqa: ARG001 - the environment
    """A salvaged profile is printed with its route."""
    assert invoke("fetch", "empty_a", "--verify-empty", "-o", out).exit_code == 0
    path = out.with_suffix(".sfk")
    undo_decoding(path, "route LIKE '%{handle}'")
    (row,) = lines(invoke("archive", "salvage", path).stdout)
    assert (row["route"], row["handle"]) == ("/v1/tiktok/profiles/{handle}", "empty_a")
    assert row["lookupStatus"] == "found"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_not_there_or_no_archive(invoke, tmp_path, command):
    """A path without an archive is exit code 2 and one line; no output is emptied or made."""
    text = tmp_path / "text"
    text.write_text("handle,price\n" * 1000, "utf-8")
    for path, told in (tmp_path / "none", "there is no archive"), (text, "not an archive"):
        result = invoke("archive", command, path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Error: ")
        assert told in result.stderr
        assert len(result.stderr.splitlines()) == 1
    if command != "info":
        old = tmp_path / "old"
        old.write_text("old", "utf-8")
        assert invoke("archive", command, text, "-o", old).exit_code == 2
        assert old.read_text("utf-8") == "old"
        assert invoke("archive", command, text, "-o", tmp_path / "new").exit_code == 2
        assert not (tmp_path / "new").exists()
        assert invoke("archive", command, text, "-o", text).exit_code == 2
        assert len(text.read_text("utf-8")) == 13_000


def test_an_output_that_cannot_be_opened(invoke, simulator, tmp_path, out):
    """An output that cannot be made, or that is part of the archive, is exit code 2."""
    assert invoke("fetch", "a.1products", "-o", out).exit_code == 0
    path = out.with_suffix(".sfk")
    result = invoke("archive", "products", path, "-o", tmp_path / "none" / "out")
    assert result.exit_code == 2
    assert "cannot open" in result.stderr
    for end in "", "-wal", "-shm", "-lock":
        other = path.with_name(f"{path.name}{end}")
        for command in "products", "salvage":
            assert invoke("archive", command, path, "-o", other).exit_code == 2
    assert invoke("archive", "products", path, "-o", "/dev/full").exit_code == 1
    assert len(lines(invoke("archive", "products", path).stdout)) == 1
    assert simulator.ledger.requests == 1


def test_salvage_of_an_archive_in_use(invoke, simulator, out):
    """`salvage` waits for nobody, but names who has the archive open; reading is not hindered."""
    path = out.with_suffix(".sfk")
    assert invoke("fetch", "a.3products", "-o", out).exit_code == 0

    async def meanwhile():
        async with Archive(path):
            return await asyncio.to_thread(lambda: [ask(command) for command in COMMANDS])

    def ask(command):
        return invoke("archive", command, path)

    *reads, salvage = asyncio.run(meanwhile())
    assert [result.exit_code for result in reads] == [0, 0, 0, 0]
    assert salvage.exit_code == 2
    assert "is being written by process" in salvage.stderr
    assert simulator.ledger.requests == 1


@pytest.mark.parametrize("command", ["products", "ledger"])
def test_a_reader_that_goes_away(simulate, spawn, invoke, out, command):
    """A reader that goes away, such as `head`, ends a command quietly."""
    with simulate():
        handles = [f"a{number}.45products" for number in range(200)]
        assert invoke("fetch", *handles, "-o", out, "-q").exit_code == 0
    process = spawn("archive", command, out.with_suffix(".sfk"))
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == b""


def test_help_of_the_group(invoke):
    """The group's help names its commands, and each has a help of its own."""
    told = invoke("archive", "--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in told
        assert invoke("archive", command, "--help").exit_code == 0
