"""The node in front of a real llama.cpp engine, which it must not be told from: OpenAI's dialect, and Ollama's."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.calls import Answered, exchange, get
from tests.clients import ASYNC, SYNC, Make, async_langchain, used
from tests.engine import MODEL, SENTENCE, engine_folder, ollama_engine, openai_engine
from tests.nodes import Running, running
from tests.raw import Wire, post

pytestmark = pytest.mark.engine

USER = {"role": "user", "content": "why is the sky blue?"}
ASKED: dict[str, Any] = {"model": MODEL, "messages": [USER], "temperature": 0}
OPENAI, OLLAMA = "/v1/chat/completions", "/api/chat"
VOLATILE = {"id", "created", "created_at", "total_duration"}
"""What differs from one answer of an engine to the next."""


def kept_running(engine: AbstractAsyncContextManager[str]) -> Iterator[str]:
    """The engine's URL, for all tests of this file: it takes seconds to start."""
    engine_folder()  # or the test is skipped
    with asyncio.Runner() as runner:
        url = runner.run(engine.__aenter__())
        try:
            yield url
        finally:
            runner.run(engine.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def openai_url() -> Iterator[str]:
    yield from kept_running(openai_engine())


@pytest.fixture(scope="module")
def ollama_url() -> Iterator[str]:
    yield from kept_running(ollama_engine())


@pytest.fixture
def urls(openai_url: str, ollama_url: str) -> dict[str, str]:
    return {OPENAI: openai_url, OLLAMA: ollama_url}


@pytest.fixture
async def node(urls: dict[str, str], tmp_path: Path) -> AsyncIterator[Running]:
    """With both engines behind it."""
    async with running(tmp_path, LLM_CHAT_URL=",".join(urls.values())) as node:
        yield node


async def ask(url: str, path: str, **fields: Any) -> Answered:
    return await exchange("POST", url, path, None, json.dumps({**ASKED, **fields}).encode())


def units(answered: Answered) -> list[Any]:
    """The JSON in an answer, one for each unit of a stream, without what changes each time."""
    lines = [line.removeprefix("data: ") for line in answered.body.decode().splitlines() if line]
    return [
        line if line == "[DONE]" else {key: value for key, value in json.loads(line).items() if key not in VOLATILE}
        for line in lines
    ]


def text(unit: Any) -> str:
    if "message" in unit:
        return unit["message"]["content"]
    choice = unit["choices"][0]
    return choice.get("message", choice.get("delta", {})).get("content") or ""


async def test_what_they_speak_is_found(node: Running) -> None:
    first, second = node.node.own.upstreams
    assert (first.dialects, list(first.models)) == ({"openai"}, [MODEL])
    assert (second.dialects, list(second.models), second.version) == ({"ollama"}, [f"{MODEL}:latest"], "0.13.0")
    listed = (await get(node.url, "/api/v1/llm/models")).told["models"]
    assert [(model["name"], model["dialects"]) for model in listed] == [
        (MODEL, ["openai"]),
        (f"{MODEL}:latest", ["ollama"]),
    ]


@pytest.mark.parametrize("path", [OPENAI, OLLAMA])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_is_the_engines(node: Running, urls: dict[str, str], path: str, stream: bool) -> None:
    direct, through = await ask(urls[path], path, stream=stream), await ask(node.url, path, stream=stream)
    assert units(through) == units(direct)
    assert through.headers["Content-Type"] == direct.headers["Content-Type"]
    for framing in ("Content-Length", "Transfer-Encoding"):
        assert (framing in through.headers) is (framing in direct.headers)
    said = [text(unit) for unit in units(through) if unit != "[DONE]"]
    assert "".join(said).strip() == SENTENCE
    assert len(said) > len(SENTENCE.split()) if stream else len(said) == 1


@pytest.mark.parametrize("path", ["/v1/api/chat", "/api/v1/chat"])
async def test_the_missions_doors(node: Running, path: str) -> None:
    assert text(units(await ask(node.url, path, stream=False))[0]).strip() == SENTENCE


@pytest.mark.parametrize("path", [OPENAI, OLLAMA])
async def test_it_comes_token_by_token(node: Running, path: str) -> None:
    async with Wire(node.port, timeout=20) as wire:
        await wire.send(post(node.port, path, json.dumps({**ASKED, "stream": True}).encode()))
        await wire.read_head()
        pieces = []
        while piece := await wire.read_piece():
            pieces.append(piece)
    assert len(pieces) > 2
    assert b"The" in b"".join(pieces[:3])
    assert b"most" not in pieces[0]


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        (OPENAI, {"model": "no-such-model"}, 200),
        (OPENAI, {"messages": []}, 200),
        (OPENAI, {"messages": "why?"}, 500),
        (OPENAI, {"temperature": "hot"}, 500),
        (OLLAMA, {"model": "no-such-model"}, 404),
        (OLLAMA, {"messages": "why?"}, 200),
    ],
)
async def test_its_quirks_are_relayed(
    node: Running, urls: dict[str, str], path: str, fields: dict[str, Any], status: int
) -> None:
    fields = {"stream": False, **fields}
    direct, through = await ask(urls[path], path, **fields), await ask(node.url, path, **fields)
    assert (through.status, direct.status) == (status, status)
    assert through.headers["Content-Type"] == direct.headers["Content-Type"]
    if direct.headers["Content-Type"].startswith("application/json"):
        assert units(through) == units(direct)
    else:
        assert through.body == direct.body


