"""What requests under way may be charged, and how much of that is on file."""

from __future__ import annotations


class Exposed:
    """The credits that a request under way may be charged, while its cost is unknown."""

    __slots__ = ("credits", "route")

    def __init__(self, credits: int, route: str) -> None:
        self.credits = credits
        self.route = route


class ExposedCredits:
    """The credits of all requests under way.

    More than that is put on file, so that few requests have to wait for it.

    Attributes:
        in_air: The requests whose end nobody has told.
        landing: Those of them that have ended and are counted as charged or maybe, but are not on
            file yet.
        credits: What is at stake, for requests that nobody waits for any more, too.
        covered: How many credits are known to be on file as exposed.
        filed: How many are at most.
    """

    def __init__(self) -> None:
        self.in_air: set[Exposed] = set()
        self.landing: set[Exposed] = set()
        self.credits = 0
        self.covered = 0
        self.filed = 0

    @property
    def unknown(self) -> int:
        """Credits of requests whose cost is not known yet."""
        return self.credits - sum(landing.credits for landing in self.landing)

    @property
    def is_covered(self) -> bool:
        """Whether all of it is on file."""
        return self.credits <= self.covered

    def add(self, credits: int, route: str) -> Exposed:
        """Take note of a request that is going to be sent."""
        exposed = Exposed(credits, route)
        self.in_air.add(exposed)
        self.credits += credits
        return exposed

    def raise_price(self, route: str, price: int) -> None:
        """Take note that what is under way on a route may cost more than was known."""
        for exposed in self.in_air - self.landing:
            if exposed.route == route and exposed.credits < price:
                self.credits += price - exposed.credits
                exposed.credits = price

    def cover(self) -> int:
        """Return how many credits to put on file: all and some more, for those to come."""
        cover = 1 << (self.credits - 1).bit_length()
        # Even if nobody waits until that is written.
        self.filed = max(self.filed, cover)
        return cover

    def withdraw(self, exposed: Exposed) -> None:
        """Take back what was exposed: it was not sent, or its cost is on file."""
        self.credits -= exposed.credits
        self.landing.discard(exposed)
