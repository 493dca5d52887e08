"""Which fault strikes a request, and how long it takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from asyncsfk.simulator import _actions as actions
from asyncsfk.simulator._calls import Call, Route
from asyncsfk.simulator._cursors import Place
from asyncsfk.simulator._dice import mix, number, unit
from asyncsfk.simulator._faults import Fault
from asyncsfk.simulator._latency import Latency, check_latency
from asyncsfk.simulator._ledger import Entry
from asyncsfk.simulator._world import World

_STEP: Final = 0xD1342543DE82EF95
_PAGED: Final = frozenset({Route.SHOWCASE, Route.REVIEWS})


@dataclass(frozen=True, slots=True)
class Strike:
    """What befalls a request."""

    name: str | None
    action: actions.Action | None
    delay: float
    faults: tuple[int, ...] = ()


_CALM: Final = Strike(None, None, 0.0)


class FaultInjector:
    """Decides about requests one by one, remembering only how often each fault struck."""

    def __init__(self, world: World, faults: Iterable[Fault], latency: Latency | None) -> None:
        if latency is not None:
            check_latency(latency)
        self._world = world
        self._latency = latency
        self.faults: tuple[Fault, ...] = ()
        self._struck: list[int] = []
        self.replace(faults)

    def replace(self, faults: Iterable[Fault]) -> None:
        """Put other faults in place; none of them has struck yet."""
        self.faults = tuple(map(_checked, faults))
        self._struck = [0] * len(self.faults)

    def add(self, fault: Fault) -> None:
        """Add a fault after those there are."""
        self.faults += (_checked(fault),)
        self._struck.append(0)

    def decide(self, entry: Entry, call: Call, place: Place, before: int) -> Strike:
        """Decide what befalls a request whose page was asked for `before` times already."""
        if not self.faults and self._latency is None:
            return _CALM
        dice = number(self._world.key, f"weather:{entry.page!r}:{before}")
        delay = self._latency.sample(*_two_units(dice)) if self._latency else 0.0
        delayed: str | None = None
        chosen: Fault | None = None
        striking: list[int] = []
        for index, fault in enumerate(self.faults):
            fate = mix(dice ^ (index + 1) * _STEP)
            if unit(fate) >= fault.probability or not self._matches(index, entry, place):
                continue
            if isinstance(fault.action, actions.Delay):
                delay += fault.action.latency.sample(*_two_units(fate))
                delayed = fault.name
            elif chosen is None and self._applies(fault.action, call, place):
                chosen = fault
            else:
                continue
            striking.append(index)
        if chosen is None:
            return Strike(delayed, None, delay, tuple(striking))
        return Strike(chosen.name, chosen.action, delay, tuple(striking))

    def count(self, strike: Strike) -> None:
        """Take note that the faults of a strike have struck."""
        for index in strike.faults:
            self._struck[index] += 1

    def _matches(self, index: int, entry: Entry, place: Place) -> bool:
        fault = self.faults[index]
        return (
            (fault.times is None or self._struck[index] < fault.times)
            and (fault.requests is None or entry.number in fault.requests)
            and (fault.handles is None or entry.page.handle in fault.handles)
            and (fault.routes is None or entry.route in fault.routes)
            and (fault.pages is None or place.offset // self._world.page_size + 1 in fault.pages)
        )

    def _applies(self, action: actions.Action, call: Call, place: Place) -> bool:
        match action:
            case actions.EmptyPage():
                return call.route is Route.SHOWCASE and not place.is_last_lap
            case actions.CursorLoop() | actions.NoCursor():
                return call.route in _PAGED
            case actions.CursorWithoutMore():
                return call.route in _PAGED and not self._world.has_more(call, place)
            case _:
                return True


def _checked(fault: object) -> Fault:
    if not isinstance(fault, Fault):
        kind = type(fault).__name__
        raise TypeError(f"faults are made by Fault.status() and the like: this is a {kind}")
    return fault


def _two_units(dice: int) -> tuple[float, float]:
    return unit(mix(dice ^ 1)), unit(mix(dice ^ 2))
