"""Terms: what Membership is told at its start, and what it hands to the carrier. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from peers.network.records import Sign, Verify
from peers.wire import NodeId

Staked = Callable[[NodeId, str, float], bool]
"""(node, its record's proof or the name of one, the network's time): whether its stake holds."""


@dataclass(frozen=True, slots=True)
class Bootnode:
    """An address to join through."""

    address: str
    node: NodeId | None = None
    """Whose key must answer there; None: whoever does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What does not change while a node runs."""

    me: NodeId
    networks: Callable[[], tuple[str, ...]]
    """Ours; behind it, while a secret is rotated, the one we are leaving."""
    sign: Sign
    verify: Verify
    staked: Staked
    address_ok: Callable[[str], bool]
    """Whether a record may offer this address at all."""
    strangers: bool = False
    """Members do not belong to one owner: the limits of C-11 and C-32 apply."""
    bootnodes: tuple[Bootnode, ...] = ()
    read_denials: Callable[[str], str | None] = lambda text: None
    """Of a deny-list that the authority signed, a tag by which the newer of two is the greater; else None."""


@dataclass(frozen=True, slots=True)
class Send:
    """Something to deliver, each in a task of its own: connect within 1 s, all within 3 s, times `patience`."""

    node: NodeId | None
    """None: whoever answers at a bootnode's address, once `ping` has introduced it."""
    addresses: tuple[str, ...]
    """To be tried in this order."""
    body: bytes | None
    """For POST gossip; what comes back goes to answered(). None: a `ping` will do, and answered() gets b""."""
