"""An archive that somebody else has made to do harm is refused, and does none."""

import os
import struct
import sys

import pytest

from asyncsfk import (
    Archive,
    ArchiveFormatError,
    ArchiveWriteError,
    BudgetReachedError,
    UndecodableError,
)
from asyncsfk.simulator import Simulator
from tests.archive.support import READS, held
from tests.support import client_of, failure, sql

MAGIC = bytes.fromhex("d9d505f920a163d7")


def hot_journal(database, victim):
    """Make a hot journal that names a further one, which can be any file."""
    page_size = struct.unpack(">H", database[16:18])[0]
    nonce, page = 1, database[:page_size]
    head = MAGIC + struct.pack(">5I", 1, nonce, len(database) // page_size, 512, page_size)
    checksum = nonce + sum(page[at] for at in range(page_size - 200, 0, -200))
    name = str(victim).encode()
    lock_page = (1 << 30) // page_size + 1
    return (
        head.ljust(512, b"\0")
        + struct.pack(">I", 1)
        + page
        + struct.pack(">I", checksum)
        + struct.pack(">I", lock_page)
        + name
        + struct.pack(">2I", len(name), sum(name))
        + MAGIC
    )


@pytest.mark.parametrize("of", ["", "-lock"])
@pytest.mark.usefixtures("written")
async def test_a_journal_that_names_another_file(path, tmp_path, of):
    """A journal that names another file is refused: SQLite would remove that file."""
    victim = tmp_path / "victim.txt"
    victim.write_text("of great value")
    database = path.with_name(f"{path.name}{of}")
    database.write_bytes(path.read_bytes())
    journal = path.with_name(f"{database.name}-journal")
    journal.write_bytes(hot_journal(path.read_bytes(), victim))
    for what in (*READS, "salvage"):
        if not of or what == "salvage":
            error = await failure(held(path, what), ArchiveFormatError)
            assert "names another file" in str(error)
    await failure(Archive(path).open(), ArchiveFormatError)
    assert victim.read_text() == "of great value"
    assert journal.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("of", ["", "-lock"])
@pytest.mark.usefixtures("written")
async def test_a_journal_that_is_a_pipe(path, of):
    """A journal that is a pipe is refused: SQLite would wait for ever, deaf to Ctrl-C."""
    if of:
        path.with_name(f"{path.name}{of}").write_bytes(path.read_bytes())
    os.mkfifo(path.with_name(f"{path.name}{of}-journal"))
    error = await failure(Archive(path).open(), ArchiveFormatError)
    assert "is a pipe" in str(error)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows makes links for few")
@pytest.mark.usefixtures("written")
async def test_a_lock_that_leads_elsewhere(path, tmp_path):
    """A link in the place of the lock is refused, and no file is made where it leads."""
    made = tmp_path / "made"
    lock = path.with_name(f"{path.name}-lock")
    lock.symlink_to(made)
    for use in (Archive(path).open(), held(path, "salvage")):
        error = await failure(use, ArchiveWriteError)
        assert f"{lock}, is a link" in str(error)
    assert not made.exists()
    assert lock.is_symlink()


#: Three rows here; a harmful file has endless ones, which keep SQLite busy for ever.
ROWS = "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 3) SELECT n FROM r)"
TAMPERED = {
    "view": [
        "DROP TABLE meta",
        f"CREATE VIEW meta AS SELECT n AS name, 'x' AS value FROM {ROWS}",  # noqa: S608 - of ours
    ],
    "virtual table": [
        "DROP TABLE meta",
        f"CREATE VIEW odd AS SELECT n AS rowid, n AS name, 'x' AS value FROM {ROWS}",  # noqa: S608 - of ours
        "CREATE VIRTUAL TABLE meta USING fts5 (name, value, content='odd')",
    ],
    "virtual table that reads a view": [
        "DROP TABLE meta",
        "CREATE VIRTUAL TABLE meta USING fts5 (name, value)",
        "DROP TABLE meta_config",
        f"CREATE VIEW meta_config AS SELECT n AS k, n AS v FROM {ROWS}",  # noqa: S608 - of ours
    ],
    "trigger": [
        "CREATE TRIGGER odd AFTER INSERT ON session BEGIN DELETE FROM meta; END",
    ],
    "computed": [
        "ALTER TABLE page DROP COLUMN body",
        "ALTER TABLE page ADD COLUMN body BLOB AS (zeroblob(9))",
    ],
    "no key": [
        "ALTER TABLE page RENAME TO old",
        "CREATE TABLE page AS SELECT * FROM old",
        "UPDATE page SET id = 'x' || id",
    ],
    "missing": ["ALTER TABLE attempt DROP COLUMN seconds"],
}


@pytest.mark.parametrize("how", TAMPERED)
@pytest.mark.usefixtures("written")
async def test_what_only_looks_like_our_tables(path, how):
    """A file with tables that only look like ours is refused unread; nothing is sent or written."""
    for statement in TAMPERED[how]:
        sql(path, statement)
    before = path.read_bytes()
    for what in (*READS, "salvage"):
        await failure(held(path, what), ArchiveFormatError)
    async with Simulator() as sim, client_of(sim) as client:
        await failure(client.plan(["x"], archive=path), ArchiveFormatError)
        await failure(client.fetch_showcases(["x"], archive=path), ArchiveFormatError)
        assert sim.ledger.requests == 0
    assert path.read_bytes() == before


@pytest.mark.usefixtures("written")
async def test_what_its_owner_has_added_is_left_alone(path):
    """A view, table, index or column that its owner has added does no harm, and stays."""
    before = await held(path, "outcomes")
    for statement in (
        "CREATE VIEW mine AS SELECT handle, count(*) FROM page GROUP BY handle",
        "CREATE TABLE notes (text)",
        "CREATE INDEX by_time ON page (received)",
        "ALTER TABLE showcase ADD COLUMN note TEXT",
        "ANALYZE",
    ):
        sql(path, statement)
    assert await held(path, "outcomes") == before
    async with Simulator() as sim, client_of(sim) as client:
        (outcome,) = await client.fetch_showcases(["x"], archive=path)
    assert outcome.status == "complete"
    assert sql(path, "SELECT handle FROM mine WHERE handle = 'x'") == [("x",)]


@pytest.mark.parametrize(
    "negative",
    [
        "UPDATE attempt SET charged = -1000",
        "UPDATE attempt SET maybe = -1000",
        "UPDATE session SET ended = NULL, exposed = -1000",
        "INSERT INTO session VALUES (8, 1e9, NULL, 1, '', '', 999), (9, 1e9, NULL, 1, '', '', -5)",
    ],
)
@pytest.mark.usefixtures("written")
async def test_credits_that_were_given_back(path, negative):
    """Negative credits are reported as damage: they would raise the ceiling of the next run."""
    # So that those of a session do not show in the sum.
    sql(path, "UPDATE attempt SET maybe = 2000")
    sql(path, negative)
    async with Simulator() as sim, client_of(sim) as client:
        for ask in (client.plan, client.fetch_showcases):
            error = await failure(ask(["x"], archive=path, max_credits=9), ArchiveFormatError)
            assert f"{path} is damaged: " in str(error)
        assert sim.ledger.charged == 0
    await failure(held(path, "info"), ArchiveFormatError)


@pytest.mark.usefixtures("written")
async def test_more_credits_of_dead_processes_than_sqlite_can_add_up(path):
    """A run with a ceiling is at it, and a plan says so; nothing breaks."""
    for number in (8, 9):
        died = "INSERT INTO session VALUES (?, 1e9, NULL, 1, '', '', ?)"
        sql(path, died, number, 2**63 - 1)
    assert (await held(path, "info")).unsettled == 2**64 - 2
    async with Simulator() as sim, client_of(sim) as client:
        assert (await client.plan(["new"], archive=path, max_credits=9)).left == 0
        (outcome,) = await client.fetch_showcases(["new"], archive=path, max_credits=9)
        assert isinstance(outcome.error, BudgetReachedError)
        assert sim.ledger.charged == 0
    info = await held(path, "info")
    assert info.unsettled == 0
    assert info.usage.maybe > 2**39


@pytest.mark.usefixtures("written")
async def test_a_showcase_of_more_pages_than_there_can_be(path):
    """A plan reports an absurd number of pages as damage, instead of counting up to it."""
    outcome = b'{"handle":"x","status":"complete","pages":%d}'
    sql(path, "UPDATE showcase SET outcome = ?", outcome % 10**7)
    async with Simulator() as sim, client_of(sim) as client:
        error = await failure(client.plan(["new"], archive=path), ArchiveFormatError)
    assert "10000000 pages" in str(error)


@pytest.mark.parametrize("cursor", ["x", "9" * 5000, "1.5"])
@pytest.mark.usefixtures("written")
async def test_a_page_of_reviews_whose_number_is_none(path, cursor):
    """A review page with a bad number is undecodable, and keeps no other from being salvaged."""
    sql(path, "UPDATE page SET decoded = 0")
    (whole, broken, *_) = await held(path, "answers")
    sql(
        path,
        "UPDATE page SET route = '/v1/tiktok/products/reviews', cursor = ?, body = x'00', "
        "encoding = '' WHERE request_id = ?",
        cursor,
        whole.request_id,
    )
    answers = await held(path, "answers")
    with pytest.raises(UndecodableError) as caught:
        answers[0].decode()
    assert (caught.value.page, caught.value.cursor) == (None, cursor)
    salvaged = []
    await held(path, "salvage", salvaged.append)
    assert len(salvaged) == len(answers) - 1
    assert broken.request_id in {answer.request_id for answer in salvaged}
