"""Intake: what becomes of a record that came in, cheap questions first (docs/security.md C-9). Pure."""

from collections import Counter
from collections.abc import Collection, Set
from dataclasses import dataclass, field
from typing import Literal

from peers.network.records import Record, RecordError, Sealed, read
from peers.network.strangers import MOST_IN_TABLE, places
from peers.network.table import Table, key_of
from peers.network.terms import Terms
from peers.wire import NodeId

BURST, PER_SECOND = 100.0, 20.0
BAD_COSTS = 10.0
MOST_CANDIDATES = 1_000
OLDEST_RESTORED = 30 * 86_400.0

Refusal = Literal[
    "malformed",
    "wrong_network",
    "stale",
    "early",
    "bad_address",
    "bad_signature",
    "table_full",
    "crowded",
    "rate_limited",
]
Outcome = Refusal | Literal["started", "changed", "renewed", "known", "mine", "candidate"]
"""started: new here, or since a start of its own; renewed: nothing but the time; candidate: its stake is not proven."""
NEWS: frozenset[Outcome] = frozenset({"started", "changed"})
TAKEN: frozenset[Outcome] = NEWS | {"renewed", "known"}
BAD: frozenset[Outcome] = frozenset({"malformed", "bad_signature", "bad_address", "wrong_network"})
"""No honest node passes these on."""


@dataclass(slots=True)
class Allowance:
    """How many records one peer may still send: a bucket that fills again."""

    left: float = BURST
    at: float = 0.0

    def take(self, cost: float, at: float) -> bool:
        self.left = min(BURST, self.left + (at - self.at) * PER_SECOND)
        self.at = at
        if self.left < 1:
            return False
        self.left -= cost
        return True


