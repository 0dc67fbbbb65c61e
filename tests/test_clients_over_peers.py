"""The official clients in front of a node without any model: a peer's model server answers, byte for byte."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anthropic
import ollama
import openai
import pytest
from anyio.from_thread import start_blocking_portal

from tests import test_clients
from tests.calls import exchange
from tests.clients import Make, Use, used
from tests.fakes import DIE, SSE, ModelServer, Script, Seen, answer
from tests.fleet import fleet
from tests.nodes import Running
from tests.scripts import CREATED, TIME, refusal
from tests.test_clients import BROKEN, CHAT, EVERY, LATE, STREAM, TOOL, USER, USES, both, each
from tests.test_clients import test_langchain as test_langchain
from tests.test_clients import test_langchain_async as test_langchain_async

LISTS = {"list", "ps", "models", "a model"}
ASKING = [param for param in EVERY if param.values[1] not in LISTS]
"""What goes to a model server; lists are this node's own, of what its peers have told."""
PICTURE = "iVBORw0KGgo" * 30_000
"""In base64; with it a body is too large to go to several peers at once."""


class World(NamedTuple):
    """A node without a model, and the model server behind its peer."""

    node: Running
    models: ModelServer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On a loop of its own, in a thread: it takes a second to start, and each test has a loop of its own."""

    @asynccontextmanager
    async def started() -> AsyncIterator[World]:
        async with (
            ModelServer() as models,
            fleet(tmp_path_factory.mktemp("fleet"), {}, {"LLM_CHAT_URL": models.url}) as nodes,
        ):
            yield World(nodes[0], models)

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(started()) as world:
        yield world


@pytest.fixture
def node(world: World) -> Running:
    return world.node


@pytest.fixture
def model_server(world: World) -> ModelServer:
    return world.models


async def said(url: str, target: str, body: bytes) -> tuple[int, str, str]:
    """Status, content type, and a hash of the body."""
    answered = await exchange("POST", url, target, None, body)
    return answered.status, answered.headers["Content-Type"], hashlib.sha256(answered.body).hexdigest()


async def same_bytes(world: World, seen: Seen) -> None:
    """A request that a client made gets the same answer through the node, to the byte."""
    direct = await said(world.models.url, seen.target, seen.body)
    assert await said(world.node.url, seen.target, seen.body) == direct
    assert (world.models.requests[-1].target, world.models.requests[-1].body) == (seen.target, seen.body)


def posts(server: ModelServer) -> list[Seen]:
    return [seen for seen in server.requests if seen.method == "POST" and seen.body != b"{}"]


# What a model server answers


@both
@pytest.mark.parametrize(("package", "what"), ASKING)
async def test_the_peer_makes_no_difference(world: World, how: dict[str, Make], package: str, what: str) -> None:
    before = len(posts(world.models))
    await test_clients.test_the_node_makes_no_difference(world.node, world.models, how, package, what)
    assert len(posts(world.models)) == before + 2
    await same_bytes(world, posts(world.models)[-1])


CALL = {"name": "sky", "arguments": {"at": "noon"}}
"""A tool's, as Ollama writes it."""


def ollama_line(message: dict[str, object], *, done: bool) -> dict[str, object]:
    return {"model": "llama3", "created_at": TIME, "message": {"role": "assistant", "content": "", **message}} | (
        {"done": True, "done_reason": "stop"} if done else {"done": False}
    )


def openai_object(kind: str, choice: dict[str, object]) -> dict[str, object]:
    made = {"id": "c1", "object": f"chat.completion{kind}", "created": CREATED, "model": "llama3"}
    return {**made, "choices": [{"index": 0, "finish_reason": None, **choice}]}


def message(**changes: object) -> dict[str, object]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    made = {"id": "m1", "type": "message", "role": "assistant", "model": "llama3", "usage": usage, "content": []}
    return {**made, "stop_reason": None, "stop_sequence": None, **changes}


def lines(*units: dict[str, object]) -> Script:
    return Script(chunks=[piece(unit) + b"\n" for unit in units])


def events(*units: dict[str, object], end: bytes = b"") -> Script:
    named = [(b"event: %b\n" % str(unit["type"]).encode() if "type" in unit else b"", piece(unit)) for unit in units]
    return Script(headers=SSE, chunks=[*(name + b"data: " + data + b"\n\n" for name, data in named), end])


def piece(unit: dict[str, object]) -> bytes:
    (body,) = answer(unit).chunks
    assert isinstance(body, bytes)
    return body


