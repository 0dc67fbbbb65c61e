"""Records: what a node signs about itself, sealed into a line of text, read strictly (docs/security.md C-5, C-8). Pure.

A sealed record is `payload.signature`, both base64url without padding. The payload's bytes are what is signed; they are
kept and passed on as they came, unknown keys included, and never written anew.
"""

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from peers.wire import NodeId

PREFIX = b"masa-record-v1\0"
SPOKEN = (1, 1)
"""The lowest and the highest version of the peer protocol that this release speaks."""
LONGEST_PAYLOAD = 1024
LONGEST_SEALED = 1453
"""Characters: a payload of 1 KiB, a dot, a signature."""
DEEPEST = 8
LARGEST_INTEGER = 2**53
SEQ_BITS = 20
LATE = 120.0
"""Seconds that a record may be used after its issued + ttl, since clocks differ."""
EARLY = 600.0
"""Seconds that issued may lie ahead of our clock."""
SHORTEST_TTL, LONGEST_TTL = 30, 1800

Sign = Callable[[bytes], bytes]
"""An Ed25519 signature by our own key."""
Verify = Callable[[NodeId, bytes, bytes], bool]
"""(signer, what was signed, signature): whether it is genuine, and the signer's key no weak one."""
Fault = Literal["malformed", "bad_signature"]

_Id = Annotated[str, msgspec.Meta(pattern=r"^[a-z2-7]{51}[aq]\Z")]
_Natural = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_INTEGER)]


class RecordError(Exception):
    """Not a sealed record, or not its owner's."""

    def __init__(self, code: Fault) -> None:
        super().__init__(code)
        self.code: Fault = code


class Models(msgspec.Struct, frozen=True):
    """How many models a node offers, and a hash of the list, which `identify` tells."""

    count: Annotated[int, msgspec.Meta(ge=0, le=512)] = 0
    hash: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{16})?\Z")] = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One node, by its own word. (epoch, seq) only ever grows; boot is new at each start."""

    v: tuple[_Natural, _Natural] = SPOKEN
    """The lowest and the highest protocol version it speaks."""
    net: _Id
    id: _Id
    boot: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=2**44)]
    """Unix milliseconds at its start, or higher."""
    seq: Annotated[int, msgspec.Meta(ge=0, lt=2**SEQ_BITS)]
    issued: _Natural
    """Unix seconds."""
    ttl: _Natural
    """Seconds."""
    state: Literal["up", "left"] = "up"
    addrs: Annotated[tuple[Annotated[str, msgspec.Meta(min_length=3, max_length=261)], ...], msgspec.Meta(max_length=4)]
    """`host:port`, the best first; none: nobody can dial it."""
    models: Models = Models()
    proof: Annotated[str, msgspec.Meta(max_length=684)] = ""
    """Its proof of stake, or which one it goes by."""
    name: Annotated[str, msgspec.Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        if self.v[0] > self.v[1]:
            raise ValueError("the range of versions is upside down")
        if not self.name.isprintable():
            raise ValueError("the name cannot be shown")

    @property
    def node(self) -> NodeId:
        return NodeId(self.id)

    @property
    def version(self) -> int:
        """(epoch, seq) as one number of 64 bits, in the same order."""
        return self.epoch << SEQ_BITS | self.seq

    @property
    def version_spoken(self) -> int | None:
        """The highest version of the protocol that it and this release know; None: they have none in common."""
        low, high = max(self.v[0], SPOKEN[0]), min(self.v[1], SPOKEN[1])
        return high if low <= high else None

    @property
    def spoken(self) -> bool:
        return self.version_spoken is not None

    @property
    def life(self) -> float:
        """Its ttl, within what a receiver grants."""
        return float(min(max(self.ttl, SHORTEST_TTL), LONGEST_TTL))

    def untimely(self, wall: float) -> Literal["stale", "early"] | None:
        """Why it may not be taken at the time `wall`, if it may not."""
        if wall > self.issued + self.life + LATE:
            return "stale"
        return "early" if self.issued > wall + EARLY else None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed record that was read; whether its signature is good is another question."""

    text: str
    record: Record
    payload: bytes
    signature: bytes

    def genuine(self, verify: Verify) -> bool:
        return verify(self.record.node, PREFIX + self.payload, self.signature)


def seal(record: Record, sign: Sign) -> str:
    payload = msgspec.json.encode(record)
    return f"{_encode(payload)}.{_encode(sign(PREFIX + payload))}"


def unseal(text: str, verify: Verify) -> Record:
    """Read it and check its signature; not whether it is fresh, newer, or proven. Raises RecordError."""
    sealed = read(text)
    if not sealed.genuine(verify):
        raise RecordError("bad_signature")
    return sealed.record


def read(text: str) -> Sealed:
    """Everything but the signature check, which costs the most. Raises RecordError."""
    if len(text) > LONGEST_SEALED:
        raise RecordError("malformed")
    first, _, second = text.partition(".")
    payload, signature = _decode(first), _decode(second)
    if len(payload) > LONGEST_PAYLOAD or len(signature) != 64:
        raise RecordError("malformed")
    try:
        record = msgspec.convert(_strict(payload), Record)
    except (msgspec.ValidationError, ValueError, RecursionError):
        raise RecordError("malformed") from None
    return Sealed(text, record, payload, signature)


def _strict(payload: bytes) -> object:
    """JSON that every reader reads alike. Raises ValueError or RecursionError."""
    value: object = json.loads(
        payload.decode(), object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_small, parse_float=_finite
    )
    if payload.count(b"{") + payload.count(b"[") > DEEPEST:  # else it cannot be deeper
        _bounded(value, DEEPEST)
    if b"\\u" in payload:
        msgspec.json.encode(value)  # refuses half a surrogate pair
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _small(digits: str) -> int:
    value = int(digits) if len(digits) < 20 else LARGEST_INTEGER + 1
    if abs(value) > LARGEST_INTEGER:
        raise ValueError("the integer is over 2**53")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("the number is too large")
    return value


def _bounded(value: object, levels: int) -> None:
    """At most so many levels deep."""
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError("nested too deep")
        for part in value.values() if isinstance(value, dict) else value:
            _bounded(part, levels - 1)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    """Exactly one spelling is taken: a flipped bit never goes unseen."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise RecordError("malformed") from None
    if _encode(data) != text:
        raise RecordError("malformed")
    return data
