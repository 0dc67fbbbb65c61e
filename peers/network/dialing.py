"""Which addresses may be dialled: each attempt to reach a peer passes the factory here (docs/security.md C-14)."""

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""NAT64, 6to4 and Teredo: an IPv4 address, possibly a private one, hides in these."""

METADATA = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254")))
"""Cloud metadata services: never, whoever names them."""

OWN_LAN = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8", "::1/128", "100.64.0.0/10"),
    )
)
"""What members of a shared-secret network may be reached at, besides global addresses."""

NOT_A_NODES = frozenset({2375, 2376, 3306, 5432, 6379, 8545, 9200, 11211, 11434, 27017})
"""Ports where other things listen: Docker, databases, an EVM, Elasticsearch, memcached, Ollama."""

HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
    re.ASCII,
)

NUMBER = re.compile(r"(.*\.)?(0[xX][0-9A-Fa-f]*|[0-9]+)", re.ASCII)
"""How resolvers, too, take a host for an IPv4 address in another spelling."""


class BadAddress(ValueError):
    """Not an address that a node can be reached at; the text says why."""


class Address(NamedTuple):
    """Where a node listens: a name or IP literal, and a port."""

    host: str
    """Lower case, without brackets."""
    port: int

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, text: str) -> "Address":
        """`host:port` or `[v6]:port`. Raises BadAddress."""
        host, _, port = text.rpartition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
            raise BadAddress("an address is written host:port")
        bracketed = host.startswith("[") and host.endswith("]")
        host = host[1:-1] if bracketed else host
        if bracketed != (":" in host):
            raise BadAddress("an IPv6 address is written [address]:port")
        if "%" in host or (literal(host) is None and (not HOST.fullmatch(host) or NUMBER.fullmatch(host))):
            raise BadAddress("the host is neither a name nor an IP address")
        return cls(host.lower(), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DialPolicy:
    """What this node dials."""

    ranges: Sequence[IPNetwork] = ()
    """PEER_ALLOW_CIDRS: allowed besides global addresses."""
    named: frozenset[Address] = frozenset()
    """What BOOTNODES and a token name: allowed wherever it is."""

    def gossiped(self, text: str) -> Address | None:
        """An address that a record offers, if it may be tried at all: names are judged again when they are resolved."""
        try:
            address = Address.parse(text)
        except BadAddress:
            return None
        if address.port != 443 and (address.port < 1024 or address.port in NOT_A_NODES):
            return None
        ip = literal(address.host)
        return address if ip is None or self.allows(ip) else None

    def allows(self, ip: IPAddress) -> bool:
        """For what nobody here named."""
        ip = _unmapped(ip)
        if ip in METADATA or ip.is_link_local:
            return False
        if _within(ip, self.ranges):
            return True
        # Python 3.11 calls multicast and some reserved addresses global.
        plain = not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_private)
        return ip.is_global and plain and not _within(ip, TRANSLATED)

    def socket_factory(self, named: bool) -> Callable[[Any], socket.socket]:
        """For aiohappyeyeballs: sees the resolved address of every attempt, IP literals included.

        `named`: the operator wrote this address, so that only metadata services are refused. Raises OSError.
        """

        def make(info: Any) -> socket.socket:
            family, kind, protocol, _, (host, *_) = info
            ip = _unmapped(ipaddress.ip_address(host.partition("%")[0]))
            if ip in METADATA or not (named or self.allows(ip)):
                raise OSError("this address may not be dialled (PEER_ALLOW_CIDRS)")
            return socket.socket(family, kind, protocol)

        return make


def literal(host: str) -> IPAddress | None:
    """The IP address, if `host` is one in its usual spelling; other spellings (0x7f000001, 127.1) are no addresses."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unmapped(ip: IPAddress) -> IPAddress:
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def _within(ip: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)
