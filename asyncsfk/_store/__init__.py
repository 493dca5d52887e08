"""The file below an archive: one SQLite database, one writer. Knows rows, not what they mean.

Import from the modules: the rows of `_writes`, `_reads` and `_watch` do not load SQLite.
"""
