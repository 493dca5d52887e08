"""The group that all commands belong to."""

from __future__ import annotations

import click

from asyncsfk._version import __version__
from asyncsfk.cli._account import balance, health, whoami
from asyncsfk.cli._archive import archive
from asyncsfk.cli._demo import demo
from asyncsfk.cli._exit import EXIT_CODES, App
from asyncsfk.cli._fetch import fetch
from asyncsfk.cli._showcase import showcase
from asyncsfk.cli._simulate import simulate


@click.group(cls=App, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="asyncsfk")
def app() -> None:
    """Fetch creators' TikTok Shop showcases from the Social Fetch API.

    The API key comes from SOCIALFETCH_API_KEY in the environment, or from the file that
    --api-key-file names. Without one, begin with the demo.
    """


for command in (demo, showcase, fetch, archive, whoami, balance, health, simulate):
    app.add_command(command)