async def test_what_is_no_json_is_refused_by_the_node(node: Running) -> None:
    """It cannot be routed; the engine itself would say 500."""
    answered = await exchange("POST", node.url, OPENAI, None, b'{"model":')
    assert (answered.status, answered.told["error"]["code"]) == (400, "invalid_body")


@pytest.mark.parametrize("path", [OPENAI, OLLAMA])
async def test_leaving_frees_the_engine(node: Running, path: str) -> None:
    for _ in range(3):
        async with Wire(node.port, timeout=20) as wire:
            await wire.send(post(node.port, path, json.dumps({**ASKED, "stream": True}).encode()))
            await wire.read_head()
            await wire.read_piece()
            wire.reset()
    begun = time.monotonic()
    assert (await ask(node.url, path, stream=False)).status == 200
    assert time.monotonic() - begun < 5
    assert all(upstream.places.taken == 0 for upstream in node.node.own.upstreams)


@pytest.mark.parametrize("path", [OPENAI, OLLAMA])
async def test_eight_at_once(node: Running, path: str) -> None:
    answers = await asyncio.gather(*(ask(node.url, path, stream=number % 2 == 0) for number in range(8)))
    for answered in answers:
        assert answered.status == 200
        assert "".join(text(unit) for unit in units(answered) if unit != "[DONE]").strip() == SENTENCE


@pytest.mark.parametrize("how", [SYNC, ASYNC], ids=["sync", "async"])
async def test_the_official_clients(node: Running, how: dict[str, Make]) -> None:
    async def use(package: str, use: Any) -> Any:
        return await used(how, package, node.url, use)

    chat = await use("ollama", lambda c: c.chat(MODEL, [USER], options={"temperature": 0}))
    assert chat["message"]["content"].strip() == SENTENCE
    parts = await use("ollama", lambda c: c.chat(MODEL, [USER], stream=True))
    assert "".join(part["message"]["content"] for part in parts).strip() == SENTENCE
    listed = await use("ollama", lambda c: c.list())
    assert [model["model"] for model in listed["models"]] == [f"{MODEL}:latest"]
    whole = await use("openai", lambda c: c.chat.completions.create(**ASKED))
    assert whole["choices"][0]["message"]["content"].strip() == SENTENCE
    assert whole["usage"]["completion_tokens"] > 10
    parts = await use("openai", lambda c: c.chat.completions.create(**ASKED, stream=True))
    assert "".join(part["choices"][0]["delta"]["content"] or "" for part in parts).strip() == SENTENCE
    completed = await use("openai", lambda c: c.completions.create(model=MODEL, prompt="The", temperature=0))
    assert "sky is blue" in completed["choices"][0]["text"]
    assert [model["id"] for model in (await use("openai", lambda c: c.models.list()))["data"]] == [MODEL]


async def test_langchain(node: Running) -> None:
    async with async_langchain(node.url) as made:
        for package in ("ollama", "openai"):
            assert (await made[package].ainvoke("why is the sky blue?")).content.strip() == SENTENCE
            parts = [part.content async for part in made[package].astream("why is the sky blue?")]
            assert "".join(parts).strip() == SENTENCE
