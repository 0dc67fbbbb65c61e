"""API keys: with API_KEYS set, a call needs one of them."""

import hmac
from collections.abc import Sequence

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from peers.errors import MasaError

OPEN = {("GET", "/health"), ("HEAD", "/health"), ("GET", "/ready"), ("HEAD", "/ready"), ("GET", "/"), ("HEAD", "/")}


def keys(accepted: Sequence[str]) -> Middleware:
    """The middleware for these keys; without any, everybody passes."""
    known = [key.encode() for key in accepted]

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if known and (request.method, request.path) not in OPEN and not _holds(request, known):
            raise MasaError(
                401,
                "invalid_key",
                "send one of this node's API_KEYS as `Authorization: Bearer …` or `x-api-key`",
                close=True,
            )
        return await handler(request)

    return check


def _holds(request: web.Request, known: Sequence[bytes]) -> bool:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    shown = [request.headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
    # Every comparison is made, each in constant time: how long it takes does not tell which key was near.
    return sum(hmac.compare_digest(key, candidate.encode()) for key in known for candidate in shown) > 0
