"""Compares a run's result with what a simulator knows to be true."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncsfk import Outcome, Usage
    from asyncsfk.simulator import Simulator

_MANY: Final = 20  # creators: of so many, at least half are complete whatever the faults


@dataclass
class Proof:
    """Checks each outcome against the simulator's truth, and the whole run against its ledger.

    Attributes:
        simulator: What was fetched from.
        outcomes: How many creators ended with each status.
        causes: By status and name of an error: how many creators it kept from being complete.
        equal: Complete creators whose products are the simulator's, one by one.
        prefixes: Partial creators whose products are the first of the simulator's, one by one.
    """

    simulator: Simulator
    outcomes: Counter[str] = field(default_factory=Counter[str])
    causes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    equal: int = 0
    prefixes: int = 0

    def check(self, outcome: Outcome) -> None:
        """Compare a creator's products with the truth."""
        self.outcomes[outcome.status] += 1
        if outcome.error is not None:
            self.causes[outcome.status, type(outcome.error).__name__] += 1
        received = [product.to_dict() for product in outcome.products]
        truth = self.simulator.showcase(outcome.handle)
        if outcome.status == "complete":
            self.equal += received == truth
        elif outcome.status == "partial":
            self.prefixes += received == truth[: len(received)]

    def failures(self, usage: Usage, creators: int) -> list[str]:
        """Return in words what does not hold; empty if the proof holds."""
        ledger = self.simulator.ledger
        most = usage.charged + usage.maybe
        claims = {
            f"{creators} creators were asked for and {self.outcomes.total()} had an outcome": (
                self.outcomes.total() == creators
            ),
            f"the ledger's {ledger.charged} credits lie outside of {usage.charged} to {most}": (
                usage.charged <= ledger.charged <= most
            ),
            f"the simulator saw {ledger.requests} requests and we counted {usage.requests}": (
                ledger.requests <= usage.requests
            ),
            f"{self.outcomes['complete'] - self.equal} complete creators differ from the truth": (
                self.equal == self.outcomes["complete"]
            ),
            f"{self.outcomes['partial'] - self.prefixes} partial creators differ from the truth": (
                self.prefixes == self.outcomes["partial"]
            ),
        }
        if creators >= _MANY:
            # If no creator were complete, the claims about complete ones would prove nothing.
            claims[f"only {self.outcomes['complete']} of {creators} creators are complete"] = (
                self.outcomes["complete"] * 2 >= creators
            )
        return [claim for claim, holds in claims.items() if not holds]
