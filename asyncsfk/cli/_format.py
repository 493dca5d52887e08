"""What is printed: lines of JSON, numbers in words, and arguments for a shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import string
import sys
import unicodedata
from contextlib import suppress
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from asyncsfk._text import printable
from asyncsfk.cli._files import is_same_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncsfk import Outcome, ShowcasePage, Usage

_PLAIN: Final = (string.ascii_letters + string.digits + " _./-").encode()
# What neither cmd.exe nor PowerShell takes for anything but itself.
_BARE: Final = re.compile(r"[\w/\\.:][\w/\\.:-]*|--?[\w-]*")

# What moves a terminal's cursor, sets its title or turns text around, apart from what JSON escapes.
_STEERING: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_encode = msgspec.json.encode


def page_lines(page: ShowcasePage, first: int | None) -> list[bytes]:
    """Return a line for each product: handle, position, and the fields as the API names them.

    Args:
        page: The page.
        first: The position of its first product on the showcase, if that is known.
    """
    handle = _encode(page.handle)
    positions = repeat(None) if first is None else count(first)
    return [
        # A product's JSON is never empty: it has an id.
        b'{"handle":%b,"position":%b,%b\n' % (handle, _encode(position), product.to_json()[1:])
        for product, position in zip(page.products, positions, strict=False)
    ]


def outcome_line(outcome: Outcome) -> bytes:
    """Return a line of an outcome: all that is needed to go on, without its products."""
    told = outcome.to_dict()
    del told["products"]
    return json_line(told)


def json_line(value: object) -> bytes:
    """Return a line of JSON."""
    return _encode(value) + b"\n"


def indented(value: object) -> bytes:
    """Return indented JSON."""
    return msgspec.json.format(_encode(value), indent=2)


def cost(usage: Usage) -> str:
    """Return what came and what it cost, in words."""
    maybe = f", {usage.maybe:,} more maybe charged" if usage.maybe else ""
    archived = f" ({usage.archived:,} of them from the archive)" if usage.archived else ""
    return (
        f"{counted(usage.pages, 'page')}{archived}, {counted(usage.products, 'product')}, "
        f"{counted(usage.charged, 'credit')} charged{maybe}"
    )


def harmless(json: bytes) -> bytes:
    """Return JSON that means the same, with all escaped that would steer a terminal."""
    text = json.decode()
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Return a number of things in words."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def listed(counts: Mapping[str, int]) -> str:
    """Return the counts in words, without those that are zero."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def quoted(argument: str) -> str:
    """Return an argument quoted for a shell, whatever a file's name or a cursor has in it."""
    if sys.platform == "win32":
        return _quoted_on_windows(argument)
    # Unusual spaces are not "printable" to Python, but do a terminal no harm.
    shown = all(char.isprintable() or unicodedata.category(char) == "Zs" for char in argument)
    with suppress(UnicodeEncodeError):
        argument.encode(getattr(sys.stderr, "encoding", None) or "ascii")
        if shown:
            return shlex.quote(argument)
    try:
        told = os.fsencode(argument)
    except UnicodeEncodeError:
        # Text from the API that this machine's encoding of file names has no letters for.
        told = argument.encode()
    # The form that bash and zsh read, byte by byte.
    escaped = "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in told)
    return f"$'{escaped}'"


def quoted_file(path: str) -> str:
    """Return a file's name quoted for a shell, in a form that no command takes for a flag."""
    return quoted(f"./{path}" if path.startswith("-") else path)


def program() -> str:
    """Return how this program was started, for lines to paste: its name may not be enough."""
    started, name = Path(sys.argv[0]), "asyncsfk"
    if started.name == "__main__.py" and started.parent.name == name:
        return f"{quoted(sys.executable)} -m {name}"
    if started.name == name:
        found = shutil.which(name)
        if found is None or not is_same_file(found, sys.argv[0]):
            return quoted(sys.argv[0])
    return name


def _quoted_on_windows(argument: str) -> str:
    """Return an argument quoted in the one way that cmd.exe and PowerShell have in common."""
    if _BARE.fullmatch(argument):
        return argument
    # The C library, which takes the line apart after the shell, halves backslashes before a quote.
    text = re.sub(r'(\\*)"', r'\1\1\\"', printable(argument))
    text = re.sub(r"(\\+)\Z", r"\1\1", text)
    return f'"{text}"'
