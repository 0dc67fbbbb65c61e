"""Nodes on two LANs with a router between them: they find each other, are split, lose packets, and move. Needs root."""

import asyncio

import pytest

from peers.network.tokens import Secret
from tests.fakes import ModelServer
from tests.namespaces import Host, Lans
from tests.networks import ALTERED, ROUND, Machine, Machines, all_see_all, views
from tests.waiting import holds, until

pytestmark = pytest.mark.slow

LISTENER = {"PEER_HOST": "0.0.0.0", "PEER_PORT": "4001", "MDNS": "true"}
OUT_OF_CONTAINER = (*ALTERED, "--no-container", "run")
MEETING = 30.0
"""Seconds for six to find each other on their LANs and across."""
SPLIT = 45.0
"""Seconds in which each must have seen that it does not reach the other side."""
LOSSY = 60.0
NEWS = 45.0
"""Seconds until a model server that has appeared was noticed, and its node's record and its list have reached all."""
MOVED = 15.0


@pytest.fixture
def secret() -> str:
    return Secret.new().text


async def start(world: Machines, host: Host, **env: str) -> Machine:
    return await world.start(
        within=host.within, program=OUT_OF_CONTAINER, make_socket=host.make_socket, env={**LISTENER, **env}
    )


async def network(world: Machines, lans: Lans, secret: str, number: int, **env: str) -> list[Machine]:
    """So many on either LAN: one of the second knows where the first of the first is, and nobody knows more."""
    hosts = [await asyncio.to_thread(lans.add, lan) for lan in ("lan-a", "lan-b") for _ in range(number)]
    known = {hosts[number].name: {"BOOTNODES": f"{hosts[0].address}:4001"}}
    starts = (start(world, host, NETWORK_SECRET=secret, **env, **known.get(host.name, {})) for host in hosts)
    nodes = await asyncio.gather(*starts)
    await all_see_all(nodes, MEETING)
    return nodes


async def test_two_lans_become_one_network_are_split_and_heal(world: Machines, lans: Lans, secret: str) -> None:
    """docs/promises.md A3: by mDNS on each LAN, and across by one bootnode."""
    nodes = await network(world, lans, secret, 3)
    sides = nodes[:3], nodes[3:]
    await lans.split()

    async def parted() -> bool:
        return all(
            [await node.sees("suspect", "dead") == {other.id for other in far} for node, far in seen_from(sides)]
        )

    await until(parted, SPLIT, lambda: views(nodes))
    for near in sides:
        await all_see_all(near, ROUND)
    await lans.heal()
    await all_see_all(nodes, 10 * ROUND)


def seen_from(sides: tuple[list[Machine], list[Machine]]) -> list[tuple[Machine, list[Machine]]]:
    """Each with those on the other side."""
    return [(node, far) for near, far in (sides, sides[::-1]) for node in near]


async def test_lost_packets_make_nobody_dead_and_news_come_through(world: Machines, lans: Lans, secret: str) -> None:
    """docs/promises.md A4: 30 % of all packets that come in. Who does not answer for a while may be suspect."""
    nodes = await network(world, lans, secret, 3, LLM_CHAT_URL="http://127.0.0.1:11434")
    for host in lans.hosts:
        await host.lose(30)

    async def nobody_is_dead() -> bool:
        return not any([await node.sees("dead") for node in nodes])

    await holds(nobody_is_dead, LOSSY, lambda: views(nodes))
    server = ModelServer(models=["news:latest"], port=11434)
    with lans.hosts[2].entered():
        await server.start()
    try:

        async def told() -> bool:
            return all([await node.models() == {"news:latest": [nodes[2].id]} for node in nodes])

        await until(told, NEWS, lambda: views(nodes))
    finally:
        await server.stop()


async def test_who_gets_another_address_is_found_at_it(world: Machines, lans: Lans, secret: str) -> None:
    nodes = await network(world, lans, secret, 2)
    moved, others = nodes[1], [node for node in nodes if node is not nodes[1]]
    await lans.hosts[1].move("10.77.1.99")

    async def found() -> bool:
        peers = [(await node.peers())[moved.id] for node in others]
        return all(peer["addresses"] == ["10.77.1.99:4001"] and peer["status"] == "alive" for peer in peers)

    await until(found, MOVED, lambda: where_each_sees(others, moved))
    await all_see_all(nodes, 10 * ROUND)


async def where_each_sees(nodes: list[Machine], one: Machine) -> list[tuple[str, list[str]]]:
    peers = [(await node.peers())[one.id] for node in nodes]
    return [(peer["status"], peer["addresses"]) for peer in peers]
