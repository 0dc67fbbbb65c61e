"""RaceLog: what happened in one race, for those who ask why; and what its caller is told when nobody won. Pure.

Times are milliseconds since the race began.
"""

from dataclasses import dataclass, field

from peers.errors import Busy, MasaError
from peers.wire import NodeId

RUNNING, WON, LOST, LEFT, SILENT = "running", "won", "lost", "left", "silent"
"""How it went with one asked, beside the code of its error. left: the caller hung up; silent: nothing until the end."""
PASSED_ON = "passed_on"
"""The caller got the definitive 4xx of a peer's upstream."""

MOST_NAMED = 8
LONGEST_REASON = 160


@dataclass(slots=True)
class Asked:
    """One candidate that was asked; after a busy answer perhaps again."""

    node: NodeId
    name: str
    at: int
    """The first time."""
    since: int
    """When it began what it does."""
    doing: str = SILENT
    """By its own word."""
    times: int = 1
    outcome: str = RUNNING
    why: str = ""
    """In words."""
    ended: int | None = None


@dataclass(slots=True)
class RaceLog:
    """Filled while the race runs. As long as the candidates are many."""

    id: str
    model: str
    stream: bool
    at: float
    """When it started, in Unix seconds."""
    asked: dict[NodeId, Asked] = field(default_factory=dict)
    winner: NodeId | None = None
    """Whose answer the caller got."""
    outcome: str = RUNNING
    """running, won, passed_on, left, or the code of the error that its caller got."""
    ms: int | None = None
    """Until the first meaningful unit, or until there was none."""

    @property
    def sends(self) -> int:
        return sum(asked.times for asked in self.asked.values())


def nobody_won(told: RaceLog, ms: int, retry_after: int | None) -> MasaError:
    """The error of a race that is over. `retry_after`: the seconds until one of the busy may be asked again."""
    silent = [asked for asked in told.asked.values() if asked.outcome == RUNNING]
    failed = [asked for asked in told.asked.values() if asked.outcome != RUNNING]
    reasons = [f"{asked.name} ({asked.outcome}: {asked.why[:LONGEST_REASON]})" for asked in failed]
    if silent:
        waits = [f"{asked.name} ({asked.doing} for {(ms - asked.since) / 1000:.0f} s)" for asked in silent]
        return MasaError(504, "race_timeout", f"no peer has begun to answer: {_listed(waits + reasons)}")
    if retry_after is not None:
        return Busy(f"no peer that has the model is free: {_listed(reasons)}", retry_after=retry_after)
    if not failed:
        return MasaError(503, "no_peer", "there is no peer that can be asked for the model")
    if {asked.outcome for asked in failed} == {"refused_by_peer"}:
        return MasaError(403, "refused_by_peer", f"every peer refuses this request: {_listed(reasons)}")
    return MasaError(502, "no_answer", f"no peer has answered: {_listed(reasons)}")


def _listed(items: list[str]) -> str:
    more = [f"{len(items) - MOST_NAMED} more"] if len(items) > MOST_NAMED else []
    return ", ".join(items[:MOST_NAMED] + more)


def race_view(told: RaceLog) -> dict[str, object]:
    """As `/api/v1/races` tells it; what is unknown is left out."""
    asked = [
        _known({"node": one.node, "name": one.name, "at_ms": one.at, "times": one.times, "outcome": one.outcome,
                "why": one.why, "doing": one.doing, "ended_ms": one.ended})
        for one in told.asked.values()
    ]  # fmt: skip
    return _known({
        "id": told.id, "model": told.model, "stream": told.stream, "at": told.at, "outcome": told.outcome,
        "winner": told.winner, "ms": told.ms, "asked": asked,
    })  # fmt: skip


def _known(values: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value not in (None, "")}
