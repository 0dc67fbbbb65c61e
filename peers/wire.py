"""The values that cross a node: the question as bytes (Call), the open answer (Reply), and who can answer. No I/O."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType, Protocol

import msgspec

from peers.guests import Guest

NodeId = NewType("NodeId", str)

Dialect = Literal["ollama", "openai", "anthropic", "any"]
"""How an API spells messages, chunks, errors and ends. `any`: the mission's doors, where the caller chooses."""

Operation = Literal["chat", "text_completion", "embeddings", "show", "count_tokens"]
"""What is asked for; the first three are names of OpenTelemetry's `gen_ai.operation.name`."""


Ask = Literal["busy", "missing", "off"]
"""When a call may leave this node (PEER_ASK): also while its own upstreams are busy, when none has the model, never."""


@dataclass(frozen=True, slots=True)
class Door:
    """An inference path that callers POST to (peers/doors.py lists them all)."""

    path: str
    dialect: Dialect
    operation: Operation
    streams: bool = False
    """What an absent `stream` means in this dialect."""


class Peek(msgspec.Struct, frozen=True):
    """All that routing reads of a body."""

    model: str
    stream: bool | None
    """None: the body does not say."""


class Call(msgspec.Struct, frozen=True):
    """One question, as its caller sent it. A Struct, as Peek and Reply are: one of them takes a tenth of the time that
    a frozen dataclass takes, and every request makes one."""

    id: str
    door: Door
    model: str
    stream: bool
    body: bytes
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The caller's headers that may cross (docs/security.md C-15), names in lower case."""
    query: str = ""
    """The raw query string, without its question mark."""
    hop: bool = False
    """It came from another node by way of `Masa-Hop`: own upstreams only."""
    ask: Ask | None = None
    """When it may leave this node, where the caller says so (`X-Masa-Ask`)."""
    guest: Guest | None = None
    """It is a peer's, which gives way to own callers."""


@dataclass(frozen=True, slots=True)
class Source:
    """The node that answers, where it is not this one."""

    node: NodeId
    name: str
    """For people."""


class Flow(Protocol):
    """What can be held up. Both are right at any time."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Sink(Protocol):
    """Where a body is poured."""

    def write(self, piece: bytes) -> None:
        """Take a piece. It neither waits nor raises."""
        ...

    def fed_by(self, source: Flow | None) -> None:
        """Whom to pause while the sink's reader is slow; None: nobody any more."""
        ...


class Reply(msgspec.Struct):
    """An open answer. Whoever holds it closes it: `with closing(reply)`."""

    status: int
    headers: Mapping[str, str]
    """What may go back to the caller, names in lower case."""
    chunks: AsyncIterator[bytes]
    """The body as it arrives. Raises MasaError when it breaks: an answer that ends without raising is whole."""
    route: str
    """Where it came from, as `X-Masa-Route` tells it: `local:ollama`."""
    provider: str
    """OpenTelemetry's `gen_ai.provider.name`: `ollama`, `cloudflare`, `openai`, …"""
    on_close: Callable[[], None] = lambda: None
    by: Source | None = None
    """None: an upstream of this node's own."""
    asked: int = 0
    """How many peers have read the call."""
    pour: Callable[[Sink], Awaitable[None]] | None = None
    """In the place of `chunks`, where there is one: the same bytes as they come, without a step of a task for each.
    Whoever watches one of the two watches both."""

    def close(self) -> None:
        """Stop the work behind this answer. Synchronous, so that it cannot be cancelled half-way; right at any time."""
        self.on_close()


@dataclass(frozen=True, slots=True)
class Model:
    """A model somebody serves, with what is known of it; None where nothing is."""

    name: str
    dialects: frozenset[Dialect]
    digest: str | None = None
    context: int | None = None
    """Tokens."""
    capabilities: tuple[str, ...] = ()
    loaded: bool | None = None
    size: int | None = None
    """Bytes."""
    entries: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """How its server lists it, by list: `tags` and `ps` (Ollama), `models` (OpenAI)."""


class Answerer(Protocol):
    """Anything that can answer: an upstream, a router, later a peer, a queue, a cache."""

    async def open(self, call: Call) -> Reply:
        """Return an open Reply, or raise MasaError and leave nothing open."""
        ...
