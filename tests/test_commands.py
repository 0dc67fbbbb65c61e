"""`models` and `status` as their users run them, and how every command finds its node."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from masa_node.commands.node_api import NodeApi, NodeError, find_node
from masa_node.commands.status import duration
from tests.commands import command, unused_port
from tests.fakes import DIE, JSON, ModelServer, Script, answer
from tests.networks import PEERS
from tests.processes import RunningNode, running_node
from tests.waiting import until
from tests.wrong_settings import OTHER_SECRET, SECRET

KEY = "a-key-of-this-node"


@pytest.fixture
async def node(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path, {"LLM_CHAT_URL": model_server.url, "NODE_NAME": "attic"}) as node:
        yield node


async def test_the_node_and_its_key_are_found_by_the_settings(model_server: ModelServer, tmp_path: Path) -> None:
    env = {"LLM_CHAT_URL": model_server.url, "API_KEYS": f"{KEY},another-key"}
    async with running_node(tmp_path, env) as node:
        keyless = await command(tmp_path, "chat", "--url", node.url, "hi")
        settings = {"PORT": str(node.port), "HOST": "0.0.0.0", "API_KEYS": KEY}
        found = await command(tmp_path, "chat", "hi", env=settings)
        wrong = await command(tmp_path, "models", "--key", "not-the-key", env=settings)
    assert keyless.code == 1
    assert "send one of this node's API_KEYS" in keyless.err
    assert "--key" in keyless.err
    assert (found.code, found.out) == (0, "Hello\n")
    assert wrong.code == 1


def test_our_keys_go_to_no_other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"API_KEYS": KEY, "HOST": "::", "PORT": "8181"}.items():
        monkeypatch.setenv(f"MASA_{name}", value)
    assert find_node(None, None) == NodeApi("http://[::1]:8181", KEY)
    assert find_node("localhost:9", None) == NodeApi("http://localhost:9", KEY)
    assert find_node("http://nas.example:8080/v1/", None) == NodeApi("http://nas.example:8080")
    assert find_node("http://nas.example:8080", "given-for-it") == NodeApi("http://nas.example:8080", "given-for-it")


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://a b", "http://h:x", "http://u:p@h", "http://h?q=1"])
def test_what_is_no_url_of_a_node_is_a_usage_error(url: str) -> None:
    with pytest.raises(NodeError, match="--url is not the URL of a node") as refused:
        find_node(url, "any-key")
    assert refused.value.code == 2


@pytest.mark.parametrize("name", ["chat", "models", "status"])
async def test_without_a_node_a_command_says_how_to_start_one(name: str, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    done = await command(tmp_path, name, "--url", url, *(["hi"] if name == "chat" else []))
    assert (done.code, done.out) == (1, "")
    assert done.err == f"masa-node: no node answers at {url}; start one with `masa-node run`\n"


async def test_a_node_asked_by_https_is_told_to_speak_plain_http(node: RunningNode, tmp_path: Path) -> None:
    done = await command(tmp_path, "status", "--url", node.url.replace("http:", "https:"))
    assert (done.code, done.out) == (1, "")
    assert "no TLS with a node" in done.err
    assert "a node itself speaks plain http" in done.err
    assert "start one" not in done.err


async def test_what_is_no_node_is_not_asked(model_server: ModelServer, tmp_path: Path) -> None:
    done = await command(tmp_path, "chat", "--url", model_server.url, "hi")
    assert done.code == 1
    assert "is not a masa-node" in done.err
    assert not model_server.inferences


async def test_a_wrong_setting_and_a_port_that_is_not_known_are_usage_errors(tmp_path: Path) -> None:
    wrong = await command(tmp_path, "chat", "hi", env={"PORT": "http", "LLM_PARALLEL": "0"})
    assert (wrong.code, wrong.out) == (2, "")
    assert "PORT" in wrong.err
    assert "LLM_PARALLEL" in wrong.err
    unknown = await command(tmp_path, "status")
    assert unknown.code == 2
    assert "--url" in unknown.err


async def test_models_are_listed(node: RunningNode, tmp_path: Path) -> None:
    table = await command(tmp_path, "models", "--url", node.url)
    as_json = await command(tmp_path, "models", "--url", node.url, "--json")
    async with aiohttp.ClientSession() as session, session.get(f"{node.url}/api/v1/llm/models") as response:
        told = await response.text()
    assert (as_json.code, as_json.out) == (0, told + "\n")
    head, row = (re.split(r" {2,}", text.strip()) for text in table.out.splitlines())
    assert head == ["model", "where", "dialects", "context", "loaded"]
    assert row[0] == "llama3:latest"
    assert re.fullmatch(r"ollama on attic-\w{6}", row[1])
    assert row[2:] == ["anthropic ollama openai", "8192", "yes"]
    assert "\x1b" not in table.out


@pytest.mark.parametrize("more", [{"framing": "length", "length": 900}, {"framing": "chunked"}], ids=str)
async def test_a_list_that_is_cut_is_not_printed(more: dict[str, Any], tmp_path: Path) -> None:
    async with ModelServer(extra_headers={"X-Masa-Node": "abc"}) as server:
        server.script("/api/v1/llm/models", Script(headers=JSON, chunks=[b'{"models":[]}', DIE], **more))
        done = await command(tmp_path, "models", "--json", "--url", server.url)
    assert (done.code, done.out) == (1, "")
    assert done.err == "masa-node: the answer was cut off before its end\n"


async def test_the_status_names_what_is_wrong(model_server: ModelServer, tmp_path: Path) -> None:
    urls = f"{model_server.url},http://127.0.0.1:{unused_port()}"
    async with running_node(tmp_path, {"LLM_CHAT_URL": urls, "NODE_NAME": "attic"}) as node:
        table = await command(tmp_path, "status", "--url", node.url)
        as_json = await command(tmp_path, "status", "--url", node.url, "--json")
    told = json.loads(as_json.out)
    assert [upstream["status"] for upstream in told["upstreams"]] == ["up", "down"]
    assert table.code == 0
    for fact in (
        told["name"],
        told["id"],
        told["version"],
        node.url,
        "0, and 0 in the queue",
        "refused the connection",
    ):
        assert fact in table.out


@pytest.mark.parametrize(("kind", "stake"), [("secret", "by secret"), ("certificate", "ends in 66 d")])
async def test_the_stake_of_a_peer_is_told_in_words(kind: str, stake: str, tmp_path: Path) -> None:
    peer = {"name": "attic-abc", "status": "alive", "stake": {"proven": True, "until": time.time() + 66 * 86400}}
    async with ModelServer(extra_headers={"X-Masa-Node": "abc"}) as server:
        server.script("/api/v1/peers", answer({"peers": [peer, {"name": "den-def", "stake": {"proven": False}}]}))
        network = {"id": "abc", "stake": kind, "notices": [{"code": "shut_out", "text": "2 peers refuse this node"}]}
        server.script("/api/v1/node", answer({"network": network}))
        done = await command(tmp_path, "peers", "--url", server.url)
    _, attic, den, notice = done.out.splitlines()
    assert stake in attic
    assert "not proven" in den
    assert notice == "2 peers refuse this node"


async def test_who_was_called_in_vain_is_named_where_there_are_no_peers(tmp_path: Path) -> None:
    """As with a wrong secret: the node at that address is of another network."""
    other, node = tmp_path / "other", tmp_path / "node"
    for folder in (other, node):
        await asyncio.to_thread(folder.mkdir)
    async with running_node(other, {**PEERS, "NETWORK_SECRET": SECRET}) as theirs:
        place = f"127.0.0.1:{(await theirs.event('network_open'))['port']}"
        settings = {**PEERS, "NETWORK_SECRET": OTHER_SECRET, "BOOTNODES": place}
        async with running_node(node, settings) as ours:

            async def told() -> bool:
                return place in (await command(node, "peers", "--url", ours.url)).out

            await until(told, 10)
            done = await command(node, "peers", "--url", ours.url)
            alone = await command(other, "peers", "--url", theirs.url)
    assert f"{place}: what answers there is no node of a network of ours\n" in done.out
    assert "`masa-node doctor` says what to do" in done.out
    assert "invite" not in done.out
    assert alone.out.startswith("no peers: `masa-node invite`")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (61, "1 min 1 s"), (7265, "2 h 1 min"), (200000, "2 d 7 h"), (None, "0 s")]
)
def test_durations_are_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
