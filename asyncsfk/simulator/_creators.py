"""Creators: everything about one follows from the seed and the handle, whatever its case."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from asyncsfk.simulator._dice import Dice, mix, normal
from asyncsfk.simulator._words import ADJECTIVES, HOMES, NOUNS

AccountStatus: TypeAlias = Literal["found", "private", "not_found"]

#: What a TikTok handle is; nothing of dots alone, which a path would swallow.
HANDLE: Final = re.compile(r"(?!\.+\Z)[A-Za-z0-9_.]{1,64}")

_FORCED_COUNT: Final = re.compile(r"\.([0-9]{1,5})products\Z")
_FOREIGN: Final = frozenset("/:?#& ")
_MEDIAN: Final = 18
_SPREAD: Final = 1.2
_LONGEST: Final = 1_200
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Creator:
    """What is fixed about one creator."""

    handle: str
    status: AccountStatus
    products: int
    home: str
    serial: int


def bare(handle: str) -> str:
    """Return a handle, given with or without `@` and in any case, as the API writes it."""
    if not _FOREIGN.isdisjoint(handle):
        # A URL, say, would silently match nothing.
        raise ValueError(f"a handle, not {handle!r}")
    return handle.removeprefix("@").lower()


def named(handle: str) -> str:
    """Return a handle as `bare` does; refuse one that the API would not take."""
    name = bare(handle)
    if not HANDLE.fullmatch(name):
        raise ValueError(f"a handle, not {handle!r}")
    return name


def creator(key: bytes, handle: str) -> Creator:
    """Derive a creator from a handle in any case."""
    handle = handle.lower()
    dice = Dice(key, "creator:" + handle)
    serial = dice.below(2**48)
    home = dice.pick(HOMES)
    fate = dice.below(100)
    status: AccountStatus = "found"
    count = _long_tailed(dice)
    if handle.startswith("unknown_"):
        status, count = "not_found", 0
    elif handle.startswith("private_"):
        status, count = "private", 0
    elif handle.startswith("empty_"):
        count = 0
    elif forced := _FORCED_COUNT.search(handle):
        count = int(forced[1])
    elif fate < 4:  # noqa: PLR2004 - of a hundred
        status, count = "private", 0
    elif fate < 12:  # noqa: PLR2004 - of a hundred
        count = 0
    return Creator(handle, status, count, home, serial)


def handles(seed: int, count: int, start: int) -> Iterator[str]:
    """Yield the handles of the creators number `start` to `start + count - 1`."""
    for index in range(start, start + count):
        bits = mix(seed ^ mix(index))
        bits, adjective = divmod(bits, len(ADJECTIVES))
        bits, noun = divmod(bits, len(NOUNS))
        yield f"{ADJECTIVES[adjective]}{NOUNS[noun]}{'._'[bits & 1]}{_base36(index)}"


def _base36(index: int) -> str:
    digits = ""
    while index >= 36:  # noqa: PLR2004 - the base
        index, digit = divmod(index, 36)
        digits = _DIGITS[digit] + digits
    return _DIGITS[index] + digits


def _long_tailed(dice: Dice) -> int:
    count = round(_MEDIAN * math.exp(_SPREAD * normal(dice.unit(), dice.unit())))
    return min(_LONGEST, max(1, count))
