"""A simulator that takes its time, and a client of it."""

import pytest

from asyncsfk.simulator import Latency, Simulator
from tests.archive.support import HANDLES, Editions, run_of
from tests.support import client_of, told


@pytest.fixture
async def sim():
    async with Simulator(latency=Latency.fixed(0.1)) as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with client_of(sim, concurrency=20) as client:
        yield client


@pytest.fixture
async def written(path):
    """Write an ordinary archive; give what its run cost."""
    async with Simulator() as sim, client_of(sim) as client:
        run, _ = await run_of(client, HANDLES, archive=path, verify_empty=True)
    return run.usage


@pytest.fixture
def editions():
    return Editions(pages=3)


@pytest.fixture
async def pair(editions):
    async with told(editions, keep=True, concurrency=8) as pair:
        yield pair


@pytest.fixture
def server(pair):
    return pair[0]
