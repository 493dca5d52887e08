"""The API key is nowhere in an archive's files, even if the API or a proxy echoes it."""

import gzip
import json
import zlib
from contextlib import suppress

import pytest

from asyncsfk import Archive, ArchiveWriteError, SfkError
from asyncsfk.simulator import Fault, Simulator
from tests.archive.support import all_bytes, held, run_of
from tests.support import KEY, chunked, client_of, enveloped, failure, http, told

PAD = " " * 5_000


def envelope(**fields):
    """Make a body that echoes the key in a title, or wherever it is told to."""
    data = {
        "products": [{"id": "1", "title": fields.get("title", KEY), "details": {KEY: KEY}}],
        "page": {"nextCursor": None, "hasMore": False},
    }
    meta = {"requestId": fields.get("request_id", "req_1"), "creditsCharged": 1}
    return json.dumps({"data": data, "meta": meta}).encode()


def problem(status):
    """Make an error whose every field echoes the key."""
    fields = {"code": KEY, "message": f"of {KEY}", "requestId": KEY, "checkoutUrl": f"/{KEY}"}
    return http(status, json.dumps({"error": fields}).encode(), f"X-Echo: {KEY}")


def packed(body):
    return http(200, gzip.compress(body), "Content-Encoding: gzip")


def assert_hidden(path):
    """Fail if the key is in the bytes of a file, or of anything beside it."""
    assert KEY.encode() not in all_bytes(path)


async def assert_untold(path):
    """Fail if anything that is read from an archive tells the key."""
    for page in await held(path, "answers"):
        assert KEY not in repr(page)
        assert KEY.encode() not in page.raw
        assert KEY.encode() not in unpacked(page.raw)
    for what in ("outcomes", "errors", "ledger", "products"):
        for value in await held(path, what):
            assert KEY not in repr(value)
            if what == "outcomes":
                assert KEY.encode() not in value.to_json()


def unpacked(raw):
    """Unpack what can be unpacked of a body that may be cut."""
    try:
        return zlib.decompressobj(31).decompress(raw)
    except zlib.error:
        return b""


