"""Trust: whom not to ask for now. Failing peers behind a circuit breaker, format liars in quarantine. Pure.

Local, and never gossiped. Timeouts, errors and busy answers open a circuit and nothing more, or else an attacker who
floods a rival would have it quarantined. Nothing here knows how fast a peer is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from peers.wire import NodeId

FAILURES = 3.0
BUSY = 0.25
"""What a busy answer counts beside a failure: who is full is well."""
STANDS, LONGEST_STAND = 30.0, 300.0
PROBE = 330.0
"""Seconds after which a probe that nobody heard of again no longer keeps others away: the longest race."""

DECAY = 0.9
"""Of the count of invalid answers, in a minute."""
SHORTEST_QUARANTINE, LONGEST_QUARANTINE = 30.0, 3600.0
KIN_QUARANTINE = 60.0
DAY = 24 * 3600.0
MOST_A_DAY = 3
"""Quarantines; the last of them lasts a day."""
KEPT = 7 * DAY
SWEPT = 3600.0
"""How often those that are kept no longer are looked for, at most: every race asks for it."""
MOST_PEERS = 4096


@dataclass(slots=True)
class _Peer:
    touched: float
    failures: float = 0.0
    """Since its last answer."""
    opened: int = 0
    """How often the circuit has opened since then."""
    open_until: float | None = None
    probed: float | None = None
    """When the one request went out that a half-open circuit lets through."""
    invalid: float = 0.0
    """Invalid answers, decayed until `counted`."""
    counted: float = 0.0
    quarantines: list[float] = field(default_factory=list)
    """When those of the last day began."""
    quarantined_until: float = float("-inf")

    def out(self, now: float) -> bool:
        """Whether its circuit is open, or half-open with a probe under way."""
        if self.open_until is None:
            return False
        return now < self.open_until or (self.probed is not None and now < self.probed + PROBE)


class Trust:
    def __init__(self) -> None:
        self._peers: dict[NodeId, _Peer] = {}
        self._swept = float("-inf")

    def left_out(self, nodes: Iterable[NodeId], now: float) -> set[NodeId]:
        """Those not to be asked. When circuits would leave less than half, the fault is likely ours: they let pass."""
        known = {node: self._peers.get(node) for node in nodes}
        quarantined = {node for node, peer in known.items() if peer is not None and now < peer.quarantined_until}
        out = {node for node, peer in known.items() if peer is not None and peer.out(now)} - quarantined
        return quarantined | out if 2 * len(out) <= len(known) - len(quarantined) else quarantined

    def failures(self, node: NodeId) -> int:
        """Since its last answer."""
        peer = self._peers.get(node)
        return int(peer.failures) if peer else 0

    def why(self, node: NodeId, now: float) -> tuple[str, float]:
        """Why it is not asked now, in words, and for how many seconds more; empty and 0: it is."""
        peer = self._peers.get(node)
        if peer is None:
            return "", 0.0
        if now < peer.quarantined_until:
            return "what it answered was no answer", peer.quarantined_until - now
        if peer.out(now):
            return "its last answers failed", max(1.0, (peer.open_until or now) - now)
        return "", 0.0

    def asked(self, node: NodeId, now: float) -> None:
        """A request goes out. On a half-open circuit it is the probe."""
        peer = self._peers.get(node)
        if peer is not None and peer.open_until is not None and now >= peer.open_until:
            peer.probed = now

    def answered(self, node: NodeId, now: float) -> None:
        """With a meaningful unit: the circuit closes. A quarantine goes on."""
        peer = self._peers.get(node)
        if peer is not None:
            peer.failures, peer.opened, peer.open_until, peer.probed = 0.0, 0, None, None
            peer.touched = now

    def dropped(self, node: NodeId) -> None:
        """A request ended that shows nothing: it lost, or its caller left. Another may be the probe."""
        peer = self._peers.get(node)
        if peer is not None:
            peer.probed = None

    def failed(self, node: NodeId, now: float) -> None:
        """It timed out, could not be reached, or its server failed."""
        self._count(node, 1.0, now)

    def busy(self, node: NodeId, now: float) -> None:
        self._count(node, BUSY, now)

    def lied(self, node: NodeId, now: float, *, kin: bool = False) -> None:
        """Its answer was none: into quarantine, for longer with the square of how often it did that of late.

        `kin`: a member of one owner's network, whose server is at fault and soon mended: a minute at most.
        """
        peer = self._peer(node, now)
        peer.invalid = peer.invalid * DECAY ** (max(0.0, now - peer.counted) / 60) + 1
        peer.counted = now
        seconds = min(SHORTEST_QUARANTINE * 2 ** min(peer.invalid**2 - 1, 7), LONGEST_QUARANTINE)
        if kin:
            seconds = min(seconds, KIN_QUARANTINE)
        elif now >= peer.quarantined_until:
            peer.quarantines = [*(at for at in peer.quarantines if at > now - DAY), now]
            seconds = DAY if len(peer.quarantines) >= MOST_A_DAY else seconds
        peer.quarantined_until = max(peer.quarantined_until, now + seconds)

    def forget_old(self, now: float) -> None:
        """What is known of a peer is kept for a week, and an hour more at most."""
        if now < self._swept + SWEPT:
            return
        self._swept = now
        self._peers = {node: peer for node, peer in self._peers.items() if now - peer.touched < KEPT}

    def _count(self, node: NodeId, weight: float, now: float) -> None:
        """While the circuit is open, what fails was sent before."""
        peer = self._peer(node, now)
        if peer.open_until is not None and now < peer.open_until:
            return
        peer.failures += weight
        if peer.failures >= FAILURES or peer.open_until is not None:
            peer.opened += 1
            peer.open_until = now + min(STANDS * peer.opened, LONGEST_STAND)
            peer.failures, peer.probed = 0.0, None

    def _peer(self, node: NodeId, now: float) -> _Peer:
        peer = self._peers.get(node)
        if peer is None:
            if len(self._peers) >= MOST_PEERS:
                self._drop_one()
            peer = self._peers[node] = _Peer(now, counted=now)
        peer.touched = now
        return peer

    def _drop_one(self) -> None:
        """Who was never quarantined, then whose quarantine ends first; of these the one longest untouched."""

        def worth(node: NodeId) -> tuple[float, float]:
            return (self._peers[node].quarantined_until, self._peers[node].touched)

        del self._peers[min(self._peers, key=worth)]
