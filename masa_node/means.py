"""What a node needs to be in a network: proof of stake, the peer listener's sockets, addresses. All of it blocks."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import structlog

from config.settings import ConfigError, Problem, Settings
from masa_node.listening import listening_sockets
from masa_node.surroundings import in_container, own_addresses, port_owner
from peers.network.certificates import NotStaked, read_certificate
from peers.network.disk import not_written
from peers.network.identity import BadKey
from peers.network.stake import Certificates, SharedSecret, Stake
from peers.network.store import Store
from peers.network.terms import Bootnode
from peers.network.tokens import BadToken, Secret, parse_certificate, parse_secrets
from peers.wire import NodeId

log = structlog.get_logger(__name__)


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
        return Means(certificates_of(settings), (), named)
    secrets = secrets_of(settings, store)
    return Means(SharedSecret(secrets, me, store.rotation()), secrets, named + told) if secrets else None


def secrets_of(settings: Settings, store: Store) -> tuple[Secret, ...]:
    """Empty: there is none. Raises BadToken."""
    return store.secrets() or _from_environment(settings)


def held_back(settings: Settings, stake: SharedSecret) -> str:
    """A sentence where NETWORK_SECRET is not the secret in use; else empty."""
    told = _from_environment(settings)
    if not told or told[0] == stake.secrets[0]:
        return ""
    return (
        "NETWORK_SECRET holds an old secret: this node goes by a newer one, rotated or joined by token, that it keeps "
        "in MASA_DIR; set NETWORK_SECRET to the first 53 characters of what `masa-node invite` prints, or unset it"
    )


def certificates_of(settings: Settings) -> Certificates:
    """The stake of a node with NETWORK_ID. Raises BadToken, BadKey: what check_stake() tells at a start."""
    sealed = settings.stake_certificate
    certificate = parse_certificate(sealed.get_secret_value()) if sealed else b""
    return Certificates(settings.network_id or "", certificate)


def check_stake(settings: Settings) -> None:
    """What config cannot see of NETWORK_ID and STAKE_CERTIFICATE, since it knows no keys. Raises ConfigError."""
    if not settings.network_id:
        return
    try:
        stake = certificates_of(settings)
        if stake.certificate:
            said = read_certificate(stake.certificate)
            stake.proven(said.node, stake.certificate, said.nbf)
    except BadKey as error:
        remedy = "copy what `masa-node stake show` prints on the authority's machine"
        raise ConfigError((Problem("NETWORK_ID", f"is no network's ({error})", remedy),)) from None
    except (BadToken, NotStaked) as error:
        raise ConfigError((_unusable(settings, error),)) from None


def listen(settings: Settings, store: Store) -> list[socket.socket]:
    """The peer listener's sockets, bound. A port that PEER_PORT=0 picked is kept, if it can be. Raises OSError."""
    kept = store.port()
    sockets = listening_sockets(settings.peer_host, settings.peer_port or kept)
    picked = sockets[0].getsockname()[1]
    if not settings.peer_port and picked != kept:
        try:
            store.keep_port(picked)
        except OSError as error:
            log.warning("not_kept", reason=f"the port that PEER_PORT=0 picked: {not_written(error)}")
    return sockets


def hosts_of(sockets: Sequence[socket.socket]) -> list[str]:
    """This machine's addresses at which these are heard; to be asked again, since machines move."""
    bound = [ip_address(sock.getsockname()[0]) for sock in sockets]
    every = {ip.version for ip in bound if ip.is_unspecified}
    found = [host for host in own_addresses() if ip_address(host).version in every] if every else []
    return [*(str(ip) for ip in bound if not ip.is_unspecified), *found]


def contained(sockets: Sequence[socket.socket]) -> bool:
    """Whether these are heard at addresses of a container, which nobody outside reaches; not where one was named."""
    return in_container(Path("/")) and any(ip_address(sock.getsockname()[0]).is_unspecified for sock in sockets)


def cannot_listen(settings: Settings, error: OSError) -> str:
    """In words, with the remedy."""
    owner = port_owner(settings.peer_port, Path("/"))
    held = f"is taken by {owner}" if owner else f"cannot be used ({error.strerror})"
    return f"PEER_PORT {settings.peer_port} {held}; stop it, or set PEER_PORT to another one (0 picks one)"


def _unusable(settings: Settings, error: BadToken | NotStaked) -> Problem:
    """A certificate that cannot become good with time, nor on another node."""
    if isinstance(error, NotStaked) and error.reason == "wrong_network":
        return Problem(
            "STAKE_CERTIFICATE",
            f"is for another network than {settings.network_id}, which NETWORK_ID names",
            "set both to what one `masa-node stake issue` printed",
        )
    what = str(error) if isinstance(error, BadToken) else "it is damaged, or no authority signed it"
    return Problem(
        "STAKE_CERTIFICATE", f"is not usable ({what})", "copy all of the word that `masa-node stake issue` printed"
    )


def _from_environment(settings: Settings) -> tuple[Secret, ...]:
    return parse_secrets(settings.network_secret.get_secret_value()) if settings.network_secret else ()


def _bootnode(text: str) -> Bootnode:
    node, _, place = text.rpartition("@")
    return Bootnode(place, NodeId(node) if node else None)
