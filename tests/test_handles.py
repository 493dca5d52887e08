"""Handles as people have them, and cursors as the API gives them."""

import json
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncsfk import Client, InvalidArgumentError, SfkError, instagram_handle, tiktok_handle
from asyncsfk.simulator import Fault, Simulator
from tests.support import EMPTY, client_of, failure, plain, told

#: Refused as a TikTok handle alone.
INSTAGRAM = "https://instagram.com/mrbeast"

ACCEPTED = [
    ("mrbeast", "mrbeast"),
    ("@MrBeast", "mrbeast"),
    ("  mrbeast\n", "mrbeast"),
    ("a.b_c.1", "a.b_c.1"),
    ("_", "_"),
    ("...a", "...a"),
    ("a" * 64, "a" * 64),
    ("https://www.tiktok.com/@mrbeast?lang=en", "mrbeast"),
    ("https://www.tiktok.com/@MrBeast/video/7123", "mrbeast"),
    ("http://m.tiktok.com/@mrbeast/", "mrbeast"),
    ("tiktok.com/@mrbeast#x", "mrbeast"),
    ("WWW.TIKTOK.COM/@mrbeast", "mrbeast"),
    ("https://www.tiktok.com/%40mrbeast", "mrbeast"),
]
REFUSED = [
    "", " ", "@", ".", "..", "...", "@..", "a/b", "a?b", "a#b", "a%62", "a%2Fb", "%2e%2e", "a b",
    "a\nb", "a\x00b", "mrbeast\x00", "\U0001f600", "caf\xe9", "a\u0301", "\uff4d\uff52", "\u0661",
    "@@mrbeast", "a" * 65, "a b " * 30, "a-b", "a&b", "a+b", "a=b", "a;b", "a\\b", "../v1/balance",
    "mrbeast/../x", "\ud800",
    "https://www.tiktok.com/", "https://www.tiktok.com/@", "https://www.tiktok.com/@../x",
    "https://www.tiktok.com/@%2e%2e", "https://vm.tiktok.com/ZM1234/", "https://tiktok.com.evil.test/@x",
    "https://evil.test/tiktok.com/@x", "https://eviltiktok.com/@x",
    "https://www.tiktok_com/@x", INSTAGRAM,
    None, 5, b"mrbeast", ["mrbeast"],
]  # fmt: skip


