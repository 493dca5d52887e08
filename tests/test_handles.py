"""Handles as people have them, and cursors as the API gives them."""

import asyncio
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncsfk import Client, InvalidArgumentError
from asyncsfk.simulator import Simulator
from tests.support import told

ACCEPTED = [
    ("mrbeast", "mrbeast"),
    ("@MrBeast", "mrbeast"),
    ("  mrbeast\n", "mrbeast"),
    ("a.b_c.1", "a.b_c.1"),
    ("a" * 64, "a" * 64),
    ("https://www.tiktok.com/@mrbeast?lang=en", "mrbeast"),
    ("https://www.tiktok.com/@MrBeast/video/7123", "mrbeast"),
    ("http://m.tiktok.com/@mrbeast/", "mrbeast"),
    ("tiktok.com/@mrbeast#x", "mrbeast"),
    ("WWW.TIKTOK.COM/@mrbeast", "mrbeast"),
    ("https://www.tiktok.com/%40mrbeast", "mrbeast"),
]
REFUSED = [
    "", " ", "@", ".", "..", "...", "@..", "a/b", "a?b", "a#b", "a%62", "%2e%2e", "a b", "a\nb",
    "a\x00b", "mrbeast\x00", "\U0001f600", "caf\xe9", "a\u0301", "\uff4d\uff52", "@@mrbeast",
    "a" * 65, "a&b", "a+b", "a=b", "a\\b", "../v1/balance", "mrbeast/../x", "\ud800",
    "https://www.tiktok.com/", "https://www.tiktok.com/@", "https://www.tiktok.com/@../x",
    "https://www.tiktok.com/@%2e%2e", "https://vm.tiktok.com/ZM1234/", "https://tiktok.com.evil.test/@x",
    "https://evil.test/tiktok.com/@x", "https://eviltiktok.com/@x", "https://instagram.com/mrbeast",
    None, 5, b"mrbeast", ["mrbeast"],
]  # fmt: skip


@pytest.mark.parametrize(("given_as", "sent"), ACCEPTED)
async def test_a_handle_is_sent_as_the_api_wants_it(given_as, sent):
    """A handle in any of people's forms reaches the API bare and in lower case."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        page = await client.showcase_page(given_as)
        outcomes = await client.fetch_showcases([given_as])
        assert page.handle == outcomes[0].handle == sent
        assert {entry.handle for entry in sim.ledger} == {sent}
        assert {entry.status for entry in sim.ledger} == {200}


@pytest.mark.parametrize("given_as", REFUSED, ids=lambda value: ascii(value)[:30])
async def test_a_bad_handle_is_refused_before_anything_is_sent(given_as):
    """What cannot be a handle is a typed error alone and a failed outcome among many."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        with pytest.raises(InvalidArgumentError):
            await client.showcase_page(given_as)
        with pytest.raises(InvalidArgumentError):
            client.showcase(given_as)
        with pytest.raises(ValueError, match="TikTok handle"):
            await client.tiktok_profile(given_as)
        bad, good = await client.fetch_showcases([given_as, "mrbeast"])
        assert bad.status == "failed"
        assert isinstance(bad.error, InvalidArgumentError)
        assert good.status == "complete"
        async with client.showcases([given_as, given_as]) as run:
            outcomes = [outcome async for outcome in run]
        assert [outcome.status for outcome in outcomes] == ["failed"]
        assert {entry.handle for entry in sim.ledger} == {"mrbeast"}


@pytest.mark.parametrize(
    ("given_as", "sent"),
    [
        ("mrbeast", "mrbeast"),
        ("@MrBeast", "mrbeast"),
        ("https://www.instagram.com/mrbeast/?hl=en", "mrbeast"),
        ("instagram.com/mr.beast_6000", "mr.beast_6000"),
        ("https://m.instagram.com/@mrbeast", "mrbeast"),
        ("https://instagram.com/_u/mrbeast/", "mrbeast"),
    ],
)
async def test_an_instagram_handle_is_sent_bare(given_as, sent):
    """An Instagram handle, @handle or profile URL reaches the API as the bare handle."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        lookup = await client.instagram_profile(given_as)
        assert lookup.usage.charged == 1
        assert [entry.handle for entry in sim.ledger] == [sent]


@pytest.mark.parametrize("given_as", ["", "..", "a/b", "https://www.tiktok.com/@mrbeast", None])
async def test_a_bad_instagram_handle_is_refused(given_as):
    """What cannot be an Instagram handle is refused before anything is sent."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        with pytest.raises(InvalidArgumentError):
            await client.instagram_profile(given_as)
        assert sim.ledger.requests == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cursor=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
async def test_any_cursor_arrives_byte_for_byte(stub, cursor):
    """Whatever a cursor is made of, the API gets just that back."""
    server, seen = stub
    async with Client("sfk_x", base_url=server) as client:
        page = await client.showcase_page("mrbeast", cursor=cursor, region="G B&c=%41+")
        assert page.cursor == cursor
    assert seen.pop() == [("cursor", cursor), ("region", "G B&C=%41+")]


async def test_the_simulators_wild_cursors_lead_through_the_whole_list():
    """Cursors with + / = % & and non-ASCII in them are followed to the end without a refusal."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        products = await client.showcase("wild.500products").collect()
        assert [product.to_dict() for product in products] == sim.showcase("wild.500products")
        cursors = "".join(entry.cursor or "" for entry in sim.ledger)
        assert set("+/=%&") <= set(cursors)
        assert not cursors.isascii()
        assert sim.ledger.requests == sim.ledger.charged == 25


@pytest.mark.parametrize("cursor", ["", "\ud800", 5])
async def test_a_cursor_that_cannot_be_sent_is_refused(cursor):
    """An empty cursor, one that is no Unicode text and one that is no string are refused."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        for call in (client.showcase, client.showcase_page):
            with pytest.raises(InvalidArgumentError, match="cursor"):
                result = call("mrbeast", cursor=cursor)
                await result
        assert sim.ledger.requests == 0


@pytest.fixture
async def stub():
    """A server that notes the query of each request, as decoded by the standard library."""
    seen = []
    body = b'{"data":{"products":[],"page":{"nextCursor":null,"hasMore":false}},"meta":{}}'

    async def answer(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        target = request.split()[1].decode("ascii")
        seen.append(parse_qsl(urlsplit(target).query, keep_blank_values=True, strict_parsing=True))
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield f"http://{host}:{port}", seen


@pytest.mark.parametrize(
    "page",
    [
        *("www.instagram.com/p/Cxyz", "www.instagram.com/reel/abc", "instagram.com/explore/tags/x"),
        *("www.instagram.com/stories/mrbeast/1", "instagram.com/tags/x", "instagram.com/about/"),
        *("help.instagram.com/123", "about.instagram.com/blog", "instagram.com/_u/"),
    ],
)
async def test_an_instagram_page_that_is_no_profile_is_refused(page):
    """The URL of a post or a help page is not taken for that of an account of such a name."""
    async with told(b"") as (server, client):
        with pytest.raises(InvalidArgumentError, match="Instagram"):
            await client.instagram_profile(f"https://{page}/")
        assert server.hits == 0


class Unprintable:
    """What raises when it is shown."""

    def __repr__(self):
        raise ValueError("cannot be shown")


async def test_a_handle_that_cannot_even_be_shown_disturbs_no_other():
    """An object whose repr raises is a failed outcome."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        bad, good = await client.fetch_showcases([Unprintable(), "mrbeast"])
        assert (bad.status, good.status) == ("failed", "complete")
        assert "Unprintable" in bad.handle
