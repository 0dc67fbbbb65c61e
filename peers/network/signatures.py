"""Signed peer requests: one fixed profile of RFC 9421 and RFC 9530 (docs/security.md C-7). Pure.

A receiver checks in C-7's order, cheap things first: parse, check_recipient, check_time, check_digest,
check_signature, and only then ReplayCache.add. There is nothing to negotiate, hence nothing to downgrade.
"""

import base64
import hmac
import re
from collections import Counter
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from hashlib import sha256
from heapq import heappop, heappush
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from multidict import MultiMapping

from peers.errors import MasaError
from peers.network.identity import ID
from peers.wire import NodeId

LIFE = 30
LONGEST_LIFE = 60
SKEW = 60
"""Seconds that clocks may differ."""
LARGEST_OFFSET = 600
PURGED_AT_ONCE = 256

_COVERED = '("@method" "@path" "content-type" "content-digest" "masa-to" "masa-request-id" "masa-hop" "masa-deadline")'
_SECONDS = r"(0|[1-9][0-9]{0,11})"
_INPUT = re.compile(
    rf"masa=({re.escape(_COVERED)};created={_SECONDS};keyid=\"({ID.pattern})\";alg=\"ed25519\";expires={_SECONDS}"
    r";nonce=\"([A-Za-z0-9_-]{21}[AQgw])\";tag=\"masa-peer-v1\")"
)
_PATH = re.compile(r"/[!-~]{0,255}")
# No pattern takes as much as 1 KiB (C-7).
_HEADERS = {
    "Content-Type": re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?"),
    "Content-Digest": re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:"),
    "Masa-To": ID,
    "Masa-Request-Id": re.compile(r"[A-Za-z0-9._-]{1,64}"),
    "Masa-Hop": re.compile(r"1"),
    "Masa-Deadline": re.compile(r"0|[1-9][0-9]{0,8}"),
    "Signature-Input": _INPUT,
    "Signature": re.compile(r"masa=:([A-Za-z0-9+/]{85}[AQgw]==):"),
}

Code = Literal["malformed", "recipient", "clock", "digest", "signature", "replay", "rate_limited", "busy"]
_STATUS: dict[Code, int] = {"recipient": 403, "rate_limited": 429, "busy": 503}


class Refused(MasaError):
    """A signed request is turned away: 401 unless said otherwise, with a fixed code and no detail."""

    def __init__(self, code: Code) -> None:
        super().__init__(_STATUS.get(code, 401), code, f"the signed request was refused: {code}")


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature covers of a request. The hop is always 1."""

    method: str
    path: str
    content_type: str
    digest: str
    """The Content-Digest header: content_digest(body)."""
    to: NodeId
    request_id: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of itself; true only when every check has passed."""

    request: Signed
    keyid: NodeId
    created: int
    expires: int
    nonce: str
    params: str
    """`@signature-params` as it came: what is signed is never written anew."""
    signature: bytes


def content_digest(body: bytes) -> str:
    """RFC 9530. One hash of the body, whatever the number of peers it is sent to."""
    return f"sha-256=:{base64.b64encode(sha256(body).digest()).decode()}:"


def sign(request: Signed, key: Ed25519PrivateKey, keyid: NodeId, now: float, nonce: bytes) -> dict[str, str]:
    """Every header of the profile. `now`: our clock plus what clock_offset() found for this peer; `nonce`: 16 bytes."""
    created = int(now)
    word = base64.urlsafe_b64encode(nonce).decode().rstrip("=")
    params = (
        f'{_COVERED};created={created};keyid="{keyid}";alg="ed25519";expires={created + LIFE}'
        f';nonce="{word}";tag="masa-peer-v1"'
    )
    signature = base64.b64encode(key.sign(_base(request, params))).decode()
    return {
        "Content-Type": request.content_type,
        "Content-Digest": request.digest,
        "Masa-To": request.to,
        "Masa-Request-Id": request.request_id,
        "Masa-Hop": "1",
        "Masa-Deadline": str(request.deadline_ms),
        "Signature-Input": f"masa={params}",
        "Signature": f"masa=:{signature}:",
    }


