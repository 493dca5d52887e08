"""What requests have cost so far."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Usage"]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What was sent, received and paid; adds up with ``+`` and ``sum``.

    Every page, outcome, run, client and error has a ``usage``. The true cost lies between
    ``charged`` and ``charged + maybe``.

    Attributes:
        requests: HTTP attempts made, failed ones included.
        retries: How many of those attempts followed a failed one.
        charged: Credits that the API said it charged (``meta.creditsCharged``).
        maybe: Credits that may have been charged for attempts of which nobody can know: timeouts
            after sending, lost connections, answers that cannot be read, redirects, 5xx other than
            503, statuses that the API does not use, requests that were cancelled.
        bytes: Body bytes received, as they came over the wire.
        pages: Pages received, or taken from an archive.
        products: Products on those pages.
        archived: How many of the pages came from an archive, at no cost.
    """

    requests: int = 0
    retries: int = 0
    charged: int = 0
    maybe: int = 0
    bytes: int = 0
    pages: int = 0
    products: int = 0
    archived: int = 0

    def __add__(self, other: object) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            self.requests + other.requests,
            self.retries + other.retries,
            self.charged + other.charged,
            self.maybe + other.maybe,
            self.bytes + other.bytes,
            self.pages + other.pages,
            self.products + other.products,
            self.archived + other.archived,
        )

    def __radd__(self, other: object) -> Usage:
        # sum() starts from 0.
        return self if other == 0 else NotImplemented


_NOTHING: Final = Usage()


class Meter:
    """A running total that many calls add to."""

    __slots__ = ("usage",)

    def __init__(self) -> None:
        self.usage = _NOTHING

    def add(self, usage: Usage) -> None:
        """Add what something cost."""
        # Most meters count one thing only.
        self.usage = usage if self.usage is _NOTHING else self.usage + usage
