"""How many requests a second the benchmarks' server answers on one core, beside nginx.

Both send the same page over connections that are kept alive, to a client that only looks where an
answer ends. nginx, where it is installed, has one worker and the page in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness import allow_many_sockets, options_of, tell_machine, write
from server import PAGES, body_of, handle_of, serving

try:
    from uvloop import run
except ImportError:
    from asyncio import run  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

CONNECTIONS: Final = 50
PATH: Final = f"/v1/tiktok/profiles/{handle_of(0)}/showcase-products"
REQUEST: Final = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
CONFIGURATION: Final = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush on; tcp_nodelay on;
    open_file_cache max=10;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        location / {{ default_type application/json; root {folder}; try_files /page =404; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(page: str) -> Iterator[str]:
    """Run nginx, which answers every request with one page; yield its URL."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as free:
        folder, port = Path(name), free.getsockname()[1]
        free.close()
        (folder / "page").write_bytes(body_of(page))
        (folder / "conf").write_text(CONFIGURATION.format(folder=folder, port=port))
        command = ["nginx", "-c", f"{folder}/conf", "-p", f"{folder}"]
        with subprocess.Popen(command, start_new_session=True) as process:  # noqa: S603 - ours
            try:
                _wait_for(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def nginx_version() -> str | None:
    """Return which nginx is installed, if one is."""
    if not shutil.which("nginx"):
        return None
    told = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True)  # noqa: S607
    return told.stderr.strip().rpartition("/")[2]


def _wait_for(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError("nginx did not start")


class _Asker(asyncio.Protocol):
    """Asks again as soon as an answer has come; all answers have one length."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._length = 0
        self._left = 0
        self.answers = 0
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        transport.write(REQUEST)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self._length:
            head = data[: data.index(b"\r\n\r\n") + 4]
            if not head.startswith(b"HTTP/1.1 200 "):
                self.is_over.set_exception(RuntimeError(f"the server answers {head[:40]!r}"))
                self._transport.abort()
                return
            length = next(x for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
            self._left = self._length = len(head) + int(length.partition(b":")[2])
        self._left -= len(data)
        if self._left == 0:
            self.answers += 1
            if time.monotonic() >= self._until:
                self._transport.close()
                return
            self._left = self._length
            self._transport.write(REQUEST)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_over.done():
            return
        if self._left:
            self.is_over.set_exception(exc or RuntimeError("the server hung up"))
        else:
            self.is_over.set_result(None)


async def ask(url: str, seconds: float) -> int:
    """Ask a server over all connections for so long; return how many answers came."""
    host, _, port = url.removeprefix("http://").partition(":")
    loop, until = asyncio.get_running_loop(), time.monotonic() + seconds
    askers = [
        (await loop.create_connection(lambda: _Asker(until), host, int(port)))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(asker.is_over for asker in askers))
    return sum(asker.answers for asker in askers)


def measure(
    name: str, page: str, serve: Callable[[str], AbstractContextManager[str]], seconds: float
) -> dict[str, Any]:
    """Measure one server with one page; print a line of the table, and return it as JSON."""
    before = os.times()
    with serve(page) as url:
        began = time.perf_counter()
        answers = run(ask(url, seconds))
        took = time.perf_counter() - began
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    row = {
        "server": name,
        "page": page,
        "requests": answers,
        "rate": answers / took,
        "cpu_us": 1e6 * cpu / answers,
        "rate_of_a_core": answers / cpu,
    }
    cells = [
        page,
        name,
        f"{row['rate']:.0f}",
        f"{row['cpu_us']:.1f}",
        f"{row['rate_of_a_core']:.0f}",
    ]
    print("|", " | ".join(cells), "|", flush=True)
    return row


def main() -> None:
    """Measure both servers with each page."""
    options = options_of(__doc__, quick="some 10 s").parse_args()
    seconds = 1.0 if options.quick else 10.0
    allow_many_sockets()
    about = tell_machine()
    installed = nginx_version()
    about["nginx"] = installed or "not installed"
    print(f"nginx: {about['nginx']}")
    print(
        f"\n{CONNECTIONS} connections, one request at a time on each.\n\n"
        "| page | server | requests/s | us of the server's CPU a request | requests/s of a core |\n"
        "|---|---|---|---|---|",
        flush=True,
    )
    rows = []
    for page in PAGES:
        rows.append(measure("ours", page, serving, seconds))
        if installed:
            rows.append(measure("nginx", page, nginx, seconds))
        else:
            print(f"| {page} | nginx | left out: not installed | | |")
    write(options.json, "server", about, rows)


if __name__ == "__main__":
    main()
