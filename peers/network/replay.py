"""What was seen once is not taken again: the nonces of signatures, the counters of a session. Pure."""

from collections import Counter
from heapq import heappop, heappush

from peers.network.signatures import SKEW, Claim, Refused

PURGED_AT_ONCE = 256
WIDTH = 4096
"""Counters behind the highest that still count: so many requests may overtake one whose body takes its time."""
_SEEN = (1 << WIDTH) - 1


class ReplayCache:
    """Each (keyid, nonce) once. A live entry is never dropped: a full cache refuses what is new."""

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


class Window:
    """Each counter once, in any order within WIDTH of the highest (as in RFC 4303 §3.4.3). It never grows."""

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0
        """Bit 0 is the highest."""

    def add(self, counter: int) -> None:
        """Raises Refused: `replay`, also for what is too old to tell."""
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = (self._seen << ahead & _SEEN) | 1 if ahead < WIDTH else 1
            self._highest = counter
            return
        bit = 1 << -ahead if -ahead < WIDTH else 0
        if not bit or self._seen & bit:
            raise Refused("replay")
        self._seen |= bit
