"""A call that another node hands on: checked, worked on from own upstreams alone, stopped, told of.

By whichever way it came in: forwarded.py and quick_forward.py read and answer it.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

import structlog

from handlers.admission import BodyMemory
from handlers.between import Between
from handlers.chat import crossing, peek_at, too_large
from handlers.middlewares.access import request_id
from handlers.middlewares.door import JSON, bare
from handlers.relay import Cut
from peers.doors import FORWARDED
from peers.errors import BadRequest, Busy, MasaError, ModelNotFound, UpstreamUnreachable
from peers.guests import Guest, Guests
from peers.metrics import Metrics
from peers.network.gate import Buckets, Knock
from peers.network.policy import refusal
from peers.network.stake import SharedSecret
from peers.peek import inflate
from peers.upstreams.own import Own
from peers.wire import Answerer, Call, Door, Model

log = structlog.get_logger(__name__)

FORWARD = "/peer/v1/forward"
LONGEST_DEADLINE = 86_400_000
"""Milliseconds."""
A_MINUTE = 60.0
"""Requests of one stranger."""
END_SECONDS = 1.0
"""For which the end of an answer that its asker has stopped may wait for the asker to read."""
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


@dataclass(frozen=True, slots=True)
class Handed:
    """A call whose head may pass."""

    serving: Serving
    knock: Knock
    door: Door
    headers: Mapping[str, str]
    """Names in lower case, or in any."""
    arrived: float
    """In the loop's seconds."""

    @property
    def due(self) -> float:
        """Until when its asker waits for the first byte, in the loop's seconds."""
        return self.arrived + self.knock.request.deadline_ms / 1000


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


class Stopped(Exception):
    """Its own asker said by `calls` that nobody wants the rest."""


def handed(serving: Serving | None, knock: Knock, headers: Mapping[str, str], length: int, arrived: float) -> Handed:
    """What the signature's form leaves open, before the body, which is `length` bytes long. Raises MasaError."""
    door, deadline = FORWARDED.get(knock.request.path.removeprefix(FORWARD)), knock.request.deadline_ms
    if door is None or serving is None:
        raise MasaError(404, "not_found", "peers may not ask for this path")
    _check_open(serving)
    if deadline > LONGEST_DEADLINE or not QUERY.fullmatch(headers.get("masa-query", "")):
        raise BadRequest("malformed", "Masa-Deadline is a day at most; Masa-Query is what stood behind a question mark")
    if bare(knock.request.content_type) != JSON:
        raise BadRequest("unsupported_media_type", "send application/json", status=415)
    if not deadline:
        raise late()
    if length > serving.most_body:
        raise too_large(serving.most_body)
    serving.guests.check_new(knock.sender, knock.request.request_id, arrived)
    return Handed(serving, knock, door, headers, arrived)


def _check_open(serving: Serving) -> None:
    """Raises what the node says while it serves nobody."""
    closed = serving.closed()
    try:
        if closed is not None:
            raise closed
    finally:
        del closed  # or the error holds this frame, and the frame the error


async def received(one: Handed, body: bytes, between: Between, guest: Guest, told: Told) -> Call:
    """The guest's call, whose sender is known and may ask for it. Raises MasaError."""
    serving, knock, door, now = one.serving, one.knock, one.door, asyncio.get_running_loop().time()
    sender = between.gate.body(knock, body, between.clock())
    told.name, told.peer, told.bytes_in = request_id(one.headers.get("x-request-id")), sender[:8], len(body)
    serving.guests.note(sender, knock.request.request_id, now)
    strangers = not isinstance(between.stake, SharedSecret)
    if strangers:
        serving.strangers.take(sender, now)
        serving.guests.check_share(sender)
    seen = await peek_at(one.headers, body, door, serving.most_body)
    told.model = guest.model = seen.model
    guest.size, guest.stream = len(body), door.streams if seen.stream is None else seen.stream
    model = _shared(serving.own, seen.model)
    await _check_policy(one, body, model, strangers=strangers, limit=serving.most_body)
    headers = crossing(one.headers) | {"content-type": knock.request.content_type}
    query = one.headers.get("masa-query", "")
    return Call(told.name, door, seen.model, guest.stream, body, headers, query, hop=True, guest=guest)


