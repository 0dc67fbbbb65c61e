"""The network's models in every list, beside those of this node."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.settings import load
from handlers.keys import NETWORK
from masa_node.app import client_app, client_server, node
from masa_node.listening import listening_sockets, serving, url_of
from peers.network.catalogue import Catalogue
from peers.network.reach import Reach
from peers.wire import Dialect, Model, NodeId
from tests.calls import get
from tests.conftest import StartServer
from tests.fakes import answer
from tests.peers import fetch, offer, peer, rounds
from tests.scripts import model_entry

ALL: frozenset[Dialect] = frozenset({"anthropic", "ollama", "openai"})
LLAMA = Model("llama3:latest", ALL, "a" * 64, 8192, ("completion", "tools"), True, 4_661_224_676)
QWEN = Model("qwen3", frozenset({"openai"}))
ANTHROPIC = {"anthropic-version": "2023-06-01"}
DETAILS = {"parent_model": "", "format": "", "family": "", "parameter_size": "", "quantization_level": ""}


@asynccontextmanager
async def running(folder: Path, reach: Reach | None, **settings: str) -> AsyncIterator[tuple[str, Any]]:
    """A node that sees this network: its URL, and its upstreams."""
    environ = {"MASA_DIR": str(folder / "masa"), "PORT": "0", "LLM_CHAT_URL": "off", "NODE_NAME": "test", **settings}
    loaded = await asyncio.to_thread(load, environ, cwd=folder)
    async with node(loaded.settings) as started:
        app = client_app(started)
        if reach is not None:
            app[NETWORK] = reach
        sockets = await asyncio.to_thread(listening_sockets, "127.0.0.1", 0)
        async with serving(client_server(started, app), app, sockets):
            await started.own.first_look()
            yield url_of(sockets[0]), started.own


class Around(Reach):
    """A network of these lists: (name, models) each."""

    def __init__(self, *around: tuple[str, tuple[Model, ...]]) -> None:
        super().__init__(Catalogue(), time.time)
        self.around = [(NodeId(name * 52), f"{name}-{name * 6}", models) for name, models in around]

    def lists(self) -> list[tuple[NodeId, str, tuple[Model, ...]]]:
        return self.around


def who(name: str) -> dict[str, str]:
    return {"id": name * 52, "name": f"{name}-{name * 6}"}


async def names(url: str, path: str, **more: Any) -> list[str]:
    told = (await get(url, path, **more)).told
    return [entry.get("name") or entry["id"] for entry in told.get("models") or told.get("data") or []]


async def test_a_peers_model_is_in_the_lists_of_its_dialects(tmp_path: Path) -> None:
    whisper = Model("odd", frozenset())
    async with running(tmp_path, Around(("b", (LLAMA, QWEN)), ("c", (QWEN, whisper)))) as (url, _):
        assert await names(url, "/api/tags") == ["llama3:latest"]
        assert await names(url, "/v1/models") == ["llama3:latest", "qwen3"]
        assert await names(url, "/v1/models", headers=ANTHROPIC) == ["llama3:latest"]
        assert await names(url, "/api/v1/llm/models") == ["llama3:latest", "qwen3", "odd"]
        assert (await get(url, "/v1/models/llama3")).told["id"] == "llama3:latest"
        assert (await get(url, "/v1/models/qwen3", headers=ANTHROPIC)).status == 404


async def test_ollamas_shape_of_a_peers_model(tmp_path: Path) -> None:
    least = {"name": "m", "model": "m", "digest": "", "size": 0, "details": {**DETAILS, "families": []}}
    async with running(tmp_path, Around(("b", (LLAMA, Model("m", ALL))))) as (url, _):
        llama, other = (await get(url, "/api/tags")).told["models"]
        assert other == {**least, "modified_at": "1970-01-01T00:00:00Z"}
        known = {"name": "llama3:latest", "model": "llama3:latest", "digest": "a" * 64, "size": 4661224676}
        known |= {
            "details": {**DETAILS, "families": [], "context_length": 8192},
            "capabilities": ["completion", "tools"],
        }
        assert llama == {**known, "modified_at": "1970-01-01T00:00:00Z"}
        more = {"expires_at": "2300-01-01T00:00:00Z", "size_vram": 4661224676, "context_length": 8192}
        assert (await get(url, "/api/ps")).told == {"models": [known | more]}


async def test_all_that_is_known_of_a_peers_model(tmp_path: Path) -> None:
    async with running(tmp_path, Around(("b", (LLAMA,)), ("c", (QWEN,)))) as (url, _):
        assert (await get(url, "/api/v1/llm/models")).told["models"] == [
            {
                "name": "llama3:latest",
                "dialects": ["anthropic", "ollama", "openai"],
                "nodes": [who("b")],
                "digest": "a" * 64,
                "context": 8192,
                "capabilities": ["completion", "tools"],
                "loaded": True,
            },
            {"name": "qwen3", "dialects": ["openai"], "nodes": [who("c")]},
        ]


async def test_a_model_of_ours_and_of_peers_is_one(model_servers: StartServer, tmp_path: Path) -> None:
    server = await model_servers(dialects=["ollama"])
    server.speaks.loaded = []
    async with running(tmp_path, Around(("b", (LLAMA,)), ("c", (LLAMA, QWEN))), LLM_CHAT_URL=server.url) as (url, _):
        ours = (await get(server.url, "/api/tags")).told
        assert (await get(url, "/api/tags")).told == ours
        assert await names(url, "/v1/models") == ["llama3:latest", "qwen3"]
        assert await names(url, "/api/ps") == ["llama3:latest"]
        here = (await get(url, "/api/v1/node")).told
        one, other = (await get(url, "/api/v1/llm/models")).told["models"]
        assert one["nodes"] == [{"id": here["id"], "name": here["name"]}, who("b"), who("c")]
        assert (one["upstream"], one["digest"], one["loaded"]) == ("ollama", ours["models"][0]["digest"], True)
        assert one["dialects"] == ["anthropic", "ollama", "openai"]
        assert other["name"] == "qwen3"
        assert "upstream" not in other


async def test_of_several_builds_the_commonest_is_told(tmp_path: Path) -> None:
    rare, common = Model("m", ALL, "1" * 64, 1000), Model("m", ALL, "2" * 64, 2000)
    async with running(tmp_path, Around(("b", (rare,)), ("c", (common,)), ("d", (common,)))) as (url, _):
        (told,) = (await get(url, "/api/v1/llm/models")).told["models"]
        assert (told["digest"], told["context"]) == ("2" * 64, 2000)
        assert told["nodes"] == [who("b"), who("c"), who("d")]
        assert [entry["digest"] for entry in (await get(url, "/api/tags")).told["models"]] == ["2" * 64]


@pytest.mark.parametrize("reach", [None, Reach(Catalogue(), time.time)])
async def test_without_a_network_all_is_as_before(
    model_servers: StartServer, tmp_path: Path, reach: Reach | None
) -> None:
    server = await model_servers()
    async with running(tmp_path, reach, LLM_CHAT_URL=server.url) as (url, _):
        for path in ("/api/tags", "/api/ps", "/v1/models"):
            assert (await get(url, path)).told == (await get(server.url, path)).told
        assert await names(url, "/api/v1/llm/models") == ["llama3:latest"]
        assert (await get(url, "/api/v1/peers")).told == {"peers": []}


async def test_a_nodes_lists_and_peers_by_its_real_network(tmp_path: Path) -> None:
    async with peer(tmp_path / "a") as a, peer(tmp_path / "b", name="b") as b:
        offer(b, LLAMA)
        await a.network.carrier.meet(b.address)
        await rounds([a, b], lambda: a.network.membership.liveness.of(b.id).heard > 0)
        await fetch(a)
        reach = Reach(a.network.fetching.catalogue, time.time, a.network.membership, latencies={b.id: 0.0123})
        async with running(tmp_path, reach) as (url, _):
            (model,) = (await get(url, "/api/v1/llm/models")).told["models"]
            assert model["nodes"] == [{"id": b.id, "name": f"b-{b.id[:6]}"}]
            (told,) = (await get(url, "/api/v1/peers")).told["peers"]
            heard, stake = told.pop("last_heard"), told.pop("stake")
            assert told == {
                "id": b.id,
                "name": f"b-{b.id[:6]}",
                "status": "alive",
                "protocol": 1,
                "models": 1,
                "addresses": [str(b.address)],
                "latency_ms": 12.3,
            }
            assert abs(heard - time.time()) < 60
            assert (stake["proven"], stake["amount"]) == (True, 1)
            assert stake["until"] > time.time()
            reach.membership = None
            assert await names(url, "/api/v1/llm/models") == []
            assert (await get(url, "/api/v1/peers")).told == {"peers": []}


# What is shared


async def test_what_a_server_relays_to_a_cloud_is_not_shared(model_servers: StartServer, tmp_path: Path) -> None:
    server = await model_servers()
    relayed = model_entry("gpt-oss:120b-cloud", remote_model="gpt-oss:120b", remote_host="https://ollama.com:443")
    server.script("/api/tags", answer({"models": [model_entry("llama3:latest"), relayed]}))
    hosted = {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-1", "LLM_OPENAI_MODELS": "gpt-5"}
    async with running(tmp_path, None, LLM_CHAT_URL=f"{server.url},eliza", **hosted) as (_, own):
        assert len(own.models()) == 4
        shared, eliza = own.shared()
        assert (shared.name, shared.size, shared.digest) == (
            "llama3:latest",
            4661224676,
            model_entry("llama3:latest")["digest"],
        )
        own.upstreams[0].fell("gone")
        assert own.shared() == [eliza]
