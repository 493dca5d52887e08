"""Waiting that a cancellation does not cut short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from asyncsfk.errors import ClientStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

R = TypeVar("R")


async def wait_out(pending: Callable[[], asyncio.Future[Any] | None]) -> None:
    """Wait for one thing after the other even when cancelled; cancelled twice, they are left.

    Args:
        pending: Gives what to wait for next, until there is nothing.
    """
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while (work := pending()) is not None:
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError as error:
                if cancelled is not None:
                    raise
                cancelled = error
    if cancelled is not None:
        raise cancelled


async def to_the_end(work: asyncio.Future[R]) -> R:
    """Wait for work even when cancelled, and return its result; cancelled twice, it is left.

    Args:
        work: A thread's, say, that nobody cancels.
    """
    try:
        await wait_out(lambda: None if work.done() else work)
    except asyncio.CancelledError:
        # Being cancelled is what counts; asyncio would complain of an error that nobody took.
        work.add_done_callback(lambda done: done.exception())
        raise
    return work.result()


class Closing:
    """Closes something once, to the end, for all who want it closed.

    It is done in a task of its own, apart from those who wait for it: who is cancelled waits all
    the same, and leaves it to itself when cancelled again.

    Args:
        close: Does it; what it raises is raised to those who wait.
    """

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._close = close
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self._error: BaseException | None = None

    async def __call__(self) -> None:
        """Wait for its end, having begun it if nobody has; where it is over, nothing is done.

        Raises:
            ClientStateError: It goes on in another event loop.
        """
        if self._is_over or self._was_left_elsewhere():
            return
        self.begin()
        await wait_out(lambda: None if self._is_over else self._task)
        if self._error is not None:
            raise self._error

    def _was_left_elsewhere(self) -> bool:
        """Tell whether it was begun in an event loop that will not end it."""
        loop = None if self._task is None else self._task.get_loop()
        if loop is None or loop is asyncio.get_running_loop():
            return False
        if loop.is_running():
            raise ClientStateError("it is being closed in another event loop")
        return True

    def begin(self) -> None:
        """Let it be closed, if nobody has begun to."""
        if self._task is None:
            self._start()

    def _start(self, _: object = None) -> None:
        # A task that was cancelled before its first step has run no code at all: once more, though
        # all who wait may have been cancelled, too.
        if not self._is_over:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._start)

    async def _run(self) -> None:
        try:
            await self._close()
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._is_over = True
