"""Hints: what nodes tell of themselves on a LAN, and what may be taken from it (docs/security.md C-12). Pure."""

import hashlib
import ipaddress
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from zeroconf import ServiceInfo

from peers.network.dialing import Address, IPAddress
from peers.network.identity import BadKey, raw_key
from peers.wire import NodeId

T = TypeVar("T")

SERVICE = "_masa-node._tcp.local."
FORMAT = b"1"
LABEL = 12
"""Characters of a node's id that name its service."""
LONGEST_TEXT = 255
MOST_ADDRESSES = 8
MOST_HINTS, HINTS_SECONDS = 64, 60.0
MOST_KNOWN = 256

ELSEWHERE = "it is in another network"
UNREADABLE = "its announcement cannot be read"
NOT_DIALLED = "PEER_ALLOW_CIDRS allows none of its addresses, or they are global"


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody says that this node is there. Nothing of it counts until a ping has met the pinned key."""

    node: NodeId
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What this node is on its LAN, and what it may take from it."""

    me: NodeId
    networks: Callable[[], Sequence[str]]
    """The ids of the networks it is in; the first is announced."""
    port: int | None
    """None: nobody can dial it. It hears, and is silent."""
    bound: tuple[IPAddress, ...]
    """The addresses its listener is bound to."""
    allowed: Callable[[str], Address | None]
    """`host:port` as an Address, if it may be dialled although nobody here named it."""

    def dials(self, ip: IPAddress, port: int) -> Address | None:
        """As an Address, if a hint may name it."""
        if ip.is_global or getattr(ip, "ipv4_mapped", None):
            return None
        return self.allowed(str(Address(str(ip), port)))


class Refused(ValueError):
    """What was heard is no hint for us; the text says why."""


def network_tag(network: str) -> bytes:
    """How a network is told on a LAN: its members know it, strangers do not learn its name."""
    return hashlib.sha256(network.encode()).hexdigest()[:16].encode()


def service(presence: Presence, network: str, port: int, at: Sequence[IPAddress]) -> ServiceInfo:
    """What this node announces."""
    label = presence.me[:LABEL]
    return ServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        port=port,
        properties={b"id": presence.me.encode(), b"net": network_tag(network), b"v": FORMAT},
        server=f"{label}.local.",
        parsed_addresses=[str(ip) for ip in at],
    )


def hint(heard: ServiceInfo, presence: Presence, ours: Collection[Address] = ()) -> Hint | None:
    """None: we heard ourselves. Raises Refused.

    `ours`: where we listen. Whoever claims to be there too means an address that each machine has, such as Docker's.
    """
    node, tag = _node(heard)
    if node == presence.me:
        return None
    if tag not in map(network_tag, presence.networks()):
        raise Refused(ELSEWHERE)
    ips = [ipaddress.ip_address(text) for text in heard.parsed_addresses()[:MOST_ADDRESSES]]
    told = [address for ip in ips if (address := presence.dials(ip, heard.port or 0)) and address not in ours]
    if not told:
        raise Refused(NOT_DIALLED)
    return Hint(node, tuple(told))


class Hints:
    """What was heard, by the label of its service; bounded, whatever is heard."""

    def __init__(self, presence: Presence) -> None:
        self.known: dict[str, Hint] = {}
        self.refused: dict[str, str] = {}
        """Why not."""
        self._presence = presence
        self._told: deque[float] = deque()
        """When the hints of the last minute were given."""

    def take(self, label: str, heard: ServiceInfo, now: float, ours: Collection[Address]) -> Hint | None:
        """What is new in it. What comes in too fast is not kept, so that it is new again when it is heard again."""
        try:
            told = hint(heard, self._presence, ours)
        except Refused as error:
            self.forget(label)
            _keep(self.refused, label, str(error))
            return None
        known = self.known.get(label)
        if told and known and set(told.addresses) <= set(known.addresses):
            self.known[label] = told
            return None
        if told is None or not self._in_time(now):
            return None
        self.forget(label)
        _keep(self.known, label, told)
        return told

    def forget(self, label: str) -> None:
        self.known.pop(label, None)
        self.refused.pop(label, None)

    def clear(self) -> None:
        self.known.clear()
        self.refused.clear()

    def _in_time(self, now: float) -> bool:
        while self._told and not 0 <= now - self._told[0] < HINTS_SECONDS:
            self._told.popleft()
        if len(self._told) >= MOST_HINTS:
            return False
        self._told.append(now)
        return True


def _node(heard: ServiceInfo) -> tuple[NodeId, bytes]:
    """The id and the network's tag that it tells. Raises Refused."""
    if len(heard.text) > LONGEST_TEXT or heard.properties.get(b"v") != FORMAT:
        raise Refused(UNREADABLE)
    node = NodeId((heard.properties.get(b"id") or b"").decode("ascii", "replace"))
    try:
        raw_key(node)
    except BadKey:
        raise Refused(UNREADABLE) from None
    if heard.name != f"{node[:LABEL]}.{SERVICE}":
        raise Refused(UNREADABLE)
    return node, heard.properties.get(b"net") or b""


def _keep(kept: dict[str, T], label: str, value: T) -> None:
    """At the bound the one that was heard first goes."""
    if len(kept) >= MOST_KNOWN:
        del kept[next(iter(kept))]
    kept[label] = value
