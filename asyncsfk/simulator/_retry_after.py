"""What an answer says about when to come back."""

import time
from email.utils import formatdate
from typing import Final

from asyncsfk.simulator._arguments import check_header

_DATE: Final = "date:"


def date_ahead(seconds: int) -> str:
    """Make a `retry_after` that is sent as a date."""
    return f"{_DATE}{seconds:+d}"


def check_retry_after(name: str, value: str | None) -> None:
    """Refuse what cannot be sent as it is, and a date that nobody can write."""
    if value is None:
        return
    check_header(name, value)
    try:
        retry_after_headers(value)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{name} is no date that can be written: {value!r}") from None


def retry_after_headers(value: str) -> dict[str, str]:
    """Return a `retry_after` as it goes over the wire; one that is a date with what it is after."""
    if not value.startswith(_DATE):
        return {"Retry-After": value}
    now = time.time()
    later = now + int(value.removeprefix(_DATE))
    # Of the same moment: aiohttp would date the answer only when it is sent, perhaps a second on.
    return {"Retry-After": formatdate(later, usegmt=True), "Date": formatdate(now, usegmt=True)}
