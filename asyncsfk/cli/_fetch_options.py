"""What a fetch is told: its flags, and the files that go with them."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from asyncsfk.cli._files import is_descriptor, is_regular, is_same_file
from asyncsfk.cli._format import quoted

_SUFFIX: Final = ".sfk"
_PACKED_SUFFIXES: Final = (".gz", ".zip", ".bz2", ".xz", ".zst", ".xlsx")
BESIDE: Final = ("-wal", "-shm", "-lock", "-journal")
_LIST_SUFFIXES: Final = (
    *(".txt", ".csv", ".tsv", ".lst", ".list", ".json", ".jsonl"),
    *(".gz", ".zip", ".xlsx"),
)


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """What to fetch, and where it goes.

    Attributes:
        since: From when on a kept showcase is fresh enough, in seconds since 1970.
    """

    handles: tuple[str, ...]
    source: str | None
    output: str
    errors: str | None
    outcomes: str | None
    append: bool
    archive: str | None
    no_archive: bool
    region: str | None
    max_pages: int | None
    max_credits: int | None
    verify_empty: bool
    since: float | None
    refresh: bool
    restart_stale: bool
    dry_run: bool
    quiet: bool

    @property
    def archive_path(self) -> str | None:
        """Where the archive is: beside the output, unless the flags say otherwise."""
        if self.no_archive or self.archive is not None:
            return self.archive
        output = Path(self.output)
        # There is no "beside" for stdout, a pipe or a device.
        if self.output == "-" or is_descriptor(self.output):
            return None
        # By these, which raise nothing: it may be on a disk that is gone by now.
        if os.path.exists(output) and not os.path.isfile(output):  # noqa: PTH110, PTH113 - see above
            return None
        # A date or number after the last dot is part of the name, not a suffix.
        kept = output if any(map(str.isdigit, output.suffix)) else output.with_suffix("")
        return f"{kept}{_SUFFIX}"

    @property
    def max_age(self) -> float | None:
        """``since`` as an age in seconds, as of now."""
        return None if self.since is None else max(0.0, time.time() - self.since)

    def resumed(self, began: float, started: float) -> FetchOptions:
        """Return the options for a fetch that goes on where this one ends, however much later.

        Args:
            began: When this one began, in seconds since 1970: what it bought must be fresh then.
            started: The same by the monotonic clock, which nobody sets.
        """
        since = began if self.refresh else self.since
        if since is not None:
            # If the clock was set back meanwhile, what was bought after that is dated too early.
            since -= max(0.0, began + (time.monotonic() - started) - time.time())
        return replace(self, since=since, refresh=False)

    def check(self, api_key_file: str | None) -> None:
        """Refuse flags that do not go together.

        Args:
            api_key_file: Where the key is read from.

        Raises:
            click.UsageError: They do not.
        """
        if not self.handles and self.source is None:
            raise click.UsageError("name some handles, or a file of them with --from FILE")
        for handle in self.handles:
            if handle == "-":
                raise click.UsageError("say --from - to read handles from stdin")
            if handle.lower().endswith(_LIST_SUFFIXES) and os.path.isfile(handle):  # noqa: PTH113 - any name
                raise click.UsageError(
                    f"{handle} is a file: say --from {quoted(handle)} to read handles from it, or "
                    f"@{handle} for the creator of that name"
                )
        if self.archive is not None and self.no_archive:
            raise click.UsageError("--archive and --no-archive contradict each other")
        if self.refresh and self.since is not None:
            raise click.UsageError("--refresh buys everything afresh, whatever --max-age says")
        if self.archive_path is None:
            self._check_without_archive()
        elif self.archive is None and Path(self.output).suffix.lower() == _SUFFIX:
            raise click.UsageError(
                f"{_SUFFIX} is for archives: name the output otherwise, or say --archive FILE or "
                "--no-archive"
            )
        elif self.append:
            raise click.UsageError(
                "with an archive every line comes again, so --append would write it twice: leave "
                "it out, or say --no-archive"
            )
        self._check_files(api_key_file)

    def _check_without_archive(self) -> None:
        flags = {
            "--max-age": self.since is not None,
            "--refresh": self.refresh,
            "--restart-stale": self.restart_stale,
        }
        for flag, is_given in flags.items():
            if is_given:
                raise click.UsageError(
                    f"{flag} is about an archive, and there is none: -o FILE keeps one beside the "
                    "output, --archive FILE anywhere"
                )

    def _check_files(self, api_key_file: str | None) -> None:
        for path in (self.output, self.errors, self.outcomes):
            if path is not None and path.lower().endswith(_PACKED_SUFFIXES):
                raise click.UsageError(f"{path} would be plain JSON lines: name it otherwise")
        used: dict[str, str] = {}
        archive = self.archive_path
        named = {
            "--api-key-file": api_key_file,
            "--from": _stdin_file() if self.source == "-" else self.source,
            "-o": self.output,
            "--errors": self.errors,
            "--outcomes": self.outcomes,
            "the archive": archive,
        }
        if archive is not None:
            named |= {f"the archive's {end}": f"{archive}{end}" for end in BESIDE}
        for flag, path in named.items():
            if path == "-" and flag in ("--errors", "--outcomes"):
                raise click.UsageError(f"{flag} names a file: stdout is for the products")
            if path is None or path == "-":
                continue
            for other_path, other_flag in used.items():
                if is_same_file(other_path, path):
                    raise click.UsageError(f"{other_flag} and {flag} name the same file")
            used[path] = flag


def _stdin_file() -> str | None:
    """Return a name of the file that stdin comes from, if it comes from one."""
    return "/dev/stdin" if sys.stdin is not None and is_regular(sys.stdin) else None
