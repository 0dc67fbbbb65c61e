"""A call that another node hands on: answered from this node's own upstreams, never handed on again."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field

import structlog
from aiohttp import web
from msgspec import structs

from handlers.admission import BodyMemory, Lease
from handlers.between import BETWEEN
from handlers.chat import crossing, declared_length, peek_at, read_body
from handlers.keys import METRICS
from handlers.middlewares.access import request_id
from handlers.middlewares.door import JSON, bare
from handlers.relay import Cut
from peers.doors import FORWARDED
from peers.errors import BadRequest, Busy, MasaError, ModelNotFound
from peers.guests import Guest, Guests
from peers.metrics import Metrics
from peers.network.gate import Buckets, Knock
from peers.network.policy import refusal
from peers.network.stake import SharedSecret
from peers.peek import inflate
from peers.upstreams.own import Own
from peers.wire import Answerer, Call, Door, Model, Reply

log = structlog.get_logger(__name__)

FORWARD = "/peer/v1/forward"
END_SECONDS = 1.0
"""For which the end of an answer that its asker has stopped may wait for the asker to read."""
LONGEST_DEADLINE = 86_400_000
"""Milliseconds."""
A_MINUTE = 60.0
"""Requests of one stranger."""
QUERY = re.compile(r"[!\"$-~]*")
"""What may stand behind the question mark of a request line."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What this node does for its peers."""

    answerer: Answerer
    """Answers a call with `hop` set from this node's own upstreams."""
    own: Own
    guests: Guests
    bodies: BodyMemory
    most_body: int
    closed: Callable[[], MasaError | None]
    """Why no peer is served now: `paused`, `draining`."""
    strangers: Buckets = field(default_factory=lambda: Buckets(A_MINUTE, A_MINUTE / 60))
    """How much each may still ask for, where members are strangers (docs/security.md C-30)."""


SERVING = web.AppKey("serving", Serving)


@dataclass(slots=True)
class Told:
    """What is told of one request afterwards, once it is known who sent it."""

    peer: str = ""
    name: str = ""
    """The request's id, as its asker's log has it."""
    model: str = ""
    status: int | None = None
    outcome: str = ""
    code: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0


class _Stopped(Exception):
    """Its own asker said by `calls` that nobody wants the rest."""


async def forward(request: web.Request) -> web.StreamResponse:
    """Cheap questions first: the signature's head, the path, the body's length; then the body, and who sent it."""
    arrived, serving = asyncio.get_running_loop().time(), request.app.get(SERVING)
    knock = request.app[BETWEEN].head(request, known=True)
    door = FORWARDED.get(knock.request.path.removeprefix(FORWARD))
    if door is None or serving is None:
        raise MasaError(404, "not_found", "peers may not ask for this path")
    if closed := serving.closed():
        raise closed
    _check_head(request, knock)
    size = declared_length(request, serving.most_body)
    serving.guests.check_new(knock.sender, knock.request.request_id, arrived)
    with _telling(request.app[METRICS]) as told, serving.bodies.lease(size) as lease:
        try:
            async with asyncio.timeout_at(arrived + knock.request.deadline_ms / 1000):
                call = await _received(request, serving, knock, door, lease, told)
        except TimeoutError:
            raise _late() from None
        out = web.StreamResponse()
        try:
            async with _working(serving.guests, knock, call, arrived, told) as guest:
                reply = await serving.answerer.open(structs.replace(call, guest=guest))
                del call
                lease.release()
                await _relay(request, reply, out, guest, told)
        except _Stopped:
            await _end_early(out)
        else:
            await out.write_eof()
        return out


def _check_head(request: web.Request, knock: Knock) -> None:
    """What the signature's form leaves open. Raises MasaError."""
    deadline, kind = knock.request.deadline_ms, knock.request.content_type
    if deadline > LONGEST_DEADLINE or not QUERY.fullmatch(request.headers.get("Masa-Query", "")):
        raise BadRequest("malformed", "Masa-Deadline is a day at most; Masa-Query is what stood behind a question mark")
    if bare(kind) != JSON:
        raise BadRequest("unsupported_media_type", "send application/json", status=415)
    if not deadline:
        raise _late()


async def _received(request: web.Request, serving: Serving, knock: Knock, door: Door, lease: Lease, told: Told) -> Call:
    """The call, whose sender is known and may ask for it. Raises MasaError."""
    between, now = request.app[BETWEEN], asyncio.get_running_loop().time()
    body = await read_body(request, lease, serving.most_body)
    sender = between.gate.body(knock, body, between.clock())
    told.name, told.peer, told.bytes_in = request_id(request.headers.get("X-Request-Id")), sender[:8], len(body)
    serving.guests.note(sender, knock.request.request_id, now)
    strangers = not isinstance(between.stake, SharedSecret)
    if strangers:
        serving.strangers.take(sender, now)
        serving.guests.check_share(sender)
    seen = await peek_at(request, body, door, serving.most_body)
    told.model, stream = seen.model, door.streams if seen.stream is None else seen.stream
    model = _shared(serving.own, seen.model)
    await _check_policy(request, body, door, model, strangers=strangers, limit=serving.most_body)
    headers = crossing(request) | {"content-type": knock.request.content_type}
    query = request.headers.get("Masa-Query", "")
    return Call(told.name, door, seen.model, stream, body, headers, query, hop=True)


