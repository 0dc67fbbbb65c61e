"""Liveness: whom to leave out for now, judged by our own exchanges alone; and whether it is we who are slow. Pure.

Passive ejection after Envoy's outlier detection, the guard against our own slowness after memberlist's Lifeguard.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from peers.wire import NodeId

FAILURES = 3
STANDS, LONGEST_STAND = 30.0, 300.0
WINDOW = 600.0
MOST_READMISSIONS = 6
"""Within WINDOW."""
IDLE = 5.0
HURRY = 1.0
"""Seconds until a member is probed, once it has failed."""
SLOWEST = 7
FORGIVEN = 3.0
"""Seconds after we slept in which failures are our own."""
AGED = 3600.0
UNTIL_IT_ANSWERS = float("inf")


@dataclass(slots=True)
class Health:
    """What our own exchanges with one member have shown."""

    failures: int = 0
    """Since the last success."""
    heard: float = float("-inf")
    """The last success, in either direction."""
    tried: float = float("-inf")
    answered_since: float | None = None
    """The first time that it answered us."""
    refusing: bool = False
    """The last failure was a refused connection: its machine is there, it is not."""
    until: float | None = None
    """Ejected until then; None: it is not."""
    ejections: list[float] = field(default_factory=list)
    readmissions: list[float] = field(default_factory=list)

    def out(self, at: float) -> bool:
        if self.until is not None and self.until <= at:
            self._readmit(self.until)
        return self.until is not None

    def eject(self, at: float) -> None:
        self.ejections = [*_recent(self.ejections, at), at]
        self.until = UNTIL_IT_ANSWERS
        if len(self.ejections) > 1:
            self.until = at + min(STANDS * len(self.ejections), LONGEST_STAND)
            damped = _recent(self.readmissions, at)[-MOST_READMISSIONS:]
            if len(damped) == MOST_READMISSIONS:
                self.until = max(self.until, damped[0] + WINDOW)

    def end(self, at: float) -> None:
        """End an ejection early, unless that has happened too often."""
        if len(_recent(self.readmissions, at)) < MOST_READMISSIONS:
            self._readmit(at)

    def _readmit(self, at: float) -> None:
        self.until, self.failures = None, 0
        self.readmissions = [*_recent(self.readmissions, at), at]


@dataclass(slots=True)
class Liveness:
    slowness: int = 0
    _health: dict[NodeId, Health] = field(default_factory=dict)
    _forgive_until: float = float("-inf")

    @property
    def patience(self) -> int:
        """What our own time limits are multiplied by."""
        return self.slowness + 1

    def of(self, node: NodeId) -> Health:
        return self._health.setdefault(node, Health())

    def out(self, node: NodeId, at: float) -> bool:
        """Whether it is ejected."""
        health = self._health.get(node)
        return health is not None and health.out(at)

    def usable(self, nodes: Iterable[NodeId], at: float) -> list[NodeId]:
        """Those that are not ejected; when that is less than half of them, the fault is likely ours: all."""
        every = list(nodes)
        inside = [node for node in every if not self.out(node, at)]
        return inside if 2 * len(inside) >= len(every) else every

    def tried(self, node: NodeId, at: float) -> None:
        self.of(node).tried = at

    def answered(self, node: NodeId, at: float) -> None:
        """It answered us."""
        self.slowness = max(0, self.slowness - 1)
        self.answered_once(node, at)
        self.heard(node, at)

    def answered_once(self, node: NodeId, at: float) -> None:
        """It did, if only before our last restart."""
        health = self.of(node)
        if health.answered_since is None:
            health.answered_since = at

    def heard(self, node: NodeId, at: float) -> None:
        """An exchange succeeded, in either direction."""
        health = self.of(node)
        health.heard, health.failures = at, 0
        if health.out(at) and health.until == UNTIL_IT_ANSWERS:
            health.end(at)
        if health.until is None:
            health.refusing = False

    def heard_of(self, node: NodeId) -> bool:
        """Whether any exchange with it ever succeeded."""
        health = self._health.get(node)
        return health is not None and health.heard > float("-inf")

    def missed(self, node: NodeId, at: float, refused: bool, lasted: float = 0.0) -> None:
        """An exchange failed after `lasted` seconds. What succeeded meanwhile is the newer evidence."""
        health = self.of(node)
        if at < self._forgive_until or health.heard > at - lasted:
            return
        if not refused:
            self.lagged()
        health.failures += 1
        health.refusing = refused
        if not health.out(at) and (refused or health.failures >= FAILURES):
            health.eject(at)

    def rebooted(self, node: NodeId, at: float) -> None:
        """Its record has a new boot."""
        health = self._health.get(node)
        if health is not None and health.out(at) and (health.until == UNTIL_IT_ANSWERS or health.refusing):
            health.end(at)

    def lagged(self) -> None:
        """We may be the slow one."""
        self.slowness = min(SLOWEST, self.slowness + 1)

    def slept(self, at: float) -> None:
        """What failed meanwhile says nothing about others."""
        self.lagged()
        self._forgive_until = at + FORGIVEN
        for health in self._health.values():
            health.failures = 0

    def due(self, nodes: Iterable[NodeId], at: float, most: int) -> list[NodeId]:
        """Whom to probe, the longest idle first."""
        idle = [(self._touched(node), node) for node in nodes if self._idle(node, at)]
        return [node for _, node in sorted(idle)[:most]]

    def answered_since(self) -> dict[NodeId, float]:
        """When each first answered us, of those that did."""
        return {
            node: health.answered_since for node, health in self._health.items() if health.answered_since is not None
        }

    def aged(self, at: float) -> set[NodeId]:
        """Those that answered us first more than an hour ago."""
        return {node for node, since in self.answered_since().items() if at - since > AGED}

    def forget(self, nodes: Iterable[NodeId]) -> None:
        for node in nodes:
            self._health.pop(node, None)

    def _touched(self, node: NodeId) -> float:
        health = self._health.get(node)
        return float("-inf") if health is None else max(health.heard, health.tried)

    def _idle(self, node: NodeId, at: float) -> bool:
        health = self._health.get(node)
        failing = health is not None and health.failures > 0 and health.until is None
        return at - self._touched(node) >= (HURRY if failing else IDLE)


def _recent(times: list[float], at: float) -> list[float]:
    return [time for time in times if time > at - WINDOW]
