"""Answer: an open HTTP answer, whose bytes are handed on as they come."""

import asyncio
from typing import Protocol

from multidict import CIMultiDict

from peers.http1.errors import Broken
from peers.wire import Sink

MOST_WAITING = 64 * 1024
"""Bytes of a body that wait for their reader before the sender is held up: over that comes one read of a socket."""


class Source(Protocol):
    """Where an answer comes from."""

    heard_at: float
    """The loop's time of what came last."""

    def hold(self) -> None:
        """Read no more for now."""
        ...

    def go_on(self) -> None: ...

    def give_up(self, error: OSError) -> None:
        """Nobody wants the rest: fail the answer with it, and bring no other one."""
        ...


class Answer:
    """What a Connection brings for a request. Whoever holds it closes it."""

    __slots__ = (
        "_error",
        "_loop",
        "_pieces",
        "_sink",
        "_size",
        "_source",
        "_waiter",
        "done",
        "headers",
        "paused",
        "status",
    )

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        """0 until the head is there."""
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.done = False
        """It ended by its own framing."""
        self.paused = False
        """Its reader is slow: no silence counts against it."""
        self._source = source
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        """Somebody waits: for the head, then for a piece, or for the end where there is a sink."""
        self._pieces: list[bytes] = []
        self._size = 0
        """Bytes of these."""
        self._sink: Sink | None = None
        self._error: OSError | None = None

    @property
    def whole(self) -> bool:
        """It ended by its own framing, and every byte was handed over."""
        return self.done and not self._pieces

    @property
    def over(self) -> bool:
        """Nothing of it comes any more."""
        return self.done or self._error is not None

    async def begun(self) -> None:
        """Until its head is there. Raises Dropped, NotHttp, Silent."""
        if not self.status and self._error is None:
            await self._wait()
        if not self.status and self._error is not None:
            raise self._error

    async def read(self) -> bytes:
        """The next piece, as it came; b"" at the end. Raises Broken, NotHttp, Silent."""
        while not self._pieces:
            if self.done:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._size = [], 0
        self.resume()
        return piece

    async def pour(self, sink: Sink) -> None:
        """Every piece to the sink as it comes, until the end. Raises as read() does. Its headers are gone then."""
        self.headers.clear()  # a stream may be open for long
        self.resume()
        sink.fed_by(self)
        try:
            self._hand_over(sink)
            while not self.done:
                if self._error is not None:
                    raise self._error
                await self._wait()
        finally:
            self._sink = None
            sink.fed_by(None)

    def _hand_over(self, sink: Sink) -> None:
        """All that waits now, and then each piece as it comes."""
        for piece in self._pieces:
            sink.write(piece)
        self._pieces, self._size = [], 0
        self._sink = sink

    def heard_at(self, now: float) -> float:
        """The loop's time of what came last of it, which is `now` while its reader is slow."""
        return now if self.paused else self._source.heard_at

    def give_up(self, error: OSError) -> None:
        """Right at any time: nothing of it comes any more; whoever reads it hears the error."""
        if not self.over:
            self._source.give_up(error)

    def close(self) -> None:
        """Right at any time: the connection is given up, unless the answer has come to its end."""
        if not self.over:
            self.give_up(Broken("the answer was closed before its end"))
        elif self._error is not None:
            # The one that was raised holds the frames of whoever read this answer, and these the answer.
            self._error = Broken("the answer is closed")

    def pause(self) -> None:
        """Hold up whoever sends it: as Flow has it."""
        if not self.paused and not self.over:
            self.paused = True
            self._source.hold()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self._source.go_on()

    # What its source tells

    def head(self, status: int) -> None:
        self.status = status
        self._wake()

    def piece(self, piece: bytes) -> None:
        if self._sink is not None:
            self._sink.write(piece)
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MOST_WAITING:
            self.pause()
        self._wake()

    def finish(self) -> None:
        self.resume()
        self.done = True
        self._wake()

    def fail(self, error: OSError) -> None:
        self._error = error
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
