"""Own: every upstream of this node, those in use now, and what they serve."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from peers.upstreams.eliza import Eliza
from peers.upstreams.ollama import ModelServer
from peers.upstreams.upstream import Upstream
from peers.wire import Call, Model, Reply

FIRST_LOOK_SECONDS = 2.0
MISS_SECONDS = 1.0
MISS_PAUSE = 2.0


class BuiltIn:
    """Eliza with an upstream's face: always up, always free."""

    name = "eliza"
    status = "up"
    why = ""

    def __init__(self, eliza: Eliza) -> None:
        self._eliza = eliza
        self.models = {eliza.model.name: eliza.model}

    def serves(self, call: Call) -> bool:
        same = call.model in ("eliza", "eliza:latest")
        return same and (call.door.dialect == "any" or call.door.dialect in self._eliza.model.dialects)

    async def open(self, call: Call) -> Reply:
        return await self._eliza.open(call)


class Own:
    """The upstreams by the operator's settings, in the order they are preferred.

    `eliza` is None where the settings rule it out; `eliza_named` offers it beside whatever else there is. Unnamed, it
    is offered only while nothing else is configured or found.
    """

    def __init__(
        self, upstreams: Sequence[Upstream], eliza: BuiltIn | None, *, eliza_named: bool, clock: Callable[[], float]
    ) -> None:
        self.upstreams = upstreams
        self._eliza = eliza
        self._eliza_named = eliza_named
        self._clock = clock
        self._looked_at = clock() - MISS_PAUSE
        self._first_look = asyncio.Event()

    def in_use(self) -> Iterator[Upstream]:
        """Those configured, and those found that answer."""
        return (upstream for upstream in self.upstreams if not upstream.found or upstream.status == "up")

    def eliza(self) -> BuiltIn | None:
        """The built-in program, while it is offered."""
        return self._eliza if self._eliza_named or not any(self.in_use()) else None

    def model_servers(self) -> list[ModelServer]:
        return [upstream for upstream in self.in_use() if isinstance(upstream, ModelServer)]

    def models(self) -> list[tuple[str, Model]]:
        """What can be asked for now, each with its upstream's name."""
        listed = [(up.name, model) for up in self.in_use() if up.status == "up" for model in up.models.values()]
        eliza = self.eliza()
        return listed + ([(eliza.name, model) for model in eliza.models.values()] if eliza else [])

    def shared(self) -> list[Model]:
        """What peers may use: own model servers' models, but for those that a server relays to its owner's cloud."""
        listed = [model for server in self.model_servers() if server.status == "up" for model in server.models.values()]
        return [model for model in listed if not model.entries.get("tags", {}).get("remote_host")]

    def ready(self) -> bool:
        return self.eliza() is not None or any(upstream.status == "up" for upstream in self.in_use())

    async def first_look(self) -> None:
        """Wait until every upstream was asked once, or has had its time."""
        if self._first_look.is_set():
            return
        try:
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self._first_look.wait()
        except TimeoutError:
            self._first_look.set()

    def looked(self) -> None:
        """One upstream was asked: the first look is over when none is left unasked."""
        if all(upstream.status != "unknown" for upstream in self.upstreams):
            self._first_look.set()

    async def look_again(self) -> None:
        """Nobody is known to serve the model asked for: ask the model servers anew, without waiting for a slow one.

        Those looked for but not found are asked too: one may have been started a moment ago.
        """
        if self._clock() - self._looked_at < MISS_PAUSE:
            return
        self._looked_at = self._clock()
        try:
            async with asyncio.timeout(MISS_SECONDS), asyncio.TaskGroup() as group:
                for upstream in self.upstreams:
                    if isinstance(upstream, ModelServer):
                        group.create_task(upstream.refresh(), name=f"look:{upstream.name}")
        except TimeoutError:
            return
