"""The profile routes: TikTok's and Instagram's."""

from typing import Final

from asyncsfk.simulator._creators import Creator
from asyncsfk.simulator._dice import Dice
from asyncsfk.simulator._products import Json
from asyncsfk.simulator._words import CDN, REVIEW_TEXTS

_MEDIA_TYPES: Final = ("video", "image", "sidecar", "unknown")

#: What nearly all of TikTok's profiles say.
_USUAL: Final = {
    **dict.fromkeys(("openFavorite", "isAdVirtual", "isEmbedBanned", "canExpandPlaylist"), False),
    **dict.fromkeys(("profileEmbedPermission", "followingVisibility"), 1),
    "roomId": "",
}


def tiktok_profile(key: bytes, creator: Creator) -> Json:
    """Derive the `data` of the TikTok profile route."""
    if creator.status == "not_found":
        return {"lookupStatus": "not_found", "profile": None, "metrics": None}
    dice = Dice(key, "tiktok:" + creator.handle)
    profile: Json = {
        "platform": "tiktok",
        **_common(dice, creator),
        "profileUrl": f"https://www.tiktok.com/@{creator.handle}",
        "privateAccount": creator.status == "private",
        "platformUserId": f"68{dice.below(10**17):017d}",
    }
    if dice.chance(60):
        profile |= {
            "secUid": f"MS4wLjABAAAA{dice.below(2**64):x}",
            "accountCreatedAt": _moment(dice),
            "avatarUrls": {
                size: f"{CDN}/{creator.handle}~{size}.webp" for size in ("large", "medium", "thumb")
            },
            "language": dice.pick(("en", "es", "ar", "ja")),
            "isCommerceUser": creator.products > 0,
            "isSeller": dice.chance(20),
            **_USUAL,
            "contentSettings": {"comment": 0, "duet": 1, "stitch": 1, "download": dice.below(4)},
            "profileTabs": {
                "showMusicTab": dice.chance(5),
                "showQuestionTab": dice.chance(5),
                "showPlayListTab": dice.chance(30),
            },
        }
        if dice.chance(40):
            profile["bioLink"] = {"url": f"linktr.ee/{creator.handle}", "riskLevel": dice.below(4)}
    metrics = {
        "followers": dice.below(10 ** (2 + dice.below(7))),
        "following": dice.below(5_000),
        "likes": dice.below(10 ** (3 + dice.below(7))),
        "posts": dice.below(3_000),
    }
    if dice.chance(30):
        metrics |= {"friends": dice.below(500), "diggs": dice.below(10_000)}
    return {
        "lookupStatus": creator.status,
        "profile": profile,
        "metrics": metrics if creator.status == "found" or dice.chance(50) else None,
    }


def instagram_profile(key: bytes, creator: Creator) -> Json:
    """Derive the `data` of the Instagram profile route."""
    if creator.status == "not_found":
        return {
            "lookupStatus": "not_found",
            "profile": None,
            "metrics": None,
            "recentPosts": [],
            "relatedProfiles": [],
        }
    dice = Dice(key, "instagram:" + creator.handle)
    private = creator.status == "private"
    profile: Json = {
        "platform": "instagram",
        **_common(dice, creator),
        "profileUrl": f"https://www.instagram.com/{creator.handle}/",
        "privateAccount": private,
    }
    if dice.chance(60):
        profile |= {
            "avatarUrlHd": None if dice.chance(20) else f"{CDN}/{creator.handle}~hd.jpg",
            "platformUserId": str(dice.below(10**10)),
            "businessAccount": dice.chance(40),
            "professionalAccount": dice.chance(60),
            "categoryName": None if dice.chance(40) else "Digital creator",
            "externalUrl": None if dice.chance(50) else f"https://{creator.handle}.example",
            "highlightReelCount": dice.below(30),
            "bioLinks": [{"title": None, "url": f"https://{creator.handle}.example/shop"}],
        }
    metrics = {"followers": dice.below(10**6), "following": dice.below(2_000), "posts": 12}
    return {
        "lookupStatus": creator.status,
        "profile": profile,
        "metrics": metrics,
        "recentPosts": [] if private else [_post(dice) for _ in range(dice.below(13))],
        "relatedProfiles": [] if private else [_related(dice) for _ in range(dice.below(5))],
    }


def _common(dice: Dice, creator: Creator) -> Json:
    return {
        "handle": creator.handle,
        "displayName": None if dice.chance(5) else creator.handle.title() + " ✨",
        "bio": None if dice.chance(15) else dice.pick(REVIEW_TEXTS),
        "avatarUrl": None if dice.chance(8) else f"{CDN}/{creator.handle}~m.webp",
        "verified": dice.chance(10),
    }


def _post(dice: Dice) -> Json:
    post: Json = {
        "id": str(3 * 10**18 + dice.below(10**17)),
        "shortcode": f"C{dice.below(2**40):x}",
        "mediaType": dice.pick(_MEDIA_TYPES),
        "caption": None if dice.chance(20) else dice.pick(REVIEW_TEXTS),
        "createdAt": _moment(dice),
    }
    if dice.chance(70):
        post |= {
            "commentCount": dice.below(5_000),
            "likeCount": dice.below(100_000),
            "displayUrl": f"{CDN}/{post['shortcode']}.jpg",
            "thumbnailUrl": f"{CDN}/{post['shortcode']}~s.jpg",
            "dimensions": {"width": 1080, "height": 1350},
        }
    if post["mediaType"] == "video":
        post["videoViewCount"] = dice.below(10**6)
        post["videoUrl"] = f"{CDN}/{post['shortcode']}.mp4"
    return post


def _related(dice: Dice) -> Json:
    name = f"related_{dice.below(2**32):x}"
    return {
        "platformUserId": str(dice.below(10**10)),
        "handle": name,
        "displayName": None if dice.chance(20) else name.title(),
        "avatarUrl": None if dice.chance(20) else f"{CDN}/{name}~m.webp",
        "verified": dice.chance(10),
        "privateAccount": dice.chance(20),
    }


def _moment(dice: Dice) -> str:
    year, month, day = 2018 + dice.below(8), 1 + dice.below(12), 1 + dice.below(28)
    return f"{year}-{month:02d}-{day:02d}T{dice.below(24):02d}:{dice.below(60):02d}:00.000Z"
