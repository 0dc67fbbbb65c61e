"""Fleets: whole nodes in the test's own process, each with its listeners and folder, in one network by a secret."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from peers.network.tokens import Secret
from tests.nodes import Running, running
from tests.waiting import until

SECRET = Secret(bytes(range(32)))
QUIET = {"PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false", "NETWORK_SECRET": SECRET.text}
PATIENCE = 20.0


@asynccontextmanager
async def fleet(folder: Path, *each: dict[str, str]) -> AsyncIterator[list[Running]]:
    """One node for each of these settings, once all see all, and their models; the first is everybody's bootnode."""
    async with AsyncExitStack() as stack:
        nodes: list[Running] = []
        for number, settings in enumerate(each):
            where = folder / f"n{number}"
            await asyncio.to_thread(where.mkdir)
            known = {"BOOTNODES": address_of(nodes[0])} if nodes else {}
            more = {"NODE_NAME": f"n{number}", **QUIET, **known, **settings}
            nodes.append(await stack.enter_async_context(running(where, **more)))
            await nodes[-1].node.joined.settled()
        await until(lambda: all_know_all(nodes))
        yield nodes


def address_of(one: Running) -> str:
    return one.node.joined.addresses[0]


def all_know_all(nodes: Iterable[Running]) -> bool:
    """Each holds every other for alive and has its model list."""
    some = list(nodes)
    lists = {one.node.who.id: len({model.name for model in one.node.own.shared()}) for one in some}
    for one in some:
        alive = {view.id: view.models for view in one.node.joined.reach.members() if view.status == "alive"}
        told = {node: len(models) for node, _, models in one.node.joined.reach.lists()}
        for node, count in lists.items():
            if node != one.node.who.id and (alive.get(node) != count or told.get(node, 0) != count):
                return False
    return True
