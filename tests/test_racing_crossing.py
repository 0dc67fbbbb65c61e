"""What crosses to a peer and back: bytes as they are and as they come, a caller's leaving, and none of its secrets."""

import asyncio
import gzip
import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peers.network.contact import Contact
from tests.calls import HELLO, exchange
from tests.contest import contest, plainly
from tests.fakes import HANG, JSON, ModelServer, Script
from tests.fleet import fleet
from tests.nodes import Running
from tests.raw import Wire, post
from tests.test_serving import BODIES
from tests.told import logged
from tests.visiting import nothing_left
from tests.waiting import until

SOON = 0.5
"""Ten times the 50 ms in which work is to stop (docs/promises.md B5)."""
CANARY, PROMPT = "canary-7f3a", "prompt-19c4"
SECRETS = {
    "Authorization": f"Bearer {CANARY}",
    "X-Api-Key": CANARY,
    "Cookie": f"session={CANARY}",
    "Proxy-Authorization": f"Basic {CANARY}",
    "api-key": CANARY,
    "X-Goog-Api-Key": CANARY,
    "X-Forwarded-For": CANARY,
    "User-Agent": CANARY,
    "X-Custom": CANARY,
    "Connection": "X-Custom",
}
CLOUD = {"LLM_CF_URL": "https://127.0.0.1:9/workers-ai/", "LLM_CF_TOKEN": CANARY, "LLM_CF_GATEWAY_TOKEN": CANARY}
UNIT = b'{"model":"llama3","message":{"role":"assistant","content":"%s"},"done":false}\n'
END = b'{"model":"llama3","message":{"role":"assistant","content":""},"done":true}\n'
PHASES = {
    "waiting": (Script(before_head=[HANG]), 0),
    "before the first byte": (Script(chunks=[HANG]), 0),
    "mid-stream": (Script(chunks=[UNIT % b"x", HANG]), len(UNIT % b"x")),
}


@pytest.fixture
async def two(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[list[Running]]:
    async with plainly(), fleet(tmp_path, {"API_KEYS": CANARY, **CLOUD}, {"LLM_CHAT_URL": model_server.url}) as nodes:
        yield nodes


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """All that nodes send each other: path, body, headers."""
    found: list[tuple[Any, ...]] = []
    begin = Contact._begin

    async def watched(self: Contact, request: Any, address: Any, body: bytes, headers: Any, *more: Any) -> Any:
        found.append((request.path, body, headers))
        return await begin(self, request, address, body, headers, *more)

    monkeypatch.setattr(Contact, "_begin", watched)
    return found


async def test_every_dialect_crosses_two_nodes_byte_for_byte(two: list[Running], model_server: ModelServer) -> None:
    """docs/promises.md B11."""
    for path, fields in BODIES:
        body = b'{ "model" : "llama3",\n  "\\u006fdd": 1.50, ' + json.dumps(fields).encode()[1:]
        direct = "/api/chat" if path in ("/v1/api/chat", "/api/v1/chat") else path
        expected = await exchange("POST", model_server.url, direct, {}, body)
        got = await exchange("POST", two[0].url, path, {"X-Api-Key": CANARY}, body)
        assert (got.status, got.body, got.route) == (200, expected.body, "peer"), path
        assert got.headers["Content-Type"] == expected.headers["Content-Type"]
        assert (model_server.requests[-1].path, model_server.requests[-1].body) == (direct, body)
        packed = gzip.compress(body)
        await exchange("POST", two[0].url, path, {"X-Api-Key": CANARY, "Content-Encoding": "gzip"}, packed)
        seen = model_server.requests[-1]
        assert (seen.path, seen.body, seen.headers.get("Content-Encoding")) == (direct, packed, "gzip")


async def test_a_callers_secrets_reach_no_peer_and_no_log(
    sent: list[tuple[Any, ...]], two: list[Running], model_server: ModelServer
) -> None:
    """docs/promises.md D3, D4, B10."""
    log = logged()
    body = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": PROMPT}]}).encode()
    got = await exchange("POST", two[0].url, "/api/chat", SECRETS, body)
    assert (got.status, got.route) == (200, "peer")
    (forwarded,) = [one for one in sent if one[0].startswith("/peer/v1/forward/")]
    assert forwarded[:2] == ("/peer/v1/forward/api/chat", body)
    assert 0 < int(forwarded[2]["Masa-Deadline"]) < 300_000
    assert CANARY not in repr(sent)
    assert not [seen for seen in model_server.requests if CANARY.encode() in seen.head + seen.body]
    assert '"served"' in log.getvalue()
    for secret in (CANARY, PROMPT, "Hel"):
        assert secret not in log.getvalue()


async def test_each_unit_crosses_before_the_next_is_made(tmp_path: Path) -> None:
    """docs/promises.md B12."""
    async with contest(tmp_path, 2) as made:
        gates = [asyncio.Event() for _ in range(5)]
        units = [UNIT % str(number).encode() for number in range(5)]
        for voice in made.voices:
            paced = [part for pair in zip(units, gates, strict=True) for part in pair]
            voice.bend = lambda _, chunks=paced: Script(chunks=[*chunks, END])
        async with Wire(made.asker.port) as wire:
            await wire.send(post(made.asker.port, "/api/chat", json.dumps({"model": "llama3", **HELLO}).encode()))
            await wire.read_head()
            for unit, gate in zip(units, gates, strict=True):
                assert await wire.read_piece() == unit
                gate.set()
            assert await wire.read_to_end() == (END, "chunked", True)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_whoever_leaves_stops_all_peers_models(tmp_path: Path, stream: bool) -> None:
    """docs/promises.md B5: over two hops, in every window, however it leaves."""
    async with contest(tmp_path, 2) as made:
        body = json.dumps({"model": "llama3", "stream": stream, **HELLO}).encode()
        request = post(made.asker.port, "/api/chat", body)
        for leave in ("close", "reset", "half_close"):
            for name, (script, size) in PHASES.items():
                for voice in made.voices:
                    voice.bend = lambda _, script=script: script if stream else replace(script, headers=JSON)
                    voice.work.clear()
                async with Wire(made.asker.port) as wire:
                    await wire.send(request)
                    await until(lambda size=size: [w.seen.written for v in made.voices for w in v.work] == [size] * 2)
                    if size and stream:
                        await wire.read_head()
                    now = asyncio.get_running_loop().time()
                    getattr(wire, leave)()
                    await until(lambda: all(work.ended for voice in made.voices for work in voice.work))
                    ended = [work.ended or math.inf for voice in made.voices for work in voice.work]
                    assert max(ended) - now < SOON, (leave, name)
                await until(lambda: all(nothing_left(one) for one in made.peers))
                await until(lambda: not made.asker.runner.node_server.busy)
        for voice in made.voices:
            voice.work.clear()
        async with Wire(made.asker.port) as wire:  # while it uploads nobody is asked
            await wire.send(post(made.asker.port, "/api/chat", body, {"Content-Length": "1000"}))
        await until(lambda: not made.asker.runner.node_server.open)
        assert [voice.work for voice in made.voices] == [[], []]
