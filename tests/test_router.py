"""Who answers: the choice among upstreams that serve the model, and who comes next when one cannot."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from peers.router import by_preference
from peers.upstreams.ollama import Address
from peers.upstreams.ollama import ModelServer as Server
from peers.wire import Model
from tests.calls import ask, call
from tests.conftest import StartServer
from tests.fakes import DIE, HANG, RESET, ModelServer, Script, answer, busy
from tests.nodes import Running, running

SECOND = answer({"by": "second"})

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a node with these settings: `await start(LLM_CHAT_URL=…)`."""
    async with AsyncExitStack() as stack:

        async def started(**settings: str) -> Running:
            return await stack.enter_async_context(running(tmp_path, **settings))

        yield started


@pytest.fixture
async def two(model_servers: StartServer) -> tuple[ModelServer, ModelServer]:
    return await model_servers(), await model_servers()


@pytest.fixture
async def node(two: tuple[ModelServer, ModelServer], start: Start) -> Running:
    """With the two as its upstreams, the first one first."""
    return await start(LLM_CHAT_URL=",".join(server.url for server in two))


# The choice


def server(name: str, *, up: bool = True, taken: int = 0, parallel: int = 1, loaded: bool | None = None) -> Server:
    made = Server(None, Address("http://h"), name=name, parallel=parallel)  # type: ignore[arg-type]
    made.models = {"llama3": Model("llama3", frozenset({"ollama"}), loaded=loaded)}
    made.status = "up" if up else "down"
    made.places.taken = taken
    return made


@pytest.mark.parametrize(
    ("upstreams", "order"),
    [
        ([server("a"), server("b")], "ab"),
        ([server("a", up=False), server("b")], "ba"),
        ([server("a", taken=1), server("b")], "ba"),
        ([server("a", loaded=False), server("b", loaded=True)], "ba"),
        ([server("a", loaded=False), server("b")], "ba"),
        ([server("a", loaded=True), server("b")], "ab"),
        ([server("a", loaded=True, taken=1), server("b", loaded=False)], "ba"),
        ([server("a", up=False, loaded=True), server("b", taken=1, loaded=False)], "ba"),
        ([server("a", taken=3), server("b", taken=2)], "ba"),
        ([server("a", taken=1, parallel=4), server("b", parallel=4)], "ba"),
        ([server("a", taken=1, parallel=1), server("b", taken=3, parallel=4)], "ba"),
        ([server("a", taken=1), server("b", up=False), server("c", loaded=False), server("d")], "dcab"),
    ],
)
def test_up_then_free_then_loaded_then_idle_then_first(upstreams: list[Server], order: str) -> None:
    assert "".join(upstream.name for upstream in by_preference(upstreams, call())) == order


# Several servers with one model


async def test_the_free_one_is_asked(two: tuple[ModelServer, ModelServer], node: Running) -> None:
    two[0].next(Script(chunks=[HANG]))
    two[1].next(SECOND)
    first = asyncio.create_task(ask(node.url, "/api/chat"))
    await two[0].asked()
    assert (await ask(node.url, "/api/chat")).told == {"by": "second"}
    first.cancel()


async def test_as_many_as_llm_parallel_says(two: tuple[ModelServer, ModelServer], start: Start) -> None:
    node = await start(LLM_CHAT_URL=",".join(server.url for server in two), LLM_PARALLEL="2")
    gate = asyncio.Event()
    for one in two:
        one.next(*[Script(chunks=[gate, b"{}"])] * 3)
    asked = [asyncio.create_task(ask(node.url, "/api/chat")) for _ in range(5)]
    await two[0].until(lambda: len(two[0].inferences) + len(two[1].inferences) == 5)
    assert sorted([len(two[0].inferences), len(two[1].inferences)]) == [2, 3]
    gate.set()
    assert {(await one).status for one in asked} == {200}


async def test_the_loaded_one_is_asked(two: tuple[ModelServer, ModelServer], start: Start) -> None:
    two[0].speaks.loaded = []
    two[1].next(SECOND)
    node = await start(LLM_CHAT_URL=",".join(server.url for server in two))
    assert (await ask(node.url, "/api/chat")).told == {"by": "second"}


async def test_a_dead_one_is_skipped(two: tuple[ModelServer, ModelServer], node: Running) -> None:
    """The first caller already notices nothing, and the next one is not sent there."""
    await two[0].stop()
    assert [(await ask(node.url, "/api/chat")).status for _ in range(3)] == [200, 200, 200]
    assert [upstream.status for upstream in node.node.own.upstreams] == ["down", "up"]
    await two[0].start()


@pytest.mark.parametrize(
    "script",
    [Script(before_head=[DIE]), Script(before_head=[RESET]), busy(503), busy(429), busy(503, retry_after=7)],
    ids=["closed", "reset", "503", "429", "503 with Retry-After"],
)
async def test_who_cannot_answer_passes_it_on(
    two: tuple[ModelServer, ModelServer], node: Running, script: Script
) -> None:
    two[0].next(*[script] * 2)
    two[1].next(SECOND)
    answered = await ask(node.url, "/api/chat")
    assert (answered.status, answered.told) == (200, {"by": "second"})
    assert all(upstream.places.taken == 0 for upstream in node.node.own.upstreams)


@pytest.mark.parametrize("status", [400, 404, 500, 502])
async def test_any_other_word_is_the_answer(two: tuple[ModelServer, ModelServer], node: Running, status: int) -> None:
    two[0].next(answer({"error": "own word"}, status))
    answered = await ask(node.url, "/api/chat")
    assert (answered.status, answered.told) == (status, {"error": "own word"})
    assert two[1].inferences == []


async def test_when_all_refuse_the_first_ones_word_counts(two: tuple[ModelServer, ModelServer], node: Running) -> None:
    two[0].next(answer({"error": "full"}, 503, {"Retry-After": "7"}))
    two[1].next(answer({"error": "full too"}, 429))
    answered = await ask(node.url, "/api/chat")
    assert (answered.status, answered.told, answered.headers["Retry-After"]) == (503, {"error": "full"}, "7")
    assert all(upstream.places.taken == 0 for upstream in node.node.own.upstreams)


async def test_a_word_counts_more_than_none(two: tuple[ModelServer, ModelServer], node: Running) -> None:
    two[0].next(*[Script(before_head=[DIE])] * 2)
    two[1].next(answer({"error": "full"}, 503))
    assert (await ask(node.url, "/api/chat")).told == {"error": "full"}


async def test_when_none_can_be_reached(two: tuple[ModelServer, ModelServer], node: Running) -> None:
    for one in two:
        await one.stop()
    answered = await ask(node.url, "/v1/chat/completions")
    assert (answered.status, answered.told["error"]["code"]) == (502, "upstream_unreachable")
    assert answered.told["error"]["message"].startswith("ollama refused the connection. Is it running where")
    for one in two:
        await one.start()
