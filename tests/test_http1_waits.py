"""How long our HTTP client waits, how much it holds meanwhile, and that whoever stops waiting leaves nothing behind."""

import asyncio

import pytest

from peers.http1.client import Client
from peers.http1.connection import SLICE, Connection
from peers.http1.dial import dial
from peers.http1.errors import Broken, Silent, Unreached, UnreachedInTime
from tests.commands import unused_port
from tests.http1 import Bucket, read
from tests.http1_server import HEAD, HELLO, KERNEL, LARGE, LONG, SOON, WITHIN, Caller, hello, saying, serving
from tests.waiting import settled, until

CLOCK = 0.002
"""Seconds by which uvloop's clock, which counts milliseconds, may be off."""


@pytest.mark.parametrize("said", [b"", HELLO[:9], HELLO[:-5], HELLO[:-1], HELLO[:9].replace(b"1.1", b"1.0")])
async def test_silence_is_noticed_before_the_answer_and_in_it(said: bytes) -> None:
    async with serving(saying(said)) as (server, caller):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(Silent):
            await read(await caller.ask(silence=SOON), Bucket())
        assert SOON - CLOCK <= loop.time() - begun < SOON * 5
        await until(lambda: not server.open)


async def test_a_slow_answer_is_not_silent() -> None:
    gate = asyncio.Event()

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        for at in range(len(HELLO)):
            await gate.wait()
            gate.clear()
            writer.write(HELLO[at : at + 1])

    async with serving(slowly) as (_, caller):
        loop = asyncio.get_running_loop()
        ticks = [loop.call_later(number * SOON / 8, gate.set) for number in range(1, 2 * len(HELLO))]
        begun, body = loop.time(), Bucket()
        await read(await caller.ask(silence=SOON), body)
        assert body.content == b"Hello"
        assert loop.time() - begun > SOON * 2
        for tick in ticks:
            tick.cancel()


async def test_a_place_that_takes_no_connection_is_given_up_in_time() -> None:
    async def never(place: int, connection: Connection) -> None:
        await asyncio.Event().wait()

    client = Client[int](never, 1)
    with pytest.raises(UnreachedInTime):
        await client.ask(1, HEAD % 0, connect=SOON, silence=WITHIN)
    refused = Caller(unused_port())
    with pytest.raises(Unreached):
        await refused.ask()
    client.close()


STEPS = {"before the head": b"", "in the head": HELLO[:9], "before the body": HELLO[:-5], "in the body": HELLO[:-2]}


@pytest.mark.parametrize("said", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("poured", [False, True])
async def test_a_call_that_is_cancelled_leaves_nothing(said: bytes, poured: bool) -> None:
    async with serving(saying(said)) as (server, caller):

        async def call() -> None:
            answer = await caller.ask()
            try:
                await (answer.pour(Bucket()) if poured else read(answer, Bucket()))
            finally:
                answer.close()

        task = asyncio.ensure_future(call())
        await until(lambda: server.asked)
        await settled(lambda: caller.connections[0]._heard)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not server.open and not caller.client._open)


async def test_a_connection_that_is_made_when_the_client_is_closed_is_not_used() -> None:
    gate, made = asyncio.Event(), list[Connection]()
    async with serving(hello) as (server, _):

        async def slow(place: int, connection: Connection) -> None:
            await dial(connection, "127.0.0.1", place)
            made.append(connection)
            await gate.wait()

        client = Client[int](slow, 30)
        asking = asyncio.ensure_future(client.ask(server.port, HEAD % 0, connect=WITHIN, silence=WITHIN))
        await until(lambda: made)
        client.close()
        gate.set()
        with pytest.raises(Unreached):
            await asking
        await until(lambda: not server.open)
        assert server.asked == 0


async def test_an_answer_that_is_closed_early_ends_the_connection_and_is_not_whole() -> None:
    async with serving(saying(HELLO[:-2])) as (server, caller):
        answer = await caller.ask()
        answer.close()
        answer.close()
        assert not answer.whole
        with pytest.raises(Broken):
            await read(answer, Bucket())
        await until(lambda: not server.open)


async def test_closing_the_client_breaks_what_is_under_way() -> None:
    async with serving(saying(HELLO[:-2])) as (server, caller):
        answer = await caller.ask()
        caller.client.close()
        with pytest.raises(Broken):
            await read(answer, Bucket())
        with pytest.raises(Unreached):
            await caller.ask()
        await until(lambda: not server.open)


class Slow(Bucket):
    """It holds its source up as soon as it has something."""

    def write(self, piece: bytes) -> None:
        self.content = piece
        source = self.sources[-1]
        assert source is not None
        source.pause()


@pytest.mark.parametrize("poured", [False, True])
async def test_a_slow_reader_holds_up_the_sender_and_no_silence_counts_against_it(poured: bool) -> None:
    sent = 0

    async def much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nonlocal sent
        writer.write(LONG % LARGE)
        while sent < LARGE:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    async with serving(much) as (_, caller):
        answer = await caller.ask(silence=SOON)
        sink = Slow()
        pouring = asyncio.ensure_future(answer.pour(sink)) if poured else None
        await settled(lambda: sent, still=SOON * 3)
        assert 0 < sent < KERNEL
        if pouring is None:
            size = 0
            while piece := await answer.read():
                size += len(piece)
            assert size == LARGE
        else:
            while not pouring.done():
                answer.resume()
                await asyncio.wait([pouring], timeout=0)
            await pouring
        assert answer.whole


async def test_a_server_that_does_not_read_holds_up_the_upload() -> None:
    gate, got = asyncio.Event(), 0

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        nonlocal got
        await gate.wait()
        while got < LARGE:
            got += len(await reader.read(1 << 16))
        writer.write(HELLO)

    async with serving(late) as (_, caller):
        told = asyncio.ensure_future(caller.told(bytes(LARGE)))
        await until(lambda: caller.connections and caller.connections[0]._full)
        held = caller.connections[0].transport.get_write_buffer_size()
        assert held <= 2 * SLICE
        gate.set()
        assert await told == b"Hello"
        assert got == LARGE


@pytest.mark.parametrize("whole", [True, False])
async def test_an_early_answer_to_an_upload_that_nobody_reads_is_heard_at_once(whole: bool) -> None:
    gate = asyncio.Event()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\nHello" % (5 if whole else 6))
        await gate.wait()

    async with serving(early) as (_, caller):
        try:
            async with asyncio.timeout(WITHIN / 2):
                answer = await caller.ask(bytes(LARGE))
        finally:
            gate.set()
        assert (answer.status, await answer.read()) == (413, b"Hello")
        assert answer.whole == whole
        answer.close()
        assert not caller.connections[0].open
