"""A bare aiohttp client for the simulator."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from asyncsfk.simulator import Simulator


@dataclass
class Reply:
    """A whole answer."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        assert self.status == 200, self.body
        return self.json["data"]

    @property
    def code(self):
        error = self.json["error"]
        assert isinstance(error["message"], str)
        assert error["requestId"].startswith("req_")
        return error["code"]


class Asker:
    """Asks one simulator."""

    def __init__(self, sim, session):
        self.sim = sim
        self.session = session

    async def get(self, path, *, headers=None, method="GET", **params):
        async with self.session.request(
            method,
            self.sim.url + path,
            params=params,
            headers={"x-api-key": self.sim.api_key} if headers is None else headers,
            allow_redirects=False,
        ) as answer:
            return Reply(answer.status, dict(answer.headers), await answer.read())

    async def page(self, handle, *, cursor=None, region=None):
        params = {"cursor": cursor, "region": region}
        params = {name: value for name, value in params.items() if value is not None}
        return await self.get(f"/v1/tiktok/profiles/{handle}/showcase-products", **params)

    async def showcase(self, handle, region=None):
        products, cursor = [], None
        while True:
            data = (await self.page(handle, cursor=cursor, region=region)).data
            products += data["products"]
            cursor = data["page"]["nextCursor"]
            assert data["page"]["hasMore"] == (cursor is not None)
            if cursor is None:
                return products

    async def raw(self, target, *, headers=(), method="GET"):
        """Send a target unchanged on a connection of its own; give all bytes that come back."""
        url = self.sim.url.removeprefix("http://")
        host, port = url.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [f"{method} {target} HTTP/1.1", f"Host: {url}", f"x-api-key: {self.sim.api_key}"]
        lines += ["Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        try:
            return await reader.read()
        finally:
            writer.close()

    async def raw_status(self, target, **options):
        return int((await self.raw(target, **options)).split(b" ", 2)[1])


@pytest.fixture
def simulate():
    """Give a way to start a simulator and get its asker."""

    @asynccontextmanager
    async def start(seed=0, **options):
        async with (
            Simulator(seed, **options) as sim,
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        ):
            yield Asker(sim, session)

    return start


@pytest.fixture
async def ask(simulate):
    async with simulate() as asker:
        yield asker
