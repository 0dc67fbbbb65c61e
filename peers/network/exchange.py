"""Exchange: what we say in gossip, so that both sides end with the union of what they held. Pure."""

from collections.abc import Iterable
from random import Random

from peers.network.frames import (
    BUCKETS,
    MOST_BUCKETS,
    MOST_ENTRIES,
    MOST_WANTED,
    Frame,
    fill,
    keys,
    pack,
    pack_sums,
    unpack,
    unpack_sums,
)
from peers.network.rumours import Rumours
from peers.network.strangers import share
from peers.network.table import Member, Table
from peers.wire import NodeId

MOST_IN_FULL = 256
"""Up to so many records a digest names them all."""
MOST_NEWS, MOST_RENEWED = 8, 256
"""In one frame: records told unasked, and entries of what changed lately, where a digest does not name all."""


class Exchange:
    def __init__(self, me: NodeId, table: Table, rng: Random, strangers: bool) -> None:
        self.me = me
        self.table = table
        self.rng = rng
        self.strangers = strangers
        self.denials, self.deny_list = "", ""
        self.news = Rumours()
        """Of what its owner changed, the record itself is told."""
        self.renewed = Rumours()
        """Of everything newer, the entry."""
        self._salt = rng.randbytes(16)

    def learned(self, node: NodeId, news: bool) -> None:
        self.renewed.add(node)
        if news:
            self.news.add(node)

    def forget(self, nodes: list[NodeId]) -> None:
        self.news.forget(nodes)
        self.renewed.forget(nodes)

    def opening(self, to: NodeId | None, now: float, local: float) -> Frame:
        frame = Frame(clock=now, denials=self.denials)
        if len(self.table.listed) <= MOST_IN_FULL:
            frame.digest, frame.all = pack(self.table.entries()), True
        else:
            frame.buckets = pack_sums(self.table.sums)
            self._name_renewed(frame, {})
        return self._tell_news(frame, to, local)

    def reply(self, got: Frame, to: NodeId, now: float, local: float) -> Frame:
        """To an opening, and to any other frame: what they lack, what I lack."""
        frame = Frame(clock=now, denials=self.denials, deny_list=self.deny_list if got.denials < self.denials else "")
        named = dict(unpack(got.digest))
        self._need_not_tell(named)
        frame.want = self._lacking(named)
        asked = [member for key in keys(got.want) if (member := self.table.listed.get(key))]
        given = [*asked, *self._theirs(named, to), *self._unnamed(got, named)]
        if got.buckets:
            self._name_buckets(frame, got)
            self._name_renewed(frame, named)
        fill(frame, [member.text for member in self._tellable(given, to, now, local)])
        return self._tell_news(frame, to, local, named) if got.buckets else frame

    def _lacking(self, named: dict[bytes, int]) -> bytes:
        listed = self.table.listed
        lacking = [
            key
            for key, version in named.items()
            if ((member := listed.get(key)) is None or member.version < version) and version > self.table.version(key)
        ]
        return b"".join(self.rng.sample(lacking, min(len(lacking), MOST_WANTED)))

    def _theirs(self, named: dict[bytes, int], to: NodeId) -> list[Member]:
        """Of what they named, that of which I hold a newer one, in random order."""
        newer = [
            member
            for key, version in named.items()
            if (member := self.table.listed.get(key)) and member.version > version
        ]
        self.rng.shuffle(newer)
        # A node that restarts with an older clock must hear of its former self, even of an expired one.
        former = self.table.members.get(to)
        if former and former.version > named.get(former.key, former.version):
            newer.insert(0, former)
        return newer

    def _unnamed(self, got: Frame, named: dict[bytes, int]) -> list[Member]:
        """Of what they say they named completely, the rest, in random order."""
        if got.all:
            rest = [member for key, member in self.table.listed.items() if key not in named]
        else:
            buckets = [self.table.buckets[number] for number in got.within]
            rest = [member for bucket in buckets for key, member in bucket.items() if key not in named]
        self.rng.shuffle(rest)
        return rest

    def _tellable(self, members: Iterable[Member], to: NodeId, now: float, local: float) -> list[Member]:
        """Each once, none that has expired but to its owner; of strangers' records the part that `to` may hear of."""
        some = [member for member in dict.fromkeys(members) if member.node == to or _current(member, local)]
        if not self.strangers:
            return some
        allowed = set(share(to, some, self._salt, now, len(self.table.listed)))
        return [member for member in some if member in allowed or member.node in (to, self.me)]

    def _tell_news(self, frame: Frame, to: NodeId | None, local: float, named: dict[bytes, int] | None = None) -> Frame:
        """Records that they may not have, unasked: nobody can choose which, so that strangers are told too."""
        known = named or {}
        heard = self._members(node for node in self.news.next(MOST_NEWS, first=self.me) if node != to)
        new = [member for member in heard if known.get(member.key, -1) < member.version and _current(member, local)]
        self.news.told([member.node for member in heard], len(self.table.listed))
        return fill(frame, [member.text for member in new if member.text not in frame.records])

    def _need_not_tell(self, named: dict[bytes, int]) -> None:
        """Whom everybody knows of already is no news for long: one who knows counts as one told."""
        news = self._members(self.news)
        known = [member.node for member in news if named.get(member.key, -1) >= member.version]
        self.news.told(known, len(self.table.listed))

    def _name_renewed(self, frame: Frame, named: dict[bytes, int]) -> None:
        nodes = self.renewed.next(MOST_RENEWED)
        some = (member for member in self._members(nodes) if member.key not in named)
        frame.digest += pack((member.key, member.version) for member in some)
        self.renewed.told(nodes, len(self.table.listed))

    def _name_buckets(self, frame: Frame, got: Frame) -> None:
        """All that I hold in some of the buckets in which we differ."""
        theirs = unpack_sums(got.buckets)
        differing = [number for number in range(BUCKETS) if theirs[number] != self.table.sums[number]]
        self.rng.shuffle(differing)
        room = MOST_ENTRIES - MOST_RENEWED
        for number in differing[:MOST_BUCKETS]:
            room -= len(self.table.buckets[number])
            if room < 0:
                break
            frame.within.append(number)
            frame.digest += pack(self.table.entries(number))

    def _members(self, nodes: Iterable[NodeId]) -> list[Member]:
        return [member for node in nodes if (member := self.table.members.get(node))]


def _current(member: Member, local: float) -> bool:
    """It may be passed on; that it has left, too."""
    return member.proven and local <= member.expires
