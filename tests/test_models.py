"""Models: frozen, tolerant, back to JSON and forth, and no heavier than what they say."""

import asyncio
import copy
import gc
import inspect
import json
import pickle
import tracemalloc
from decimal import Decimal

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

import asyncsfk
from asyncsfk import (
    Archive,
    Balance,
    Details,
    Image,
    InstagramLookup,
    Model,
    Outcome,
    Price,
    Product,
    Rating,
    Reply,
    ReviewPage,
    Sales,
    Seller,
    SfkError,
    ShowcasePage,
    TikTokLookup,
    UndecodableError,
    Usage,
    Whoami,
)
from asyncsfk.simulator import Fault, Simulator
from tests.support import client_of, failure, http, js, told

PAGE = {"nextCursor": None, "hasMore": False}
META = {"requestId": "req_1", "creditsCharged": 1, "version": "v1"}

MODELS = sorted(
    (
        value
        for name in asyncsfk.__all__
        if inspect.isclass(value := getattr(asyncsfk, name)) and issubclass(value, msgspec.Struct)
    ),
    key=lambda kind: kind.__name__,
)

maybe_text = st.none() | st.text()
maybe_count = st.none() | st.integers(0, 2**53)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
products = st.builds(
    Product,
    id=st.text(min_size=1),
    title=maybe_text,
    url=maybe_text,
    image=st.none()
    | st.builds(
        Image,
        url=maybe_text,
        urls=st.none() | st.lists(st.text()).map(tuple),
        width=maybe_count,
        height=maybe_count,
    ),
    price=st.none() | st.builds(Price, sale_price=maybe_text, currency_code=maybe_text),
    rating=st.none()
    | st.builds(Rating, score=st.none() | st.floats(0, 5), review_count=maybe_count),
    sales=st.none() | st.builds(Sales, sold_count=maybe_count),
    seller=st.none() | st.builds(Seller, id=st.text(min_size=1)),
    raw_details=st.just(msgspec.UNSET) | plain.map(lambda value: msgspec.Raw(js(value))),
)
usages = st.builds(Usage, *[st.integers(0, 10**9)] * 7)
pages = st.builds(
    ShowcasePage,
    handle=st.text(),
    region=maybe_text,
    cursor=maybe_text,
    number=st.integers(1, 10**6),
    products=st.lists(products, max_size=3).map(tuple),
    next_cursor=maybe_text,
    has_more=st.booleans(),
    request_id=maybe_text,
    cached=st.booleans(),
    usage=usages,
)
outcomes = st.builds(
    Outcome,
    handle=st.text(),
    status=st.sampled_from(["complete", "partial", "failed", "skipped"]),
    region=maybe_text,
    products=st.lists(products, max_size=3).map(tuple),
    pages=st.integers(0, 100),
    usage=usages,
    next_cursor=maybe_text,
    error=st.none()
    | st.builds(
        UndecodableError,
        st.text(),
        st.builds(Details, handle=maybe_text, body=st.none() | st.binary(), usage=usages),
    ),
    account_status=maybe_text,
    request_ids=st.lists(st.text()).map(tuple),
)


def strict(body):
    """Read JSON, and refuse what is not: NaN and the like."""

    def refuse(token):
        raise AssertionError(token)

    return json.loads(body, parse_constant=refuse)


def assert_round_trip(value):
    """A value comes back equal from JSON, plain data, pickles and copies."""
    kind = type(value)
    body = value.to_json()
    again = kind.from_json(body)
    assert again == value
    assert again.to_json() == body
    assert kind.from_json(body.decode()) == value
    assert value.to_dict() == strict(body)
    assert kind.from_json(json.dumps(value.to_dict())).to_dict() == value.to_dict()
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own
    assert copy.copy(value) == copy.deepcopy(value) == value


@given(value=products | pages | outcomes)
def test_models_come_back_from_json(value):
    """Products, pages and outcomes, errors and details included, are read back equal."""
    assert_round_trip(value)


