"""Catalogue: this node's model list as peers are told it, the lists of others, and whose to ask for next. Pure.

Times are a clock's that never goes back, in seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from peers.network.active import MOST_READ
from peers.network.offers import read, write
from peers.network.records import Models
from peers.wire import Model, NodeId

AT_ONCE = 2
"""Lists asked for at the same moment."""
PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Before the same node is asked again; doubled for each further failure in a row."""


@dataclass(slots=True)
class _Kept:
    """What is known of one node's list."""

    hash: str = ""
    """Of the list that is held."""
    models: tuple[Model, ...] = ()
    failures: int = 0
    """Since a list was last taken."""
    not_before: float = float("-inf")


class Catalogue:
    """One for a node, whatever network it is in."""

    def __init__(self) -> None:
        self.own = Models()
        """For our record."""
        self.told = b"[]"
        """For `identify`: the list that `own` names, as JSON."""
        self._kept: dict[NodeId, _Kept] = {}
        self._under_way: set[NodeId] = set()

    def share(self, models: Iterable[Model]) -> Models:
        """What peers may use from now on. Returns what the record must say at once, so that both agree."""
        self.own, self.told = write(models)
        return self.own

    def wanted(self, members: Iterable[tuple[NodeId, Models]], now: float) -> list[NodeId]:
        """Whose lists to ask for now. For each of them taken() or failed() must follow.

        `members`: those whose lists we want at all, with what their records say; no more than MOST_READ are looked at.
        """
        due = (node for node, said in islice(members, MOST_READ) if self._due(node, said, now))
        chosen = list(islice(due, AT_ONCE - len(self._under_way)))
        self._under_way.update(chosen)
        return chosen

    def taken(self, node: NodeId, told: bytes, said: Models, now: float) -> tuple[Model, ...]:
        """It told its list; `said`: what its record says of that. Raises BadList: then failed() must follow."""
        models = read(told, said)
        self._under_way.discard(node)
        self._kept[node] = _Kept(said.hash, models, not_before=now + PAUSE)
        return models

    def failed(self, node: NodeId, now: float, *, silent: bool = False) -> None:
        """What began with wanted() is over. Nothing, where the list was taken. `silent`: messages may just be lost."""
        if node in self._under_way:
            self._under_way.discard(node)
            kept = self._kept.setdefault(node, _Kept())
            kept.failures += 0 if silent and kept.failures else 1
            kept.not_before = now + min(PAUSE * 2 ** min(kept.failures - 1, 8), LONGEST_PAUSE)

    def models(self, node: NodeId) -> tuple[Model, ...]:
        """By its last list; none where none was told yet."""
        kept = self._kept.get(node)
        return kept.models if kept else ()

    def nodes(self) -> set[NodeId]:
        """Of whom anything is kept."""
        return set(self._kept)

    def forget(self, nodes: Iterable[NodeId]) -> None:
        for node in nodes:
            self._kept.pop(node, None)

    def clear(self) -> None:
        """Forget all others, and what is under way: the network was left."""
        self._kept.clear()
        self._under_way.clear()

    def _due(self, node: NodeId, said: Models, now: float) -> bool:
        if not said.count or node in self._under_way:
            return False
        kept = self._kept.get(node)
        return kept is None or (kept.hash != said.hash and now >= kept.not_before)
