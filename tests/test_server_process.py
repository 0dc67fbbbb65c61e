"""The server's shell at full size, on a real process and its own loop (docs/promises.md C1, C7)."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.asking import ask, code, read_answer, silence
from tests.processes import running_node
from tests.raw import Wire, get, post

CHAT = b'{"model":"llama3","stream":false}'
DRIPPING = 500
OPENS = 5000
HEAD_SECONDS = 10
MIB = 1024 * 1024

pytestmark = pytest.mark.slow


async def test_five_hundred_slow_heads_are_all_gone_after_ten_seconds(model_server, tmp_path):
    """docs/promises.md C1: one byte each half second does not extend it, and callers are answered meanwhile."""
    async with (
        running_node(tmp_path, {"LLM_CHAT_URL": model_server.url}) as node,
        AsyncExitStack() as stack,
        asyncio.TaskGroup() as group,
    ):
        wires = [await stack.enter_async_context(Wire(node.port, timeout=30)) for _ in range(DRIPPING)]
        gone = [group.create_task(seconds_until_gone(wire)) for wire in wires]
        answered = 0
        while not all(task.done() for task in gone):
            assert (await ask(node.port, post(node.port, "/api/chat", CHAT))).status == 200
            answered += 1
            await asyncio.wait(gone, timeout=0.5)
        assert answered >= HEAD_SECONDS
        assert max(task.result() for task in gone) < HEAD_SECONDS + 1
        assert all(b" 408 " in wire.buffer and wire.buffer.endswith(b"}") for wire in wires)


async def seconds_until_gone(wire: Wire) -> float:
    """Drip a head, one byte each half second, until the other side closes."""
    begun = time.monotonic()
    closing = asyncio.create_task(wire.until_closed())
    try:
        for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 100:
            if closing.done():
                break
            await wire.send(bytes([byte]))
            await asyncio.wait([closing], timeout=0.5)
    except ConnectionError:
        pass
    await closing
    return time.monotonic() - begun


async def test_five_thousand_opens_against_a_hundred_places(model_server, tmp_path):
    """docs/promises.md C7: the rest is reset at once, memory stays, and the hundred are answered."""
    env = {"LLM_CHAT_URL": model_server.url, "MAX_CONNECTIONS": "100"}
    async with running_node(tmp_path, env) as node, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire(node.port)) for _ in range(100)]
        for wire in wires:
            await wire.send(get(node.port, "/health"))
            assert (await read_answer(wire)).status == 200
        before = node.rss()
        for _ in range(OPENS // 100):
            assert set(await asyncio.gather(*(silence(node.port) for _ in range(100)))) == {("reset", b"")}
        assert node.rss() - before < 32 * MIB
        assert node.open_files() < 100 + 50
        for wire in wires:
            await wire.send(get(node.port, "/health"))
            assert (await read_answer(wire)).status == 200


async def test_a_body_slower_than_its_window_is_refused(model_server, tmp_path):
    """docs/promises.md C2, at one byte a second."""
    async with running_node(tmp_path, {"LLM_CHAT_URL": model_server.url}) as node, Wire(node.port, timeout=30) as wire:
        begun = time.monotonic()
        await wire.send(post(node.port, "/api/chat", b"", {"Content-Length": "99999"}))
        answering = asyncio.create_task(read_answer(wire))
        while not answering.done():
            await wire.send(b"{")
            await asyncio.wait([answering], timeout=1)
        assert (answering.result().status, code(answering.result())) == (408, "slow_body")
        assert time.monotonic() - begun < HEAD_SECONDS + 2
        assert model_server.inferences == []
