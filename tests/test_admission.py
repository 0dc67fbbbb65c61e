"""Admission: bounds on bodies and calls, and turns between callers."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import aiohttp
import pytest

from handlers.admission import BodyMemory, Turns
from handlers.keys import BODIES
from peers.errors import Busy
from tests.fakes import HANG, ModelServer, Script
from tests.nodes import running

CHAT = {"model": "llama3", "messages": []}


class Callers:
    """Starts calls that hold their place until told to end, and remembers in which order they got one."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.served: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.ends: dict[str, asyncio.Event] = {}

    async def call(self, name: str) -> None:
        self.ends[name] = asyncio.Event()
        try:
            async with self.turns.place(name[0]):
                self.served.append(name)
                await self.ends[name].wait()
        except Busy as error:
            self.refused.append((name, error.code))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_take_turns():
    """A greedy caller's queue does not stand before a modest one's first call."""
    callers = Callers(Turns(places=1, queue=10, patience=60))
    async with asyncio.TaskGroup() as group:
        for name in ("a0", "a1", "a2", "a3", "b1", "c1", "b2"):
            group.create_task(callers.call(name))
            await settle()
        for served in itertools.count():
            if served == 7:
                break
            await settle()
            callers.ends[callers.served[served]].set()
    assert callers.served == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]


async def test_a_full_queue_refuses_the_greediest():
    callers = Callers(Turns(places=1, queue=3, patience=60))
    async with asyncio.TaskGroup() as group:
        for name in ("a0", "a1", "a2", "a3", "a4", "b1", "c1", "d1"):
            group.create_task(callers.call(name))
            await settle()
        assert callers.refused == [
            ("a4", "queue_full"),
            ("a3", "queue_full"),
            ("a2", "queue_full"),
            ("d1", "queue_full"),
        ]
        for name in ("a0", "a1", "b1", "c1"):
            callers.ends[name].set()
    assert callers.served == ["a0", "a1", "b1", "c1"]
    assert (callers.turns.taken, callers.turns.waiting) == (0, 0)


async def test_who_waits_too_long_is_told_so():
    callers = Callers(Turns(places=1, queue=3, patience=0.01))
    async with asyncio.TaskGroup() as group:
        group.create_task(callers.call("a"))
        await settle()
        await callers.call("b")
        callers.ends["a"].set()
    assert callers.refused == [("b", "busy")]
    assert (callers.turns.taken, callers.turns.waiting) == (0, 0)


@pytest.mark.parametrize("steps", range(4))
async def test_leaving_at_any_moment_loses_no_place(steps):
    """The caller leaves before, while and after it is given its place."""
    turns = Turns(places=1, queue=3, patience=60)
    async with AsyncExitStack() as holding:
        await holding.enter_async_context(turns.place("a"))
        waiting = asyncio.create_task(Callers(turns).call("b"))
        await settle()
        await holding.aclose()
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (turns.taken, turns.waiting) == (0, 0)
    async with asyncio.timeout(1), turns.place("c"):
        assert turns.taken == 1


def test_body_memory_is_bounded_and_given_back():
    memory = BodyMemory(100)
    with memory.lease(60) as first:
        with pytest.raises(Busy), memory.lease(50):
            raise AssertionError("not admitted")
        with memory.lease(0) as second:
            second.grow(40)
            with pytest.raises(Busy):
                second.grow(41)
        first.grow(30)  # smaller than what is held: nothing changes
        assert memory.held == 60
        first.release()
        assert memory.held == 0
    assert memory.held == 0


async def test_a_declared_body_that_finds_no_memory_is_refused_before_it_is_read(model_server, tmp_path):
    async with running(tmp_path, LLM_CHAT_URL=model_server.url, MAX_BODY_BYTES="1024", MAX_BODY_MEMORY="1024") as node:
        with node.app[BODIES].lease(1000):
            async with aiohttp.ClientSession() as session, session.post(node.url + "/api/chat", json=CHAT) as got:
                assert (got.status, (await got.json())["code"], got.headers["Retry-After"]) == (503, "busy", "1")


@pytest.mark.slow
async def test_overload_is_shed_at_once_and_health_stays(tmp_path):
    """docs/promises.md C8: 2,000 at once, 64 places: who is admitted is answered, the others hear 429."""
    gate = asyncio.Event()
    async with ModelServer() as server:
        server.script("/api/chat", Script(chunks=[gate, b"{}\n"]))
        async with (
            running(tmp_path, LLM_CHAT_URL=server.url, MAX_INFLIGHT="64", QUEUE_SIZE="30", QUEUE_TIMEOUT="30") as node,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            asyncio.TaskGroup() as group,
        ):

            async def ask() -> tuple[int, str | None, bytes]:
                async with session.post(node.url + "/api/chat", json={"model": "llama3"}) as got:
                    return got.status, got.headers.get("Retry-After"), await got.read()

            asked = [group.create_task(ask()) for _ in range(2000)]
            refused = [await first for first in itertools.islice(asyncio.as_completed(asked), 2000 - 64 - 30)]
            assert {status for status, _, _ in refused} == {429}
            assert all(retry for _, retry, _ in refused)
            async with session.get(node.url + "/health") as got:
                assert got.status == 200
            gate.set()
            answered = [task for task in asked if (await task)[0] == 200]
            assert len(answered) == 64 + 30


async def test_a_hanging_upstream_does_not_hold_the_queue_for_ever(tmp_path):
    async with ModelServer() as server:
        server.script("/api/chat", Script(before_head=[HANG]))
        settings = {"LLM_CHAT_URL": server.url, "MAX_INFLIGHT": "1", "QUEUE_SIZE": "1", "QUEUE_TIMEOUT": "0.05"}
        async with (
            running(tmp_path, **settings, LLM_TIMEOUT="0.5") as node,
            aiohttp.ClientSession() as session,
            session.post(node.url + "/api/chat", json={"model": "llama3"}) as hung,
        ):
            assert (hung.status, (await hung.json())["code"]) == (504, "upstream_timeout")
