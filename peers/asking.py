"""Asking: the network as an Answerer: who is asked is chosen, they are raced, and what happened is remembered."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random

import structlog

from peers.conversation import LastTurns, prefixes
from peers.errors import Busy, MasaError
from peers.metrics import Metrics
from peers.network.choice import Facts, Needs, choose
from peers.network.questions import can_serve
from peers.network.reach import Reach, shown
from peers.network.remote import Remote, Ways, handed
from peers.network.table import Member
from peers.network.trust import Trust
from peers.pace import Pace
from peers.race import race
from peers.race_log import LEFT, LOST, PASSED_ON, WON, Asked, RaceLog
from peers.waves import Rules, Sends, rules
from peers.wire import Call, Model, NodeId, Reply, Sink

log = structlog.get_logger(__name__)

MOST_RACES = 200
"""Kept for those who ask why."""
BYTES_PER_TOKEN = 4
MOST_WHETHER = 8
"""Peers asked whether they serve a model that nobody is known to."""
SOON = 5.0
"""Seconds that a stream may keep its caller waiting while an upstream of this node's own has the model, if no place."""
BUSY_SECONDS = 2.0
"""For which a peer that said it is full counts as full."""
SHOWS_NOTHING = frozenset({LOST, LEFT, PASSED_ON, "definitive", "refused_by_peer", "model_not_found", "duplicate"})
"""Ends that say nothing of whether a peer is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """RACE_WIDTH (None: all), RACE_DELAY (None: auto), RACE_TIMEOUT, RACE_PATIENCE; seconds."""

    width: int | None = 8
    delay: float | None = None
    timeout: float = 30.0
    patience: float = 270.0


class Asking:
    """One for a node; `ways` is there while it is in a network."""

    def __init__(
        self,
        reach: Reach,
        limits: Limits,
        metrics: Metrics,
        rng: Random,
        *,
        own_build: Callable[[Call], str | None] = lambda call: None,
    ) -> None:
        """`own_build`: the digest of this node's own model for a call."""
        self.ways: Ways | None = None
        self.unstaked: Callable[[], str] = lambda: ""
        """Why no peer would take a call of this node's: its own stake does not hold. In words, with the remedy."""
        self.races: deque[RaceLog] = deque(maxlen=MOST_RACES)
        self._reach = reach
        self._limits = limits
        self._metrics = metrics
        self._rng = rng
        self._own_build = own_build
        reach.avoided = self.avoided
        self._trust = Trust()
        self._sends = Sends()
        self._pace = Pace()
        self._turns = LastTurns()
        self._full: dict[NodeId, float] = {}
        """Until when each that said so counts as full, in seconds of the loop's clock."""

    def serving(self, call: Call) -> list[tuple[Member, Model]]:
        return self._reach.serving(call) if self.ways and not self.unstaked() else []

    def models(self) -> list[tuple[str, str]]:
        """What peers offer: (the node's name for people, the model's)."""
        return [(name, model.name) for _, name, models in self._reach.lists() for model in models]

    async def whether(self, call: Call) -> list[tuple[Member, Model]]:
        """Nobody is known to serve the model: live peers are asked whether they do, and never for an answer."""
        if self.ways is None or self.unstaked():
            return []
        known = self._reach.routable()
        some = self._rng.sample(known, min(MOST_WHETHER, len(known)))
        found = await asyncio.gather(*(can_serve(member, self.ways.contact, call) for member in some))
        return [(member, model) for member, model in zip(some, found, strict=True) if model is not None]

    async def open(self, call: Call, peers: list[tuple[Member, Model]], *, wait: bool) -> Reply:
        """Race them. `wait`: for a busy one, since nobody else can answer. Raises MasaError."""
        if self.ways is None:
            raise MasaError(503, "no_peer", "this node has left its network meanwhile")
        loop = asyncio.get_running_loop()
        many = self._limits.width is None
        turns = prefixes(call)
        asked = choose(self._facts(call, peers, turns), self._needs(call, many), self._rng)
        if not asked:
            raise self._nobody_left(peers, loop.time())
        agreed = self._rules(call, wait=wait)
        until, ways = loop.time() + agreed.longest, self.ways
        same = handed(call)
        runners = {
            member.node: Remote(member, ways, same, lambda: until - loop.time(), self._asked) for member, _ in peers
        }
        told = RaceLog(call.id, call.model, call.stream, self._reach.clock())
        self.races.append(told)
        try:
            reply = await race(call, asked, runners, agreed, told=told, sends=self._sends, rng=self._rng)
        except MasaError as error:
            error.asked = len(told.asked)
            raise
        finally:
            self._learn(call, turns, told, loop.time())
        reply.asked = len(told.asked)
        if told.winner is not None and told.outcome == WON:
            self._watch(reply, told.winner, told)
        return reply

    def _nobody_left(self, peers: list[tuple[Member, Model]], now: float) -> MasaError:
        reasons = {shown(member.record): self._trust.why(member.node, now) for member, _ in peers}
        told = ", ".join(f"{name} ({why}, {left:.0f} s more)" for name, (why, left) in reasons.items() if why)
        text = f"the peers that have the model are not asked now: {told or 'none that fits is left'}"
        return Busy(
            text, code="no_peer", retry_after=max(1, round(min((left for _, left in reasons.values()), default=1)))
        )

    def avoided(self, node: NodeId) -> str:
        """Why a member is not asked now, for people."""
        why, left = self._trust.why(node, asyncio.get_running_loop().time())
        return f"not asked for {left:.0f} s more: {why}" if why else ""

    def _watch(self, reply: Reply, node: NodeId, told: RaceLog) -> None:
        """Whichever way its body goes on."""
        reply.chunks = self._watched(reply.chunks, node, told)
        if reply.pour is not None:
            reply.pour = partial(self._poured, reply.pour, node, told)

    async def _watched(self, chunks: AsyncIterator[bytes], node: NodeId, told: RaceLog) -> AsyncIterator[bytes]:
        with self._crediting(node, told):
            async for chunk in chunks:
                yield chunk

    async def _poured(self, pour: Callable[[Sink], Awaitable[None]], node: NodeId, told: RaceLog, sink: Sink) -> None:
        with self._crediting(node, told):
            await pour(sink)

    @contextmanager
    def _crediting(self, node: NodeId, told: RaceLog) -> Iterator[None]:
        """A winner is credited with its whole answer: one that breaks off is a failure, however soon it began."""
        try:
            yield
        except MasaError as error:
            self._trust.failed(node, asyncio.get_running_loop().time())
            told.asked[node].why = f"broke off: {error.text}"
            raise
        self._trust.answered(node, asyncio.get_running_loop().time())

    def _facts(self, call: Call, peers: list[tuple[Member, Model]], turns: list[bytes]) -> list[Facts]:
        now = asyncio.get_running_loop().time()
        out = self._trust.left_out([member.node for member, _ in peers], now)
        before = self._turns.of(turns)
        return [
            Facts(
                node=member.node,
                loaded=model.loaded,
                free=0 if self._full.get(member.node, now) > now else None,
                last_turn=member.node == before,
                first_unit=self._pace.of(member.node, call.model),
                digest=model.digest,
                context=model.context,
                failures=self._trust.failures(member.node),
                left_out=member.node in out,
            )
            for member, model in peers
        ]

    def _needs(self, call: Call, many: bool) -> Needs:
        size = len(call.body)
        return Needs(
            body=size,
            prompt=size // BYTES_PER_TOKEN,
            digest=self._own_build(call),
            one_build=call.door.operation == "embeddings",
            everybody=many,
        )

    def _rules(self, call: Call, *, wait: bool) -> Rules:
        limits = self._limits
        timeout = limits.timeout if wait or not call.stream else min(limits.timeout, SOON)
        return rules(
            call,
            width=limits.width,
            delay=limits.delay,
            usual=self._pace.usual(call.model),
            timeout=timeout,
            patience=limits.patience if wait else 0.0,
            wait=wait,
        )

    def _asked(self, node: NodeId) -> None:
        self._trust.asked(node, asyncio.get_running_loop().time())

    def _learn(self, call: Call, turns: list[bytes], told: RaceLog, now: float) -> None:
        for one in told.asked.values():
            self._judge(one, now)
        if told.winner is not None and told.outcome == WON:
            won = told.asked[told.winner]
            self._pace.add(won.node, call.model, ((told.ms or 0) - won.since) / 1000)
            self._turns.answered(turns, won.node)
        self._trust.forget_old(now)
        self._full = {node: until for node, until in self._full.items() if until > now}
        self._tell(told)

    def _judge(self, one: Asked, now: float) -> None:
        match one.outcome:
            case "won":
                self._trust.dropped(one.node)  # its end is still to come
            case "busy":
                self._trust.busy(one.node, now)
                self._full[one.node] = now + BUSY_SECONDS
            case "bad_answer":
                self._trust.lied(one.node, now, kin=self._reach.kin)
            case outcome if outcome in SHOWS_NOTHING:
                self._trust.dropped(one.node)
            case _:
                self._trust.failed(one.node, now)

    def _tell(self, told: RaceLog) -> None:
        by = told.asked[told.winner].name if told.winner else None
        log.info(
            "race", model=told.model, stream=told.stream, outcome=told.outcome, peer=by, count=told.sends, ms=told.ms,
            reason=", ".join(f"{one.name} {one.outcome}" for one in told.asked.values() if one.node != told.winner)
            or None,
        )  # fmt: skip
        self._metrics.raced(told)
