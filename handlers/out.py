"""Out: an answer written straight onto its caller's connection, in as few writes as its pieces allow."""

import asyncio
from collections.abc import Awaitable, Callable

from handlers.keys import Sight
from handlers.relay import note
from peers.wire import Flow

LAST_CHUNK = b"0\r\n\r\n"


class Out:
    """A Sink for one answer's body. Its head goes out with the first piece, but waits for none."""

    __slots__ = ("_chunked", "_drain", "_empty", "_head", "_loop", "_slow", "_source", "_transport", "begun", "sight")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        sight: Sight,
        drain: Callable[[], Awaitable[None]],
        *,
        slow: bool,
    ) -> None:
        """`drain` waits while the caller is slow, which it is now if `slow`."""
        self.sight = sight
        self.begun = False
        """Its head has gone out, or is about to."""
        self._loop = loop
        self._transport = transport
        self._drain = drain
        self._slow = slow
        self._source: Flow | None = None
        self._head = b""
        self._chunked = self._empty = False

    def whole(self, answer: bytes) -> None:
        """Head and body at once."""
        self.begun = True
        self._send(answer)

    def begin(self, head: bytes, *, chunked: bool, empty: bool) -> None:
        """`empty`: an answer of this status has no body."""
        self.begun = True
        self._head, self._chunked, self._empty = head, chunked, empty
        self._loop.call_soon(self.flush)

    def write(self, piece: bytes) -> None:
        note(self.sight, piece)
        self.add(piece)

    def add(self, piece: bytes) -> None:
        """A piece of our own, which is not counted."""
        if not piece or self._empty:
            return
        framed = b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece
        if self._head:
            framed, self._head = self._head + framed, b""
        self._send(framed)

    def end(self) -> None:
        """Raises ConnectionError when the caller has left."""
        if self._transport.is_closing():
            raise ConnectionResetError("the caller has left before the end")
        last, self._head = self._head + (LAST_CHUNK if self._chunked else b""), b""
        if last:
            self._send(last)

    async def drained(self) -> None:
        """Until more may be written. Raises ConnectionError when the caller has left."""
        if self._transport.is_closing():
            raise ConnectionResetError("the caller has left")
        if self._slow:
            await self._drain()

    def fed_by(self, source: Flow | None) -> None:
        self._source = source
        if source is not None and self._slow:
            source.pause()

    def hold(self) -> None:
        """Its reader is slow."""
        self._slow = True
        if self._source is not None:
            self._source.pause()

    def go_on(self) -> None:
        self._slow = False
        if self._source is not None:
            self._source.resume()

    def flush(self) -> None:
        """The head, where no piece has taken it along."""
        if self._head:
            head, self._head = self._head, b""
            self._send(head)

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop raises then
            self._transport.write(data)
