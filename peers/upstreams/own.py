"""Own: every upstream of this node, those in use now, and what they serve."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from peers.network.policy import Shares
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
    free = True

    def __init__(self, eliza: Eliza) -> None:
        self._eliza = eliza
        self.models = {eliza.model.name: eliza.model}

    def model(self, name: str) -> Model | None:
        return self._eliza.model if name in ("eliza", "eliza:latest") else None

    def serves(self, call: Call) -> bool:
        model = self.model(call.model)
        return model is not None and (call.door.dialect == "any" or call.door.dialect in model.dialects)

    async def open(self, call: Call) -> Reply:
        return await self._eliza.open(call)


class Own:
    """The upstreams by the operator's settings, in the order they are preferred.

    `eliza` is None where the settings rule it out; `eliza_named` offers it beside whatever else there is. Unnamed, it
    is offered only while nothing else is configured or found.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        eliza: BuiltIn | None,
        *,
        eliza_named: bool,
        shares: Shares,
        clock: Callable[[], float],
    ) -> None:
        self.upstreams = upstreams
        self._shares = shares
        self._eliza = eliza
        self._eliza_named = eliza_named
        self._clock = clock
        self._looked_at = clock() - MISS_PAUSE
        self._first_look = asyncio.Event()

    def in_use(self) -> list[Upstream]:
        """Those configured, and those found that answer."""
        return [upstream for upstream in self.upstreams if not upstream.found or upstream.status == "up"]

    def eliza(self) -> BuiltIn | None:
        """The built-in program, while it is offered."""
        return self._eliza if self._eliza_named or not self.in_use() else None

    def model_servers(self) -> list[ModelServer]:
        return [upstream for upstream in self.in_use() if isinstance(upstream, ModelServer)]

    def models(self) -> list[tuple[str, Model]]:
        """What can be asked for now, each with its upstream's name."""
        return [(upstream.name, model) for upstream, model in self._listed()]

    def shared(self) -> list[Model]:
        """What peers may use now."""
        return [model for upstream, model in self._listed() if self.lends(upstream, model.name)]

    def shared_as(self, *names: str) -> Model | None:
        """The first that peers may use by one of these names."""
        listed = ((upstream, model) for upstream, model in self._listed() if model.name in names)
        return next((model for upstream, model in listed if self.lends(upstream, model.name)), None)

    def waits_for(self, *names: str) -> bool:
        """Peers could use a model by one of these names, were its upstream not down."""
        down = (upstream for upstream in self.upstreams if upstream.status == "down")
        return any(self.lends(upstream, name) for upstream in down for name in names)

    def lends(self, upstream: Upstream | BuiltIn, name: str) -> bool:
        """Whether peers may use its model of this name, by PEER_SERVE. Where LLM_CHAT_URL names eliza, it counts among
        the model servers."""
        model = upstream.model(name)
        if isinstance(upstream, Upstream):
            kinds = [upstream.place.provider]
        else:
            kinds = ["eliza", "ollama"] if self._eliza_named else ["eliza"]
        return model is not None and self._shares.cover(kinds, model)

    def _listed(self) -> Iterator[tuple[Upstream | BuiltIn, Model]]:
        up = (upstream for upstream in self.in_use() if upstream.status == "up")
        yield from ((upstream, model) for upstream in up for model in upstream.models.values())
        if eliza := self.eliza():
            yield from ((eliza, model) for model in eliza.models.values())

    def build(self, call: Call) -> str | None:
        """The digest of this node's own model for a call."""
        return next((model.digest for up in self.in_use() if (model := up.model(call.model)) and model.digest), None)

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
