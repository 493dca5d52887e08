"""A Bloom filter: tells without looking which showcases a file cannot hold."""

from __future__ import annotations

from typing import Final

_BITS: Final = 23
_MASK: Final = (1 << _BITS) - 1


class BloomFilter:
    """Remembers showcases in a fixed megabyte: forgets none, but may take others for one of them.

    It has two bits for each: with a million in it, it is wrong about one in twenty others.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << _BITS - 3)

    def add(self, handle: str, region: str) -> None:
        """Remember a showcase."""
        for bit in _bits_of(handle, region):
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def may_have(self, handle: str, region: str) -> bool:
        """Tell whether a showcase may have been added; if not, it was not."""
        return all(self._bits[bit >> 3] >> (bit & 7) & 1 for bit in _bits_of(handle, region))


def _bits_of(handle: str, region: str) -> tuple[int, int]:
    seed = hash((handle, region))
    return seed & _MASK, seed >> _BITS & _MASK
