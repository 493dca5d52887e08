"""How a command ends: exit codes, signals, and errors told in one line."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import sys
from contextlib import closing, contextmanager, suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, cast

import click
from click.exceptions import Exit, NoArgsIsHelpError

from asyncsfk._text import printable
from asyncsfk.cli._files import telling_of_closed_pipes
from asyncsfk.cli._format import harmless
from asyncsfk.errors import (
    ArchiveError,
    BudgetReachedError,
    ConfigurationError,
    InvalidArgumentError,
    SfkError,
    StaleCursorError,
    is_account_wide,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from io import FileIO
    from typing import TextIO


# A terminal sends SIGHUP when it is closed, or when its connection is lost.
INTERRUPTIONS: Final = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class ExitCode(IntEnum):
    """What the shell is told."""

    COMPLETE = 0
    INCOMPLETE = 1
    USAGE = 2
    ACCOUNT = 3
    BUDGET = 4
    INTERRUPTED = 130
    PIPE_CLOSED = 141


# Errors name the arguments of Python calls: these are the words and flags to show instead.
_GAVE_UP: Final = (
    (re.compile(r"\bRetry\.attempts=\d+ is used up"), "those were all attempts"),
    (re.compile(r"\bRetry\.\w+=\d+ is used up"), "it failed too often in this way"),
)
_FLAGS: Final = (
    (re.compile(r"\ballow_insecure_http=True"), "--allow-insecure-http"),
    (re.compile(r"\brestart_stale=True"), "--restart-stale"),
    (re.compile(r"\bbase_url\b"), "--base-url"),
    (re.compile(r"^timeout must"), "--timeout must"),
    (re.compile(r"^rate must"), "--rate must"),
    (re.compile(r"^Retry\.max_backoff must"), "--max-backoff must"),
)


def in_words(reason: OSError | str) -> str:
    """Return what went wrong with a file, without its name and the error's number."""
    return reason if isinstance(reason, str) else reason.strerror or str(reason)


class UnusableFileError(click.ClickException):
    """A file that was named cannot be used; nothing was sent."""

    exit_code = ExitCode.USAGE

    def __init__(self, path: str, reason: OSError | str) -> None:
        verb = "open" if isinstance(reason, OSError) else "use"
        # A name is empty as that of an unset shell variable.
        super().__init__(f"cannot {verb} {printable(path) or repr(path)}: {in_words(reason)}")


class BrokenFileError(click.ClickException):
    """A file that was open cannot be read or written any more."""

    def __init__(self, verb: str, path: str, reason: OSError | str) -> None:
        super().__init__(f"cannot {verb} {printable(path)}: {in_words(reason)}")


def standard_stream(stream: TextIO | None, name: str) -> FileIO:
    """Return the unbuffered file below stdin or stdout.

    Raises:
        UnusableFileError: The shell has closed it.
    """
    if stream is None:
        raise UnusableFileError(name, OSError(errno.EBADF, os.strerror(errno.EBADF)))
    # What stands in for one, as in tests, may have no file below it, or no bytes either.
    below = getattr(stream, "buffer", stream)
    return cast("FileIO", getattr(below, "raw", below))


class UnusableArchiveError(click.ClickException):
    """An archive that was named cannot be opened; nothing was sent."""

    exit_code = ExitCode.USAGE


@contextmanager
def needing_archive() -> Generator[None]:
    """Raise `UnusableArchiveError` where an archive cannot be used."""
    try:
        yield
    except ArchiveError as error:
        raise UnusableArchiveError(str(error)) from error


EXIT_CODES = """\b
Exit codes:
  0    everything asked for is there
  1    some of it is not
  2    usage: flags, arguments, the key, or a file that cannot be opened
  3    the account stopped us: 401, 402 or 403
  4    the ceiling of credits, --max-credits, was reached
  130  interrupted by Ctrl-C, SIGTERM or SIGHUP; what was received is written
  141  the reader of our output went away
"""