async def test_a_repr_tells_long_lists_by_their_length(tmp_path):
    """A line of a log has room for whatever is handed out; short lists are shown as they are."""
    path = tmp_path / "job.sfk"
    async with Simulator(faults=[Fault.not_json(handles=["bad"])]) as sim, client_of(sim) as client:
        (large, broken) = await client.fetch_showcases(["a.900products", "bad"], archive=path)
        page = await client.showcase_page("a.30products")
        small = await client.showcase_page("a.1products")
        reviews = await client.review_page(page.products[0].id)
        listing = client.showcase("a.30products")
        broken_off = await failure(client.showcase("bad").collect(), UndecodableError)
    answers = await asyncio.to_thread(lambda: list(Archive(path).answers()))
    assert "products=<900 of Product>" in repr(large)
    assert "request_ids=<45 of str>" in repr(large)
    assert "products=<20 of Product>" in repr(page)
    assert "reviews=<20 of Review>" in repr(reviews)
    assert f"products=({small.products[0]!r},)" in repr(small)
    assert f"raw=<{len(answers[0].raw)} bytes>" in repr(answers[0])
    assert repr(listing) == f"<Listing of 'a.30products' from {answers[0].route}>"
    details = msgspec.structs.replace(broken_off.details, partial=large.products)
    assert "partial=<900 of Product>" in repr(details)
    for value in (large, broken, page, reviews, listing, details, answers[0]):
        assert len(repr(value)) < 1_000
        assert len(repr(value).splitlines()) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_real_answers_come_back_from_json(seed):
    """The real answers of every route are read back equal."""
    faults = [Fault.status(403, handles=["bad"], pages=[2]), Fault.not_json(handles=["worse"])]
    async with Simulator(seed, faults=faults) as sim, client_of(sim) as client:
        handles = [*sim.handles(12), "unknown_x", "private_x", "bad", "worse", "..", "e.45products"]
        outcomes = await client.fetch_showcases(handles, verify_empty=True)
        page = await client.showcase_page("long.90products", region="DE")
        answers = [
            *outcomes,
            page,
            *page.products,
            await client.tiktok_profile(handles[0]),
            await client.tiktok_profile("unknown_x"),
            await client.instagram_profile(handles[0]),
            await client.review_page(product_id=page.products[0].id),
            await client.whoami(),
            await client.balance(),
        ]
    assert {type(answer) for answer in answers} == {
        Outcome, ShowcasePage, Product, TikTokLookup, InstagramLookup, ReviewPage, Whoami, Balance,
    }  # fmt: skip
    assert any(outcome.error and outcome.error.body for outcome in outcomes)
    assert any(product.details for product in page.products)
    for answer in answers:
        assert_round_trip(answer)


async def test_a_product_says_what_the_api_said():
    """A product's JSON is the API's, field by field, and its details the very same."""
    async with Simulator() as sim, client_of(sim) as client:
        truth = sim.showcase("long.90products")
        received = await client.showcase("long.90products").collect()
        assert len(received) == len(truth) == 90
        for product, told_so in zip(received, truth, strict=True):
            assert product.id == told_so["id"]
            assert product.details == told_so.get("details")
            shown = product.to_dict()
            for name, value in told_so.items():
                if value is not None:
                    assert shown[name] == value


@pytest.mark.parametrize("handle", ["\ud800", "a\udfffb", "\0", "a\nb", "\u202eevil", "x" * 500])
async def test_an_outcome_of_any_handle_has_json(handle):
    """Whatever was given as a handle, its outcome can be written as JSON and read back."""
    async with Simulator() as sim, client_of(sim) as client:
        (outcome,) = await client.fetch_showcases([handle])
    assert outcome.status == "failed"
    assert_round_trip(outcome)
    json.dumps(outcome.error.to_dict())
    str(outcome.error).encode()


