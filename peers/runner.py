"""Runner: one of those asked in a race, as the race sees it; what it raises and what it may be doing. No I/O."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from peers.errors import MasaError
from peers.wire import Call, NodeId, Reply, Source

SHORT = 4 * 1024
"""Bytes of a body that even a slow processor has read within RACE_TIMEOUT."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What a runner says it does with the call."""

    what: Literal["queued", "loading", "reading", "generating", "silent"]
    """silent: none of the others can be proven."""
    seconds: float
    """For how long already; finite."""

    def excuses(self, call: Call) -> bool:
        """Whether silence is work: a loaded model that is silent on a short streaming request is not excused."""
        match self.what:
            case "queued" | "loading":
                return True
            case "reading":
                return len(call.body) > SHORT
            case "generating":
                return not call.stream
        return False


class Runner(Protocol):
    @property
    def name(self) -> str:
        """As people are told of it."""
        ...

    @property
    def node(self) -> NodeId: ...

    async def open(self, call: Call) -> Reply:
        """Return an open Reply whose first meaningful unit is there, or raise and leave nothing open.

        Raises Busy, PassedOn for its upstream's definitive word, or a MasaError with another code (`unreachable`,
        `refused_by_peer`, `bad_answer`) whose text is the reason. A status of 5xx is one of these, never a Reply.
        """
        ...

    async def doing(self) -> Doing | None:
        """Ask the peer what it does with our call. Raises nothing: None is no answer in seconds, or none to be read."""
        ...


class PassedOn(MasaError):
    """The whole answer of a peer's upstream that says the call itself is wrong (400, 413, 422)."""

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes, provider: str, by: Source | None = None
    ) -> None:
        super().__init__(status, "definitive", f"its model server answered {status}")
        self.headers = headers
        self.body = body
        self.provider = provider
        self.by = by

    def reply(self) -> Reply:
        """The answer as it came."""
        return Reply(self.status, self.headers, self._chunks(), "peer", self.provider, by=self.by)

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield self.body
