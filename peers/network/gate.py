"""Gate: whether a request that says it comes from a peer does. Cheap things first (docs/security.md C-7). Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network

from multidict import MultiMapping

from peers.errors import Busy, MasaError
from peers.network.identity import BadKey, parse_key
from peers.network.pairs import Held, HeldSessions
from peers.network.replay import ReplayCache
from peers.network.signatures import (
    Claim,
    Refused,
    Signed,
    check_digest,
    check_recipient,
    check_signature,
    check_time,
    parse,
)
from peers.wire import NodeId

BURST, PER_SECOND = 200.0, 50.0
MANY = (4000.0, 2000.0)
MOST_SOURCES = 4096


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Buckets:
    """How much each source may still ask for: a token bucket each, at most MOST_SOURCES of them."""

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND) -> None:
        self._burst = burst
        self._per_second = per_second
        self._buckets: dict[str, _Bucket] = {}

    def take(self, source: str, now: float) -> None:
        """One request; `source`: an IP address, or a node. Raises Busy, 429 `rate_limited`."""
        if ":" in source:
            source = str(ip_network((source.partition("%")[0], 64), strict=False))  # one host has all of it
        bucket = self._buckets.pop(source, None) or _Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + max(0.0, now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[source] = bucket  # behind all others: who has been silent for longest is forgotten first
        while len(self._buckets) > MOST_SOURCES:
            del self._buckets[next(iter(self._buckets))]
        if bucket.left < 1:
            raise Busy("too many requests", status=429, code="rate_limited")
        bucket.left -= 1


@dataclass(frozen=True, slots=True)
class Knock:
    """A request whose head may pass. Who sent it is proven once Gate.body() has seen its body."""

    sender: NodeId
    claim: Claim
    session: Held | None
    """That is said to have signed it; None: the sender's own key."""

    @property
    def request(self) -> Signed:
        return self.claim.request


class Gate:
    """One for a peer listener."""

    def __init__(self, me: NodeId, known: Callable[[NodeId], bool], *, strangers: bool) -> None:
        """`known`: whether this node is a member whose stake holds."""
        self._me = me
        self._known = known
        # Members of one owner may have as much as this node can check; strangers less.
        self._addresses, self._nodes = (Buckets(), Buckets()) if strangers else (Buckets(*MANY), Buckets(*MANY))
        self._seen = ReplayCache(most_per_key=32_768 if strangers else None)
        self.sessions = HeldSessions()

    def head(
        self, method: str, path: str, headers: MultiMapping[str], source: str, now: float, *, known: bool
    ) -> Knock:
        """Steps 1 to 3, before the body is read. `known`: only members pass, or anybody. Raises MasaError."""
        knock = self.knock(parse(method, path, headers), now, known=known)
        self.enter(knock, source, now)
        return knock

    def knock(self, claim: Claim, now: float, *, known: bool) -> Knock:
        """Step 2, and who is said to have sent it. Nothing counts yet."""
        check_recipient(claim, self._me)
        session = self.sessions.of(claim, now) if claim.by_session else None
        sender = session.sender if session is not None else NodeId(claim.keyid)
        if known and not self._known(sender):
            raise MasaError(403, "unknown_peer", "this node does not know the sender: identify first")
        return Knock(sender, claim, session)

    def enter(self, knock: Knock, source: str, now: float) -> None:
        """Step 3, which counts against the address it came from."""
        self._addresses.take(source, now)
        check_time(knock.claim, now)

    def body(self, knock: Knock, body: bytes, now: float) -> NodeId:
        """Steps 4 to 6: who sent it. A bad signature counts against nobody but the address it came from."""
        claim, session = knock.claim, knock.session
        check_digest(claim, body)
        if session is not None:
            session.check(claim)
        else:
            _check_own(claim)
        self._nodes.take(knock.sender, now)
        if session is not None:
            session.count(claim)
        else:
            self._seen.add(claim, now)
        return knock.sender


def _check_own(claim: Claim) -> None:
    try:
        key = parse_key(claim.keyid)
    except BadKey:
        raise Refused("signature") from None
    check_signature(claim, key)
