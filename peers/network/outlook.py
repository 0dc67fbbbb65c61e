"""Outlook: how this node stands in its network, as its owner is told. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from peers.network.certificates import NetworkId
from peers.network.clock import CORRECTED, TOLERATED
from peers.network.membership import Membership
from peers.network.roster import Status
from peers.wire import NodeId

DUPLICATED = (
    "another machine uses this node's key, and one of the two is silent: stop one, remove node.key from its MASA_DIR, "
    "start it, and join again"
)


@dataclass(frozen=True, slots=True)
class Notice:
    """What an operator should know, with the remedy."""

    code: str
    """Of what kind it is; its event in the log."""
    text: str


@dataclass(frozen=True, slots=True)
class LanView:
    """What multicast DNS shows."""

    why: str
    """Why nothing can be found; empty while it can."""
    heard: tuple[str, ...] = ()
    """Nodes that are tried, by the ids they claim."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Others, by the first characters of theirs, and why they are not."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network that this node is in."""

    id: NetworkId
    stake: str
    """`secret` or `certificate`."""
    addresses: tuple[str, ...]
    """Where peers should dial it."""
    reach: str
    """`reachable`, `unreachable` or `unknown`: whether any of them does."""
    members: Mapping[str, int]
    """How many, by status; `candidate`: whose stake is not proven here."""
    clock_offset: float
    """Seconds by which the others' clocks are ahead of ours."""
    lan: LanView | None
    """None: MDNS is off."""
    bootnodes: Mapping[str, str]
    """What came of the last call to each address: empty, or why nobody was met there."""
    refused: Mapping[str, int]
    """Records that were not taken, by reason."""
    requests_refused: Mapping[str, int]
    """Requests of other nodes that were refused, by code."""
    turned_away: Mapping[NodeId, str]
    """Nodes that proved their keys and are no members, and why."""
    bytes_in: int
    bytes_out: int
    notices: tuple[Notice, ...]


def members_by_status(membership: Membership, now: float) -> dict[str, int]:
    counts = Counter(membership.roster.status(member, now).value for member in membership.roster.members())
    return {status.value: counts[status.value] for status in Status} | {"candidate": len(membership.intake.candidates)}


def shut_out(by: int, stake: str) -> Notice:
    """`by`: how many members refuse this node, and none takes it."""
    if stake == "secret":
        remedy = "the secret was changed, or this node was left out; ask for a new token, and `masa-node join` with it"
    else:
        remedy = "its certificate was revoked, or has ended; ask the authority, and see `masa-node stake show`"
    return Notice("shut_out", f"{by} of the members refuse this node, and none takes it: {remedy}")


def core_notices(membership: Membership, now: float) -> Iterator[Notice]:
    """What membership itself has noticed."""
    if membership.announcer.duplicated(membership.clock.local(now)):
        yield Notice("key_duplicated", DUPLICATED)
    ahead = membership.clock.measured
    if abs(ahead) > TOLERATED:
        off = f"this machine's clock is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the others'"
        follows = "it is allowed for" if abs(ahead) <= CORRECTED else "beyond 10 minutes nobody takes its word"
        yield Notice("clock_off", f"{off}: {follows}; set the clock")
