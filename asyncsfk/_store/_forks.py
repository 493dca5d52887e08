"""Connections to files, and which of these files a forked process must not touch.

A forked process inherits SQLite's belief that it holds locks, but not the locks: it would read
half-written data, and could lock everybody out (sqlite.org/howtocorrupt.html, 2.7).
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

Identity: TypeAlias = tuple[int, int]

_open: weakref.WeakSet[Connection] = weakref.WeakSet()
_inherited: set[Identity] = set()


class Connection(sqlite3.Connection):
    """A connection that knows its file for as long as it is open; see `remember`."""

    file: Identity | None = None

    def close(self) -> None:
        """Close it."""
        self.file = None
        super().close()


def remember(connection: Connection, path: Path) -> None:
    """Remember, for forked processes, the file that a connection was opened to."""
    connection.file = identify(path)
    _open.add(connection)


def is_inherited(path: Path) -> bool:
    """Tell whether a file was open when this process was forked."""
    return bool(_inherited) and identify(path) in _inherited


def identify(path: Path) -> Identity | None:
    """Tell which file a path leads to, if there is one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _note_inherited() -> None:
    _inherited.update(connection.file for connection in _open if connection.file is not None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_inherited)
