"""A call that another node hands on, read and answered through aiohttp."""

import asyncio
from contextlib import closing

from aiohttp import web

from handlers.between import BETWEEN
from handlers.chat import read_body
from handlers.handed import Handed, Serving, Stopped, Telling, Told, Working, end_early, ended, handed, late, received
from handlers.keys import METRICS
from handlers.relay import Cut
from peers.errors import MasaError
from peers.guests import Guest
from peers.wire import Reply

SERVING = web.AppKey("serving", Serving)


async def forward(request: web.Request) -> web.StreamResponse:
    """Cheap questions first: the signature's head, the path, the body's length; then the body, and who sent it."""
    arrived, serving = asyncio.get_running_loop().time(), request.app.get(SERVING)
    knock = request.app[BETWEEN].head(request, known=True)
    one = handed(serving, knock, request.headers, request.content_length or 0, arrived)
    with Telling(request.app[METRICS]) as told:
        out = web.StreamResponse()
        try:
            await _serve(request, one, out, told)
        except Stopped:
            chunked = out.headers.get("Transfer-Encoding") == "chunked"
            await end_early(out.prepared, chunked, out.write_eof)
        else:
            await out.write_eof()
        return out


async def _serve(request: web.Request, one: Handed, out: web.StreamResponse, told: Told) -> None:
    serving, working = one.serving, Working(one, told)
    with serving.bodies.lease(request.content_length or 0) as lease:
        try:
            async with asyncio.timeout_at(one.due):
                body = await read_body(request, lease, serving.most_body)
                call = await received(one, body, request.app[BETWEEN], working.guest, told)
        except TimeoutError:
            raise late() from None
        del body
        async with working as guest:
            reply = await serving.answerer.open(call)
            del call
            lease.release()
            await _relay(request, reply, out, guest, told)


async def _relay(request: web.Request, reply: Reply, out: web.StreamResponse, guest: Guest, told: Told) -> None:
    """Nothing goes out before the first byte has come. Its own end is the only one: a broken answer is cut, no more."""
    out.set_status(reply.status)
    out.headers.update(reply.headers)
    with closing(reply):
        chunk = await anext(reply.chunks, None)
        if not guest.begin(asyncio.get_running_loop().time()):
            told.outcome = guest.stopped or ""
            raise ended(guest)
        told.status = reply.status
        await out.prepare(request)
        try:
            while chunk is not None:
                await out.write(chunk)
                told.bytes_out += len(chunk)
                chunk = await anext(reply.chunks, None)
        except MasaError as error:
            told.outcome, told.code = "cut", error.code
            raise Cut from error
