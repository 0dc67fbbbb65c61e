"""The fake model server does what its script says, and notices what was done to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.conftest import StartServer
from tests.fakes import DIE, HANG, RESET, SSE, ModelServer, Script, answer, busy
from tests.raw import Headers, How, Wire, exchange, get, parse, post, request

ASK = b'{"model":"llama3"}'
KIB = 1024


@pytest.fixture
async def client(model_server: ModelServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(model_server.url) as session:
        yield session


# What it answers by itself


@pytest.mark.parametrize(
    ("path", "mark"),
    [
        ("/api/chat", b'"done":true'),
        ("/api/generate", b'"done":true'),
        ("/v1/chat/completions", b"\n\ndata: [DONE]\n\n"),
        ("/v1/completions", b"\n\ndata: [DONE]\n\n"),
        ("/v1/responses", b'data: {"type":"response.completed"'),
        ("/v1/messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    ],
)
async def test_it_answers_in_each_dialect(client: aiohttp.ClientSession, path: str, mark: bytes) -> None:
    async with client.post(path, json={"model": "llama3", "stream": True}) as streamed:
        text = await streamed.read()
        assert streamed.content_type == ("application/x-ndjson" if path.startswith("/api") else "text/event-stream")
    async with client.post(path, json={"model": "llama3", "stream": False}) as whole:
        assert whole.content_type == "application/json"
        assert "Hello" in json.dumps(await whole.json())
    assert mark in text
    assert b'"Hel"' in text
    assert b'"lo"' in text


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/version", "0.20.0"),
        ("/api/tags", "llama3:latest"),
        ("/api/ps", "llama3:latest"),
        ("/v1/models", "llama3:latest"),
        ("/v1/models/llama3:latest", "llama3:latest"),
    ],
)
async def test_it_lists_its_models(client: aiohttp.ClientSession, path: str, told: str) -> None:
    async with client.get(path) as listed:
        assert told in await listed.text()
    async with client.head(path) as head:
        assert (head.status, await head.read()) == (200, b"")
    async with client.post(path, json={"model": "llama3"}) as wrong:
        assert wrong.status == 405


@pytest.mark.parametrize(
    "path", ["/api/embed", "/api/embeddings", "/api/show", "/v1/embeddings", "/v1/messages/count_tokens"]
)
async def test_it_answers_what_does_not_stream(client: aiohttp.ClientSession, path: str) -> None:
    async with client.post(path, json={"model": "llama3", "input": ["a", "b"]}) as reply:
        assert reply.status == 200
        assert await reply.json()


async def test_it_speaks_only_the_dialects_given(model_servers: StartServer) -> None:
    server = await model_servers(dialects=["openai"])
    for path, body, status in [
        ("/v1/messages", b"{}", 404),
        ("/api/chat", ASK, 404),
        ("/v1/chat/completions", b"{}", 400),
        ("/v1/chat/completions", b'{"model":"other"}', 404),
        ("/v1/chat/completions", ASK, 200),
    ]:
        async with Wire(server.port) as wire:
            await wire.send(post(server.port, path, body))
            assert (await wire.read_head()).status == status
    assert [seen.body for seen in server.inferences] == [ASK, b'{"model":"other"}', ASK]


# How a script is played


async def told(server: ModelServer, script: Script, wire: Wire) -> tuple[int, Headers, bytes, How, bool]:
    server.next(script)
    await wire.send(post(server.port, "/api/chat", ASK))
    head = await wire.read_head()
    return *head, *await wire.read_to_end()


@pytest.mark.parametrize(
    ("script", "body", "how", "clean"),
    [
        (Script(chunks=[b"one", b"two"]), b"onetwo", "chunked", True),
        (Script(chunks=[b"x" * 200_000]), b"x" * 200_000, "chunked", True),
        (Script(chunks=[b"one", DIE]), b"one", "fin", False),
        (Script(chunks=[b"one", RESET]), b"one", "reset", False),
        (Script(chunks=[b"one"], framing="length"), b"one", "length", True),
        (Script(framing="length"), b"", "length", True),
        (Script(chunks=[b"one", DIE, b"two"], framing="length"), b"one", "fin", False),
        (Script(chunks=[b"one"], framing="length", length=9), b"one", "fin", False),
        (Script(chunks=[b"one", b"two"], framing="length", length=4), b"onet", "length", True),
        (Script(chunks=[b"one"], framing="close"), b"one", "fin", True),
        (Script(chunks=[b"one", RESET], framing="close"), b"one", "reset", False),
        (Script(status=204, framing="length"), b"", "length", True),
    ],
)
async def test_the_framing_is_what_the_script_says(
    model_server: ModelServer, script: Script, body: bytes, how: How, clean: bool
) -> None:
    async with Wire(model_server.port) as wire:
        status, _, *ending = await told(model_server, script, wire)
        assert (status, *ending) == (script.status, body, how, clean)
        await model_server.requests[0].finished.wait()
        assert not model_server.requests[0].abandoned.is_set()


async def test_every_byte_is_the_scripts(model_server: ModelServer) -> None:
    model_server.extra_headers = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    model_server.script("/odd", Script(status=418, headers=[("x-ODD", "\xff")], chunks=[b"a", b"", b"bc"]))
    model_server.script("/raw", Script(before_head=[b"HTTP/2.0 ??\n\n", DIE]))
    odd = await exchange(model_server.port, get(model_server.port, "/odd?q=1", {"Connection": "close"}))
    head = (
        b"HTTP/1.1 418 I'm a Teapot\r\nx-ODD: \xff\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked"
    )
    assert odd == head + b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    assert await exchange(model_server.port, get(model_server.port, "/raw")) == b"HTTP/2.0 ??\n\n"


@pytest.mark.parametrize(("move", "cut"), [(DIE, "fin"), (RESET, "reset")])
async def test_it_can_break_before_the_head(model_server: ModelServer, move: Any, cut: str) -> None:
    async with Wire(model_server.port) as wire:
        with pytest.raises(EOFError, match=cut):
            await told(model_server, Script(before_head=[move]), wire)


async def test_it_waits_for_seconds_and_for_events(model_server: ModelServer) -> None:
    go = asyncio.Event()
    model_server.next(Script(headers=SSE, before_head=[0.01], chunks=[b"one ", go, b"two ", 0.02, b"three"]))
    async with Wire(model_server.port) as wire:
        await wire.send(post(model_server.port, "/api/chat", ASK))
        status, headers = await wire.read_head()
        assert (status, headers.get("content-type")) == (200, "text/event-stream")
        assert await wire.read_until(b"one ") == b"one "
        assert model_server.requests[0].written == 4
        go.set()
        assert await wire.read_to_end() == (b"two three", "chunked", True)


async def test_next_comes_once_and_only_for_inference(model_server: ModelServer) -> None:
    model_server.script("/api/chat", answer({"scripted": True}))
    model_server.next(busy(retry_after=7), busy(429))
    seen = []
    async with Wire(model_server.port) as wire:
        for data in (get(0, "/api/tags"), *[post(0, "/v1/messages")] * 2, *[post(0, "/api/chat", ASK)] * 3):
            await wire.send(data)
            status, headers = await wire.read_head()
            seen.append((status, headers.get("retry-after"), (await wire.read_to_end()).clean))
    assert seen == [(200, None, True), *[(400, None, True)] * 2, (503, "7", True), (429, None, True), (200, None, True)]
    assert model_server.open_connections <= 1
    assert await model_server.asked(3) is model_server.requests[-1]


async def test_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="'text'"):
        Script(chunks=["text"])  # type: ignore[list-item]


# What it notices


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset, Wire.half_close])
@pytest.mark.parametrize("script", [Script(before_head=[HANG]), Script(chunks=[b"one", HANG]), Script(chunks=[9.0])])
async def test_it_knows_when_it_was_abandoned(model_server: ModelServer, leave: Any, script: Script) -> None:
    model_server.next(script)
    async with Wire(model_server.port) as wire:
        await wire.send(post(model_server.port, "/api/chat", ASK))
        seen = await model_server.asked()
        assert not seen.abandoned.is_set()
        leave(wire)
        await asyncio.wait_for(seen.abandoned.wait(), 1)
        assert not seen.finished.is_set()
    await model_server.until(lambda: model_server.open_connections == 0)


async def test_a_body_broken_off_is_abandoned_and_not_asked(model_server: ModelServer) -> None:
    async with Wire(model_server.port) as wire:
        await wire.send(post(model_server.port, "/api/chat", ASK, {"Content-Length": "100"}))
        await model_server.until(lambda: len(model_server.requests) == 1)
    await asyncio.wait_for(model_server.requests[0].abandoned.wait(), 1)
    assert not model_server.inferences


async def test_it_keeps_what_arrived(model_server: ModelServer) -> None:
    chunked = b"5;x=y\r\n\x00\xffabc\r\n1\r\n!\r\n0\r\n\r\n"
    odd = [("X-Twice", "1"), ("x-twice", "2"), ("Transfer-Encoding", "chunked")]
    head = request("POST", model_server.port, "/api/chat?a=%20b", headers=odd)
    async with Wire(model_server.port) as wire:
        await wire.send(head + chunked + post(1, "/api/chat", b""))
        seen, last = [await model_server.asked(count) for count in (1, 2)]
    assert (seen.head, seen.body, seen.path, seen.target) == (head, b"\x00\xffabc!", "/api/chat", "/api/chat?a=%20b")
    assert seen.headers[-3:] == odd
    assert seen.headers.all("X-TWICE") == ["1", "2"]
    assert (last.body, last.headers.get("Host")) == (b"", "127.0.0.1:1")


async def test_it_writes_only_as_fast_as_it_is_read(model_server: ModelServer) -> None:
    model_server.next(Script(chunks=[b"x" * KIB * KIB] * 16))
    async with Wire(model_server.port, receive_buffer=64 * KIB) as slow:
        await slow.send(post(model_server.port, "/api/chat", ASK))
        seen = await model_server.asked()
        await model_server.until(lambda: seen.written > 0)
        for _ in range(20):  # others are served meanwhile
            await exchange(model_server.port, get(1, "/api/tags", {"Connection": "close"}))
        stuck = seen.written
        assert stuck < KIB * KIB
        await slow.read_head()
        begun = await slow.read_until(b"x" * (stuck + 1))
        await model_server.until(lambda: seen.written > stuck)
        assert not seen.finished.is_set()
        rest = await slow.read_to_end()
        assert (len(begun) + len(rest.body), rest.clean) == (16 * KIB * KIB, True)
        assert seen.finished.is_set()


@pytest.mark.parametrize(
    ("version", "headers", "kept"),
    [("1.1", {}, True), ("1.1", {"Connection": "close"}, False), ("1.0", {}, False)],
)
async def test_a_connection_is_kept(
    model_server: ModelServer, version: str, headers: dict[str, str], kept: bool
) -> None:
    data = post(model_server.port, "/api/chat", ASK, headers).replace(b"HTTP/1.1", b"HTTP/" + version.encode())
    async with Wire(model_server.port) as wire:
        for _ in range(3 if kept else 1):
            await wire.send(data)
            assert (await wire.read_head()).status == 200
            ending = await wire.read_to_end()
            assert ending.clean
            assert (ending.how == "chunked") == (version == "1.1")
        assert model_server.open_connections == kept
        assert kept or await wire.until_closed() == "fin"


async def test_it_can_die_and_come_back(model_server: ModelServer) -> None:
    async with Wire(model_server.port) as idle:
        await model_server.until(lambda: model_server.open_connections == 1)
        model_server.hang_up()
        assert await idle.until_closed() == "fin"
    port = model_server.port
    await model_server.stop()
    with pytest.raises(ConnectionRefusedError):
        await Wire(port).open()
    await model_server.start()
    assert model_server.port == port
    assert parse(await exchange(port, get(port, "/", {"Connection": "close"}))).body == b"Ollama is running"


async def test_nonsense_from_the_node_under_test_fails_the_test() -> None:
    with pytest.raises(ValueError):
        async with ModelServer() as server:
            await exchange(server.port, b"nonsense\r\n\r\n")