@given(product=products)
def test_details_are_any_json(product):
    """Details are what their JSON says, None where there are none."""
    if product.raw_details is msgspec.UNSET:
        assert product.details is None
        assert "details" not in product.to_dict()
    else:
        assert product.details == json.loads(bytes(product.raw_details))
    assert hash(product) == hash(copy.copy(product))


def with_details(details):
    """Make the body of a page whose one product has these details, as they are."""
    value = {"data": {"products": [{"id": "1", "title": "t", "details": 0}], "page": PAGE}}
    return js({**value, "meta": META}).replace(b'"details": 0', b'"details": ' + details)


@pytest.mark.parametrize("details", [b"1e400", b'{"a":-1e999}'])
async def test_invalid_details_fail_only_when_read(details):
    """Details that do not decode spoil neither the page nor the product, only their own reading."""
    async with told(http(200, with_details(details))) as (_, client):
        page = await client.showcase_page("x")
    (product,) = page.products
    assert (product.title, page.usage.charged) == ("t", 1)
    for _ in range(2):
        with pytest.raises(UndecodableError) as caught:
            product.details  # noqa: B018 - reading is the point
        assert caught.value.body == details
        assert "product 1" in str(caught.value)
    assert type(page).from_json(page.to_json()).products[0].raw_details == product.raw_details
    for model in (product, page):
        with pytest.raises(UndecodableError):
            model.to_dict()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_details_are_on_one_line(end):
    """A product's JSON is a line, however the API wraps its details, and equal however spaced."""
    details = b'{%b "a": [1,%b 2],%b "b": "\\n" }' % (end, end, end)
    async with told(http(200, with_details(details))) as (_, client):
        (product,) = (await client.showcase_page("x")).products
    assert len(product.to_json().splitlines()) == 1
    assert product.details == {"a": [1, 2], "b": "\n"}
    spaced = json.dumps(product.to_dict(), indent=2)
    assert type(product).from_json(spaced) == product
    assert type(product).from_json(spaced.replace("2", "3")) != product
    assert product != 5


@pytest.mark.parametrize(
    "details",
    [b'"\\x"', b"NaN", b"[1,]", b'"\xff"', b'"\xed\xa0\x80"', b"[" * 100_000 + b"]" * 100_000],
)
async def test_details_that_are_no_json_are_typed(details):
    """Details that make the whole body no JSON are the typed error of the page."""
    body = with_details(details)
    async with told(http(200, body)) as (_, client):
        error = await failure(client.showcase_page("x"), UndecodableError)
    assert error.body == body
    assert error.usage.charged + error.usage.maybe == 1


# Prices


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("12.99", Decimal("12.99")),
        ("0", Decimal(0)),
        ("0.10", Decimal("0.10")),
        ("-1.5", Decimal("-1.5")),
        ("1234567890123456789.123456789", Decimal("1234567890123456789.123456789")),
        ("007.00", Decimal("7.00")),
        ("NaN", None),
        ("sNaN", None),
        ("Infinity", None),
        ("1_0", None),
        (" 1", None),
        ("1 ", None),
        ("1\n", None),
        ("1e5", None),
        ("1E5", None),
        ("+1", None),
        (".5", None),
        ("5.", None),
        ("1,5", None),
        ("1,234.50", None),
        ("\u0661\u0662", None),
        ("\uff11", None),
        ("$5", None),
        ("5 - 9", None),
        ("", None),
        ("-", None),
        (None, None),
    ],
)
def test_amounts_are_exact_or_nothing(text, amount):
    """A plain decimal string is an exact number; anything else is None rather than a guess."""
    price = Price(sale_price=text, original_price=text)
    assert price.sale_amount == amount
    assert price.original_amount == amount
    if amount is not None:
        assert str(price.sale_amount) == str(Decimal(text))
    assert price.sale_price == text


