"""Refusals of arguments, before anything is sent."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Mapping
from typing import Final

from asyncsfk._text import described
from asyncsfk.errors import InvalidArgumentError, SfkError

_COUNTRY: Final = re.compile(r"[A-Za-z]{2}")


def check_count(
    name: str, value: object, *, least: int = 1, error: type[SfkError] = InvalidArgumentError
) -> None:
    """Refuse what is not a whole number from ``least`` up to `sys.maxsize`.

    Raises:
        SfkError: It is none; raised as an ``error``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise error(f"{name} must be a whole number of {least} or more, not {described(value)}")
    if value > sys.maxsize:
        raise error(f"{name} must be {sys.maxsize} or less")


def check_flag(name: str, value: object, *, error: type[SfkError] = InvalidArgumentError) -> None:
    """Refuse what is no bool: a word from a settings file, ``"false"`` say, would count as true.

    Raises:
        SfkError: It is none; raised as an ``error``.
    """
    if not isinstance(value, bool):
        raise error(f"{name} must be True or False, not {described(value)}")


def check_callback(
    name: str, value: object, *, error: type[SfkError] = InvalidArgumentError
) -> None:
    """Refuse what is neither ``None`` nor a function that can be called without being awaited.

    Raises:
        SfkError: It is neither; raised as an ``error``.
    """
    if value is not None and not _is_plain_function(value):
        raise error(
            f"{name} must be a plain function, one that nobody awaits, not {described(value)}"
        )


def check_limit(name: str, value: object) -> None:
    """Refuse a limit that is neither ``None`` nor a whole number of 1 or more.

    Raises:
        InvalidArgumentError: It is neither.
    """
    if value is not None:
        check_count(name, value)


def check_seconds(
    name: str, value: object, *, error: type[SfkError] = InvalidArgumentError
) -> None:
    """Refuse what is no finite number of seconds of 0 or more.

    Raises:
        SfkError: It is none; raised as an ``error``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise error(f"{name} must be a number of seconds, not {described(value)}")
    if not 0 <= value <= sys.float_info.max:
        raise error(f"{name} must be a number of seconds from 0 on: {described(value)}")


def check_mapping(name: str, value: object) -> None:
    """Refuse what is neither ``None`` nor a mapping.

    Raises:
        InvalidArgumentError: It is neither.
    """
    if not isinstance(value, Mapping | None):
        raise InvalidArgumentError(f"{name} must be a mapping of names, not {described(value)}")


def plain_token(name: str, value: object) -> str | None:
    """Return a cursor or the like, as `plain_text` does; ``None`` if it is not given.

    Raises:
        InvalidArgumentError: It is empty, no string, or not Unicode text.
    """
    return None if value is None else plain_text(name, value)


def plain_text(name: str, value: object) -> str:
    """Return a text that is sent as it is, as a `str` proper.

    What is sent turns up in answers, errors and events, and msgspec cannot write strings of other
    classes, such as numpy's.

    Raises:
        InvalidArgumentError: It is empty, no string, or not Unicode text.
    """
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(
            f"{name} must be a string that is not empty, not {described(value)}"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{name} is not Unicode text: {error}") from error
    return str.__str__(value)


def region_code(value: object) -> str | None:
    """Return a country code in capitals, the one form in which it is sent and archived.

    Anything else the API would refuse for each creator of a list or, worse, charge for.

    Raises:
        InvalidArgumentError: It is not a code of two letters.
    """
    if value is None:
        return None
    # Checked before `upper`, which makes two of these letters out of some others.
    if isinstance(value, str) and _COUNTRY.fullmatch(value):
        # Of `str` itself, as another class may return its own: see `plain_text`.
        return str.upper(value)
    raise InvalidArgumentError(
        f"region must be a country code of two letters, e.g. US, not {described(value)}"
    )


def is_path(value: object) -> bool:
    """Tell if something can be the path of a file."""
    return isinstance(value, os.PathLike) or (isinstance(value, str) and bool(value))


def _is_plain_function(value: object) -> bool:
    return callable(value) and not any(
        inspect.iscoroutinefunction(one) for one in (value, type(value).__call__)
    )
