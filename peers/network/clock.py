"""Clock: the system's clock read as a time line that never goes back, and as the network's time. Pure."""

from random import Random
from statistics import median

from peers.wire import NodeId

TOLERATED = 60.0
CORRECTED = 600.0
"""Seconds that our clock may be off: up to the first nothing is done, beyond the second nothing can be."""
ENOUGH, MOST_SAMPLES = 3, 64
FOLLOWS = 0.75
"""How often a node that is alone goes by the one clock it saw: not always, lest two of them swap their clocks."""
ASLEEP = 5.0
"""Seconds without a sign of our own life: this machine slept, or the process stood still."""


class Clock:
    """The network's time is the median of its members' clocks, our own among them.

    A node that no member has spoken with yet takes the time of whom it meets: else it would refuse their records, or
    they its own.
    """

    def __init__(self, now: float, rng: Random) -> None:
        self.offset = 0.0
        """Seconds to add to our clock to get the network's time."""
        self._rng = rng
        self._last = now
        self._back = 0.0
        self._samples: dict[NodeId, float] = {}

    @property
    def measured(self) -> float:
        """By how many seconds the others' clocks are ahead of ours, whether or not we follow."""
        return median(self._samples.values()) if self._samples else 0.0

    def advance(self, now: float) -> bool:
        """It is `now`. Whether we slept: samples from before say nothing then, nor when the clock was set back."""
        passed = now - self._last
        self._last = now
        self._back += max(0.0, -passed)
        if passed < 0 or passed > ASLEEP:
            self._samples.clear()
        return passed > ASLEEP

    def local(self, now: float) -> float:
        """For measuring how long something took: when the clock is set back, this one stands still."""
        return max(now, self._last) + self._back

    def network(self, now: float) -> float:
        """For everything that is signed with a time."""
        return now + self.offset

    def sample(self, node: NodeId, theirs: float, now: float, alone: bool) -> None:
        """One for each node, the newest; only of nodes that we chose to ask, so that nobody can crowd in."""
        self._samples.pop(node, None)
        if len(self._samples) >= MOST_SAMPLES:
            del self._samples[next(iter(self._samples))]
        self._samples[node] = theirs - now
        if alone:
            self.offset = _followed(self.measured) if self._rng.random() < FOLLOWS else 0.0
        elif len(self._samples) >= ENOUGH:
            self.offset = _followed(median([0.0, *self._samples.values()]))


def _followed(seconds: float) -> float:
    return seconds if TOLERATED < abs(seconds) <= CORRECTED else 0.0