@given(text=st.text(alphabet="0123456789.-+eE_ NaInfity,\u0661\n"))
def test_amounts_are_finite(text):
    """No string makes an infinite amount or NaN, or raises."""
    amount = Price(sale_price=text).sale_amount
    assert amount is None or amount.is_finite()


# Frozen, tolerant


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_models_are_frozen(kind):
    """No value that a client hands out can be changed."""
    assert kind.__struct_config__.frozen
    required = {field.name: "x" for field in msgspec.structs.fields(kind) if field.required}
    value = kind(**required)
    for name in kind.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_models_hold_no_lists():
    """Sequences in models are tuples: nothing inside of a frozen value can be changed either."""
    for kind in MODELS:
        for field in msgspec.structs.fields(kind):
            assert "list[" not in str(field.type), f"{kind.__name__}.{field.name}"
            assert "dict[" not in str(field.type), f"{kind.__name__}.{field.name}"


async def test_nearly_everything_may_be_null_or_missing():
    """A product of nothing but its id, or of nulls, is a product."""
    optional = [name for name in Product.__struct_fields__ if name not in ("id", "raw_details")]
    products = [{"id": "1"}, {"id": "2", **dict.fromkeys(optional)}]
    body = js({"data": {"products": products, "page": PAGE}, "meta": META})
    async with told(http(200, body)) as (_, client):
        page = await client.showcase_page("x")
    for product in page.products:
        for name in optional:
            assert getattr(product, name) is None
        assert product.details is None


async def test_unknown_fields_change_nothing():
    """Fields that the API adds tomorrow, our own names among them, do not disturb."""
    ours = dict.fromkeys([*ShowcasePage.__struct_fields__, "usage", "requestId", "xyz"], "theirs")
    data = {
        **ours,
        "products": [{"id": "1", **dict.fromkeys(["rawDetails", "raw"], 5)}],
        "page": {**PAGE, **ours, "nextCursor": None},
    }
    async with told(http(200, js({**ours, "data": data, "meta": {**META, "x": 1}}))) as (_, client):
        page = await client.showcase_page("x")
    assert (page.handle, page.request_id, page.cached, page.number) == ("x", "req_1", False, 1)
    assert page.usage.charged == 1
    data = {"lookupStatus": "found", "usage": "theirs", "requestId": 5, "cached": "theirs"}
    async with told(http(200, js({"data": data, "meta": META}))) as (_, client):
        lookup = await client.tiktok_profile("x")
    assert (lookup.lookup_status, lookup.request_id, lookup.cached) == ("found", "req_1", False)
    assert lookup.usage.charged == 1


async def test_enums_may_grow():
    """A value of an enum that is new to us is handed out as it came."""
    body = js({"data": {"lookupStatus": "hibernating"}, "meta": META})
    async with told(http(200, body)) as (_, client):
        assert (await client.tiktok_profile("x")).lookup_status == "hibernating"
        assert (await client.instagram_profile("x")).lookup_status == "hibernating"
    assert asyncsfk.LookupStatus.FOUND == "found"


async def test_has_more_may_be_missing():
    """Without `hasMore`, the cursor alone says whether there is more."""
    for page, more in (({"nextCursor": "c"}, True), ({"nextCursor": None}, False), ({}, False)):
        body = js({"data": {"products": None, "page": page}, "meta": META})
        async with told(http(200, body)) as (_, client):
            received = await client.showcase_page("x")
        assert (received.has_more, received.products) == (more, ())


def test_reading_something_else_is_an_error():
    """`from_json` refuses JSON that is not the model's."""
    for body in (b"[]", b"{}", b'{"id":""}', b'{"id":5}', b'{"id":"1","title":5}', b"", b"\xff"):
        with pytest.raises(UndecodableError) as caught:
            Product.from_json(body)
        assert caught.value.body == body
    for text in ("[]", '{"id":"\ud800"}'):
        with pytest.raises(UndecodableError, match="not the JSON of Product"):
            Product.from_json(text)


