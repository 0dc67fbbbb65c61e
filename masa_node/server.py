"""The HTTP server's shell: deadlines, connection caps, and errors before there is a request (SECURITY C-20 … C-23).

The only file that touches aiohttp's inside; tests/test_server.py holds each trick against the installed release.
"""

import asyncio
import socket
import struct
from collections import Counter
from typing import Any

import structlog
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict, CIMultiDictProxy

from handlers.keys import EXPECT, METRICS, WHO
from handlers.middlewares.access import base_headers, request_id
from handlers.middlewares.errors import error_response
from handlers.relay import Cut
from peers.errors import MasaError

log = structlog.get_logger(__name__)

HEAD_SECONDS = 10.0
IDLE_SECONDS = 75.0
LINGER_SECONDS = 2.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SLOW_HEAD = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
)
SLOW_HEAD_BODY = b'{"error":"the request head took longer than 10 s","code":"slow_head"}'


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
        )
        self.app = app
        self.most = most
        self.most_per_address = most_per_address
        """0: not applied; never to loopback."""
        self.open = 0
        self.by_address: Counter[str] = Counter()

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def admit(self, address: str) -> bool:
        if self.open >= self.most:
            return False
        if self.most_per_address and self.by_address[address] >= self.most_per_address and not _loopback(address):
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
        return any(connection._request_in_progress for connection in self.connections)


class Connection(RequestHandler):
    """One accepted connection: 10 seconds for each request head, 75 between requests."""

    __slots__ = ("_address", "_head_timer", "_heard", "_server")

    def __init__(self, server: NodeServer, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server
        self._address: str | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else ""
        if not self._server.admit(address):
            reset(transport)
            return
        self._address = address
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        if self._address is not None:
            self._server.leave(self._address)
            self._address = None
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        self._heard = True
        seen = self._request_count
        super().data_received(data)
        if self._request_count != seen:
            self._disarm()
        elif self._head_timer is None and not self._request_in_progress and not self._messages:
            self._arm()

    def _arm(self) -> None:
        self._head_timer = self._loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._request_in_progress or self._messages or self.transport is None:
            return
        if self._heard:
            self.transport.write(SLOW_HEAD % (len(SLOW_HEAD_BODY), SLOW_HEAD_BODY))
        self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What no handler answered: a head that cannot be parsed, or a fault of ours. Nothing is reflected."""
        if isinstance(exc, Cut) or request.writer.output_size > 0:
            self._end_unclean(request)
            raise ConnectionError("the answer broke off")
        error = (
            _parse_error(exc)
            if status == 400
            else MasaError(500, "internal", "a fault of this node; its log says where", close=True)
        )
        if status >= 500:
            log.error("fault", exc_info=exc)
        return self._refuse(error)

    def _refuse(self, error: MasaError) -> web.Response:
        app, name = self._server.app, request_id(None)
        log.info("request", request_id=name, path="unparsed", status=error.status, code=error.code, outcome="refused")
        app[METRICS].requests.labels("unparsed", str(error.status), "refused").inc()
        response = error_response(error, "any", name)
        response.headers.update(base_headers(app[WHO]) | {"X-Request-Id": name})
        response.force_close()
        return response

    def _end_unclean(self, request: web.BaseRequest) -> None:
        """HTTP/1.0 tells the end of an answer by the end of the connection: only a reset shows that it broke."""
        if request.version < (1, 1) and self.transport is not None:
            reset(self.transport)


def reset(transport: asyncio.BaseTransport) -> None:
    """Close so that the other side sees a reset, not an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    if isinstance(transport, asyncio.Transport):
        transport.abort()


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
        expected = message.headers.get(hdrs.EXPECT)
        if expected is not None:
            rest = CIMultiDict(message.headers)
            del rest[hdrs.EXPECT]
            message = message._replace(headers=CIMultiDictProxy(rest))
        request = app._make_request(message, payload, protocol, writer, task)
        if expected is not None:
            request[EXPECT] = expected
        return request

    return make


def _parse_error(exc: BaseException | None) -> MasaError:
    if isinstance(exc, LineTooLong):
        return MasaError(431, "headers_too_large", "the request line or a header is over 8190 bytes", close=True)
    return MasaError(400, "bad_request", "this is not a valid HTTP request", close=True)


def _loopback(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1", "")
