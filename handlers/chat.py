"""The pass-through door of every dialect: bytes in, a Call out to whoever answers, bytes back."""

import asyncio
from collections.abc import Mapping
from typing import get_args

from aiohttp import HttpVersion10, web

from handlers.admission import Lease
from handlers.keys import BODIES, EXPECT, ROUTER, SETTINGS, SIGHT, TURNS, Sight
from handlers.middlewares.door import JSON, bare, check_content_type
from handlers.relay import relay
from peers.doors import BY_PATH
from peers.errors import BadRequest, MasaError
from peers.peek import inflate, peek
from peers.wire import Ask, Call, Door, Peek

CROSSING = (
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
    "traceparent",
)
_ASKS: tuple[Ask, ...] = get_args(Ask)
WINDOW_SECONDS = 10.0
WINDOW_BYTES = 10 * 1024


async def chat(request: web.Request) -> web.StreamResponse:
    """Admission in this order, behind Host, Origin and key.

    Content type, declared length, body memory, the body, its peek, a place; then the upstream.
    """
    check_content_type(request)
    with request.app[BODIES].lease(declared_length(request, request.app[SETTINGS].max_body_bytes)) as lease:
        call = await read_call(request, lease)
        async with request.app[TURNS].place(caller(request.headers, request.remote or "")):
            reply = await request.app[ROUTER].open(call)
            del call  # The upstream has the body: it is not kept for as long as the answer streams.
            lease.release()
            return await relay(request, reply)


async def read_call(request: web.Request, lease: Lease) -> Call:
    """Raises MasaError: 408, 413, 415, or 400 when the body cannot be routed by."""
    door, limit = BY_PATH[request.path], request.app[SETTINGS].max_body_bytes
    body = await read_body(request, lease, limit)
    seen = await peek_at(request.headers, body, door, limit)
    sight = request[SIGHT]
    stream = note_peek(sight, door, seen, len(body))
    headers = crossing(request.headers)
    if bare(headers.get("content-type", "")) != JSON:
        headers["content-type"] = JSON
    query, hop = request.raw_path.partition("?")[2], "Masa-Hop" in request.headers
    ask = asked(request.headers.get("X-Masa-Ask"))
    return Call(sight.id, door, seen.model, stream, body, headers, query, hop, ask)


def note_peek(sight: Sight, door: Door, seen: Peek, size: int) -> bool:
    """What is told of the call afterwards. Whether its answer streams."""
    sight.bytes_in, sight.model, sight.operation = size, seen.model, door.operation
    sight.stream = door.streams if seen.stream is None else seen.stream
    return sight.stream


def asked(told: str | None) -> Ask | None:
    """What `X-Masa-Ask` says. Raises BadRequest for another word: who misspells `off` does not want peers asked."""
    for ask in _ASKS:
        if told == ask:
            return ask
    if told is not None:
        raise BadRequest("invalid_body", "the header X-Masa-Ask is `busy`, `missing` or `off`")
    return None


def crossing(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers that may cross (docs/security.md C-15). `headers`: as holds_one() takes them."""
    return {name: value for name in CROSSING if (value := headers.get(name)) is not None}


async def read_body(request: web.Request, lease: Lease, limit: int) -> bytes:
    """The whole body, as it came. At least 10 KiB in each 10 seconds, or all of it (docs/security.md C-21)."""
    if EXPECT in request and request.version != HttpVersion10:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size = mark = 0
    window = loop.time() + WINDOW_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(window):
                part = await request.content.readany()
        except TimeoutError:
            if size - mark < WINDOW_BYTES:
                raise MasaError(408, "slow_body", "the body came slower than 1 KiB/s over 10 s", close=True) from None
            window, mark = loop.time() + WINDOW_SECONDS, size
            continue
        except web.RequestPayloadError:
            raise BadRequest("invalid_body", "the body's framing is broken", close=True) from None
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > limit:
            raise too_large(limit)
        lease.grow(size)
        parts.append(part)


def declared_length(request: web.Request, limit: int) -> int:
    """Content-Length, 0 where there is none. Raises MasaError 413 before anything is read."""
    length = request.content_length or 0
    if length > limit:
        raise too_large(limit)
    return length


def too_large(limit: int) -> MasaError:
    return MasaError(413, "body_too_large", f"the body is over {limit} bytes (MAX_BODY_BYTES)", close=True)


def caller(headers: Mapping[str, str], address: str) -> str:
    """Who takes turns with whom: by key where there are keys, else by address. `headers`: as holds_one() takes them."""
    return headers.get("authorization") or headers.get("x-api-key") or address


async def peek_at(headers: Mapping[str, str], body: bytes, door: Door, limit: int) -> Peek:
    """What routing must know of it. `headers`: as holds_one() takes them. Raises BadRequest."""
    encoding = headers.get("content-encoding", "")
    if not encoding:
        return peek(body, door)
    # As one step in its thread, so that no more plain copies are held than there are threads.
    return await asyncio.to_thread(lambda: peek(inflate(body, encoding, limit), door))
