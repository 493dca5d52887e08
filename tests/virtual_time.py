"""An event loop whose clock is virtual: waiting takes no real time, and sockets stay real."""

import asyncio
import contextlib
import selectors
import threading

import anyio
import anyio.to_thread

#: Where every virtual clock starts: not at 0, which too much code takes for "never".
START = 1000.0

#: Real seconds that the kernel gets before a jump. Bytes on loopback have nearly always arrived at
#: the first look; a connect, or a full send buffer, needs its other end to act, so it gets longer.
GRACE_QUIET = 0.001
GRACE_WRITING = 0.010

#: Real seconds that a thread of ours gets before a jump: a slow disk or machine must not matter.
GRACE_THREADS = 1.0

#: After PATIENCE turns at one moment, each further turn takes TICK seconds. A clock that stood
#: still for ever would trap code that sets a timer, finds when it fires that it is early by a
#: rounding error, and sets it again for the same moment.
PATIENCE = 100
TICK = 1e-7


class WatchedLoop(asyncio.SelectorEventLoop):
    """An ordinary selector event loop that can name what it watches.

    A callback from another thread is an error unless it comes by `call_soon_threadsafe`: as in
    debug mode, but without its cost, which would double a test's time.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        """Make a loop over a selector (by default the platform's best)."""
        self._watched = selector or selectors.DefaultSelector()
        super().__init__(self._watched)
        self._thread = threading.get_ident()
        self.slow_callback_duration = float("inf")

    def call_soon(self, callback, *args, context=None):
        """Call a callback in the loop's next turn."""
        self._must_be_ours()
        return super().call_soon(callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        """Call a callback at a time of the loop's clock."""
        self._must_be_ours()
        return super().call_at(when, callback, *args, context=context)

    def _must_be_ours(self):
        if threading.get_ident() != self._thread:
            raise RuntimeError("a thread called what is not thread-safe of the loop")

    def open_files(self) -> set[object]:
        """Return the sockets and pipes that the loop is watching, including its own."""
        return {key.fileobj for key in self._watched.get_map().values()}


class VirtualTimeLoop(WatchedLoop):
    """A selector event loop that jumps over waits instead of sleeping through them.

    The clock (`time()`, and so timers, timeouts, `asyncio.sleep`, anyio's scopes, aiolimiter,
    aiohttp's timeouts) all but stands still while there is anything to do. It jumps to the next
    timer when no callback is ready, no socket has news and no thread of ours is at work. If there
    is no timer either, the loop waits in real time for a socket or a thread.

    While a thread runs (`run_in_executor`, `asyncio.to_thread`, `anyio.to_thread`), a wait is real,
    and gives the thread a second at least; the clock moves only if nothing happens meanwhile. So a
    thread's work takes no time on the clock, however slow the disk or busy the machine.

    Other processes and the clocks of `time` know nothing of all this: a test that needs them to
    agree with the loop asks for real time (see conftest). So does one of aiohttp's client
    keep-alive, which reads `time.monotonic()`.
    """

    def __init__(self) -> None:
        """Make a loop whose clock says START."""
        self._jumps = _JumpingSelector()
        super().__init__(self._jumps)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumps.now

    def hold_up(self, seconds: float) -> None:
        """Let time pass as if a callback were computing, or the process were stopped."""
        self._jumps.now += seconds

    def run_in_executor(self, executor, func, *args):
        """Run a function in a thread; waits are real until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._jumps.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait in real time for the threads of the default executor to end."""
        self._jumps.threads += 1
        try:
            # The argument came with Python 3.12.
            await super().shutdown_default_executor(*(() if timeout is None else (timeout,)))
        finally:
            self._jumps.threads -= 1

    def _thread_done(self, _: asyncio.Future) -> None:
        self._jumps.threads -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that owns the clock, and moves it instead of waiting when nothing is to come."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.threads = 0
        self._turns = 0

    def select(self, timeout=None):
        self._turns += 1
        if self._turns > PATIENCE:
            self.now += TICK
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0) or super().select(self._real_wait(timeout))
        if not events:
            self.now += timeout
            self._turns = 0
        return events

    def _real_wait(self, timeout: float) -> float:
        if self.threads or _anyio_threads():
            return max(timeout, GRACE_THREADS)
        keys = self.get_map().values()
        if len(keys) <= 1:  # the loop's own pipe, to wake itself up
            return 0
        writing = any(key.events & selectors.EVENT_WRITE for key in keys)
        return GRACE_WRITING if writing else GRACE_QUIET


def _anyio_threads() -> float:
    with contextlib.suppress(anyio.NoEventLoopError):
        return anyio.to_thread.current_default_thread_limiter().borrowed_tokens
    return 0
