"""A simulator that takes a second, and a client of it that tries again."""

import pytest

from asyncsfk import Retry
from asyncsfk.simulator import Latency, Simulator
from tests.support import client_of


@pytest.fixture
def page_size():
    return 20


@pytest.fixture
async def sim(page_size):
    async with Simulator(latency=Latency.fixed(1), page_size=page_size) as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with client_of(sim, retry=Retry()) as client:
        yield client
