"""Six processes on loopback, one network: they join, leave, stand still, and speak other versions."""

import asyncio
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import command
from tests.conftest import StartServer
from tests.networks import ALTERED, ROUND, Machine, Machines, all_see_all, views
from tests.waiting import holds, until

pytestmark = pytest.mark.slow

SIX = 6
STILL = 20.0
NOTICED = 45.0
"""Seconds: three failed exchanges each; whom to call is chance. After 50 its record would expire."""
AT_ONCE = 3.0
"""Seconds: who leaves tells it within one, and those it told pass it on in their next rounds."""


async def test_six_join_by_one_token_leave_and_come_back(world: Machines, model_servers: StartServer) -> None:
    servers = [await model_servers(models=[f"model-{number}:latest"]) for number in range(SIX)]
    nodes = await asyncio.gather(*(world.start(env={"LLM_CHAT_URL": server.url}) for server in servers))
    token = await nodes[0].invite()
    await asyncio.gather(*(node.join(token) for node in nodes[1:]))
    await all_see_all(nodes, 10 * ROUND)
    served = {f"model-{number}:latest": [node.id] for number, node in enumerate(nodes)}

    async def merged() -> bool:
        return all([await node.models() == served for node in nodes])

    await until(merged, 10 * ROUND, lambda: views(nodes))
    told = await command(nodes[1].folder, "peers", "--url", nodes[1].running.url)
    assert told.out.count("alive") == SIX - 1

    gone, rest = nodes[3], [node for node in nodes if node is not nodes[3]]
    gone.running.signal(signal.SIGTERM)
    await gone.running.event("draining")
    await all_see_all(rest, AT_ONCE)
    for node in rest:
        assert (await node.peers())[gone.id]["why"] == "it has left"
        assert "model-3:latest" not in await node.models()
    assert await gone.running.wait() == 0
    nodes[3] = await world.again(gone)
    assert nodes[3].id == gone.id
    await all_see_all(nodes, 5 * ROUND)
    await until(merged, 10 * ROUND, lambda: views(nodes))


async def test_one_that_stands_still_blames_nobody_and_is_taken_back(world: Machines) -> None:
    """docs/promises.md A8."""
    nodes = await world.network(SIX)
    still, others = nodes[2], nodes[:2] + nodes[3:]
    still.running.signal(signal.SIGSTOP)
    stopped = asyncio.get_running_loop().time()
    try:
        await until(lambda: all_call_it(others, still, "suspect"), NOTICED, lambda: views(others))
        left = stopped + STILL - asyncio.get_running_loop().time()
        await holds(lambda: all_call_it(others, still, "suspect"), left, lambda: views(others))
        for node in others:
            assert await node.sees() == {other.id for other in others} - {node.id}
    finally:
        still.running.signal(signal.SIGCONT)

    async def taken_back() -> bool:
        assert len(await still.sees("suspect", "dead")) <= 1, await views([still])
        return await all_call_it(others, still, "alive")

    await until(taken_back, 10 * ROUND, lambda: views(nodes))
    await all_see_all(nodes, 10 * ROUND)


async def all_call_it(nodes: list[Machine], one: Machine, status: str) -> bool:
    return all([one.id in await node.sees(status) for node in nodes])


async def test_a_copied_key_is_told_on_both_machines(world: Machines) -> None:
    """docs/promises.md A13: one of the two falls silent, and the others keep to one address."""
    nodes = await world.network(3)
    folder = world.folder / "copy"
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread(copy_key, nodes[1].folder / "masa", folder / "masa")
    twin = await world.start(folder=folder)
    assert twin.id == nodes[1].id
    await twin.join(await nodes[0].invite())
    await asyncio.gather(*(one.running.event("key_duplicated", 10 * ROUND) for one in (twin, nodes[1])))
    for one in (twin, nodes[1]):
        notices = (await one.get("/api/v1/node"))["network"]["notices"]
        assert "key_duplicated" in {notice["code"] for notice in notices}

    async def kept() -> list[list[str]]:
        return [await addresses_of(node, twin) for node in (nodes[0], nodes[2])]

    async def unmoved() -> bool:
        """What the silent one said last may still be on its way."""
        before = await kept()

        async def same() -> bool:
            return await kept() == before

        with suppress(AssertionError):
            await holds(same, 5 * ROUND)
            return before[0] == before[1]
        return False

    await until(unmoved, 30 * ROUND)


def copy_key(source: Path, target: Path) -> None:
    """What somebody does who copies a machine, and has its copy join anew."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("network", "control*", "*lock*"))


async def addresses_of(node: Machine, other: Machine) -> list[str]:
    addresses: list[str] = (await node.peers())[other.id]["addresses"]
    return addresses


async def test_a_release_that_speaks_a_version_more_is_a_peer_like_any(
    world: Machines, model_servers: StartServer
) -> None:
    """They use the highest version that both know: 1."""
    servers = [await model_servers(models=[f"{name}:latest"]) for name in ("older", "newer")]
    older = await world.start(env={"LLM_CHAT_URL": servers[0].url})
    newer = await world.start(program=(*ALTERED, "--spoken", "1,2", "run"), env={"LLM_CHAT_URL": servers[1].url})
    await newer.join(await older.invite())
    await all_see_all([older, newer], 10 * ROUND)
    served = {"older:latest": [older.id], "newer:latest": [newer.id]}

    async def merged() -> bool:
        return all([await node.models() == served for node in (older, newer)])

    await until(merged, 10 * ROUND, lambda: views([older, newer]))
    for node, other in ((older, newer), (newer, older)):
        assert "why" not in (await node.peers())[other.id]


async def test_a_release_too_new_to_be_understood_is_shown_with_the_reason(
    world: Machines, model_servers: StartServer
) -> None:
    server = await model_servers(models=["unheard:latest"])
    ours = await world.start()
    alien = await world.start(program=(*ALTERED, "--spoken", "3,4", "run"), env={"LLM_CHAT_URL": server.url})
    done = await command(alien.folder, "join", await ours.invite())
    assert done.code == 1
    assert "it speaks versions 1 to 1 of the peer protocol, this node 3 to 4" in done.err

    async def shown() -> bool:
        return alien.id in await ours.peers() and ours.id in await alien.peers()

    await until(shown, 10 * ROUND, lambda: views([ours, alien]))
    assert (await ours.peers())[alien.id]["why"] == "it speaks versions 3 to 4 of the peer protocol, this node 1 to 1"
    assert (await alien.peers())[ours.id]["why"] == "it speaks versions 1 to 1 of the peer protocol, this node 3 to 4"

    async def unlisted() -> bool:
        return await ours.models() == {}

    await holds(unlisted, 3 * ROUND)