@pytest.mark.parametrize(("given_as", "sent"), ACCEPTED)
async def test_a_handle_is_sent_as_the_api_wants_it(given_as, sent):
    """A handle in any of people's forms reaches the API bare and in lower case."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        page = await client.showcase_page(given_as)
        listed = [each async for each in client.showcase(given_as, max_pages=1).pages()]
        outcomes = await client.fetch_showcases([given_as])
        assert page.handle == listed[0].handle == outcomes[0].handle == sent
        assert tiktok_handle(given_as) == tiktok_handle(sent) == sent
        assert {entry.handle for entry in sim.ledger} == {sent}
        assert {entry.status for entry in sim.ledger} == {200}


@pytest.mark.parametrize("given_as", REFUSED, ids=lambda value: ascii(value)[:30])
async def test_a_bad_handle_is_refused_before_anything_is_sent(given_as):
    """A bad handle is a typed error in a single call, and a failed outcome in a run."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        with pytest.raises(InvalidArgumentError):
            tiktok_handle(given_as)
        with pytest.raises(InvalidArgumentError):
            await client.showcase_page(given_as)
        with pytest.raises(InvalidArgumentError):
            client.showcase(given_as)
        with pytest.raises(ValueError, match="TikTok handle") as caught:
            await client.tiktok_profile(given_as)
        assert caught.value.usage.requests == 0
        assert len(str(caught.value)) < 400
        bad, good = await client.fetch_showcases([given_as, "mrbeast"])
        assert bad.status == "failed"
        assert len(bad.handle) <= 80
        assert bad.handle.isprintable()
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
        ("explore", "explore"),
    ],
)
async def test_an_instagram_handle_is_sent_bare(given_as, sent):
    """An Instagram handle, @handle or profile URL reaches the API as the bare handle."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        lookup = await client.instagram_profile(given_as)
        assert lookup.usage.charged == 1
        assert [entry.handle for entry in sim.ledger] == [sent]
        assert instagram_handle(given_as) == instagram_handle(sent) == sent


@pytest.mark.parametrize(
    "given_as",
    [*(value for value in REFUSED if value != INSTAGRAM), "https://www.tiktok.com/@mrbeast"],
    ids=lambda value: ascii(value)[:30],
)
async def test_a_bad_instagram_handle_is_refused(given_as):
    """What cannot be an Instagram handle is refused before anything is sent."""
    with pytest.raises(InvalidArgumentError):
        instagram_handle(given_as)
    async with told(b"") as (server, client):
        await failure(client.instagram_profile(given_as), InvalidArgumentError)
        assert server.connections == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    cursor=st.text(
        st.characters(exclude_categories=["Cs"])
        | st.sampled_from("+/=%&?# ;\\\"'\u00e9\U0001f642"),
        min_size=1,
    ),
    region=st.none() | st.sampled_from(["US", "gb"]),
)
async def test_any_cursor_arrives_byte_for_byte(cursor, region):
    """Any cursor is percent-encoded once, and arrives as it came; regions do so in capitals."""
    async with told(EMPTY) as (server, client):
        page = await client.showcase_page("x", cursor=cursor, region=region)
    split = urlsplit(server.targets[0])
    assert split.path == "/v1/tiktok/profiles/x/showcase-products"
    query = {"cursor": cursor} | ({} if region is None else {"region": region.upper()})
    assert dict(parse_qsl(split.query, strict_parsing=True, keep_blank_values=True)) == query
    assert "+" not in split.query
    assert page.cursor == cursor


async def test_the_simulators_wild_cursors_lead_through_the_whole_list():
    """Cursors with + / = % & and non-ASCII in them are followed to the end without a refusal."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        products = await client.showcase("wild.500products").collect()
        assert plain(products) == sim.showcase("wild.500products")
        cursors = "".join(entry.cursor or "" for entry in sim.ledger)
        assert set("+/=%&") <= set(cursors)
        assert not cursors.isascii()
        assert sim.ledger.requests == sim.ledger.charged == 25


@pytest.mark.parametrize("value", ["", 5, b"x", "\ud800", ["x"]], ids=ascii)
async def test_a_cursor_that_cannot_be_sent_is_refused(value):
    """One that is empty, not Unicode text or not a string is refused; nothing is sent."""
    async with told(b"") as (server, client):
        error = await failure(client.showcase_page("x", cursor=value), InvalidArgumentError)
        assert "cursor" in str(error)
        with pytest.raises(InvalidArgumentError, match="cursor"):
            client.showcase("x", cursor=value)
        assert server.connections == 0


@pytest.mark.parametrize(
    "region",
    # The capitals of those in the middle are two letters of ours.
    [*("", "U", "USA", "Germany", "U1", "US\n", " us"), *("\u00df", "\ufb01"), "\ud800", 5, b"US"],
    ids=ascii,
)
async def test_what_is_no_country_code_is_refused_by_every_call(region):
    """Otherwise each creator would be refused by itself, or be paid for with no effect."""
    async with told(b"") as (server, client):
        for call in (
            client.showcase_page("x", region=region),
            client.review_page("1", region=region),
            client.fetch_showcases(["x"], region=region),
            client.plan(["x"], region=region),
        ):
            error = await failure(call, InvalidArgumentError)
            assert "region must be a country code of two letters" in str(error)
        for call, given in (
            (client.showcase, "x"),
            (client.reviews, "1"),
            (client.showcases, ["x"]),
        ):
            with pytest.raises(InvalidArgumentError, match="region"):
                call(given, region=region)
        assert server.connections == 0


