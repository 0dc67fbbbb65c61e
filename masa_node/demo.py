"""demo: a whole network on loopback, in one process: one node without a model, and others that serve eliza."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from msgspec import structs

from config.settings import Settings
from masa_node.app import Node, client_app, client_server, node
from masa_node.listening import listening_sockets, serving, url_of
from masa_node.loops import loops
from peers.network.tokens import Secret
from peers.race_log import LOST, RaceLog
from peers.upstreams.eliza import Eliza
from peers.wire import Call, Reply

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.05
MEET_SECONDS = 30.0
"""For all to know all."""
STOP_SECONDS = 5.0
"""For everyone else to stop once one has won."""
SOONEST, APART = 0.4, 0.25
"""Seconds until the first word: of the quickest eliza, and what each other one takes longer."""
PACE = 0.05
"""Seconds between two words."""


class DemoError(Exception):
    """In words."""


class SlowEliza(Eliza):
    """Eliza as on a slower machine: she takes `reads` seconds until her first word. When she is stopped is kept."""

    def __init__(self, reads: float) -> None:
        super().__init__(pace=PACE)
        self.reads = reads
        self.stopped: tuple[str, float] | None = None
        """Of the last call that was stopped: its id, and when in Unix seconds."""

    async def open(self, call: Call) -> Reply:
        reply = await super().open(call)
        return structs.replace(reply, chunks=self._slowly(call.id, reply.chunks))

    async def _slowly(self, call_id: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            await self._sleep(self.reads)
            async for chunk in chunks:
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped = call_id, time.time()
            raise


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One that listens."""

    node: Node
    url: str
    eliza: SlowEliza | None = None
    """None: it has no model."""

    @property
    def name(self) -> str:
        return self.node.who.shown

    @property
    def address(self) -> str:
        """Where peers dial it; empty while it does not listen to them yet."""
        return next(iter(self.node.joined.addresses), "")


@asynccontextmanager
async def demo_network(folder: Path, count: int, rng: Random) -> AsyncIterator[list[DemoNode]]:
    """`count` nodes that know each other; the first has no model. `folder` is theirs.

    Raises DemoError, OSError or IdentityError, in groups of the nodes that were running by then.
    """
    secret, paces = Secret.new(), [SOONEST + APART * number for number in range(count - 1)]
    rng.shuffle(paces)
    nodes: list[DemoNode] = []
    async with AsyncExitStack() as stack:
        for number, eliza in enumerate([None, *map(SlowEliza, paces)]):
            settings = settings_of(folder, number, secret, nodes[0].address if nodes else "", serves=eliza is not None)
            nodes.append(await stack.enter_async_context(_listening(settings, eliza)))
            await until(lambda: nodes[-1].address, rng, MEET_SECONDS)
        await until(lambda: all_know_all(nodes), rng, MEET_SECONDS)
        yield nodes


def settings_of(folder: Path, number: int, secret: Secret, boot: str, *, serves: bool) -> Settings:
    """Neither the environment nor a file is read: what is not said here is at its default."""
    said: dict[str, Any] = {
        "masa_dir": str(folder / f"n{number}"),
        "node_name": f"node{number}" if serves else "asker",
        "host": LOOPBACK,
        "port": 0,
        "peer_host": LOOPBACK,
        "peer_port": 0,
        "mdns": False,
        "network_secret": secret.text,
        "llm_chat_url": "eliza" if serves else "off",
    }
    return Settings.model_validate(said | ({"bootnodes": boot} if boot else {}))


def all_know_all(nodes: Sequence[DemoNode]) -> bool:
    """Each has every other for alive, and the model lists of those that serve."""
    for one in nodes:
        reach, others = one.node.joined.reach, [other for other in nodes if other is not one]
        if len(reach.routable()) < len(others) or len(reach.lists()) < sum(other.eliza is not None for other in others):
            return False
    return True


async def losers_stopped(nodes: Sequence[DemoNode], told: RaceLog, rng: Random) -> None:
    """Wait until every eliza that lost this race has stopped. Raises DemoError."""
    lost = [one for one in nodes if (asked := told.asked.get(one.node.who.id)) and asked.outcome == LOST]
    await until(lambda: all(stopped_at(one, told) is not None for one in lost), rng, STOP_SECONDS)


def stopped_at(one: DemoNode, told: RaceLog) -> int | None:
    """Milliseconds after this race began; None: it did not stop."""
    if one.eliza is None or one.eliza.stopped is None or one.eliza.stopped[0] != told.id:
        return None
    return round(1000 * (one.eliza.stopped[1] - told.at))


async def until(fact: Callable[[], object], rng: Random, within: float) -> None:
    """Look until it is true. Raises DemoError."""
    true = asyncio.Event()

    async def look() -> float:
        if fact():
            true.set()
        return LOOK_SECONDS

    try:
        async with asyncio.timeout(within), loops([("look", look)], rng):
            await true.wait()
    except TimeoutError:
        raise DemoError(f"the nodes were waited for in vain, for {within:.0f} s") from None


@asynccontextmanager
async def _listening(settings: Settings, eliza: SlowEliza | None) -> AsyncIterator[DemoNode]:
    async with node(settings, eliza=eliza) as started:
        app = client_app(started)
        sockets = await asyncio.to_thread(listening_sockets, settings.host, settings.port)
        async with serving(client_server(started, app), app, sockets):
            await started.joined.settled()
            if started.joined.why:
                raise DemoError(started.joined.why)
            yield DemoNode(started, url_of(sockets[0]), eliza)
