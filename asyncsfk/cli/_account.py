"""``asyncsfk whoami``, ``balance`` and ``health``: free questions, answered as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncsfk.cli._exit import ExitCode, run, say
from asyncsfk.cli._format import indented
from asyncsfk.cli._options import ClientOptions, client_options, make_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from asyncsfk import Client, Model


@click.command()
@client_options
def whoami(client: ClientOptions) -> None:
    """Print whom the key belongs to; free."""
    run(_ask(client, lambda open_client: open_client.whoami()))


@click.command()
@client_options
def balance(client: ClientOptions) -> None:
    """Print what the account can spend; free."""
    run(_ask(client, lambda open_client: open_client.balance()))


@click.command()
@client_options
def health(client: ClientOptions) -> None:
    """Print whether the API is well; free, and needs no key."""
    run(_ask(client, lambda open_client: open_client.health(), needs_key=False))


async def _ask(
    options: ClientOptions,
    question: Callable[[Client], Awaitable[Model]],
    *,
    needs_key: bool = True,
) -> ExitCode:
    async with await make_client(options, needs_key=needs_key) as client:
        told = (await question(client)).to_dict()
    # These tell of the call, not of what was asked for; the answer about health has none.
    for about_the_call in ("usage", "cached"):
        told.pop(about_the_call, None)
    say(indented(told))
    return ExitCode.COMPLETE
