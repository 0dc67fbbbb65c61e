"""Table: the records held, of whom, until when, and the sums by which two tables are compared. Pure.

A record expires, so that its node counts as dead; for a while others may still hold and offer it, so that it stays
listed in digests; and its version is remembered for a day, so that it never comes back.
"""

import base64
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from peers.network.frames import BUCKETS, KEY_BYTES, Entry
from peers.network.records import LATE, Record, Sealed
from peers.wire import NodeId

MOST_MEMBERS = 20_000
MOST_DECLINED = 1_000
REMEMBERED = 86_400.0


@dataclass(slots=True, eq=False)
class Member:
    """A node that has proven itself, by the newest record it signed. Times are the local time line's."""

    node: NodeId
    key: bytes
    record: Record
    version: int
    text: str
    since: float
    """First heard of."""
    expires: float
    """Dead from then on."""
    unlisted: float
    """Nobody takes this record any more from then on."""
    dialable: bool = False
    """It has an address, and speaks a version of the protocol that we speak."""
    proven: bool = True
    offered: frozenset[str] = frozenset()
    """Names of its models, as `identify` told them last."""
    offered_hash: str | None = None
    """The record's models.hash at that time; None: it was never asked."""
    places: frozenset[str] = frozenset()
    """What its addresses share with their neighbours; empty where members are not strangers."""

    def fresh(self, local: float) -> bool:
        """It may take part: proven, not expired, not left."""
        return self.proven and local <= self.expires and self.record.state == "up"

    @property
    def may_come_back(self) -> bool:
        """Worth a call even when it is thought dead."""
        return self.proven and self.dialable and self.record.state == "up"


@dataclass(slots=True)
class Table:
    most: int = MOST_MEMBERS
    members: dict[NodeId, Member] = field(default_factory=dict)
    listed: dict[bytes, Member] = field(default_factory=dict)
    """By key: what digests name."""
    buckets: list[dict[bytes, Member]] = field(default_factory=lambda: [{} for _ in range(BUCKETS)])
    """The same by the first byte of the key."""
    texts: set[str] = field(default_factory=set)
    """Of all members: half of what comes in is known, and need not be read to see it."""
    sums: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    places: Counter[str] = field(default_factory=Counter)
    """How many listed members share one."""
    _keys: dict[bytes, NodeId] = field(default_factory=dict)
    _retired: dict[NodeId, None] = field(default_factory=dict)
    """Members that are not listed, the longest gone first."""
    _forgotten: list[NodeId] = field(default_factory=list)
    _declined: dict[bytes, int] = field(default_factory=dict)
    """Versions not taken, so that they are not asked for again at once."""

    def version(self, key: bytes) -> int:
        """The highest version ever seen under this key, of a record taken or declined; -1: none."""
        node = self._keys.get(key)
        return max(-1 if node is None else self.members[node].version, self._declined.get(key, -1))

    def hold(self, sealed: Sealed, proven: bool, places: frozenset[str], local: float, network: float) -> Member | None:
        """Take a genuine, newer record. None: there is no place for one node more."""
        record = sealed.record
        unlisted = local + record.issued + record.life + LATE - network
        expires = min(local + record.life, unlisted)
        member = self.members.get(record.node)
        if member is None:
            key = key_of(record.node)
            if key in self._keys or not self._make_place():
                return None
            member = Member(record.node, key, record, record.version, sealed.text, local, expires, unlisted)
            self.members[record.node] = member
            self._keys[key] = record.node
        self._unlist(member)
        self.texts.discard(member.text)
        self.texts.add(sealed.text)
        member.record, member.version, member.text = record, record.version, sealed.text
        member.expires, member.unlisted = expires, unlisted
        member.proven, member.places = proven, places
        member.dialable = bool(record.addrs) and record.spoken
        if proven and local <= unlisted:
            self._list(member)
        return member

    def keep_for_ever(self, member: Member) -> None:
        """Our own record: it is renewed, it never expires here."""
        member.expires = member.unlisted = float("inf")
        self._list(member)

    def prove(self, member: Member, proven: bool, local: float) -> None:
        """Its proof was looked at again."""
        self._unlist(member)
        member.proven = proven
        if proven and local <= member.unlisted:
            self._list(member)

    def decline(self, key: bytes, version: int) -> None:
        self._declined.pop(key, None)
        if len(self._declined) >= MOST_DECLINED:
            del self._declined[next(iter(self._declined))]
        self._declined[key] = version

    def reconsider(self) -> None:
        """Something changed by which records were declined."""
        self._declined.clear()

    def sweep(self, local: float) -> list[NodeId]:
        """Unlist and forget what is due; returns who was forgotten since the last time."""
        for member in [member for member in self.listed.values() if local > member.unlisted]:
            self._unlist(member)
        gone = [member for member in self.members.values() if local > member.unlisted + REMEMBERED]
        for member in gone:
            self._forget(member)
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def entries(self, bucket: int | None = None) -> Iterator[Entry]:
        """Of one bucket, or of all."""
        listed = self.listed if bucket is None else self.buckets[bucket]
        return ((member.key, member.version) for member in listed.values())

    def _make_place(self) -> bool:
        """When it is full, the one that went stale longest ago is forgotten; a listed one never is."""
        if len(self.members) < self.most:
            return True
        longest_gone = next(iter(self._retired), None)
        if longest_gone is None:
            return False
        self._forget(self.members[longest_gone])
        return True

    def _list(self, member: Member) -> None:
        if member.key not in self.listed:
            self._retired.pop(member.node, None)
            self.listed[member.key] = self.buckets[member.key[0]][member.key] = member
            self.sums[member.key[0]] ^= _sum(member)
            self.places.update(member.places)

    def _unlist(self, member: Member) -> None:
        self._retired.setdefault(member.node)
        if self.listed.pop(member.key, None) is not None:
            del self.buckets[member.key[0]][member.key]
            self.sums[member.key[0]] ^= _sum(member)
            for place in member.places:
                self.places[place] -= 1
                if not self.places[place]:
                    del self.places[place]

    def _forget(self, member: Member) -> None:
        self._unlist(member)
        del self._retired[member.node]
        self.texts.discard(member.text)
        del self.members[member.node]
        del self._keys[member.key]
        self._forgotten.append(member.node)


def key_of(node: NodeId) -> bytes:
    return base64.b32decode(node[:16].upper())[:KEY_BYTES]


def _sum(member: Member) -> int:
    """Buckets add up by exclusive or: order does not matter, and one change is one step."""
    entry = member.key + member.version.to_bytes(8, "big")
    return int.from_bytes(blake2b(entry, digest_size=8).digest(), "big")
