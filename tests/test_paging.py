"""From page to page: limits, positions, and what a provider can get wrong."""

import pytest

from asyncsfk import (
    BadRequestError,
    Client,
    PaginationError,
    Retry,
    ServerError,
)
from asyncsfk.simulator import Fault, Simulator
from tests.support import SHOWCASE, client_of, enveloped, failure, http, plain, told

HANDLE = "long.95products"  # five pages


@pytest.fixture
async def sim():
    async with Simulator() as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with Client(sim.api_key, base_url=sim.url, retry=Retry.none()) as client:
        yield client


async def test_a_showcase_is_iterated_by_product_by_page_and_as_a_list(sim, client):
    """The three ways give the same products, and each pays for its own pages."""
    truth = sim.showcase(HANDLE)
    showcase = client.showcase(HANDLE)
    assert plain([product async for product in showcase]) == truth
    pages = [page async for page in showcase.pages()]
    assert plain(product for page in pages for product in page.products) == truth
    assert plain(await showcase.collect()) == truth
    assert sim.ledger.charged == 15
    assert [page.number for page in pages] == [1, 2, 3, 4, 5]
    assert [page.cursor for page in pages[1:]] == [page.next_cursor for page in pages[:-1]]
    assert [page.has_more for page in pages] == [True] * 4 + [False]
    assert sum(page.usage for page in pages).products == 95


@pytest.mark.parametrize(
    ("limits", "products", "credits"),
    [
        ({"max_pages": 1}, 20, 1),
        ({"max_pages": 99}, 95, 5),
        ({"max_items": 1}, 1, 1),
        ({"max_items": 20}, 20, 1),
        ({"max_items": 21}, 21, 2),
        ({"max_items": 1000}, 95, 5),
        ({"max_items": 50, "max_pages": 2}, 40, 2),
    ],
    ids=str,
)
async def test_limits_bound_what_is_handed_out_and_paid(sim, client, limits, products, credits):
    """max_pages bounds the credits, max_items the products, and neither pays a page too many."""
    truth = sim.showcase(HANDLE)[:products]
    assert plain(await client.showcase(HANDLE, **limits).collect()) == truth
    assert sim.ledger.charged == credits
    assert plain([product async for product in client.showcase(HANDLE, **limits)]) == truth
    assert sim.ledger.charged == 2 * credits


async def test_reviews_are_iterated_over_their_numbered_pages(sim, client):
    """Reviews come whole and in order, from any page on."""
    product = next(
        p["id"] for h in sim.handles(50) for p in sim.showcase(h) if len(sim.reviews(p["id"])) > 45
    )
    truth = [review["id"] for review in sim.reviews(product)]
    reviews = client.reviews(product)
    assert [review.id async for review in reviews] == truth
    pages = [page async for page in reviews.pages()]
    assert [page.page for page in pages] == list(range(1, len(pages) + 1))
    assert pages[0].summary.total_reviews == len(truth)
    second = await client.review_page(product, page=2)
    assert second.reviews == pages[1].reviews
    rest = await client.reviews(product_id=product, page=2).collect()
    assert [review.id for review in rest] == truth[len(pages[0].reviews) :]
    few = await client.reviews(product_id=product, max_pages=2, max_items=25).collect()
    assert [review.id for review in few] == truth[:25]


@pytest.mark.parametrize(
    ("fault", "match"),
    [
        (Fault.cursor_loop(pages={3}), "fetched before"),
        (Fault.cursor_loop(cycle=2, pages={3}), "fetched before"),
        (Fault.has_more_without_cursor(None, pages={3}), "not where"),
        (Fault.has_more_without_cursor("", pages={3}), "not where"),
    ],
    ids=["same", "cycle", "null", "empty"],
)
async def test_a_cursor_that_leads_nowhere_new_ends_the_list_at_once(sim, client, fault, match):
    """Pages so far are handed out, then a typed error comes, and nothing more is paid."""
    sim.faults = [fault]
    pages = []
    with pytest.raises(PaginationError, match=match) as caught:
        async for page in client.showcase(HANDLE).pages():
            pages.append(page)  # noqa: PERF401
    error = caught.value
    assert len(pages) >= 3
    assert plain(p for page in pages[:3] for p in page.products) == sim.showcase(HANDLE)[:60]
    assert (error.handle, error.cursor) == ("long.95products", pages[-1].cursor)
    assert error.route == SHOWCASE
    assert error.request_id == pages[-1].request_id
    assert error.usage.requests == 0
    assert sim.ledger.charged == len(pages) <= 5

    before = sim.ledger.charged
    (outcome,) = await client.fetch_showcases([HANDLE])
    assert outcome.status == "partial"
    assert isinstance(outcome.error, PaginationError)
    assert len(outcome.products) == sum(len(page.products) for page in pages)
    assert outcome.usage.charged == sim.ledger.charged - before == len(pages)
    assert outcome.next_cursor == pages[-1].cursor

    sim.faults = ()
    rest = await client.showcase(HANDLE, cursor=error.cursor).collect()
    assert plain(rest) == sim.showcase(HANDLE)[20 * (len(pages) - 1) :]


