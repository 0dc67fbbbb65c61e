"""SimNet: a whole network of Memberships in pretended time: seeded loss, delay, splits, restarts, wrong clocks, liars.

`python -m tests.simnet 200 --loss 0.3` prints how many rounds news takes, how long a cold start, and what it costs.
"""

import heapq
from base64 import b32encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any

from peers.errors import MasaError
from peers.network.intake import TAKEN
from peers.network.membership import Membership
from peers.network.records import Models
from peers.network.roster import Status
from peers.network.terms import Bootnode, Send, Terms
from peers.wire import NodeId

START = 1_800_000_000.0
PROOF = "x" * 340
"""As long as a certificate is."""
PATIENCE = 3.0
"""Seconds until a message without an answer is given up."""


def an_id(rng: Random) -> NodeId:
    return NodeId(b32encode(rng.randbytes(32)).decode().rstrip("=").lower())


NETWORK = an_id(Random("network"))


def fake_sign(node: NodeId, data: bytes) -> bytes:
    """As good as a signature where nobody forges any; a hundred times cheaper."""
    return blake2b(data, key=node.encode()).digest()


def fake_verify(node: NodeId, data: bytes, signature: bytes) -> bool:
    return fake_sign(node, data) == signature


def terms(me: NodeId, **changes: Any) -> Terms:
    """Everybody is staked, every address will do."""
    usual: dict[str, Any] = {
        "networks": lambda: (NETWORK,),
        "sign": lambda data: fake_sign(me, data),
        "verify": fake_verify,
        "staked": lambda node, proof, now: True,
        "address_ok": lambda address: True,
    }
    return Terms(me=me, **usual | changes)


@dataclass(eq=False)
class SimNode:
    name: str
    id: NodeId
    address: str
    core: Membership
    skew: float = 0.0
    up: bool = True
    frozen_until: float = 0.0
    starts: int = 0
    sent: int = 0
    messages: int = 0
    mangle: Callable[[bytes], bytes] = field(default=lambda body: body)
    """A liar's: what becomes of everything that it says."""

    def runs(self, start: int) -> bool:
        """Whether it is still the process that it was then."""
        return self.up and self.starts == start


