"""Bytes are sacred: bodies cross unchanged both ways, as they come, and what breaks never looks whole."""

import asyncio
import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from tests.fakes import DIE, HANG, NDJSON, RESET, SSE, ModelServer, Script
from tests.nodes import Running, running
from tests.raw import Wire, post
from tests.waiting import settled, until

CHAT = b'{"model":"llama3","messages":[{"role":"user","content":"why is the sky blue?"}]}'

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda deeper: st.lists(deeper) | st.dictionaries(st.text(), deeper),
    max_leaves=20,
)
BODIES = st.dictionaries(st.text().filter(lambda key: key.casefold() not in ("model", "stream")), VALUES)

TEN_TIMES_50_MS = 0.5
"""A promise of 50 ms on loopback, asserted at ten times that: test machines are noisy."""


@pytest.fixture
async def server():
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def node(server, tmp_path):
    async with running(tmp_path, LLM_CHAT_URL=server.url) as node:
        yield node


async def ask(
    node: Running, path: str, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(
            URL(node.url + path, encoded=True),
            data=io.BytesIO(body),
            headers={"Content-Type": "application/json", **(headers or {})},
        ) as got,
    ):
        return got.status, got.headers, await got.read()


def inference(server: ModelServer):
    return [seen for seen in server.requests if seen.inference]


class TestBodies:
    """docs/promises.md B11."""

    @pytest.mark.parametrize(
        "body",
        [
            b'{ "model" : "llama3" ,\n\t"messages":[] }',
            b'{"model":"other","model":"llama3"}',
            b'{"model":"llama3","unknown":{"deep":[1,2,{"x":null}]},"options":{"num_ctx":1e3}}',
            b'{"model":"llama3","text":"\xff\xfe not UTF-8 beside the model"}',
            b'{"model":"llama\\u0033"}',
            b'{"model":"llama3","pad":"' + b"x" * (3 << 20) + b'"}',
        ],
        ids=["spelling", "duplicate key", "unknown fields", "bad UTF-8 elsewhere", "escaped name", "3 MiB"],
    )
    async def test_a_body_crosses_unchanged(self, node, server, body):
        server.next(Script(chunks=[b"{}"]))
        status, _, _ = await ask(node, "/api/chat", body)
        assert status == 200
        assert inference(server)[-1].body == body

    async def test_any_json_object_with_a_model_crosses_unchanged(self, node, server):
        loop = asyncio.get_running_loop()

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(BODIES, st.sampled_from([None, 1, "\t"]), st.booleans())
        def crosses(fields, indent, ascii_only):
            body = json.dumps({**fields, "model": "llama3"}, indent=indent, ensure_ascii=ascii_only).encode(
                "utf-8", "surrogatepass"
            )
            asyncio.run_coroutine_threadsafe(check(body), loop).result(10)

        async def check(body):
            status, _, _ = await ask(node, "/v1/chat/completions", body)
            assert status == 200
            assert inference(server)[-1].body == body

        await asyncio.to_thread(crosses)

    async def test_a_gzip_body_crosses_as_it_is(self, node, server):
        body = gzip.compress(CHAT)
        server.next(Script(chunks=[b"{}"]))
        status, _, _ = await ask(node, "/api/chat", body, {"Content-Encoding": "gzip"})
        seen = inference(server)[-1]
        assert (status, seen.body, seen.headers.get("Content-Encoding")) == (200, body, "gzip")

    async def test_a_body_of_the_largest_size(self, server, tmp_path):
        async with running(tmp_path, LLM_CHAT_URL=server.url, MAX_BODY_BYTES="1MiB") as node:
            body = b'{"model":"llama3","pad":"'
            body += b"x" * ((1 << 20) - len(body) - 2) + b'"}'
            assert len(body) == 1 << 20
            assert (await ask(node, "/api/chat", body))[0] == 200
            assert inference(server)[-1].body == body
            assert (await ask(node, "/api/chat", body + b" "))[0] == 413

    async def test_the_query_crosses(self, node, server):
        await ask(node, "/api/chat?a=%2f%41&b", CHAT)
        assert inference(server)[-1].target == "/api/chat?a=%2f%41&b"


class TestAnswers:
    async def test_status_type_encoding_and_bytes_come_back(self, node, server):
        packed = gzip.compress(b'{"error":"no"}')
        server.next(
            Script(
                status=418,
                headers={"Content-Type": "application/weird; a=b", "Content-Encoding": "gzip"},
                chunks=[packed],
            )
        )
        status, headers, body = await ask(node, "/api/chat", CHAT, {"Accept-Encoding": "gzip"})
        assert (status, headers["Content-Type"], headers["Content-Encoding"], body) == (
            418,
            "application/weird; a=b",
            "gzip",
            packed,
        )
        assert headers["X-Masa-Route"] == "local:ollama"

    async def test_chunks_come_as_they_are_sent(self, node, server):
        """docs/promises.md B12: what was sent is there before more is sent."""
        gates = [asyncio.Event() for _ in range(5)]
        chunks = [part for number, gate in enumerate(gates) for part in (b'{"n":%d}\n' % number, gate)]
        server.next(Script(chunks=chunks))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            head = await wire.read_head()
            assert head.status == 200
            for number, gate in enumerate(gates):
                assert await wire.read_piece() == b'{"n":%d}\n' % number
                gate.set()
            assert (await wire.read_to_end()).clean

    async def test_the_head_comes_before_the_first_chunk(self, node, server):
        gate = asyncio.Event()
        server.next(Script(chunks=[gate, b"{}\n"]))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            assert (await wire.read_head()).status == 200
            gate.set()
            assert (await wire.read_to_end()).body == b"{}\n"

    @pytest.mark.parametrize("framing", ["chunked", "length", "close"])
    async def test_every_framing(self, node, server, framing):
        server.next(Script(chunks=[b"one", b"two"], framing=framing))
        assert (await ask(node, "/api/chat", CHAT))[2] == b"onetwo"


