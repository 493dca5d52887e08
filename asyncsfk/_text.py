"""Texts of others, in a form fit to be shown and written down."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text with what could forge a line of a log, or steer a terminal, spelt out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def writable(text: str) -> str:
    """Return a text with each lone surrogate, which could not be written anywhere, spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()
