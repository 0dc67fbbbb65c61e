"""The HTTP server's shell: deadlines, connection caps, and errors before there is a request.

docs/security.md C-20 … C-23. With fast_path.py, fast_path_connection.py and long_way.py the only file that touches
aiohttp's inside; tests/test_server.py holds each trick against the installed release.
"""

import asyncio
from collections import Counter
from typing import Any, cast

import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy

from handlers.keys import EXPECT, METRICS, SIGHT, WHO
from handlers.middlewares.access import base_headers, request_id
from handlers.middlewares.errors import dialect_of, error_response, fault
from handlers.middlewares.refusals import refused
from masa_node.accepted import Accepted, reset
from peers.errors import MasaError

log = structlog.get_logger(__name__)

HEAD_SECONDS = 10.0
IDLE_SECONDS = 75.0
LINGER_SECONDS = 2.0
READ_AHEAD = 16 * 1024
"""Bytes of a body that wait for its reader before the socket is paused: over that comes one read of it at most."""
MOST_UNREAD = 64 * 1024
"""Bytes of a body that a peer may send to the end although its request has its answer: those of a gossip message."""
SPOKEN = (HttpVersion10, HttpVersion11)
TOO_MANY = "Too many headers received"
"""aiohttp's words: it has no exception of its own for it."""


class NodeServer(web.Server):
    """aiohttp's server, with caps on what it accepts. One a listener."""

    def __init__(self, app: web.Application, *, most: int, most_per_address: int) -> None:
        super().__init__(
            app._handle,  # type: ignore[arg-type]  # its request_factory makes the Request it wants
            request_factory=_keep_expect_apart(app),
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_AHEAD,
        )
        self.app = app
        self.most = most
        self.most_per_address = most_per_address
        """0: not applied; never to loopback."""
        self.open = 0
        self.by_address: Counter[str] = Counter()

    def admitted(self, address: str) -> "Accepted":
        """A peer's connection, which was counted when it was accepted, before its TLS handshake."""
        return Connection(self, address, among_peers=True, loop=self._loop, **self._kwargs)

    def admit(self, address: str) -> bool:
        most = self.most if _loopback(address) else self.most_per_address or self.most
        if self.open >= self.most or self.by_address[address] >= most:
            return False
        self.open += 1
        self.by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        self.open -= 1
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]

    @property
    def busy(self) -> bool:
        """Some request is being answered."""
        return any(connection.busy for connection in cast(list[Accepted], self.connections))


