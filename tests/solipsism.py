"""VirtualNet: nodes on async-solipsism's clock; aiohttp, signatures, records and disk are real, sockets and TLS not.

What TLS does, tests/test_tls.py and tests/test_gossip.py prove on sockets; that of a pretended connection shows the
certificate of the node it reached, so that pins are judged as ever.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Self, TypeVar
from unittest.mock import patch

import async_solipsism
from async_solipsism.clock import Clock
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.logs import set_up
from config.settings import load
from masa_node.server import NodeServer
from peers.network.dialing import Address
from peers.network.terms import Bootnode
from peers.network.tls import certificate
from peers.network.tokens import Secret
from peers.wire import NodeId
from tests.pipes import Pipe
from tests.virtual_node import VirtualNode

SECRET = Secret(bytes(range(32)))
LOOK = 0.25
"""Virtual seconds between two looks at whether something is so."""
T = TypeVar("T")
Scenario = Callable[["VirtualNet"], Awaitable[T]]


class VirtualNet:
    """Nodes n0, n1, …; n0 is everybody's bootnode. Use it within virtually()."""

    def __init__(self, folder: Path, size: int = 0, *, seed: int, loss: float = 0.0, most_delay: float = 0.05) -> None:
        self.seed = seed
        self.rng = Random(f"{seed}")
        self.loss = loss
        self.pipes: dict[Pipe, None] = {}
        self.cut: set[str] = set()
        """These hosts hear only each other, and so do all the rest."""
        self.settings = load({"MDNS": "false", "LLM_CHAT_URL": "off"}, cwd=folder).settings
        self.nodes: dict[str, VirtualNode] = {}
        self.traffic: Counter[str] = Counter()
        """Bytes that a host has sent and received, TLS left out."""
        self.events = 0
        self._folder = folder
        self._most_delay = most_delay
        self._history = blake2b(digest_size=16)
        self._certificates: dict[str, bytes] = {}
        self._size = size
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for _ in range(self._size):
            self.start(self.add())
        return self

    async def __aexit__(self, *error: Any) -> None:
        for node in self.nodes.values():
            self.kill(node)
        await self._group.__aexit__(*error)

    # What a test does to it

    def add(self, *, skew: float = 0.0, secret: Secret = SECRET, **changes: Any) -> VirtualNode:
        """One more node, that does not run yet."""
        number = len(self.nodes)
        name, first = f"n{number}", next(iter(self.nodes.values()), None)
        node = VirtualNode(
            name=name,
            air=self,
            settings=self.settings,
            rng=self.rng,
            key=Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32)),
            address=Address(f"20.{number // 256}.{number % 256}.1", 4001),
            folder=self._folder / name,
            bootnodes=(Bootnode(str(first.address)),) if first else (),
            secret=secret,
            skew=skew,
            changes=changes,
        )
        self.nodes[name] = node
        return node

    def start(self, node: VirtualNode) -> None:
        """Again, if it has run before: with what was on its disk."""
        assert node.task is None
        node.over, node.rng = asyncio.Event(), Random(self.rng.random())
        node.task = self._group.create_task(node.live(), name=node.name)

    def kill(self, node: VirtualNode) -> None:
        """As `kill -9` does: its connections are reset, and it says nothing more."""
        node.server, host = None, node.address.host
        for pipe in [*self.pipes]:
            for end in (pipe.client, pipe.server):
                if end.host == host and not end.is_closing():
                    end.die()
                    pipe.carry(end, ConnectionResetError("its process is gone"))
        if node.task is not None:
            node.task.cancel()
            node.task = None

    async def leave(self, node: VirtualNode) -> None:
        """As SIGTERM does."""
        assert node.task is not None
        node.over.set()
        await node.task
        node.task = None

    async def until(self, fact: Callable[[], object], within: float) -> float:
        """Wait until it is so. Virtual seconds that it took."""
        began = asyncio.get_running_loop().time()
        while not fact():
            passed = asyncio.get_running_loop().time() - began
            assert passed <= within, f"not so after {within} s: {[len(one.alive()) for one in self.up()]}"
            await asyncio.sleep(LOOK)
        return asyncio.get_running_loop().time() - began

    async def passes(self, seconds: float) -> None:
        """Virtual time in which nothing is done to it."""
        await asyncio.sleep(seconds)

    async def holds(self, fact: Callable[[], object], seconds: float) -> None:
        """It is so now, and at every virtual second for so long."""
        for _ in range(int(seconds)):
            assert fact()
            await self.passes(1)
        assert fact()

    # What a test asks

    def up(self) -> list[VirtualNode]:
        return [node for node in self.nodes.values() if node.network is not None]

    def everybody(self) -> set[NodeId]:
        return {node.id for node in self.nodes.values() if node.task is not None}

    def whole(self) -> bool:
        """Everybody who was started has the records of all who were."""
        everybody = self.everybody()
        return len(self.up()) == len(everybody) and all(everybody == node.fresh() for node in self.up())

    def history(self) -> str:
        """A digest of everything that was sent, lost or refused, of how many bytes, by whom, to whom, and when."""
        return self._history.hexdigest()

    # What pipes ask

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def apart(self, one: str, other: str) -> bool:
        return (one in self.cut) != (other in self.cut)

    def one_way(self) -> float:
        return self.rng.uniform(0.001, self._most_delay)

    def listener(self, address: Address) -> tuple[NodeServer, bytes] | None:
        node = next((node for node in self.nodes.values() if node.address == address), None)
        if node is None or node.server is None:
            return None
        if node.name not in self._certificates:
            pem = certificate(node.key, node.clock()).decode()
            self._certificates[node.name] = ssl.PEM_cert_to_DER_cert(pem)
        return node.server, self._certificates[node.name]

    def note(self, *event: object) -> None:
        self.events += 1
        self._history.update(f"{self.now:.6f} {event}\n".encode())

    def carried(self, sender: str, receiver: str, size: int) -> None:
        self.traffic[sender] += size
        self.traffic[receiver] += size


class Ticking(Clock):
    """Moves a tick at least: aiohttp looks again at what fell due too early, and there is rounding in what is due."""

    def advance(self, delta: float) -> None:
        super().advance(max(delta, self.resolution))


def virtually(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run it in virtual time: as fast as this machine can, and no clock but the loop's moves."""
    set_up("warning", "json")  # every third exchange of 200 nodes would be a line
    with (
        patch("async_solipsism.selector.Clock", Ticking),
        asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner,
    ):
        return runner.run(_to_its_end(scenario))


async def _to_its_end(scenario: Callable[[], Awaitable[T]]) -> T:
    result = await scenario()
    await asyncio.sleep(LOOK)
    stray = asyncio.all_tasks() - {asyncio.current_task()}
    assert not stray, f"tasks left behind: {[*stray][:5]}"
    return result


def in_a_net(scenario: Scenario[T], folder: Path, size: int, *, seed: int = 1, loss: float = 0.0) -> T:
    """Play it in a network that is whole already."""

    async def play() -> T:
        async with VirtualNet(folder, size, seed=seed, loss=loss) as net:
            await net.until(net.whole, 30)
            return await scenario(net)

    return virtually(play)


def hosts(nodes: Iterable[VirtualNode]) -> set[str]:
    return {node.address.host for node in nodes}
