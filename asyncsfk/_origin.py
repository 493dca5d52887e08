"""Whose answers an archive holds: one origin's, so that a simulator's do not pass for the API's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asyncsfk._store._schema import reading
from asyncsfk._store._sqlite import is_begun, shown
from asyncsfk._store._sums import notes
from asyncsfk.config import is_loopback
from asyncsfk.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN: Final = "origin"
"""The name under which a file notes it."""
_PORTS: Final = {"http": 80, "https": 443}


def check_file_origin(path: Path, base_url: str) -> None:
    """Refuse a file, if there is one, that holds the answers of another origin; blocks.

    Raises:
        ArchiveError: It does, or cannot be read.
    """
    if is_begun(path):
        with reading(path) as connection:
            check_origin(path, notes(connection).get(ORIGIN), base_url)


def check_origin(path: Path, known: str | None, base_url: str) -> None:
    """Refuse a file whose answers come from another origin than those to be added.

    Raises:
        ArchiveError: They do.
    """
    origin = origin_of(base_url)
    if known not in (None, origin):
        raise ArchiveError(
            f"{shown(path)} holds answers of {known}, not of {origin}: use another file"
        )


def origin_of(base_url: str) -> str:
    """Return the origin of a URL (RFC 6454); all of this machine counts as one."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if is_loopback(host):
        # A simulator gets another port at each start.
        return "this machine"
    port = "" if parts.port in {None, _PORTS.get(parts.scheme)} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
