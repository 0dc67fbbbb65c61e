"""Two ways in on one connection: where a request begins, and what comes behind it (docs/security.md C-22)."""

import asyncio

import pytest

from handlers.keys import BODIES
from masa_node import fast_path
from masa_node import server as shell
from masa_node.fast_path_connection import FastPathConnection
from tests.asking import ask, code, read_answer
from tests.fakes import Script
from tests.nodes import running
from tests.plainly import asking, statuses
from tests.raw import Wire, get, post
from tests.waiting import until

SHORT = 0.3
pytestmark = pytest.mark.usefixtures("taken")


class TestOneAfterAnother:
    async def test_both_ways_take_turns_on_one_connection(self, node, taken):
        async with Wire(node.port) as wire:
            for number in range(3):
                await wire.send(asking(node.port, number))
                assert await statuses(wire, 1) == [200]
                await wire.send(get(node.port, "/health"))
                assert await statuses(wire, 1) == [200]
                await wire.send(asking(node.port, number, X="1"))
                assert await statuses(wire, 1) == [200]
                await wire.send(post(node.port, "/nowhere", b"x" * 9))
                assert await statuses(wire, 1) == [404]
        assert len(taken) == 3

    async def test_two_in_one_segment(self, node, model_server):
        async with Wire(node.port) as wire:
            await wire.send(asking(node.port, 1) + asking(node.port, 2))
            assert await statuses(wire, 2) == [200, 200]
        assert [seen.asked["n"] for seen in model_server.inferences] == [1, 2]

    @pytest.mark.parametrize("cut", [0, 20, -5])
    async def test_what_comes_meanwhile_is_answered_in_its_order(self, node, model_server, taken, cut):
        gate = asyncio.Event()
        model_server.next(Script(chunks=[b"{}\n", gate, b"{}\n"]))
        behind = asking(node.port, 2) + get(node.port, "/nowhere") + asking(node.port, 3)
        async with Wire(node.port) as wire:
            await wire.send(asking(node.port, 1))
            await wire.read_head()
            first = await wire.read_until(b"{}\n")
            await wire.send(behind[: cut or None])
            await asyncio.sleep(0)
            gate.set()
            assert (first + (await wire.read_to_end()).body) == b"{}\n{}\n"
            await wire.send(behind[cut:] if cut else b"")
            assert await statuses(wire, 3) == [200, 404, 200]
        assert [seen.asked["n"] for seen in model_server.inferences] == [1, 2, 3]

    async def test_nothing_is_taken_while_an_answer_waits_for_its_reader(self, node, taken, monkeypatch):
        """Else somebody who asks and never reads fills this node."""
        made, begun = [], FastPathConnection.connection_made

        def noting(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            begun(self, transport)

        monkeypatch.setattr(FastPathConnection, "connection_made", noting)
        async with Wire(node.port) as wire:
            await wire.send(asking(node.port, 1))
            assert await statuses(wire, 1) == [200]
            made[0].pause_writing()
            await wire.send(asking(node.port, 2))
            assert await statuses(wire, 1) == [200]
            await wire.send(asking(node.port, 3))
            assert (await ask(node.port, asking(node.port, 4))).status == 200
            assert len(taken) == 3
            made[0].resume_writing()
            assert await statuses(wire, 1) == [200]
        assert len(taken) == 4

    async def test_much_that_comes_meanwhile_waits_in_the_socket(self, node, model_server, monkeypatch):
        """It is read when there is somebody to read it."""
        come, receive = [0], FastPathConnection.data_received

        def counting(self, data: bytes) -> None:
            come[0] += len(data)
            receive(self, data)

        monkeypatch.setattr(FastPathConnection, "data_received", counting)
        gate, much = asyncio.Event(), b"x" * (16 << 20)
        model_server.next(Script(chunks=[b"{}\n", gate]))
        async with Wire(node.port) as wire:
            await wire.send(asking(node.port, 1))
            await wire.read_head()
            sending = asyncio.create_task(wire.send(post(node.port, "/nowhere", much) + get(node.port, "/health")))
            await until(lambda: come[0] > shell.READ_AHEAD)
            assert (await ask(node.port, get(node.port, "/health"))).status == 200
            assert come[0] < 1 << 20
            gate.set()
            assert (await wire.read_to_end()).clean
            assert await statuses(wire, 2) == [404, 200]
            await sending

    async def test_aiohttps_part_is_made_when_it_is_to_read(self, node):
        async with Wire(node.port) as wire:
            for data, made in (
                (asking(node.port, 1), False),
                (asking(node.port, 2), False),
                (get(node.port, "/"), True),
            ):
                await wire.send(data)
                await read_answer(wire)
                (connection,) = node.runner.node_server.connections
                assert (connection._long_way is not None) == made


class TestWhereARequestBegins:
    """What aiohttp has begun to read is never taken for the beginning of a request."""

    async def test_half_a_head(self, node, model_server, taken):
        async with Wire(node.port) as wire:
            await wire.send(b"GET /nowhere HTTP/1.1\r\nX-A: ")
            await until(lambda: any(one._long_way for one in node.runner.node_server.connections))
            await wire.send(asking(node.port, 1))
            assert await statuses(wire, 1) == [404]
        assert taken == []
        assert model_server.inferences == []

    async def test_half_a_head_behind_a_request(self, node, model_server, taken):
        async with Wire(node.port) as wire:
            await wire.send(get(node.port, "/health") + b"GET /nowhere HTTP/1.1\r\nX-A: ")
            assert await statuses(wire, 1) == [200]
            await wire.send(asking(node.port, 1))
            assert await statuses(wire, 1) == [404]
        assert taken == []

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    async def test_a_body(self, node, model_server, taken, framing):
        body = asking(node.port, 1)
        headers = {"Content-Length": str(len(body))} if framing == "length" else {"Transfer-Encoding": "chunked"}
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/nowhere", b"", headers))
            assert await statuses(wire, 1) == [404]
            await wire.send(body if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            await wire.send(get(node.port, "/health"))
            assert await statuses(wire, 1) == [200]
            assert taken == []
            await wire.send(asking(node.port, 2))
            assert await statuses(wire, 1) == [200]
        assert [seen.asked["n"] for seen in model_server.inferences] == [2]

    async def test_a_body_that_is_longer_than_it_says(self, node, model_server, taken):
        """Whoever meant it as part of the body would take the second answer for somebody else's."""
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/nowhere", b"abc", {"Content-Length": "2"}))
            await read_answer(wire)
            await wire.until_closed()
        assert taken == []


class TestInPieces:
    async def test_head_and_body_apart(self, node, model_server, taken):
        data = asking(node.port, 1)
        async with Wire(node.port) as wire:
            for cut in (data.index(b"\r\n\r\n") + 4, len(data) - 1):
                await wire.send(data[:cut])
                await until(lambda: node.app[BODIES].held)
                await wire.send(data[cut:])
                assert await statuses(wire, 1) == [200]
        assert len(taken) == 2
        assert node.app[BODIES].held == 0

    async def test_a_slow_body_goes_to_aiohttp(self, model_server, tmp_path, taken, monkeypatch):
        monkeypatch.setattr(fast_path, "HOLD_SECONDS", SHORT)
        async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node, Wire(node.port) as wire:
            data = asking(node.port, 1)
            await wire.send(data[:-1])
            await until(lambda: node.runner.node_server.busy)
            await wire.send(data[-1:])
            assert await statuses(wire, 1) == [200]
            await wire.send(asking(node.port, 2))
            assert await statuses(wire, 1) == [200]
        assert [seen.asked["n"] for seen in model_server.inferences] == [1, 2]
        assert len(taken) == 1

    async def test_more_than_it_said_goes_to_aiohttp(self, node, model_server, taken):
        data = asking(node.port, 1)
        async with Wire(node.port) as wire:
            await wire.send(data[:-1])
            await until(lambda: node.app[BODIES].held)
            await wire.send(data[-1:] + get(node.port, "/health"))
            assert await statuses(wire, 2) == [200, 200]
        assert taken == []

    async def test_who_leaves_meanwhile_gives_the_memory_back(self, node, taken):
        async with Wire(node.port) as wire:
            await wire.send(asking(node.port, 1)[:-1])
            await until(lambda: node.app[BODIES].held)
        await until(lambda: not node.app[BODIES].held)
        assert taken == []

    async def test_full_memory_is_for_aiohttp_to_tell(self, node, taken):
        node.app[BODIES].limit = 10
        answer = await ask(node.port, asking(node.port, 1))
        assert (answer.status, code(answer), taken) == (503, "busy", [])
