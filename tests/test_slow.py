"""Slow callers: heads, bodies, idle connections; and when a body is asked for.

docs/promises.md C1, C2; docs/security.md C-17, C-21. With tenths of seconds; at full size in
test_server_process.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from handlers import chat
from masa_node import server as shell
from tests.asking import ask, code, read_answer
from tests.fakes import Script
from tests.nodes import running
from tests.raw import Wire, get, post
from tests.told import events, logged

CHAT = b'{"model":"llama3","stream":false}'
SHORT = 0.2
"""Seconds that stand in for the 10 of a head and of a body's window."""


@pytest.fixture
def short(monkeypatch):
    for module, name in ((shell, "HEAD_SECONDS"), (shell, "LINGER_SECONDS"), (chat, "WINDOW_SECONDS")):
        monkeypatch.setattr(module, name, SHORT)


@asynccontextmanager
async def dripping(wire: Wire, data: bytes, pause: float = SHORT / 20) -> AsyncIterator[None]:
    """Send `data` byte by byte, and then `x` for ever."""

    async def drip() -> None:
        with suppress(ConnectionError):
            for byte in data:
                await wire.send(bytes([byte]))
                await asyncio.sleep(pause)
            while True:
                await wire.send(b"x")
                await asyncio.sleep(pause)

    task = asyncio.create_task(drip())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestSlowHeads:
    async def test_a_drip_does_not_extend_the_deadline(self, short, node):
        log, begun = logged(), time.monotonic()
        async with AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(Wire(node.port)) for _ in range(20)]
            for wire in wires:
                await stack.enter_async_context(dripping(wire, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "))
            assert (await ask(node.port, post(node.port, "/api/chat", CHAT))).status == 200
            answers = [await read_answer(wire) for wire in wires]
            for wire in wires:
                await wire.until_closed()
        assert time.monotonic() - begun < 5
        assert {(answer.status, code(answer), answer.rest) for answer in answers} == {(408, "slow_head", b"")}
        assert all(answer.headers.get("X-Request-Id") for answer in answers)
        assert {told["status"] for told in events(log, "request") if told["path"] == "unparsed"} == {408}

    async def test_who_never_says_a_word_is_not_answered(self, short, node):
        async with Wire(node.port) as wire:
            assert await wire.until_closed() == "fin"
            assert wire.buffer == b""

    async def test_each_head_on_a_kept_connection_has_its_deadline(self, short, node):
        async with Wire(node.port) as wire:
            await wire.send(get(node.port, "/health"))
            assert (await read_answer(wire)).status == 200
            async with dripping(wire, b"GET / HTTP/1.1\r\nX-A: "):
                assert (await read_answer(wire)).status == 408
                await wire.until_closed()

    async def test_an_idle_connection_is_kept_longer(self, short, node):
        async with Wire(node.port, timeout=3 * SHORT) as wire:
            for _ in range(2):
                await wire.send(get(node.port, "/health"))
                assert (await read_answer(wire)).status == 200
                with pytest.raises(TimeoutError):
                    await wire.read_some()

    async def test_an_idle_connection_is_closed_in_the_end(self, monkeypatch, model_server, tmp_path):
        monkeypatch.setattr(shell, "IDLE_SECONDS", SHORT)
        async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node, Wire(node.port) as wire:
            await wire.send(get(node.port, "/health"))
            assert (await read_answer(wire)).status == 200
            assert await wire.until_closed() == "fin"
            assert wire.buffer == b""

    async def test_a_late_body_that_nobody_reads_is_no_head(self, short, node):
        """What follows the answer to an upload is still its body."""
        async with Wire(node.port, timeout=3 * SHORT) as wire:
            await wire.send(post(node.port, "/nowhere", b"", {"Content-Length": "20"}))
            assert (await read_answer(wire)).status == 404
            for part in (b"a" * 10, b"a" * 10):
                await wire.send(part)
            with pytest.raises(TimeoutError):
                await wire.read_some()
            await wire.send(get(node.port, "/health"))
            assert (await read_answer(wire)).status == 200

    async def test_a_long_answer_is_no_slow_head(self, short, node, model_server):
        gate = asyncio.Event()
        model_server.next(Script(before_head=[gate], chunks=[b"{}"]))
        async with Wire(node.port, timeout=3 * SHORT) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await model_server.asked(1)
            with pytest.raises(TimeoutError):
                await wire.read_some()
            gate.set()
            assert (await read_answer(wire)).status == 200


class TestSlowBodies:
    """docs/promises.md C2."""

    @pytest.mark.parametrize(
        ("framing", "begin"),
        [({"Content-Length": "99999"}, b'{"model":"llama3","x":"'), ({"Transfer-Encoding": "chunked"}, b"ffff\r\n")],
        ids=["length", "chunked"],
    )
    async def test_a_dripping_body_is_refused(self, short, node, model_server, framing, begin):
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", b"", framing))
            async with dripping(wire, begin):
                answer = await read_answer(wire)
                await wire.until_closed()
        assert (answer.status, code(answer), answer.rest) == (408, "slow_body", b"")
        assert model_server.inferences == []

    async def test_a_body_that_never_comes_is_refused(self, short, node):
        answer = await ask(node.port, post(node.port, "/api/chat", b"", {"Content-Length": "10"}))
        assert (answer.status, code(answer)) == (408, "slow_body")

    async def test_a_slow_body_that_keeps_the_pace_is_read(self, short, node, model_server, monkeypatch):
        """Longer than one window, and never under its bytes."""
        monkeypatch.setattr(chat, "WINDOW_BYTES", 10)
        body = CHAT + b" " * 400
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", b"", {"Content-Length": str(len(body))}))
            for start in range(0, len(body), 20):
                await wire.send(body[start : start + 20])
                await asyncio.sleep(SHORT / 8)
            assert (await read_answer(wire)).status == 200
        assert model_server.inferences[-1].body == body


class TestExpect:
    async def test_the_body_is_asked_for_when_it_will_be_read(self, node, model_server):
        async with Wire(node.port) as wire:
            await wire.send(
                post(node.port, "/api/chat", b"", {"Content-Length": str(len(CHAT)), "Expect": "100-Continue"})
            )
            assert (await wire.read_head()).status == 100
            assert not wire.buffer
            await wire.send(CHAT)
            assert (await read_answer(wire)).status == 200
        assert model_server.inferences[-1].headers.get("Expect") is None

    @pytest.mark.parametrize(
        ("headers", "status"),
        [({"Host": "evil.example"}, 403), ({"Origin": "null"}, 403), ({"Content-Type": "text/plain"}, 415),
         ({"Content-Length": "99999999999"}, 413), ({"Expect": "100-continue, x"}, 417), ({"Expect": ""}, 417)],
    )  # fmt: skip
    async def test_what_is_refused_is_not_asked_for(self, node, headers, status):
        data = post(node.port, "/api/chat", b"", {"Content-Length": "9", "Expect": "100-continue", **headers})
        async with Wire(node.port) as wire:
            await wire.send(data)
            assert (await wire.read_head()).status == status

    async def test_a_key_comes_first(self, tmp_path):
        async with running(tmp_path, API_KEYS="a-key-of-sixteen") as node, Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", b"", {"Content-Length": "9", "Expect": "100-continue"}))
            assert (await wire.read_head()).status == 401

    async def test_http_1_0_knows_no_100(self, node):
        data = post(node.port, "/api/chat", CHAT, {"Expect": "100-continue"}).replace(b"HTTP/1.1", b"HTTP/1.0")
        async with Wire(node.port) as wire:
            await wire.send(data)
            assert (await wire.read_head()).status == 200

    async def test_a_fault_behind_it_is_a_whole_answer(self, node, monkeypatch):
        async def broken(_: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(node.node.router, "open", broken)
        answer = await ask(node.port, post(node.port, "/api/chat", CHAT, {"Expect": "100-continue"}))
        assert (answer.status, code(answer), answer.whole) == (500, "internal", True)
