"""Two ways in on one connection: plain requests straight to Quick, everything else to aiohttp, byte for byte.

The fast path takes only what the front door has nothing to say about, and only where a request begins for certain
(docs/security.md C-22).
"""

import asyncio
from typing import Any

import structlog
from aiohttp import hdrs, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from handlers.admission import Lease
from handlers.middlewares.errors import fault
from handlers.out import Out
from handlers.plain import Plain
from handlers.quick import Quick
from masa_node.server import READ_AHEAD, Connection, NodeServer

log = structlog.get_logger(__name__)

HOLD_SECONDS = 1.0
"""For how long the beginning of a plain request is held; a slower one goes to aiohttp, whose body has its own pace."""


class ClientServer(NodeServer):
    """The client API's."""

    def __init__(self, app: web.Application, quick: Quick, *, most: int, most_per_address: int) -> None:
        super().__init__(app, most=most, most_per_address=most_per_address)
        self.quick = quick

    def __call__(self) -> RequestHandler:
        return ClientConnection(self, loop=self._loop, **self._kwargs)


class ClientConnection(Connection):
    """A caller's connection. One request at a time is answered, by one of the two ways."""

    __slots__ = ("_answering", "_behind", "_held", "_missing", "_out", "_owed", "_quick", "_taken")

    def __init__(self, server: ClientServer, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._quick = server.quick
        self._taken: tuple[Plain, Lease] | None = None
        """A plain request that is held or answered."""
        self._held: list[bytes] = []
        """What has come of it."""
        self._missing = 0
        """Bytes of it that have not come."""
        self._answering: asyncio.Task[None] | None = None
        self._out: Out | None = None
        """Where it is answered."""
        self._behind: list[bytes] = []
        """What came meanwhile."""
        self._owed: int | None = 0
        """Bytes that still belong to the last request that aiohttp was given. Below zero, as None: its parser has begun
        another one, nobody knows where that ends, and all that comes is for aiohttp."""

    def data_received(self, data: bytes) -> None:
        if self._answering is not None:
            self._put_behind(data)
        elif self._taken is not None:
            self._hold(data)
        elif self._address is not None and not self._take(data):
            self._pass_on(data, alone=self._idle)

    @property
    def _idle(self) -> bool:
        return self._taken is None and super()._idle

    def _take(self, data: bytes) -> bool:
        """Whether it begins a plain request, and no more than that."""
        if self._owed != 0 or self._close or self._force_close or not self._idle:
            return False
        taken = self._quick.read(data)
        if taken is None:
            return False
        plain, lease = taken
        missing = plain.start + plain.length - len(data)
        if missing < 0:
            lease.release()
            return False
        self._disarm()
        self._heard = True
        self._taken, self._held, self._missing = taken, [data], missing
        if missing:
            self._head_timer = self._loop.call_later(HOLD_SECONDS, self._give_up)
        else:
            self._answer()
        return True

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._missing -= len(data)
        if self._missing < 0:
            self._give_up()
        elif not self._missing:
            self._disarm()
            self._answer()

    def _give_up(self) -> None:
        """It is not plain after all: aiohttp reads it from its beginning."""
        assert self._taken is not None
        self._disarm()
        self._taken[1].release()
        data, self._taken, self._held = b"".join(self._held), None, []
        self._pass_on(data, alone=True)

    def _answer(self) -> None:
        assert self._taken is not None
        assert self.transport is not None
        plain, held = self._taken[0], self._held
        plain.body = held[0][plain.start :] if len(held) == 1 else b"".join(held)[plain.start :]
        self._held = []
        self._request_in_progress = True
        sight = self._quick.sight(plain)
        self._out = Out(self._loop, self.transport, sight, self._drain_helper, slow=self._paused)
        self._answering = self._loop.create_task(self._work(*self._taken, self._out))

    async def _work(self, plain: Plain, lease: Lease, out: Out) -> None:
        again = False
        try:
            again = await self._quick.answer(plain, lease, self._address or "", out)
        except ConnectionError:
            pass  # the answer broke, or the caller has left: it is cut below
        except Exception as error:
            log.error("fault", exc_info=error)
            if not out.begun:
                self._quick.refuse(fault(), plain, out)
        finally:
            self._loop.call_soon(self._finish, again)  # behind the flush of what it was given last

    def _finish(self, again: bool) -> None:
        self._taken = self._answering = self._out = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if not again or self._close or self._force_close:
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._behind:
            data, self._behind = b"".join(self._behind), []
            if not self._take(data):
                self._pass_on(data, alone=False)
            self._resume_transport_reading()

    def _put_behind(self, data: bytes) -> None:
        self._behind.append(data)
        if sum(map(len, self._behind)) > READ_AHEAD:
            self._pause_transport_reading()

    def _pass_on(self, data: bytes, *, alone: bool) -> None:
        """To aiohttp, whose parser does not tell where it is: counted here."""
        fresh, seen = self._owed == 0, self._request_count
        self._parse(data, alone=alone)
        if data and self._owed is not None:
            new = self._request_count - seen
            if new:
                self._owed = self._owed_for(data) if fresh and new == 1 else None
            else:
                self._owed -= len(data)

    def _owed_for(self, data: bytes) -> int | None:
        """How much of a request is still to come whose head came with `data`."""
        message = self._messages[-1][0] if self._messages else None
        if not isinstance(message, RawRequestMessage) or message.chunked or message.upgrade:
            return None
        length = int(message.headers.get(hdrs.CONTENT_LENGTH, 0))
        return data.index(b"\r\n\r\n") + 4 + length - len(data)

    def _break_off(self, last: int) -> None:
        waiting = self._waiter is not None
        super()._break_off(last)
        if waiting and not self._messages and self._task_handler is not None:
            # aiohttp was told of the messages that are dropped, and would look for one.
            self._task_handler.cancel()
            self.force_close()

    def _process_keepalive(self) -> None:
        if self._taken is not None:  # aiohttp takes the connection for idle
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._out is not None:
            self._out.hold()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._out is not None:
            self._out.go_on()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._answering is not None:
            self._answering.cancel()
        elif self._taken is not None:
            self._taken[1].release()
            self._taken = None
        super().connection_lost(exc)

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        await super().shutdown(timeout)
        if self._answering is not None:
            self._answering.cancel()
