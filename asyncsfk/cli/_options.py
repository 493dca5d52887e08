"""Options that commands share, and the client made from them."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass, fields
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from asyncsfk._checks import region_code
from asyncsfk._text import printable
from asyncsfk.cli._exit import UnusableFileError, tell
from asyncsfk.cli._files import utf16
from asyncsfk.cli._format import quoted_file
from asyncsfk.cli._threads import opened
from asyncsfk.config import DEFAULT_CONCURRENCY, DEFAULT_MAX_BODY_BYTES, Retry, Timeout
from asyncsfk.errors import ConfigurationError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncsfk import Client
    from asyncsfk.events import Event

P = ParamSpec("P")
R = TypeVar("R")

_logger = logging.getLogger("asyncsfk")

_LONGEST_KEY = 4096
_MAX_BACKOFF = Retry().max_backoff


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """What the flags say about the client."""

    api_key_file: str | None
    base_url: str | None
    allow_insecure_http: bool
    timeout: float | None
    concurrency: int = DEFAULT_CONCURRENCY
    rate: float | None = None
    max_backoff: float = _MAX_BACKOFF
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES


def country_code(text: str) -> str:
    """Return a country code in the one form that an archive knows it by."""
    try:
        return region_code(text.strip()) or ""
    except InvalidArgumentError:
        raise click.BadParameter(
            f"{text!r} is not a country code of two letters, e.g. US"
        ) from None


region_option = click.option(
    "--region",
    type=country_code,
    metavar="CC",
    help="A country code, e.g. US, to see prices and products as there.",
)
max_pages_option = click.option(
    "--max-pages",
    type=click.IntRange(1),
    metavar="N",
    help="Fetch at most N pages of a creator.",
)
concurrency_option = click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=DEFAULT_CONCURRENCY,
    show_default=True,
    metavar="N",
    help="Send at most N requests at once. The provider recommends to stay under 500 a key.",
)
rate_option = click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Start at most N requests a second; after a lull a twentieth of that more, or one.  "
    "[default: no limit]",
)
max_backoff_option = click.option(
    "--max-backoff",
    type=click.FloatRange(min=0, min_open=True),
    default=_MAX_BACKOFF,
    show_default=True,
    metavar="SECONDS",
    help="Wait at most so long after a failure, on top of what the API asks for.",
)
max_body_bytes_option = click.option(
    "--max-body-bytes",
    type=click.IntRange(1),
    default=DEFAULT_MAX_BODY_BYTES,
    show_default=True,
    metavar="N",
    help="The largest answer to accept, as it comes and once unpacked.",
)
quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Tell only of errors, and of prices that rose."
)


def client_options(
    command: Callable[Concatenate[ClientOptions, P], R],
) -> Callable[P, R]:
    """Add the flags of every command with a client; it gets them as its first argument."""

    @click.option(
        "--api-key-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Read the API key from FILE instead of the environment's SOCIALFETCH_API_KEY.",
    )
    @click.option(
        "--base-url",
        metavar="URL",
        help="The API's origin, instead of SOCIALFETCH_BASE_URL or the public one.",
    )
    @click.option(
        "--allow-insecure-http",
        is_flag=True,
        help="Let the key go over plain http:// to other machines, for all on the way to read.",
    )
    @click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="For one request in all, silence included.  [default: 120, and 60 of silence]",
    )
    @click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_log,
        help="Tell of pauses and retries on stderr; -vv of every request.",
    )
    @wraps(command)
    def with_options(*args: P.args, **kwargs: P.kwargs) -> R:
        names = {field.name for field in fields(ClientOptions)} & kwargs.keys()
        options: dict[str, Any] = {name: kwargs.pop(name) for name in names}
        return command(ClientOptions(**options), *args, **kwargs)

    return with_options


async def make_client(
    options: ClientOptions,
    *,
    needs_key: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> Client:
    """Return a client, yet to be opened, as the flags and the environment say.

    Raises:
        ConfigurationError: A setting is unusable or there is no key; nothing was sent.
    """
    from asyncsfk import Client

    client = Client(
        None if options.api_key_file is None else await opened(_read_key, options.api_key_file),
        base_url=options.base_url,
        allow_insecure_http=options.allow_insecure_http,
        concurrency=options.concurrency,
        rate=options.rate,
        timeout=Timeout() if options.timeout is None else options.timeout,
        retry=Retry(max_backoff=options.max_backoff),
        max_body_bytes=options.max_body_bytes,
        on_event=on_event,
    )
    if needs_key and client.config.api_key is None:
        raise ConfigurationError(
            "no API key: set SOCIALFETCH_API_KEY, or name a file that holds it with --api-key-file"
        )
    return client


def is_verbose() -> bool:
    """Tell whether the command was asked to log."""
    return _logger.isEnabledFor(logging.INFO)


def _read_key(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - so that its mode is that of what is read
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LONGEST_KEY)
    except OSError as error:
        raise UnusableFileError(path, error) from error
    if not data.strip():
        raise UnusableFileError(path, "there is no key in it")
    if objection := utf16(data):
        raise UnusableFileError(path, objection)
    if data.startswith(b"SOCIALFETCH_API_KEY="):
        raise UnusableFileError(path, "it must hold the key alone, without the variable's name")
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        tell(f"Warning: others can read {printable(path)}: chmod 600 {quoted_file(path)}")
    # The client checks it, so that no part of it can get into an error here.
    return data.decode("utf-8-sig", "replace").strip()


def _log(context: click.Context, _: click.Parameter, verbosity: int) -> None:
    context.call_on_close(partial(_logger.setLevel, _logger.level))
    # Without -v errors alone: Python prints warnings on stderr, even into the progress.
    _logger.setLevel((logging.ERROR, logging.INFO, logging.DEBUG)[min(verbosity, 2)])
    if verbosity:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        _logger.addHandler(handler)
        context.call_on_close(partial(_logger.removeHandler, handler))
