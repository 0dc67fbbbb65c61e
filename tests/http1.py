"""A server's bytes played to a Connection without a socket, piece by piece; and what its caller made of them."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Literal

from peers.http1.answer import Answer
from peers.http1.connection import LONGEST_LINE, Connection
from peers.http1.errors import Broken, Dropped, NotHttp, Silent
from peers.wire import Flow

End = Literal["fin", "reset", "open"]
"""What the server does after its last byte."""

REQUEST = b"POST / HTTP/1.1\r\nHost: there\r\nContent-Length: 2\r\n\r\n"
SECONDS = 5.0
ENDS = {Broken: "broken", Dropped: "dropped", NotHttp: "not http", Silent: "silent"}


ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;a="b"\r\nHello\r\n0\r\nX-Sum: 1\r\n\r\n'
)
"""One with all that an answer may have."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, as its caller sees it."""

    how: str
    """`whole`, or what was raised."""
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    kept: bool = False
    """The connection was given back, for the next request."""


class Wire(asyncio.Transport):
    """What is written to it is kept; the first write brings the answer. It stops when it is paused or aborted."""

    def __init__(self, pieces: Iterable[bytes], end: End = "fin") -> None:
        super().__init__()
        self.pieces = list(pieces)
        self.end: End | None = end
        self.written = b""
        self.paused = self.gone = False
        self.kept = 0
        """How often the connection was given back."""
        self.connection = Connection(lambda _: self._count(), lambda _: None)
        self.connection.connection_made(self)

    def _count(self) -> None:
        self.kept += 1

    def play(self) -> None:
        while self.pieces and not (self.paused or self.gone):
            self.connection.data_received(self.pieces.pop(0))
        if not (self.pieces or self.paused or self.gone) and self.end not in (None, "open"):
            end, self.end = self.end, None
            if end == "fin":
                self.connection.eof_received()
            self._go(ConnectionResetError() if end == "reset" else None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        asyncio.get_running_loop().call_soon(self.play)

    def is_closing(self) -> bool:
        return self.gone

    def abort(self) -> None:
        self._go(None)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self.play)

    def _go(self, error: Exception | None) -> None:
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, error)


@dataclass(slots=True)
class Bucket:
    """A sink."""

    content: bytes = b""
    sources: list[Flow | None] = field(default_factory=list)

    def write(self, piece: bytes) -> None:
        self.content += piece

    def fed_by(self, source: Flow | None) -> None:
        self.sources.append(source)


async def played(pieces: Sequence[bytes], end: End = "fin", *, bodiless: bool = False, poured: bool = False) -> Told:
    """The first answer in these pieces, as one caller reads it to its end."""
    wire = Wire(pieces, end)
    try:
        answer = await wire.connection.ask(REQUEST, b"{}", SECONDS, bodiless=bodiless)
    except OSError as error:
        return Told(ENDS[type(error)])
    finally:
        if wire.gone:
            await lost()
    headers, body = tuple(answer.headers.items()), Bucket()
    try:
        if poured:
            await answer.pour(body)
        else:
            await read(answer, body)
        how = "whole" if answer.whole else "not whole"
    except OSError as error:
        how = ENDS[type(error)]
    finally:
        answer.close()
    assert tuple(answer.headers.items()) == (() if poured else headers), "no trailer is a header"
    told = Told(how, answer.status, headers, body.content, wire.kept == 1)
    wire.abort()
    await lost()
    return told


def read_alike(data: bytes, cuts: Sequence[int] = ()) -> bool:
    """Whether it is a whole answer; AssertionError: what its caller is told hangs on how it was cut on its way.

    `cuts`: places; without them at places that come from the bytes themselves.
    """
    rng = Random(data)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or rng.choices(range(2**20), k=8))})
    pieces = [data[start:end] for start, end in pairwise(places)]
    with asyncio.Runner() as runner:
        one, cut = runner.run(played([data] if data else [])), runner.run(played(pieces, poured=bool(rng.randrange(2))))
    if len(data) <= LONGEST_LINE:  # what is longer may come to its end, if it comes at once
        assert (one.how, one.status, one.headers, one.body) == (cut.how, cut.status, cut.headers, cut.body)
    return one.how == "whole"


async def read(answer: Answer, sink: Bucket) -> None:
    while piece := await answer.read():
        sink.write(piece)


async def lost() -> None:
    """Until what was called soon has run."""
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn
