"""Opaque cursors, which need no table and hold every character that clients get wrong.

A cursor is bound to its seed, handle and region by a keyed digest, and must come back as exactly
the string that was given out: one that was decoded twice, normalised, cut or altered is refused.
"""

from typing import Final, NamedTuple

from asyncsfk.simulator._dice import digest

#: One for each value of six bits: what is special in queries, and letters of 1 to 4 bytes of UTF-8.
_ALPHABET: Final = "+/=%&?#;:@ $'\"<>[]{}|\\^`~!*().,-_ABCDEFabcdef23456789éßñΩжשعक漢字😀"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_LETTERS: Final = 20
_MAC_BYTES: Final = 11
_OFFSETS: Final = 2**24
_LAPS: Final = 2**8


class Place(NamedTuple):
    """Where a cursor leads: the product it starts at, and which of the cursors to there it is."""

    offset: int
    lap: int = 0

    @property
    def is_last_lap(self) -> bool:
        """Tell whether no further cursor leads to the same offset."""
        return self.lap == _LAPS - 1


def make_cursor(key: bytes, handle: str, region: str | None, place: Place) -> str:
    """Make the cursor to a place in a creator's showcase."""
    sealed = place.offset % _OFFSETS * _LAPS + place.lap
    market = "-" if region is None else region.upper()
    mac = digest(key, f"cursor:{handle.lower()}:{market}:{sealed}", _MAC_BYTES)
    bits = int.from_bytes(mac, "big") << 32 | sealed ^ _mask(key, mac)
    letters = [_ALPHABET[bits >> shift & 63] for shift in range(6 * (_LETTERS - 1), -1, -6)]
    text = "".join(letters)
    return f"{text[:5]}+{text[5:9]}/{text[9:13]}=%2B&{text[13:17]} e\u0301漢{text[17:]}=="


def read_cursor(key: bytes, handle: str, region: str | None, cursor: str) -> Place | None:
    """Find out where a cursor leads; None if it was not made for this handle and region."""
    letters = cursor[:5] + cursor[6:10] + cursor[11:15] + cursor[20:24] + cursor[28:31]
    bits = 0
    for letter in letters:
        bits = bits << 6 | _VALUES.get(letter, 0)
    mac = (bits >> 32 & 2 ** (8 * _MAC_BYTES) - 1).to_bytes(_MAC_BYTES, "big")
    place = Place(*divmod(bits & 0xFFFFFFFF ^ _mask(key, mac), _LAPS))
    return place if make_cursor(key, handle, region, place) == cursor else None


def _mask(key: bytes, mac: bytes) -> int:
    return int.from_bytes(digest(key, "mask:" + mac.hex(), 4), "big")
