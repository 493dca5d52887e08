"""An archive that somebody else has made, to do harm: it is refused, and nothing comes of it."""

import struct

import pytest

from asyncsfk import Archive, ArchiveFormatError
from asyncsfk.simulator import Simulator
from tests.archive.support import READS, held
from tests.support import client_of, failure, sql

MAGIC = bytes.fromhex("d9d505f920a163d7")


def hot_journal(database, victim):
    """Make a journal that is to be rolled back, and that names a further one: any file."""
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
    """SQLite would take that for the journal of several files, and remove it."""
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


#: Three rows, where a file that is to do harm has rows without end, and SQLite is busy for ever.
ROWS = "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 3) SELECT n FROM r)"
TAMPERED = {
    "view": [
        "DROP TABLE meta",
        f"CREATE VIEW meta AS SELECT n AS name, 'x' AS value FROM {ROWS}",
    ],
    "virtual table": [
        "DROP TABLE meta",
        f"CREATE VIEW odd AS SELECT n AS rowid, n AS name, 'x' AS value FROM {ROWS}",
        "CREATE VIRTUAL TABLE meta USING fts5 (name, value, content='odd')",
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
    """It is refused before anything is read from it, and nothing is sent or written."""
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
    """A view, a table, an index and a column of one's own are no harm, and stay."""
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
