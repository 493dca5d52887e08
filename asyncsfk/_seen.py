"""Which handles a run has seen."""

from __future__ import annotations

from hashlib import blake2b

from asyncsfk._text import described


def fingerprint(given: object) -> str:
    """Return a short text that tells an invalid handle from all others, valid or not."""
    try:
        text = repr(given)
    except Exception:  # noqa: BLE001 - a foreign class's repr, or an int with too many digits
        text = described(given)
    return "!" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class SeenHandles:
    """Remembers every handle exactly, in some 25 bytes each; a set of strings takes over 100.

    The handles are kept as lines of a few thousand byte strings, each short enough to be searched
    quickly.
    """

    _BUCKETS = 1 << 13

    def __init__(self) -> None:
        self._lines: dict[int, bytes] = {}

    def add(self, handle: str) -> bool:
        """Remember a handle (without a line break) and tell whether it is new."""
        if handle in self:
            return False
        bucket = hash(handle) % self._BUCKETS
        self._lines[bucket] = b"%b%b\n" % (self._lines.get(bucket, b"\n"), handle.encode())
        return True

    def __contains__(self, handle: str) -> bool:
        line = b"\n%b\n" % handle.encode()
        return line in self._lines.get(hash(handle) % self._BUCKETS, b"\n")
