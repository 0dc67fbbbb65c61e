"""A real llama.cpp engine behind each of three peers, two of them slowed: the fastest answers, the others stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import web

from masa_node.listening import listening_sockets, url_of
from tests.calls import Answered
from tests.engine import SENTENCE, ollama_engine, openai_engine
from tests.fleet import fleet
from tests.nodes import Running
from tests.test_engine import OLLAMA, OPENAI, ask, kept_running, text, units
from tests.waiting import until

pytestmark = pytest.mark.engine

SLOW = 4.0
"""Seconds by which the answers of a slowed engine come late: many times what a whole one takes."""
SOON = 0.5
"""Ten times the 50 ms in which losers are to stop (docs/promises.md B6)."""
ENGINES: dict[str, Callable[[], AbstractAsyncContextManager[str]]] = {OPENAI: openai_engine, OLLAMA: ollama_engine}


@dataclass(slots=True)
class Delay:
    """A proxy before an engine: it asks at once, and answers late. Who leaves it, leaves the engine.

    The first event of OpenAI's stream, which says nothing yet, comes at once.
    """

    engine: str
    session: aiohttp.ClientSession
    seconds: float = 0.0
    under_way: int = 0
    """Requests for work."""
    left: list[float] = field(default_factory=list)
    """When askers left before the end of their answer, by the monotonic clock."""

    async def passed(self, request: web.Request) -> web.StreamResponse:
        work = request.method == "POST"
        self.under_way += work
        kind = {"Content-Type": request.content_type}
        try:
            body = await request.read()
            async with self.session.request(request.method, self.engine + request.path, data=body, headers=kind) as got:
                out = web.StreamResponse(status=got.status, headers={"Content-Type": got.headers["Content-Type"]})
                if got.content_type == "text/event-stream":
                    await out.prepare(request)
                    await out.write(await got.content.readuntil(b"\n\n"))
                await asyncio.sleep(self.seconds * work)
                await out.prepare(request)
                async for chunk in got.content.iter_any():
                    await out.write(chunk)
                await out.write_eof()
                return out
        except (asyncio.CancelledError, ConnectionError):
            self.left.append(time.monotonic())
            raise
        finally:
            self.under_way -= work


class World(NamedTuple):
    path: str
    asker: Running
    delays: list[Delay]
    """Before the engine of each peer, in their order."""


@pytest.fixture(scope="module", params=ENGINES)
def engines(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    """A path, and three that answer on it."""
    start = contextmanager(kept_running)
    with ExitStack() as stack:
        yield request.param, [stack.enter_context(start(ENGINES[request.param]())) for _ in range(3)]


@asynccontextmanager
async def delayed(engine: str) -> AsyncIterator[tuple[Delay, str]]:
    """A Delay that listens, and its URL."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        delay, app = Delay(engine, session), web.Application()
        app.router.add_route("*", "/{any:.*}", delay.passed)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.25)
        await runner.setup()
        try:
            sockets = await asyncio.to_thread(listening_sockets, "127.0.0.1", 0)
            await web.SockSite(runner, sockets[0]).start()
            yield delay, url_of(sockets[0])
        finally:
            await runner.cleanup()


@pytest.fixture
async def world(engines: tuple[str, list[str]], tmp_path: Path) -> AsyncIterator[World]:
    path, urls = engines
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(delayed(url)) for url in urls]
        nodes = await stack.enter_async_context(fleet(tmp_path, {}, *({"LLM_CHAT_URL": url} for _, url in made)))
        yield World(path, nodes[0], [delay for delay, _ in made])


def winner(answered: Answered) -> int:
    """Which peer, counted from 0: the asker's name is n0."""
    return int(answered.headers["X-Masa-Name"][1]) - 1


@pytest.mark.parametrize("stream", [True, False])
async def test_the_fastest_wins_and_the_others_stop(world: World, stream: bool) -> None:
    direct = units(await ask(world.delays[0].engine, world.path, stream=stream))
    assert "".join(text(unit) for unit in direct if unit != "[DONE]").strip() == SENTENCE
    asked = 0
    for fastest in (0, 1, 2, 0):
        for number, delay in enumerate(world.delays):
            delay.seconds = 0.0 if number == fastest else SLOW
            delay.left.clear()
        answered = await ask(world.asker.url, world.path, stream=stream)
        ended = time.monotonic()
        assert (answered.status, answered.route, winner(answered)) == (200, "peer", fastest)
        assert units(answered) == direct
        await until(lambda: not any(delay.under_way for delay in world.delays), SOON)
        readers = int(answered.headers["X-Masa-Asked"])
        left = [at for delay in world.delays for at in delay.left]
        assert len(left) == readers - 1
        assert all(at < ended + SOON for at in left)
        asked += readers
    assert asked >= (9 if stream else 5)
    for delay in world.delays:
        begun = time.monotonic()
        assert units(await ask(delay.engine, world.path, stream=stream)) == direct
        assert time.monotonic() - begun < SLOW


async def test_many_at_once(world: World) -> None:
    """Nobody's answer is mixed with another one's, and none is lost."""
    world.delays[1].seconds = world.delays[2].seconds = 0.5
    answers = await asyncio.gather(*(ask(world.asker.url, world.path, stream=n % 2 == 0) for n in range(8)))
    for answered in answers:
        assert answered.status == 200, answered.body
        assert "".join(text(unit) for unit in units(answered) if unit != "[DONE]").strip() == SENTENCE
    await until(lambda: not any(delay.under_way for delay in world.delays), SOON)
