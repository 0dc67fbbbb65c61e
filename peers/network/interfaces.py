"""Interfaces: the addresses this machine has at the moment, and those on which a LAN may be looked for."""

import fcntl
import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence

import ifaddr

from peers.network.dialing import IPAddress

LINUX = sys.platform == "linux"
GET_FLAGS = 0x8913 if LINUX else 0xC0206911
"""SIOCGIFFLAGS: of Linux, and of macOS and the BSDs."""
UP, LOOPBACK, RUNNING, MULTICAST = 0x1, 0x8, 0x40, 0x1000 if LINUX else 0x8000
NAME = 16
"""Bytes of an interface's name in `struct ifreq`, before its flags."""
REQUEST = 40


def addresses() -> tuple[IPAddress, ...]:
    """Of the interfaces that are up, connected and take multicast, and of loopback. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        found = {
            ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0])
            for adapter in ifaddr.get_adapters()
            if _usable(_flags(probe, adapter.name))
            for ip in adapter.ips
        }
    return tuple(sorted(found, key=lambda ip: (ip.version, int(ip))))


def of_the_lan(found: Sequence[IPAddress], bound: Sequence[IPAddress]) -> tuple[IPAddress, ...]:
    """Where others may be. A node that listens on loopback alone (`bound`) looks for others of its machine alone.

    Otherwise neither loopback, nor global addresses, nor link-local ones, which nobody dials (docs/security.md C-12,
    C-14).
    """
    if bound and all(ip.is_loopback for ip in bound):
        return tuple(ip for ip in found if ip.is_loopback)
    return tuple(ip for ip in found if not (ip.is_loopback or ip.is_link_local or ip.is_global))


def heard_at(found: Sequence[IPAddress], bound: Sequence[IPAddress]) -> tuple[IPAddress, ...]:
    """Those at which a listener that is bound to `bound` is reached."""
    every = {ip.version for ip in bound if ip.is_unspecified}
    return tuple(ip for ip in found if ip in bound or ip.version in every)


def _flags(probe: socket.socket, name: str) -> int:
    """None set when the interface has gone meanwhile."""
    try:
        told = fcntl.ioctl(probe, GET_FLAGS, struct.pack(f"{REQUEST}s", name.encode()))
    except OSError:
        return 0
    flags: int = struct.unpack_from("H", told, NAME)[0]
    return flags


def _usable(flags: int) -> bool:
    """Loopback carries multicast, though Linux does not say so."""
    return bool(flags & UP and flags & RUNNING and flags & (MULTICAST | LOOPBACK))
