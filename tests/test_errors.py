"""Every error of the node's own that one node can meet, provoked: status, code, the path's dialect, and what to do.

Each request carries a canary; nothing of it is in any error.
"""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from handlers import chat
from masa_node import server as shell
from tests.asking import ask, read_answer
from tests.fakes import DIE, HANG, RESET, ModelServer, Script
from tests.nodes import running
from tests.raw import Wire, request
from tests.shapes import CANARY, DOORS, SECRET, check

SHORT = 0.1
GOOD = '{"model":"llama3","stream":false,"prompt":"c4nary"}'


@dataclass(frozen=True)
class Wrong:
    """A request that fails, and how."""

    status: int
    code: str
    says: tuple[str, ...]
    """What is wrong, where, or the remedy."""
    body: str = GOOD
    headers: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    script: Script | None = None
    """Of the upstream."""
    retry_after: bool = False


WRONG = {
    "not JSON": Wrong(400, "invalid_body", ("not JSON", "character 1"), "c4nary"),
    "no object": Wrong(400, "invalid_body", ("JSON object",), '["c4nary"]'),
    "no body": Wrong(400, "invalid_body", ("missing",), ""),
    "no model": Wrong(400, "invalid_body", ("`model`", "/api/v1/llm/models"), '{"c4nary":1}'),
    "a model that is no string": Wrong(400, "invalid_body", ("`model` is not a string",), '{"model":["c4nary"]}'),
    "a case variant": Wrong(400, "invalid_body", ("`stream`", "lower case"), '{"model":"llama3","Stream":"c4nary"}'),
    "a model that leaves": Wrong(400, "invalid_model", ("`..`", "position 7"), '{"model":"c4nary../x"}'),
    "a character": Wrong(400, "invalid_model", ("position 7", "A-Z"), '{"model":"c4nary?x"}'),
    "an empty model": Wrong(400, "invalid_model", ("empty", "/api/v1/llm/models"), '{"model":""}'),
    "broken gzip": Wrong(400, "invalid_body", ("compressed",), headers={"Content-Encoding": "gzip"}),
    "a header": Wrong(400, "bad_request", ("printable",), headers={"X-A": "c4nary\xff"}),
    "a wrong key": Wrong(401, "invalid_key", ("API_KEYS", "x-api-key"), settings={"API_KEYS": "a-key-of-sixteen"}),
    "a foreign Host": Wrong(403, "bad_host", ("ALLOWED_HOSTS",), headers={"Host": "c4nary.example"}),
    "a foreign page": Wrong(403, "bad_origin", ("CORS_ORIGINS",), headers={"Origin": "http://c4nary.example"}),
    "a foreign site": Wrong(403, "bad_origin", ("browser",), headers={"Sec-Fetch-Site": "c4nary"}),
    "a model nobody has": Wrong(404, "model_not_found", ("/api/v1/llm/models", "gpt-x"), '{"model":"c4nary-gpt-x"}',
                                settings={"LLM_CHAT_URL": "off"}),
    "a body too large": Wrong(413, "body_too_large", ("2048", "MAX_BODY_BYTES"), "c4nary" * 500,
                              settings={"MAX_BODY_BYTES": "2048"}),
    "text": Wrong(415, "unsupported_media_type", ("application/json",), headers={"Content-Type": "text/plain"}),
    "brotli": Wrong(415, "unsupported_encoding", ("gzip or deflate",), headers={"Content-Encoding": "br"}),
    "Expect": Wrong(417, "expectation_failed", ("100-continue",), headers={"Expect": "c4nary"}),
    "too much at once": Wrong(429, "queue_full", ("MAX_INFLIGHT", "QUEUE_SIZE"), retry_after=True,
                              settings={"MAX_INFLIGHT": "1", "QUEUE_SIZE": "0"}),
    "a wait too long": Wrong(503, "busy", ("QUEUE_TIMEOUT",), retry_after=True,
                             settings={"MAX_INFLIGHT": "1", "QUEUE_SIZE": "1", "QUEUE_TIMEOUT": "0.05"}),
    "a redirect": Wrong(502, "upstream_broken", ("ollama", "redirect", "LLM_CHAT_URL"),
                        script=Script(status=302, headers={"Location": CANARY})),
    "no HTTP": Wrong(502, "upstream_broken", ("ollama", "not HTTP"),
                     script=Script(before_head=[b"c4nary\r\n\r\n", DIE])),
    "a hang-up": Wrong(502, "upstream_unreachable", ("ollama", "dropped"), script=Script(before_head=[RESET])),
    "silence": Wrong(504, "upstream_timeout", ("ollama", "silent", "raise LLM_TIMEOUT"),
                     settings={"LLM_TIMEOUT": "0.1"}, script=Script(before_head=[HANG])),
    "nothing set up": Wrong(503, "no_upstream", ("Ollama", "LLM_CHAT_URL", "LLM_CF_URL", "PROVIDERS"),
                            settings={"LLM_CHAT_URL": "off", "PROVIDERS": ""}),
    "another node's": Wrong(508, "loop", ("another node",), headers={"Masa-Hop": "1"},
                            settings={"LLM_CHAT_URL": "off", "PROVIDERS": ""}),
}  # fmt: skip


