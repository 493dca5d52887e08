"""Waiting that a cancellation does not cut short."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import anyio

R = TypeVar("R")


async def to_the_end(work: asyncio.Future[R]) -> R:
    """Wait for work even when cancelled, and return its result; cancelled twice, it is left."""
    with anyio.CancelScope(shield=True):
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            await asyncio.wait({work})
            # Being cancelled is what counts.
            work.exception()
            raise
    return work.result()
