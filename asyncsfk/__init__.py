"""asyncio client for the Social Fetch API: creators' TikTok Shop showcases, each page paid once.

::

    from asyncsfk import Client

    async with Client() as client:                  # the key comes from SOCIALFETCH_API_KEY
        async for product in client.showcase("mrbeast"):
            print(product.id, product.title, product.price)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from asyncsfk._version import __version__

if TYPE_CHECKING:
    from asyncsfk._listing import (
        Listing,
    )
    from asyncsfk._run import (
        ShowcaseRun,
    )
    from asyncsfk.client import (
        Client,
    )
    from asyncsfk.config import (
        Config,
        Retry,
        Timeout,
    )
    from asyncsfk.errors import (
        AnswerError,
        APIError,
        BadRequestError,
        BodyTooLargeError,
        ClientStateError,
        ConfigurationError,
        ConnectionFailedError,
        ConnectionLostError,
        Details,
        ForbiddenError,
        InsufficientCreditsError,
        InvalidArgumentError,
        LookupFailedError,
        NotFoundError,
        PaginationError,
        RateLimitedError,
        RedirectError,
        RequestTimeoutError,
        ServerError,
        SfkError,
        TransportError,
        UnauthorizedError,
        UnavailableError,
        UndecodableError,
    )
    from asyncsfk.events import (
        Event,
        HandleFinished,
        PageReceived,
        Paused,
        RequestFinished,
        RequestRetried,
        RequestStarted,
    )
    from asyncsfk.models import (
        Answer,
        AvatarUrls,
        Balance,
        BioLink,
        ContentSettings,
        Dimensions,
        Health,
        Image,
        InstagramBioLink,
        InstagramLookup,
        InstagramMetrics,
        InstagramPost,
        InstagramProfile,
        LookupStatus,
        Model,
        Price,
        Product,
        ProfileTabs,
        Rating,
        RatingDistribution,
        RelatedProfile,
        Reply,
        Review,
        Reviewer,
        ReviewMedia,
        ReviewPage,
        ReviewSummary,
        Sales,
        Seller,
        ShowcasePage,
        Subscription,
        TikTokLookup,
        TikTokMetrics,
        TikTokProfile,
        User,
        Whoami,
    )
    from asyncsfk.outcomes import (
        Outcome,
        Progress,
        Status,
    )
    from asyncsfk.usage import (
        Usage,
    )

# Loaded at first use: aiohttp takes longer to import than a command line may take to say its help.
_MODULES = {
    "_listing": ("Listing",),
    "_run": ("ShowcaseRun",),
    "client": ("Client",),
    "config": (
        "Config",
        "Retry",
        "Timeout",
    ),
    "errors": (
        "APIError",
        "AnswerError",
        "BadRequestError",
        "BodyTooLargeError",
        "ClientStateError",
        "ConfigurationError",
        "ConnectionFailedError",
        "ConnectionLostError",
        "Details",
        "ForbiddenError",
        "InsufficientCreditsError",
        "InvalidArgumentError",
        "LookupFailedError",
        "NotFoundError",
        "PaginationError",
        "RateLimitedError",
        "RedirectError",
        "RequestTimeoutError",
        "ServerError",
        "SfkError",
        "TransportError",
        "UnauthorizedError",
        "UnavailableError",
        "UndecodableError",
    ),
    "events": (
        "Event",
        "HandleFinished",
        "PageReceived",
        "Paused",
        "RequestFinished",
        "RequestRetried",
        "RequestStarted",
    ),
    "models": (
        "Answer",
        "AvatarUrls",
        "Balance",
        "BioLink",
        "ContentSettings",
        "Dimensions",
        "Health",
        "Image",
        "InstagramBioLink",
        "InstagramLookup",
        "InstagramMetrics",
        "InstagramPost",
        "InstagramProfile",
        "LookupStatus",
        "Model",
        "Price",
        "Product",
        "ProfileTabs",
        "Rating",
        "RatingDistribution",
        "RelatedProfile",
        "Reply",
        "Review",
        "ReviewMedia",
        "ReviewPage",
        "ReviewSummary",
        "Reviewer",
        "Sales",
        "Seller",
        "ShowcasePage",
        "Subscription",
        "TikTokLookup",
        "TikTokMetrics",
        "TikTokProfile",
        "User",
        "Whoami",
    ),
    "outcomes": (
        "Outcome",
        "Progress",
        "Status",
    ),
    "usage": ("Usage",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "APIError",
    "Answer",
    "AnswerError",
    "AvatarUrls",
    "BadRequestError",
    "Balance",
    "BioLink",
    "BodyTooLargeError",
    "Client",
    "ClientStateError",
    "Config",
    "ConfigurationError",
    "ConnectionFailedError",
    "ConnectionLostError",
    "ContentSettings",
    "Details",
    "Dimensions",
    "Event",
    "ForbiddenError",
    "HandleFinished",
    "Health",
    "Image",
    "InstagramBioLink",
    "InstagramLookup",
    "InstagramMetrics",
    "InstagramPost",
    "InstagramProfile",
    "InsufficientCreditsError",
    "InvalidArgumentError",
    "Listing",
    "LookupFailedError",
    "LookupStatus",
    "Model",
    "NotFoundError",
    "Outcome",
    "PageReceived",
    "PaginationError",
    "Paused",
    "Price",
    "Product",
    "ProfileTabs",
    "Progress",
    "RateLimitedError",
    "Rating",
    "RatingDistribution",
    "RedirectError",
    "RelatedProfile",
    "Reply",
    "RequestFinished",
    "RequestRetried",
    "RequestStarted",
    "RequestTimeoutError",
    "Retry",
    "Review",
    "ReviewMedia",
    "ReviewPage",
    "ReviewSummary",
    "Reviewer",
    "Sales",
    "Seller",
    "ServerError",
    "SfkError",
    "ShowcasePage",
    "ShowcaseRun",
    "Status",
    "Subscription",
    "TikTokLookup",
    "TikTokMetrics",
    "TikTokProfile",
    "Timeout",
    "TransportError",
    "UnauthorizedError",
    "UnavailableError",
    "UndecodableError",
    "Usage",
    "User",
    "Whoami",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
