"""What keeping a page costs on its own: the archive's file is written, and nothing else is done.

It is the least that an archive can cost, and the part that grows with the file. In a run the thread
shares caches, memory and the interpreter's lock with the event loop: see `bench_archive.py`. Beside
it SQLite alone is measured, given the bodies for a table that has nothing else.
"""

from __future__ import annotations

import gzip
import itertools
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness import options_of, tell_machine, write
from server import PAGES, body_of, pages_of

from asyncsfk._store._file import File
from asyncsfk._store._writes import Finish, LedgerLine, Page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asyncsfk._store._writes import Write

BATCHES: Final = (15, 50)
"""Pages a commit: as many as in a run at width 50, and the most."""
WARM: Final = 5
ROUTE: Final = "/v1/tiktok/profiles/{handle}/showcase-products"

#: Puts pages with empty bodies into an archive, each of a creator of its own.
FILL: Final = """
    WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < :pages)
    INSERT INTO showcase (handle, region) SELECT lower(hex(randomblob(8))), '' FROM counted;
    INSERT INTO page (key, route, charged, maybe, received, decoded, encoding, body, apart, part_of)
    SELECT randomblob(16), '', 1, 0, 0, 1, '', x'', 0, id FROM showcase;
"""


def writes(body: bytes, encoding: str) -> Iterator[list[Write]]:
    """Yield what a run hands over for each page, with creators in no order."""
    for number in itertools.count():
        handle = blake2b(str(number).encode(), digest_size=8).hexdigest()
        pages = pages_of(number)
        for index in range(pages):
            key = blake2b(f"{handle} {index}".encode(), digest_size=16).digest()
            page = Page(
                key=key,
                region=None,
                cursor=None if index == 0 else str(index),
                decoded=True,
                encoding=encoding,
                body=body,
                line=LedgerLine(
                    at=time.time(),
                    seconds=0.2,
                    route=ROUTE,
                    handle=handle,
                    number=1,
                    status=200,
                    failure=None,
                    charged=1,
                    maybe=0,
                    bytes=len(body),
                    request_id=f"req_{key.hex()}",
                ),
                showcase=(handle, ""),
                opens=index == 0,
            )
            if index < pages - 1:
                yield [page]
                continue
            yield [
                page,
                Finish(
                    handle=handle,
                    region="",
                    run_id=1,
                    others=frozenset(),
                    floor=0,
                    status="complete",
                    finished=time.time(),
                    outcome=b"{}" * 150,
                    was_lost=False,
                ),
            ]


def fill(path: Path, pages: int) -> None:
    """Make an archive that holds a number of pages."""
    file = File(path, "full")
    file.acquire(is_last=True)
    file.open()
    file.close(is_landed=True)
    if pages:
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in FILL.strip().split(";\n"):
                named = {"pages": pages} if ":pages" in statement else {}
                connection.execute(statement, named)


def measure(
    path: Path, body: bytes, encoding: str, *, batch: int, commits: int
) -> tuple[float, float]:
    """Return the seconds of CPU, and of time, that a page takes."""
    file = File(path, "full")
    file.acquire(is_last=True)
    file.open()
    try:
        source = writes(body, encoding)
        cpu, wall = [], []
        for _ in range(WARM + commits):
            together = [one for page in itertools.islice(source, batch) for one in page]
            began, used = time.perf_counter(), time.thread_time()
            file.write(together)
            cpu.append((time.thread_time() - used) / batch)
            wall.append((time.perf_counter() - began) / batch)
    finally:
        file.close(is_landed=True)
    # Not the median: what a commit leaves for a later one to move into place counts as well.
    return statistics.mean(cpu[WARM:]), statistics.mean(wall[WARM:])


def check(path: Path, expected: int) -> None:
    """Raise an error unless an archive has the expected number of pages."""
    with closing(sqlite3.connect(path)) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM page").fetchone()
    if kept != expected:
        raise RuntimeError(f"{kept} pages kept, expected {expected}")


def bare(path: Path, body: bytes, *, batch: int, commits: int) -> float:
    """Return the seconds of CPU that a body takes in a table that has nothing else."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA page_size = 8192; PRAGMA cache_size = -8192; PRAGMA journal_mode = WAL;"
            "PRAGMA synchronous = FULL; CREATE TABLE body (id INTEGER PRIMARY KEY, body BLOB);"
        )
        used = 0.0
        for number in range(WARM + commits):
            if number == WARM:
                used = time.thread_time()
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO body (body) VALUES (?)", [(body,)] * batch)
            connection.execute("COMMIT")
        return (time.thread_time() - used) / commits / batch


def main() -> None:
    """Print the table."""
    options = options_of(__doc__, quick="5 s").parse_args()
    about = tell_machine()
    fills, commits = ((0, 20_000), 10) if options.quick else ((0, 500_000), 80)
    print("\nMicroseconds a page; full durability.\n")
    print("| page | pages on file before | pages a commit | us of CPU | us | SQLite alone |")
    print("|---|---|---|---|---|---|", flush=True)
    rows: list[dict[str, Any]] = []
    for page, packs in itertools.product(PAGES, (True, False)):
        body = body_of(page)
        if packs:
            body = gzip.compress(body, 6)
        for filled, batch in itertools.product(fills, BATCHES):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "job.sfk"
                fill(path, filled)
                encoding = "gzip" if packs else ""
                cpu, wall = measure(path, body, encoding, batch=batch, commits=commits)
                check(path, filled + batch * (WARM + commits))
                alone = bare(path.with_suffix(".db"), body, batch=batch, commits=commits)
            row = {
                "page": f"{page}, gzip" if packs else page,
                "filled": filled,
                "batch": batch,
                "cpu_us": 1e6 * cpu,
                "us": 1e6 * wall,
                "sqlite_cpu_us": 1e6 * alone,
            }
            figures = [f"{row[name]:.0f}" for name in ("cpu_us", "us", "sqlite_cpu_us")]
            cells = [row["page"], filled, batch, *figures]
            print("|", " | ".join(map(str, cells)), "|", flush=True)
            rows.append(row)
    write(options.json, "commit", about, rows)


if __name__ == "__main__":
    main()
