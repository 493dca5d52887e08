"""A local Social Fetch to test against.

    async with Simulator(seed=7) as sim:
        async with Client(base_url=sim.url, api_key=sim.api_key) as client:
            ...

`Simulator` serves all routes over real sockets, from a world that is derived from a seed. `Fault`
makes it go wrong, by chance or by script; `Latency` makes it slow. Its `Ledger` knows every
request, what was charged for it and whether the answer went out whole. `Simulator.showcase` and
methods like it return the truth, to compare answers with.

All waiting goes by the event loop's clock, so with a virtual one it takes no real time.
"""

from asyncsfk.simulator._calls import Route
from asyncsfk.simulator._faults import CURABLE, FATAL, Fault, When
from asyncsfk.simulator._latency import Latency
from asyncsfk.simulator._ledger import Entry, Ledger, Page
from asyncsfk.simulator._server import Simulator

__all__ = [
    "CURABLE",
    "FATAL",
    "Entry",
    "Fault",
    "Latency",
    "Ledger",
    "Page",
    "Route",
    "Simulator",
    "When",
]
