"""LongWay: aiohttp's part of a connection, made when there is something that aiohttp has to read.

Its parser does not tell where it is: what of a request is still to come is counted here.
"""

import asyncio
from typing import Any

from aiohttp import hdrs
from aiohttp.http_parser import RawRequestMessage

from masa_node.server import Connection, NodeServer


class LongWay(Connection):
    """It hears from the connection that it is a part of."""

    __slots__ = ("_owed",)

    def __init__(self, server: NodeServer, address: str, **kwargs: Any) -> None:
        super().__init__(server, address, **kwargs)
        self._owed: int | None = 0
        """Bytes that still belong to the last request. Below zero, as None: the parser has begun another one, nobody
        knows where that ends, and all that comes is for aiohttp."""

    @property
    def free(self) -> bool:
        """What comes now begins a request for certain, and nothing else is to be done."""
        return self._owed == 0 and self.idle and not (self._close or self._force_close)

    @property
    def task(self) -> "asyncio.Task[None] | None":
        return self._task_handler

    def read(self, data: bytes, *, alone: bool) -> None:
        fresh, seen = self._owed == 0, self._request_count
        super().read(data, alone=alone)
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
        waiting = self._waiter is not None or self._request_count == last
        super()._break_off(last)
        if waiting and not self._messages and self._task_handler is not None:
            # aiohttp was told of the messages that are dropped, and would look for one.
            self._task_handler.cancel()
            self.force_close()

    def stand_by(self) -> None:
        """A request takes the short way: the connection is not idle, as aiohttp would think."""
        self._disarm()
        self.keep_alive(True)

    def rest(self) -> None:
        """It is idle from now on."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
