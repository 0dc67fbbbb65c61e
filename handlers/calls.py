"""What is done with a peer's calls, told to that peer; and its word that one is to stop."""

import asyncio

import msgspec
from aiohttp import web

from handlers.between import received
from handlers.forwarded import SERVING
from handlers.handed import Serving
from peers.doors import FORWARDED
from peers.errors import BadRequest
from peers.guests import Guest, What
from peers.network.questions import CallsAsked, CallsTold, CallTold
from peers.runner import SHORT
from peers.upstreams.ollama import ModelServer

LARGEST = 64 * 1024
MOST = 64


async def calls(request: web.Request) -> web.Response:
    """The sender's own alone: others' are as if they were not there."""
    sender, body = await received(request, LARGEST, known=True)
    try:
        said = msgspec.json.decode(body, type=CallsAsked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("malformed", "send the ids of calls to ask for, or to stop") from None
    if max(len(said.ask), len(said.stop)) > MOST:
        raise BadRequest("malformed", f"at most {MOST} calls at once")
    told: dict[str, CallTold] = {}
    serving = request.app.get(SERVING)
    if serving is not None:
        for guest in serving.guests.of(sender, said.stop):
            guest.stop("stopped")
        for guest in serving.guests.of(sender, said.ask):
            what = await _what(serving, guest)
            told[guest.request_id] = CallTold(what, guest.does(what, asyncio.get_running_loop().time()))
    answer = CallsTold(told, serves=serving is not None and _would_serve(serving, said))
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _would_serve(serving: Serving, said: CallsAsked) -> bool:
    """Whether a call for this model would be taken on this path."""
    door, names = FORWARDED.get(said.path), {said.model, f"{said.model}:latest"}
    if door is None or serving.closed():
        return False
    return any(model.name in names and door.dialect in ("any", *model.dialects) for model in serving.own.shared())


async def _what(serving: Serving, guest: Guest) -> What:
    """Only what can be proven."""
    upstream = next((one for one in serving.own.upstreams if guest in one.places.guests), None)
    if upstream is not None and not guest.begun:
        if upstream.places.queued(guest):
            return "queued"
        if isinstance(upstream, ModelServer) and await upstream.loaded(guest.model) is False:
            return "loading"
        if guest.size > SHORT:
            return "reading"
    return "silent" if guest.stream else "generating"