@asynccontextmanager
async def node_for(wrong: Wrong, tmp_path, server: ModelServer, provider: ModelServer):
    """A node with these settings; a second upstream speaks OpenAI and Anthropic where the first is off."""
    usual = {"LLM_CHAT_URL": server.url}
    if wrong.settings.get("LLM_CHAT_URL") == "off":
        usual |= {"PROVIDERS": "openai", "OPENAI_API_KEY": CANARY, "LLM_OPENAI_URL": provider.url}
    async with running(tmp_path, **usual | wrong.settings) as node:
        yield node


@asynccontextmanager
async def busy(node, server: ModelServer, wrong: Wrong):
    """One place, and one call that holds it."""
    if not wrong.retry_after:
        yield
        return
    server.next(Script(before_head=[HANG]))
    async with Wire(node.port) as wire:
        await wire.send(request("POST", node.port, "/api/chat", GOOD.encode()))
        await server.asked(1)
        yield


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
async def test_on_every_dialect_in_its_own_words(tmp_path, model_servers, wrong):
    server, provider = await model_servers(), await model_servers(models=["gpt-x"], dialects=["openai", "anthropic"])
    async with node_for(wrong, tmp_path, server, provider) as node, busy(node, server, wrong):
        for path in DOORS:
            if wrong.script:
                for asked in DOORS:
                    server.script(asked, wrong.script)
            data = request("POST", node.port, f"{path}?{CANARY}", wrong.body.encode(), SECRET | wrong.headers)
            answer = await ask(node.port, data)
            text = check(answer, path, wrong.status, wrong.code)
            assert [words for words in wrong.says if words not in text] == []
            assert bool(answer.headers.get("Retry-After")) is wrong.retry_after


@pytest.mark.parametrize("path", DOORS)
async def test_a_dead_upstream_says_which_and_the_remedy(tmp_path, path):
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ModelServer())
        node = await stack.enter_async_context(running(tmp_path, LLM_CHAT_URL=server.url))
        await server.stop()
        text = check(
            await ask(node.port, request("POST", node.port, path, GOOD.encode(), SECRET)),
            path,
            502,
            "upstream_unreachable",
        )
        assert all(words in text for words in ("ollama", "refused the connection", "LLM_CHAT_URL", "doctor"))


@pytest.mark.parametrize("path", DOORS)
async def test_a_slow_body(tmp_path, path, monkeypatch):
    monkeypatch.setattr(chat, "WINDOW_SECONDS", SHORT)
    monkeypatch.setattr(shell, "LINGER_SECONDS", SHORT)
    async with running(tmp_path) as node, Wire(node.port) as wire:
        await wire.send(request("POST", node.port, path, CANARY.encode(), SECRET | {"Content-Length": "99"}))
        assert "1 KiB/s" in check(await read_answer(wire), path, 408, "slow_body")