OPENAI_CALL = {"id": "t1", "type": "function", "function": {"name": "sky", "arguments": '{"at":"noon"}'}}
TOOL_USE = {"type": "tool_use", "id": "t1", "name": "sky", "input": {}}
TOOLS: dict[str, tuple[dict[str, Any], Script, Script]] = {
    "ollama": (
        {"tools": [TOOL]},
        answer(ollama_line({"tool_calls": [{"function": CALL}]}, done=True)),
        lines(ollama_line({"tool_calls": [{"function": CALL}]}, done=False), ollama_line({}, done=True)),
    ),
    "openai": (
        {"tools": [TOOL]},
        answer(openai_object("", {"message": {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]}})),
        events(
            openai_object(".chunk", {"delta": {"role": "assistant", "content": None}}),
            openai_object(".chunk", {"delta": {"tool_calls": [{"index": 0, **OPENAI_CALL}]}}),
            openai_object(".chunk", {"delta": {}, "finish_reason": "tool_calls"}),
            end=b"data: [DONE]\n\n",
        ),
    ),
    "anthropic": (
        {"tools": [{"name": "sky", "input_schema": {"type": "object", "properties": {}}}]},
        answer(message(content=[TOOL_USE], stop_reason="tool_use")),
        events(
            {"type": "message_start", "message": message()},
            {"type": "content_block_start", "index": 0, "content_block": TOOL_USE},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ),
    ),
}
"""Of each package: what it asks with, and an answer that is nothing but a tool call, whole and as a stream."""
PICTURED: dict[str, object] = {
    "ollama": {"role": "user", "content": "what is this?", "images": [PICTURE]},
    "openai": {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}],
    },
    "anthropic": {
        "role": "user",
        "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
        ],
    },
}


def chat(package: str, *, said: object = USER, stream: bool = False, **more: Any) -> Use:
    asked = {"model": "llama3", "messages": [said], "stream": stream, **more}
    match package:
        case "ollama":
            return lambda c: c.chat(**asked)
        case "openai":
            return lambda c: c.chat.completions.create(**asked)
    return lambda c: c.messages.create(**asked, max_tokens=9)


@both
@each
@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls(world: World, how: dict[str, Make], package: str, stream: bool) -> None:
    tools, whole, streamed = TOOLS[package]
    world.models.next(*[streamed if stream else whole] * 4)
    use = chat(package, stream=stream, **tools)
    direct = await used(how, package, world.models.url, use)
    assert await used(how, package, world.node.url, use) == direct
    assert "'sky'" in str(direct)
    await same_bytes(world, posts(world.models)[-1])


@both
@each
async def test_pictures(world: World, how: dict[str, Make], package: str) -> None:
    use = chat(package, said=PICTURED[package])
    direct = await used(how, package, world.models.url, use)
    assert await used(how, package, world.node.url, use) == direct
    first, second = posts(world.models)[-2:]
    assert PICTURE.encode() in first.body
    assert second.body == first.body
    await same_bytes(world, second)


# The lists


@both
async def test_the_lists(world: World, how: dict[str, Make]) -> None:
    """With all that a peer tells of its models."""

    async def listed(package: str, use: Use, url: str = world.node.url) -> Any:
        return await used(how, package, url, use)

    for what in ("list", "ps"):
        (direct,) = (await listed("ollama", USES["ollama"][what], world.models.url))["models"]
        (told,) = (await listed("ollama", USES["ollama"][what]))["models"]
        for name in ("model", "digest", "size"):
            assert told[name] == direct[name]
    (model,) = (await listed("openai", USES["openai"]["models"]))["data"]
    assert model == await listed("openai", USES["openai"]["a model"])
    assert model["id"] == "llama3:latest"
    assert [one["id"] for one in (await listed("anthropic", lambda c: c.models.list()))["data"]] == ["llama3:latest"]


# Errors


@both
@each
@pytest.mark.parametrize("stream", [False, True])
async def test_a_peers_own_word_on_the_question(world: World, how: dict[str, Make], package: str, stream: bool) -> None:
    kinds: dict[str, type[Any]] = {
        "ollama": ollama.ResponseError,
        "openai": openai.BadRequestError,
        "anthropic": anthropic.BadRequestError,
    }
    world.models.next(*[refusal(package, 400, "own words")] * 3)
    with pytest.raises(kinds[package], match="own words") as raised:
        await used(how, package, world.node.url, (STREAM if stream else CHAT)[package])
    assert raised.value.status_code == 400
    await same_bytes(world, posts(world.models)[-1])


@both
@each
async def test_when_no_peer_answers(world: World, how: dict[str, Make], package: str) -> None:
    """Each client's own class, with every peer's reason in its text."""
    kinds: dict[str, type[Any]] = {
        "ollama": ollama.ResponseError,
        "openai": openai.InternalServerError,
        "anthropic": anthropic.InternalServerError,
    }
    for uses in (CHAT, STREAM):
        world.models.next(refusal(package, 500, "own words"))
        with pytest.raises(kinds[package], match=r"no peer has answered: n1-\w{6} \(failed: ") as raised:
            await used(how, package, world.node.url, uses[package])
        assert raised.value.status_code == 502


@both
@each
async def test_a_stream_that_breaks_off_raises(world: World, how: dict[str, Make], package: str) -> None:
    headers, *_ = BROKEN[package]
    whole = TOOLS[package][2].chunks
    world.models.next(Script(headers=headers, chunks=[*whole[:2], DIE]))
    with pytest.raises(LATE[package], match="the peer n1"):
        await used(how, package, world.node.url, STREAM[package])
