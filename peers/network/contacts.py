"""Contacts: whom to gossip with in this round. Pure."""

from collections.abc import Sequence, Set
from random import Random

from peers.network.table import Member
from peers.network.terms import Bootnode
from peers.wire import NodeId

FAN_OUT = 2


def contacts(
    alive: Sequence[Member],
    gone: Sequence[Member],
    bootnodes: Sequence[Bootnode],
    rng: Random,
    aged: Set[NodeId] = frozenset(),
) -> list[Member | Bootnode]:
    """Two of the living. One of those gone, the likelier the more there are: without that, a healed split stays one.

    One bootnode likewise, and always when nobody is alive. After Cassandra's Gossiper. All of them can be dialled; the
    bootnodes given are those that are not among the living.

    Of the living two are `aged`, where there are such, and one is not: however many new ones there are, they do not
    come between us and those whom we have known for long (docs/security.md C-32).
    """
    old = [member for member in alive if member.node in aged]
    new = [member for member in alive if member.node not in aged]
    chosen: list[Member | Bootnode] = list(rng.sample(old, min(FAN_OUT, len(old))))
    chosen += rng.sample(new, min(max(FAN_OUT - len(chosen), 1), len(new)))
    if gone and rng.random() < len(gone) / (len(alive) + 1):
        chosen += rng.sample(gone, min(len(gone), 1 if alive else 1 + FAN_OUT))
    if bootnodes and (not alive or rng.random() < len(bootnodes) / (len(alive) + len(gone))):
        chosen.append(rng.choice(bootnodes))
    return chosen