class SimNet:
    """Nodes n0, n1, …; n0 is everybody's bootnode. One exchange in so many (`loss`) fails, in one direction."""

    def __init__(self, size: int, *, seed: int | str, loss: float = 0.0, strangers: bool = False) -> None:
        self.rng = Random(f"{seed}")
        self.loss = loss
        self.strangers = strangers
        self.now = START
        self.nodes: dict[str, SimNode] = {}
        self.at: dict[str, SimNode] = {}
        """By address."""
        self.cut: set[str] = set()
        """These hear only each other, and so do all the rest."""
        self.dark: set[str] = set()
        """Nothing comes back from these, not even a refusal."""
        self.changes: dict[str, Any] = {}
        """Of the Terms of nodes that start from now on."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = count()
        for _ in range(size):
            self.add()

    # What a test does to it

    def add(self, name: str | None = None, *, skew: float = 0.0, id: NodeId | None = None) -> SimNode:
        number = len(self.nodes)
        name = name or f"n{number}"
        node_id = id or an_id(self.rng)
        address = f"20.{number // 256}.{number % 256}.1:4001"
        node = SimNode(name, node_id, address, self._core(node_id, skew, 0), skew)
        self.nodes[name] = self.at[address] = node
        self._begin(node)
        return node

    def restart(self, node: SimNode, *, last_epoch: int = 0, skew: float | None = None) -> None:
        """A new start; `last_epoch` 0: its disk was lost."""
        node.skew = node.skew if skew is None else skew
        node.core = self._core(node.id, node.skew, last_epoch)
        self._begin(node)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end

    def rounds(self, fact: Callable[[], bool], most: int = 1000) -> int:
        """Of one second each, until `fact`; `most` if it never is."""
        for number in range(most):
            if fact():
                return number
            self.run(1)
        return most

    # What a test asks

    def clock(self, node: SimNode) -> float:
        return self.now + node.skew

    def running(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.up]

    def alive(self, node: SimNode) -> set[NodeId]:
        """Whom `node` holds for alive, itself among them."""
        now, roster = self.clock(node), node.core.roster
        return {node.id} | {m.node for m in roster.members() if roster.status(m, now) is Status.ALIVE}

    def fresh(self, node: SimNode) -> set[NodeId]:
        """Whose record is fresh at `node`, whether or not it can be reached now; itself among them."""
        now, roster = self.clock(node), node.core.roster
        return {node.id} | {m.node for m in roster.members() if roster.status(m, now) is not Status.DEAD}

    def whole(self) -> bool:
        """Everybody knows everybody."""
        everybody = self.everybody()
        return all(everybody <= self.fresh(node) for node in self.running())

    def known(self, node: SimNode, nodes: Iterable[SimNode] | None = None) -> bool:
        """Whether everybody has the newest record of `node`."""
        version = node.core.announcer.record.version
        some = self.running() if nodes is None else nodes
        return all(
            (held := other.core.table.members.get(node.id)) is not None and held.version >= version for other in some
        )

    def everybody(self) -> set[NodeId]:
        return {node.id for node in self.running()}

    def change(self, node: SimNode) -> None:
        """It has another model."""
        models = Models(1, f"{self.rng.getrandbits(64):016x}")
        node.core.announce(self.clock(node), addrs=(node.address,), models=models, proof=PROOF, name=node.name)

    def spread(self, times: int) -> list[int]:
        """Rounds that changes took to reach all."""
        taken = []
        for _ in range(times):
            node = self.rng.choice(self.running())
            self.change(node)
            taken.append(self.rounds(partial(self.known, node), 60))
        return taken

    # Inside

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._count), event))

    def _core(self, node: NodeId, skew: float, last_epoch: int) -> Membership:
        bootnodes = (Bootnode(next(iter(self.nodes.values())).address),) if self.nodes else ()
        chosen = terms(node, **{"bootnodes": bootnodes, "strangers": self.strangers, **self.changes})
        return Membership(chosen, Random(self.rng.random()), self.now + skew, last_epoch)

    def _begin(self, node: SimNode) -> None:
        node.up, node.starts = True, node.starts + 1
        node.core.announce(self.clock(node), addrs=(node.address,), models=Models(), proof=PROOF, name=node.name)
        self._tick_later(node, self.rng.random(), node.starts)

    def _tick_later(self, node: SimNode, seconds: float, start: int) -> None:
        self.later(seconds, lambda: self._tick(node, start))

    def _tick(self, node: SimNode, start: int) -> None:
        if node.frozen_until > self.now:
            self._tick_later(node, node.frozen_until - self.now, start)
        elif node.runs(start):
            for send in node.core.tick(self.clock(node)):
                self.deliver(node, send)
            self._tick_later(node, self.rng.uniform(0.8, 1.2), start)

    def deliver(self, node: SimNode, send: Send) -> None:
        """As a carrier does: the first address, `ping` and `identify` where they are needed."""
        delay, start = self.rng.uniform(0.001, 0.05), node.starts
        self._count_bytes(node, send.body or b"")
        self.later(delay, lambda: self._arrive(node, start, send, delay))

    def _arrive(self, node: SimNode, start: int, send: Send, delay: float) -> None:
        other = self.at[send.addresses[0]]
        lost, chance = self._out_of_reach(node, other), self.rng.random()
        if not other.up and not lost:
            self._missed(node, start, send, 0, refused=True)
        elif lost or chance < self.loss / 2:
            self._missed(node, start, send, PATIENCE)
        else:
            answer = self._handle(node, other, send)
            if chance < self.loss:
                self._missed(node, start, send, PATIENCE)
            elif answer is not None:
                self.later(delay, lambda: self._when_awake(node, start, lambda: self._answered(node, other, answer)))

    def _out_of_reach(self, node: SimNode, other: SimNode) -> bool:
        apart = (node.name in self.cut) != (other.name in self.cut)
        return apart or other.name in self.dark or other.frozen_until > self.now

    def _answered(self, node: SimNode, other: SimNode, body: bytes) -> None:
        for follow in node.core.answered(other.id, body, self.clock(node)):
            self.deliver(node, follow)

    def _missed(self, node: SimNode, start: int, send: Send, seconds: float, refused: bool = False) -> None:
        peer = send.node
        if peer is not None:
            seconds *= node.core.liveness.patience
            told = partial(self._tell_missed, node, peer, refused, self.now)
            self.later(seconds, lambda: self._when_awake(node, start, told))

    def _tell_missed(self, node: SimNode, peer: NodeId, refused: bool, began: float) -> None:
        node.core.missed(peer, self.clock(node), refused, self.now - began)

    def _when_awake(self, node: SimNode, start: int, event: Callable[[], None]) -> None:
        if node.frozen_until > self.now:
            self.later(node.frozen_until - self.now, lambda: self._when_awake(node, start, event))
        elif node.runs(start):
            event()

    def _handle(self, node: SimNode, other: SimNode, send: Send) -> bytes | None:
        """What `other` answers. None: one of them wants nothing to do with the other."""
        if other is node:
            return None
        if send.node is None:
            node.core.heard_clock(other.id, self.clock(other), self.clock(node))
            if node.core.introduced(other.core.sealed, self.clock(node), send.addresses[0]) not in TAKEN:
                return None
        elif send.node != other.id:
            return None
        if send.body is None:
            return b""
        held = other.core.table.members.get(node.id)
        if (held is None or not held.proven) and not self._identify(node, other):
            return None
        try:
            answer = other.core.receive(node.mangle(send.body), node.id, self.clock(other))
        except MasaError:
            return b""
        self._count_bytes(other, answer)
        return other.mangle(answer)

    def _identify(self, node: SimNode, other: SimNode) -> bool:
        if other.core.introduced(node.core.sealed, self.clock(other)) in TAKEN:
            return True
        node.core.heard_clock(other.id, self.clock(other), self.clock(node))
        return False

    def _count_bytes(self, node: SimNode, body: bytes) -> None:
        node.sent += len(body)
        node.messages += 1


def warm(size: int, **options: Any) -> SimNet:
    """A network in which everybody knows everybody, and the first news has died down."""
    net = SimNet(size, **options)
    net.rounds(net.whole, 120)
    net.run(15)
    return net


if __name__ == "__main__":
    from tests.figures import main

    main()
