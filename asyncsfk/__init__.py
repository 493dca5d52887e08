"""asyncio client for the Social Fetch API: creators' TikTok Shop showcases, each page paid once.

::

    from asyncsfk import Client

    async with Client() as client:                  # the key comes from SOCIALFETCH_API_KEY
        async for product in client.showcase("mrbeast"):
            print(product.id, product.title, product.price)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncsfk._public import *  # noqa: F403
    from asyncsfk._public import __all__ as __all__
else:
    # Type checkers do not see this, or they would take any name for one of ours.
    def __getattr__(name: str) -> object:
        # `from asyncsfk import _wire`, among ourselves, asks here first as well.
        if not name.startswith("_") or name in {"__all__", "__version__"}:
            # At first use: aiohttp takes longer to load than a command line to say its help.
            public = import_module("asyncsfk._public")
            if name == "__all__" or name in public.__all__:
                return getattr(public, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    public: list[str] = import_module("asyncsfk._public").__all__
    return sorted({*public, *(name for name in globals() if name.startswith("__"))})
