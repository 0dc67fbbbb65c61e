"""Rumours: what is new here is told a bounded number of times, the least told first. Pure."""

import math
from collections.abc import Iterable, Iterator

from peers.wire import NodeId

MOST = 1024
"""What is older is left to the comparison of whole tables."""


def budget(size: int) -> int:
    """How often one piece of news is told by each of `size` nodes: 4 * ceil(log10(size + 1)), after memberlist."""
    return 4 * math.ceil(math.log10(size + 1))


class Rumours:
    def __init__(self) -> None:
        self._told: dict[NodeId, int] = {}

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._told)

    def add(self, node: NodeId) -> None:
        """There is news of it; older news of it is forgotten."""
        self._told.pop(node, None)
        if len(self._told) >= MOST:
            del self._told[next(iter(self._told))]
        self._told[node] = 0

    def next(self, most: int, first: NodeId | None = None) -> list[NodeId]:
        """The least told; before them `first`, if there is news of it."""
        return sorted(self._told, key=lambda node: (node != first, self._told[node]))[:most]

    def told(self, nodes: Iterable[NodeId], size: int) -> None:
        enough = budget(size)
        for node in nodes:
            told = self._told.get(node, enough) + 1
            if told < enough:
                self._told[node] = told
            else:
                self._told.pop(node, None)

    def forget(self, nodes: Iterable[NodeId]) -> None:
        for node in nodes:
            self._told.pop(node, None)
