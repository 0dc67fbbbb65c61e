"""Pace: how soon each peer's answers began of late, by model. Pure."""

from statistics import median

from peers.wire import NodeId

MOST = 4096
WEIGHT = 0.3
"""Of the newest against all before it."""


class Pace:
    def __init__(self) -> None:
        self._seconds: dict[tuple[str, NodeId], float] = {}

    def add(self, node: NodeId, model: str, seconds: float) -> None:
        key = (model, node)
        before = self._seconds.pop(key, seconds)
        while len(self._seconds) >= MOST:
            del self._seconds[next(iter(self._seconds))]
        self._seconds[key] = before + WEIGHT * (seconds - before)

    def of(self, node: NodeId, model: str) -> float | None:
        return self._seconds.get((model, node))

    def usual(self, model: str) -> float | None:
        """Of this model, whoever answers; None: it was not asked for yet."""
        known = [seconds for (name, _), seconds in self._seconds.items() if name == model]
        return median(known) if known else None
