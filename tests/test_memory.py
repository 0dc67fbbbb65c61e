"""What a real process holds while a reader is slow, or callers come and go."""

import asyncio

import aiohttp
import pytest

from tests.fakes import ModelServer, Script
from tests.processes import running_node
from tests.raw import Wire, post
from tests.waiting import settled, until

CHAT = b'{"model":"llama3","messages":[]}'
MIB = 1 << 20

pytestmark = pytest.mark.slow


async def test_a_slow_reader_costs_the_node_no_memory(tmp_path):
    """docs/promises.md B13: 100 MiB for somebody who does not read; the upstream waits, and others are served."""
    async with (
        ModelServer() as server,
        running_node(tmp_path, {"LLM_CHAT_URL": server.url}) as node,
        aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session,
    ):

        async def answered() -> None:
            async with session.post(node.url + "/api/chat", data=CHAT) as got:
                assert got.status == 200
                await got.read()

        for _ in range(20):
            await answered()
        before = node.rss()
        server.next(Script(chunks=[b"x" * MIB] * 100))
        async with Wire(node.port, receive_buffer=4096) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            await wire.read_head()
            seen = server.inferences[-1]
            await settled(lambda: seen.written)
            await answered()
            assert seen.written < 32 * MIB  # the kernel buffers some on both sides of the node
            assert node.rss() - before < 8 * MIB
            await wire.read_to_end()
        assert node.rss() - before < 16 * MIB


async def test_nothing_is_left_of_callers_who_came_and_went(tmp_path):
    """Descriptors after 300 callers, each of whom left in the middle of an answer, are those of before."""
    async with ModelServer() as server, running_node(tmp_path, {"LLM_CHAT_URL": server.url}) as node:
        never = asyncio.Event()
        server.script("/api/chat", Script(chunks=[b"{}\n", never]))

        async def come_and_go() -> None:
            async with Wire(node.port) as wire:
                await wire.send(post(node.port, "/api/chat", CHAT))
                await wire.read_head()
                await wire.read_piece()

        await come_and_go()
        before = node.open_files()
        for _ in range(10):
            await asyncio.gather(*(come_and_go() for _ in range(30)))
        await until(lambda: node.open_files() <= before + 2, 5)
