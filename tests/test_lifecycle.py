"""A real process from start to end: what it says, how it drains, what it refuses to start with."""

import asyncio
import json
import os
import re
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from peers.network.identity import IdentityError, load_identity, node_id
from tests.fakes import HANG, ModelServer, Script
from tests.processes import running_node
from tests.raw import Wire, get, post
from tests.waiting import until

CHAT = b'{"model":"llama3","messages":[]}'


async def status(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as got:
        return got.status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stream_that_runs_is_finished(tmp_path, number):
    """docs/promises.md E1."""
    gate = asyncio.Event()
    async with ModelServer() as server:
        server.next(Script(chunks=[b'{"n":1}\n', gate, b'{"n":2}\n']))
        async with (
            running_node(tmp_path, {"LLM_CHAT_URL": server.url}) as node,
            Wire(node.port) as wire,
            Wire(node.port) as kept,
        ):
            await kept.send(get(node.port, "/health"))
            assert (await kept.read_head()).status == 200
            await kept.read_to_end()
            await wire.send(post(node.port, "/api/chat", CHAT))
            await wire.read_head()
            assert await wire.read_piece() == b'{"n":1}\n'
            node.signal(number)
            await node.event("draining")
            if number == signal.SIGTERM:
                assert await status(node.url + "/ready") == 503
                assert await status(node.url + "/health") == 200
            await until(lambda: refused(node.port), 5)
            await kept.send(get(node.port, "/health"))
            head = await kept.read_head()
            assert (head.status, head.headers.get("Connection")) == (503, "close")
            assert json.loads((await kept.read_to_end()).body)["code"] == "draining"
            gate.set()
            ending = await wire.read_to_end()
            assert (ending.body, ending.clean) == (b'{"n":2}\n', True)
            assert await node.wait() == 0


async def refused(port: int) -> bool:
    """Nobody listens any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_a_second_signal_ends_it_and_the_cut_stream_is_no_whole_one(tmp_path):
    """docs/promises.md E2."""
    async with ModelServer() as server:
        server.next(Script(chunks=[b'{"n":1}\n', HANG]))
        async with running_node(tmp_path, {"LLM_CHAT_URL": server.url}) as node, Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await wire.read_head()
            await wire.read_piece()
            node.signal(signal.SIGTERM)
            await node.event("draining")
            node.signal(signal.SIGTERM)
            assert await node.wait(2) == 0
            assert not (await wire.read_to_end()).clean


@pytest.mark.slow
async def test_a_drain_ends_after_thirty_seconds(tmp_path):
    """docs/promises.md E2."""
    loop = asyncio.get_running_loop()
    async with ModelServer() as server:
        server.next(Script(chunks=[b'{"n":1}\n', HANG]))
        async with running_node(tmp_path, {"LLM_CHAT_URL": server.url}) as node, Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await wire.read_head()
            start = loop.time()
            node.signal(signal.SIGTERM)
            assert await node.wait(40) == 0
            assert loop.time() - start < 31.5


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"HOST": "0.0.0.0"}, ["API_KEYS", "ALLOW_OPEN_API"]),
        ({"PORT": "70000", "LLM_TIMEOUT": "soon", "LLM_CHAT_URL": "ftp://x"}, ["PORT", "LLM_TIMEOUT", "LLM_CHAT_URL"]),
        ({"PROVIDERS": "openai"}, ["OPENAI_API_KEY"]),
        ({"API_KEYS": "canary"}, ["API_KEYS"]),
    ],
)
async def test_a_wrong_setting_stops_the_start(tmp_path, env, said):
    """docs/promises.md E4: exit 2, every problem at once, no value shown."""
    async with running_node(tmp_path, env, wait=None) as node:
        assert await node.wait() == 2
    assert all(name in node.output for name in said)
    assert not any(value in node.output for value in ("70000", "soon", "ftp://", "canary"))


async def test_a_taken_port_names_its_owner_and_the_remedy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running_node(tmp_path, {"PORT": str(port)}, wait=None) as node:
            assert await node.wait() == 1
    assert re.search(rf"port {port} is taken by \w+ \(process {os.getpid()}\)", node.output)
    assert "set PORT" in node.output


async def test_one_running_node_a_folder(tmp_path):
    async with running_node(tmp_path) as first, running_node(tmp_path, wait=None) as second:
        assert await second.wait() == 1
        assert f"in use by a running node (process {first.pid})" in second.output


async def test_the_node_keeps_its_key(tmp_path):
    names = []
    for _ in range(2):
        async with running_node(tmp_path) as node:
            names.append(node.events("listening")[0]["node"])
    assert names[0] == names[1]
    assert len(names[0]) == 52


def test_the_key_is_the_owners_alone(tmp_path):
    first = load_identity(tmp_path / "masa")
    key = tmp_path / "masa/node.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in key.parent.iterdir()] == ["node.key"]
    assert node_id(load_identity(key.parent)) == node_id(first)
    key.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_identity(key.parent)
    key.chmod(0o600)
    key.write_text("no key")
    with pytest.raises(IdentityError, match="not a private key"):
        load_identity(key.parent)


async def test_no_core_dump_can_hold_a_prompt(tmp_path):
    """docs/security.md C-34; and as many files may be open as the system allows."""
    async with running_node(tmp_path) as node:
        limits = await asyncio.to_thread(Path(f"/proc/{node.pid}/limits").read_text)
    told = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert told["Max core file size"] == ["0", "0"]
    assert told["Max open files"][0] == told["Max open files"][1]


async def test_leaving_nothing_behind_after_kill_9(tmp_path):
    """The lock dies with its process, and the key is whole."""
    async with running_node(tmp_path) as node:
        node.signal(signal.SIGKILL)
        await node.wait()
    async with running_node(tmp_path) as node:
        assert await status(node.url + "/health") == 200
