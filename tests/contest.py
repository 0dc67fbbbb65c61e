"""Contests: nodes that ask and have no model, and peers each with a Voice; in this process, or each in its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.calls import get
from tests.fleet import QUIET, fleet
from tests.histories import History, Question, Voice
from tests.networks import Machine, Machines, machines, views
from tests.nodes import Running
from tests.waiting import until

Settings = Mapping[str, str]
NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay", "gus", "hal", "ida", "jon", "kim", "lea", "max", "nan")


@dataclass(slots=True)
class Contest:
    """In this process."""

    askers: list[Running]
    peers: list[Running]
    voices: list[Voice]
    history: History

    @property
    def asker(self) -> Running:
        return self.askers[0]

    async def ask(self, path: str = "/api/chat", *, asker: int = 0, **more: Any) -> Question:
        return await self.history.ask(self.askers[asker].url, path, **more)

    async def last_race(self, asker: int = 0) -> dict[str, Any]:
        race: dict[str, Any] = (await get(self.askers[asker].url, "/api/v1/races")).told["races"][0]
        return race

    def index(self, question: Question) -> int:
        """Which of the peers answered."""
        ids: list[str] = [one.node.who.id for one in self.peers]
        return ids.index(question.headers["X-Masa-Node"])


@asynccontextmanager
async def plainly() -> AsyncIterator[None]:
    """What fails within comes out as itself: every node's group of tasks would wrap it."""
    try:
        yield
    except ExceptionGroup as group:
        failure: BaseException = group
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        raise failure from None


@asynccontextmanager
async def contest(
    folder: Path, number: int, *askers: Settings, peers: Settings | None = None, voices: Sequence[Voice] | None = None
) -> AsyncIterator[Contest]:
    """`number` peers; one asker for each of these settings, one of the usual ones where there are none."""
    async with plainly(), AsyncExitStack() as stack:
        some = list(voices) if voices else [Voice(name) for name in NAMES[:number]]
        for voice in some:
            await stack.enter_async_context(voice)
        serving = [{"NODE_NAME": voice.name, "LLM_CHAT_URL": voice.url, **(peers or {})} for voice in some]
        asking = [dict(settings) for settings in askers or ({},)]
        nodes = await stack.enter_async_context(fleet(folder, *asking, *serving))
        those = nodes[len(asking) :]
        history = History({one.node.who.id: voice for one, voice in zip(those, some, strict=True)})
        yield Contest(nodes[: len(asking)], those, some, history)


@dataclass(slots=True)
class Machinery:
    """The same in processes of their own."""

    world: Machines
    asker: Machine
    peers: list[Machine]
    voices: list[Voice]
    history: History

    async def ask(self, path: str = "/api/chat", **more: Any) -> Question:
        return await self.history.ask(self.asker.running.url, path, **more)

    async def last_race(self) -> dict[str, Any]:
        race: dict[str, Any] = (await self.asker.get("/api/v1/races"))["races"][0]
        return race

    def index(self, question: Question) -> int:
        return [one.id for one in self.peers].index(question.headers["X-Masa-Node"])

    async def all_known(self, number: int | None = None) -> None:
        """Wait until the asker has so many peers' lists; all of them where it is not said."""
        wanted = len(self.peers) if number is None else number

        async def known() -> bool:
            return len((await self.asker.models()).get("llama3:latest", [])) == wanted

        await until(known, 20, lambda: views([self.asker]))


@asynccontextmanager
async def machinery(
    folder: Path, number: int, asker: Settings | None = None, peers: Settings | None = None
) -> AsyncIterator[Machinery]:
    async with plainly(), AsyncExitStack() as stack:
        world = await stack.enter_async_context(machines(folder))
        voices = [await stack.enter_async_context(Voice(name)) for name in NAMES[:number]]
        usual = {"NETWORK_SECRET": QUIET["NETWORK_SECRET"]}
        first = await world.start(env={**usual, **(asker or {})})
        await first.running.event("network_open")
        known = {**usual, "BOOTNODES": f"127.0.0.1:{first.peer_port}", **(peers or {})}
        nodes = await asyncio.gather(
            *(world.start(env={**known, "LLM_CHAT_URL": one.url, "NODE_NAME": one.name}) for one in voices)
        )
        history = History({node.id: voice for node, voice in zip(nodes, voices, strict=True)})
        made = Machinery(world, first, nodes, voices, history)
        await made.all_known()
        yield made
