"""Opaque cursors, which need no table and hold every character that clients get wrong."""

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


class Cursors:
    """Makes and reads the cursors of one seed.

    A cursor is bound to its handle and region by a keyed digest, and must come back as exactly the
    string that was given out: one that was decoded twice, normalised, cut or altered is refused.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, handle: str, region: str | None, place: Place) -> str:
        """Make the cursor to a place in a creator's showcase."""
        sealed = place.offset % _OFFSETS << 8 | place.lap % _LAPS
        mac = digest(self._key, f"cursor:{handle.lower()}:{_market(region)}:{sealed}", _MAC_BYTES)
        bits = int.from_bytes(mac, "big") << 32 | sealed ^ self._mask(mac)
        letters = [_ALPHABET[bits >> shift & 63] for shift in range(6 * (_LETTERS - 1), -1, -6)]
        text = "".join(letters)
        return f"{text[:5]}+{text[5:9]}/{text[9:13]}=%2B&{text[13:17]} e\u0301漢{text[17:]}=="

    def read(self, cursor: str, handle: str, region: str | None) -> Place | None:
        """Find out where a cursor leads; None if it was not made for this handle and region."""
        letters = cursor[:5] + cursor[6:10] + cursor[11:15] + cursor[20:24] + cursor[28:31]
        bits = 0
        for letter in letters:
            bits = bits << 6 | _VALUES.get(letter, 0)
        mac = (bits >> 32 & 2 ** (8 * _MAC_BYTES) - 1).to_bytes(_MAC_BYTES, "big")
        offset, lap = divmod(bits & 0xFFFFFFFF ^ self._mask(mac), _LAPS)
        place = Place(offset, lap)
        return place if self.make(handle, region, place) == cursor else None

    def _mask(self, mac: bytes) -> int:
        return int.from_bytes(digest(self._key, "mask:" + mac.hex(), 4), "big")


def _market(region: str | None) -> str:
    return "-" if region is None else region.upper()
