"""Roster: who is there and whom to ask, as this node judges it. Pure."""

from collections.abc import Set
from enum import StrEnum

from peers.network.active import active, wanted
from peers.network.clock import Clock
from peers.network.liveness import Liveness
from peers.network.table import Member, Table
from peers.network.terms import Terms
from peers.wire import NodeId


class Status(StrEnum):
    """Judged here, never believed from others."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    """Its record is fresh, but our own exchanges with it fail."""
    DEAD = "dead"
    """Its record has expired, or it left, or its stake no longer holds."""


class Roster:
    def __init__(self, terms: Terms, table: Table, liveness: Liveness, clock: Clock, named: Set[NodeId]) -> None:
        self.me = terms.me
        self.strangers = terms.strangers
        self.table = table
        self.liveness = liveness
        self.clock = clock
        self.named = named

    def members(self) -> list[Member]:
        """All but ourselves; the dead for a day."""
        return [member for member in self.table.members.values() if member.node != self.me]

    def status(self, member: Member, now: float) -> Status:
        local = self.clock.local(now)
        if not member.fresh(local):
            return Status.DEAD
        return Status.SUSPECT if self.liveness.out(member.node, local) else Status.ALIVE

    def reachable(self, now: float) -> list[Member]:
        """Those that can be dialled and whose record is fresh, ejected or not."""
        local = self.clock.local(now)
        return [member for member in self.members() if member.dialable and member.fresh(local)]

    def serving(self, model: str, now: float) -> list[Member]:
        """Whom to ask for a model: those of its active set that are not ejected; all of it when most of them are."""
        return self._usable([member for member in self._active(now) if model in member.offered], now)

    def routable(self, now: float) -> list[Member]:
        """Whom to ask whether they serve a model that nobody is known to have."""
        return self._usable(self.reachable(now), now)

    def watched(self, now: float) -> set[NodeId]:
        """The active sets of all models: whoever of them has been idle is probed."""
        return {member.node for member in self._active(now)}

    def unread(self, now: float) -> list[Member]:
        """Those whose model list is to be asked for by `identify`: it changed, or was never asked for."""
        some = wanted(self.reachable(now), self.me)
        return [member for member in some if member.offered_hash != member.record.models.hash]

    def offers(self, node: NodeId, models: Set[str], models_hash: str) -> None:
        """`identify` told what a member serves, and the hash of that list."""
        member = self.table.members.get(node)
        if member is not None:
            member.offered, member.offered_hash = frozenset(models), models_hash

    def _active(self, now: float) -> list[Member]:
        return active(self.reachable(now), self.me, self.strangers, self.named)

    def _usable(self, members: list[Member], now: float) -> list[Member]:
        usable = set(self.liveness.usable((member.node for member in members), self.clock.local(now)))
        return [member for member in members if member.node in usable]