def test_details_that_are_no_json_are_an_error_wherever_they_are_read():
    """They are decoded only when they are read, and then refused in the same way."""
    product = Product.from_json(b'{"id":"1","details":"caf\xe9"}')
    for read in (lambda: product.details, product.to_dict):
        with pytest.raises(UndecodableError):
            read()
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    with pytest.raises(UndecodableError, match="recursion"):
        Product.from_json(b'{"id":"1","details":%b}' % deep)


def test_equal_products_hash_equal():
    """Products go into sets, with details and without."""
    one = Product.from_json(b'{"id":"1","details":{"a":[1]}}')
    assert len({one, copy.copy(one), Product.from_json(one.to_json())}) == 1
    assert one != Product.from_json(b'{"id":"1","details":{"a":[2]}}')


def test_replies_are_generic():
    """The answer of another route knows what its data is."""
    assert issubclass(Reply, Model)
    assert Reply(data=[1]).to_dict()["data"] == [1]


# Outcomes, usage


def test_raise_for_error():
    """An outcome raises its own error, or is handed on."""
    good = Outcome(handle="x", status="complete")
    assert good.raise_for_error() is good
    error = SfkError("m")
    with pytest.raises(SfkError) as caught:
        Outcome(handle="x", status="failed", error=error).raise_for_error()
    assert caught.value is error


@given(many=st.lists(usages, max_size=5))
def test_usage_adds_up(many):
    """Usages add up field by field, with `+` and `sum`, in any grouping."""
    total = sum(many, Usage())
    for name in Usage.__struct_fields__:
        assert getattr(total, name) == sum(getattr(each, name) for each in many)
    if many:
        assert sum(many) == total


def test_usage_adds_to_usage_only():
    """Adding anything else is a TypeError, as for any number."""
    for other in (1, None, "1"):
        with pytest.raises(TypeError):
            Usage() + other
        with pytest.raises(TypeError):
            other + Usage()


async def test_usage_adds_up_over_a_run():
    """The usage of a run is that of its outcomes; of a client, that of all its calls."""
    faults = [Fault.status(502, charge=1, times=3), Fault.close(charged=True, times=2)]
    async with (
        Simulator(faults=faults) as sim,
        client_of(sim, retry=asyncsfk.Retry()) as client,
    ):
        async with client.showcases(["a.30products", "b.5products", "c"]) as run:
            received = [outcome async for outcome in run]
        assert sum(outcome.usage for outcome in received) == run.usage == client.usage
        assert run.usage.products == sum(len(outcome.products) for outcome in received)
        assert run.usage.requests == sim.ledger.requests
        usage = run.usage
        assert usage.charged <= sim.ledger.charged <= usage.charged + usage.maybe
        page = await client.showcase_page("d")
        assert client.usage == run.usage + page.usage


# Memory


@pytest.mark.parametrize("details", [None, {"k": "v" * 50}], ids=["bare", "with details"])
async def test_a_kept_product_keeps_no_page_alive(details):
    """Keeping one product of each of 200 pages of 45 KB takes a small part of those 9 MB."""
    product = {"title": "t" * 100, "url": "u" * 200, "details": details or {}}
    if details is None:
        del product["details"]
    filler = {"id": "f", "title": "x" * 400, "details": {"y": "z" * 1000}}
    body = js(
        {"data": {"products": [{"id": "1", **product}, *[filler] * 30], "page": PAGE}, "meta": META}
    )
    assert len(body) > 43_000
    async with told(http(200, body), keep=True) as (_, client):
        kept = [(await client.showcase_page("warm")).products[0]]
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(200):
                page = await client.showcase_page(f"h{number}")
                kept.append(page.products[0])
                del page
            gc.collect()
            used = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert len(kept) == 201
    assert used < 1_500_000
    assert kept[7].details == details
