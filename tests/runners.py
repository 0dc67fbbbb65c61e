"""Races in virtual time: runners that follow a script and count what they leave open, and a loop that never waits."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import closing
from random import Random
from typing import Any, TypeVar

import async_solipsism

from peers.errors import Busy, MasaError
from peers.race import race
from peers.race_log import RaceLog
from peers.runner import Doing, PassedOn
from peers.waves import Candidate, Rules, Sends
from peers.wire import NodeId, Reply
from tests.calls import call

RULES = Rules(width=8, delay=1.0)

T = TypeVar("T")

Act = Callable[["Scripted"], Awaitable[Reply]]
"""What a runner does when it is asked."""


class Scripted:
    """Does one act after another, each time it is asked the next; the last one again and again."""

    def __init__(self, name: str, *acts: Act, doing: Callable[[float], Doing | None] = lambda at: None) -> None:
        self.name = name
        self.node = NodeId(name)
        self._acts = acts
        self._doing = doing
        self.asked: list[float] = []
        """When, in seconds."""
        self.open_replies = 0
        self.stopped = 0
        """Times that it was cancelled at work."""

    async def open(self, _call: object) -> Reply:
        self.asked.append(now())
        try:
            return await self._acts[min(len(self.asked), len(self._acts)) - 1](self)
        except asyncio.CancelledError:
            self.stopped += 1
            raise

    async def doing(self) -> Doing | None:
        await asyncio.sleep(0.1)
        return self._doing(now())

    def reply(self) -> Reply:
        self.open_replies += 1

        def closed() -> None:
            self.open_replies -= 1

        return Reply(200, {}, one_chunk(self.name), "peer", "ollama", closed)


def answers(after: float = 0.0) -> Act:
    async def act(runner: Scripted) -> Reply:
        await asyncio.sleep(after)
        return runner.reply()

    return act


def fails(after: float = 0.0, *, code: str = "unreachable", text: str = "connection refused") -> Act:
    async def act(_runner: Scripted) -> Reply:
        await asyncio.sleep(after)
        raise MasaError(502, code, text)

    return act


def is_busy(retry_after: int = 1, after: float = 0.0) -> Act:
    async def act(_runner: Scripted) -> Reply:
        await asyncio.sleep(after)
        raise Busy("it is full", retry_after=retry_after)

    return act


def says(status: int, after: float = 0.0, body: bytes = b'{"error":"no"}') -> Act:
    async def act(_runner: Scripted) -> Reply:
        await asyncio.sleep(after)
        raise PassedOn(status, {"content-type": "application/json"}, body, "ollama")

    return act


async def hangs(_runner: Scripted) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError


def clings(seconds: float) -> Act:
    """When cancelled it goes on for so long, and then answers all the same."""

    async def act(runner: Scripted) -> Reply:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
        return runner.reply()

    return act


async def run(*runners: Scripted, rules: Rules = RULES, stages: Mapping[str, int] | None = None, **more: Any) -> Reply:
    """A race of these, in this order. `more`: the call's fields, and `told`, `sends`."""
    told, sends = more.pop("told", a_log()), more.pop("sends", Sends())
    order = [Candidate(runner.node, (stages or {}).get(runner.name, 0)) for runner in runners]
    by_node = {runner.node: runner for runner in runners}
    asked = call(**({"stream": True} | more))
    return await race(asked, order, by_node, rules, told=told, sends=sends, rng=Random(1))


def a_log() -> RaceLog:
    return RaceLog("r1", "llama3", True, 0.0)


async def result(*runners: Scripted, **more: Any) -> tuple[str, float]:
    """Who won, or the status and code of the error; and when."""
    try:
        reply = await run(*runners, **more)
    except MasaError as error:
        return f"{error.status} {error.code}", now()
    at = now()
    return await won_by(reply), at


async def won_by(reply: Reply) -> str:
    """Whose it is: read and closed."""
    with closing(reply):
        return b"".join([chunk async for chunk in reply.chunks]).decode()


def virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop whose clock starts at 0 and leaps to the next thing to do; no task may outlive it for long."""

    async def whole() -> T:
        try:
            return await main
        finally:
            await assert_nothing_runs()

    with warnings.catch_warnings(), asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        # Two timers within a microsecond are one to its clock.
        warnings.simplefilter("ignore", async_solipsism.ResolutionWarning)
        return runner.run(whole())


async def assert_nothing_runs() -> None:
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, stray = await asyncio.wait(others, timeout=60)
        assert not stray


def hold_up(seconds: float) -> None:
    """As if this process had not run meanwhile."""
    asyncio.get_running_loop()._selector.clock.advance(seconds)  # type: ignore[attr-defined]


def now() -> float:
    return asyncio.get_running_loop().time()


async def one_chunk(text: str) -> AsyncIterator[bytes]:
    yield text.encode()
