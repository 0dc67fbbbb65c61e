"""The server's shell: sizes, caps, and what never becomes a request.

docs/security.md C-19 … C-23; docs/promises.md C3, C6, C7. Each of its tricks against the aiohttp that is installed,
on both loops; slow callers are in test_slow.py.
"""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from handlers import chat
from masa_node import server as shell
from masa_node.fast_path_connection import FastPathConnection
from masa_node.server import NodeServer
from tests.asking import ask, code, read_answer, silence
from tests.fakes import DIE, ModelServer, Script
from tests.nodes import running
from tests.raw import Wire, get, post, request
from tests.told import events, logged
from tests.waiting import until

CHAT = b'{"model":"llama3","stream":false}'


@pytest.fixture(autouse=True)
def short_lingering(monkeypatch):
    """How long what is left of a refused body is thrown away, so that its sender hears the refusal."""
    monkeypatch.setattr(shell, "LINGER_SECONDS", 0.1)


class TestSizes:
    """docs/promises.md C3."""

    @pytest.fixture
    async def node(self, model_server, tmp_path):
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, MAX_BODY_BYTES="1MiB") as node:
            yield node

    @pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}])
    async def test_a_declared_length_is_refused_unread(self, node, expect):
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", b"", {"Content-Length": str((1 << 20) + 1), **expect}))
            head = await wire.read_head()
            assert head.status == 413
            assert b"MAX_BODY_BYTES" in (await wire.read_to_end()).body
            await wire.until_closed()

    async def test_a_chunked_body_is_refused_where_it_grows_over_it(self, node, model_server, monkeypatch):
        """At most one read of the socket (256 KiB on either loop) comes over the limit."""
        come, over = [0], []
        receive, too_large = FastPathConnection.data_received, chat.too_large

        def counting(self: FastPathConnection, data: bytes) -> None:
            come[0] += len(data)
            receive(self, data)

        monkeypatch.setattr(FastPathConnection, "data_received", counting)
        monkeypatch.setattr(chat, "too_large", lambda limit: over.append(come[0]) or too_large(limit))
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        async with Wire(node.port) as wire:
            sending = asyncio.create_task(
                wire.send(post(node.port, "/api/chat", chunk * 64, {"Transfer-Encoding": "chunked"}))
            )
            answer = await read_answer(wire)
            await wire.until_closed()
            await asyncio.gather(sending, return_exceptions=True)
        assert (answer.status, code(answer)) == (413, "body_too_large")
        assert over[0] - (1 << 20) <= 256 * 1024 + 200  # and the head, and the lines around the chunks
        assert model_server.inferences == []

    async def test_a_length_that_lies_short(self, node, model_server):
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT + b"more", {"Content-Length": str(len(CHAT))}))
            assert (await read_answer(wire)).status == 400
            await wire.until_closed()
            assert wire.buffer == b""
        assert model_server.inferences == []

    async def test_a_length_that_lies_long(self, node, model_server):
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT, {"Content-Length": str(len(CHAT) + 1)}))
            wire.half_close()
            await wire.until_closed()
            assert wire.buffer == b""
        assert model_server.inferences == []