ANSWERS = {
    "plain": http(200, envelope()),
    "plain, large": http(200, envelope(title=(KEY + PAD) * 30)),
    "gzip": packed(envelope()),
    "gzip, large": packed(envelope(title=(KEY + PAD) * 30)),
    "two members": http(
        200,
        gzip.compress(envelope()[:70]) + gzip.compress(envelope()[70:]),
        "Content-Encoding: gzip",
    ),
    "chunked": http(
        200,
        chunked(envelope()[:60], envelope()[60:]),
        "Transfer-Encoding: chunked",
        length=False,
    ),
    "no JSON": http(200, f"<html>{KEY}</html>".encode()),
    "no JSON, gzip": packed(f"<html>{KEY}</html>".encode()),
    "wrong type": packed(envelope().replace(b'"1"', b"1")),
    "no UTF-8": http(200, b"\xff\xfe" + KEY.encode()),
    "no gzip": http(200, envelope(), "Content-Encoding: gzip"),
    "another encoding": http(200, envelope(), "Content-Encoding: br"),
    "error": problem(500),
    "refusal": problem(400),
    "redirect": http(302, b"", f"Location: http://127.0.0.1:9/?key={KEY}"),
    "odd header": http(200, envelope(), f"Content-Length: {KEY}", length=False),
    "odd status line": f"HTTP/9.9 {KEY} {KEY}\r\n\r\n".encode(),
    "cut": http(200, envelope(), "Content-Length: 9999", length=False),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_an_echoed_key_is_not_kept(path, answer):
    """However an answer echoes the key, neither the file nor what lies beside it has it."""
    async with told(answer) as (_, client), Archive(path) as archive:
        await run_of(client, ["x", "y"], archive=archive)
        with suppress(SfkError):
            await client.get("/v1/anything", archive=archive)
        assert_hidden(path)
    assert_hidden(path)
    await assert_untold(path)


@pytest.mark.parametrize("answer", [ANSWERS["plain"], ANSWERS["gzip"]], ids=["plain", "gzip"])
async def test_what_is_struck_out_is_the_key_alone(path, answer):
    """Only the key is struck out: the body is otherwise as it came, and decodes."""
    async with told(answer) as (_, client), Archive(path) as archive:
        await client.showcase_page("x", archive=archive)
        again = await client.showcase_page("x", archive=archive)
    assert again.products[0].title == "***"
    assert again.usage.charged == 0
    (page,) = await held(path, "answers")
    assert page.body() == envelope().replace(KEY.encode(), b"***")


async def test_a_request_id_that_echoes_the_key_is_not_kept(path):
    """A key echoed in a good answer's request id is not kept either."""
    answer = http(200, envelope(title="A thing", request_id=f"req_{KEY}"))
    async with told(answer) as (_, client), Archive(path) as archive:
        await run_of(client, ["x"], archive=archive)
        assert_hidden(path)
    assert_hidden(path)
    await assert_untold(path)


@pytest.mark.parametrize("kind", ["too large", "cut", "too many members"])
async def test_a_packed_body_that_is_refused_hides_no_key(path, kind):
    """A gzip body that is refused for its size, end or members is kept without the key, too."""
    body = envelope() + PAD.encode()
    stream = {
        "too large": gzip.compress(body),
        "cut": gzip.compress(body)[:-9],
        "too many members": gzip.compress(body) + gzip.compress(b"") * 20,
    }[kind]
    answer = http(200, stream, "Content-Encoding: gzip")
    async with told(answer, max_body_bytes=4_000) as (_, client):
        await run_of(client, ["x"], archive=path)
    assert_hidden(path)
    await assert_untold(path)


async def test_the_key_of_a_simulator_is_not_kept(path):
    """Nothing kept of an ordinary run, failures included, has the key that it was sent with."""
    async with (
        Simulator(api_key=KEY, faults=Fault.storm(0.05, size=2**18, hang=5)) as sim,
        client_of(sim, max_body_bytes=2**17) as client,
        Archive(path) as archive,
    ):
        await run_of(client, sim.handles(40), archive=archive, verify_empty=True)
        assert_hidden(path)
    assert_hidden(path)
    await assert_untold(path)


async def test_a_cursor_that_echoes_the_key_leads_on_without_it(path):
    """A key echoed in a cursor is struck out everywhere: in URLs, files and outcomes alike."""
    asked = []

    def answer(head):
        asked.append(head.split(b" ")[1].decode())
        page = {"nextCursor": None, "hasMore": False}
        if "cursor" not in asked[-1]:
            page = {"nextCursor": f"2.{KEY}", "hasMore": True}
        data = {"products": [{"id": str(len(asked))}], "page": page}
        return http(200, enveloped(data))

    async with told(answer) as (_, client):
        for max_pages in (1, None, None):
            _, outcomes = await run_of(client, ["a"], archive=path, max_pages=max_pages)
            assert KEY not in repr(outcomes)
            assert KEY.encode() not in outcomes["a"].to_json()
            assert_hidden(path)
    assert [target.partition("?")[2] for target in asked] == ["", "cursor=2.%2A%2A%2A"]
    assert outcomes["a"].pages == 2


async def test_a_key_echoed_in_a_status_is_not_kept(path):
    """An account status that echoes the key is kept without it."""
    empty = enveloped({"products": [], "page": {}})
    status = enveloped({"lookupStatus": KEY})

    def answer(head):
        return http(200, empty if b"showcase" in head else status)

    async with told(answer) as (_, client):
        await run_of(client, ["x"], archive=path, verify_empty=True)
    assert KEY.encode() not in path.read_bytes()


async def test_a_key_echoed_in_what_could_not_be_kept_does_not_show(path, tmp_path):
    """The error of an answer that could not be kept has its body, without the key."""
    archive = Archive(path)
    await archive.open()
    async with told(http(200, envelope(request_id=KEY))) as (_, client):
        await client.showcase_page("a", archive=archive)
        path.rename(tmp_path / "moved.sfk")
        error = await failure(client.showcase_page("b", archive=archive), ArchiveWriteError)
    await archive.aclose()
    assert b"products" in error.body
    assert KEY not in f"{error.body} {error.request_id} {error!r}"