def parse(method: str, path: str, headers: MultiMapping[str]) -> Claim:
    """Step 1: the whole profile by fixed patterns. `path` as it stood in the request line, where a query is refused."""
    if method != "POST" or "?" in path or not _PATH.fullmatch(path):
        raise Refused("malformed")
    kind, digest, to, request_id, _, deadline, given, signature = [
        _only(headers, name, pattern) for name, pattern in _HEADERS.items()
    ]
    request = Signed(method, path, kind[0], digest[0], NodeId(to[0]), request_id[0], int(deadline[0]))
    params, created, keyid, expires, nonce = given.groups()
    return Claim(
        request, NodeId(keyid), int(created), int(expires), nonce, params, base64.b64decode(signature[1].encode())
    )


def check_recipient(claim: Claim, me: NodeId) -> None:
    """Step 2; who the sender is, and whether it is known and proven, is asked here too."""
    if claim.request.to != me:
        raise Refused("recipient")


def check_time(claim: Claim, now: float) -> None:
    """Step 3. `now` is the receiver's own clock, as for the ReplayCache, which would else forget too early."""
    if not 0 < claim.expires - claim.created <= LONGEST_LIFE:
        raise Refused("malformed")
    if abs(now - claim.created) > SKEW or now > claim.expires:
        raise Refused("clock")


def check_digest(claim: Claim, body: bytes) -> None:
    """Step 4."""
    if not hmac.compare_digest(claim.request.digest, content_digest(body)):
        raise Refused("digest")


def check_signature(claim: Claim, key: Ed25519PublicKey) -> None:
    """Step 5. `key`: what parse_key() made of the keyid, so that it is not a weak one."""
    try:
        key.verify(claim.signature, _base(claim.request, claim.params))
    except InvalidSignature:
        raise Refused("signature") from None


def clock_offset(date: str, now: float) -> float | None:
    """Seconds to add to our clock when signing for the peer whose Date this is; None: unreadable, or over 10 minutes.

    For one more try after a 401 `clock` that came over a pinned connection (C-7).
    """
    offset = date_offset(date, now)
    return offset if offset is not None and abs(offset) <= LARGEST_OFFSET else None


def date_offset(date: str, now: float) -> float | None:
    """Seconds by which the clock behind this Date header is ahead of ours; None: unreadable."""
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return None


class ReplayCache:
    """Step 6: each (keyid, nonce) once. A live entry is never dropped: a full cache refuses what is new."""

    def __init__(self, most: int = 200_000, most_per_key: int | None = None) -> None:
        self.most = most
        self.most_per_key = most_per_key
        """32,768 where members are strangers."""
        self._entries: set[str] = set()
        self._by_age: list[tuple[int, str]] = []
        self._per_key: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, claim: Claim, now: float) -> None:
        """Raises Refused: `replay`, `rate_limited` (this key), `busy` (all)."""
        self._purge(now)
        entry = claim.keyid + claim.nonce
        if entry in self._entries:
            raise Refused("replay")
        if self.most_per_key is not None and self._per_key[claim.keyid] >= self.most_per_key:
            raise Refused("rate_limited")
        if len(self._entries) >= self.most:
            raise Refused("busy")
        self._entries.add(entry)
        self._per_key[claim.keyid] += 1
        heappush(self._by_age, (claim.expires + SKEW, entry))

    def _purge(self, now: float) -> None:
        """A few at a time: they leave faster than they come, and no call takes long."""
        for _ in range(PURGED_AT_ONCE):
            if not self._by_age or self._by_age[0][0] >= now:
                return
            entry = heappop(self._by_age)[1]
            self._entries.remove(entry)
            keyid = entry[:52]
            self._per_key[keyid] -= 1
            if not self._per_key[keyid]:
                del self._per_key[keyid]


def _only(headers: MultiMapping[str], name: str, pattern: re.Pattern[str]) -> re.Match[str]:
    values = headers.getall(name, [])
    found = pattern.fullmatch(values[0]) if len(values) == 1 else None
    if not found:
        raise Refused("malformed")
    return found


def _base(request: Signed, params: str) -> bytes:
    """The signature base (RFC 9421 §2.5). No value can hold a line break: parse() has seen to it."""
    return (
        f'"@method": {request.method}\n'
        f'"@path": {request.path}\n'
        f'"content-type": {request.content_type}\n'
        f'"content-digest": {request.digest}\n'
        f'"masa-to": {request.to}\n'
        f'"masa-request-id": {request.request_id}\n'
        '"masa-hop": 1\n'
        f'"masa-deadline": {request.deadline_ms}\n'
        f'"@signature-params": {params}'
    ).encode()
