"""Handles as people have them -> handles as the API wants them."""

from __future__ import annotations

import re

from asyncsfk._text import cut, described, printable
from asyncsfk.errors import Details, InvalidArgumentError

__all__ = ["instagram_handle", "tiktok_handle"]

_MAX_LENGTH = 64
# A whitelist: nothing that passes can change the path that it is put into.
_HANDLE = re.compile(r"[A-Za-z0-9_.]+", re.ASCII)


def _profile_url(host: str, marker: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?:https?://)?{host}/{marker}([^/?#]*)(?:[/?#].*)?",
        re.ASCII | re.IGNORECASE,
    )


_TIKTOK_URL = _profile_url(r"(?:[a-z0-9-]+\.)*tiktok\.com", "(?:@|%40)")
_INSTAGRAM_URL = _profile_url(r"(?:(?:www|m)\.)?instagram\.com", "(?:_u/)?@?")
# What else begins a path there: posts, reels, stories and so on.
_INSTAGRAM_PAGES = frozenset(
    {
        *("_n", "_u", "about", "accounts", "api", "challenge", "developer", "direct", "directory"),
        *("emails", "explore", "legal", "locations", "nametag", "p", "press", "privacy", "reel"),
        *("reels", "s", "session", "share", "stories", "tags", "tv", "web"),
    }
)


def tiktok_handle(value: object) -> str:
    """Return the normalised TikTok handle in ``mrbeast``, ``@MrBeast`` or a profile's URL.

    TikTok names are case-insensitive, so the result is in lower case. Space around it is ignored.
    It is what `Outcome.handle` and `ShowcasePage.handle` say, and what tells creators apart::

        mine = {tiktok_handle(row.url): row for row in rows}

    Args:
        value: What a list has; anything but a string is refused.

    Raises:
        InvalidArgumentError: There is no handle of 1 to 64 letters, digits, ``_`` and ``.`` in it.
    """
    return _handle(value, _TIKTOK_URL, "TikTok")


def instagram_handle(value: object) -> str:
    """Return the normalised Instagram handle in a handle, ``@handle`` or a profile's URL.

    Args:
        value: What a list has; anything but a string is refused.

    Raises:
        InvalidArgumentError: There is no handle of 1 to 64 letters, digits, ``_`` and ``.`` in it.
    """
    handle = _handle(value, _INSTAGRAM_URL, "Instagram")
    if handle in _INSTAGRAM_PAGES and "/" in str(value):
        raise InvalidArgumentError(
            f"{described(value)} is not the URL of an Instagram profile",
            Details(handle=_shown(value)),
        )
    return handle


def _shown(value: object) -> str:
    """Return an invalid handle in printable form, cut to a sane length."""
    return cut(printable(value)) if isinstance(value, str) else described(value)


def _handle(value: object, url: re.Pattern[str], network: str) -> str:
    if isinstance(value, str):
        # Of `str` itself, as the methods of another class may return its own.
        text = str.strip(value)
        if "/" in text and (match := url.fullmatch(text)):
            text = match[1]
        else:
            text = text.removeprefix("@")
        if len(text) <= _MAX_LENGTH and _HANDLE.fullmatch(text) and text.strip("."):
            return text.lower()
    raise InvalidArgumentError(
        f"{described(value)} is not a {network} handle: 1 to {_MAX_LENGTH} letters, digits, '_' "
        "and '.' (not dots alone), or the URL of a profile",
        Details(handle=_shown(value)),
    )
