"""The file beneath an archive: one SQLite database, one writer. Knows rows, not what they mean.

Import from the modules, not from here: `_writes`, `_reads` and `_watch` do not load SQLite.
"""
