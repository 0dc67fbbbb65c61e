"""Contacts: whom to gossip with in this round. Pure."""

from collections.abc import Sequence
from random import Random

from peers.network.table import Member
from peers.network.terms import Bootnode

FAN_OUT = 2


def contacts(
    alive: Sequence[Member], gone: Sequence[Member], bootnodes: Sequence[Bootnode], rng: Random
) -> list[Member | Bootnode]:
    """Two of the living. One of those gone, the likelier the more there are: without that, a healed split stays one.

    One bootnode likewise, and always when nobody is alive. After Cassandra's Gossiper. All of them can be dialled; the
    bootnodes given are those that are not among the living.
    """
    chosen: list[Member | Bootnode] = list(rng.sample(alive, min(FAN_OUT, len(alive))))
    if gone and rng.random() < len(gone) / (len(alive) + 1):
        chosen += rng.sample(gone, min(len(gone), 1 if alive else 1 + FAN_OUT))
    if bootnodes and (not alive or rng.random() < len(bootnodes) / (len(alive) + len(gone))):
        chosen.append(rng.choice(bootnodes))
    return chosen