class App(click.Group):
    """A group whose commands may raise any `SfkError`, be interrupted, and lose their reader."""

    def make_context(self, *args: Any, **settings: Any) -> click.Context:  # noqa: ANN401 - as click has it
        """Parse the command line; ``--help`` prints here, so its reader can be lost here."""
        with _exiting():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Run the command."""
        with _exiting():
            return super().invoke(ctx)


@contextmanager
def _exiting() -> Generator[None]:
    """Turn every way in which a command can end into an exit code."""
    try:
        with telling_of_closed_pipes(sys.stdout):
            yield
    except SfkError as error:
        say_error(error)
        raise Exit(exit_code(error)) from error
    except click.ClickException as error:
        # The message may quote an argument of any origin, such as a line of a file through xargs,
        # which could otherwise drive the terminal. A help is all ours, and has many lines.
        if not isinstance(error, NoArgsIsHelpError):
            # To type checkers it is final.
            vars(error)["message"] = printable(error.message)
        # click does the same, but exits with another code where stderr cannot be written.
        with suppress(OSError):
            error.show()
        raise Exit(error.exit_code) from error
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        tell("Interrupted.")
        raise Exit(ExitCode.INTERRUPTED) from error
    except BrokenPipeError as error:
        _silence(sys.stdout)
        raise Exit(ExitCode.PIPE_CLOSED) from error
    except OSError as error:
        if error.filename is not None:
            raise
        # For example click's help, redirected to a full disk.
        _silence(sys.stdout)
        tell(f"Error: {in_words(error)}")
        raise Exit(ExitCode.INCOMPLETE) from error
    finally:
        _give_up_stderr()


def run(work: Coroutine[Any, Any, ExitCode]) -> None:
    """Run a command's work and leave with its exit code.

    SIGINT, SIGTERM and SIGHUP cancel the work, which then closes what it has open.
    """
    # Closed in case an interruption comes before the work has begun: nothing would await it then.
    with closing(work), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        code = runner.run(_terminable(work))
    click.get_current_context().exit(code)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loops, if that is installed (the extra ``fast``)."""
    try:
        import uvloop

        for standard in range(3):
            # If one of these is closed, a file of uvloop's own gets its number, and uvloop aborts.
            os.fstat(standard)
    except (ImportError, OSError):
        return None
    return uvloop.new_event_loop


async def _terminable(work: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    task = asyncio.current_task()
    if task is not None:
        on_signals(task.cancel)
    return await work


def on_signals(callback: Callable[[], object]) -> None:
    """Have every signal that interrupts us call something, instead of what it did before.

    The event loop makes that call between two steps. `asyncio.Runner` handles SIGINT alone, and
    raises the second one wherever we are: a lock may stay locked, or a future never be done.
    """
    loop = asyncio.get_running_loop()

    def pass_on(*_: object) -> None:
        if loop.is_closed():
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(callback)

    for signum in INTERRUPTIONS:
        if signal.getsignal(signum) is signal.SIG_IGN:
            # A shell sets signals to be ignored for jobs in the background: that stays.
            continue
        # Only a main thread can have handlers.
        with suppress(ValueError, RuntimeError):
            try:
                loop.add_signal_handler(signum, callback)
            except NotImplementedError:
                # On Windows the loop has none of its own, but any signal wakes it.
                signal.signal(signum, pass_on)


def exit_code(error: SfkError) -> ExitCode:
    """Return the exit code of a command that an error ended."""
    if is_account_wide(error):
        return ExitCode.ACCOUNT
    if isinstance(error, BudgetReachedError):
        return ExitCode.BUDGET
    if isinstance(error, ConfigurationError | InvalidArgumentError):
        return ExitCode.USAGE
    return ExitCode.INCOMPLETE


def say_error(error: SfkError) -> None:
    """Tell an error in one line on stderr."""
    tell(f"Error: {in_flags(error)}")


def in_flags(error: SfkError) -> str:
    """Return what an error says, with flags for arguments."""
    text = str(error)
    # Only these errors name such arguments: in others the words are the API's, and stay.
    of_ours = isinstance(error, ConfigurationError | StaleCursorError)
    for argument, flag in _FLAGS if of_ours else _GAVE_UP:
        text = argument.sub(flag, text)
    return text


def say(text: str | bytes) -> None:
    """Print the answer on stdout; bytes, such as JSON, are not re-encoded for the terminal.

    Raises:
        UnusableFileError: The shell has closed stdout.
        BrokenFileError: It could not be written, for example to a full disk.
    """
    # Without one click would print nothing and raise nothing, and all would seem well.
    stdout = standard_stream(sys.stdout, "stdout")
    if isinstance(text, bytes) and stdout.isatty():
        text = harmless(text)
    try:
        with telling_of_closed_pipes(stdout):
            click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence(sys.stdout)
        raise BrokenFileError("write", "stdout", error) from error


def tell(text: str) -> None:
    """Tell something on stderr, if it can be written."""
    # The terminal may be gone; a message that is lost must not end a fetch that is paid for.
    with suppress(OSError):
        click.echo(text, err=True)


def _give_up_stderr() -> None:
    # What stderr has not taken by now is dropped. Python would try again as it exits, and if that
    # failed, replace our exit code by its own.
    stderr: TextIO | None = sys.stderr
    try:
        if stderr is not None:
            stderr.flush()
    except OSError:
        _silence(stderr)


def _silence(stream: TextIO | None) -> None:
    # Otherwise Python would complain when it flushes the stream as it exits.
    if stream is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
