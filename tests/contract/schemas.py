"""The answers of the Social Fetch API as JSON schemas: its types, bounds and required marks.

Re-stated by hand from the provider's reference, and on purpose from nothing in `asyncsfk`. No
schema is closed: the API adds fields and words at any time.
"""


def record(required=None, optional=None, *, null=False):
    """An object with fields that are always there and fields that sometimes are."""
    required, optional = required or {}, optional or {}
    return {
        "type": ["object", "null"] if null else ["object"],
        "properties": required | optional,
        "required": [*required],
    }


def listed(items):
    """A list."""
    return {"type": ["array"], "items": items}


def word(*words, null=False):
    """One of the words known today."""
    known = [*words, None] if null else [*words]
    return {"type": ["string", "null"] if null else ["string"], "enum": known}


def or_null(schema):
    """The same, or null."""
    return schema | {"type": [*schema["type"], "null"]}


TEXT = {"type": ["string"]}
FILLED = {"type": ["string"], "minLength": 1}
MOMENT = {
    "type": ["string"],
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
}
WEB = {"type": ["string"], "pattern": r"^https?://"}
FLAG = {"type": ["boolean"]}
NUMBER = {"type": ["number"]}
INTEGER = {"type": ["integer"]}
COUNT = {"type": ["integer"], "minimum": 0}
FROM_ONE = {"type": ["integer"], "minimum": 1}
LOOKUP = word("found", "private", "not_found")

META = record(
    {"requestId": FILLED, "creditsCharged": COUNT, "version": word("v1")},
    {"cached": FLAG},
)


def answer(data):
    """The envelope of every answer but that of /health."""
    return record({"data": data, "meta": META})


WHOAMI = answer(
    record({"user": record({"id": TEXT, "name": or_null(TEXT), "email": or_null(TEXT)})})
)

BALANCE = answer(
    record(
        {
            "balance": COUNT,
            "payg": COUNT,
            "paygSpendable": COUNT,
            "graceDebtCredits": COUNT,
            "refillState": word("healthy", "grace", "exhausted", null=True),
            "billingAlert": word("none", "payment_action_required", "suspended"),
            "subscriptionIncludedRemaining": COUNT,
            "subscriptionIncludedTotal": COUNT,
            "subscription": record({"tier": TEXT, "status": TEXT, "periodEnd": TEXT}, null=True),
            "collectionStatus": word("current", "base_past_due", "suspended"),
        }
    )
)

HEALTH = record({"status": word("ok")})

TIKTOK_PROFILE = answer(
    record(
        {
            "lookupStatus": LOOKUP,
            "profile": record(
                {
                    "platform": word("tiktok"),
                    "handle": TEXT,
                    "displayName": or_null(TEXT),
                    "bio": or_null(TEXT),
                    "avatarUrl": or_null(TEXT),
                    "verified": FLAG,
                    "profileUrl": FILLED,
                },
                {
                    "privateAccount": FLAG,
                    "platformUserId": TEXT,
                    "secUid": TEXT,
                    "accountCreatedAt": MOMENT,
                    "avatarUrls": record(optional={"large": TEXT, "medium": TEXT, "thumb": TEXT}),
                    "bioLink": record({"url": FILLED, "riskLevel": INTEGER}),
                    "language": TEXT,
                    "isCommerceUser": FLAG,
                    "isSeller": FLAG,
                    "openFavorite": FLAG,
                    "isAdVirtual": FLAG,
                    "isEmbedBanned": FLAG,
                    "canExpandPlaylist": FLAG,
                    "profileEmbedPermission": INTEGER,
                    "followingVisibility": INTEGER,
                    "roomId": TEXT,
                    "contentSettings": record(
                        dict.fromkeys(["comment", "duet", "stitch", "download"], INTEGER)
                    ),
                    "profileTabs": record(
                        dict.fromkeys(["showMusicTab", "showQuestionTab", "showPlayListTab"], FLAG)
                    ),
                },
                null=True,
            ),
            "metrics": record(
                dict.fromkeys(["followers", "following", "likes", "posts"], COUNT),
                {"friends": COUNT, "diggs": COUNT},
                null=True,
            ),
        }
    )
)

