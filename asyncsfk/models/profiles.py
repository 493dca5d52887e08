"""Creators' profiles.

Source: ``GET /v1/tiktok/profiles/{handle}`` and ``GET /v1/instagram/profiles/{handle}``.
"""

from enum import StrEnum

from asyncsfk.models.base import Answer, Model


class LookupStatus(StrEnum):
    """What a look-up can find; the API may add further words, so fields hold any string."""

    FOUND = "found"
    PRIVATE = "private"
    NOT_FOUND = "not_found"


class AvatarUrls(Model, frozen=True, kw_only=True, gc=False):
    """A profile picture in three sizes."""

    large: str | None = None
    medium: str | None = None
    thumb: str | None = None


class BioLink(Model, frozen=True, kw_only=True, gc=False):
    """The link in a TikTok bio."""

    url: str | None = None
    risk_level: int | None = None


class ContentSettings(Model, frozen=True, kw_only=True, gc=False):
    """Who may comment, duet, stitch and download; TikTok's numbers."""

    comment: int | None = None
    duet: int | None = None
    stitch: int | None = None
    download: int | None = None


class ProfileTabs(Model, frozen=True, kw_only=True, gc=False):
    """Which tabs a TikTok profile shows."""

    show_music_tab: bool | None = None
    show_question_tab: bool | None = None
    show_play_list_tab: bool | None = None


class TikTokProfile(Model, frozen=True, kw_only=True, gc=False):
    """A TikTok creator."""

    platform: str | None = None
    handle: str | None = None
    display_name: str | None = None
    bio: str | None = None
    avatar_url: str | None = None
    verified: bool | None = None
    profile_url: str | None = None
    private_account: bool | None = None
    platform_user_id: str | None = None
    sec_uid: str | None = None
    account_created_at: str | None = None
    avatar_urls: AvatarUrls | None = None
    bio_link: BioLink | None = None
    language: str | None = None
    is_commerce_user: bool | None = None
    is_seller: bool | None = None
    open_favorite: bool | None = None
    is_ad_virtual: bool | None = None
    is_embed_banned: bool | None = None
    can_expand_playlist: bool | None = None
    profile_embed_permission: int | None = None
    following_visibility: int | None = None
    room_id: str | None = None
    content_settings: ContentSettings | None = None
    profile_tabs: ProfileTabs | None = None


class TikTokMetrics(Model, frozen=True, kw_only=True, gc=False):
    """A TikTok creator's numbers."""

    followers: int | None = None
    following: int | None = None
    likes: int | None = None
    posts: int | None = None
    friends: int | None = None
    diggs: int | None = None


class TikTokLookup(Answer, frozen=True, kw_only=True):
    """What the API knows of a TikTok creator; costs one credit, found or not.

    Attributes:
        lookup_status: A `LookupStatus`, or a newer word of the API.
        profile: The creator, if found.
        metrics: The creator's numbers, if found.
    """

    lookup_status: str | None = None
    profile: TikTokProfile | None = None
    metrics: TikTokMetrics | None = None


class InstagramBioLink(Model, frozen=True, kw_only=True, gc=False):
    """A link in an Instagram bio."""

    title: str | None = None
    url: str | None = None


class InstagramProfile(Model, frozen=True, kw_only=True, gc=False):
    """An Instagram account."""

    platform: str | None = None
    handle: str | None = None
    display_name: str | None = None
    bio: str | None = None
    avatar_url: str | None = None
    avatar_url_hd: str | None = None
    verified: bool | None = None
    profile_url: str | None = None
    private_account: bool | None = None
    platform_user_id: str | None = None
    business_account: bool | None = None
    professional_account: bool | None = None
    category_name: str | None = None
    external_url: str | None = None
    highlight_reel_count: int | None = None
    bio_links: tuple[InstagramBioLink, ...] | None = None


class InstagramMetrics(Model, frozen=True, kw_only=True, gc=False):
    """An Instagram account's numbers."""

    followers: int | None = None
    following: int | None = None
    posts: int | None = None


class Dimensions(Model, frozen=True, kw_only=True, gc=False):
    """A picture's size in pixels."""

    width: int | None = None
    height: int | None = None


class InstagramPost(Model, frozen=True, kw_only=True, gc=False):
    """A post on an Instagram profile."""

    id: str
    shortcode: str | None = None
    media_type: str | None = None
    caption: str | None = None
    created_at: str | None = None
    comment_count: int | None = None
    like_count: int | None = None
    video_view_count: int | None = None
    display_url: str | None = None
    thumbnail_url: str | None = None
    video_url: str | None = None
    dimensions: Dimensions | None = None


class RelatedProfile(Model, frozen=True, kw_only=True, gc=False):
    """An Instagram account that Instagram suggests beside another."""

    platform_user_id: str | None = None
    handle: str | None = None
    display_name: str | None = None
    avatar_url: str | None = None
    verified: bool | None = None
    private_account: bool | None = None


class InstagramLookup(Answer, frozen=True, kw_only=True):
    """What the API knows of an Instagram account; costs one credit, found or not.

    Attributes:
        lookup_status: A `LookupStatus`, or a newer word of the API.
        profile: The account, if found.
        metrics: The account's numbers, if found.
        recent_posts: The newest posts.
        related_profiles: Accounts that Instagram suggests beside this one.
    """

    lookup_status: str | None = None
    profile: InstagramProfile | None = None
    metrics: InstagramMetrics | None = None
    recent_posts: tuple[InstagramPost, ...] | None = None
    related_profiles: tuple[RelatedProfile, ...] | None = None
