"""Reach: what callers are told of the network, its members and the models they serve. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from peers.network.catalogue import Catalogue
from peers.network.certificates import NotStaked, read_certificate
from peers.network.contact import proof_bytes
from peers.network.liveness import Health
from peers.network.membership import Membership
from peers.network.records import SPOKEN, Record
from peers.network.roster import Status
from peers.network.table import Member
from peers.wire import Model, NodeId

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

    def lists(self) -> list[tuple[NodeId, str, tuple[Model, ...]]]:
        """The models of each member that can be asked now: (its id, its name for people, them)."""
        if self.membership is None:
            return []
        members = self.membership.roster.routable(self.clock())
        told = ((member, self.catalogue.models(member.node)) for member in members if member.record.models.count)
        return [(member.node, shown(member.record), models) for member, models in told if models]

    def members(self) -> list[MemberView]:
        return member_views(self.membership, self.clock(), self.latencies) if self.membership else []


def member_views(membership: Membership, now: float, latencies: Mapping[NodeId, float]) -> list[MemberView]:
    """Of every member, the dead included, and of some nodes that would like to be one: first those that are alive."""
    views = [_view(membership, member, now, latencies) for member in membership.roster.members()]
    waiting = reversed(membership.intake.candidates.values())
    views += [_candidate(sealed.record) for sealed in islice(waiting, MOST_CANDIDATES)]
    return sorted(views, key=lambda view: (_ORDER.index(view.status), view.name, view.id))


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
        theirs, ours = (f"{low} to {high}" for low, high in (record.v, SPOKEN))
        return f"it speaks versions {theirs} of the peer protocol, this node {ours}"
    if not record.addrs:
        return "it has no address to be asked at"
    if status is Status.SUSPECT:
        return "it refuses connections" if health.refusing else "it does not answer"
    return ""