async def test_a_slow_head(tmp_path, monkeypatch):
    monkeypatch.setattr(shell, "HEAD_SECONDS", SHORT)
    async with running(tmp_path) as node:
        answer = await ask(node.port, b"POST /v1/messages HTTP/1.1\r\nAuthorization: c4nary")
        assert "request head" in check(answer, "any", 408, "slow_head")


@pytest.mark.parametrize(
    ("data", "status", "code", "says"),
    [
        (b"c4nary\r\n\r\n", 400, "bad_request", "not a valid HTTP request"),
        (b"GET /c4nary HTTP/3.0\r\nHost: localhost\r\n\r\n", 400, "bad_request", "HTTP"),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"c4nary" * 2000 + b"\r\n\r\n", 431,
         "headers_too_large", "8190"),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + b"X-C4nary: c4nary\r\n" * 200 + b"\r\n", 431,
         "headers_too_large", "128"),
    ],
)  # fmt: skip
async def test_what_never_was_a_request(tmp_path, data, status, code, says):
    """Its path is not known: it is told in the plain shape."""
    async with running(tmp_path) as node:
        assert says in check(await ask(node.port, data), "any", status, code)


class TestNode:
    @pytest.mark.parametrize("path", [*DOORS, "/api/v1/node", "/ready"])
    async def test_a_node_that_stops(self, tmp_path, path):
        async with running(tmp_path) as node:
            node.node.life.draining = node.node.life.closed = True
            method = "GET" if path in ("/api/v1/node", "/ready") else "POST"
            data = request(method, node.port, path, GOOD.encode() if method == "POST" else b"", SECRET)
            answer = await ask(node.port, data)
            assert "stopping" in check(answer, path, 503, "draining")
            assert answer.headers.get("Retry-After")

    async def test_ready_says_what_is_missing(self, tmp_path):
        async with running(tmp_path) as node:
            answer = await ask(node.port, request("GET", node.port, "/ready", headers=SECRET))
            assert "doctor" in check(answer, "/ready", 503, "no_upstream")
            node.node.life.draining = True
            assert "stopping" in check(
                await ask(node.port, request("GET", node.port, "/ready")), "/ready", 503, "draining"
            )

    @pytest.mark.parametrize("path", DOORS)
    async def test_body_memory(self, tmp_path, model_server, path):
        settings = {"MAX_BODY_MEMORY": "2048", "MAX_BODY_BYTES": "2048"}
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, **settings) as node, Wire(node.port) as first:
            await first.send(
                request("POST", node.port, "/api/chat", b"{", {"Content-Length": "2000", "Expect": "100-continue"})
            )
            assert (await first.read_head()).status == 100
            answer = await ask(node.port, request("POST", node.port, path, GOOD.encode(), SECRET))
            assert "MAX_BODY_MEMORY" in check(answer, path, 503, "busy")
            assert answer.headers.get("Retry-After")

    @pytest.mark.parametrize("path", DOORS)
    async def test_a_fault(self, tmp_path, path, monkeypatch):
        async with running(tmp_path) as node:
            monkeypatch.setattr(node.node.router, "open", None)
            answer = await ask(node.port, request("POST", node.port, path, GOOD.encode(), SECRET))
            assert "log" in check(answer, path, 500, "internal")


async def test_a_caller_who_waits_in_the_queue_is_told_in_time(tmp_path, model_servers):
    """The place comes free before QUEUE_TIMEOUT: no error at all."""
    server = await model_servers()
    gate = asyncio.Event()
    async with running(tmp_path, LLM_CHAT_URL=server.url, MAX_INFLIGHT="1", QUEUE_TIMEOUT="5") as node:
        server.next(Script(before_head=[gate]))
        first = asyncio.create_task(ask(node.port, request("POST", node.port, "/api/chat", GOOD.encode())))
        await server.asked(1)
        second = asyncio.create_task(ask(node.port, request("POST", node.port, "/api/chat", GOOD.encode())))
        gate.set()
        assert [(await first).status, (await second).status] == [200, 200]
