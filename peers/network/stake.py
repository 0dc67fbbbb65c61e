"""Stake: the right to take part, always verified by whoever relies on it (docs/security.md C-13). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from peers.network.certificates import DAY, DAYS, NetworkId, NotStaked, issue, open_certificate, open_deny_list
from peers.network.identity import parse_key, raw_key
from peers.network.rotation import Rotation
from peers.network.tokens import BadToken, Secret, parse_deny_list
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

    def read_denials(self, text: str) -> str | None:
        """Of a deny-list that is the network's own a tag, the newer the greater; None of anything else.

        What it denies is no longer proven, if it is the newest.
        """
        ...


class SharedSecret:
    """Whoever has the secret derives the network's key from it, and certifies itself."""

    def __init__(self, secrets: Sequence[Secret], node: NodeId, rotation: Rotation | None = None) -> None:
        """`rotation`: from the second secret to the first; without one the second counts like the first."""
        self._node = node
        # Members are not to renew all at once, since a new proof is fetched by everybody.
        self._shift = int.from_bytes(raw_key(node)[:4], "big") % (OWN_DAYS * DAY)
        self.go_by(secrets, rotation)

    def go_by(self, secrets: Sequence[Secret], rotation: Rotation | None) -> None:
        """From now on; everybody's proof is then to be verified anew."""
        self.secrets, self.rotation = tuple(secrets), rotation
        self._keys = {secret.network(): secret.network_key() for secret in secrets}
        self._public = {network: key.public_key() for network, key in self._keys.items()}
        self.networks = tuple(self._keys)

    def public_key(self, network: NetworkId) -> Ed25519PublicKey:
        """Of one of `networks`."""
        return self._public[network]

    def proof(self, network: NetworkId, now: float) -> bytes:
        """The same bytes for OWN_DAYS, restarts included; it begins a day early, for clocks that are behind."""
        period = OWN_DAYS * DAY
        begin = (int(now) + self._shift) // period * period - self._shift - DAY
        return issue(self._keys[network], self._node, begin, NO_SERIAL, days=DAYS)

    def proven(self, node: NodeId, proof: bytes, now: float) -> Proven:
        certificate = open_certificate(proof, self._public, node, now)
        if self.rotation and certificate.net == self.rotation.net and not self.rotation.admits(node, now):
            raise NotStaked("rotated")
        return Proven(node, certificate.net, certificate.amount, certificate.exp, certificate.serial)

    def read_denials(self, text: str) -> str | None:
        """There are none: whoever has the secret makes itself another certificate."""
        return None


class Certificates:
    """An authority, known by NETWORK_ID, says who may take part, and by its deny-list who no longer may."""

    def __init__(self, network: str, certificate: bytes = b"") -> None:
        """`certificate`: this node's own, sealed. Raises BadKey."""
        self.networks = (NetworkId(network),)
        self._public = {self.networks[0]: parse_key(network)}
        self.certificate = certificate
        """Replaced when its file changes."""
        self.deny_list = b""
        """The highest one heard of, sealed."""
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

    def read_denials(self, text: str) -> str | None:
        """Its number in 16 hexadecimal digits, then those of its first 8 bytes (docs/protocol.md)."""
        try:
            sealed = parse_deny_list(text)
            self.learn(sealed)
            number = open_deny_list(sealed, self._public).number
        except (BadToken, NotStaked):
            return None
        return f"{number:016x}{sealed[:8].hex()}"
