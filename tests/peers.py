"""Peers inside the test's own process: real sockets and TLS on loopback, rounds when the test says so."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.keys import Who
from masa_node.listening import listening_sockets
from masa_node.peering import Network, Place, networked
from peers.metrics import Metrics
from peers.network.dialing import OWN_LAN, Address, DialPolicy
from peers.network.identity import load_identity, node_id
from peers.network.stake import SharedSecret, Stake
from peers.network.terms import Bootnode
from peers.network.tls import NodeTls
from peers.network.tokens import Secret
from peers.wire import Model, NodeId
from tests import waiting

SECRET = Secret(bytes(range(32)))


@dataclass(slots=True)
class Peer:
    """One of them."""

    id: NodeId
    address: Address
    network: Network

    def sees(self) -> set[NodeId]:
        """Whom it takes for alive, itself left out."""
        membership = self.network.membership
        return {member.node for member in membership.roster.routable(time.time())} - {self.id}


@asynccontextmanager
async def peer(
    folder: Path,
    *,
    secret: Secret = SECRET,
    stake: Stake | None = None,
    bootnodes: tuple[str, ...] = (),
    clock: Callable[[], float] = time.time,
    name: str = "peer",
    **changes: Any,
) -> AsyncIterator[Peer]:
    """`changes`: of its Place."""
    key = await asyncio.to_thread(load_identity, folder)
    me = node_id(key)
    tls = await asyncio.to_thread(NodeTls, folder, key, time.time())
    sockets = await asyncio.to_thread(listening_sockets, "127.0.0.1", 0)
    address = Address("127.0.0.1", sockets[0].getsockname()[1])
    usual: dict[str, Any] = {
        "key": key,
        "who": Who(me, name, "0", 0.0),
        "metrics": Metrics(),
        "stake": stake or SharedSecret([secret], me),
        "context": tls.context,
        "sockets": sockets,
        "addresses": (str(address),),
        "policy": DialPolicy(OWN_LAN, frozenset(map(Address.parse, bootnodes))),
        "bootnodes": tuple(Bootnode(text) for text in bootnodes),
    }
    place = Place(**usual | changes)
    async with networked(place, clock, random.Random(me)) as network:
        yield Peer(me, address, network)


async def rounds(peers: list[Peer], until: Callable[[], bool], most: int = 60) -> int:
    """Gossip, all at once, until it is so. The number of rounds it took."""
    for number in range(most):
        if until():
            return number
        await asyncio.gather(*(one.network.carrier.round() for one in peers))
        await waiting.until(lambda: not any(one.network.carrier.busy for one in peers))
    raise AssertionError(f"not so after {most} rounds: {[len(one.sees()) for one in peers]}")


async def settled(some: list[Network]) -> None:
    """Until what their last rounds began is over."""
    await waiting.until(lambda: not any(one.carrier.busy or (one.rotating and one.rotating.busy) for one in some))


def offer(one: Peer, *models: Model) -> None:
    """What its peers may use from now on."""
    membership = one.network.membership
    said, record = one.network.fetching.catalogue.share(models), membership.announcer.record
    membership.announce(time.time(), addrs=record.addrs, models=said, proof=record.proof, name=record.name)


async def fetch(one: Peer) -> None:
    """A round of it, to its end."""
    one.network.fetching.round()
    while tasks := [task for task in asyncio.all_tasks() if task.get_name().startswith("models:")]:
        await asyncio.wait(tasks)
