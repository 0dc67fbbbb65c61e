"""Strangers: limits for networks whose members do not belong to one owner (docs/security.md C-11, C-32). Pure."""

import ipaddress
from collections.abc import Collection, Iterable
from hashlib import blake2b

from peers.network.table import Member
from peers.wire import NodeId

MOST_IN_TABLE, MOST_ACTIVE = 10, 2
"""Members with a place in common."""
SHARE, LEAST_SHARE = 0.23, 16
HOUR = 3600.0


def places(addrs: Iterable[str]) -> frozenset[str]:
    """What an attacker gets many of at once: the IPv4 /24 or IPv6 /48 of a global address, the domain of a name."""
    found = (_place(address.rpartition(":")[0].strip("[]")) for address in addrs)
    return frozenset(place for place in found if place)


def share(node: NodeId, members: Iterable[Member], salt: bytes, now: float, size: int) -> list[Member]:
    """Those that `node` may hear of in this hour: 23 % of them, or 16; a different choice for each node and hour."""
    part = int(max(SHARE, LEAST_SHARE / max(size, 1)) * 2**64)
    seed = salt + node.encode() + int(now // HOUR).to_bytes(8, "big")
    return [member for member in members if _draw(seed + member.key) < part]


def spread(members: Iterable[Member], named: Collection[NodeId], most: int) -> list[Member]:
    """The first so many, of which at most two share a place; whom the operator named is always among them."""
    taken: list[Member] = []
    counted: dict[str, int] = {}
    for member in sorted(members, key=lambda member: member.node not in named):
        if len(taken) == most:
            break
        if member.node in named or all(counted.get(place, 0) < MOST_ACTIVE for place in member.places):
            taken.append(member)
            counted.update({place: counted.get(place, 0) + 1 for place in member.places})
    return taken


def _draw(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def _place(host: str) -> str | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return ".".join(host.lower().split(".")[-2:])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if not ip.is_global:
        return None
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))
