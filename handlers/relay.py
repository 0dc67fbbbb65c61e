"""relay(): a Reply out to its caller, byte for byte, each chunk as it arrives."""

import time
from contextlib import closing
from urllib.parse import quote

import msgspec
from aiohttp import web

from handlers.keys import SIGHT, Sight
from peers.doors import BY_PATH
from peers.errors import MasaError
from peers.usage import TAIL
from peers.wire import Dialect, NodeId, Reply


class Cut(ConnectionError):
    """The answer broke after its first byte: the connection is cut, so that what was sent never looks whole."""


async def relay(request: web.Request, reply: Reply) -> web.StreamResponse:
    """Stream the reply to the caller. A break after the first byte stays visible: an end is never faked."""
    sight = request[SIGHT]
    sight.route, sight.provider = reply.route, reply.provider
    out = web.StreamResponse(status=reply.status, headers={**reply.headers, **told_of(reply)})
    with closing(reply):
        await out.prepare(request)
        try:
            async for chunk in reply.chunks:
                note(sight, chunk)
                await out.write(chunk)
        except MasaError as error:
            sight.code = error.code
            unit = late_unit(reply, BY_PATH[request.path].dialect, sight.tail, error)
            if unit is not None:
                await out.write(unit)
            raise Cut from error
        await out.write_eof()
    return out


def told_of(reply: Reply) -> dict[str, str]:
    told = {"X-Masa-Route": reply.route}
    if reply.asked:
        told["X-Masa-Asked"] = str(reply.asked)
    if reply.by:
        told |= node_headers(reply.by.node, reply.by.name)
    return told


def node_headers(node: NodeId, name: str) -> dict[str, str]:
    """Which node answers."""
    return {"X-Masa-Node": node, "X-Masa-Name": quote(name, safe=" !#$&'()*+,/:;=?@[]^_`{|}~")}


def note(sight: Sight, chunk: bytes) -> None:
    """A chunk goes out."""
    if sight.first_byte is None:
        sight.first_byte = time.monotonic()
    sight.bytes_out += len(chunk)
    tail = sight.tail
    over = len(tail) + len(chunk) - TAIL
    if over > 0:  # before it grows: every open stream holds one
        del tail[:over]
    tail += chunk[-TAIL:]


def late_unit(reply: Reply, dialect: Dialect, tail: bytearray, error: MasaError) -> bytes | None:
    """What broke, in the stream's dialect, where it has a way; never inside an encoded or length-framed answer."""
    framed = "content-encoding" in reply.headers or "content-length" in reply.headers
    line = None if framed else late_error(reply.headers.get("content-type", ""), dialect, error)
    return None if line is None else _break_before(tail, line) + line


def late_error(content_type: str, dialect: Dialect, error: MasaError) -> bytes | None:
    """The error as one unit of a stream of this kind; None where the kind has no way to say it."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-ndjson":
        return msgspec.json.encode({"error": error.text, "code": error.code}) + b"\n"
    if kind != "text/event-stream":
        return None
    if dialect == "anthropic":
        body = {"type": "error", "error": {"type": "api_error", "message": error.text}}
        return b"event: error\ndata: " + msgspec.json.encode(body) + b"\n\n"
    body = {"error": {"message": error.text, "type": "api_error", "param": None, "code": error.code}}
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def _break_before(tail: bytearray, line: bytes) -> bytes:
    """What ends the unit that broke off: a line break before a line, an empty line before an event."""
    if not tail:
        return b""
    if line.startswith(b"{"):
        return b"" if tail.endswith(b"\n") else b"\n"
    return b"" if tail.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"
