"""Out: an answer written straight onto its caller's connection; what is there of it at first, as one write."""

import asyncio
from collections.abc import Callable

from handlers.keys import Sight
from handlers.relay import note
from peers.wire import Flow

MOST_TOGETHER = 64 * 1024
"""Bytes that wait for the end of their turn."""
LAST_CHUNK = b"0\r\n\r\n"


class Out:
    """A Sink for one answer's body.

    Among others, what is there of it in its first turn of the loop leaves at that turn's end, when theirs does too:
    readers are woken once, and not for each write. What comes later, or alone, leaves at once.
    """

    __slots__ = (
        "_alone",
        "_empty",
        "_flows",
        "_loop",
        "_pieces",
        "_size",
        "_slow",
        "_source",
        "_transport",
        "_waiter",
        "begun",
        "chunked",
        "sight",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        sight: Sight,
        *,
        alone: Callable[[], bool],
        slow: bool,
    ) -> None:
        """`alone`: whether nobody else is answered. `slow`: its reader is slow from the beginning."""
        self.sight = sight
        self.begun = False
        """Its head has gone out, or is about to."""
        self.chunked = False
        self._loop = loop
        self._transport = transport
        self._alone = alone
        self._slow = slow
        self._waiter: asyncio.Future[None] | None = None
        """Somebody waits until more may be written."""
        self._source: Flow | None = None
        self._pieces: list[bytes] = []
        """That leave at the end of its first turn."""
        self._size = 0
        """Bytes of these."""
        self._flows = False
        """They have left."""
        self._empty = False

    def whole(self, answer: bytes) -> None:
        """Head and body at once."""
        self.begun = True
        self._send(answer)
        self._go()

    def begin(self, head: bytes, *, chunked: bool, empty: bool) -> None:
        """`empty`: an answer of this status has no body."""
        self.begun = True
        self.chunked, self._empty = chunked, empty
        self._send(head)

    def write(self, piece: bytes) -> None:
        note(self.sight, piece)
        self.add(piece)

    def add(self, piece: bytes) -> None:
        """A piece of our own, which is not counted."""
        if not piece or self._empty:
            return
        self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece)
        self._go()

    def end(self) -> None:
        """Raises ConnectionError when the caller has left."""
        if self._transport.is_closing():
            raise ConnectionResetError("the caller has left before the end")
        if self.chunked:
            self._send(LAST_CHUNK)
        self._go()

    async def drained(self) -> None:
        """Until more may be written. Raises ConnectionError when the caller has left."""
        self.flush()
        if self._transport.is_closing():
            raise ConnectionResetError("the caller has left")
        if self._slow:
            self._waiter = self._loop.create_future()
            await self._waiter

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
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def flush(self) -> None:
        """Right at any time; before the connection is closed, or somebody else writes on it."""
        if self._pieces:
            self._flows = True
            self._send(b"".join(self._pieces))
            self._pieces = []

    def _go(self) -> None:
        """More than a head is there: a stream, and who is alone, does not wait for the turn's end."""
        if self.chunked or self._alone():
            self.flush()

    def _send(self, data: bytes) -> None:
        if self._flows:
            if not self._transport.is_closing():  # uvloop raises then
                self._transport.write(data)
            return
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MOST_TOGETHER:
            self.flush()
