"""Cloudflare behind a peer: a node without any model gets its answers, byte for byte."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clients import ASYNC, SYNC, used
from tests.fakes import SSE, ModelServer, Script, answer
from tests.fleet import fleet
from tests.nodes import Running
from tests.test_clients_over_peers import TOOLS, chat, said

REST = "/client/v4/accounts/0123456789abcdef/ai"
GATEWAY = "/v1/0123456789abcdef/masa/workers-ai"
LLAMA, BGE = "@cf/meta/llama-3.1-8b-instruct", "@cf/baai/bge-m3"
LIST = {"success": True, "result": [{"name": LLAMA}, {"name": BGE}], "errors": []}
TOLD = {"response": "Hello", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
ENVELOPE = {"result": TOLD, "success": True, "errors": [], "messages": []}
VECTORS = {"result": {"shape": [1, 3], "data": [[0.25, -0.5, 0.75]], "pooling": "cls"}, "success": True, "errors": []}
STREAM = Script(
    headers=SSE,
    chunks=[
        b'data: {"response":"Hel","p":"abdefghijkl"}\n\n',
        b'data: {"response":"lo","p":"abd"}\n\n',
        b'data: {"response":"","usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
    ],
)
MISSION = ("/v1/api/chat", "/api/v1/chat", "/api/v1/chat/cf")
NATIVE = (
    (LLAMA, b'{"model":"%b", "prompt": "why?"}', answer(ENVELOPE)),
    (LLAMA, b'{"model":"%b","prompt":"why?","stream":true}', STREAM),
    (BGE, b'{"model":"%b","text":["a"]}', answer(VECTORS)),
)
"""Of a model, what is asked and answered."""


@pytest.fixture
async def node(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[Running]:
    """Without a model; `model_server` is Cloudflare."""
    model_server.script(f"{REST}/models/search", answer(LIST))
    cloudflare = {"LLM_CF_URL": f"{model_server.url}{REST}/run/", "LLM_CF_TOKEN": "tok", "PEER_SERVE": "cloudflare"}
    async with fleet(tmp_path, {}, cloudflare) as nodes:
        yield nodes[0]


async def test_the_native_door(node: Running, model_server: ModelServer) -> None:
    for model, asked, script in NATIVE:
        body, target = asked % model.encode(), f"{REST}/run/{model}"
        model_server.script(target, script)
        direct = await said(model_server.url, target, body)
        for path in MISSION:
            assert await said(node.url, path, body) == direct
            seen = model_server.requests[-1]
            assert (seen.target, seen.body, seen.headers.get("Authorization")) == (target, body, "Bearer tok")


async def test_the_openai_face(node: Running, model_server: ModelServer) -> None:
    target = f"{REST}/v1/chat/completions"
    _, *scripts = TOOLS["openai"]
    for stream, script in zip((False, True), scripts, strict=True):
        model_server.script(target, script)
        use = chat("openai", model=LLAMA, stream=stream)
        for how in (SYNC, ASYNC):
            assert "'sky'" in str(await used(how, "openai", node.url, use))
            seen = model_server.requests[-1]
            assert seen.target == target
            direct = await said(model_server.url, target, seen.body)
            assert await said(node.url, "/v1/chat/completions", seen.body) == direct


@pytest.mark.parametrize(
    ("url", "target"), [(GATEWAY, f"{GATEWAY}/{LLAMA}"), ("/api/v1/chat", "/api/v1/chat")], ids=["gateway", "worker"]
)
async def test_what_has_no_list_answers_from_the_first(
    model_server: ModelServer, tmp_path: Path, url: str, target: str
) -> None:
    model_server.script(target, answer(ENVELOPE))
    cloudflare = {"LLM_CF_URL": model_server.url + url, "LLM_CF_MODELS": LLAMA, "PEER_SERVE": "cloudflare"}
    body = b'{"model":"%b","prompt":"why?"}' % LLAMA.encode()
    async with fleet(tmp_path, {}, cloudflare) as nodes:
        assert await said(nodes[0].url, "/v1/api/chat", body) == await said(model_server.url, target, body)
