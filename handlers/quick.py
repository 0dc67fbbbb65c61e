"""Quick: plain requests answered as chat() does behind its middlewares, without aiohttp's request and response."""

import time
from collections.abc import Mapping
from contextlib import closing

import msgspec
from aiohttp.helpers import rfc822_formatted_time

from handlers.admission import BodyMemory, Lease, Turns
from handlers.chat import asked, note_peek
from handlers.heads import framed, lines, status_line
from handlers.keys import Life, Sight, Who
from handlers.middlewares.access import FIXED, Telling, request_id
from handlers.middlewares.errors import dialect_of, error_body, error_headers
from handlers.out import Out
from handlers.plain import Judge, Plain, PlainRequest
from handlers.relay import Cut, late_unit, node_headers, told_of
from peers.errors import Busy, MasaError
from peers.metrics import Metrics
from peers.peek import peek
from peers.wire import Answerer, Call, Door, Reply


class Quick:
    """The client API's inference paths, for the requests that `judge` finds plain."""

    def __init__(
        self, judge: Judge, answerer: Answerer, turns: Turns, bodies: BodyMemory, metrics: Metrics, life: Life, who: Who
    ) -> None:
        self._judge = judge
        self._answerer = answerer
        self._turns = turns
        self._bodies = bodies
        self._metrics = metrics
        self._life = life
        self._fixed = lines(FIXED)
        self._here = lines(node_headers(who.id, who.shown))

    def alone(self) -> bool:
        return self._turns.taken <= 1

    def read(self, data: bytes) -> tuple[PlainRequest, Lease] | None:
        """The plain request that begins with `data`, and room for its body; None: it takes the long way."""
        plain = None if self._life.closed else self._judge.read(data)
        if plain is None:
            return None
        lease = Lease(self._bodies)
        try:
            lease.grow(plain.length)
        except Busy:
            return None
        return plain, lease

    def sight(self, plain: Plain) -> Sight:
        assert isinstance(plain, PlainRequest)
        return Sight(request_id(plain.head.request_id), time.monotonic())

    async def answer(self, plain: Plain, lease: Lease, address: str, out: Out) -> bool:
        """Whether the connection can be used again. Raises ConnectionError: it has to be cut."""
        assert isinstance(plain, PlainRequest)
        with Telling(out.sight, self._metrics, "POST", plain.head.door.path, address):
            try:
                await self._pass_on(plain, lease, address, out)
            except MasaError as error:
                out.sight.code = error.code
                self.refuse(error, plain, out)
                return not error.close
        return True

    def refuse(self, error: MasaError, plain: Plain, out: Out) -> None:
        """What goes out is what error_response() makes."""
        assert isinstance(plain, PlainRequest)
        body = msgspec.json.encode(error_body(error, dialect_of(plain.head.door.path), out.sight.id))
        told = error_headers(error) | {"Content-Length": str(len(body))}
        if error.close:
            told["Connection"] = "close"
        out.sight.status, out.sight.bytes_out = error.status, len(body)
        out.whole(self._head(error.status, told, self._here, out.sight.id) + body)

    async def _pass_on(self, plain: PlainRequest, lease: Lease, address: str, out: Out) -> None:
        """chat(), step by step. Raises MasaError, ConnectionError."""
        try:
            call = _call(plain, out.sight)
            await self._turns.take(plain.head.caller or address)
            try:
                reply = await self._answerer.open(call)
                del call  # The upstream has the body: it is not kept for as long as the answer streams.
                lease.release()
                await self._relay(plain.head.door, reply, out)
            finally:
                self._turns.release()
        finally:
            lease.release()

    async def _relay(self, door: Door, reply: Reply, out: Out) -> None:
        """relay(), onto `out`."""
        sight = out.sight
        sight.route, sight.provider, sight.status = reply.route, reply.provider, reply.status
        with closing(reply):
            self._begin(reply, out)
            try:
                if reply.pour is not None:
                    await reply.pour(out)
                else:
                    async for chunk in reply.chunks:
                        out.write(chunk)
                        await out.drained()
            except MasaError as error:
                sight.code = error.code
                unit = late_unit(reply, door.dialect, sight.tail, error)
                if unit is not None:
                    out.add(unit)
                raise Cut from error
            out.end()

    def _begin(self, reply: Reply, out: Out) -> None:
        headers, chunked, empty = framed(reply.status, {**reply.headers, **told_of(reply)})
        here = "" if reply.by else self._here
        out.begin(self._head(reply.status, headers, here, out.sight.id), chunked=chunked, empty=empty)

    def _head(self, status: int, headers: Mapping[str, str], here: str, request_id: str) -> bytes:
        return (
            f"{status_line(status)}{lines(headers)}{self._fixed}{here}"
            f"X-Request-Id: {request_id}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        ).encode()


def _call(plain: PlainRequest, sight: Sight) -> Call:
    """It takes the body over. Raises BadRequest."""
    head, body, plain.body = plain.head, plain.body, b""
    seen = peek(body, head.door)
    stream = note_peek(sight, head.door, seen, len(body))
    return Call(sight.id, head.door, seen.model, stream, body, head.crossing, ask=asked(head.ask))
