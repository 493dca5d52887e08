"""The public API as type checkers see it: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, assert_type

import aiohttp  # noqa: TC002 - never run
import msgspec

from asyncsfk import (
    Answer,
    AnswerError,
    APIError,
    Archive,
    ArchivedAnswer,
    ArchiveInfo,
    AvatarUrls,
    BadRequestError,
    Balance,
    BioLink,
    BodyTooLargeError,
    Budget,
    Client,
    ClientStateError,
    Config,
    ConfigurationError,
    ConnectionFailedError,
    ConnectionLostError,
    ContentSettings,
    Details,
    Dimensions,
    Event,
    ForbiddenError,
    HandleFinished,
    Health,
    Image,
    InstagramBioLink,
    InstagramLookup,
    InstagramMetrics,
    InstagramPost,
    InstagramProfile,
    InsufficientCreditsError,
    InvalidArgumentError,
    LedgerEntry,
    Listing,
    LookupFailedError,
    LookupStatus,
    NotFoundError,
    Outcome,
    PageReceived,
    PaginationError,
    Paused,
    Plan,
    Price,
    PriceRaised,
    Product,
    ProfileTabs,
    Progress,
    RateLimitedError,
    Rating,
    RatingDistribution,
    RedirectError,
    RelatedProfile,
    Reply,
    RequestFinished,
    RequestRetried,
    RequestStarted,
    RequestTimeoutError,
    Reservation,
    Retry,
    Review,
    Reviewer,
    ReviewMedia,
    ReviewPage,
    ReviewSummary,
    Sales,
    Seller,
    ServerError,
    SfkError,
    ShowcasePage,
    ShowcaseRun,
    Status,
    Subscription,
    TikTokLookup,
    TikTokMetrics,
    TikTokProfile,
    Timeout,
    TransportError,
    UnauthorizedError,
    UnavailableError,
    UndecodableError,
    Usage,
    User,
    Whoami,
    instagram_handle,
    tiktok_handle,
)
from asyncsfk.simulator import CURABLE, FATAL, Entry, Fault, Latency, Ledger, Route, Simulator


class Videos(msgspec.Struct):
    """A caller's own type."""

    count: int


def on_event(event: Event) -> None:
    """Every event is one of seven."""
    match event:
        case RequestStarted():
            assert_type(event.handle, str | None)
            assert_type(event.attempt, int)
        case RequestFinished():
            assert_type(event.status, int | None)
            assert_type(event.error, str | None)
            assert_type(event.seconds, float)
            assert_type(event.charged, int)
            assert_type(event.maybe, int)
            assert_type(event.bytes, int)
        case RequestRetried():
            assert_type(event.wait, float)
        case Paused():
            assert_type(event.seconds, float)
            assert_type(event.width, int)
            assert_type(event.reason, str)
        case PriceRaised():
            assert_type(event.expected, int)
            assert_type(event.charged, int)
        case PageReceived():
            assert_type(event.has_more, bool)
            assert_type(event.items, int)
        case HandleFinished():
            assert_type(event.handle, str)
            assert_type(event.status, Status)


def settings(session: aiohttp.ClientSession) -> Client:
    """Make clients with every option."""
    client = Client(
        "sfk_key",
        base_url="https://api.example",
        concurrency=200,
        rate=50,
        burst=10,
        max_credits=5_000,
        timeout=Timeout(total=60, connect=5.0, read=30),
        retry=Retry(
            attempts=3,
            server_errors=1,
            lost=0,
            backoff=0.1,
            max_backoff=5,
            max_retry_after=60,
            quota=10,
        ),
        session=session,
        max_body_bytes=1_000_000,
        trust_env=True,
        proxy="http://proxy.example",
        user_agent="mine/1",
        on_event=on_event,
        allow_insecure_http=False,
    )
    assert_type(Retry.none(), Retry)
    assert_type(client.config, Config)
    assert_type(client.config.timeout, Timeout)
    assert_type(client.config.retry, Retry)
    assert_type(client.config.rate, float | None)
    assert_type(client.usage, Usage)
    assert_type(client.budget, Budget)
    assert_type(Client(max_credits=Budget(10, charged=1, maybe=2)), Client)
    assert_type(Timeout(grace=0).grace, float)
    return client