def _shared(own: Own, name: str) -> Model:
    """A model that is not shared is not there, as far as peers can tell. Raises MasaError."""
    names = (name, f"{name}:latest")
    model = own.shared_as(*names)
    if model is None and own.waits_for(*names):
        raise UpstreamUnreachable("its model server cannot be reached now")
    if model is None:
        raise ModelNotFound("this node serves no model of this name to peers")
    return model


async def _check_policy(one: Handed, body: bytes, model: Model, *, strangers: bool, limit: int) -> None:
    """Accepts or refuses, and never edits."""

    def judge() -> str | None:
        plain = inflate(body, encoding, limit)
        return refusal(plain, one.door, strangers=strangers, advertised_context=model.context)

    encoding = one.headers.get("content-encoding", "")
    refused = await asyncio.to_thread(judge) if encoding else judge()
    if refused is not None:
        raise MasaError(403, "refused_by_peer", f"this node serves no peer's request with this `{refused}`")


class Working:
    """The block works on its guest's call, for as long as somebody waits for it and nobody has it stopped. Raises
    MasaError, Stopped."""

    __slots__ = ("_deadline", "_entered", "_told", "guest")

    def __init__(self, one: Handed, told: Told) -> None:
        knock, self._deadline, self._told = one.knock, asyncio.timeout_at(one.due), told
        halt, lift = partial(_halt, self._deadline), partial(_lift, self._deadline)
        self.guest = Guest(knock.sender, knock.request.request_id, halt, lift, since=one.arrived)
        self._entered = one.serving.guests.entered(self.guest)

    async def __aenter__(self) -> Guest:
        self._entered.__enter__()
        await self._deadline.__aenter__()
        return self.guest

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.__exit__(None, None, None)
        try:
            await self._deadline.__aexit__(kind, error, trace)
        except TimeoutError:
            self._told.outcome = self.guest.stopped or "deadline"
            raise ended(self.guest) from None


def _halt(deadline: asyncio.Timeout) -> None:
    if not deadline.expired():
        deadline.reschedule(asyncio.get_running_loop().time())


def _lift(deadline: asyncio.Timeout) -> bool:
    if deadline.expired():
        return False
    deadline.reschedule(None)
    return True


def ended(guest: Guest) -> Exception:
    """Why nobody works on it any more."""
    match guest.stopped:
        case "gave_way":
            return Busy("an own caller of this node came first")
        case "stopped":
            return Stopped()
    return late()


def late() -> MasaError:
    return MasaError(504, "deadline", "its asker waits no longer")


async def end_early(begun: bool, chunked: bool, end: Callable[[], Awaitable[None]]) -> None:
    """In good form, for the asker who stopped it and reads it no more: the connection lives. Raises MasaError, Cut.

    `begun`: its head has gone out; `end` ends its body, once it is read so far.
    """
    if not begun:
        raise MasaError(499, "stopped", "its asker stopped it")
    if not chunked:
        raise Cut
    try:
        async with asyncio.timeout(END_SECONDS):
            await end()
    except TimeoutError:
        raise Cut from None


class Telling:
    """Log and count it. Of a request whose sender is not proven nothing is told: it would fill the log."""

    __slots__ = ("_began", "_metrics", "_told")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told = Told()
        self._began = time.monotonic()

    def __enter__(self) -> Told:
        return self._told

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        told = self._told
        if isinstance(error, MasaError):
            told.status, told.code = error.status, error.code
        told.outcome = told.outcome or _outcome(told, error)
        if not told.peer:
            return
        self._metrics.served.labels(told.outcome).inc()
        log.info(
            "served", request_id=told.name, peer=told.peer, model=told.model or None, status=told.status,
            outcome=told.outcome, code=told.code, bytes_in=told.bytes_in, bytes_out=told.bytes_out,
            ms=round((time.monotonic() - self._began) * 1000, 1),
        )  # fmt: skip


def _outcome(told: Told, error: BaseException | None) -> str:
    match error:
        case None:
            return "ok" if (told.status or 0) < 400 else "refused" if (told.status or 0) < 500 else "failed"
        case MasaError():
            return "refused"
        case asyncio.CancelledError() | ConnectionError():
            return "asker_gone"
    return "failed"
