"""The official clients, pointed at a node by base URL alone, get what they would get from the model server itself."""

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.clients import ASYNC, SYNC, Make, Use, async_langchain, langchain, plain, used
from tests.fakes import DIE, NDJSON, SSE, ModelServer, Script
from tests.nodes import Running, running
from tests.scripts import refusal

USER = {"role": "user", "content": "why is the sky blue?"}
MESSAGES = [{"role": "system", "content": "Be brief."}, USER]
TOOL = {"type": "function", "function": {"name": "sky", "parameters": {"type": "object", "properties": {}}}}

OLLAMA: dict[str, Use] = {
    "chat": lambda c: c.chat("llama3", MESSAGES),
    "chat, streamed": lambda c: c.chat("llama3", MESSAGES, stream=True, options={"temperature": 0}),
    "chat with tools": lambda c: c.chat("llama3", MESSAGES, tools=[TOOL], keep_alive="1m", think=False),
    "generate": lambda c: c.generate("llama3", USER["content"]),
    "generate, streamed": lambda c: c.generate("llama3:latest", USER["content"], stream=True),
    "embed": lambda c: c.embed("llama3", ["a", "b"]),
    "embeddings": lambda c: c.embeddings("llama3", "a"),
    "list": lambda c: c.list(),
    "ps": lambda c: c.ps(),
    "show": lambda c: c.show("llama3"),
}
OPENAI: dict[str, Use] = {
    "chat": lambda c: c.chat.completions.create(model="llama3", messages=MESSAGES),
    "chat, streamed": lambda c: c.chat.completions.create(
        model="llama3", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ),
    "completions": lambda c: c.completions.create(model="llama3", prompt=USER["content"]),
    "completions, streamed": lambda c: c.completions.create(model="llama3", prompt="a", stream=True),
    "embeddings": lambda c: c.embeddings.create(model="llama3", input=["a", "b"], encoding_format="float"),
    "responses": lambda c: c.responses.create(model="llama3", input=USER["content"]),
    "responses, streamed": lambda c: c.responses.create(model="llama3", input=USER["content"], stream=True),
    "models": lambda c: c.models.list(),
    "a model": lambda c: c.models.retrieve("llama3:latest"),
}
ASKED = {"model": "llama3", "messages": [USER]}
ANTHROPIC: dict[str, Use] = {
    "messages": lambda c: c.messages.create(**ASKED, max_tokens=9, system="Be brief."),
    "messages, streamed": lambda c: c.messages.create(**ASKED, max_tokens=9, stream=True),
    "beta": lambda c: c.beta.messages.create(**ASKED, max_tokens=9, betas=["context-1m-2025-08-07"]),
    "count_tokens": lambda c: c.messages.count_tokens(**ASKED),
}
USES = {"ollama": OLLAMA, "openai": OPENAI, "anthropic": ANTHROPIC}
EVERY = [pytest.param(name, what, id=f"{name} {what}") for name, uses in USES.items() for what in uses]
CHAT = {name: uses["messages" if name == "anthropic" else "chat"] for name, uses in USES.items()}
STREAM = {name: uses["messages, streamed" if name == "anthropic" else "chat, streamed"] for name, uses in USES.items()}
both = pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
each = pytest.mark.parametrize("package", USES)


# The model server behind the node


@both
@pytest.mark.parametrize(("package", "what"), EVERY)
async def test_the_node_makes_no_difference(
    node: Running, model_server: ModelServer, how: dict[str, Make], package: str, what: str
) -> None:
    direct = await used(how, package, model_server.url, USES[package][what])
    through = await used(how, package, node.url, USES[package][what])
    assert through == direct
    assert through
    assert isinstance(through, list) is what.endswith("streamed")
    sent = [seen for seen in model_server.requests if seen.method == "POST" and seen.body != b"{}"]
    if sent:
        first, second = sent[-2:]
        assert (second.target, second.body) == (first.target, first.body)


