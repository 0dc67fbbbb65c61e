"""How an answer on the fast path ends: callers leave or read slowly, nodes stop (docs/security.md C-22)."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from handlers.keys import Sight
from handlers.out import Out
from masa_node import server as shell
from peers.wire import Reply
from tests.asking import ask, code, read_answer
from tests.fakes import HANG, Script
from tests.nodes import Running, running
from tests.plainly import asking, statuses
from tests.raw import Wire, get
from tests.told import events, logged
from tests.waiting import until

SHORT = 0.3
pytestmark = pytest.mark.usefixtures("taken")


class TestTheEnd:
    @pytest.mark.parametrize("begun", [False, True])
    async def test_the_upstream_stops_when_the_caller_leaves(self, node, model_server, taken, begun):
        log = logged()
        model_server.next(Script(before_head=[] if begun else [HANG], chunks=[b"{}\n", HANG]))
        async with Wire(node.port) as wire:
            await wire.send(asking(node.port, 1))
            seen = await model_server.asked()
            if begun:
                await wire.read_head()
        async with asyncio.timeout(1):
            await seen.abandoned.wait()
        await until(lambda: events(log, "request"))
        (told,) = events(log, "request")
        assert (told["status"], told["outcome"], len(taken)) == (499, "caller_gone", 1)

    @pytest.mark.parametrize("before", ["", "/health"])
    async def test_an_idle_connection_is_closed_in_the_end_and_a_busy_one_is_not(
        self, model_server, tmp_path, taken, monkeypatch, before
    ):
        """`before`: aiohttp, which has a clock of its own, has answered there too."""
        monkeypatch.setattr(shell, "IDLE_SECONDS", SHORT)
        model_server.next(Script(chunks=[b"{}\n", *[SHORT, b"{}\n"] * 4]))
        async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node, Wire(node.port) as wire:
            if before:
                await wire.send(get(node.port, before))
                assert await statuses(wire, 1) == [200]
            await wire.send(asking(node.port, 1))
            assert (await read_answer(wire)).body == b"{}\n" * 5
            loop = asyncio.get_running_loop()
            since = loop.time()
            assert await wire.until_closed() == "fin"
            assert loop.time() - since > SHORT / 2
            assert (wire.buffer, len(taken)) == (b"", 1)

    async def test_a_node_that_closes_takes_no_more(self, node, taken):
        async with Wire(node.port) as wire:
            await wire.send(asking(node.port, 1))
            assert await statuses(wire, 1) == [200]
            node.node.life.closed = True
            await wire.send(asking(node.port, 2))
            answer = await read_answer(wire)
        assert (answer.status, code(answer), len(taken)) == (503, "draining", 1)

    async def test_what_runs_when_the_node_stops_is_cut(self, model_server, tmp_path, taken):
        model_server.next(Script(chunks=[b"{}\n", HANG]))
        async with AsyncExitStack() as stack:
            node: Running = await stack.enter_async_context(running(tmp_path, LLM_CHAT_URL=model_server.url))
            wire = await stack.enter_async_context(Wire(node.port))
            assert not node.runner.node_server.busy
            await wire.send(asking(node.port, 1))
            await wire.read_head()
            assert node.runner.node_server.busy
            stopping = asyncio.create_task(node.runner.cleanup())
            ending = await wire.read_to_end()
            await stopping
            assert (ending.body, ending.clean, len(taken)) == (b"{}\n", False, 1)
            assert not node.runner.node_server.busy

    async def test_idle_connections_are_closed_when_the_node_stops(self, model_server, tmp_path):
        """One that was never heard of, one that aiohttp has nothing to do with, one where it has answered."""
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(running(tmp_path, LLM_CHAT_URL=model_server.url))
            wires = [await stack.enter_async_context(Wire(node.port)) for _ in range(3)]
            for wire, data in zip(wires[1:], (asking(node.port, 1), get(node.port, "/health")), strict=True):
                await wire.send(data)
                assert await statuses(wire, 1) == [200]
            await until(lambda: len(node.runner.node_server.connections) == 3)
            await node.runner.cleanup()
            assert [await wire.until_closed() for wire in wires] == ["fin"] * 3
            assert [wire.buffer for wire in wires] == [b""] * 3

    async def test_what_ends_while_the_node_stops_ends_whole(self, model_server, tmp_path):
        gate = asyncio.Event()
        model_server.next(Script(chunks=[b"{}\n", gate, b"{}\n"]))
        async with running(tmp_path, LLM_CHAT_URL=model_server.url) as node, Wire(node.port) as wire:
            await wire.send(asking(node.port, 1))
            await wire.read_head()
            (connection,) = node.runner.node_server.connections
            connection.close()  # as aiohttp does when it begins to stop
            stopping = asyncio.create_task(connection.shutdown(30))
            await asyncio.sleep(0)
            gate.set()
            ending = await wire.read_to_end()
            async with asyncio.timeout(5):
                await stopping
            assert (ending.body, ending.clean) == (b"{}\n{}\n", True)
            assert await wire.until_closed() == "fin"


class Tap:
    """What feeds a Sink, and whether it is held up."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


