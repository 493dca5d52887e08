"""Texts of others, in a form fit to be shown and written down."""

from __future__ import annotations

from typing import Final

_SHOWN: Final = 80


def printable(text: str) -> str:
    """Return a text with what could forge a line of a log, or steer a terminal, spelt out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def described(value: object) -> str:
    """Return whatever a caller gave in printable form, for an error that refuses it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of a foreign class, or of a number without end
        text = f"an unprintable {type(value).__name__}"
    return cut(text)


def cut(text: str) -> str:
    """Return a text that can be written, cut to a sane length."""
    text = writable(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def writable(text: str) -> str:
    """Return a text with each lone surrogate, which could not be written anywhere, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()
