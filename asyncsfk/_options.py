"""What a run is told, checked."""

from __future__ import annotations

import msgspec

from asyncsfk._checks import check_count, check_flag, check_limit, check_seconds, region_code


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was told; see `asyncsfk.Client.showcases`.

    Raises:
        InvalidArgumentError: An option is unusable.
    """

    region: str | None = None
    concurrency: int
    max_pages: int | None = None
    verify_empty: bool = False
    ordered: bool = False
    dedupe: bool = True
    max_age: float | None = None
    refresh: bool = False
    restart_stale: bool = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "region", region_code(self.region))
        check_count("concurrency", self.concurrency)
        for name in ("verify_empty", "ordered", "dedupe", "refresh", "restart_stale"):
            check_flag(name, getattr(self, name))
        check_limit("max_pages", self.max_pages)
        if self.max_age is not None:
            check_seconds("max_age", self.max_age)
