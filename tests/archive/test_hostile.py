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
