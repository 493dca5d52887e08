"""Which showcases a file cannot hold, told without looking."""

from __future__ import annotations

from typing import Final

_BITS: Final = 23
_MASK: Final = (1 << _BITS) - 1


class Heard:
    """Remembers showcases in a fixed megabyte, and never forgets one; may think that it has more.

    A Bloom filter of two bits each: of a million that were never added, it takes some 5% for added.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << _BITS - 3)

    def add(self, handle: str, region: str) -> None:
        """Remember a showcase."""
        bits, seed = self._bits, hash((handle, region))
        one, other = seed & _MASK, seed >> _BITS & _MASK
        bits[one >> 3] |= 1 << (one & 7)
        bits[other >> 3] |= 1 << (other & 7)

    def may_have(self, handle: str, region: str) -> bool:
        """Tell whether a showcase may have been added; if not, it was not."""
        bits, seed = self._bits, hash((handle, region))
        one, other = seed & _MASK, seed >> _BITS & _MASK
        return bool(bits[one >> 3] >> (one & 7) & bits[other >> 3] >> (other & 7) & 1)