@both
async def test_anthropics_list_is_in_its_own_shape(node: Running, how: dict[str, Make]) -> None:
    """The fake model server has OpenAI's alone."""
    listed = await used(how, "anthropic", node.url, lambda c: c.models.list())
    assert [(model["id"], model["type"]) for model in listed["data"]] == [("llama3:latest", "model")]
    one = await used(how, "anthropic", node.url, lambda c: c.models.retrieve("llama3"))
    assert one["display_name"] == "llama3:latest"


async def test_langchain(node: Running, model_server: ModelServer) -> None:
    def all_of_it(url: str) -> Any:
        with langchain(url) as made:
            chats = [made["ollama"], made["openai"]]
            embeddings = [made["ollama embeddings"], made["openai embeddings"]]
            return (
                [plain(chat.invoke("why is the sky blue?")) for chat in chats],
                [plain(chat.stream("why is the sky blue?")) for chat in chats],
                [chat.invoke("why?").content for chat in chats],
                [one.embed_documents(["a", "b"]) for one in embeddings],
            )

    direct = await asyncio.to_thread(all_of_it, model_server.url)
    assert await asyncio.to_thread(all_of_it, node.url) == direct
    assert direct[2] == ["Hello", "Hello"]


@pytest.mark.parametrize("package", ["ollama", "openai"])
async def test_langchain_async(node: Running, model_server: ModelServer, package: str) -> None:
    async def all_of_it(url: str) -> Any:
        async with async_langchain(url) as made:
            whole = plain(await made[package].ainvoke("why is the sky blue?"))
            return whole, [plain(part) async for part in made[package].astream("why is the sky blue?")]

    through = await all_of_it(node.url)
    assert through == await all_of_it(model_server.url)
    assert through[0]["content"] == "".join(part["content"] for part in through[1]) == "Hello"


# Errors


