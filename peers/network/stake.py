"""Stake: the right to take part, always verified by whoever relies on it (docs/security.md C-13). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from peers.network.certificates import DAY, DAYS, NetworkId, NotStaked, issue, open_certificate, open_deny_list
from peers.network.identity import parse_key, raw_key
from peers.network.tokens import Secret
from peers.wire import NodeId

OWN_DAYS = 30
"""A member of a shared-secret network makes itself a new certificate so often; the older one holds far longer."""
NO_SERIAL = bytes(8)
"""What a member can make again cannot be revoked: `rotate` is the way."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A node that may take part until then, by a proof that was verified here."""

    node: NodeId
    network: NetworkId
    amount: int
    until: float
    serial: str


class Stake(Protocol):
    """One way to prove stake."""

    @property
    def networks(self) -> tuple[NetworkId, ...]:
        """The network this node takes part in; behind it, while a secret is rotated, the one it is leaving."""
        ...

    def proof(self, network: NetworkId, now: float) -> bytes:
        """This node's own proof for one of its networks; empty where it has none. At most 512 bytes."""
        ...

    def proven(self, node: NodeId, proof: bytes, now: float) -> Proven:
        """Verify another node's proof. `node`: whose key was seen or signed. Raises NotStaked, and nothing else."""
        ...


class SharedSecret:
    """Whoever has the secret derives the network's key from it, and certifies itself."""

    def __init__(self, secrets: Sequence[Secret], node: NodeId) -> None:
        self._node = node
        self._keys = {secret.network(): secret.network_key() for secret in secrets}
        self._public = {network: key.public_key() for network, key in self._keys.items()}
        self.networks = tuple(self._keys)
        # Members are not to renew all at once, since a new proof is fetched by everybody.
        self._shift = int.from_bytes(raw_key(node)[:4], "big") % (OWN_DAYS * DAY)

    def proof(self, network: NetworkId, now: float) -> bytes:
        """The same bytes for OWN_DAYS, restarts included; it begins a day early, for clocks that are behind."""
        period = OWN_DAYS * DAY
        begin = (int(now) + self._shift) // period * period - self._shift - DAY
        return issue(self._keys[network], self._node, begin, NO_SERIAL, days=DAYS)

    def proven(self, node: NodeId, proof: bytes, now: float) -> Proven:
        certificate = open_certificate(proof, self._public, node, now)
        return Proven(node, certificate.net, certificate.amount, certificate.exp, certificate.serial)


class Certificates:
    """An authority, known by NETWORK_ID, says who may take part, and by its deny-list who no longer may."""

    def __init__(self, network: str, certificate: bytes = b"") -> None:
        """`certificate`: this node's own, sealed. Raises BadKey."""
        self.networks = (NetworkId(network),)
        self._public = {self.networks[0]: parse_key(network)}
        self.certificate = certificate
        """Replaced when its file changes."""
        self.deny_list = b""
        """The highest one heard of, sealed, for gossip and for the disk."""
        self._number = 0
        self._denied: frozenset[str] = frozenset()

    def proof(self, network: NetworkId, now: float) -> bytes:
        return self.certificate

    def proven(self, node: NodeId, proof: bytes, now: float) -> Proven:
        certificate = open_certificate(proof, self._public, node, now)
        if certificate.serial in self._denied:
            raise NotStaked("revoked")
        return Proven(node, certificate.net, certificate.amount, certificate.exp, certificate.serial)

    def learn(self, deny_list: bytes) -> bool:
        """Whether it was news: then proofs are to be verified anew. Raises NotStaked.

        Of two with one number (an authority restored from a backup) the greater bytes count, so that all nodes agree.
        """
        listed = open_deny_list(deny_list, self._public)
        if (listed.number, deny_list) <= (self._number, self.deny_list):
            return False
        self._number, self._denied, self.deny_list = listed.number, listed.serials, deny_list
        return True
