"""Pairing: two nodes agree a key for a while: their requests then need no signature each (docs/security.md C-7). Pure.

The asker's request is signed by its node key, and so is the answer; both ephemeral keys are forgotten at once, so that
neither node key opens what was agreed by it. A session is for requests in one direction.
"""

import base64
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peers.errors import BadRequest, MasaError
from peers.network.certificates import NetworkId
from peers.network.identity import ID, BadKey, node_id, parse_key
from peers.wire import NodeId

PATH = "/peer/v1/session"
PREFIX = b"masa-session-v1\0"
KIND = "application/octet-stream"
LIFE = 600
"""Seconds for which a session is good."""
LONGEST_QUESTION = 32 + 52
_ANSWER = 32 + 16 + 4 + 64


class NotAgreed(ValueError):
    """The peer's answer makes no session."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both nodes know afterwards, and nobody else."""

    id: str
    """16 bytes in base64url."""
    key: bytes
    life: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Between whom: `asker` sends requests to `answerer`."""

    network: NetworkId
    asker: NodeId
    answerer: NodeId


def question(network: NetworkId, ours: X25519PrivateKey) -> bytes:
    """The asker's body."""
    return ours.public_key().public_bytes_raw() + network.encode()


def answered(
    body: bytes,
    asker: NodeId,
    key: Ed25519PrivateKey,
    networks: tuple[NetworkId, ...],
    ours: X25519PrivateKey,
    name: bytes,
) -> tuple[Agreed, bytes]:
    """The session, and the answer that makes it known to `asker`, whose signature of `body` holds.

    `key`: the answerer's own, `name`: 16 bytes, new as `ours` is. Raises MasaError.
    """
    theirs, network = body[:32], body[32:].decode("latin-1")
    if not ID.fullmatch(network):
        raise BadRequest("malformed", "send an X25519 key and the id of your network")
    if network not in networks:
        raise MasaError(403, "wrong_network", "this node is not in that network")
    said = ours.public_key().public_bytes_raw() + name + LIFE.to_bytes(4, "big")
    text = _text(Pair(NetworkId(network), asker, node_id(key)), theirs, said)
    try:
        agreed = _agreed(ours, theirs, text, said)
    except ValueError:
        raise BadRequest("malformed", "this X25519 key agrees on nothing") from None
    return agreed, said + key.sign(text)


def understood(answer: bytes, pair: Pair, ours: X25519PrivateKey) -> Agreed:
    """The session that the peer's answer to our question makes. Raises NotAgreed."""
    if len(answer) != _ANSWER:
        raise NotAgreed("not the form of an answer")
    said, signature = answer[:52], answer[52:]
    text = _text(pair, ours.public_key().public_bytes_raw(), said)
    try:
        parse_key(pair.answerer).verify(signature, text)
        return _agreed(ours, said[:32], text, said)
    except (InvalidSignature, BadKey):
        raise NotAgreed("it is not signed by that node, for this question") from None
    except ValueError:
        raise NotAgreed("its X25519 key agrees on nothing") from None


def _text(pair: Pair, theirs: bytes, said: bytes) -> bytes:
    """What the answerer signs, and what the key is bound to. Each part has one length."""
    return PREFIX + (pair.network + pair.asker + pair.answerer).encode() + theirs + said


def _agreed(ours: X25519PrivateKey, theirs: bytes, text: bytes, said: bytes) -> Agreed:
    """Raises ValueError for a key of small order, whose shared secret is zero (RFC 7748 §6.1)."""
    shared = ours.exchange(X25519PublicKey.from_public_bytes(theirs))
    key = HKDF(SHA256(), 32, None, text).derive(shared)
    name = base64.urlsafe_b64encode(said[32:48]).decode().rstrip("=")
    return Agreed(name, key, min(int.from_bytes(said[48:52], "big"), LIFE))
