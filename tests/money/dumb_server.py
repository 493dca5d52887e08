"""A second server, of the standard library alone, that shares no line with the simulator.

It has its own data, cursors, misfortunes and books, and knows no more of the API than one route.
"""

import asyncio
import json
import random
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "sfk_dumb_but_honest"
PAGE = 4


class DumbServer:
    """Sells pages of showcases; drops connections and refuses requests now and then.

    Attributes:
        books: One line a request: handle, cursor, credits charged, whether it was answered.
        is_fair: Nothing goes wrong any more.
    """

    def __init__(self, seed, creators):
        rng = random.Random(seed)
        self.showcases = {
            f"creator{n}": [self._product(rng) for _ in range(rng.choice([0, 1, 3, 4, 9, 15]))]
            for n in range(creators)
        }
        self.books = []
        self.is_fair = False
        self._rng = rng
        self._cursors = {}
        self._tasks = set()

    @staticmethod
    def _product(rng):
        product = {"id": str(rng.randrange(10**18)), "sales": {"soldCount": rng.randrange(1000)}}
        if rng.random() < 0.5:
            product["title"] = rng.choice(["Lamp", "Kettle", "Ünïcødé €"])
        return product

    @property
    def charged(self):
        return sum(price for _, _, price, _ in self.books)

    def pages(self, handle):
        return max(1, -(-len(self.showcases[handle]) // PAGE))

    async def serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(await reader.readuntil(b"\r\n\r\n"), writer):
                    pass
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.close()

    async def aclose(self):
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, head, writer):
        """Answer one request; tell whether the connection is still good."""
        lines = head.decode("latin-1").split("\r\n")
        target = urlsplit(lines[0].split(" ")[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        await asyncio.sleep(self._rng.uniform(0.1, 0.5))
        if headers.get("x-api-key") != KEY.lower():
            return self._say(writer, 401, {"error": {"code": "unauthorized", "message": "No."}})
        _, v1, tiktok, profiles, handle, what = target.path.split("/")
        assert (v1, tiktok, profiles, what) == ("v1", "tiktok", "profiles", "showcase-products")
        handle = unquote(handle)
        (cursor,) = (
            parse_qs(target.query, strict_parsing=True)["cursor"] if target.query else (None,)
        )
        fate = 1.0 if self.is_fair else self._rng.random()
        if fate < 0.05:
            self.books.append((handle, cursor, 0, True))
            busy = {"error": {"code": "temporarily_unavailable", "message": "Busy."}}
            return self._say(writer, 503, busy, "Retry-After: 2\r\n")
        start = 0 if cursor is None else self._cursors[handle, cursor]
        if fate < 0.08:
            self.books.append((handle, cursor, 0, False))
            return False
        if fate < 0.13:
            self.books.append((handle, cursor, 1, False))
            return False
        self.books.append((handle, cursor, 1, True))
        return self._say(writer, 200, self._page(handle, start))

    def _page(self, handle, start):
        end = start + PAGE
        more = end < len(self.showcases[handle])
        cursor = None
        if more:
            # It looks like base64 and holds what must be escaped; it means nothing.
            cursor = f"{self._rng.randrange(10**9)}+/{len(self._cursors)}=&?%2B é"
            self._cursors[handle, cursor] = end
        return {
            "data": {
                "products": self.showcases[handle][start:end],
                "page": {"hasMore": more, "nextCursor": cursor},
            },
            "meta": {"creditsCharged": 1, "requestId": f"r{len(self.books)}", "version": "v1"},
        }

    @staticmethod
    def _say(writer, status, document, more=""):
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} .\r\nContent-Type: application/json\r\n{more}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return True


@asynccontextmanager
async def dumb_server(seed, creators):
    """Run a `DumbServer`; its `url` is where."""
    dumb = DumbServer(seed, creators)
    server = await asyncio.start_server(dumb.serve, "127.0.0.1", 0, backlog=1024)
    dumb.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield dumb
    finally:
        server.close()
        await dumb.aclose()