async def test_a_slow_reader_holds_up_what_feeds_its_answer(node, monkeypatch):
    """docs/promises.md B13, for a body that is poured."""
    tap, piece, poured = Tap(), b"x" * (1 << 20), [0]

    async def pour(sink: Out) -> None:
        sink.fed_by(tap)
        while poured[0] < 64:
            if tap.told[-1:] == ["pause"]:
                await asyncio.sleep(0)
                continue
            sink.write(piece)
            poured[0] += 1
        sink.fed_by(None)

    async def opened(_: object) -> Reply:
        return Reply(200, {"content-type": "text/plain"}, None, "local:ollama", "ollama", pour=pour)

    monkeypatch.setattr(node.node.router, "open", opened)
    async with Wire(node.port, receive_buffer=4096) as wire:
        await wire.send(asking(node.port, 1))
        await wire.read_head()
        await until(lambda: tap.told)
        assert poured[0] < 32
        assert (await wire.read_to_end()).body == piece * 64
    assert set(tap.told[::2]) == {"pause"}
    assert set(tap.told[1::2]) == {"resume"}


async def test_an_answer_of_a_known_length_leaves_in_one_write(node, monkeypatch):
    writes: list[bytes] = []
    flush = Out.flush

    def noting(self) -> None:
        writes.append(b"".join(self._pieces))
        flush(self)

    async def pour(sink: Out) -> None:
        sink.write(b"{}")

    async def opened(_: object) -> Reply:
        told = {"content-type": "application/json", "content-length": "2"}
        return Reply(200, told, None, "local:ollama", "ollama", pour=pour)

    monkeypatch.setattr(Out, "flush", noting)
    monkeypatch.setattr(node.node.router, "open", opened)
    assert (await ask(node.port, asking(node.port, 1))).body == b"{}"
    (written,) = [one for one in writes if one]
    assert written.endswith(b"\r\n\r\n{}")


class TestWhenItLeaves:
    """Before its log line is written, or with the others of its turn."""

    @pytest.mark.parametrize(
        ("alone", "chunked", "piece", "end"),
        [(False, False, b"", b""), (True, False, b"head{}", b""), (False, True, b"head2\r\n{}\r\n", b"0\r\n\r\n")],
        ids=["among others", "alone", "a stream"],
    )
    async def test_its_pieces(self, alone, chunked, piece, end):
        transport, out = self.made(alone)
        out.begin(b"head", chunked=chunked, empty=False)
        assert transport.sent == b""
        out.write(b"{}")
        assert transport.sent == piece
        out.end()
        assert transport.sent == piece + end
        await asyncio.sleep(0)
        assert transport.sent == (piece + end or b"head{}")

    @pytest.mark.parametrize("alone", [True, False])
    async def test_a_whole_one(self, alone):
        transport, out = self.made(alone)
        out.whole(b"head{}")
        assert transport.sent == (b"head{}" if alone else b"")
        await asyncio.sleep(0)
        assert transport.sent == b"head{}"

    @pytest.mark.parametrize("alone", [True, False])
    async def test_one_without_a_body(self, alone):
        transport, out = self.made(alone)
        out.begin(b"head", chunked=False, empty=True)
        out.end()
        assert transport.sent == (b"head" if alone else b"")
        await asyncio.sleep(0)
        assert transport.sent == b"head"

    @pytest.mark.parametrize("many", [1, 8])
    async def test_those_that_came_in_one_turn_are_not_alone(self, node, model_server, monkeypatch, many):
        alone, gate, told = [], asyncio.Event(), Out._go

        def noting(self) -> None:
            alone.append(self._alone())
            told(self)

        monkeypatch.setattr(Out, "_go", noting)
        for _ in range(many):
            model_server.next(Script(before_head=[gate]))
        answers = [asyncio.create_task(ask(node.port, asking(node.port, 1))) for _ in range(many)]
        await until(lambda: len(model_server.inferences) == many)
        gate.set()
        await asyncio.gather(*answers)
        assert alone[0] is (many == 1)

    @staticmethod
    def made(alone: bool) -> tuple["Written", Out]:
        transport = Written()
        return transport, Out(asyncio.get_running_loop(), transport, Sight("", 0), alone=lambda: alone, slow=False)


class Written(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.sent += data
