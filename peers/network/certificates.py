"""Membership certificates and the deny-list, as a network's authority signs them (docs/security.md C-13). Pure."""

import base64
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, NewType, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from peers.errors import MasaError
from peers.network.identity import BadKey, id_text, raw_key
from peers.network.seal import DENY, MEMBER, SIGNATURE, Forged, Prefix, payload_of, seal, unseal
from peers.wire import NodeId

DAY = 86_400
DAYS = 90
MOST_DAYS = 365
SKEW = 120
"""Seconds by which a certificate may begin too late or have ended."""
LARGEST_CERTIFICATE = 512
LARGEST_DENY_LIST = 4096

Reason = Literal[
    "malformed",
    "wrong_network",
    "other_node",
    "weak_key",
    "forged",
    "not_yet",
    "expired",
    "revoked",
    "rotated",
    "missing",
]
_WORDS: dict[Reason, str] = {
    "malformed": "what it sent as proof of stake is nothing that this version reads",
    "wrong_network": "its proof of stake is for another network",
    "other_node": "its proof of stake belongs to another node",
    "weak_key": "anybody can sign in the name of its key",
    "forged": "its proof of stake is not signed by the network's key",
    "not_yet": "its certificate begins later: one of the clocks is wrong",
    "expired": "its certificate has ended: `masa-node stake issue` makes a new one",
    "revoked": "its certificate was revoked",
    "rotated": "the network's secret was changed, and it does not have the new one: `masa-node join`",
    "missing": "it has no proof of stake",
}


class NotStaked(MasaError):
    """The right to take part is not proven; `reason` says why, for counting and for people."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(403, "not_staked", _WORDS[reason])
        self.reason: Reason = reason


NetworkId = NewType("NetworkId", str)
"""A network's public key, spelt as a node's is."""

_Net = Annotated[NetworkId, Meta(min_length=52, max_length=52)]
_Node = Annotated[NodeId, Meta(min_length=52, max_length=52)]
_Whole = Annotated[int, Meta(ge=1, le=2**53)]
_Time = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_Serial = Annotated[str, Meta(min_length=11, max_length=11)]


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`net` says that `node` has a stake of `amount` in it, from `nbf` to `exp` (Unix seconds)."""

    v: Literal[1]
    net: _Net
    node: _Node
    amount: _Whole
    nbf: _Time
    exp: _Time
    serial: _Serial


class DenyList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The serials that `net` has revoked and that have not ended by themselves. The highest number counts."""

    v: Literal[1]
    net: _Net
    number: _Whole
    serials: frozenset[_Serial]


_Sealed = TypeVar("_Sealed", Certificate, DenyList)


def network_id(key: Ed25519PrivateKey) -> NetworkId:
    """The id of the network whose authority holds `key`."""
    return NetworkId(id_text(key.public_key().public_bytes_raw()))


def issue(
    key: Ed25519PrivateKey, node: NodeId, now: float, serial: bytes, *, amount: int = 1, days: int = DAYS
) -> bytes:
    """A sealed certificate; `serial`: 8 bytes, random. Raises ValueError: days, amount, or BadKey for the node."""
    if not 1 <= days <= MOST_DAYS:
        raise ValueError(f"days: 1 to {MOST_DAYS}")
    if not 1 <= amount <= 2**53:
        raise ValueError("amount: 1 or more")
    raw_key(node)
    begin = int(now)
    certificate = Certificate(1, network_id(key), node, amount, begin, begin + days * DAY, serial_text(serial))
    return seal(MEMBER, msgspec.json.encode(certificate), key)


def deny(key: Ed25519PrivateKey, number: int, serials: Iterable[str]) -> bytes:
    """A sealed deny-list. Raises ValueError where it would be over 4 KiB, which is about 280 serials."""
    listed = DenyList(1, network_id(key), number, frozenset(serials))
    sealed = seal(DENY, msgspec.json.encode(listed), key)
    if len(sealed) > LARGEST_DENY_LIST:
        raise ValueError("too many revoked certificates: leave out those that have ended")
    return sealed


def serial_text(serial: bytes) -> str:
    return base64.urlsafe_b64encode(serial).decode().rstrip("=")


def read_certificate(sealed: bytes) -> Certificate:
    """What it says, unproven: to show it, or to list what one has issued. Raises NotStaked."""
    return _read(sealed, Certificate, LARGEST_CERTIFICATE)


def open_certificate(
    sealed: bytes, keys: Mapping[NetworkId, Ed25519PublicKey], node: NodeId, now: float
) -> Certificate:
    """A certificate by which `node` may take part now in one of the networks whose keys these are. Raises NotStaked."""
    certificate = read_certificate(sealed)
    if certificate.net not in keys:
        raise NotStaked("wrong_network")
    if certificate.node != node:
        raise NotStaked("other_node")
    try:
        raw_key(node)
    except BadKey:
        raise NotStaked("weak_key") from None
    _prove(MEMBER, sealed, keys[certificate.net])
    _check_times(certificate, now)
    return certificate


def open_deny_list(sealed: bytes, keys: Mapping[NetworkId, Ed25519PublicKey]) -> DenyList:
    """Raises NotStaked."""
    listed = _read(sealed, DenyList, LARGEST_DENY_LIST)
    if listed.net not in keys:
        raise NotStaked("wrong_network")
    _prove(DENY, sealed, keys[listed.net])
    return listed


def _check_times(certificate: Certificate, now: float) -> None:
    if not 0 < certificate.exp - certificate.nbf <= MOST_DAYS * DAY:
        raise NotStaked("malformed")
    if now < certificate.nbf - SKEW:
        raise NotStaked("not_yet")
    if now > certificate.exp + SKEW:
        raise NotStaked("expired")


def _read(sealed: bytes, kind: type[_Sealed], largest: int) -> _Sealed:
    if not sealed:
        raise NotStaked("missing")
    if not SIGNATURE < len(sealed) <= largest:
        raise NotStaked("malformed")
    try:
        return msgspec.json.decode(payload_of(sealed), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotStaked("malformed") from None


def _prove(prefix: Prefix, sealed: bytes, key: Ed25519PublicKey) -> None:
    try:
        unseal(prefix, sealed, key)
    except Forged:
        raise NotStaked("forged") from None