@pytest.mark.parametrize("region", ["Germany", "\u00e9&+", "\u00df", " us"])
@pytest.mark.parametrize(
    "path", ["/v1/tiktok/profiles/x/showcase-products", "/v1/tiktok/products/reviews"]
)
async def test_get_sends_whatever_region_it_is_told(path, region):
    """In case the API knows ones that we do not: encoded once, and unchanged."""
    async with told(EMPTY) as (server, client):
        await client.get(path, params={"region": region})
    assert dict(parse_qsl(urlsplit(server.targets[0]).query)) == {"region": region}


@pytest.mark.parametrize(
    "page",
    [
        *("www.instagram.com/p/Cxyz", "www.instagram.com/reel/abc", "instagram.com/explore/tags/x"),
        *("www.instagram.com/stories/mrbeast/1", "instagram.com/tags/x", "instagram.com/about/"),
        *("help.instagram.com/123", "about.instagram.com/blog", "instagram.com/_u/"),
    ],
)
async def test_an_instagram_page_that_is_no_profile_is_refused(page):
    """The URL of a post or a help page is not taken for that of an account."""
    async with told(b"") as (server, client):
        with pytest.raises(InvalidArgumentError, match="Instagram"):
            await client.instagram_profile(f"https://{page}/")
        assert server.hits == 0


class Unprintable:
    """An object whose repr raises."""

    def __repr__(self):
        raise ValueError("cannot be shown")


async def test_a_handle_that_cannot_even_be_shown_disturbs_no_other():
    """An object whose repr raises is a failed outcome."""
    async with Simulator() as sim, Client(sim.api_key, base_url=sim.url) as client:
        bad, good = await client.fetch_showcases([Unprintable(), "mrbeast"])
        assert (bad.status, good.status) == ("failed", "complete")
        assert "Unprintable" in bad.handle


class Text(str):
    """A string of another class, as numpy and template engines have them."""

    __slots__ = ()

    def strip(self, *args):
        return Text(super().strip(*args))

    def removeprefix(self, prefix):
        return Text(super().removeprefix(prefix))

    def lower(self):
        return Text(super().lower())

    def upper(self):
        return Text(super().upper())


async def test_strings_of_other_classes_become_plain_ones():
    """Answers, errors and events can be written as JSON, whatever the strings given were."""
    events = []
    us, a = Text("us"), Text("@A.45products")
    path = Text("/v1/tiktok/profiles/a.45products/showcase-products")
    bad = Fault.status(400, handles={"bad"})
    async with (
        Simulator(faults=[bad]) as sim,
        client_of(sim, on_event=events.append) as client,
    ):
        first = await client.showcase_page(a, region=us)
        cursor = Text(first.next_cursor)
        second = await client.showcase_page(a, region=us, cursor=cursor)
        listed = [page async for page in client.showcase(a, region=us, cursor=cursor).pages()]
        outcomes = await client.fetch_showcases([a], region=us)
        assert second.products == listed[0].products == outcomes[0].products[20:40]
        answers = [
            await client.tiktok_profile(a),
            await client.instagram_profile(a),
            await client.review_page(Text("1729000000000000001"), region=us),
            await client.get(path, params={Text("cursor"): cursor, Text("region"): us}),
        ]
        for answer in (first, second, *listed, *outcomes, *answers):
            assert type(answer).from_json(answer.to_json()) == answer
        stale = Text("stale")
        for call in (
            client.showcase_page(a, cursor=stale),
            client.showcase(a, cursor=stale).collect(),
            client.get(Text("/v1/nowhere")),
            client.get(path, params={"cursor": stale}),
            client.review_page(Text("bad"), region=us),
        ):
            error = await failure(call)
            # Not by `json`, which takes strings of other classes.
            assert SfkError.from_dict(json.loads(msgspec.json.encode(error.to_dict()))) == error
    assert msgspec.json.encode(events)
