"""The command line: ``asyncsfk``, with the extra ``cli``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_INTERRUPTED = 130


def main() -> None:
    """Run the command line; the entry point ``asyncsfk``."""
    try:
        missing = [name for name in ("click", "rich") if find_spec(name) is None]
        if missing:
            sys.stderr.write(
                f"The command line needs {' and '.join(missing)}: install asyncsfk with its extra "
                '`cli`, as in pip install "/path/to/the/clone[cli]"\n'
            )
            sys.exit(2)
        from asyncsfk.cli._app import app
        from asyncsfk.cli._files import allow_open_files

        allow_open_files()
        # On Windows click would take `*`, `~`, `$` and `%` in arguments for a shell's: of a cursor
        # nothing may be changed, and a file may be called so.
        app.main(prog_name="asyncsfk", windows_expand_args=False)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