REVIEWS = answer(
    record(
        {
            "lookupStatus": word("found", "not_found"),
            "reviews": listed(
                record(
                    {
                        "id": FILLED,
                        "productId": FILLED,
                        "skuId": or_null(FILLED),
                        "rating": FROM_ONE | {"maximum": 5},
                        "text": or_null(TEXT),
                        "createdAt": or_null(FILLED),
                        "verifiedPurchase": or_null(FLAG),
                        "incentivized": or_null(FLAG),
                        "reviewer": record(
                            dict.fromkeys(["id", "name", "avatarUrl"], or_null(FILLED))
                        ),
                        "media": record(
                            {
                                "displayImageUrl": or_null(FILLED),
                                "imageUrls": listed(FILLED),
                            }
                        ),
                        "variant": or_null(FILLED),
                        "country": or_null(FILLED),
                    }
                )
            ),
            "summary": record(
                {
                    "totalReviews": or_null(COUNT),
                    "averageRating": or_null(NUMBER | {"minimum": 0}),
                    "ratingDistribution": record(
                        dict.fromkeys(
                            ["oneStar", "twoStar", "threeStar", "fourStar", "fiveStar"],
                            or_null(COUNT),
                        )
                    ),
                }
            ),
            "page": record(
                {
                    "currentPage": FROM_ONE,
                    "nextPage": or_null(FROM_ONE),
                    "hasMore": FLAG,
                }
            ),
        }
    )
)

SHOWCASE = answer(
    record(
        {
            "products": listed(
                record(
                    {
                        "id": FILLED,
                        "title": or_null(TEXT),
                        "url": or_null(TEXT),
                        "image": record(
                            {
                                "url": or_null(TEXT),
                                "urls": listed(TEXT),
                                "width": or_null(COUNT),
                                "height": or_null(COUNT),
                            },
                            null=True,
                        ),
                        "price": record(
                            {
                                "currencyCode": or_null(TEXT),
                                "currencySymbol": or_null(TEXT),
                                "salePrice": or_null(TEXT),
                                "originalPrice": or_null(TEXT),
                                "discountPercent": or_null(TEXT),
                            },
                            null=True,
                        ),
                        "rating": record(
                            {"score": or_null(NUMBER), "reviewCount": COUNT}, null=True
                        ),
                        "sales": record({"soldCount": COUNT}),
                        "seller": record({"id": FILLED}, null=True),
                    },
                    {"details": record()},
                )
            ),
            "page": record({"nextCursor": or_null(TEXT), "hasMore": FLAG}),
        }
    )
)

INSTAGRAM_PROFILE = answer(
    record(
        {
            "lookupStatus": LOOKUP,
            "profile": record(
                {
                    "platform": word("instagram"),
                    "handle": TEXT,
                    "displayName": or_null(TEXT),
                    "bio": or_null(TEXT),
                    "avatarUrl": or_null(TEXT),
                    "verified": FLAG,
                    "profileUrl": FILLED,
                    "privateAccount": FLAG,
                },
                {
                    "avatarUrlHd": or_null(TEXT),
                    "platformUserId": TEXT,
                    "businessAccount": FLAG,
                    "professionalAccount": FLAG,
                    "categoryName": or_null(TEXT),
                    "externalUrl": or_null(TEXT),
                    "highlightReelCount": COUNT,
                    "bioLinks": listed(record({"title": or_null(TEXT), "url": FILLED})),
                },
                null=True,
            ),
            "metrics": record(dict.fromkeys(["followers", "following", "posts"], COUNT), null=True),
            "recentPosts": listed(
                record(
                    {
                        "id": TEXT,
                        "shortcode": TEXT,
                        "mediaType": word("video", "image", "sidecar", "unknown"),
                        "caption": or_null(TEXT),
                        "createdAt": MOMENT,
                    },
                    {
                        "commentCount": COUNT,
                        "likeCount": COUNT,
                        "videoViewCount": COUNT,
                        "displayUrl": TEXT,
                        "thumbnailUrl": TEXT,
                        "videoUrl": TEXT,
                        "dimensions": record({"width": COUNT, "height": COUNT}),
                    },
                )
            ),
            "relatedProfiles": listed(
                record(
                    {
                        "platformUserId": TEXT,
                        "handle": TEXT,
                        "displayName": or_null(TEXT),
                        "avatarUrl": or_null(TEXT),
                        "verified": FLAG,
                        "privateAccount": FLAG,
                    }
                )
            ),
        }
    )
)

#: Each route's 200, by a short name of the route.
ANSWERS = {
    "showcase": SHOWCASE,
    "tiktok_profile": TIKTOK_PROFILE,
    "reviews": REVIEWS,
    "instagram_profile": INSTAGRAM_PROFILE,
    "whoami": WHOAMI,
    "balance": BALANCE,
    "health": HEALTH,
}

#: Status and code of each documented failure.
CODES = {
    400: ["bad_request"],
    401: ["unauthorized"],
    402: ["insufficient_credits", "payment_required", "payment_settlement_failed"],
    403: ["forbidden"],
    404: ["not_found"],
    429: ["temporarily_unavailable"],
    500: ["internal_error"],
    502: ["lookup_failed"],
    503: ["temporarily_unavailable"],
}


def failure(status):
    """The error envelope that comes with a status."""
    return record(
        {
            "error": record(
                {"code": word(*CODES[status]), "message": TEXT, "requestId": TEXT},
                {"checkoutUrl": WEB},
            )
        }
    )
