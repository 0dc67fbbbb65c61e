"""The model lists of every dialect: merged, in each one's own shape, and never waiting for a slow server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.calls import ask, get
from tests.conftest import StartServer
from tests.fakes import HANG, ModelServer, Script, answer
from tests.nodes import Running, running
from tests.scripts import CREATED, TIME, model_entry

LLAMA = "@cf/meta/llama-3.1-8b-instruct"
ANTHROPIC = {"anthropic-version": "2023-06-01"}
GPT = {"PROVIDERS": "openai", "OPENAI_API_KEY": "sk-1", "LLM_OPENAI_MODELS": "gpt-5,gpt-5-mini"}

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a node with these settings: `await start(LLM_CHAT_URL=…)`."""
    async with AsyncExitStack() as stack:

        async def started(**settings: str) -> Running:
            return await stack.enter_async_context(running(tmp_path, **settings))

        yield started


async def names(node: Running, path: str, **more: Any) -> list[str]:
    told = (await get(node.url, path, **more)).told
    entries = told.get("models") or told.get("data") or []
    return [entry.get("name") or entry["id"] for entry in entries]


# As one server lists them


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/version", "/v1/models", "/v1/models/llama3:latest"])
async def test_one_ollamas_lists_are_its_own(model_server: ModelServer, start: Start, path: str) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    own, ours = await get(model_server.url, path), await get(node.url, path)
    assert (ours.status, ours.told) == (200, own.told)
    assert ours.headers["Content-Type"] == "application/json"
    assert ours.headers["X-Masa-Name"].startswith("test-")


