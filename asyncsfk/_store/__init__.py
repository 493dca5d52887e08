"""The file below an archive: one SQLite database, one writer. Knows rows, not what they mean."""

from asyncsfk._store._file import Durability, writing
from asyncsfk._store._rows import (
    Attempt,
    Decoded,
    Find,
    FindShowcase,
    Finish,
    Page,
    PageRow,
    Showcase,
    Totals,
)
from asyncsfk._store._schema import VERSION, reading, shown
from asyncsfk._store._store import Store
from asyncsfk._store._watch import Watch

__all__ = [
    "VERSION",
    "Attempt",
    "Decoded",
    "Durability",
    "Find",
    "FindShowcase",
    "Finish",
    "Page",
    "PageRow",
    "Showcase",
    "Store",
    "Totals",
    "Watch",
    "reading",
    "shown",
    "writing",
]
