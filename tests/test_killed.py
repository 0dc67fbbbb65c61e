"""A node is killed again and again while it works: it starts again, as the same node, and others take it back."""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from peers.network.identity import load_identity, node_id
from peers.network.records import read
from peers.network.store import Store
from tests.networks import PEERS, ROUND, Machine, machines, views
from tests.processes import running_node
from tests.waiting import until

CHAT = {"model": "eliza", "messages": [{"role": "user", "content": "I am killed all the time."}]}
CALLERS = 4
STARTING = 1.2
"""Seconds in which a start is killed too."""
FORGETS_AFTER = 3
"""Rounds of two kills: who comes back more than six times in ten minutes is left out (docs/promises.md A9)."""
KEPT_WITHIN = 40.0
SERVES = {"LLM_CHAT_URL": "eliza"}


@pytest.mark.parametrize(
    "times", [pytest.param(10, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.reliability)]
)
async def test_one_that_is_killed_under_load_comes_back_unharmed(tmp_path: Path, times: int) -> None:
    """docs/promises.md E3."""
    rng = random.Random(times)
    async with machines(tmp_path) as world:
        killed, other = await world.network(2, **SERVES)
        await until(lambda: keeps(killed, other), KEPT_WITHIN, lambda: views([killed, other]))
        node, (epoch, _) = killed.id, await kept(killed)
        for number in range(times):
            await kill_under_load(killed, rng)
            await kill_while_it_starts(killed, rng)
            assert await keeps(killed, other)
            if number % FORGETS_AFTER == FORGETS_AFTER - 1:
                assert await other.stop(signal.SIGTERM) == 0
                other = await world.again(other)
            before = time.time()
            killed = await world.again(killed)
            assert killed.id == node == node_id(await asyncio.to_thread(load_identity, killed.folder / "masa"))
            await meeting(killed, other, before)
            last, (epoch, _) = epoch, await kept(killed)
            assert epoch > last
            assert not killed.running.events("step_failed")


async def kill_under_load(node: Machine, rng: random.Random) -> None:
    async with load(node):
        await asyncio.sleep(rng.uniform(0.05, 0.3))
        node.running.signal(signal.SIGKILL)
        assert await node.running.wait() == -signal.SIGKILL


async def kill_while_it_starts(node: Machine, rng: random.Random) -> None:
    """It must not have ended by itself before that."""
    async with running_node(node.folder, {**PEERS, **SERVES}, wait=None) as starting:
        await asyncio.sleep(rng.uniform(0, STARTING))
        starting.signal(signal.SIGKILL)
        assert await starting.wait() == -signal.SIGKILL, starting.output


@asynccontextmanager
async def load(node: Machine) -> AsyncIterator[None]:
    """Callers who ask one thing after the other, from the first answer on until the block is left."""
    answered = asyncio.Event()

    async def caller(session: aiohttp.ClientSession) -> None:
        while True:
            with suppress(aiohttp.ClientError):
                async with session.post(node.running.url + "/api/chat", json=CHAT) as got:
                    assert (await got.read()).endswith(b"\n")
                    answered.set()

    async with aiohttp.ClientSession() as session:
        callers = [asyncio.create_task(caller(session)) for _ in range(CALLERS)]
        try:
            async with asyncio.timeout(5):
                await answered.wait()
            yield
        finally:
            for task in callers:
                task.cancel()
            await asyncio.wait(callers)


async def meeting(one: Machine, other: Machine, since: float) -> None:
    """Wait until each takes the other for alive, after an exchange since then."""

    async def met() -> bool:
        seen = [(await one.peers()).get(other.id), (await other.peers()).get(one.id)]
        return all(peer and peer["status"] == "alive" and peer.get("last_heard", 0) > since for peer in seen)

    await until(met, 5 * ROUND, lambda: views([one, other]))


async def kept(node: Machine) -> tuple[int, set[str]]:
    """Of the file on its disk: the epoch, and whose records there are."""
    epoch, records = await asyncio.to_thread(Store(node.folder / "masa").peers)
    return epoch, {read(record).record.id for record in records}


async def keeps(node: Machine, other: Machine) -> bool:
    epoch, nodes = await kept(node)
    return epoch > 0 and nodes == {other.id}


def test_what_a_killed_process_of_the_same_number_left_is_no_obstacle(tmp_path: Path) -> None:
    """In a container a node has the same process number at each start."""
    (tmp_path / f"node.{os.getpid()}.new").write_text("half a k")
    made = node_id(load_identity(tmp_path))
    assert node_id(load_identity(tmp_path)) == made
