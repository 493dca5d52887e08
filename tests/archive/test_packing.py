"""Packed bodies with the extra ``fast`` and without: isal and zlib do the same."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from asyncsfk import Archive
from tests.archive.support import ROOT, held

#: isal has no wheels for rare machines.
LIBRARIES = ["zlib", *(["isal"] if find_spec("isal") else [])]

#: Buys pages packed well, badly and not at all, or reads what was bought; prints what came.
PROGRAM = """
import asyncio, gzip, json, sys

path, there, buys = sys.argv[1], sys.argv[2] == "isal", sys.argv[3] == "buy"
if not there:
    sys.modules["isal"] = None

from asyncsfk import Archive, SfkError

def body(title):
    return json.dumps({
        "data": {
            "products": [{"id": "1", "title": title}],
            "page": {"nextCursor": None, "hasMore": False},
        },
        "meta": {"requestId": "req_1", "creditsCharged": 1, "version": "v1"},
    }).encode()

plain = body("thing " * 2000)
packed = gzip.compress(plain)
BODIES = {
    "good": packed,
    "two": gzip.compress(plain[:99]) + gzip.compress(plain[99:]),
    "cut": packed[:-1],
    "checksum": packed[:-8] + bytes(4) + packed[-4:],
    "size": packed[:-4] + bytes(4),
    "spoilt": packed[:40] + bytes(9) + packed[49:],
    "nothing": b"",
    "bomb": gzip.compress(bytes(3_000_000)),
}

async def buy(handle, archive):
    if handle in BODIES:
        answer = http(200, BODIES[handle], "Content-Encoding: gzip")
    else:
        answer = http(200, plain if handle == "plain" else body("thing"))
    async with told(answer, max_body_bytes=2_000_000) as (_, client):
        try:
            page = await client.showcase_page(handle, archive=archive)
        except SfkError as error:
            return type(error).__name__, error.usage.charged, error.usage.maybe
        return page.products[0].title, page.usage.charged, page.usage.maybe

async def main():
    for handle in (*BODIES, "plain", "small"):
        # One archive for each server: it is bound to one origin.
        async with Archive(f"{path}/{handle}.sfk") as archive:
            bought[handle] = await buy(handle, archive)

bought = {}
if buys:
    from tests.support import http, told

    asyncio.run(main())
else:
    for handle in ("good", "two", "plain", "small"):
        (page,) = Archive(f"{path}/{handle}.sfk").answers()
        bought[handle] = page.decode().products[0].title, page.encoding, len(page.body())
assert ("isal.isal_zlib" in sys.modules) == there
print(json.dumps(bought))
"""


def told(path, library, what):
    """Run the program with one library; give what it tells."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", PROGRAM, path, library, what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_packed_bodies_are_the_same_by_either_library(path, library):
    """Both libraries read and refuse the same bodies, and each reads what the other has written."""
    title = "thing " * 2000
    refused = ["UndecodableError", 0, 1]
    folder = path.parent
    assert told(folder, library, "buy") == {
        "good": [title, 1, 0],
        "two": [title, 1, 0],
        # The price can still be read if only the end of a body is missing.
        "cut": ["UndecodableError", 1, 0],
        **dict.fromkeys(["checksum", "size", "spoilt", "nothing"], refused),
        "bomb": ["BodyTooLargeError", 0, 1],
        "plain": [title, 1, 0],
        "small": ["thing", 1, 0],
    }
    size = len(await body_of(folder, "plain"))
    for other in LIBRARIES:
        assert told(folder, other, "read") == {
            "good": [title, "gzip", size],
            "two": [title, "gzip", size],
            # With isal, packing pays much sooner.
            "plain": [title, "gzip" if library == "isal" else "", size],
            "small": ["thing", "", len(await body_of(folder, "small"))],
        }


async def body_of(folder, handle):
    """Give the body of the one page of an archive."""
    (page,) = await held(Archive(folder / f"{handle}.sfk"), "answers")
    return page.body()