class TestHead:
    """What is good stays good (docs/promises.md C6; what is not stands in corpus.py)."""

    @pytest.mark.parametrize(
        "start",
        ["GET /api/tags HTTP/1.1", "GET /api/tags HTTP/1.0", "GET http://{host}/api/tags HTTP/1.1",
         "GET /api/tags?a=%00%ff&b=[] HTTP/1.1", "GET /%61pi/tags HTTP/1.1"],
    )  # fmt: skip
    async def test_accepted(self, node, start):
        host = f"localhost:{node.port}"
        data = f"{start.format(host=host)}\r\nhOST:  {host}\t\r\nX-A:\r\nX-B: \t~!\r\n\r\n"
        assert (await ask(node.port, data.encode())).status == 200

    async def test_an_answer_to_what_is_no_request_is_whole_and_named(self, node):
        log = logged()
        answer = await ask(node.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX A: b\r\n\r\n")
        assert (answer.status, code(answer), answer.whole) == (400, "bad_request", True)
        assert answer.headers.get("X-Masa-Node") == node.node.who.id
        assert answer.headers.get("X-Content-Type-Options") == "nosniff"
        (told,) = events(log, "request")
        assert (told["request_id"], told["status"]) == (answer.headers.get("X-Request-Id"), 400)

    async def test_garbage_behind_a_request_is_not_answered(self, node, model_server):
        """Who meant both as one request would take the second answer for somebody else's."""
        gate = asyncio.Event()
        model_server.next(Script(chunks=[b"{}", gate, b"{}"]))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await model_server.asked(1)
            await wire.send(b"\0garbage\r\n\r\n")
            assert await wire.read_head()
            gate.set()
            ending = await wire.read_to_end()
            assert (ending.body, ending.clean) == (b"{}{}", True)
            assert await wire.until_closed() == "fin"
            assert wire.buffer == b""

    async def test_a_version_of_the_future_behind_a_request_is_not_answered(self, node):
        data = get(node.port, "/health") + get(node.port, "/health").replace(b"HTTP/1.1", b"HTTP/2.0")
        async with Wire(node.port) as wire:
            await wire.send(data)
            assert (await read_answer(wire)).status == 200
            await wire.until_closed()
            assert wire.buffer == b""

    async def test_pipelined_requests_are_answered_in_their_order(self, node):
        async with Wire(node.port) as wire:
            await wire.send(get(node.port, "/health") + get(node.port, "/api/version") + get(node.port, "/nowhere"))
            assert [(await read_answer(wire)).status for _ in range(3)] == [200, 200, 404]

    @pytest.mark.parametrize("behind", ["/health", "/api/version"])
    async def test_nothing_is_waited_for_behind_a_request_for_another_protocol(self, node, behind):
        upgrade = get(node.port, "/api/version", {"Connection": "Upgrade", "Upgrade": "h2c"})
        async with Wire(node.port) as wire:
            await wire.send(upgrade + get(node.port, behind))
            assert (await read_answer(wire)).status == 200
            await wire.until_closed()
            assert wire.buffer == b""

    @pytest.mark.parametrize("path", ["/api/chat", "/nowhere"])
    async def test_a_body_whose_framing_breaks_later_is_refused_at_once(self, node, model_server, path):
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, path, b"", {"Transfer-Encoding": "chunked", "Expect": "100-continue"}))
            head = await wire.read_head()
            await wire.send(b"2\r\n{}\r\n")
            await wire.send(b"zz\r\n")
            if path == "/api/chat":
                assert head.status == 100
                answer = await read_answer(wire)
                assert (answer.status, code(answer)) == (400, "invalid_body")
            else:
                assert head.status == 404
                await wire.read_to_end()
            await wire.until_closed()
            assert wire.buffer == b""
        assert model_server.inferences == []


class TestCaps:
    """docs/promises.md C7."""

    async def test_what_is_over_max_connections_is_reset(self, model_server, tmp_path):
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, MAX_CONNECTIONS="3") as node:
            await holds(node.port, 3)
            server = node.runner.node_server
            await until(lambda: not server.open)
            assert not server.by_address
            assert (await ask(node.port, get(node.port, "/health"))).status == 200

    async def test_what_is_over_the_share_of_one_address_is_reset(self, model_server, tmp_path, monkeypatch):
        monkeypatch.setattr(shell, "_loopback", lambda address: False)
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, MAX_CONNECTIONS_PER_IP="2") as node:
            await holds(node.port, 2)

    @pytest.mark.parametrize("settings", [{"MAX_CONNECTIONS_PER_IP": "1"}, {"MAX_CONNECTIONS_PER_IP": "0"}])
    async def test_loopback_has_no_share(self, model_server, tmp_path, settings):
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, **settings) as node, AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(Wire(node.port)) for _ in range(5)]
            for wire in wires:
                await wire.send(get(node.port, "/health"))
                assert (await wire.read_head()).status == 200

    def test_shares(self, node_server):
        assert [node_server.admit(address) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2")] == [
            True,
            False,
            True,
        ]
        assert [node_server.admit(address) for address in ("127.0.0.1", "::1", "127.3.2.1")] == [True, True, False]
        node_server.leave("192.0.2.1")
        assert node_server.admit("192.0.2.1")

    @pytest.fixture
    async def node_server(self, node):
        return NodeServer(node.app, most=4, most_per_address=1)


async def holds(port: int, most: int) -> None:
    """Exactly `most` connections are answered; the next is reset without a word; one that leaves makes room."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire(port)) for _ in range(most)]
        for wire in wires:
            await wire.send(get(port, "/health"))
            assert (await read_answer(wire)).status == 200
        for _ in range(3):
            assert await silence(port) == ("reset", b"")
        wires[0].close()
        async with asyncio.timeout(2):
            while True:
                with suppress(EOFError, ConnectionError):
                    assert (await ask(port, get(port, "/health"))).status == 200
                    return


async def test_a_broken_answer_is_reset_for_http_1_0_only(node, model_server: ModelServer):
    for version, how in ((b"HTTP/1.0", "reset"), (b"HTTP/1.1", "fin")):
        model_server.next(Script(headers={"Content-Type": "text/plain"}, chunks=[b"abc", DIE]))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT).replace(b"HTTP/1.1", version))
            await wire.read_head()
            ending = await wire.read_to_end()
        assert (ending.how, ending.clean) == (how, False)


async def test_a_head_request_has_no_body(node):
    async with Wire(node.port) as wire:
        await wire.send(request("HEAD", node.port, "/nowhere") + get(node.port, "/health"))
        assert (await wire.read_head()).status == 404
        assert (await wire.read_head()).status == 200
