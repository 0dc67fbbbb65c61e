"""Paths, methods and models that are not there; and which dialect an error is told in."""

import pytest

from handlers.middlewares.errors import dialect_of, error_body
from peers.errors import MasaError
from tests.asking import ask
from tests.nodes import running
from tests.raw import request
from tests.shapes import ANTHROPIC, OPENAI, SECRET, check, usual_type

GOOD = '{"model":"llama3","stream":false,"prompt":"c4nary"}'


@pytest.mark.parametrize(
    ("path", "says"),
    [("/chat/completions", "/v1"), ("/v1/v1/models", "/v1"), ("/v1/v1/chat/completions", "/v1"), ("/chat", "/v1"),
     ("/api/api/tags", "http://HOST:PORT"), ("/messages", "/v1"), ("/models", "/v1"), ("/v1/c4nary", "/docs"),
     ("/c4nary", "/docs"), ("/api/c4nary", "/docs"), ("/v1/messages/c4nary", "/docs"),
     ("/api/v1/c4nary", "base URL")],
)  # fmt: skip
async def test_a_path_that_is_not_there(tmp_path, path, says):
    async with running(tmp_path) as node:
        for method in ("GET", "POST"):
            data = request(method, node.port, path, GOOD.encode() if method == "POST" else b"", SECRET)
            assert says in check(await ask(node.port, data), path, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/api/chat", "POST"), ("DELETE", "/v1/messages", "POST"), ("PUT", "/v1/chat/completions", "POST"),
     ("POST", "/v1/models", "GET,HEAD"), ("POST", "/api/v1/node", "GET,HEAD"), ("POST", "/health", "GET,HEAD"),
     ("OPTIONS", "/v1/api/chat", "POST")],
)  # fmt: skip
async def test_a_method_that_is_not_taken(tmp_path, method, path, allow):
    async with running(tmp_path) as node:
        answer = await ask(node.port, request(method, node.port, path, headers=SECRET))
        text = check(answer, path, 405, "method_not_allowed")
        assert answer.headers.get("Allow") == allow
        assert allow.partition(",")[0] in text


@pytest.mark.parametrize("name", ["pull", "push", "create", "copy", "delete", "blobs/sha256:c4nary"])
async def test_models_are_not_managed_here(tmp_path, model_server, name):
    async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node:
        for method in ("POST", "DELETE", "GET"):
            data = request(method, node.port, f"/api/{name}", GOOD.encode() if method == "POST" else b"", SECRET)
            assert "ollama pull" in check(await ask(node.port, data), "any", 403, "forbidden")
        assert not [seen for seen in model_server.requests if name in seen.path]


async def test_a_model_that_is_not_there(tmp_path, model_server):
    async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node:
        path = "/v1/models/c4nary"
        answer = await ask(node.port, request("GET", node.port, path, headers=SECRET))
        assert "/v1/models" in check(answer, path, 404, "model_not_found")
        answer = await ask(node.port, request("GET", node.port, path, headers={"anthropic-version": "2023-06-01"}))
        assert "/v1/models" in check(answer, "/v1/messages", 404, "model_not_found")


async def test_only_cloudflares_models_at_its_path(tmp_path, model_server):
    path = "/api/v1/chat/cf"
    async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node:
        answer = await ask(node.port, request("POST", node.port, path, b'{"model":"c4nary"}', SECRET))
        assert "@cf/" in check(answer, path, 400, "invalid_model")
        answer = await ask(node.port, request("POST", node.port, path, b'{"model":"@cf/a/c4nary"}', SECRET))
        assert "LLM_CF_URL" in check(answer, path, 503, "no_upstream")


@pytest.mark.parametrize(
    ("path", "version", "dialect"),
    [("/v1/messages", None, "anthropic"), ("/v1/messages/count_tokens", None, "anthropic"),
     ("/v1/models", "x", "anthropic"), ("/v1/models", None, "openai"), ("/v1/chat/completions", "x", "openai"),
     ("/v1/nowhere", None, "openai"), ("/v1/api/chat", None, "any"), ("/api/v1/chat", None, "any"),
     ("/api/tags", None, "any"), ("/", None, "any")],
)  # fmt: skip
def test_dialects(path, version, dialect):
    assert dialect_of(path, version) == dialect


@pytest.mark.parametrize("status", [400, 403, 408, 413, 415, 417, 418, 429, 431, 500, 502, 503, 504, 508])
def test_every_status_has_a_type_in_every_dialect(status):
    error = MasaError(status, "some_code", "text")
    assert error_body(error, "any", "id") == error_body(error, "ollama", "id") == {"error": "text", "code": "some_code"}
    assert error_body(error, "openai", "id")["error"]["type"] == OPENAI.get(status, usual_type(status))
    assert error_body(error, "anthropic", "id")["error"]["type"] == ANTHROPIC.get(status, usual_type(status))
