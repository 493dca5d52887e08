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
    """Wait for one thing after another even when cancelled; a second cancellation ends the wait.

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


def check_may_close(loop: asyncio.AbstractEventLoop, refusal: str) -> None:
    """Refuse to close in this event loop what another has in use.

    One that has ended cannot close it any more, so then any other may.

    Raises:
        ClientStateError: The other one is running; its message is the refusal.
    """
    if loop is not asyncio.get_running_loop() and loop.is_running():
        raise ClientStateError(refusal)


async def to_the_end(work: asyncio.Future[R]) -> R:
    """Wait for work even when cancelled, and return its result; cancelled twice, leave it alone.

    Args:
        work: Something that nobody cancels, such as the work of a thread.
    """
    try:
        await wait_out(lambda: None if work.done() else work)
    except asyncio.CancelledError:
        # The cancellation is raised, so take the error of the work, if it ends with one: asyncio
        # complains of errors that nobody took.
        work.add_done_callback(lambda done: done.exception())
        raise
    return work.result()


class Closing:
    """Closes something once, to the end, for all who want it closed.

    A task of its own does it, so that cancelling a caller does not cut it short: a caller that is
    cancelled still waits for the end, and when cancelled again leaves the task to go on alone.

    Args:
        close: Does it; what it raises is raised to all who wait.
    """

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._close = close
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self._error: BaseException | None = None

    async def __call__(self) -> None:
        """Begin to close, if nobody has, and wait for the end; does nothing once it is over.

        Raises:
            ClientStateError: It is being closed in another event loop.
        """
        if self._is_over or self._was_left_elsewhere():
            return
        self.begin()
        await wait_out(lambda: None if self._is_over else self._task)
        if self._error is not None:
            raise self._error

    def _was_left_elsewhere(self) -> bool:
        """Tell whether it was begun in another event loop, which has ended without it."""
        if self._task is None:
            return False
        loop = self._task.get_loop()
        check_may_close(loop, "it is being closed in another event loop")
        return loop is not asyncio.get_running_loop()

    def begin(self) -> None:
        """Begin to close, if nobody has, and do not wait."""
        if self._task is None:
            self._start()

    def _start(self, _: object = None) -> None:
        # A task that was cancelled before its first step has run nothing. Another begins here,
        # since all who wait for it may have been cancelled too.
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