def budgets(budget: Budget) -> None:
    """Reserve, and settle, release or hold."""
    assert_type(budget.max_credits, int | None)
    assert_type(budget.left, int | None)
    assert_type(budget.charged, int)
    assert_type(budget.maybe, int)
    assert_type(budget.reserved, int)
    reservation = budget.reserve(1, route="/v1/x")
    assert_type(reservation, Reservation | None)
    if reservation is not None:
        assert_type(reservation.settle(1, maybe=0), bool)
        assert_type(reservation.credits, int)
        reservation.release()
        reservation.hold()


async def archives(client: Client) -> None:
    """Write to an archive, and read it."""
    async with Archive("a.sfk", durability="normal", wait=3) as archive:
        assert_type(archive, Archive)
        page = await client.showcase_page("x", archive=archive, max_age=60, refresh=False)
        assert_type(page, ShowcasePage)
        assert_type(page.usage.archived, int)
        assert_type(await client.tiktok_profile("x", archive=archive), TikTokLookup)
        assert_type(await client.instagram_profile("x", archive=archive), InstagramLookup)
        assert_type(await client.get("/v1/x", type=Videos, archive=archive), Reply[Videos])
        assert_type(await client.review_page(url="x", archive=archive), ReviewPage)
        assert_type(await client.showcase("x", archive=archive).collect(), list[Product])
        run = client.showcases(
            ["a"],
            archive=archive,
            max_credits=Budget(3),
            max_age=60,
            refresh=True,
            restart_stale=True,
        )
        run.stop()
        run.stop(now=True)
        assert_type(run.budget, Budget | None)
        assert_type(run.stopped, SfkError | None)
    client.showcases(["a"], archive="a.sfk", max_credits=10)
    assert_type(await client.fetch_showcases(["a"], archive=Path("a.sfk")), list[Outcome])
    archive = Archive(Path("a.sfk"))
    assert_type(archive.usage(), Usage)
    assert_type(archive.info(), ArchiveInfo)
    assert_type(archive.path, Path)
    for outcome in archive.outcomes():
        assert_type(outcome, Outcome)
    for handle, product in archive.products():
        assert_type(handle, str)
        assert_type(product, Product)
    for archived in archive.answers():
        assert_type(archived, ArchivedAnswer)
        assert_type(archived.body(), bytes)
        assert_type(archived.params, dict[str, str] | None)
        assert_type(archived.decode(), Answer)
    for entry in archive.ledger():
        assert_type(entry, LedgerEntry)
        assert_type(entry.error, str | None)
    assert_type(archive.salvage(), int)
    assert_type(archive.salvage(print, max_body_bytes=1), int)


async def plans(client: Client) -> None:
    """Plan a run."""
    plan = await client.plan(["a"], archive="a.sfk", max_pages=3, verify_empty=True)
    assert_type(plan, Plan)
    assert_type(plan.likely, int | None)
    assert_type(plan.most, int | None)
    assert_type(plan.seconds, float | None)
    assert_type(plan.left, int | None)
    assert_type(plan.covered, Literal["certain", "likely", "perhaps", "no"])


async def single_calls(client: Client) -> None:
    """Call each route once."""
    async with client as opened:
        assert_type(opened, Client)
    page = await client.showcase_page("mrbeast", cursor=None, region="US")
    assert_type(page, ShowcasePage)
    assert_type(page.products, tuple[Product, ...])
    assert_type(page.next_cursor, str | None)
    assert_type(page.has_more, bool)
    assert_type(page.usage, Usage)
    assert_type(page.request_id, str | None)
    assert_type(page.number, int)

    lookup = await client.tiktok_profile("mrbeast")
    assert_type(lookup, TikTokLookup)
    assert_type(lookup.lookup_status, str | None)
    assert_type(lookup.profile, TikTokProfile | None)
    assert_type(lookup.metrics, TikTokMetrics | None)
    if lookup.profile:
        assert_type(lookup.profile.avatar_urls, AvatarUrls | None)
        assert_type(lookup.profile.bio_link, BioLink | None)
        assert_type(lookup.profile.content_settings, ContentSettings | None)
        assert_type(lookup.profile.profile_tabs, ProfileTabs | None)
    if lookup.lookup_status == LookupStatus.PRIVATE:
        return

    instagram = await client.instagram_profile("@someone")
    assert_type(instagram, InstagramLookup)
    assert_type(instagram.profile, InstagramProfile | None)
    assert_type(instagram.metrics, InstagramMetrics | None)
    assert_type(instagram.related_profiles, tuple[RelatedProfile, ...] | None)
    assert_type(instagram.recent_posts, tuple[InstagramPost, ...] | None)
    for post in instagram.recent_posts or ():
        assert_type(post.dimensions, Dimensions | None)
    if instagram.profile:
        assert_type(instagram.profile.bio_links, tuple[InstagramBioLink, ...] | None)

    reviews = await client.review_page(product_id="1", url=None, region="US", page=2)
    assert_type(reviews, ReviewPage)
    assert_type(reviews.next_page, int | None)
    assert_type(reviews.summary, ReviewSummary | None)
    if reviews.summary:
        assert_type(reviews.summary.rating_distribution, RatingDistribution | None)
    for review in reviews.reviews:
        assert_type(review, Review)
        assert_type(review.reviewer, Reviewer | None)
        assert_type(review.media, ReviewMedia | None)

    whoami = await client.whoami()
    assert_type(whoami, Whoami)
    assert_type(whoami.user, User)
    balance = await client.balance()
    assert_type(balance, Balance)
    assert_type(balance.balance, int)
    assert_type(balance.subscription, Subscription | None)
    assert_type(await client.health(), Health)
    await client.aclose()


