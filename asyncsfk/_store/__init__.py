"""The file below an archive: one SQLite database, one writer. Knows rows, not what they mean."""

from asyncsfk._store._file import Durability, writing
from asyncsfk._store._reads import Find, FindShowcase, PageRow, Showcase, Totals
from asyncsfk._store._schema import VERSION, reading, shown
from asyncsfk._store._store import Store
from asyncsfk._store._tables import Tables
from asyncsfk._store._watch import Watch
from asyncsfk._store._writes import Attempt, Decoded, Finish, Page

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
    "Tables",
    "Totals",
    "Watch",
    "reading",
    "shown",
    "writing",
]
