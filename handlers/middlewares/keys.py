"""API keys: with API_KEYS set, a call needs one of them."""

import hmac
from collections.abc import Mapping, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from config.settings import Settings
from peers.errors import MasaError

OPEN = {("GET", "/health"), ("HEAD", "/health"), ("GET", "/ready"), ("HEAD", "/ready"), ("GET", "/"), ("HEAD", "/")}


def accepted_keys(settings: Settings) -> tuple[bytes, ...]:
    return tuple(key.get_secret_value().encode() for key in settings.api_keys)


def keys(known: Sequence[bytes]) -> Middleware:
    """The middleware for these keys; without any, everybody passes."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if known and (request.method, request.path) not in OPEN and not holds_one(request.headers, known):
            raise MasaError(
                401,
                "invalid_key",
                "send one of this node's API_KEYS as `Authorization: Bearer …` or `x-api-key`",
                close=True,
            )
        return await handler(request)

    return check


def holds_one(headers: Mapping[str, str], known: Sequence[bytes]) -> bool:
    """`headers`: names in lower case, or in any."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    shown = [headers.get("x-api-key", ""), token.strip() if scheme.lower() == "bearer" else ""]
    # Every comparison is made, each in constant time: how long it takes does not tell which key was near.
    return sum(hmac.compare_digest(key, candidate.encode()) for key in known for candidate in shown) > 0
