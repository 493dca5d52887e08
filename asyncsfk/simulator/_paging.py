"""Paging gone wrong."""

from asyncsfk.simulator import _actions as actions
from asyncsfk.simulator._calls import Call, Route
from asyncsfk.simulator._cursors import Place
from asyncsfk.simulator._products import Json
from asyncsfk.simulator._world import World


def mislead(
    world: World, action: actions.PagingFault, call: Call, place: Place, data: Json
) -> None:
    """Change what a page says about the page after it."""
    field = "nextPage" if call.route is Route.REVIEWS else "nextCursor"
    page = place.offset // world.page_size
    match action:
        case actions.NoCursor(cursor):
            # A page number cannot be an empty string.
            data["page"] |= {field: cursor if field == "nextCursor" else None, "hasMore": True}
        case actions.CursorWithoutMore():
            data["page"][field] = _link(world, call, page + 1)
        case actions.CursorLoop(cycle):
            back = page + 1 - cycle if page >= cycle else page + 1
            if back == page and call.cursor is not None:
                link: str | int = call.cursor
            else:
                link = _link(world, call, back)
            data["page"] |= {field: link, "hasMore": True}
        case actions.EmptyPage():
            link = world.cursor(call, Place(place.offset, place.lap + 1))
            data["products"] = []
            data["page"] |= {field: link, "hasMore": True}


def _link(world: World, call: Call, page: int) -> str | int:
    """Name a page, counted from 0, as `nextPage` or `nextCursor` does."""
    if call.route is Route.REVIEWS:
        return page + 1
    return world.cursor(call, Place(page * world.page_size))
