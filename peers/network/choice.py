"""choose(): whom to ask for a call, in which order, and who only when others fail. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

from peers.waves import Candidate
from peers.wire import NodeId

LARGE_BODY = 256 * 1024
"""Bytes; more is sent to one peer at a time."""
EXPLORED = 0.05
"""How often somebody else is put first, so that who was slow once is measured again."""
FASTEST = 0.05
"""Seconds; below this, first units are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one peer that serves the model; None where nothing is."""

    node: NodeId
    loaded: bool | None = None
    free: int | None = None
    """Places."""
    last_turn: bool = False
    """It answered the last turn of this conversation: its prompt is cached there."""
    first_unit: float | None = None
    """Seconds until its first meaningful unit, of late."""
    digest: str | None = None
    """Of its build of the model."""
    context: int | None = None
    """Tokens."""
    failures: int = 0
    """Of late."""
    left_out: bool = False
    """Its circuit is open, or it is quarantined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the call asks for."""

    body: int = 0
    """Bytes."""
    prompt: int | None = None
    """Tokens, about."""
    digest: str | None = None
    """Of this node's own build of the model."""
    one_build: bool = False
    """Embeddings: those of two builds do not belong together."""
    everybody: bool = False
    """RACE_WIDTH is `all`: neither a large body nor a model to be loaded is for one peer at a time."""


def choose(facts: Iterable[Facts], needs: Needs, rng: Random) -> list[Candidate]:
    """The best first. A stage for each build, split by who must load; then all of it again for short contexts."""
    usable = [peer for _, peer in sorted({peer.node: peer for peer in facts}.items()) if not peer.left_out]
    builds = preferred_builds(usable, needs.digest)
    if needs.one_build:
        usable = [peer for peer in usable if peer.digest == (needs.digest or builds[0])]
    usual = [peer.first_unit for peer in usable if peer.first_unit is not None]
    unmeasured = median(usual) if usual else 1.0

    def split(peer: Facts) -> tuple[bool, int, bool]:
        return (too_short(peer, needs), builds.index(peer.digest), must_load(peer) and not needs.everybody)

    parts = {peer.node: split(peer) for peer in usable}
    stages = {part: stage for stage, part in enumerate(sorted({*parts.values()}))}

    def rank(peer: Facts) -> tuple[object, ...]:
        seconds = unmeasured if peer.first_unit is None else peer.first_unit
        return (parts[peer.node], fullness(peer), not peer.last_turn, pace(seconds), peer.failures, rng.random())

    ordered = sorted(usable, key=rank)
    explore([peer for peer in ordered if not stages[parts[peer.node]] and peer.free != 0], ordered, rng)
    large = needs.body > LARGE_BODY
    return [
        Candidate(peer.node, stages[parts[peer.node]], not needs.everybody and (large or must_load(peer)))
        for peer in ordered
    ]


def preferred_builds(peers: Sequence[Facts], own: str | None) -> list[str | None]:
    """The own one, then the commonest. Builds that nobody tells count as one."""
    many = Counter(peer.digest for peer in peers)
    return sorted(many, key=lambda build: (build is None or build != own, -many[build], build is None, build or ""))


def must_load(peer: Facts) -> bool:
    return peer.loaded is False


def too_short(peer: Facts, needs: Needs) -> bool:
    """It would cut the prompt."""
    return peer.context is not None and needs.prompt is not None and peer.context < needs.prompt


def fullness(peer: Facts) -> int:
    return 1 if peer.free is None else 0 if peer.free > 0 else 2


def pace(seconds: float) -> int:
    """Times within a factor of two are alike."""
    return round(math.log2(max(seconds, FASTEST)))


def explore(best: Sequence[Facts], ordered: list[Facts], rng: Random) -> None:
    """Now and then put one of the best stage first, whoever it is."""
    if len(best) > 1 and rng.random() < EXPLORED:
        lucky = rng.choice(best)
        ordered.remove(lucky)
        ordered.insert(0, lucky)
