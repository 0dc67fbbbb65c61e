"""Rotation: the message by which the key of a network's old secret hands over the new one (docs/protocol.md). Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from peers.errors import BadRequest, MasaError
from peers.network.certificates import DAY, NetworkId
from peers.network.identity import ID, raw_key
from peers.network.seal import ROTATION, SIGNATURE, Forged, payload_of, seal, unseal
from peers.network.tokens import SECRET_LENGTH, BadToken, Secret, parse_secret
from peers.wire import NodeId

LASTS = DAY
"""Seconds for which the old secret counts after a rotation."""
EARLY = 600.0
"""Seconds that a rotation may lie ahead of our clock."""
LARGEST = 128 * 1024
MOST_MEMBERS = 4096
PREFIX_BYTES = 16
"""Of a member's public key: enough to tell members apart, and too much to find another key for."""
SHORTEST_NAME = 6


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: Literal[1]
    net: Annotated[NetworkId, Meta(min_length=52, max_length=52)]
    secret: Annotated[str, Meta(min_length=SECRET_LENGTH, max_length=SECRET_LENGTH)]
    at: Annotated[int, Meta(ge=0, le=2**53)]
    members: Annotated[bytes, Meta(max_length=MOST_MEMBERS * PREFIX_BYTES)] | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """From one secret to the next."""

    net: NetworkId
    """The network of the old secret."""
    secret: Secret
    """The new one."""
    at: int
    """Unix seconds."""
    members: frozenset[bytes] | None
    """By the beginnings of their keys those whose proofs by the old secret count until it is over; None: anybody's."""
    sealed: bytes = field(repr=False)
    """As it travels: who hands it on hands on these bytes."""

    @property
    def at_once(self) -> bool:
        """The old secret counts no more, for nobody."""
        return self.members is not None and not self.members

    def over(self, now: float) -> bool:
        return now > self.at + LASTS

    def admits(self, node: NodeId, now: float) -> bool:
        """Whether its proof by the old secret still counts."""
        return not self.over(now) and (self.members is None or _prefix(node) in self.members)

    def leaves(self, old: Secret) -> tuple[Secret, ...]:
        """The secrets that count from now on, the new one first."""
        return (self.secret,) if self.at_once else (self.secret, old)

    def check_time(self, now: float) -> None:
        """Whether to begin it now. Raises MasaError: 403 `stale`, `early`."""
        if self.over(now):
            raise MasaError(403, "stale", "this rotation is over")
        if self.at > now + EARLY:
            raise MasaError(403, "early", "this rotation begins later: one of the clocks is wrong")


def rotate(old: Secret, new: Secret, at: float, members: Iterable[NodeId] | None) -> Rotation:
    """`members`: whose old proofs count for LASTS; None: anybody's. At most MOST_MEMBERS: those named first."""
    prefixes = None if members is None else frozenset(_prefix(node) for node in list(members)[:MOST_MEMBERS])
    told = _Told(1, old.network(), new.text, int(at), None if prefixes is None else b"".join(sorted(prefixes)))
    sealed = seal(ROTATION, msgspec.json.encode(told), old.network_key())
    return Rotation(told.net, new, told.at, prefixes, sealed)


def read_rotation(sealed: bytes) -> Rotation:
    """What it says, unproven. Raises MasaError: 400 `malformed`."""
    try:
        if not SIGNATURE < len(sealed) <= LARGEST:
            raise ValueError("its length")
        told = msgspec.json.decode(payload_of(sealed), type=_Told)
        secret = parse_secret(told.secret)
        members = None if told.members is None else _split(told.members)
        if secret.text != told.secret or secret.network() == told.net:
            raise ValueError("its secret")
    except (msgspec.DecodeError, BadToken, ValueError, RecursionError):
        raise BadRequest("malformed", "this is no new secret that this version reads") from None
    return Rotation(told.net, secret, told.at, members, sealed)


def prove(rotation: Rotation, key: Ed25519PublicKey) -> None:
    """That the old network's key sealed it. Raises MasaError: 403 `bad_signature`."""
    try:
        unseal(ROTATION, rotation.sealed, key)
    except Forged:
        raise MasaError(403, "bad_signature", "the old network's key did not sign this") from None


class UnknownName(ValueError):
    """No node, or more than one, goes by a name; the text says which, and whom it may mean."""


def named(names: Iterable[str], me: NodeId, called: str, known: Mapping[NodeId, str]) -> frozenset[NodeId]:
    """The nodes that `names` mean: each an id, six characters or more of one, or a name, as lists show it or without
    the characters of its id.

    `called`, `known`: what this node is called, and each other one. A whole id may be unknown: members are forgotten in
    time. Raises UnknownName.
    """
    found = {name: _one(name, me, called, known) for name in names}
    if own := [name for name, node in found.items() if node == me]:
        raise UnknownName(f"{own[0]} is this node itself; run this on a node that stays")
    return frozenset(found.values())


def _one(name: str, me: NodeId, called: str, known: Mapping[NodeId, str]) -> NodeId:
    if ID.fullmatch(name):
        return NodeId(name)
    meant = _called(name, known) or _called(name, {me: called})
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UnknownName(f"{name} may be {_listed(meant, known)}; write more of the id")
    whole = "a node that has been gone for long is named by its whole id"
    raise UnknownName(f"no member is called {name}; there are {_listed(list(known), known)}; {whole}")


def _called(name: str, known: Mapping[NodeId, str]) -> list[NodeId]:
    meant = [node for node, shown in known.items() if name in (shown, shown.rpartition("-")[0])]
    if not meant and len(name) >= SHORTEST_NAME:
        meant = [node for node in known if node.startswith(name)]
    return meant


def _listed(nodes: Sequence[NodeId], known: Mapping[NodeId, str]) -> str:
    return ", ".join(f"{known[node]} ({node})" for node in nodes[:32]) or "none"


def _prefix(node: NodeId) -> bytes:
    return raw_key(node)[:PREFIX_BYTES]


def _split(told: bytes) -> frozenset[bytes]:
    """In one order, each once: one spelling. Raises ValueError."""
    prefixes = [told[at : at + PREFIX_BYTES] for at in range(0, len(told), PREFIX_BYTES)]
    if len(told) % PREFIX_BYTES or any(one >= next_one for one, next_one in pairwise(prefixes)):
        raise ValueError("its members")
    return frozenset(prefixes)
