"""What a node needs to be in a network: proof of stake, the peer listener's sockets, addresses. All of it blocks."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from masa_node.listening import listening_sockets
from masa_node.surroundings import own_addresses, port_owner
from peers.network.dialing import Address
from peers.network.stake import Certificates, SharedSecret, Stake
from peers.network.store import Store
from peers.network.terms import Bootnode
from peers.network.tokens import Secret, parse_certificate, parse_secrets
from peers.wire import NodeId

MOST_ADDRESSES = 4


@dataclass(frozen=True, slots=True)
class Means:
    """How this node proves its stake, and whom it calls first."""

    stake: Stake
    secrets: tuple[Secret, ...]
    """Of a shared-secret network; empty in one of certificates."""
    bootnodes: tuple[Bootnode, ...]


def means_of(settings: Settings, me: NodeId, store: Store) -> Means | None:
    """None: in no network. The folder's secret counts before the environment's. Raises BadToken, BadKey."""
    named = tuple(_bootnode(text) for text in settings.bootnodes)
    told = tuple(Bootnode(str(place), node) for node, place in store.contacts())
    if settings.network_id:
        sealed = settings.stake_certificate
        certificate = parse_certificate(sealed.get_secret_value()) if sealed else b""
        return Means(Certificates(settings.network_id, certificate), (), named)
    secrets = store.secrets()
    if not secrets and settings.network_secret:
        secrets = parse_secrets(settings.network_secret.get_secret_value())
    return Means(SharedSecret(secrets, me), secrets, named + told) if secrets else None


def listen(settings: Settings, store: Store) -> list[socket.socket]:
    """The peer listener's sockets, bound. A port that PEER_PORT=0 picked is kept. Raises OSError."""
    sockets = listening_sockets(settings.peer_host, settings.peer_port or store.port())
    if not settings.peer_port:
        store.keep_port(sockets[0].getsockname()[1])
    return sockets


def addresses_of(settings: Settings, sockets: Sequence[socket.socket]) -> tuple[str, ...]:
    """Where peers should dial: PEER_ADVERTISE, or else this machine's own addresses."""
    if settings.peer_advertise:
        return settings.peer_advertise[:MOST_ADDRESSES]
    host, port = sockets[0].getsockname()[:2]
    hosts = own_addresses(Path("/")) if host in ("0.0.0.0", "::") else [host]  # noqa: S104 - read, not bound
    return tuple(str(Address(one, port)) for one in hosts)[:MOST_ADDRESSES]


def cannot_listen(settings: Settings, error: OSError) -> str:
    """In words, with the remedy."""
    owner = port_owner(settings.peer_port, Path("/"))
    held = f"is taken by {owner}" if owner else f"cannot be used ({error.strerror})"
    return f"PEER_PORT {settings.peer_port} {held}; stop it, or set PEER_PORT to another one (0 picks one)"


def _bootnode(text: str) -> Bootnode:
    node, _, place = text.rpartition("@")
    return Bootnode(place, NodeId(node) if node else None)
