"""QuickForward: calls that another node hands on, answered as forward() does, without aiohttp's request and response.

A call whose head would be refused is not plain: forward() says why.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing

from handlers.admission import Lease
from handlers.between import Between
from handlers.chat import CROSSING
from handlers.handed import (
    FORWARD,
    Handed,
    Serving,
    Stopped,
    Telling,
    Told,
    Working,
    end_early,
    ended,
    handed,
    late,
    received,
)
from handlers.heads import framed, lines, status_line
from handlers.keys import Sight
from handlers.middlewares.refusals import refusal_body, refusal_headers
from handlers.out import Out
from handlers.plain import LARGEST_BODY, Plain, read_head
from handlers.relay import Cut
from peers.doors import FORWARDED
from peers.errors import MasaError
from peers.guests import Guest
from peers.metrics import Metrics
from peers.network.signatures import PROFILE, claimed
from peers.wire import Flow, Reply

LINES = {f"POST {FORWARD}{path} HTTP/1.1".encode(): FORWARD + path for path in FORWARDED}
NAMES = {
    name.encode(): name
    for name in ("host", "content-length", "x-request-id", "masa-query", *PROFILE, *CROSSING)
    if name != "content-encoding"
}
"""What a node sends along, each of them once."""


class PlainCall(Plain, kw_only=True):
    handed: Handed


class QuickForward:
    """One for a peer listener."""

    def __init__(self, between: Between, serving: Serving, metrics: Metrics) -> None:
        self._between = between
        self._serving = serving
        self._metrics = metrics
        self._most_body = min(serving.most_body, LARGEST_BODY)

    def alone(self) -> bool:
        return len(self._serving.guests) <= 1

    def read(self, data: bytes) -> tuple[Plain, Lease] | None:
        """The plain call that begins with `data`, and room for its body; None: it takes the long way."""
        path = LINES.get(data[: data.find(b"\r\n", 0, 128)])
        head = read_head(data, NAMES) if path is not None else None
        if path is None or head is None:
            return None
        headers, start = head
        length, lease = int(headers.get("content-length", 0)), Lease(self._serving.bodies)
        if not 0 < length <= self._most_body:
            return None
        try:
            claim, between = claimed("POST", path, headers), self._between
            knock = between.gate.knock(claim, between.clock(), known=True)
            one = handed(self._serving, knock, headers, length, asyncio.get_running_loop().time())
            lease.grow(length)
        except MasaError:
            return None
        return PlainCall(start, length, handed=one), lease

    def sight(self, plain: Plain) -> Sight:
        return Sight("", time.monotonic())

    async def answer(self, plain: Plain, lease: Lease, address: str, out: Out) -> bool:
        """Whether the connection can be used again. Raises ConnectionError: it has to be cut."""
        assert isinstance(plain, PlainCall)
        try:
            with Telling(self._metrics) as told:
                try:
                    await self._serve(plain, lease, address, out, told)
                finally:
                    lease.release()
                    told.bytes_out = out.sight.bytes_out
        except MasaError as error:
            self._between.traffic.refused[error.code] += 1
            self.refuse(error, plain, out)
            return not error.close
        return True

    def refuse(self, error: MasaError, plain: Plain, out: Out) -> None:
        """What goes out is what refused() makes."""
        body = refusal_body(error)
        told = refusal_headers(error) | {"Content-Length": str(len(body))}
        if error.close:
            told["Connection"] = "close"
        out.whole(self._head(error.status, told) + body)

    async def _serve(self, plain: PlainCall, lease: Lease, address: str, out: Out, told: Told) -> None:
        """forward(), step by step. Raises MasaError, ConnectionError."""
        one, body, plain.body = plain.handed, plain.body, b""
        self._between.gate.enter(one.knock, address, self._between.clock())
        if asyncio.get_running_loop().time() >= one.due:
            raise late()
        working = Working(one, told)
        call = await received(one, body, self._between, working.guest, told)
        del body
        try:
            async with working as guest:
                reply = await self._serving.answerer.open(call)
                del call  # The upstream has the body: it is not kept for as long as the answer streams.
                lease.release()
                await self._relay(reply, out, guest, told)
        except Stopped:
            await end_early(out.begun, out.chunked, lambda: _sent(out))
        else:
            out.end()

    async def _relay(self, reply: Reply, out: Out, guest: Guest, told: Told) -> None:
        """Its own end is the only one: a broken answer is cut, no more."""
        with closing(reply):
            begin = self._beginning(reply, out, guest, told)
            opening = Opening(out, begin)
            try:
                if reply.pour is not None:
                    await reply.pour(opening)
                else:
                    async for chunk in reply.chunks:
                        opening.write(chunk)
                        await out.drained()
            except MasaError as error:
                if not out.begun:
                    raise
                told.outcome, told.code = "cut", error.code
                raise Cut from error
            if not out.begun and not begin():
                told.outcome = guest.stopped or ""
                raise ended(guest)

    def _beginning(self, reply: Reply, out: Out, guest: Guest, told: Told) -> Callable[[], bool]:
        """What begins the answer on `out`. False: too late, its guest was stopped."""
        headers, chunked, empty = framed(reply.status, {**reply.headers})
        head, now = self._head(reply.status, headers), asyncio.get_running_loop().time

        def begin() -> bool:
            if guest.begin(now()):
                told.status = reply.status
                out.begin(head, chunked=chunked, empty=empty)
            return out.begun

        return begin

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        return f"{status_line(status)}{lines(headers | self._between.stamps())}\r\n".encode()


class Opening:
    """The Sink of a guest's answer: it goes onto `out`, once its first byte has come, unless it is stopped by then."""

    __slots__ = ("_begin", "_out")

    def __init__(self, out: Out, begin: Callable[[], bool]) -> None:
        self._out = out
        self._begin = begin

    def write(self, piece: bytes) -> None:
        if self._out.begun or self._begin():
            self._out.write(piece)

    def fed_by(self, source: Flow | None) -> None:
        self._out.fed_by(source)


async def _sent(out: Out) -> None:
    out.end()
    await out.drained()
