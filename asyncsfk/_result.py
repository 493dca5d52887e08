"""What comes of a call, and how each caller that asked for it gets it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from asyncsfk import _wire
from asyncsfk._messages import Received
from asyncsfk._wire import OK
from asyncsfk.errors import (
    ArchiveError,
    BudgetReachedError,
    RunStoppedError,
    SfkError,
    UndecodableError,
)

if TYPE_CHECKING:
    from asyncsfk._messages import Request, Response
    from asyncsfk._page_cache import PageCache
    from asyncsfk._store._reads import PageRow
    from asyncsfk._store._store import Store
    from asyncsfk.config import ApiKey
    from asyncsfk.usage import Usage


class CallResult(msgspec.Struct, frozen=True):
    """What came of a call.

    Attributes:
        result: The answer, or the error.
        response: What came over the wire, where something did.
        stores: The files of the archives that hold it.
        row: Where it was read from, if it was on file already.
    """

    result: Received | SfkError
    response: Response | None = None
    stores: tuple[Store, ...] = ()
    row: PageRow | None = None

    def __repr__(self) -> str:
        # Tracebacks can show it, and the API may have echoed the key in it.
        return f"<CallResult {type(self.result).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("result", type(self.result).__name__)]

    @property
    def paid(self) -> Response | None:
        """What came over the wire, if that is a 200: it was charged, decodable or not."""
        response = self.response
        return response if response is not None and response.status == OK else None

    def serves(self, cache: PageCache | None) -> bool:
        """Tell whether this will do for a caller that only joined the call.

        It will not if the call ended for a reason of its beginner's alone, or if it comes out of an
        archive that is not the joiner's, or is too old for the joiner.
        """
        if self.row is not None:
            return cache is not None and cache.store in self.stores and cache.takes(self.row)
        if isinstance(self.result, ArchiveError):
            # Only the beginner's archive failed: an answer that it could not keep is good for all.
            return self.paid is not None
        return not isinstance(self.result, BudgetReachedError | RunStoppedError)


def placed(error: SfkError, request: Request) -> SfkError:
    """Return an error that says what it was about, and where to go on."""
    return error.evolve(
        handle=request.handle, route=request.route, cursor=request.cursor, page=request.page
    )


def priced(result: Received | SfkError, usage: Usage) -> Received | SfkError:
    """Return a result that says what it cost."""
    if isinstance(result, SfkError):
        return result.evolve(usage=usage)
    return msgspec.structs.replace(result, usage=usage)


def shared(
    request: Request, result: Received | SfkError, usage: Usage, api_key: ApiKey | None
) -> Received | SfkError:
    """Return another call's result as this call's, with the cost that this one answers for.

    Args:
        request: What this call asks for.
        result: What came of the other.
        usage: What this one answers for.
        api_key: Struck out of what is decoded anew.
    """
    # This call may want another type, which may fit even if that of the other call did not.
    if isinstance(result, Received):
        if result.decoder is not request.decoder:
            kept, result = result.kept, _wire.reread(request.decoder, result.body, api_key)
            if isinstance(result, Received):
                result = msgspec.structs.replace(result, kept=kept)
    elif isinstance(result, UndecodableError) and result.body is not None:
        result = _wire.reread(request.decoder, result.body, api_key)
    if isinstance(result, SfkError):
        result = placed(result, request)
    return priced(result, usage)
