"""How bodies are packed on the wire and in an archive: not at all, or by gzip. Pure."""

from __future__ import annotations

import re
import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

try:
    # The extra ``fast``: reads and writes the same formats, but faster.
    from isal import isal_zlib

    _quick: Any = isal_zlib
except ImportError:
    _quick = zlib

GZIP: Final = "gzip"
"""The one encoding that is asked for and unpacked; pinned, whatever else is installed."""

_WINDOW: Final = 31  # zlib's number for "gzip, largest window"
_MAGIC: Final = b"\x1f\x8b"  # what a member begins with
_CODINGS: Final = {"": "", "identity": "", GZIP: GZIP, "x-gzip": GZIP}
_CODING: Final = re.compile(r"[a-z-]{1,10}(?:, ?[a-z-]{1,10})*", re.ASCII)
ACCEPTED: Final = 1 << 30
"""The most bytes of a kept body: larger ones were refused when they came."""
_MOST: Final = 1 << 40  # bytes; a higher limit is as good as none, and too high for zlib
_MAX_MEMBERS: Final = 16  # of a gzip body; RFC 1952 allows several, and servers send one


class TooLargeError(Exception):
    """A body is too large once unpacked."""


# isal's error is no zlib.error.
CANNOT_UNPACK: Final = (TooLargeError, _quick.error, ValueError)
WORTH_PACKING: Final = (64 if _quick is zlib else 8) * 1024
"""Writing a smaller body as it is takes less time than packing it."""


def encoding_of(headers: Mapping[str, str]) -> str:
    """Return how a body is packed; nothing for a plain one."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if (known := _CODINGS.get(encoding)) is not None:
        return known
    # It can be anything, even the key or no text at all, and gets into errors and archives.
    return encoding if _CODING.fullmatch(encoding) else "unknown"


def unpack(encoding: str, body: bytes, max_body_bytes: int) -> bytes:
    """Return a body unpacked.

    Raises:
        TooLargeError: It is over ``max_body_bytes``.
        ValueError: It is packed in a way that was not asked for, or incomplete.
        Exception: One of `CANNOT_UNPACK`: it is not what it claims to be.
    """
    if not encoding:
        return body
    if encoding != GZIP:
        raise ValueError(f"its encoding {encoding!r} was not asked for")
    plain: bytes = b""
    rest = body
    max_body_bytes = min(max_body_bytes, _MOST)
    for _ in range(_MAX_MEMBERS):
        unpacker = _quick.decompressobj(_WINDOW)
        plain += unpacker.decompress(rest, max_body_bytes + 1 - len(plain))
        if len(plain) > max_body_bytes:
            raise TooLargeError
        if not unpacker.eof:
            raise ValueError("its gzip stream has no end")
        rest = unpacker.unused_data
        # Like gzip itself, ignore what follows if it is no further member.
        if not rest.startswith(_MAGIC):
            return plain
    raise ValueError(f"its gzip stream has more than {_MAX_MEMBERS} members")


def unpack_some(body: bytes, most: int, *, members: int = sys.maxsize) -> bytes:
    """Return as much of a gzip body as can be unpacked; nothing if it is no gzip.

    Args:
        body: As it came.
        most: The most bytes to unpack.
        members: The most members to unpack; each takes time in proportion to all that is left.
    """
    # By zlib, which recovers more of a damaged body.
    plain, rest, most = b"", body, min(most, _MOST)
    with suppress(zlib.error):
        while rest and len(plain) < most and members:
            members -= 1
            unpacker = zlib.decompressobj(_WINDOW)
            plain += unpacker.decompress(rest, most - len(plain))
            rest = unpacker.unused_data
    return plain


def pack(body: bytes) -> bytes:
    """Return a plain body packed, quickly rather than tightly."""
    packed: bytes = _quick.compress(body, _quick.Z_BEST_SPEED, _WINDOW)
    return packed
