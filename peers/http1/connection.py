"""Connection: one HTTP/1.1 connection (RFC 9112): a request out, its answer in, one after another. llhttp frames."""

import asyncio
import math
from collections.abc import Callable
from typing import cast

import httptools

from peers.http1.answer import Answer
from peers.http1.errors import Broken, Dropped, NotHttp, Silent
from peers.http1.watch import Watch

SLICE = 256 * 1024
"""Bytes of a body that go out at once: a large one neither is copied nor holds up the loop."""
TOGETHER = 64 * 1024
"""A body up to this leaves in one write with its head."""
MOST_HEADERS = 128
LONGEST_LINE = 64 * 1024
"""Bytes of a head, a chunk's line or trailers before they must have come to their end."""

Left = Callable[[Answer], None]


class Connection(asyncio.Protocol):
    """`finished` hears each time an answer is whole and another one can be brought; `lost` of the end."""

    __slots__ = (
        "_answer",
        "_bodiless",
        "_endless",
        "_finished",
        "_full",
        "_heard",
        "_interim",
        "_keep",
        "_loop",
        "_lost",
        "_parser",
        "_silence",
        "_unframed",
        "_uploading",
        "_watch",
        "_writable",
        "heard_at",
        "transport",
    )

    def __init__(
        self,
        finished: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
        watch: Watch | None = None,
    ) -> None:
        """`watch`: what others have too."""
        self.transport = cast(asyncio.Transport, None)
        """None until it is connected."""
        self._finished = finished
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._answer: Answer | None = None
        """Of the request that was sent last, until it is whole or given up."""
        self._bodiless = self._interim = self._uploading = self._keep = self._endless = False
        self._unframed = 0
        """Bytes since the last that was part of a body."""
        self._heard = False
        """Something came for the request that was sent last."""
        self._full = False
        self._writable: asyncio.Future[None] | None = None
        """Somebody waits until more can be written."""
        self._watch = watch or Watch()
        self._silence = 0.0
        self.heard_at = 0.0
        """The loop's time of what came last."""

    @property
    def open(self) -> bool:
        return not self.transport.is_closing()

    def abort(self) -> None:
        """Right at any time, before it is connected too."""
        if self.transport is not None:
            self.transport.abort()

    async def ask(
        self, head: bytes, body: bytes, silence: float, *, bodiless: bool = False, left: Left | None = None
    ) -> Answer:
        """Send a request; its answer, once its head is there. Whoever holds it closes it.

        `silence`: seconds, before its first byte and between two. `bodiless`: it is a HEAD request. `left`: who holds
        the answer that comes when this is cancelled meanwhile. Raises Dropped, NotHttp, Silent.
        """
        if self.transport.is_closing():
            raise Dropped("the connection is closed", heard=False)
        answer = self._answer = Answer(self, self._loop)
        self._bodiless, self._interim, self._heard, self._unframed = bodiless, False, False, 0
        try:
            self._silence, self.heard_at = silence, self._loop.time()
            self._watch.begin(self, self.heard_at + silence)
            if len(body) <= TOGETHER:
                # At the end of this turn, back to back with others: a server that waits is woken once for all of them.
                self._loop.call_soon(self._send, head + body if body else head)
            else:
                await self._upload(head, body, answer)
            await answer.begun()
        except BaseException as error:
            if left is not None and not self._uploading and isinstance(error, asyncio.CancelledError):
                left(answer)
            else:
                answer.close()
            raise
        return answer

    def _send(self, request: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(request)

    async def _upload(self, head: bytes, body: bytes, answer: Answer) -> None:
        """Until all of it was written, or its answer came early."""
        self._uploading = True
        self.transport.write(head)
        view = memoryview(body)
        for start in range(0, len(view), SLICE):
            if self._full:
                self._writable = self._loop.create_future()
                await self._writable
            if answer.status or answer.over:
                return
            self.transport.write(view[start : start + SLICE])
            self.heard_at = self._loop.time()
        self._uploading = False

    # As asyncio calls it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.transport.abort()  # nobody asked for it: what comes next could be taken for an answer
            return
        self._heard, self.heard_at = True, self._loop.time()
        self._unframed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._answer is not None and not self._answer.done:
                self.give_up(NotHttp(f"what came is not HTTP ({error})"))
                return
            self._keep = False  # the answer is whole, and what came behind it is nobody's
        if self._answer is None:
            return
        if self._answer.done:
            self._release()
        elif self._unframed > LONGEST_LINE:
            self.give_up(NotHttp("its head, a chunk's line or its trailers are over 64 KiB"))

    def eof_received(self) -> None:
        """The end of an answer that has no other one (RFC 9112 §6.3)."""
        answer = self._answer
        if answer is not None and answer.status and self._endless:
            self._keep = False
            answer.finish()
            self._release()

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        answer = self._answer
        if answer is not None and answer.status:
            self.give_up(Broken("the connection was lost in the middle of the answer"))
        elif answer is not None:
            self.give_up(Dropped("the connection was lost before the answer", heard=self._heard))
        self._watch.end(self)
        del self._parser  # which holds this object
        self._lost(self)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._write_on()

    def _write_on(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # As its answer calls it

    def hold(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def go_on(self) -> None:
        self.heard_at = self._loop.time()
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def give_up(self, error: OSError) -> None:
        answer, self._answer = self._answer, None
        self.transport.abort()
        if answer is not None:
            answer.fail(error)

    def _release(self) -> None:
        self._answer = None
        if self._keep and not (self._uploading or self._bodiless or self.transport.is_closing()):
            self._finished(self)
        else:
            self.transport.abort()

    # As llhttp calls it

    def on_message_begin(self) -> None:
        if self._answer is not None and self._answer.done:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is None or answer.status:
            return  # a trailer: none crosses
        if len(answer.headers) >= MOST_HEADERS:
            raise ValueError("too many headers")
        answer.headers.add(name.decode("latin-1"), value.rstrip(b" \t").decode("latin-1"))

    def on_headers_complete(self) -> None:
        status, answer = self._parser.get_status_code(), self._answer
        if answer is None or answer.done:
            return
        if status == 101:
            raise ValueError("nobody asked for another protocol")
        self._interim = status < 200
        if not self._interim:
            self._endless = not _says_its_end(answer)
            answer.head(status)
            self._write_on()  # whoever uploads has its answer
            if self._bodiless:
                answer.finish()

    def on_body(self, piece: bytes) -> None:
        self._unframed = 0
        if self._answer is not None and not self._answer.done:
            self._answer.piece(piece)

    def on_message_complete(self) -> None:
        if self._answer is None or self._answer.done:
            return
        if self._interim:  # 100 Continue, 103 Early Hints: the answer comes yet
            self._answer.headers.clear()
        else:
            self._keep = self._parser.should_keep_alive()  # once it is asked later, it has forgotten
            self._answer.finish()

    # As its watch calls it

    def due(self, now: float) -> float:
        if self._answer is None:
            return math.inf
        return (now if self._answer.paused else self.heard_at) + self._silence

    def silent(self) -> None:
        self.give_up(Silent(f"nothing came for {self._silence:g} s"))


def _says_its_end(answer: Answer) -> bool:
    coded = answer.headers.get("Transfer-Encoding")
    if coded is not None:
        return coded.rpartition(",")[2].strip().lower() == "chunked"
    return "Content-Length" in answer.headers
