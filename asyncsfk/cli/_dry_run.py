"""``asyncsfk fetch --dry-run``: what a fetch would cost, told before it is made."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from asyncsfk.cli._exit import ExitCode, needing_archive, say
from asyncsfk.cli._format import counted, listed
from asyncsfk.cli._options import make_client
from asyncsfk.cli._source import HandleFile
from asyncsfk.cli._threads import opened

if TYPE_CHECKING:
    from asyncsfk import Plan
    from asyncsfk.cli._fetch_options import FetchOptions
    from asyncsfk.cli._options import ClientOptions

_COVERED: Final = {
    "certain": "covers it",
    "likely": "likely covers it",
    "perhaps": "covers the least that it costs",
    "no": "does not cover it",
}
_MINUTE: Final = 60
_HOUR: Final = 3600


async def dry_run(client_options: ClientOptions, options: FetchOptions) -> ExitCode:
    """Print what a fetch would cost; requests only the balance, and writes nothing.

    Raises:
        UnusableArchiveError: The archive cannot be read.
    """
    async with await make_client(client_options) as client:
        path = options.source
        source = None if path is None else await opened(HandleFile, path)
        with source or nullcontext(), needing_archive():
            plan = await client.plan(
                source.handles(options.handles) if source else options.handles,
                region=options.region,
                max_pages=options.max_pages,
                verify_empty=options.verify_empty,
                max_credits=options.max_credits,
                archive=options.archive_path,
                max_age=options.max_age,
                refresh=options.refresh,
                restart_stale=options.restart_stale,
            )
    for line in _told(plan):
        say(line)
    if plan.left is not None:
        say(f"--max-credits leaves {counted(plan.left, 'credit')} for it.")
    return ExitCode.COMPLETE


def _told(plan: Plan) -> list[str]:
    counts = {
        "complete in the archive": plan.complete,
        "to go on with": plan.to_continue,
        "to start": plan.to_start,
        "with an answer that cannot be decoded": plan.undecodable,
    }
    told = listed(counts)
    lines = [f"{counted(plan.distinct, 'creator')}: {told}" if told else "No creators."]
    passed_over = {"given twice": plan.duplicates, "no valid handle": plan.invalid}
    if told := listed(passed_over):
        lines.append(f"Passed over: {told}")
    if plan.most == 0:
        return [*lines, "Nothing is left to buy."]
    cost = [f"At least {counted(plan.least, 'credit')}"]
    if plan.likely is not None:
        cost.append(f"likely {plan.likely:,}")
    cost.append("no limit without --max-pages" if plan.most is None else f"at most {plan.most:,}")
    balance = counted(plan.balance, "credit")
    lines += [", ".join(cost), f"The balance of {balance} {_COVERED[plan.covered]}."]
    if plan.seconds is not None:
        lines.append(
            f"Some {_duration(plan.seconds)}, with {counted(plan.concurrency, 'request')} at once"
        )
    return lines


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
