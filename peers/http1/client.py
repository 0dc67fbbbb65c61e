"""Client: pooled HTTP/1.1: a kept connection where there is one, else a new one."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import Generic, TypeVar

from peers.http1.answer import Answer
from peers.http1.connection import Connection, Left
from peers.http1.errors import Dropped, Unreached, UnreachedInTime
from peers.http1.watch import Watch

P = TypeVar("P", bound=Hashable)
"""A place: connections are kept apart by it."""

Dial = Callable[[P, Connection], Awaitable[None]]
"""Connects it to the place, or raises Unreached and leaves nothing open."""


class Client(Generic[P]):
    """Redirects are not followed, cookies not kept, nothing is decoded, and no proxy is asked."""

    def __init__(self, dial: Dial[P], kept: float) -> None:
        """`kept`: seconds for which an idle connection may wait for its next request."""
        self._dial = dial
        self._kept = kept
        self._loop = asyncio.get_running_loop()
        self._idle: dict[P, deque[tuple[float, Connection]]] = {}
        """With the time at which each became idle, the oldest first."""
        self._open: dict[Connection, P] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._new = partial(Connection, self._finished, self._lost, Watch())
        self._closed = False

    async def ask(
        self,
        place: P,
        head: bytes,
        body: bytes = b"",
        *,
        connect: float,
        silence: float,
        bodiless: bool = False,
        left: Left | None = None,
    ) -> Answer:
        """Seconds: `connect` for a new connection, `silence` before the first byte and between two.

        Whoever holds the answer closes it; `bodiless` and `left` as Connection has them. Raises Unreached, Dropped,
        NotHttp, Silent.
        """
        if kept := self._kept_one(place):
            try:
                return await kept.ask(head, body, silence, bodiless=bodiless, left=left)
            except Dropped as error:
                # The other side closed it meanwhile, which says nothing about the other side: once more.
                if error.heard:
                    raise
        connection = await self._connected(place, connect)
        return await connection.ask(head, body, silence, bodiless=bodiless, left=left)

    @property
    def connections(self) -> int:
        """That are open, the idle ones among them."""
        return len(self._open)

    def close(self) -> None:
        self._closed = True
        for connection in [*self._open]:
            connection.abort()
        if self._sweep is not None:
            self._sweep.cancel()

    def _kept_one(self, place: P) -> Connection | None:
        """The one that was used last, so that those not needed grow old."""
        idle, oldest = self._idle.get(place), self._loop.time() - self._kept
        while idle:
            since, connection = idle.pop()
            if connection.open and since > oldest:
                return connection
            connection.abort()
        return None

    async def _connected(self, place: P, within: float) -> Connection:
        connection = self._new()
        try:
            async with asyncio.timeout(within):
                await self._dial(place, connection)
        except TimeoutError as error:
            raise UnreachedInTime(f"no connection within {within:g} s") from error
        if self._closed:
            connection.abort()
            raise Unreached("this client is closed")
        if connection.open:
            self._open[connection] = place
        return connection

    def _finished(self, connection: Connection) -> None:
        self._idle.setdefault(self._open[connection], deque()).append((self._loop.time(), connection))
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._kept, self._sweep_out)

    def _lost(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def _sweep_out(self) -> None:
        """Close what was idle for too long."""
        self._sweep, oldest = None, self._loop.time() - self._kept
        for place, idle in [*self._idle.items()]:
            while idle and (idle[0][0] <= oldest or not idle[0][1].open):
                idle.popleft()[1].abort()
            if not idle:
                del self._idle[place]
        if self._idle:
            self._sweep = self._loop.call_later(self._kept, self._sweep_out)


def request_head(method: str, target: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """A request's head; `length` of its body, None: it has none. Raises ValueError for what would be read as more."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *[f"{name}: {value}" for name, value in headers.items()]]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    text = "\r\n".join(lines) + "\r\n\r\n"
    if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1 or "\0" in text:
        raise ValueError("a line break in a header")
    return text.encode("latin-1")
