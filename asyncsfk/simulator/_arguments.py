"""Refusals of arguments: with one that means nothing, a test would prove nothing."""

import json
import math
import re
from typing import Final, NoReturn

_HEADER: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")


def check_whole(name: str, number: int, least: float = -math.inf, most: float = math.inf) -> int:
    """Return a number; refuse it if it is not a whole one from `least` to `most`."""
    if type(number) is not int or not least <= number <= most:
        lowest = "" if least == -math.inf else f" from {least} up"
        highest = "" if most == math.inf else f" to {most}"
        raise ValueError(f"{name} is a whole number{lowest}{highest}, not {number!r}")
    return number


def check_seconds(seconds: float) -> None:
    """Refuse a time that nobody can wait for."""
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a time is finite seconds from 0 up, not {seconds!r}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false, such as "no", which would be taken for true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is either True or False, not {value!r}")


def check_text(name: str, value: object) -> None:
    """Refuse what is no text; None is none that is sent."""
    if not isinstance(value, str | None):
        raise TypeError(f"{name} is a string, not {value!r}")


def check_header(name: str, value: object) -> None:
    """Refuse what cannot be sent in a header as it is, such as a number of seconds."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is sent as it is: a string, not {value!r}")
    if not _HEADER.fullmatch(value):
        raise ValueError(f"{name} is sent in a header, which cannot hold {value!r}")


def check_no_json(token: object) -> None:
    """Refuse a number that JSON does have, and that a client could read."""
    if not isinstance(token, str):
        raise TypeError(f"a token is a string, not {token!r}")
    try:
        value: object = json.loads(token, parse_constant=_no_constant)
    except ValueError:
        return
    if not isinstance(value, float) or math.isfinite(value):
        raise ValueError(f"a token is a number that JSON does not have, not {token!r}")


def _no_constant(token: str) -> NoReturn:
    # Python's reader takes NaN and the like.
    raise ValueError(token)
