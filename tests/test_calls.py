"""`calls`: what is done with a peer's calls, told to that peer alone; and its word that one is to stop."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from peers.runner import SHORT
from tests.fakes import ModelServer
from tests.fleet import fleet
from tests.nodes import Running
from tests.scripts import HANG, NDJSON, Script
from tests.visiting import SOON, Visitor, chat, in_work, visiting
from tests.waiting import until

NEVER = Script(before_head=[HANG])
LONG = "why? " * SHORT


@pytest.fixture
async def three(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[list[Running]]:
    """Two that ask, and one with the model server."""
    settings = {"LLM_CHAT_URL": model_server.url, "LLM_PARALLEL": "2", "PEER_MAX_INFLIGHT": "4"}
    async with fleet(tmp_path, settings, {}, {}) as nodes:
        yield nodes


@pytest.fixture
async def visitor(three: list[Running]) -> AsyncIterator[Visitor]:
    async with visiting(three[1], three[0]) as made:
        yield made


async def what(visitor: Visitor, model_server: ModelServer, body: bytes, script: Script = NEVER) -> str:
    """What it is told to do with this; then it is stopped."""
    before = len(model_server.inferences)
    model_server.next(script)
    visit = await visitor.visit(body=body)
    await in_work(model_server, before + 1)
    told = await visitor.calls(ask=[visit.request_id])
    await visitor.calls(stop=[visit.request_id])
    await asyncio.wait([visit.task])
    assert 0 <= told[visit.request_id]["seconds"] < 5
    return str(told[visit.request_id]["what"])


async def test_it_tells_what_can_be_proven(visitor: Visitor, model_server: ModelServer) -> None:
    assert await what(visitor, model_server, chat()) == "silent"
    assert await what(visitor, model_server, chat(stream=False)) == "generating"
    assert await what(visitor, model_server, chat(more=LONG)) == "reading"
    assert await what(visitor, model_server, chat(more=LONG, stream=False)) == "reading"


async def test_a_model_that_is_not_in_memory_loads(
    three: list[Running], visitor: Visitor, model_server: ModelServer
) -> None:
    model_server.speaks.loaded = ()
    asked = len([one for one in model_server.requests if one.path == "/api/ps"])
    model_server.next(NEVER)
    visit = await visitor.visit()
    await in_work(model_server)
    for _ in range(5):
        assert (await visitor.calls(ask=[visit.request_id]))[visit.request_id]["what"] == "loading"
    asked_since = len([one for one in model_server.requests if one.path == "/api/ps"]) - asked
    assert 1 <= asked_since <= 3
    model_server.speaks.loaded = model_server.speaks.models

    async def changed() -> bool:
        return (await visitor.calls(ask=[visit.request_id]))[visit.request_id]["what"] != "loading"

    await until(changed, 5)
    assert (await visitor.calls(ask=[visit.request_id]))[visit.request_id]["what"] == "silent"


async def test_of_a_server_that_does_not_tell_nothing_is_claimed(tmp_path: Path) -> None:
    async with (
        ModelServer(dialects=("openai",), models=("llama3",)) as server,
        fleet(tmp_path, {"LLM_CHAT_URL": server.url}, {}) as nodes,
        visiting(nodes[1], nodes[0]) as visitor,
    ):
        server.next(NEVER)
        visit = await visitor.visit("/v1/chat/completions", chat(stream=True))
        await in_work(server)
        assert (await visitor.calls(ask=[visit.request_id]))[visit.request_id]["what"] == "silent"


async def test_who_waits_in_the_servers_own_queue_is_queued(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(NEVER, NEVER, NEVER)
    visits = [await visitor.visit() for _ in range(3)]
    await in_work(model_server, 3)
    told = await visitor.calls(ask=[visit.request_id for visit in visits])
    assert [told[visit.request_id]["what"] for visit in visits] == ["silent", "silent", "queued"]
    await visitor.calls(stop=[visits[0].request_id])
    await asyncio.wait([visits[0].task])
    assert (await visitor.calls(ask=[visits[2].request_id]))[visits[2].request_id]["what"] == "silent"


async def test_a_stop_closes_the_model_servers_connection(visitor: Visitor, model_server: ModelServer) -> None:
    for script in (NEVER, Script(headers=NDJSON, chunks=[HANG]), Script(headers=NDJSON, chunks=[b'{"a":1}\n', HANG])):
        before = len(model_server.inferences)
        model_server.next(script)
        visit = await visitor.visit()
        await in_work(model_server, before + 1)
        if len(script.chunks) > 1:
            await model_server.until(lambda: model_server.inferences[-1].written > 0)
        started = asyncio.get_running_loop().time()
        assert await visitor.calls(ask=[], stop=[visit.request_id]) == {}
        await asyncio.wait_for(model_server.inferences[-1].abandoned.wait(), SOON)
        assert asyncio.get_running_loop().time() - started < SOON
        got = await visit.answer()
        if len(script.chunks) > 1:
            assert (got.status, got.refused, got.body) == (200, None, b'{"a":1}\n')
        else:
            assert (got.status, got.refused) == (499, "stopped")


async def test_nobody_stops_or_sees_anothers_call(
    three: list[Running], visitor: Visitor, model_server: ModelServer
) -> None:
    gate = asyncio.Event()
    model_server.next(Script(headers=NDJSON, chunks=[gate, b'{"a":1}\n']))
    visit = await visitor.visit()
    await in_work(model_server)
    async with visiting(three[2], three[0]) as other:
        assert await other.calls(ask=[visit.request_id], stop=[visit.request_id]) == {}
        assert len(await visitor.calls(ask=[visit.request_id])) == 1
        gate.set()
        assert (await visit.answer()).body == b'{"a":1}\n'
    assert await visitor.calls(ask=[visit.request_id], stop=[visit.request_id, "unknown"]) == {}


async def test_what_is_no_question_is_refused(visitor: Visitor) -> None:
    many = ["x"] * 65
    for body in (b"", b"[]", b'{"ask":1}', b'{"ask":[1]}', b"\xff", b"[" * 5000):
        got = await visitor.post(body)
        assert (got.status, got.refused) == (400, "malformed"), body
    for asked in ({"ask": many}, {"stop": many}):
        assert (await visitor.post(msgspec.json.encode(asked))).refused == "malformed"
    assert (await visitor.post(b" " * (64 * 1024 + 1))).refused == "too_large"
    assert await visitor.calls() == {}
