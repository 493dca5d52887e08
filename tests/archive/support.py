"""What several tests of the archive share."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

from asyncsfk import Archive, ArchiveError, UndecodableError, Usage
from tests.support import PACKAGE, enveloped, http, js, run_through

ROOT = PACKAGE.parent

#: The creators in the archive that the fixture `written` makes.
HANDLES = ["a.45products", "b.5products", "empty_c"]

#: All ways to read an archive.
READS = ("outcomes", "errors", "products", "answers", "ledger", "info", "usage")


async def held(archive, what, *args, **options):
    """Read from an archive, or from the file at a path, in a thread: reading blocks."""
    if not isinstance(archive, Archive):
        archive = Archive(archive)
    return await asyncio.to_thread(read_now, archive, what, *args, **options)


def read_now(archive, what, *args, **options):
    """Read from an archive, here and now."""
    value = getattr(archive, what)
    if callable(value):
        value = value(*args, **options)
    return list(value) if isinstance(value, Iterator) else value


async def read_all(path):
    """Read everything; whatever cannot be read must fail with an error of ours."""

    def read():
        found = {}
        for what in READS:
            try:
                found[what] = read_now(Archive(path), what)
            except (ArchiveError, UndecodableError):
                found[what] = None
        return found

    return await asyncio.to_thread(read)


@contextmanager
def writers_held_up(path):
    """Have whoever writes the archive at a path wait, for a transaction of another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        # Closing rolls it back.


async def run_of(client, handles, **options):
    """Follow a run to its end; return it and its outcomes by handle."""
    run, outcomes = await run_through(client, handles, **options)
    found = {outcome.handle: outcome for outcome in outcomes}
    assert len(found) == len(outcomes)
    return run, found


def known(usage):
    """Return the part of a usage that a ledger knows."""
    return Usage(
        requests=usage.requests,
        retries=usage.retries,
        charged=usage.charged,
        maybe=usage.maybe,
        bytes=usage.bytes,
    )


def beside(path):
    """Return the endings of the names of the files beside an archive."""
    return sorted(
        found.name.removeprefix(path.name)
        for found in path.parent.iterdir()
        if found.name != path.name and found.name.startswith(path.name)
    )


def all_bytes(path):
    """Return the bytes of an archive and of everything beside it."""
    return b"\n".join(found.read_bytes() for found in path.parent.iterdir() if found.is_file())


def disk(monkeypatch, answer):
    """Have the disk report the size and free space that `answer` returns for a path."""
    usage = type(shutil.disk_usage("/"))

    def told(path):
        total, free = answer(path)
        return usage(total, total - free, free)

    monkeypatch.setattr(shutil, "disk_usage", told)


def copied(path, to):
    """Copy an archive with its log, as a crash would leave them; return the copy's path."""
    to.mkdir(parents=True, exist_ok=True)
    for name in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{path}{name}", to / f"{path.name}{name}")
    return to / path.name


class Editions:
    """Answers for a `RawServer`: a showcase of `pages` pages, with other products in each edition.

    Cursors are the same in all editions, until `fresh` is set: it makes older ones stale. While
    `failing` is set, all answers are errors.
    """

    def __init__(self, pages=3):
        self.pages = pages
        self.edition = 1
        self.fresh = 0
        self.failing = False

    def __call__(self, head):
        if self.failing:
            return http(500)
        query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
        edition, number = query["cursor"][0].split("/") if "cursor" in query else (None, "1")
        if edition is not None and int(edition) < self.fresh:
            error = {"code": "bad_request", "message": "The cursor is old.", "requestId": "old"}
            return http(400, js({"error": error}))
        number = int(number)
        more = number < self.pages
        data = {
            "products": [{"id": f"{self.edition}.{number}"}],
            "page": {
                "nextCursor": f"{self.cursor}/{number + 1}" if more else None,
                "hasMore": more,
            },
        }
        return http(200, enveloped(data, requestId=f"req_{self.edition}.{number}", version="v1"))

    @property
    def cursor(self):
        """What cursors begin with: the edition that made older ones stale."""
        return self.fresh


def ids(outcome):
    """Return the ids of an outcome's products."""
    return [product.id for product in outcome.products]


class Script:
    """A Python program in its own process, fed line by line; killed on leaving if still running."""

    def __init__(self, code, *args, before=(), **settings):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [*before, sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            **settings,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def line(self):
        """Wait for the next line that it prints."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line.rstrip("\n")

    def say(self, line=""):
        """Send it a line."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill(self):
        """End it by a signal that it cannot catch."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def result(self):
        """Wait for its end; return what it printed."""
        out, err = self.process.communicate(timeout=50)
        assert self.process.returncode == 0, err
        return out
