"""On what terms calls are made: who answers for their cost, and where answers are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncsfk._page_cache import PageCache
    from asyncsfk.budget import Budget
    from asyncsfk.usage import Meter


class Payer(NamedTuple):
    """A run, or a client for a call alone.

    Attributes:
        own: Its budgets, in which its calls are reserved.
        meter: Where a run's cost is counted; none for a client, which counts each attempt itself.
        job: Budgets of the archive that is written to, which come and go with its runs.
    """

    own: tuple[Budget, ...]
    meter: Meter | None = None
    job: Sequence[Budget] = ()

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets in which the next request is reserved before it is sent."""
        return distinct(*self.own, *self.job) if self.job else self.own


class Terms(NamedTuple):
    """On what terms a call is made: who answers for its cost, and where its answer is kept."""

    payer: Payer
    cache: PageCache | None = None


def distinct(*budgets: Budget) -> tuple[Budget, ...]:
    """Return budgets without duplicates, so that nothing is reserved in one of them twice."""
    return tuple(dict.fromkeys(budgets))