class Connection(RequestHandler, Accepted):
    """What aiohttp reads and answers of one: 10 seconds for each request head, 75 between requests."""

    __slots__ = ("_address", "_among_peers", "_answered", "_body", "_due", "_head_timer", "_heard", "_server")

    def __init__(
        self, server: NodeServer, address: str, *, among_peers: bool, due: float | None = None, **kwargs: Any
    ) -> None:
        """It is counted already. `due`: the loop's time by which its first head must be there."""
        super().__init__(server, **kwargs)
        self._server = server
        self._address: str | None = address
        """Under which it is counted; None: no longer."""
        self._among_peers = among_peers
        self._due = due
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the request that came last."""
        self._answered: StreamReader = EMPTY_PAYLOAD
        """Of the request that was answered last: aiohttp throws the rest away, for LINGER_SECONDS."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arm(self._due)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        if self._address is not None:
            self._server.leave(self._address)
            self._address = None
            super().connection_lost(exc)
            self._body = self._answered = EMPTY_PAYLOAD  # which hold this object

    def data_received(self, data: bytes) -> None:
        self.read(data, alone=self.idle)

    def read(self, data: bytes, *, alone: bool) -> None:
        """`alone`: what comes now stands behind no other request."""
        if self._address is None:
            return
        self._heard = self._heard or bool(data)
        idle, seen = self.idle, self._request_count
        super().data_received(data)
        if self._request_count != seen:
            self._disarm()
            self._look_at(self._request_count - seen, alone=alone)
        elif self._among_peers and self._body is self._answered and self._body.total_bytes > MOST_UNREAD:
            self._cut()
        elif idle and data and self._head_timer is None:
            self._arm(None)

    @property
    def busy(self) -> bool:
        return self._request_in_progress

    @property
    def idle(self) -> bool:
        """Nothing is being answered or waits to be: what comes now begins a request."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    def _look_at(self, new: int, *, alone: bool) -> None:
        """Judge the last `new` messages before any of them is a request.

        What is no HTTP/1 is answered only when it stands alone. Behind another request the connection is closed: who
        meant both as one would take the second answer for somebody else's.
        """
        for place in range(-new, 0):
            message, body = self._messages[place]
            if isinstance(message, RawRequestMessage) and message.version in SPOKEN:
                self._body = body
                if message.upgrade:  # aiohttp drops what stands behind it: nothing may seem to be waited for
                    self._messages[place] = message._replace(should_close=True), body
            elif not alone:
                self._break_off(-place)
                return
            elif isinstance(message, RawRequestMessage):
                self._messages[place] = refusal(400, "bad_request", "speak HTTP/1.1 or HTTP/1.0"), body
            alone = False

    def _break_off(self, last: int) -> None:
        """Drop the last messages; what is being answered goes on, unless its body is not whole."""
        for _ in range(last):
            self._messages.pop()
        if not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError())
        self.close()

    def _arm(self, due: float | None) -> None:
        self._head_timer = self._loop.call_at(due or self._loop.time() + HEAD_SECONDS, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._force_close or not self.idle:
            return
        if not self._heard:
            self.force_close()
            return
        late = refusal(408, "slow_head", f"the request head took longer than {HEAD_SECONDS:g} s")
        self._messages.append((late, EMPTY_PAYLOAD))
        self._request_count += 1
        if self._waiter is not None:
            self._waiter.set_result(None)

    async def _handle_request(self, *args: Any) -> tuple[web.StreamResponse, bool]:
        """A connection that is cut is told as one that was reset: start() keeps its task, and so the error's frames."""
        try:
            return await super()._handle_request(*args)
        except ConnectionError:
            return web.Response(), True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self._answered = request.content
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What no handler answered: what never was a request, or a fault of ours. Nothing is reflected."""
        begun = request.writer.output_size > 0
        if isinstance(exc, MasaError | HttpProcessingError) and not begun:
            return self._refuse(exc if isinstance(exc, MasaError) else _parse_error(exc))
        gone = isinstance(exc, ConnectionError)  # relay's Cut, or the caller has left
        if not gone:
            log.error("fault", exc_info=exc or True)
        if gone or begun:
            self._end_unclean(request)
            raise ConnectionError("the answer broke off")
        if SIGHT not in request:
            return self._refuse(fault())
        dialect = dialect_of(request.path, request.headers.get("anthropic-version"))
        return error_response(fault(), dialect, request[SIGHT].id)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """A body that broke off while aiohttp was throwing it away is no fault."""
        if not isinstance(kwargs.get("exc_info"), web.RequestPayloadError):
            log.error("fault", exc_info=kwargs.get("exc_info") or True)

    def _refuse(self, error: MasaError) -> web.Response:
        """Answer, log and count what never became a request. A peer port tells nobody who this is, and fills no log."""
        app, name = self._server.app, request_id(None)
        if self._among_peers:
            return refused(error)
        log.info("request", request_id=name, path="unparsed", status=error.status, code=error.code, outcome="refused")
        app[METRICS].request("unparsed", error.status, "refused")
        response = error_response(error, "any", name)
        response.headers.update(base_headers(app[WHO]) | {"X-Request-Id": name})
        response.force_close()
        return response

    def _end_unclean(self, request: web.BaseRequest) -> None:
        """HTTP/1.0 tells the end of an answer by the end of the connection: only a reset shows that it broke."""
        if request.version < (1, 1):
            self._cut()

    def _cut(self) -> None:
        if self.transport is not None:
            reset(self.transport)


def refusal(status: int, code: str, text: str) -> _ErrInfo:
    """What stands in for a message that is not to become a request: handle_error() answers it."""
    return _ErrInfo(status, MasaError(status, code, text, close=True), "")


def _keep_expect_apart(app: web.Application) -> Any:
    """aiohttp answers `Expect` before any check, and fails on one that is not ASCII; here the front door judges it, and
    `100 Continue` goes out when the body is read."""

    def make(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.Request:
        expected = ", ".join(message.headers.getall(hdrs.EXPECT)) if hdrs.EXPECT in message.headers else None
        if expected is not None:
            rest = CIMultiDict(message.headers)
            del rest[hdrs.EXPECT]
            message = message._replace(headers=CIMultiDictProxy(rest))
        request = app._make_request(message, payload, protocol, writer, task)
        if expected is not None:
            request[EXPECT] = expected
        return request

    return make


def _parse_error(exc: HttpProcessingError) -> MasaError:
    if isinstance(exc, LineTooLong):
        return MasaError(431, "headers_too_large", "the request line or a header is over 8190 bytes", close=True)
    if exc.message == TOO_MANY:
        return MasaError(431, "headers_too_large", "the request has more than 128 headers", close=True)
    return MasaError(400, "bad_request", "this is not a valid HTTP request", close=True)


def _loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1", "")
