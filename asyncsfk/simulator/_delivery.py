"""How answers leave: whole, in pieces, cut, or not at all."""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Final

from aiohttp import web

from asyncsfk.simulator._answers import PADDED_AT, Answer, blocks

_GARBAGE: Final = b"\x16\x03\x01\x00\xff\xfeHTTP? no\r\n\r\n"
_NO_LINGER: Final = struct.pack("ii", 1, 0)


async def send_whole(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send an answer as it should be."""
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    await response.prepare(request)
    await response.write_eof()
    return response


async def send_dripping(
    request: web.BaseRequest, answer: Answer, chunk: int, interval: float
) -> web.StreamResponse:
    """Send a body piece by piece, slowly."""
    response = await _start(request, answer, len(answer.body))
    for start in range(0, len(answer.body), chunk):
        if start:
            await asyncio.sleep(interval)
        await response.write(answer.body[start : start + chunk])
    await response.write_eof()
    return response


async def send_padded(
    request: web.BaseRequest, answer: Answer, *, chunked: bool
) -> web.StreamResponse:
    """Send a body with its padding."""
    length = None if chunked else len(answer.body) + answer.padding
    response = await _start(request, answer, length)
    await response.write(answer.body[:PADDED_AT])
    for block in blocks(answer.padding):
        await response.write(block)
    await response.write(answer.body[PADDED_AT:])
    await response.write_eof()
    return response


async def send_truncated(
    request: web.BaseRequest, answer: Answer, *, chunked: bool
) -> web.StreamResponse:
    """Send half of a body and close."""
    length = None if chunked else len(answer.body)
    response = await _start(request, answer, length)
    await response.write(answer.body[: len(answer.body) // 2])
    close(request)
    return response


def send_garbage(request: web.BaseRequest) -> web.StreamResponse:
    """Send bytes that are not HTTP and close."""
    if request.transport is not None:
        request.transport.write(_GARBAGE)
    return close(request)


def close(request: web.BaseRequest, *, reset: bool = False) -> web.StreamResponse:
    """Close the connection, with a FIN or an RST."""
    transport = request.transport
    if transport is not None:
        if reset:
            with suppress(OSError):
                sock: socket.socket = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.abort()
        else:
            transport.close()
    # Nothing more can be written, which aiohttp finds out when it tries to send this.
    return web.Response()


async def _start(
    request: web.BaseRequest, answer: Answer, length: int | None
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    if length is not None:
        response.content_length = length
    elif request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(request)
    return response
