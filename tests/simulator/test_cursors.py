"""Cursors are opaque, awkward, and good for one showcase only."""

from urllib.parse import quote

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

PATH = "/v1/tiktok/profiles/{}/showcase-products"


async def cursor_of(ask, handle="a.90products", region=None):
    return (await ask.page(handle, region=region)).data["page"]["nextCursor"]


async def test_cursors_are_awkward(ask):
    """Every cursor holds what clients get wrong, and differs from every other."""
    cursors = [await cursor_of(ask, f"{each}.90products") for each in "abcdef"]
    for cursor in cursors:
        assert set("+/=%& ") < set(cursor)
        assert "%2B" in cursor
        assert any(ord(letter) > 0x7F for letter in cursor)
    assert len(set(cursors)) == len(cursors)


async def test_a_cursor_is_bound_to_its_showcase(ask):
    """A cursor of another creator, region or seed is refused."""
    cursor, japanese = await cursor_of(ask), await cursor_of(ask, region="JP")
    assert (await ask.page("b.90products", cursor=cursor)).status == 400
    assert (await ask.page("a.90products", cursor=cursor, region="JP")).status == 400
    refused = await ask.page("a.90products", cursor=japanese)
    assert (refused.status, refused.code) == (400, "bad_request")
    assert (await ask.page("a.90products", cursor=japanese, region="jp")).status == 200


async def test_a_cursor_is_bound_to_its_seed(simulate):
    """A simulator of another seed refuses a cursor; one of the same seed takes it."""
    async with simulate(1) as one, simulate(1) as same, simulate(2) as other:
        cursor = await cursor_of(one)
        statuses = [(await ask.page("a.90products", cursor=cursor)).status for ask in (same, other)]
        assert statuses == [200, 400]


@pytest.mark.parametrize(
    "encode",
    [
        lambda cursor: quote(quote(cursor, safe=""), safe=""),
        lambda cursor: quote(cursor, safe="+"),
        lambda cursor: quote(cursor, safe="&"),
        lambda cursor: quote(cursor, safe="="),
        lambda cursor: quote(cursor, safe="").replace("%25", "%"),
        lambda cursor: quote(cursor.strip("="), safe=""),
        lambda cursor: quote(cursor, safe="", encoding="utf-16"),
    ],
)
async def test_a_cursor_is_encoded_exactly_once(ask, encode):
    """A cursor encoded twice, in part or not at all is refused."""
    cursor, path = await cursor_of(ask), PATH.format("a.90products")
    assert await ask.raw_status(f"{path}?cursor={encode(cursor)}") == 400
    assert await ask.raw_status(f"{path}?cursor={quote(cursor, safe='')}") == 200


async def test_a_space_is_a_plus_or_encoded(ask):
    """Both spellings of a space in a query are understood."""
    cursor, path = await cursor_of(ask), PATH.format("a.90products")
    encoded = quote(cursor, safe="").replace("%20", "+")
    assert "+" in encoded
    assert await ask.raw_status(f"{path}?cursor={encoded}") == 200


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_an_altered_cursor_is_refused(simulate, data):
    """A cursor altered by any one byte, cut or lengthened is refused."""
    async with simulate() as ask:
        cursor = (await cursor_of(ask)).encode()
        at = data.draw(st.integers(0, len(cursor) - 1))
        byte = bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != cursor[at]))])
        altered = data.draw(
            st.sampled_from(
                [
                    cursor[:at] + byte + cursor[at + 1 :],
                    cursor[:at] + byte + cursor[at:],
                    cursor[:at] + cursor[at + 1 :],
                    cursor[:at],
                ]
            )
        )
        escaped = "".join(f"%{each:02x}" for each in altered)
        # Dropping one of two equal neighbours changes nothing but the length, which is enough.
        status = await ask.raw_status(f"{PATH.format('a.90products')}?cursor={escaped}")
        assert status == (400 if altered != cursor else 200)
