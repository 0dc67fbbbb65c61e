"""The sessions a node has: those that peers sign by, checked here; and those it signs by itself. Bounded. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from peers.network.dialing import Address
from peers.network.pairing import PATH, Agreed
from peers.network.replay import Window
from peers.network.signatures import Claim, Refused, Signed, check_mac, sign_by_session
from peers.wire import NodeId

MOST = 4096
"""Sessions of all peers, and peers of whom it is known when they were asked; then the oldest are forgotten."""
PER_PEER = 2
"""While a new session takes over, requests signed by the one before are on their way."""
REQUESTS = 1 << 20
"""Signed by one session."""
OFTEN = 60.0
"""Seconds: a peer that is asked twice within them is worth a session."""
EARLY = 60
"""Seconds, and requests, before the end of a session: so soon another one is made."""
PAUSE, NOT_SPOKEN = 5.0, 600.0
"""Seconds between two tries: usually, and where a peer's release has no sessions."""


@dataclass(slots=True, eq=False)
class Held:
    """A session by which a peer signs."""

    sender: NodeId
    key: bytes
    since: float
    until: float
    window: Window

    def check(self, claim: Claim) -> None:
        """Raises Refused, `signature`."""
        check_mac(claim, self.key)

    def count(self, claim: Claim) -> None:
        """Once its signature holds. Raises Refused, `replay`."""
        self.window.add(int(claim.nonce))


class HeldSessions:
    """Those of all peers; one for a peer listener."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        """By id, the oldest first."""
        self._by_peer: dict[NodeId, list[str]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, sender: NodeId, agreed: Agreed, now: float) -> None:
        self._held[agreed.id] = Held(sender, agreed.key, now, now + agreed.life, Window())
        names = self._by_peer.setdefault(sender, [])
        names.append(agreed.id)
        if len(names) > PER_PEER:
            self.drop(names[0])
        while len(self._held) > MOST or next(iter(self._held.values())).until <= now:
            self.drop(next(iter(self._held)))

    def of(self, claim: Claim, now: float) -> Held:
        """The session that is said to have signed it. Raises Refused, `session`: sign it by the node's key."""
        held = self._held.get(claim.keyid)
        if held is None:
            raise Refused("session")
        if not held.since <= now < held.until or int(claim.nonce) >= REQUESTS or claim.request.path == PATH:
            raise Refused("session")
        return held

    def drop(self, name: str) -> None:
        held = self._held.pop(name)
        names = self._by_peer[held.sender]
        names.remove(name)
        if not names:
            del self._by_peer[held.sender]


@dataclass(slots=True, eq=False)
class Session:
    """By which this node signs its requests to one peer."""

    id: str
    key: bytes
    until: float
    used: int = 0
    """Requests."""

    def sign(self, request: Signed, now: float) -> dict[str, str]:
        counter, self.used = self.used, self.used + 1
        return sign_by_session(request, self.key, self.id, now, counter)


@dataclass(slots=True, eq=False)
class _Peer:
    asked: float
    """When it was last asked."""
    not_before: float = 0.0
    """Of the next try for a session."""
    trying: bool = False
    session: Session | None = None


class OwnSessions:
    """Those by which this node signs."""

    def __init__(self) -> None:
        self.wanted: Callable[[NodeId, Address], bool] = lambda node, at: False
        """Begins to agree one in the background, and says whether it has."""
        self._peers: dict[NodeId, _Peer] = {}

    def of(self, request: Signed, at: Address, now: float) -> Session | None:
        """For this request; None: sign it by the node's key. One is wanted when that pays."""
        node = request.to
        if request.path == PATH:
            return None
        peer = self._peers.pop(node, None)
        often = peer is not None and now - peer.asked < OFTEN
        if peer is None:
            peer = _Peer(now)
        peer.asked = now
        self._peers[node] = peer  # behind all others: who was not asked for longest is forgotten first
        if len(self._peers) > MOST:
            del self._peers[next(iter(self._peers))]
        session = peer.session
        left = min(session.until - now, REQUESTS - session.used) if session is not None else 0
        if left <= 0:
            peer.session = session = None
        if left < EARLY and often and not peer.trying and now >= peer.not_before:
            peer.trying = self.wanted(node, at)
        return session

    def agreed(self, node: NodeId, agreed: Agreed, began: float) -> None:
        """`began`: when it was asked for; the peer's clock for it started later."""
        self._tried(node, began + PAUSE, Session(agreed.id, agreed.key, began + agreed.life))

    def failed(self, node: NodeId, now: float, *, spoken: bool = True) -> None:
        """No session. `spoken`: the peer's release has them."""
        self._tried(node, now + (PAUSE if spoken else NOT_SPOKEN), None)

    def drop(self, node: NodeId, session: Session) -> None:
        """The peer does not take it any more."""
        peer = self._peers.get(node)
        if peer is not None and peer.session is session:
            peer.session = None

    def _tried(self, node: NodeId, not_before: float, session: Session | None) -> None:
        peer = self._peers.get(node)
        if peer is not None:
            peer.trying, peer.not_before = False, not_before
            peer.session = session or peer.session
