"""How old a kept showcase may be: as a duration or as a point in time."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Final

import click

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)", re.ASCII)
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def age(value: str) -> float:
    """Return the moment that an age means: ``90``, ``90s``, ``15m`` ... ago, or an ISO 8601 time.

    Returns:
        Seconds since 1970.

    Raises:
        click.BadParameter: It is neither, or lies in the future.
    """
    now = time.time()
    if (match := _DURATION.fullmatch(value)) is not None:
        return max(0.0, now - float(match[1]) * _SECONDS[match[2]])
    try:
        since = datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{value!r} is not like 90s, 15m, 12h or 7d, nor a time"
        ) from error
    if since > now:
        raise click.BadParameter(f"{value!r} lies in the future")
    return max(0.0, since)


def moment(since: float) -> str:
    """Return a time in a form that `age` takes, rounded down to a second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
