"""The active set: of all who serve a model, those whom this node watches and asks. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from hashlib import blake2b

from peers.network.strangers import spread
from peers.network.table import Member
from peers.wire import NodeId

MOST_PER_MODEL = 32
MOST_READ = 256
"""In a larger network only so many members are asked for their model lists."""


def wanted(members: Iterable[Member], me: NodeId) -> list[Member]:
    """Whose model lists we want: everybody's in a small network, of a large one a part that stays the same."""
    offering = [member for member in members if member.record.models.count]
    return _nearest(offering, me)[:MOST_READ] if len(offering) > MOST_READ else offering


def active(members: Iterable[Member], me: NodeId, strangers: bool, named: Collection[NodeId]) -> list[Member]:
    """At most 32 for each model; which ones depends on who asks, so that not everybody watches the same."""
    serving: dict[str, list[Member]] = defaultdict(list)
    for member in _nearest([member for member in members if member.offered], me):
        for model in member.offered:
            serving[model].append(member)
    chosen: dict[Member, None] = {}
    for some in serving.values():
        chosen.update(dict.fromkeys(spread(some, named, MOST_PER_MODEL) if strangers else some[:MOST_PER_MODEL]))
    return list(chosen)


def _nearest(members: Iterable[Member], me: NodeId) -> list[Member]:
    """In an order of this node's own, which joins and leaves hardly change."""
    salt = me.encode()
    return sorted(members, key=lambda member: blake2b(member.key, key=salt, digest_size=8).digest())
