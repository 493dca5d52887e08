"""Every public name, gathered; `asyncsfk` itself loads this when the first is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsfk._listing import (
    Listing,
)
from asyncsfk._run import (
    ShowcaseRun,
)
from asyncsfk._version import __version__
from asyncsfk.budget import (
    Budget,
    Reservation,
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
    ArchiveError,
    ArchiveFormatError,
    ArchiveLockedError,
    ArchiveWriteError,
    BadRequestError,
    BodyTooLargeError,
    BudgetReachedError,
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
    RunStoppedError,
    ServerError,
    SfkError,
    StaleCursorError,
    TransportError,
    UnauthorizedError,
    UnavailableError,
    UndecodableError,
    UnreachableError,
)
from asyncsfk.events import (
    Event,
    HandleFinished,
    PageReceived,
    Paused,
    PriceRaised,
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
from asyncsfk.plan import (
    Plan,
)
from asyncsfk.records import (
    ArchivedPage,
    ArchiveInfo,
    LedgerEntry,
)
from asyncsfk.usage import (
    Usage,
)

if TYPE_CHECKING:
    from asyncsfk.archive import Archive

__all__ = [
    "APIError",
    "Answer",
    "AnswerError",
    "Archive",
    "ArchiveError",
    "ArchiveFormatError",
    "ArchiveInfo",
    "ArchiveLockedError",
    "ArchiveWriteError",
    "ArchivedPage",
    "AvatarUrls",
    "BadRequestError",
    "Balance",
    "BioLink",
    "BodyTooLargeError",
    "Budget",
    "BudgetReachedError",
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
    "LedgerEntry",
    "Listing",
    "LookupFailedError",
    "LookupStatus",
    "Model",
    "NotFoundError",
    "Outcome",
    "PageReceived",
    "PaginationError",
    "Paused",
    "Plan",
    "Price",
    "PriceRaised",
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
    "Reservation",
    "Retry",
    "Review",
    "ReviewMedia",
    "ReviewPage",
    "ReviewSummary",
    "Reviewer",
    "RunStoppedError",
    "Sales",
    "Seller",
    "ServerError",
    "SfkError",
    "ShowcasePage",
    "ShowcaseRun",
    "StaleCursorError",
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
    "UnreachableError",
    "Usage",
    "User",
    "Whoami",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "Archive":
        # It loads SQLite, which not all need.
        from asyncsfk.archive import Archive  # noqa: PLC0415

        return Archive
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
