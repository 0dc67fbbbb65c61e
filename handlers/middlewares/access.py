"""The outermost middleware: a request's id, its one log line, its metrics; and the headers of every answer."""

import asyncio
import functools
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable
from random import getrandbits

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from config.logs import REQUEST_ID
from handlers.keys import METRICS, ORIGIN, SIGHT, Sight, Who
from handlers.relay import node_headers
from peers.metrics import Metrics
from peers.usage import tokens

log = structlog.get_logger(__name__)

ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
EXPOSED = "X-Request-Id, X-Masa-Node, X-Masa-Name, X-Masa-Route, X-Masa-Asked, Retry-After"
FIXED = {
    "Server": "masa-node",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Origin",
}
GENAI_OPERATIONS = ("chat", "text_completion", "embeddings")
NO_TOKENS = (None, None)


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    sight = Sight(request_id(request.headers.get("X-Request-Id")), time.monotonic())
    request[SIGHT] = sight
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else "unrouted"
    with Telling(sight, request.app[METRICS], request.method, path, request.remote):
        response = await handler(request)
        sight.status = response.status
        if isinstance(response, web.Response):
            sight.bytes_out = response.content_length or 0
        return response


class Telling:
    """The log line and the metrics of the request that is answered within; its id in every other line until then."""

    __slots__ = ("_client", "_method", "_metrics", "_path", "_sight")

    def __init__(self, sight: Sight, metrics: Metrics, method: str, path: str, client: str | None) -> None:
        """`path`: a route's pattern. `client`: an address."""
        self._sight = sight
        self._metrics = metrics
        self._method = method
        self._path = path
        self._client = client

    def __enter__(self) -> None:
        REQUEST_ID.set(self._sight.id)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status, outcome = self._sight.status, _outcome(self._sight.status)
        if kind is not None:
            status, outcome = _ending(kind, self._sight)
        now = time.monotonic()
        used = tokens(self._sight.tail) if status == 200 and self._sight.operation in GENAI_OPERATIONS else NO_TOKENS
        self._log(status, outcome, now, used)
        self._metrics.request(self._path, status, outcome)
        if self._sight.operation in GENAI_OPERATIONS:
            _measure(self._metrics, self._sight, now, used, "" if outcome == "ok" else self._sight.code or str(status))

    def _log(self, status: int, outcome: str, now: float, used: tuple[int | None, int | None]) -> None:
        sight = self._sight
        log.info(
            "request",
            method=self._method,
            path=self._path,
            status=status,
            outcome=outcome,
            client=truncated(self._client),
            ms=round((now - sight.arrived) * 1000, 1),
            code=sight.code or None,
            route=sight.route or None,
            model=sight.model or None,
            stream=sight.stream,
            bytes_in=sight.bytes_in,
            bytes_out=sight.bytes_out,
            first_ms=sight.first_byte and round((sight.first_byte - sight.arrived) * 1000, 1),
            tokens_in=used[0],
            tokens_out=used[1],
        )


def request_id(given: str | None) -> str:
    """The caller's own, if it is a plain word; else a new one, which is a name and no secret."""
    return given if given is not None and ID.fullmatch(given) else f"{getrandbits(96):024x}"


def base_headers(who: Who) -> dict[str, str]:
    """On every answer that is this node's own."""
    return {**node_headers(who.id, who.shown), **FIXED}


def add_base_headers(who: Who) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The on_response_prepare signal that adds them."""
    here = node_headers(who.id, who.shown)

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(FIXED)
        for name, value in here.items():
            response.headers.setdefault(name, value)  # a peer that answers is named by relay()
        if SIGHT in request:
            response.headers["X-Request-Id"] = request[SIGHT].id
        if ORIGIN in request:
            response.headers["Access-Control-Allow-Origin"] = request[ORIGIN]
            response.headers["Access-Control-Expose-Headers"] = EXPOSED

    return add


@functools.lru_cache(maxsize=1024)
def truncated(address: str | None) -> str:
    """A caller's network, not the caller: /24 of IPv4, /48 of IPv6 (docs/security.md C-33)."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return ""
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))


def _outcome(status: int) -> str:
    return "ok" if status < 400 else "refused" if status < 500 else "failed"


def _ending(kind: type[BaseException], sight: Sight) -> tuple[int, str]:
    """Status and outcome of an answer that did not come to its end."""
    if issubclass(kind, asyncio.CancelledError):
        return 499, "caller_gone"
    if issubclass(kind, ConnectionError):
        # It broke after its first byte: `sight.code` says why, or else the caller had left.
        return (200, "cut") if sight.code else (499, "caller_gone")
    return 500, "failed"


def _measure(metrics: Metrics, sight: Sight, now: float, used: tuple[int | None, int | None], error: str) -> None:
    genai = (sight.operation, sight.provider or "none", metrics.model_label(sight.model))
    metrics.duration.observe((*genai, error), now - sight.arrived)
    if sight.first_byte is not None:
        metrics.first_chunk.observe(genai, sight.first_byte - sight.arrived)
    for count, kind in zip(used, ("input", "output"), strict=True):
        if count is not None:
            metrics.tokens.observe((*genai, kind), count)