@both
@pytest.mark.parametrize(
    ("status", "openais", "anthropics"),
    [
        (400, openai.BadRequestError, anthropic.BadRequestError),
        (403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
        (404, openai.NotFoundError, anthropic.NotFoundError),
        (429, openai.RateLimitError, anthropic.RateLimitError),
        (500, openai.InternalServerError, anthropic.InternalServerError),
        (503, openai.InternalServerError, anthropic.InternalServerError),
    ],
)
async def test_the_upstreams_own_errors(
    node: Running,
    model_server: ModelServer,
    how: dict[str, Make],
    status: int,
    openais: type[openai.APIStatusError],
    anthropics: type[anthropic.APIStatusError],
) -> None:
    kinds = {"ollama": ollama.ResponseError, "openai": openais, "anthropic": anthropics}
    for package, kind in kinds.items():
        for uses in (CHAT, STREAM):
            model_server.next(refusal(package, status, "own words"))
            with pytest.raises(kind, match="own words") as raised:
                await used(how, package, node.url, uses[package])
            assert raised.value.status_code == status


@both
async def test_an_unknown_model(node: Running, how: dict[str, Make]) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'qwen3' not found") as raised:
        await used(how, "ollama", node.url, lambda c: c.chat("qwen3", [USER]))
    assert raised.value.status_code == 404
    with pytest.raises(openai.NotFoundError, match="model 'qwen3' not found"):
        await used(how, "openai", node.url, lambda c: c.chat.completions.create(model="qwen3", messages=[USER]))
    with pytest.raises(openai.NotFoundError, match="no model of this name is served here"):
        await used(how, "openai", node.url, lambda c: c.models.retrieve("qwen3"))
    with pytest.raises(anthropic.NotFoundError, match="no model of this name is served here"):
        await used(how, "anthropic", node.url, lambda c: c.models.retrieve("qwen3"))


@both
@each
async def test_the_nodes_own_errors(tmp_path: Path, how: dict[str, Make], package: str) -> None:
    """Each client's own class, with the remedy in its text."""
    kinds: dict[str, type[Any]] = {
        "ollama": ollama.ResponseError,
        "openai": openai.InternalServerError,
        "anthropic": anthropic.InternalServerError,
    }
    async with running(tmp_path) as node:
        with pytest.raises(kinds[package], match="Start Ollama") as raised:
            await used(how, package, node.url, CHAT[package])
    assert raised.value.status_code == 503


@both
@each
async def test_keys(model_server: ModelServer, tmp_path: Path, how: dict[str, Make], package: str) -> None:
    """Each client sends its own key in its own way."""
    kinds: dict[str, type[Any]] = {
        "ollama": ollama.ResponseError,
        "openai": openai.AuthenticationError,
        "anthropic": anthropic.AuthenticationError,
    }
    async with running(tmp_path, LLM_CHAT_URL=model_server.url, API_KEYS="right-key,other-key") as node:
        assert await used(how, package, node.url, CHAT[package], key="right-key")
        with pytest.raises(kinds[package]) as raised:
            await used(how, package, node.url, CHAT[package], key="wrong-key")
    assert raised.value.status_code == 401
    assert len(model_server.inferences) == 1
    assert "right-key" not in str(model_server.inferences[0].headers)


BROKEN = {
    "ollama": (NDJSON, b'{"model":"llama3","message":{"role":"assistant","content":"Hel"},"done":false}\n', b'{"mod'),
    "openai": (SSE, b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n', b'data: {"id'),
    "anthropic": (SSE, b'event: ping\ndata: {"type":"ping"}\n\n', b"event: content_bl"),
}
"""Of each stream a whole unit, and a part of one."""
LATE = {"ollama": ollama.ResponseError, "openai": openai.APIError, "anthropic": anthropic.APIError}


@both
@each
async def test_a_stream_that_breaks_off_raises(
    node: Running, model_server: ModelServer, how: dict[str, Make], package: str
) -> None:
    """Between two units each client raises its own class; within one, some choke on the part that came."""
    headers, unit, part = BROKEN[package]
    model_server.next(Script(headers=headers, chunks=[unit, DIE]))
    with pytest.raises(LATE[package], match="ollama broke off its answer"):
        await used(how, package, node.url, STREAM[package])
    model_server.next(Script(headers=headers, chunks=[unit, part, DIE]))
    with pytest.raises((LATE[package], ValueError)):
        await used(how, package, node.url, STREAM[package])


# eliza behind the node


@both
async def test_eliza(tmp_path: Path, how: dict[str, Make]) -> None:
    async with running(tmp_path, LLM_CHAT_URL="eliza") as node:

        async def use(package: str, what: Use) -> Any:
            return await used(how, package, node.url, what)

        chat = await use("ollama", lambda c: c.chat("eliza", [USER]))
        said = chat["message"]["content"]
        assert "no language model" in said
        parts = await use("ollama", lambda c: c.generate("eliza", USER["content"], stream=True))
        assert "".join(part["response"] for part in parts) == said
        assert [model["model"] for model in (await use("ollama", lambda c: c.list()))["models"]] == ["eliza"]
        assert (await use("ollama", lambda c: c.show("eliza")))["capabilities"] == ["completion"]
        answered = await use("openai", lambda c: c.responses.create(model="eliza", input=USER["content"]))
        assert answered["output"][0]["content"][0]["text"] == said
        create = {"model": "eliza", "messages": [USER]}
        parts = await use("openai", lambda c: c.chat.completions.create(**create, stream=True))
        assert "".join(part["choices"][0]["delta"]["content"] or "" for part in parts) == said
        message = await use("anthropic", lambda c: c.messages.create(**create, max_tokens=99))
        assert message["content"][0]["text"] == said
        assert (await use("anthropic", lambda c: c.messages.count_tokens(**create)))["input_tokens"] == 5
        assert [model["id"] for model in (await use("anthropic", lambda c: c.models.list()))["data"]] == ["eliza"]
