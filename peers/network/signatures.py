"""Signed peer requests: one fixed profile of RFC 9421 and RFC 9530 (docs/security.md C-7). Pure.

A receiver checks in C-7's order, cheap things first: parse, check_recipient, check_time, check_digest, check_signature
or check_mac, and only then ReplayCache.add or Window.add. There is nothing to negotiate, hence nothing to downgrade:
a node's own signature is always taken, and a session's only by the two nodes that agreed it.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct
from multidict import MultiMapping

from peers.errors import MasaError
from peers.network.identity import ID
from peers.wire import NodeId

LIFE = 30
LONGEST_LIFE = 60
SKEW = 60
"""Seconds that clocks may differ."""
LARGEST_OFFSET = 600

_COVERED = '("@method" "@path" "content-type" "content-digest" "masa-to" "masa-request-id" "masa-hop" "masa-deadline")'
_SECONDS = r"(0|[1-9][0-9]{0,11})"
_WORD = "[A-Za-z0-9_-]{21}[AQgw]"
"""16 bytes in base64url."""
_COUNTER = "0|[1-9][0-9]{0,6}"


def _input(keyid: str, algorithm: str, nonce: str) -> re.Pattern[str]:
    return re.compile(
        rf"masa=({re.escape(_COVERED)};created={_SECONDS};keyid=\"({keyid})\";alg=\"{algorithm}\";expires={_SECONDS}"
        rf";nonce=\"({nonce})\";tag=\"masa-peer-v1\")"
    )


_PATH = re.compile(r"/[!-~]{0,255}")
# No pattern takes as much as 1 KiB (C-7).
_HEADERS = {
    "content-type": re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?"),
    "content-digest": re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:"),
    "masa-to": ID,
    "masa-request-id": re.compile(r"[A-Za-z0-9._-]{1,64}"),
    "masa-hop": re.compile(r"1"),
    "masa-deadline": re.compile(r"0|[1-9][0-9]{0,8}"),
}
_BY_NODE = {
    "signature-input": _input(ID.pattern, "ed25519", _WORD),
    "signature": re.compile(r"masa=:([A-Za-z0-9+/]{85}[AQgw]==):"),
}
_BY_SESSION = {
    "signature-input": _input(_WORD, "hmac-sha256", _COUNTER),
    "signature": re.compile(r"masa=:([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=):"),
}
PROFILE = (*_HEADERS, *_BY_NODE)
"""The headers of a signed request, in lower case."""

Code = Literal["malformed", "recipient", "session", "clock", "digest", "signature", "replay", "rate_limited", "busy"]
_STATUS: dict[Code, int] = {"recipient": 403, "rate_limited": 429, "busy": 503}


class Refused(MasaError):
    """A signed request is turned away: 401 unless said otherwise, with a fixed code and no detail."""

    def __init__(self, code: Code) -> None:
        super().__init__(_STATUS.get(code, 401), code, f"the signed request was refused: {code}")


class Signed(Struct, frozen=True):
    """What a signature covers of a request. The hop is always 1."""

    method: str
    path: str
    content_type: str
    digest: str
    """The Content-Digest header: content_digest(body)."""
    to: NodeId
    request_id: str
    deadline_ms: int


class Claim(Struct, frozen=True):
    """What a request says of itself; true only when every check has passed."""

    request: Signed
    keyid: str
    """A node's id; a session's where `by_session`."""
    created: int
    expires: int
    nonce: str
    """The counter where `by_session`."""
    params: str
    """`@signature-params` as it came: what is signed is never written anew."""
    signature: bytes
    by_session: bool


def content_digest(body: bytes) -> str:
    """RFC 9530. One hash of the body, whatever the number of peers it is sent to."""
    return f"sha-256=:{base64.b64encode(sha256(body).digest()).decode()}:"


def sign(request: Signed, key: Ed25519PrivateKey, keyid: NodeId, now: float, nonce: bytes) -> dict[str, str]:
    """Every header of the profile. `now`: our clock plus what clock_offset() found for this peer; `nonce`: 16 bytes."""
    word = base64.urlsafe_b64encode(nonce).decode().rstrip("=")
    params = _params(keyid, "ed25519", now, word)
    return _signed(request, params, key.sign(_base(request, params)))


def sign_by_session(request: Signed, key: bytes, session: str, now: float, counter: int) -> dict[str, str]:
    """The same by the key of a session. `counter`: no two requests of a session have the same."""
    params = _params(session, "hmac-sha256", now, str(counter))
    return _signed(request, params, hmac.digest(key, _base(request, params), "sha256"))


def _params(keyid: str, algorithm: str, now: float, nonce: str) -> str:
    created = int(now)
    return (
        f'{_COVERED};created={created};keyid="{keyid}";alg="{algorithm}";expires={created + LIFE}'
        f';nonce="{nonce}";tag="masa-peer-v1"'
    )


def _signed(request: Signed, params: str, signature: bytes) -> dict[str, str]:
    return {
        "Content-Type": request.content_type,
        "Content-Digest": request.digest,
        "Masa-To": request.to,
        "Masa-Request-Id": request.request_id,
        "Masa-Hop": "1",
        "Masa-Deadline": str(request.deadline_ms),
        "Signature-Input": f"masa={params}",
        "Signature": f"masa=:{base64.b64encode(signature).decode()}:",
    }


def parse(method: str, path: str, headers: MultiMapping[str]) -> Claim:
    """Step 1: the whole profile by fixed patterns. `path` as it stood in the request line, where a query is refused."""
    return claimed(method, path, {name: found[0] for name in PROFILE if len(found := headers.getall(name, [])) == 1})


def claimed(method: str, path: str, headers: Mapping[str, str]) -> Claim:
    """parse(), where each of `headers` stood there once; their names are in lower case."""
    if method != "POST" or "?" in path or not _PATH.fullmatch(path):
        raise Refused("malformed")
    by_session = ';alg="hmac-sha256";' in headers.get("signature-input", "")
    kind, digest, to, request_id, _, deadline = [_matched(headers, name, pattern) for name, pattern in _HEADERS.items()]
    signed = _BY_SESSION if by_session else _BY_NODE
    given, signature = [_matched(headers, name, pattern) for name, pattern in signed.items()]
    request = Signed(method, path, kind[0], digest[0], NodeId(to[0]), request_id[0], int(deadline[0]))
    params, created, keyid, expires, nonce = given.groups()
    return Claim(request, keyid, int(created), int(expires), nonce, params, base64.b64decode(signature[1]), by_session)


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


def check_mac(claim: Claim, key: bytes) -> None:
    """Step 5 where a session signed it; `key`: that session's."""
    if not hmac.compare_digest(claim.signature, hmac.digest(key, _base(claim.request, claim.params), "sha256")):
        raise Refused("signature")


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


def _matched(headers: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> re.Match[str]:
    found = pattern.fullmatch(headers.get(name, ""))
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
