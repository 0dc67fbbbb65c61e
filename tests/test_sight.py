"""What is told of each request: its id, one log line without a body, its metrics."""

import asyncio
import re

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from handlers.middlewares.access import truncated
from peers.metrics import Metrics
from peers.usage import tokens
from tests.fakes import DIE, HANG, ModelServer, Script
from tests.nodes import running
from tests.raw import Wire, post

CHAT = b'{"model":"llama3","messages":[{"role":"user","content":"canary"}]}'


async def sample(url: str, name: str, **labels: str) -> float:
    """The value of one metric, 0 where there is none."""
    async with aiohttp.ClientSession() as session, session.get(url + "/metrics") as got:
        families = text_string_to_metric_families(await got.text())
    found = [
        s.value for family in families for s in family.samples if s.name == name and labels.items() <= s.labels.items()
    ]
    return sum(found)


@pytest.mark.parametrize(("given", "kept"), [("trace-1.a_B", True), ("x" * 65, False), ("a b", False), (None, False)])
async def test_the_request_id_goes_in_and_out(node, given, kept):
    headers = {"X-Request-Id": given} if given else {}
    async with aiohttp.ClientSession() as session, session.get(node.url + "/health", headers=headers) as got:
        told = got.headers["X-Request-Id"]
    assert (told == given) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", told)


async def test_every_answer_names_the_node(node):
    async with aiohttp.ClientSession() as session:
        for path in ("/health", "/nowhere", "/api/tags"):
            async with session.get(node.url + path) as got:
                assert got.headers["X-Masa-Node"] == node.node.who.id
                assert got.headers["X-Masa-Name"] == f"test-{node.node.who.id[:6]}"
                assert got.headers["Cache-Control"] == "no-store"


async def test_one_line_a_request(node):
    with capture_logs() as logs:
        async with (
            aiohttp.ClientSession() as session,
            session.post(node.url + "/api/chat", json={"model": "llama3"}) as got,
        ):
            size = len(await got.read())
        await asyncio.sleep(0)
    lines = [line for line in logs if line["event"] == "request"]
    assert len(lines) == 1
    told = {name: fact for name, fact in lines[0].items() if fact is not None} | {"ms": 0, "first_ms": 0}
    assert told == {
        "event": "request",
        "log_level": "info",
        "client": "127.0.0.0/24",
        "ms": 0,
        "first_ms": 0,
        "method": "POST",
        "path": "/api/chat",
        "status": 200,
        "outcome": "ok",
        "route": "local:ollama",
        "model": "llama3",
        "stream": True,
        "bytes_in": 19,
        "bytes_out": size,
        "tokens_in": 3,
        "tokens_out": 2,
    }


async def test_metrics_of_a_call(node):
    async with aiohttp.ClientSession() as session:
        for path in ("/api/chat", "/v1/chat/completions", "/v1/messages"):
            async with session.post(node.url + path, data=CHAT, headers={"Content-Type": "application/json"}) as got:
                await got.read()
    genai = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "ollama", "gen_ai_request_model": "llama3"}
    assert await sample(node.url, "gen_ai_client_operation_duration_seconds_count", **genai, error_type="") == 3
    assert await sample(node.url, "gen_ai_client_operation_time_to_first_chunk_seconds_count", **genai) == 3
    assert await sample(node.url, "gen_ai_client_token_usage_sum", **genai, gen_ai_token_type="output") == 6
    assert await sample(node.url, "masa_requests_total", path="/api/chat", status="200", outcome="ok") == 1
    assert await sample(node.url, "masa_upstream_up", upstream="ollama") == 1


@pytest.mark.parametrize(
    ("script", "leaves", "outcome"),
    [
        (Script(chunks=[b"{}\n", HANG]), True, "caller_gone"),
        (Script(chunks=[b"{}\n", DIE]), False, "cut"),
        (Script(status=500, chunks=[b"{}"]), False, "failed"),
        (Script(status=400, chunks=[b"{}"]), False, "refused"),
        (Script(before_head=[DIE]), False, "failed"),
    ],
)
async def test_outcomes(node, model_server, script, leaves, outcome):
    model_server.script("/api/chat", script)
    async with Wire(node.port) as wire:
        await wire.send(post(node.port, "/api/chat", CHAT))
        await wire.read_head()
        if leaves:
            wire.close()
        else:
            await wire.read_to_end()
    async with asyncio.timeout(2):
        while not await sample(node.url, "masa_requests_total", path="/api/chat", outcome=outcome):
            pass


async def test_one_process_runs_several_nodes(tmp_path):
    async with (
        ModelServer() as server,
        running(tmp_path / "a", LLM_CHAT_URL=server.url) as first,
        running(tmp_path / "b", LLM_CHAT_URL="eliza") as second,
    ):
        assert first.node.who.id != second.node.who.id
        async with aiohttp.ClientSession() as session:
            for node, model in ((first, "llama3"), (second, "eliza")):
                async with session.post(node.url + "/api/generate", json={"model": model, "prompt": "hi"}) as got:
                    assert got.status == 200
                    await got.read()
        assert await sample(first.url, "masa_requests_total", path="/api/generate") == 1
        assert await sample(second.url, "masa_requests_total", path="/api/generate") == 1


def test_model_labels_are_bounded():
    metrics = Metrics()
    labels = {metrics.model_label(f"model{number}") for number in range(1000)}
    assert len(labels) == 51
    assert metrics.model_label("model3") == "model3"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("192.168.7.9", "192.168.7.0/24"),
        ("2001:db8:1:2::9", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        (None, ""),
        ("x", ""),
    ],
)
def test_a_log_names_networks_not_callers(address, told):
    assert truncated(address) == told


@pytest.mark.parametrize(
    ("tail", "counts"),
    [
        (b'"done":true,"prompt_eval_count":11,"eval_count":2}', (11, 2)),
        (b'"usage":{"prompt_tokens": 7, "completion_tokens": 9, "total_tokens":16}}\n\ndata: [DONE]\n\n', (7, 9)),
        (b'data: {"type":"message_delta","usage":{"input_tokens":3,"output_tokens":5}}\n\n', (3, 5)),
        (b'"content":"say \\"eval_count\\":99"', (None, None)),
        (b"", (None, None)),
    ],
)
def test_tokens_are_read_off_the_end(tail, counts):
    assert tokens(tail) == counts