def _shared(own: Own, name: str) -> Model:
    """A model that is not shared is not there, as far as peers can tell."""
    for model in own.shared():
        if model.name in (name, f"{name}:latest"):
            return model
    raise ModelNotFound("this node serves no model of this name to peers")


async def _check_policy(
    request: web.Request, body: bytes, door: Door, model: Model, *, strangers: bool, limit: int
) -> None:
    """Accepts or refuses, and never edits."""

    def judge() -> str | None:
        plain = inflate(body, encoding, limit)
        return refusal(plain, door, strangers=strangers, advertised_context=model.context)

    encoding = request.headers.get("Content-Encoding", "")
    refused = await asyncio.to_thread(judge) if encoding else judge()
    if refused is not None:
        raise MasaError(403, "refused_by_peer", f"this node serves no peer's request with this `{refused}`")


@asynccontextmanager
async def _working(guests: Guests, knock: Knock, call: Call, arrived: float, told: Told) -> AsyncIterator[Guest]:
    """Work on it, for as long as somebody waits for it and nobody has it stopped. Raises MasaError, _Stopped."""
    loop = asyncio.get_running_loop()
    deadline = asyncio.timeout_at(arrived + knock.request.deadline_ms / 1000)

    def halt() -> None:
        if not deadline.expired():
            deadline.reschedule(loop.time())

    guest = Guest(
        knock.sender, knock.request.request_id, halt, lambda: deadline.reschedule(None), since=arrived,
        model=call.model, size=len(call.body), stream=call.stream,
    )  # fmt: skip
    del call
    try:
        async with deadline:
            with guests.entered(guest):
                yield guest
    except TimeoutError:
        if not deadline.expired():
            raise
        told.outcome = guest.stopped or "deadline"
        raise _ended(guest) from None


def _ended(guest: Guest) -> Exception:
    match guest.stopped:
        case "gave_way":
            return Busy("an own caller of this node came first")
        case "stopped":
            return _Stopped()
    return _late()


def _late() -> MasaError:
    return MasaError(504, "deadline", "its asker waits no longer")


async def _relay(request: web.Request, reply: Reply, out: web.StreamResponse, guest: Guest, told: Told) -> None:
    """Nothing goes out before the first byte has come. Its own end is the only one: a broken answer is cut, no more."""
    out.set_status(reply.status)
    out.headers.update(reply.headers)
    with closing(reply):
        chunk = await anext(reply.chunks, None)
        if not guest.begin(asyncio.get_running_loop().time()):
            told.outcome = guest.stopped or ""
            raise _ended(guest)
        told.status = reply.status
        await out.prepare(request)
        try:
            while chunk is not None:
                await out.write(chunk)
                told.bytes_out += len(chunk)
                chunk = await anext(reply.chunks, None)
        except MasaError as error:
            told.outcome, told.code = "cut", error.code
            raise Cut from error


async def _end_early(out: web.StreamResponse) -> None:
    """In good form, for the asker who stopped it and reads it no more: the connection lives. Raises MasaError, Cut."""
    if not out.prepared:
        raise MasaError(499, "stopped", "its asker stopped it")
    if out.headers.get("Transfer-Encoding") != "chunked":
        raise Cut
    try:
        async with asyncio.timeout(END_SECONDS):
            await out.write_eof()
    except TimeoutError:
        raise Cut from None


@contextmanager
def _telling(metrics: Metrics) -> Iterator[Told]:
    """Log and count it. Of a request whose sender is not proven nothing is told: it would fill the log."""
    told, began = Told(), time.monotonic()
    try:
        yield told
        fine = "ok" if (told.status or 0) < 400 else "refused" if (told.status or 0) < 500 else "failed"
        told.outcome = told.outcome or fine
    except MasaError as error:
        told.status, told.code, told.outcome = error.status, error.code, told.outcome or "refused"
        raise
    except (asyncio.CancelledError, ConnectionError):
        told.outcome = told.outcome or "asker_gone"
        raise
    finally:
        if told.peer:
            metrics.served.labels(told.outcome or "failed").inc()
            log.info(
                "served", request_id=told.name, peer=told.peer, model=told.model or None, status=told.status,
                outcome=told.outcome or "failed", code=told.code, bytes_in=told.bytes_in, bytes_out=told.bytes_out,
                ms=round((time.monotonic() - began) * 1000, 1),
            )  # fmt: skip