@dataclass(slots=True)
class Intake:
    terms: Terms
    table: Table
    named: Set[NodeId] = frozenset()
    """Members that the operator named: limits meant for strangers are not theirs."""
    candidates: dict[NodeId, Sealed] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    """How many records, by Refusal."""
    _allowances: dict[NodeId, Allowance] = field(default_factory=dict)

    def take(self, text: str, local: float, network: float) -> tuple[Outcome, Sealed | None]:
        """Judge a sealed record and hold it if it is good. It comes back where it was read."""
        try:
            sealed = read(text)
        except RecordError as error:
            return self._refuse(error.code), None
        outcome: Outcome = self._judge(sealed, local, network) or self._hold(sealed, local, network)
        return outcome, sealed

    def take_from(self, sender: NodeId, text: str, local: float, network: float) -> tuple[Outcome, Sealed | None]:
        """The same for what a peer passes on: it may send only so many, and bad ones cost it more."""
        if text in self.table.texts:
            return "known", None
        allowance = self._allowances.setdefault(sender, Allowance(at=local))
        if not allowance.take(1, local):
            return self._refuse("rate_limited"), None
        outcome, sealed = self.take(text, local, network)
        if outcome in BAD:
            allowance.left -= BAD_COSTS
        return outcome, sealed

    def exhausted(self, sender: NodeId, local: float) -> bool:
        """Nothing that it sends now is looked at."""
        allowance = self._allowances.get(sender)
        return allowance is not None and not allowance.take(0, local)

    def restore(self, text: str, local: float, network: float) -> NodeId | None:
        """Hold a record from our own disk, expired or not: whom to call first after a restart."""
        try:
            sealed = read(text)
        except RecordError:
            return None
        record = sealed.record
        if record.node in self.table.members or network - record.issued > OLDEST_RESTORED:
            return None
        if self._reject(sealed) or not self._proven(record, network):
            return None
        member = self.table.hold(sealed, True, self._places(record), local, network)
        if member is None:
            return None
        member.unlisted = max(member.unlisted, local)  # for a day from now
        return member.node

    def reconsider(self, local: float, network: float) -> list[NodeId]:
        """Proofs have changed: look at all of them again. Returns the candidates that became members."""
        for member in self.table.members.values():
            if member.node != self.terms.me:
                self.table.prove(member, self._proven(member.record, network), local)
        self.table.reconsider()
        waiting, self.candidates = self.candidates, {}
        outcomes = {node: self.take(sealed.text, local, network)[0] for node, sealed in waiting.items()}
        return [node for node, outcome in outcomes.items() if outcome in NEWS]

    def forget(self, nodes: Collection[NodeId]) -> None:
        for node in nodes:
            self._allowances.pop(node, None)

    def _judge(self, sealed: Sealed, local: float, network: float) -> Outcome | None:
        """None: hold it."""
        record = sealed.record
        held = self.table.members.get(record.node)
        old = held is not None and record.version <= held.version
        if record.node == self.terms.me and not (old and held and record.boot == held.record.boot):
            return self._forged(sealed) or "mine"
        if old and held:
            return "known" if held.proven else "candidate"
        waiting = self.candidates.get(record.node)
        if waiting is not None and record.version <= waiting.record.version:
            return "candidate"
        untimely = record.untimely(network)
        if untimely == "stale" and held is not None and not self._reject(sealed):
            # Its owner's newer word all the same: what it said before must not count again.
            self.table.hold(sealed, held.proven, held.places, local, network)
        return self._refuse(untimely) if untimely else self._reject(sealed)

    def _reject(self, sealed: Sealed) -> Refusal | None:
        """What no time and no proof can mend."""
        if not all(map(self.terms.address_ok, sealed.record.addrs)):
            return self._refuse("bad_address")
        return self._forged(sealed)

    def _forged(self, sealed: Sealed) -> Refusal | None:
        if sealed.record.net not in self.terms.networks():
            return self._refuse("wrong_network")
        return None if sealed.genuine(self.terms.verify) else self._refuse("bad_signature")

    def _hold(self, sealed: Sealed, local: float, network: float) -> Outcome:
        record = sealed.record
        member = self.table.members.get(record.node)
        proven = self._proven(record, network)
        if member is None and not proven:
            return self._wait(sealed)
        near = self._places(record)
        # Who was unlisted has lost its places: else members could take turns until all of them are listed.
        kept = member.places if member and member.key in self.table.listed else frozenset()
        if self._crowded(record.node, near - kept):
            return self._decline(sealed, "crowded")
        before, alive = (member.record, member.fresh(local)) if member else (None, False)
        self.candidates.pop(record.node, None)
        held = self.table.hold(sealed, proven, near, local, network)
        if held is None:
            return self._decline(sealed, "table_full")
        return _news(before, alive, record) if proven else "candidate"

    def _wait(self, sealed: Sealed) -> Outcome:
        """Never asked, never told of; the one that has waited longest makes place."""
        self.candidates.pop(sealed.record.node, None)
        if len(self.candidates) >= MOST_CANDIDATES:
            del self.candidates[next(iter(self.candidates))]
        self.candidates[sealed.record.node] = sealed
        self.table.decline(key_of(sealed.record.node), sealed.record.version)
        return "candidate"

    def _decline(self, sealed: Sealed, why: Refusal) -> Refusal:
        self.table.decline(key_of(sealed.record.node), sealed.record.version)
        return self._refuse(why)

    def _refuse(self, why: Refusal) -> Refusal:
        self.refused[why] += 1
        return why

    def _proven(self, record: Record, network: float) -> bool:
        return record.net in self.terms.networks() and self.terms.staked(record.node, record.proof, network)

    def _places(self, record: Record) -> frozenset[str]:
        return places(record.addrs) if self.terms.strangers and record.node not in self.named else frozenset()

    def _crowded(self, node: NodeId, near: frozenset[str]) -> bool:
        return node not in self.named and any(self.table.places[place] >= MOST_IN_TABLE for place in near)


def _news(before: Record | None, alive: bool, now: Record) -> Outcome:
    if before is None or before.boot != now.boot:
        return "started"
    said = ("state", "addrs", "models", "proof", "name")
    same = alive and all(getattr(before, name) == getattr(now, name) for name in said)
    return "renewed" if same else "changed"
