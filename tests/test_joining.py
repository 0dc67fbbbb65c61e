"""Real processes on loopback become a network: by one token, by a bootnode; they die, come back, and leave."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes import ModelServer
from tests.processes import RunningNode, running_node
from tests.waiting import until

PEERS = {"PEER_HOST": "127.0.0.1", "PEER_PORT": "0", "MDNS": "false"}
Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a node in a folder of its own, or again in the folder named."""
    async with AsyncExitStack() as stack:
        count = iter(range(100))

        async def one(folder: Path | None = None, **env: str) -> RunningNode:
            where = folder or tmp_path / f"n{next(count)}"
            await asyncio.to_thread(where.mkdir, exist_ok=True)
            return await stack.enter_async_context(running_node(where, {**PEERS, **env}))

        yield one


async def command(node: RunningNode, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Run masa-node with these words on the folder of `node`: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "masa_node.cli", *words),
        cwd=node.folder,
        env={"PATH": os.environ["PATH"], "HOME": str(node.folder), "MASA_DIR": str(node.folder / "masa"), **PEERS},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def seen(node: RunningNode) -> set[str]:
    """The ids of the members this node takes for alive."""
    async with aiohttp.ClientSession() as session, session.get(node.url + "/api/v1/peers") as got:
        peers = (await got.json())["peers"]
    return {peer["id"] for peer in peers if peer["status"] == "alive"}


def id_of(node: RunningNode) -> str:
    return str(node.events("listening")[0]["node"])


async def until_all_see_all(nodes: list[RunningNode], within: float = 20) -> None:
    everyone = {id_of(node) for node in nodes}

    async def whole() -> bool:
        return all([await seen(node) == everyone - {id_of(node)} for node in nodes])

    async def views() -> str:
        return json.dumps({id_of(node)[:6]: sorted(one[:6] for one in await seen(node)) for node in nodes})

    await until(whole, within, views)


async def invited(node: RunningNode) -> str:
    code, out, err = await command(node, "invite")
    assert code == 0, err
    assert out.startswith("masa1")
    assert out.count("\n") == 1
    return out.strip()


async def test_three_nodes_by_one_token(start: Start) -> None:
    nodes = [await start() for _ in range(3)]
    token = await invited(nodes[0])
    for node in nodes[1:]:
        code, _, err = await command(node, "join", token)
        assert code == 0, err
        assert "joined by node" in err
    await until_all_see_all(nodes)


@pytest.mark.slow
async def test_a_bootnode_alone_and_the_secret_by_environment(start: Start) -> None:
    first = await start()
    token = await invited(first)
    port = token and first.events("network_open")[0]["port"]
    second = await start(NETWORK_SECRET=token[:53], BOOTNODES=f"127.0.0.1:{port}")
    await until_all_see_all([first, second])


@pytest.mark.slow
async def test_who_is_killed_comes_back_by_itself(start: Start) -> None:
    first, second = await start(), await start()
    code, _, err = await command(second, "join", "-", stdin=await invited(first))
    assert code == 0, err
    await until_all_see_all([first, second])
    second.signal(signal.SIGKILL)
    await second.wait()
    again = await start(second.folder)
    assert id_of(again) == id_of(second)
    await until_all_see_all([first, again])


@pytest.mark.slow
async def test_who_leaves_or_stops_is_gone_at_once(start: Start) -> None:
    first, second, third = await start(), await start(), await start()
    token = await invited(first)
    for node in (second, third):
        await command(node, "join", token)
    await until_all_see_all([first, second, third])
    assert (await command(third, "leave"))[0] == 0
    assert await seen(third) == set()
    await until_all_see_all([first, second], within=5)
    second.signal(signal.SIGTERM)
    assert await second.wait() == 0

    async def alone() -> bool:
        return not await seen(first)

    await until(alone, 5)


@pytest.mark.slow
async def test_a_damaged_token_is_refused_in_words(start: Start) -> None:
    node = await start()
    token = await invited(node)
    code, _, err = await command(node, "join", token[:-1] + ("A" if token[-1] != "A" else "B"))
    assert code == 2
    assert "copy it again" in err
    assert token[:20] not in err


@pytest.mark.slow
async def test_without_a_running_node_the_folder_is_prepared(tmp_path: Path, start: Start) -> None:
    first = await start()
    stopped = await start()
    stopped.signal(signal.SIGTERM)
    await stopped.wait()
    code, _, err = await command(stopped, "join", await invited(first))
    assert code == 0, err
    again = await start(stopped.folder)
    await until_all_see_all([first, again])


async def test_the_socket_is_the_owners_alone(start: Start) -> None:
    node = await start()
    found = await asyncio.to_thread((node.folder / "masa/control.sock").stat)
    assert found.st_mode & 0o777 == 0o600


async def test_two_nodes_find_each_other_on_the_lan(start: Start) -> None:
    """By mDNS alone, here on loopback: no address is in what the second one knows."""
    first = await start(MDNS="true")
    secret = (await invited(first))[:53]
    second = await start(MDNS="true", NETWORK_SECRET=secret)
    await until_all_see_all([first, second])


@pytest.mark.slow
async def test_people_see_who_is_there_and_every_nodes_models(start: Start, model_server: ModelServer) -> None:
    first, second = await start(), await start(LLM_CHAT_URL=model_server.url)
    assert (await command(second, "join", await invited(first)))[0] == 0
    await until_all_see_all([first, second])
    async with asyncio.timeout(15), aiohttp.ClientSession() as session:

        async def listed_here() -> bool:
            async with session.get(first.url + "/api/tags") as got:
                return "llama3:latest" in [model["name"] for model in (await got.json())["models"]]

        await until(listed_here)
        async with session.get(first.url + "/api/v1/llm/models") as got:
            listed = {model["name"]: model for model in (await got.json())["models"]}
    assert [node["id"] for node in listed["llama3:latest"]["nodes"]] == [id_of(second)]
    code, out, _ = await command(first, "peers", "--url", first.url)
    assert code == 0
    assert id_of(second)[:6] in out
    assert "alive" in out
