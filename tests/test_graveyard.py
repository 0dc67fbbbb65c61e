"""The dead never come back, whatever is replayed, forgotten or restarted (docs/promises.md A5)."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from peers.errors import MasaError
from peers.network.frames import Frame, encode
from peers.network.intake import TAKEN
from peers.network.membership import Membership
from peers.network.records import LATE, Models, Record, read
from peers.wire import NodeId
from tests.simnet import START, an_id, terms

MOST_SKEW = 30
PAUSES = (1, 9, 11, 59, 61, 119, 121, 181, 3600, 86_400, 90_000)
"""Seconds: about every moment at which something expires."""

some = st.integers(0, 1_000_000)
"""Which one: modulo how many there are."""


@dataclass(eq=False)
class Node:
    id: NodeId
    skew: int
    core: Membership
    up: bool = True


class Graveyard(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rng = Random(1)
        self.now = START
        self.nodes: list[Node] = []
        self.issued: list[str] = []
        """Every record that anybody ever signed."""
        self.newest: dict[NodeId, Record] = {}
        self.highest: dict[tuple[Membership, NodeId], int] = {}
        """The highest version of a node that was ever held there."""

    @initialize()
    def three_nodes(self) -> None:
        for skew in (0, MOST_SKEW, -MOST_SKEW):
            self.join(skew)
        for number in range(3):
            self.meet(number, number + 1)

    @rule(skew=st.sampled_from([0, MOST_SKEW, -MOST_SKEW]))
    def join(self, skew: int) -> None:
        if len(self.nodes) < 8:
            node_id = an_id(self.rng)
            self.nodes.append(Node(node_id, skew, self._start(node_id, skew, 0)))

    @rule(seconds=st.sampled_from(PAUSES))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @rule(who=some)
    def kill(self, who: int) -> None:
        self._node(who).up = False

    @rule(who=some, lost=st.booleans(), skew=st.sampled_from([0, MOST_SKEW, -MOST_SKEW]))
    def restart(self, who: int, lost: bool, skew: int) -> None:
        node = self._node(who)
        node.core = self._start(node.id, skew, 0 if lost else node.core.epoch)
        node.up, node.skew = True, skew

    @rule(who=some)
    def leave(self, who: int) -> None:
        node = self._node(who)
        if node.up:
            node.core.leave(self._clock(node))
            self._note(node)
            node.up = False

    @rule(who=some)
    def tick(self, who: int) -> None:
        node = self._node(who)
        if node.up:
            node.core.tick(self._clock(node))
            self._note(node)

    @rule(one=some, two=some)
    def meet(self, one: int, two: int) -> None:
        """A whole exchange, `identify` first."""
        asker, other = self._node(one), self._node(two)
        if asker is other or not asker.up or not other.up:
            return
        for node, peer in ((asker, other), (other, asker)):
            node.core.heard_clock(peer.id, self._clock(peer), self._clock(node))
            if node.core.introduced(peer.core.sealed, self._clock(node)) not in TAKEN:
                return
        body = encode(asker.core.exchange.opening(other.id, self._clock(asker), self._clock(asker)))
        while body:
            answer = other.core.receive(body, asker.id, self._clock(other))
            follows = asker.core.answered(other.id, answer, self._clock(asker))
            body = follows[0].body or b"" if follows else b""
        self._note(asker)
        self._note(other)

    @rule(which=some, at=some, sender=some)
    def replay(self, which: int, at: int, sender: int) -> None:
        """A member sends what was once signed, however old."""
        node, peer = self._node(at), self._node(sender)
        if not node.up or node is peer:
            return
        text = self.issued[which % len(self.issued)]
        node.core.introduced(text, self._clock(node))
        try:
            node.core.receive(encode(Frame(records=[text])), peer.id, self._clock(node))
        except MasaError as error:
            if error.code != "unknown_peer":
                raise
        self._note(node)

    @invariant()
    def nobody_is_back(self) -> None:
        for node in self.nodes:
            if not node.up:
                continue
            for member in node.core.roster.routable(self._clock(node)):
                newest = self.newest[member.node]
                assert self.now <= newest.issued + newest.life + LATE + 2 * MOST_SKEW
                assert self.now <= member.record.issued + member.record.life + LATE + 2 * MOST_SKEW
            for member in node.core.roster.members():
                key = (node.core, member.node)
                assert member.version >= self.highest.get(key, 0)
                self.highest[key] = member.version

    def _start(self, node: NodeId, skew: int, last_epoch: int) -> Membership:
        now = self.now + skew
        core = Membership(terms(node), Random(self.rng.random()), now, last_epoch)
        core.announce(now, addrs=("20.0.0.1:4001",), models=Models())
        self._sign(core)
        return core

    def _note(self, node: Node) -> None:
        if node.core.sealed != self.issued[-1]:
            self._sign(node.core)

    def _sign(self, core: Membership) -> None:
        self.issued.append(core.sealed)
        record = read(core.sealed).record
        before = self.newest.get(record.node)
        if before is None or record.issued >= before.issued:
            self.newest[record.node] = record

    def _node(self, which: int) -> Node:
        return self.nodes[which % len(self.nodes)]

    def _clock(self, node: Node) -> float:
        return self.now + node.skew


@pytest.mark.parametrize("steps", [1_500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_the_dead_never_come_back(steps: int) -> None:
    run_state_machine_as_test(
        Graveyard, settings=settings(max_examples=steps // 50, stateful_step_count=50, deadline=None)
    )
