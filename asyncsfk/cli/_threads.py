"""Blocking calls in threads that nobody has to wait for."""

from __future__ import annotations

import asyncio
import errno
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from asyncsfk.cli._exit import UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def call_in_thread(function: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Call a function that may block for as long as it likes; return a future of its result.

    In a daemon thread: one of a pool would keep an interrupted command from ending before it does.

    Raises:
        OSError: The system lets this process have no further thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        settle: Callable[[], None]
        try:
            settle = partial(done.set_result, function())
        except Exception as error:  # noqa: BLE001 - raised to whoever waits
            settle = partial(done.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if done.done() else settle())

    try:
        threading.Thread(target=call, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"no thread can be started for it: {error}") from error
    return done


async def opened(open_file: Callable[[str], T], path: str) -> T:
    """Open a file by its name, in a thread: a pipe waits for its other end, a terminal for a line.

    Args:
        open_file: Opens it.
        path: Its name.

    Raises:
        UnusableFileError: No thread can be started, or `open_file` cannot use the file.
    """
    try:
        opening = call_in_thread(partial(open_file, path), name="asyncsfk open")
    except OSError as error:
        raise UnusableFileError(path, error) from error
    return await opening
