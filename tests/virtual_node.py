"""VirtualNode: a whole node of a VirtualNet, from its disk to its rounds, run as Joined runs it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.settings import Settings
from handlers.keys import Who
from masa_node.peering import Network, Place, networked
from masa_node.server import NodeServer
from masa_node.stay import Stay
from peers.metrics import Metrics
from peers.network.catalogue import Catalogue
from peers.network.dialing import Address, DialPolicy
from peers.network.identity import node_id
from peers.network.reach import Reach
from peers.network.roster import Status
from peers.network.stake import SharedSecret
from peers.network.store import Store
from peers.network.terms import Bootnode
from peers.network.tokens import Secret
from peers.upstreams.own import Own
from peers.wire import Model, NodeId
from tests.pipes import Air, virtual_connector

START = 1_800_000_000.0


@dataclass(slots=True)
class Offers:
    """In Own's place: what this node shares."""

    models: list[Model] = field(default_factory=list)

    def shared(self) -> list[Model]:
        return self.models


@dataclass(eq=False, kw_only=True)
class VirtualNode:
    """A node of a VirtualNet, whether it runs or not; its disk outlives it."""

    name: str
    air: Air
    settings: Settings
    key: Ed25519PrivateKey
    address: Address
    folder: Path
    bootnodes: tuple[Bootnode, ...]
    secret: Secret
    skew: float
    """Seconds by which its clock is ahead."""
    changes: dict[str, Any]
    """Of its Place."""
    rng: Random
    """Of its next start."""
    offers: Offers = field(default_factory=Offers)
    network: Network | None = None
    """None: it does not run."""
    server: NodeServer | None = None
    """None: nobody listens."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def id(self) -> NodeId:
        return node_id(self.key)

    @property
    def running(self) -> Network:
        assert self.network is not None
        return self.network

    def clock(self) -> float:
        return START + asyncio.get_running_loop().time() + self.skew

    def alive(self) -> set[NodeId]:
        """Whom it takes for alive, itself among them."""
        now, roster = self.clock(), self.running.membership.roster
        return {self.id} | {m.node for m in roster.members() if roster.status(m, now) is Status.ALIVE}

    def fresh(self) -> set[NodeId]:
        """Of whom it has a record that holds, itself among them."""
        now, roster = self.clock(), self.running.membership.roster
        return {self.id} | {m.node for m in roster.members() if roster.status(m, now) is not Status.DEAD}

    def models(self, other: "VirtualNode") -> list[str]:
        """Of which models of `other` it knows."""
        return [model.name for model in self.running.fetching.catalogue.models(other.id)]

    async def live(self) -> None:
        """As Joined does it."""
        await asyncio.sleep(self.rng.random())
        reach, store = Reach(Catalogue(), self.clock), Store(self.folder)
        place = self._place(reach.catalogue)
        epoch, records = store.peers()
        async with networked(place, self.clock, self.rng, epoch) as self.network:
            self.network.membership.restore(records, self.clock())
            reach.membership = self.network.membership
            try:
                await Stay(
                    network=self.network,
                    place=place,
                    settings=self.settings,
                    who=place.who,
                    store=store,
                    reach=reach,
                    own=cast(Own, self.offers),
                    clock=self.clock,
                    rng=self.rng,
                    over=self.over,
                ).run()
            finally:
                self.network = None

    def _place(self, catalogue: Catalogue) -> Place:
        usual: dict[str, Any] = {
            "key": self.key,
            "who": Who(self.id, self.name, "0", self.clock()),
            "metrics": Metrics(),
            "stake": SharedSecret([self.secret], self.id),
            "context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
            "sockets": (),
            "addresses": (str(self.address),),
            "policy": DialPolicy(named=frozenset(Address.parse(one.address) for one in self.bootnodes)),
            "bootnodes": self.bootnodes,
            "catalogue": catalogue,
            "listen": self._listen,
            "connect": partial(virtual_connector, self.air, self.address.host),
        }
        return Place(**usual | self.changes)

    @asynccontextmanager
    async def _listen(self, server: NodeServer, *_: object) -> AsyncIterator[None]:
        self.server = server
        try:
            yield
        finally:
            self.server = None
            await server.shutdown(0.25)
