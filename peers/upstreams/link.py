"""One HTTP exchange with an upstream: the only place that posts a body."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from peers.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from peers.wire import Call, Reply

CONNECT_SECONDS = 5.0
SLICE = 256 * 1024
CROSSING = ("content-type", "content-length", "content-encoding", "retry-after")
RATE_LIMITS = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
PRINTABLE = re.compile(r"[\t\x20-\x7e]*")


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


class Link:
    """The pooled HTTP client for this node's own upstreams: no redirects, no cookies, no proxies, nothing decoded."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(self, call: Call, url: str, place: Place, headers: Mapping[str, str]) -> Reply:
        """Hand the call's body to `url` as it is. Raises UpstreamUnreachable, UpstreamTimeout, UpstreamBroken."""
        response = await self._send(call, URL(url, encoded=True), place, headers)
        try:
            crossing = _crossing(response, place)
        except UpstreamBroken:
            response.close()
            raise
        return Reply(response.status, crossing, Chunks(response, place), place.route, place.provider, response.close)

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
        """A small exchange about models, not inference. Raises OSError, TimeoutError, aiohttp.ClientError."""
        timeout = aiohttp.ClientTimeout(total=within)
        async with self._session.request(
            method,
            URL(url, encoded=True),
            headers=_own(headers or {}),
            data=body,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            content = await read_whole(response.content, limit)
            return Fetched(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    async def _send(self, call: Call, url: URL, place: Place, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        for attempt in (1, 2):
            trace = SimpleNamespace(reused=False)
            try:
                return await self._session.post(
                    url, data=Body(call.body), headers=_own(headers), allow_redirects=False, trace_request_ctx=trace
                )
            except aiohttp.ServerTimeoutError as error:
                raise _timeout(error, place) from error
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # A kept connection that the upstream closed meanwhile says nothing about the upstream: once more.
                if attempt == 1 and trace.reused:
                    continue
                raise _unreachable(error, place) from error
            except aiohttp.ClientError as error:
                raise UpstreamBroken(f"{place.name} sent an answer that is not HTTP. {place.remedy}") from error
        raise AssertionError("the second attempt returns or raises")


class Chunks:
    """An upstream's body as it arrives. It ends without raising only when the answer's framing says it is whole."""

    def __init__(self, response: aiohttp.ClientResponse, place: Place) -> None:
        self._content = response.content
        self._place = place

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._content.readany()
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"{self._place.name} fell silent in the middle of its answer (LLM_TIMEOUT)"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamBroken(f"{self._place.name} broke off its answer") from error
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Body(aiohttp.Payload):
    """A whole body in slices, so that one large send neither copies it nor holds up the loop."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._value)
        for start in range(0, len(view), SLICE):
            await writer.write(view[start : start + SLICE])

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)


@asynccontextmanager
async def open_link(silence: float) -> AsyncIterator[Link]:
    """A Link whose upstreams may be silent for `silence` seconds, before the first byte and between bytes."""
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(_note_reuse)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0, happy_eyeballs_delay=0.25),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        trace_configs=[tracing],
    ) as session:
        yield Link(session)


async def read_whole(content: aiohttp.StreamReader, limit: int) -> bytes:
    """All of a body, but not much more than `limit` bytes: its read() returns what has come so far."""
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > limit:
            break
    return bytes(body)


def also(first: Callable[[], None], then: Callable[[], None]) -> Callable[[], None]:
    """Both, in this order."""

    def both() -> None:
        first()
        then()

    return both


async def _note_reuse(_session: object, trace: SimpleNamespace, _params: object) -> None:
    if trace.trace_request_ctx is not None:
        trace.trace_request_ctx.reused = True


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    """Everything that leaves says that a node sends it, so that no two nodes can pass a request in a circle."""
    return {"user-agent": "masa-node", "accept-encoding": "identity", **headers, "masa-hop": "1"}


def _crossing(response: aiohttp.ClientResponse, place: Place) -> dict[str, str]:
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


def _timeout(error: aiohttp.ServerTimeoutError, place: Place) -> UpstreamTimeout | UpstreamUnreachable:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamUnreachable(
            f"{place.name} did not take the connection within {CONNECT_SECONDS:.0f} s. {place.remedy}"
        )
    return UpstreamTimeout(f"{place.name} was silent for longer than LLM_TIMEOUT before its first byte")


def _unreachable(error: Exception, place: Place) -> UpstreamUnreachable:
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamUnreachable(f"{place.name} refused the connection. {place.remedy}")
    return UpstreamUnreachable(f"{place.name} dropped the connection before its answer. {place.remedy}")
