"""Other people's texts, in a form fit to be shown and written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    import msgspec

_SHOWN: Final = 80
_FEW: Final = 3


def printable(text: str) -> str:
    """Return a text with characters spelt out that could forge a log line or steer a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def described(value: object) -> str:
    """Return a caller's value, whatever it is, as printable text for the error that refuses it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a foreign class's repr, or an int with too many digits
        text = f"an unprintable {type(value).__name__}"
    return cut(text)


def abridged(struct: msgspec.Struct) -> str:
    """Return the repr of a struct, with only the lengths of long lists and bodies.

    A showcase can have ten thousand products, which would be megabytes in a line of a log.
    """
    fields = struct.__struct_fields__
    shown = (f"{name}={_brief(getattr(struct, name))}" for name in fields)
    return f"{type(struct).__name__}({', '.join(shown)})"


def _brief(value: object) -> str:
    if isinstance(value, tuple):
        some = cast("tuple[object, ...]", value)
        return f"<{len(some)} of {type(some[0]).__name__}>" if len(some) > _FEW else repr(some)
    if isinstance(value, bytes) and len(value) > _SHOWN:
        return f"<{len(value)} bytes>"
    return repr(value)


def cut(text: str) -> str:
    """Return a text that can be written, cut to a sane length."""
    text = writable(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def writable(text: str) -> str:
    """Return a text with each lone surrogate, which could not be written anywhere, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()
