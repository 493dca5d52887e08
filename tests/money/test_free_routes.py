"""What is free by contract, whatever its answers say, and what only a caller took for free."""

import json

import pytest

from asyncsfk import BudgetReachedError, PriceRaised
from tests.support import failure, http, told


def costing(credits, data):
    """Give an answer that says what it cost."""
    return http(200, json.dumps({"data": data, "meta": {"creditsCharged": credits}}).encode())


@pytest.mark.parametrize("call", ["balance", "whoami"])
async def test_free_routes_are_never_refused(call):
    """One that says it cost something is counted, and had again though the ceiling is reached."""
    events = []
    answer = costing(2, {"balance": 7, "user": {"id": "u1"}})
    async with told(answer, keep=True, max_credits=2, on_event=events.append) as (server, client):
        for _ in range(3):
            await getattr(client, call)()
        assert server.hits == 3
        assert client.budget.charged == 6
        assert await failure(client.showcase_page("x"), BudgetReachedError)
    assert not [event for event in events if isinstance(event, PriceRaised)]


async def test_what_a_caller_called_free_is_free_until_it_costs():
    """A price of nothing is believed until the first answer says another; then that is reserved."""
    events = []
    async with told(costing(2, {}), keep=True, max_credits=3, on_event=events.append) as (
        server,
        client,
    ):
        await client.get("/v1/a", price=0)
        await failure(client.get("/v1/a", price=0), BudgetReachedError)
        assert server.hits == 1
    (raised,) = [event for event in events if isinstance(event, PriceRaised)]
    assert (raised.expected, raised.charged) == (0, 2)