class TestCut:
    """A cut upstream is never a clean end."""

    @pytest.mark.parametrize("end", [DIE, RESET])
    async def test_ndjson_says_so_and_is_cut(self, node, server, end):
        server.next(Script(headers=NDJSON, chunks=[b'{"a":1}\n{"b"', end]))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await wire.read_head()
            ending = await wire.read_to_end()
        assert not ending.clean
        lines = ending.body.split(b"\n")
        assert lines[:2] == [b'{"a":1}', b'{"b"']
        assert json.loads(lines[2])["code"] == "upstream_broken"

    @pytest.mark.parametrize(
        ("path", "mark"),
        [("/v1/chat/completions", b'\n\ndata: {"error":'), ("/v1/messages", b"\n\nevent: error\ndata: ")],
    )
    async def test_sse_says_so_and_is_cut(self, node, server, path, mark):
        server.next(Script(headers=SSE, chunks=[b"data: {}\n\ndata: {", DIE]))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, path, CHAT))
            await wire.read_head()
            ending = await wire.read_to_end()
        assert not ending.clean
        assert mark in ending.body

    @pytest.mark.parametrize("encoding", [{"Content-Encoding": "gzip"}, {}])
    async def test_nothing_is_added_to_an_encoded_or_length_framed_answer(self, node, server, encoding):
        framing = "chunked" if encoding else "length"
        server.next(
            Script(
                headers={**NDJSON, **encoding}, chunks=[b"abc", DIE], framing=framing, length=None if encoding else 10
            )
        )
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await wire.read_head()
            ending = await wire.read_to_end()
        assert (ending.body, ending.clean) == (b"abc", False)

    async def test_http_1_0_sees_a_reset(self, node, server):
        server.next(Script(headers={"Content-Type": "text/plain"}, chunks=[b"abc", DIE]))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT).replace(b"HTTP/1.1", b"HTTP/1.0"))
            await wire.read_head()
            assert (await wire.read_to_end()).how == "reset"

    async def test_silence_is_cut_too(self, server, tmp_path):
        """docs/promises.md C12."""
        server.next(Script(chunks=[b'{"a":1}\n', HANG]))
        async with running(tmp_path, LLM_CHAT_URL=server.url, LLM_TIMEOUT="0.2") as node, Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await wire.read_head()
            ending = await wire.read_to_end()
            assert not ending.clean
            told = json.loads(ending.body.splitlines()[-1])
            assert told["code"] == "upstream_timeout"
            assert "raise LLM_TIMEOUT" in told["error"]
            await inference(server)[-1].abandoned.wait()


class TestLeaving:
    """docs/promises.md B5, C11: the caller who leaves stops the upstream, in every window."""

    @pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
    @pytest.mark.parametrize(
        ("script", "begun"),
        [(Script(before_head=[HANG]), False), (Script(chunks=[HANG]), True), (Script(chunks=[b"{}\n", HANG]), True)],
        ids=["waiting", "before the first byte", "mid-stream"],
    )
    async def test_the_upstream_stops(self, node, server, script, begun, leave):
        server.next(script)
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await server.asked(1)
            if begun:
                await wire.read_head()
            getattr(wire, leave)()
            async with asyncio.timeout(TEN_TIMES_50_MS):
                await inference(server)[0].abandoned.wait()
        await until(lambda: not node.runner.node_server.busy)
        assert all(upstream.places.taken == 0 for upstream in node.node.own.upstreams)

    async def test_leaving_during_the_upload_asks_nobody(self, node, server):
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT, {"Content-Length": "1000"}))
            wire.close()
        await until(lambda: not node.runner.node_server.open)
        assert inference(server) == []


async def test_a_slow_reader_is_back_pressured(node: Running, server: ModelServer, tmp_path: Path):
    """docs/promises.md B13: the upstream's writes block instead of piling up here, and others are served meanwhile."""
    piece = b"x" * (1 << 20)
    server.next(Script(chunks=[piece] * 100))
    async with Wire(node.port, receive_buffer=4096) as wire:
        await wire.send(post(node.port, "/api/chat", CHAT))
        await wire.read_head()
        seen = inference(server)[0]
        await settled(lambda: seen.written)
        await ask(node, "/api/chat", CHAT)
        assert seen.written < 32 << 20  # the kernel buffers some on both sides of the node
        assert (await wire.read_to_end()).body == piece * 100
