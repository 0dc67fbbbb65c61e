"""One HTTP exchange with an upstream: the only place that posts a body."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from yarl import URL

from peers.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from peers.http1.answer import Answer
from peers.http1.client import Client, request_head
from peers.http1.connection import Connection
from peers.http1.dial import dial
from peers.http1.errors import Dropped, NotHttp, Silent, Unreached, UnreachedInTime
from peers.wire import Call, Reply, Sink

CONNECT_SECONDS = 5.0
KEPT_SECONDS = 4.0
"""For which an idle connection is kept: model servers close theirs after five seconds or more."""
CROSSING = ("content-type", "content-length", "content-encoding", "retry-after")
RATE_LIMITS = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
PRINTABLE = re.compile(r"[\t\x20-\x7e]*")
TOO_SILENT = "raise LLM_TIMEOUT if the model needs longer, or look at the server"


@dataclass(frozen=True, slots=True)
class Place:
    """Somebody who can be asked, as errors, logs and answer headers name them."""

    name: str
    """As the operator knows it: `ollama`, `cloudflare`."""
    route: str
    provider: str
    remedy: str
    """What the operator can do when it does not answer."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A small answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Origin(NamedTuple):
    """A server; connections to it are kept."""

    tls: bool
    host: str
    port: int


class Target(NamedTuple):
    """A URL, as a request needs it."""

    origin: Origin
    host: str
    """For the header Host."""
    path: str
    """With its query, encoded."""


class Link:
    """The pooled HTTP client for this node's own upstreams: no redirects, no cookies, no proxies, nothing decoded."""

    def __init__(self, client: Client[Origin], silence: float) -> None:
        self._client = client
        self._silence = silence
        self._opening = lru_cache(maxsize=256)(_opening)

    async def post(self, call: Call, url: str, place: Place, headers: Mapping[str, str]) -> Reply:
        """Hand the call's body to `url` as it is. Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroken."""
        answer = await self._send(call, target(url), place, headers)
        try:
            crossing = _crossing(answer, place)
        except UpstreamBroken:
            answer.close()
            raise
        body = Body(answer, place)
        return Reply(answer.status, crossing, body, place.route, place.provider, answer.close, pour=body.pour)

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        within: float,
        limit: int = 8 << 20,
    ) -> Fetched:
        """A small exchange about models, not inference. Raises OSError, of which TimeoutError is one."""
        at = target(url)
        head = request_head(method, at.path, at.host, _own(headers or {}), None if body is None else len(body))
        async with asyncio.timeout(within):
            answer = await self._client.ask(at.origin, head, body or b"", connect=CONNECT_SECONDS, silence=within)
            with closing(answer):
                content = await read_whole(answer, limit)
        return Fetched(answer.status, {name.lower(): value for name, value in answer.headers.items()}, content)

    async def _send(self, call: Call, at: Target, place: Place, headers: Mapping[str, str]) -> Answer:
        head = b"%bContent-Length: %d\r\n\r\n" % (self._opening(at, tuple(headers.items())), len(call.body))
        try:
            return await self._client.ask(at.origin, head, call.body, connect=CONNECT_SECONDS, silence=self._silence)
        except UnreachedInTime as error:
            text = f"{place.name} did not take the connection within {CONNECT_SECONDS:.0f} s. {place.remedy}"
            raise UpstreamUnreachable(text) from error
        except Unreached as error:
            raise UpstreamUnreachable(f"{place.name} refused the connection. {place.remedy}") from error
        except Dropped as error:
            text = f"{place.name} dropped the connection before its answer. {place.remedy}"
            raise UpstreamUnreachable(text) from error
        except Silent as error:
            text = f"{place.name} was silent for longer than LLM_TIMEOUT before its first byte; {TOO_SILENT}"
            raise UpstreamTimeout(text) from error
        except NotHttp as error:
            raise UpstreamBroken(f"{place.name} sent an answer that is not HTTP. {place.remedy}") from error