async def test_anthropics_shape(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    model = {
        "type": "model",
        "id": "llama3:latest",
        "display_name": "llama3:latest",
        "created_at": "2026-01-02T03:04:05Z",
    }
    page = {"data": [model], "has_more": False, "first_id": "llama3:latest", "last_id": "llama3:latest"}
    assert (await get(node.url, "/v1/models", headers=ANTHROPIC)).told == page
    assert (await get(node.url, "/v1/models/llama3", headers=ANTHROPIC)).told == model
    empty = {"data": [], "has_more": False, "first_id": None, "last_id": None}
    model_server.speaks.dialects = ["ollama"]
    await model_server.stop()
    await node.node.own.upstreams[0].refresh()
    assert (await get(node.url, "/v1/models", headers=ANTHROPIC)).told == empty
    await model_server.start()


async def test_all_that_is_known_of_a_model(model_server: ModelServer, start: Start) -> None:
    entry = model_entry("llama3:latest", capabilities=["completion", "tools"])
    model_server.script("/api/tags", answer({"models": [entry]}))
    node = await start(LLM_CHAT_URL=model_server.url)
    who = {"id": node.node.who.id, "name": node.node.who.shown}
    assert (await get(node.url, "/api/v1/llm/models")).told == {
        "models": [
            {
                "name": "llama3:latest",
                "dialects": ["anthropic", "ollama", "openai"],
                "upstream": "ollama",
                "nodes": [who],
                "digest": entry["digest"],
                "context": 8192,
                "capabilities": ["completion", "tools"],
                "loaded": True,
            }
        ]
    }


async def test_what_is_unknown_is_left_out(start: Start) -> None:
    node = await start(**GPT)
    for model in (await get(node.url, "/api/v1/llm/models")).told["models"]:
        assert set(model) == {"name", "dialects", "upstream", "nodes"}


async def test_a_model_that_is_not_loaded(model_server: ModelServer, start: Start) -> None:
    model_server.speaks.loaded = []
    node = await start(LLM_CHAT_URL=model_server.url)
    assert (await get(node.url, "/api/v1/llm/models")).told["models"][0]["loaded"] is False
    assert (await get(node.url, "/api/ps")).told == {"models": []}


# Merged


async def test_every_upstream_is_in_the_lists_of_its_dialects(model_servers: StartServer, start: Start) -> None:
    ollama = await model_servers(models=["llama3:latest", "both:latest"])
    vllm = await model_servers(models=["qwen3", "both:latest"], dialects=["openai"])
    node = await start(
        LLM_CHAT_URL=f"{ollama.url},{vllm.url}",
        LLM_CF_URL="http://127.0.0.1:9/workers-ai/",
        LLM_CF_MODELS=LLAMA,
        **GPT,
    )
    openai = ["llama3:latest", "both:latest", "qwen3", LLAMA, "gpt-5", "gpt-5-mini"]
    assert await names(node, "/api/tags") == ["llama3:latest", "both:latest"]
    assert await names(node, "/v1/models") == openai
    assert await names(node, "/v1/models", headers=ANTHROPIC) == ["llama3:latest", "both:latest"]
    everywhere = (await get(node.url, "/api/v1/llm/models")).told["models"]
    assert [(model["name"], model["upstream"]) for model in everywhere] == [
        ("llama3:latest", "ollama"),
        ("both:latest", "ollama"),
        ("qwen3", "ollama2"),
        ("both:latest", "ollama2"),
        (LLAMA, "cloudflare"),
        ("gpt-5", "openai"),
        ("gpt-5-mini", "openai"),
    ]


async def test_what_is_loaded_anywhere_is_listed(model_servers: StartServer, start: Start) -> None:
    idle, busy = await model_servers(), await model_servers()
    idle.speaks.loaded = []
    node = await start(LLM_CHAT_URL=f"{idle.url},{busy.url}")
    assert await names(node, "/api/ps") == ["llama3:latest"]


async def test_the_oldest_ollama_counts(model_servers: StartServer, start: Start) -> None:
    old, new = await model_servers(), await model_servers()
    old.script("/api/version", answer({"version": "0.9.12-rc1"}))
    node = await start(LLM_CHAT_URL=f"{new.url},{old.url}")
    assert (await get(node.url, "/api/version")).told == {"version": "0.9.12-rc1"}


async def test_the_version_without_an_ollama(start: Start) -> None:
    node = await start()
    assert (await get(node.url, "/api/version")).told == {"version": "0.13.3"}


# One model by its name


@pytest.mark.parametrize("name", ["llama3", "llama3:latest", "llama3%3Alatest"])
async def test_one_model(model_server: ModelServer, start: Start, name: str) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    told = (await get(node.url, f"/v1/models/{name}")).told
    assert told == {"id": "llama3:latest", "object": "model", "created": CREATED, "owned_by": "library"}


async def test_one_model_with_slashes(start: Start) -> None:
    node = await start(LLM_CF_URL="http://127.0.0.1:9/workers-ai/", LLM_CF_MODELS=LLAMA)
    assert (await get(node.url, f"/v1/models/{LLAMA}")).told["id"] == LLAMA
    assert (await get(node.url, f"/v1/models/{LLAMA.replace('/', '%2F')}")).told["id"] == LLAMA


@pytest.mark.parametrize(
    ("headers", "kind"),
    [({}, {"type": "not_found_error", "code": "model_not_found"}), (ANTHROPIC, {"type": "not_found_error"})],
)
async def test_no_such_model(start: Start, headers: dict[str, str], kind: dict[str, str]) -> None:
    node = await start(**GPT)
    answered = await get(node.url, "/v1/models/secret-name", headers=headers)
    assert answered.status == 404
    assert kind.items() <= answered.told["error"].items()
    assert "GET /v1/models lists those that are" in answered.told["error"]["message"]
    assert b"secret-name" not in answered.body


@pytest.mark.parametrize("field", ["model", "name"])
@pytest.mark.parametrize("name", ["llama3", "llama3:latest"])
async def test_show(model_server: ModelServer, start: Start, field: str, name: str) -> None:
    model_server.script("/api/show", answer({"capabilities": ["completion"]}))
    node = await start(LLM_CHAT_URL=model_server.url)
    fields = {"model": None, field: name}
    answered = await ask(node.url, "/api/show", **fields)
    assert (answered.told, answered.route) == ({"capabilities": ["completion"]}, "local:ollama")
    asked = [seen for seen in model_server.requests if seen.path == "/api/show"]
    assert asked[0].asked[field] == name


async def test_show_of_eliza(start: Start) -> None:
    node = await start(LLM_CHAT_URL="eliza")
    told = (await ask(node.url, "/api/show", "eliza")).told
    assert told["capabilities"] == ["completion"]
    assert "no" in told["modelfile"]


async def test_eliza_in_every_list(start: Start) -> None:
    node = await start(LLM_CHAT_URL="eliza")
    for path in ("/api/tags", "/api/ps", "/v1/models", "/api/v1/llm/models"):
        assert await names(node, path) == ["eliza"]
    assert await names(node, "/v1/models", headers=ANTHROPIC) == ["eliza"]
    assert (await get(node.url, "/v1/models/eliza")).told["owned_by"] == "masa-node"


# Servers that tell less, or nonsense


async def test_a_server_without_dates(model_servers: StartServer, start: Start) -> None:
    server = await model_servers(dialects=["openai", "anthropic"])
    server.script("/v1/models", answer({"data": [{"id": "tiny.gguf"}]}))
    node = await start(LLM_CHAT_URL=server.url)
    assert (await get(node.url, "/v1/models")).told["data"] == [{"id": "tiny.gguf"}]
    page = (await get(node.url, "/v1/models", headers=ANTHROPIC)).told
    assert page["data"][0]["created_at"] == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("created", [1767323045123, -(10**18), 10**18, 1.5, "yesterday", None, True])
async def test_dates_that_are_none(model_servers: StartServer, start: Start, created: object) -> None:
    """In milliseconds, say: one server's oddity must not cost the whole list."""
    server = await model_servers(dialects=["openai", "anthropic"])
    server.script("/v1/models", answer({"data": [{"id": "m", "created": created}]}))
    node = await start(LLM_CHAT_URL=server.url)
    page = await get(node.url, "/v1/models", headers=ANTHROPIC)
    assert (page.status, page.told["data"][0]["id"]) == (200, "m")


@pytest.mark.parametrize("modified", [TIME, "2026-01-02T03:04:05.123456789+01:00", "0001-01-01T00:00:00Z", "soon", 7])
async def test_dates_of_an_ollama_without_an_openai_list(
    model_servers: StartServer, start: Start, modified: object
) -> None:
    server = await model_servers(dialects=["ollama", "anthropic"])
    server.script("/api/tags", answer({"models": [model_entry("m") | {"modified_at": modified}]}))
    node = await start(LLM_CHAT_URL=server.url)
    page = await get(node.url, "/v1/models", headers=ANTHROPIC)
    assert page.told["data"][0]["created_at"] in (
        "2026-01-02T03:04:05Z",
        "2026-01-02T02:04:05Z",
        "1970-01-01T00:00:00Z",
    )
    assert await names(node, "/v1/models") == []


# When, and how


async def test_no_list_waits_for_a_slow_server(model_servers: StartServer, start: Start) -> None:
    slow, quick = await model_servers(models=["slow:latest"]), await model_servers()
    node = await start(LLM_CHAT_URL=f"{slow.url},{quick.url}")
    for path in ("/api/version", "/v1/models", "/api/tags", "/api/ps"):
        slow.script(path, Script(before_head=[HANG]))
    looking = asyncio.create_task(node.node.own.upstreams[0].refresh())
    await slow.until(lambda: any(not seen.finished.is_set() for seen in slow.requests))
    async with asyncio.timeout(0.5):
        for path in ("/api/tags", "/v1/models", "/api/v1/llm/models"):
            assert await names(node, path) == ["slow:latest", "llama3:latest"]
    looking.cancel()


async def test_a_server_that_is_down_is_not_in_the_lists(model_servers: StartServer, start: Start) -> None:
    gone, there = await model_servers(models=["gone:latest"]), await model_servers()
    node = await start(LLM_CHAT_URL=f"{gone.url},{there.url}")
    await gone.stop()
    await node.node.own.upstreams[0].refresh()
    assert await names(node, "/api/tags") == ["llama3:latest"]
    await gone.start()
    await node.node.own.upstreams[0].refresh()
    assert await names(node, "/api/tags") == ["gone:latest", "llama3:latest"]


@pytest.mark.parametrize(
    "path", ["/", "/api/tags", "/api/ps", "/api/version", "/v1/models", "/v1/models/llama3", "/api/v1/llm/models"]
)
async def test_head_is_get_without_the_body(model_server: ModelServer, start: Start, path: str) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    head, whole = await get(node.url, path, method="HEAD"), await get(node.url, path)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "Content-Type"):
        assert head.headers[name] == whole.headers[name]