async def other_routes(client: Client) -> None:
    """The caller's own type is the reply's."""
    reply = await client.get("/v1/x", params={"a": "b", "c": 1, "d": True, "e": None})
    assert_type(reply, Reply[Any])
    videos = await client.get("/v1/x", type=Videos, price=2)
    assert_type(videos, Reply[Videos])
    assert_type(videos.data, Videos)
    assert_type(videos.usage, Usage)
    assert_type((await client.get("/v1/x", type=list[int])).data, list[int])
    # No type checker can yet tell the type of a union that is an argument.
    assert_type((await client.get("/v1/x", type=Videos | None)).data, Any)


async def listings(client: Client) -> None:
    """Iterate, page by page, and collect."""
    listing = client.showcase("mrbeast", region=None, cursor=None, max_pages=2, max_items=10)
    assert_type(listing, Listing[ShowcasePage, Product, str])
    async for product in listing:
        assert_type(product, Product)
    assert_type(listing.pages(), AsyncGenerator[ShowcasePage, None])
    async for page in listing.pages():
        assert_type(page, ShowcasePage)
    assert_type(await listing.collect(), list[Product])

    reviews = client.reviews(product_id="1", url=None, region=None, page=1, max_pages=1)
    assert_type(reviews, Listing[ReviewPage, Review, int])
    async for review in reviews:
        assert_type(review, Review)
    async for numbered in reviews.pages():
        assert_type(numbered, ReviewPage)
    assert_type(await reviews.collect(), list[Review])


def products(product: Product) -> None:
    """Every field of a product but its id may be missing."""
    assert_type(product.id, str)
    assert_type(product.title, str | None)
    assert_type(product.image, Image | None)
    assert_type(product.price, Price | None)
    assert_type(product.rating, Rating | None)
    assert_type(product.sales, Sales | None)
    assert_type(product.seller, Seller | None)
    assert_type(product.details, Any)
    if product.price:
        assert_type(product.price.sale_price, str | None)
        assert_type(product.price.sale_amount, Decimal | None)
        assert_type(product.price.original_amount, Decimal | None)
    if product.image:
        assert_type(product.image.urls, tuple[str, ...] | None)
    assert_type(product.to_json(), bytes)
    assert_type(product.to_dict(), dict[str, Any])
    assert_type(Product.from_json(b"{}"), Product)
    assert_type(ShowcasePage.from_json("{}"), ShowcasePage)
    assert_type(Outcome.from_json("{}"), Outcome)


assert_type(tiktok_handle("@MrBeast"), str)
assert_type(instagram_handle("@MrBeast"), str)


async def handles() -> AsyncIterator[str]:
    """Give handles from somewhere slow."""
    yield "mrbeast"


