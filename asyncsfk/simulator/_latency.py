"""How long the server takes."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from asyncsfk.simulator._dice import normal

Shape: TypeAlias = Literal["fixed", "uniform", "lognormal"]


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of delays in seconds; made by `fixed`, `uniform` or `lognormal`.

    What is drawn for a request depends on the simulator's seed, on the page asked for and on how
    often it was asked for before, not on the order in which requests arrive.
    """

    shape: Shape
    low: float
    high: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in get_args(Shape):
            raise ValueError(f"a latency is one of {get_args(Shape)}, not {self.shape!r}")
        if not 0 <= self.low <= self.high < math.inf or not 0 <= self.sigma < math.inf:
            raise ValueError("a latency needs finite seconds from 0 up, the lower first")

    @classmethod
    def fixed(cls, seconds: float) -> "Latency":
        """Always take this long."""
        return cls("fixed", seconds, seconds)

    @classmethod
    def uniform(cls, low: float, high: float) -> "Latency":
        """Take any time between the two, all equally likely."""
        return cls("uniform", low, high)

    @classmethod
    def lognormal(cls, median: float, sigma: float = 0.5, cap: float = 30.0) -> "Latency":
        """Take about the median, sometimes far longer, never longer than the cap."""
        return cls("lognormal", median, cap, sigma)

    def sample(self, first: float, second: float) -> float:
        """Turn two random numbers in [0, 1) into seconds."""
        match self.shape:
            case "fixed":
                return self.low
            case "uniform":
                return self.low + (self.high - self.low) * first
            case "lognormal":
                exponent = min(self.sigma * normal(first, second), 700.0)
                return min(self.high, self.low * math.exp(exponent))


def check_latency(latency: object) -> None:
    """Refuse what is no latency, such as a number of seconds."""
    if not isinstance(latency, Latency):
        raise TypeError(f"a latency is made by Latency.fixed() and the like, not {latency!r}")
