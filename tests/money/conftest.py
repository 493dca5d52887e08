"""A file for an archive, a simulator that takes a second, and a client of it that tries again."""

import pytest

from asyncsfk import Archive, Retry
from asyncsfk.simulator import Latency, Simulator
from tests.support import client_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.sfk"


@pytest.fixture
async def sim():
    async with Simulator(latency=Latency.fixed(1)) as sim:
        yield sim


@pytest.fixture
async def client(sim):
    async with client_of(sim, retry=Retry()) as client:
        yield client


@pytest.fixture
async def archive(path):
    async with Archive(path) as archive:
        yield archive
