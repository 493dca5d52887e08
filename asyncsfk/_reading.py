"""Answers -> models: the same for those that come over the wire and out of an archive. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from asyncsfk.models import Answer, Reply, ReviewPage, ShowcasePage

if TYPE_CHECKING:
    from asyncsfk._messages import Received
    from asyncsfk.config import ApiKey
    from asyncsfk.models.reviews import ReviewData
    from asyncsfk.models.showcase import ShowcaseData
    from asyncsfk.usage import Usage

A = TypeVar("A", bound=Answer)


def showcase_page(
    received: Received,
    usage: Usage,
    *,
    handle: str,
    region: str | None,
    cursor: str | None,
    number: int,
    api_key: ApiKey | None = None,
) -> ShowcasePage:
    """Return a page of a showcase, with the key struck out of its next cursor."""
    data: ShowcaseData = received.data
    has_more, next_cursor = data.page.has_more, data.page.next_cursor
    if api_key is not None and next_cursor is not None:
        # Otherwise the key would be in the next URL, and in the archive.
        next_cursor = api_key.redact(next_cursor)
    return ShowcasePage(
        request_id=received.meta.request_id,
        cached=received.meta.cached or False,
        usage=usage,
        handle=handle,
        region=region,
        cursor=cursor,
        number=number,
        products=data.products or (),
        next_cursor=next_cursor,
        has_more=bool(next_cursor) if has_more is None else has_more,
    )


def review_page(received: Received, usage: Usage) -> ReviewPage:
    """Return a page of reviews."""
    data: ReviewData = received.data
    has_more = data.page.has_more
    return ReviewPage(
        request_id=received.meta.request_id,
        cached=received.meta.cached or False,
        usage=usage,
        lookup_status=data.lookup_status,
        reviews=data.reviews or (),
        summary=data.summary,
        page=data.page.current_page,
        next_page=data.page.next_page,
        has_more=data.page.next_page is not None if has_more is None else has_more,
    )


def answer(received: Received, model: type[A]) -> A:
    """Return an answer as a model that has the fields of its data."""
    return model(**_meta(received), **msgspec.structs.asdict(received.data))


def reply(received: Received) -> Reply[Any]:
    """Return an answer with its data as one value."""
    return Reply(**_meta(received), data=received.data)


def _meta(received: Received) -> dict[str, Any]:
    return {
        "request_id": received.meta.request_id,
        "cached": received.meta.cached or False,
        "usage": received.usage,
    }
