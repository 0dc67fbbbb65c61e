"""Reach: what callers are told of the network, its members and the models they serve. Pure."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import islice

from peers.network.catalogue import Catalogue
from peers.network.certificates import NotStaked, read_certificate
from peers.network.contact import proof_bytes
from peers.network.liveness import Health
from peers.network.membership import Membership
from peers.network.outlook import NetworkView
from peers.network.records import SPOKEN, Record
from peers.network.roster import Status
from peers.network.table import Member
from peers.wire import Ask, Call, Model, NodeId

MOST_CANDIDATES = 64
"""Shown of those whose stake is not proven, the newest."""
_ORDER = tuple(Status)


@dataclass(frozen=True, slots=True)
class StakeView:
    """What a member's proof says."""

    proven: bool
    """By ourselves."""
    amount: int | None = None
    until: int | None = None
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """What is known here of one other node. None: it is not known."""

    id: NodeId
    name: str
    status: Status
    stake: StakeView
    protocol: int | None
    """The version of the peer protocol spoken with it."""
    models: int
    addresses: tuple[str, ...]
    latency_ms: float | None
    last_heard: float | None
    """Unix seconds of our own clock."""
    why: str
    """In words, where it is not asked."""


@dataclass(slots=True)
class Reach:
    """One for a node; whoever opens a network sets `membership`, and None when it is left."""

    catalogue: Catalogue
    clock: Callable[[], float]
    membership: Membership | None = None
    latencies: Mapping[NodeId, float] = field(default_factory=dict)
    """Seconds that an exchange took last."""
    outlook: Callable[[], NetworkView | None] = lambda: None
    """How this node stands in its network."""
    why: str = ""
    """Why it is in none, in words, with the remedy."""
    avoided: Callable[[NodeId], str] = lambda node: ""
    """Why a member that is alive is not asked for answers now."""

    def lists(self) -> list[tuple[NodeId, str, tuple[Model, ...]]]:
        """The models of each member that can be asked now: (its id, its name for people, them)."""
        members = (member for member in self.routable() if member.record.models.count)
        told = ((member, self.catalogue.models(member.node)) for member in members)
        return [(member.node, shown(member.record), models) for member, models in told if models]

    @property
    def kin(self) -> bool:
        """The members are of one owner."""
        return self.membership is not None and not self.membership.roster.strangers

    def usual_ask(self) -> Ask:
        """When calls may leave this node, unless its operator says: members of one owner help each other out."""
        return "busy" if self.kin else "missing"

    def routable(self) -> list[Member]:
        """Who can be asked now."""
        return self.membership.roster.routable(self.clock()) if self.membership else []

    def serving(self, call: Call) -> list[tuple[Member, Model]]:
        """The peers that can be asked for a call's model in its dialect, as far as their lists say."""
        names = names_of(call)
        found = ((member, serves(self.catalogue.models(member.node), names, call)) for member in self.routable())
        return [(member, model) for member, model in found if model is not None]

    def members(self) -> list[MemberView]:
        if self.membership is None:
            return []
        views = member_views(self.membership, self.clock(), self.latencies)
        return [view if view.why else replace(view, why=self.avoided(view.id)) for view in views]


def member_views(membership: Membership, now: float, latencies: Mapping[NodeId, float]) -> list[MemberView]:
    """Of every member, the dead included, and of some nodes that would like to be one: first those that are alive."""
    views = [_view(membership, member, now, latencies) for member in membership.roster.members()]
    waiting = reversed(membership.intake.candidates.values())
    views += [_candidate(sealed.record) for sealed in islice(waiting, MOST_CANDIDATES)]
    return sorted(views, key=lambda view: (_ORDER.index(view.status), view.name, view.id))


def names_of(call: Call) -> set[str]:
    """Of the models that a call may mean: Ollama's names without a tag mean `latest`."""
    names = {call.model, f"{call.model}:latest"}
    return names | {call.model.removesuffix(":latest")} if call.door.dialect in ("ollama", "any") else names


def serves(models: Iterable[Model], names: Set[str], call: Call) -> Model | None:
    """The one of these that a call asks for, in its dialect."""
    for model in models:
        if model.name in names and call.door.dialect in ("any", *model.dialects):
            return model
    return None


def not_spoken(record: Record) -> str:
    """Why it cannot be talked with."""
    theirs, ours = (f"{low} to {high}" for low, high in (record.v, SPOKEN))
    return f"it speaks versions {theirs} of the peer protocol, this node {ours}"


def shown(record: Record) -> str:
    """A node's name for people, with six characters of its id; in a network of strangers these alone."""
    return f"{record.name}-{record.id[:6]}" if record.name else record.id[:6]


def _view(membership: Membership, member: Member, now: float, latencies: Mapping[NodeId, float]) -> MemberView:
    status, health = membership.roster.status(member, now), membership.liveness.of(member.node)
    ago = membership.clock.local(now) - health.heard
    latency = latencies.get(member.node)
    return MemberView(
        id=member.node,
        name=shown(member.record),
        status=status,
        stake=_stake(member.record, proven=member.proven),
        protocol=member.record.version_spoken,
        models=member.record.models.count,
        addresses=member.record.addrs,
        latency_ms=None if latency is None else round(latency * 1000, 1),
        last_heard=round(now - ago, 1) if ago < float("inf") else None,
        why=_why(member, status, health),
    )


def _candidate(record: Record) -> MemberView:
    return MemberView(
        id=record.node,
        name=shown(record),
        status=Status.DEAD,
        stake=_stake(record, proven=False),
        protocol=record.version_spoken,
        models=record.models.count,
        addresses=record.addrs,
        latency_ms=None,
        last_heard=None,
        why="its stake is not proven here",
    )


def _stake(record: Record, *, proven: bool) -> StakeView:
    try:
        certificate = read_certificate(proof_bytes(record.proof))
    except NotStaked:
        return StakeView(proven)
    return StakeView(proven, certificate.amount, certificate.exp)


def _why(member: Member, status: Status, health: Health) -> str:
    record = member.record
    if status is Status.DEAD:
        if record.state == "left":
            return "it has left"
        return "its record has expired" if member.proven else "its stake no longer holds"
    if not record.spoken:
        return not_spoken(record)
    if not record.addrs:
        return "it has no address to be asked at"
    if status is Status.SUSPECT:
        return "it refuses connections" if health.refusing else "it does not answer"
    return ""