class Body:
    """An upstream's body as it arrives. It ends without raising only when the answer's framing says it is whole."""

    def __init__(self, answer: Answer, place: Place) -> None:
        self._answer = answer
        self._place = place

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.read()
        except OSError as error:
            raise self._told(error) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def pour(self, sink: Sink) -> None:
        try:
            await self._answer.pour(sink)
        except OSError as error:
            raise self._told(error) from error

    def _told(self, error: OSError) -> UpstreamTimeout | UpstreamBroken:
        if isinstance(error, Silent):
            text = f"{self._place.name} fell silent in the middle of its answer, for longer than LLM_TIMEOUT"
            return UpstreamTimeout(f"{text}; {TOO_SILENT}")
        return UpstreamBroken(f"{self._place.name} broke off its answer")


@asynccontextmanager
async def open_link(silence: float) -> AsyncIterator[Link]:
    """A Link whose upstreams may be silent for `silence` seconds, before the first byte and between bytes."""
    client = Client(Dialling().dial, KEPT_SECONDS)
    try:
        yield Link(client, silence)
    finally:
        client.close()


class Dialling:
    """Connects to upstreams, by TLS as browsers do it where the URL says so."""

    def __init__(self) -> None:
        self._trusted: ssl.SSLContext | None = None

    async def dial(self, origin: Origin, connection: Connection) -> None:
        """Raises Unreached."""
        if not origin.tls:
            await dial(connection, origin.host, origin.port)
            return
        if self._trusted is None:
            self._trusted = await asyncio.to_thread(_trusted)
        await dial(connection, origin.host, origin.port, tls=self._trusted, server_name=origin.host)


def _trusted() -> ssl.SSLContext:
    """It reads the machine's certificates: not on the loop."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@lru_cache(maxsize=1024)
def target(url: str) -> Target:
    """`url` as it is, nothing encoded anew."""
    parsed = URL(url, encoded=True)
    tls, host = parsed.scheme == "https", parsed.raw_host or ""
    origin = Origin(tls, host, parsed.port or (443 if tls else 80))
    return Target(origin, parsed.host_port_subcomponent or "", parsed.raw_path_qs or "/")


async def read_whole(answer: Answer, limit: int) -> bytes:
    """All of a body, but not much more than `limit` bytes. Raises as read() does."""
    body = bytearray()
    while len(body) <= limit and (part := await answer.read()):
        body += part
    return bytes(body)


def also(first: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    """Both, in this order."""

    def both() -> None:
        first()
        then()

    return both


def _opening(at: Target, headers: tuple[tuple[str, str], ...]) -> bytes:
    """All of a request's head but its body's length: a caller's requests differ in that alone."""
    return request_head("POST", at.path, at.host, _own(dict(headers)), None).removesuffix(b"\r\n")


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    """Everything that leaves says that a node sends it, so that no two nodes can pass a request in a circle."""
    return {"user-agent": "masa-node", "accept-encoding": "identity", **headers, "masa-hop": "1"}


def _crossing(response: Answer, place: Place) -> dict[str, str]:
    if response.status < 200:
        raise UpstreamBroken(f"{place.name} answered {response.status}, which is no answer. {place.remedy}")
    if 300 <= response.status < 400:
        raise UpstreamBroken(f"{place.name} answered with a redirect, which is not followed. {place.remedy}")
    if "X-Masa-Node" in response.headers:
        raise UpstreamBroken(f"{place.name} is a masa-node, and a node is never an upstream. {place.remedy}")
    kept: dict[str, str] = {}
    for name, value in response.headers.items():
        lower = name.lower()
        if lower in CROSSING or lower.startswith(RATE_LIMITS):
            if not PRINTABLE.fullmatch(value):
                raise UpstreamBroken(f"{place.name} answered with a broken header. {place.remedy}")
            kept[lower] = value
    return kept
