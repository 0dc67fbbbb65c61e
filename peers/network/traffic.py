"""Traffic: what is counted of the exchanges with other nodes, for their operators."""

from collections import Counter
from dataclasses import dataclass, field

from peers.wire import NodeId

MOST_TURNED_AWAY = 64


@dataclass(slots=True)
class Traffic:
    """One for a network that the node is in. Bytes are those of gossip's bodies, whoever began the exchange."""

    bytes_in: int = 0
    bytes_out: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Requests of other nodes, by the code of their refusal."""
    turned_away: dict[NodeId, str] = field(default_factory=dict)
    """Who proved its key and was no member, and why: the last MOST_TURNED_AWAY."""

    def exchanged(self, came: bytes, went: bytes) -> None:
        self.bytes_in += len(came)
        self.bytes_out += len(went)

    def turn_away(self, node: NodeId, why: str) -> None:
        self.turned_away.pop(node, None)
        while len(self.turned_away) >= MOST_TURNED_AWAY:
            del self.turned_away[next(iter(self.turned_away))]
        self.turned_away[node] = why

    def let_in(self, node: NodeId) -> None:
        self.turned_away.pop(node, None)