async def runs(client: Client) -> None:
    """Run over many creators."""
    run = client.showcases(
        ["a", "b"],
        region="US",
        concurrency=200,
        max_pages=3,
        verify_empty=True,
        ordered=True,
        dedupe=False,
    )
    assert_type(run, ShowcaseRun)
    async with run as entered:
        assert_type(entered, ShowcaseRun)
        async for outcome in entered:
            assert_type(outcome, Outcome)
            outcomes(outcome)
        assert_type(entered.usage, Usage)
        assert_type(entered.progress, Progress)
        assert_type(entered.stopped, SfkError | None)
    async with client.showcases(handles()) as run:
        async for page in run.pages(on_outcome=outcomes):
            assert_type(page, ShowcasePage)
    assert_type(await client.fetch_showcases(iter(("a", "b")), max_pages=1), list[Outcome])


def outcomes(outcome: Outcome) -> None:
    """Read an outcome."""
    assert_type(outcome.handle, str)
    assert_type(outcome.status, Literal["complete", "partial", "failed", "skipped"])
    assert_type(outcome.products, tuple[Product, ...])
    assert_type(outcome.pages, int)
    assert_type(outcome.usage, Usage)
    assert_type(outcome.next_cursor, str | None)
    assert_type(outcome.error, SfkError | None)
    assert_type(outcome.account_status, str | None)
    assert_type(outcome.request_ids, tuple[str, ...])
    assert_type(outcome.raise_for_error(), Outcome)


def figures(usage: Usage, progress: Progress) -> None:
    """Read what was spent and done."""
    assert_type(usage + usage, Usage)
    assert_type(usage.charged + usage.maybe + usage.requests + usage.retries, int)
    assert_type(usage.bytes + usage.pages + usage.products, int)
    assert_type(progress.done, int)
    assert_type(progress.total, int | None)
    assert_type(progress.elapsed, float)
    assert_type(progress.paused_for, float)
    assert_type(progress.usage, Usage)


async def errors(client: Client) -> None:  # noqa: C901 - one branch a class
    """Catch each kind, and read what it knows."""
    try:
        await client.showcase("x").collect()
    except (ConfigurationError, InvalidArgumentError) as error:
        mistake: ValueError = error
        raise mistake from None
    except ClientStateError as error:
        state: RuntimeError = error
        raise state from None
    except (ConnectionFailedError, RequestTimeoutError, ConnectionLostError) as error:
        transport: TransportError = error
        assert_type(transport.attempts, int)
    except UndecodableError as error:
        assert_type(error.body, bytes | None)
    except RedirectError as error:
        assert_type(error.location, str | None)
    except BodyTooLargeError as error:
        answer: AnswerError = error
        assert_type(answer.usage, Usage)
    except PaginationError as error:
        assert_type(error.partial, tuple[Any, ...])
    except InsufficientCreditsError as error:
        assert_type(error.checkout_url, str | None)
    except (BadRequestError, UnauthorizedError, ForbiddenError, NotFoundError) as error:
        api: APIError = error
        assert_type(api.code, str | None)
    except RateLimitedError as error:
        assert_type(error.retry_after, float | None)
    except (LookupFailedError, UnavailableError) as error:
        server: ServerError = error
        assert_type(server.status, int | None)
    except SfkError as error:
        assert_type(error.message, str)
        assert_type(error.details, Details)
        assert_type(error.handle, str | None)
        assert_type(error.route, str | None)
        assert_type(error.request_id, str | None)
        assert_type(error.cursor, str | None)
        assert_type(error.page, int | None)
        assert_type(error.gave_up, str | None)
        assert_type(error.to_dict(), dict[str, Any])
        assert_type(SfkError.from_dict({}), SfkError)


async def simulator() -> None:
    """Test against the simulator."""
    faults = [Fault.status(503, retry_after="1", probability=0.1), *Fault.storm(0.02, curable=True)]
    async with Simulator(seed=7, faults=faults, latency=Latency.fixed(0.1), credits=5) as sim:
        assert_type(sim, Simulator)
        assert_type(sim.url, str)
        assert_type(sim.api_key, str)
        assert_type(sim.ledger, Ledger)
        assert_type(sim.balance, int | None)
        assert_type(sim.ledger.requests + sim.ledger.charged + sim.ledger.max_in_flight, int)
        for entry in sim.ledger:
            assert_type(entry, Entry)
            assert_type(entry.delivered, bool)
        assert_type(sim.ledger.hits("x", cursor=None, route=Route.SHOWCASE), int)
        sim.add_fault(Fault.close(charged=True, handles=["x"], times=1))
        assert_type(CURABLE | FATAL, frozenset[str])
        async with Client(base_url=sim.url, api_key=sim.api_key) as client:
            await single_calls(client)