async def test_collect_gives_what_was_paid_for_in_the_error(sim, client):
    """A list that cannot be finished comes with the error, as far as it came, and its cost."""
    sim.faults = [Fault.status(500, pages={4})]
    with pytest.raises(ServerError) as caught:
        await client.showcase(HANDLE).collect()
    error = caught.value
    assert plain(error.partial) == sim.showcase(HANDLE)[:60]
    assert (error.usage.charged, error.usage.maybe) == (3, 1)
    # The page's own error, told once.
    assert error.__cause__ is None
    sim.faults = ()
    rest = await client.showcase(HANDLE, cursor=error.cursor).collect()
    assert plain((*error.partial, *rest)) == sim.showcase(HANDLE)


async def test_an_empty_page_does_not_end_a_list(sim, client):
    """A list goes on over an empty page as long as there is a new cursor."""
    sim.faults = [Fault.empty_page_with_more(pages={2}, times=1)]
    pages = [page async for page in client.showcase(HANDLE).pages()]
    assert len(pages) == 6
    assert plain(p for page in pages for p in page.products) == sim.showcase(HANDLE)


async def test_empty_pages_without_end_are_not_paid_without_end(sim, client):
    """After ten empty pages in a row a list ends with a typed error."""
    sim.faults = [Fault.empty_page_with_more(pages={2})]
    pages = []
    with pytest.raises(PaginationError, match="10 pages in a row were empty"):
        async for page in client.showcase(HANDLE).pages():
            pages.append(page)  # noqa: PERF401
    assert sim.ledger.charged == len(pages) == 11


async def test_empty_pages_here_and_there_end_no_list():
    """Only empty pages in a row end a list, however many there are in all."""
    every_other = Fault.empty_page_with_more(requests=range(2, 26, 2))
    async with Simulator(page_size=1, faults=[every_other]) as sim, client_of(sim) as client:
        pages = [page async for page in client.showcase("x.13products").pages()]
        assert [len(page.products) for page in pages] == [1, 0] * 12 + [1]


async def test_a_cursor_after_the_last_page_is_not_followed(sim, client):
    """hasMore decides, not the presence of a cursor."""
    sim.faults = [Fault.cursor_without_more()]
    assert plain(await client.showcase(HANDLE).collect()) == sim.showcase(HANDLE)
    assert sim.ledger.charged == 5


async def test_an_altered_cursor_is_refused_by_the_api_and_free(client):
    """A cursor that the API does not know is a typed error that cost nothing."""
    page = await client.showcase_page(HANDLE)
    with pytest.raises(BadRequestError) as caught:
        await client.showcase_page(HANDLE, cursor=page.next_cursor + "x")
    assert caught.value.usage.charged == caught.value.usage.maybe == 0
    assert caught.value.cursor == page.next_cursor + "x"


async def test_going_on_from_a_cursor_numbers_pages_anew(client):
    """Numbers begin at 1 again, with the page of that cursor."""
    first = await client.showcase_page(HANDLE)
    pages = [page async for page in client.showcase(HANDLE, cursor=first.next_cursor).pages()]
    assert [page.number for page in pages] == [1, 2, 3, 4]
    assert pages[0].cursor == first.next_cursor


def review_page(number, following):
    data = {
        "lookupStatus": "found",
        "reviews": [{"id": f"r{number}", "productId": "1"}],
        "page": {"currentPage": number, "nextPage": following, "hasMore": following is not None},
    }
    return http(200, enveloped(data))


@pytest.mark.parametrize("following", [1, 0, -1, 2, 10**20])
async def test_review_pages_lead_forward_only(following):
    """A page that leads to itself, back or beyond all numbers ends the list without paying."""
    begin = 2 if following == 2 else None
    page = review_page(2 if following == 2 else 1, following)
    async with told(page, keep=True) as (server, client):
        reviews = client.reviews(product_id="1", page=begin)
        error = await failure(reviews.collect(), PaginationError)
        assert server.hits == 1
        assert len(error.partial) == 1
        assert error.page == begin


async def test_a_cursor_that_leads_to_itself():
    """A list that begins there ends without paying for it again."""
    data = {"products": [{"id": "1"}], "page": {"nextCursor": "c", "hasMore": True}}
    async with told(http(200, enveloped(data))) as (server, client):
        error = await failure(client.showcase("x", cursor="c").collect(), PaginationError)
    assert (len(error.partial), error.usage.charged, server.hits) == (1, 1, 1)
