"""Waves: whom a race asks when, whom again, and how long it goes on. Pure."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from random import Random

from peers.wire import Call, NodeId

SHORTEST_DELAY, LONGEST_DELAY = 0.3, 5.0
USUAL = 1.0
"""Seconds to the first unit of a model that has not been asked yet."""
MOST_WHOLE = 2
"""Asked at once when the answer does not stream: each of them generates all of it."""
LATE = 0.5
"""The part of RACE_TIMEOUT after which a later stage is asked although an earlier one still runs."""
FIRST_ASK, ASK_EVERY = 0.8, 1 / 6
"""Parts of RACE_TIMEOUT: when runners are first asked what they do, and how often then."""
SHORTEST_RETRY, LONGEST_RETRY = 1.0, 4.0
"""Seconds: what a Retry-After is raised to; the least doubles with every busy answer, up to the second."""
JITTER = 0.25
REMEMBERED = 50


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may be asked; the first come first."""

    node: NodeId
    stage: int = 0
    """Asked only once all of the earlier stages have refused or failed, or late."""
    alone: bool = False
    """Never asked in the same wave as another."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one race; times in seconds."""

    width: int | None
    """The most in a wave; None: all."""
    delay: float
    """Until the second wave; doubles with each."""
    timeout: float = 30.0
    patience: float = 270.0
    wait: bool = True
    """Whether the busy are asked again: not where somebody else can answer."""

    @property
    def longest(self) -> float:
        """After so long the race is over, whatever happens."""
        return self.timeout + self.patience


def rules(
    call: Call,
    *,
    width: int | None,
    delay: float | None,
    usual: float | None,
    timeout: float,
    patience: float,
    wait: bool = True,
) -> Rules:
    """What RACE_WIDTH (None: all), RACE_DELAY (None: auto) and the others mean for this call.

    `usual` is the recent time to the first unit of its model. Embeddings are not raced: one, and another late.
    """
    if call.door.operation == "embeddings":
        return Rules(1, LATE * timeout, timeout, patience, wait)
    if delay is None:
        delay = min(max(2 * (USUAL if usual is None else usual), SHORTEST_DELAY), LONGEST_DELAY)
    if width is not None and not call.stream:
        width = min(width, MOST_WHOLE)
    return Rules(width, delay, timeout, patience, wait)


class Sends:
    """How this node's last sends went. While more than half of the last 50 failed, the first wave halves, down to 1."""

    def __init__(self) -> None:
        self._failed: deque[bool] = deque(maxlen=REMEMBERED)
        self._halved = 0

    def add(self, failed: bool) -> None:
        self._failed.append(failed)

    def first_wave(self, width: int) -> int:
        """The size of a race's first wave; each race that starts in an outage halves it once more."""
        failing = 2 * sum(self._failed) > REMEMBERED
        self._halved = min(self._halved + 1, width.bit_length()) if failing else 0
        return max(1, width >> self._halved)


class Waves:
    """Each candidate is asked once, and again only after its busy answer and its Retry-After."""

    def __init__(self, candidates: Sequence[Candidate], rules: Rules, sends: Sends, rng: Random, now: float) -> None:
        self._width = rules.width or max(1, len(candidates))
        self._waiting = list(candidates)
        self._by_node = {one.node: one for one in self._waiting}
        self._running: dict[NodeId, Candidate] = {}
        self._again: dict[NodeId, float] = {}
        self._refusals: dict[NodeId, int] = {}
        self._size = sends.first_wave(self._width)
        self._gap = rules.delay
        self._next = now
        self._late = now + LATE * rules.timeout
        self._wait = rules.wait
        self._rng = rng

    def due(self, now: float) -> list[NodeId]:
        """Whom to ask now: they run from here on."""
        ready = [self._by_node[node] for node, at in self._again.items() if at <= now]
        for one in ready:
            del self._again[one.node]
        if again := [one for one in ready if self._alone(one)]:
            rank = {node: place for place, node in enumerate(self._by_node)}
            self._waiting = sorted([*self._waiting, *again], key=lambda one: rank[one.node])
        asked = [*self._wave(now), *(one for one in ready if not self._alone(one))]
        self._running.update({one.node: one for one in asked})
        return [one.node for one in asked]

    def failed(self, node: NodeId) -> None:
        self._running.pop(node, None)

    def busy(self, node: NodeId, retry_after: float | None, now: float) -> None:
        self._running.pop(node, None)
        if not self._wait:
            return
        before = self._refusals.get(node, 0)
        self._refusals[node] = before + 1
        least = min(SHORTEST_RETRY * 2**before, LONGEST_RETRY)
        self._again[node] = now + max(least, retry_after or 0) * self._rng.uniform(1, 1 + JITTER)

    def next_at(self, now: float) -> float:
        """When somebody is due if nothing else happens; infinity: nobody will be."""
        wave = [self._wave_at(now)] if self._waiting else []
        return min([*self._again.values(), *wave], default=math.inf)

    def spent(self, now: float, until: float) -> bool:
        """Nobody runs, and nobody will before `until`."""
        return not self._running and self.next_at(now) >= until

    def retry_after(self, now: float) -> int | None:
        """Seconds until the first of the busy may be asked again; None: none of them is."""
        return max(1, math.ceil(min(self._again.values()) - now)) if self._again else None

    def _alone(self, one: Candidate) -> bool:
        return one.alone or self._width == 1

    def _wave(self, now: float) -> list[Candidate]:
        if not self._waiting or now < self._wave_at(now):
            return []
        head = self._waiting[0]
        alike = takewhile(lambda one: one.stage == head.stage and not one.alone, self._waiting)
        wave = [head] if head.alone else list(islice(alike, self._size))
        del self._waiting[: len(wave)]
        self._size = self._width
        self._gap *= 2 if self._running else 1
        self._next = now + self._gap
        return wave

    def _wave_at(self, now: float) -> float:
        """At once when nobody runs."""
        if not self._running:
            return now
        stage = self._waiting[0].stage
        earlier = any(one.stage < stage for one in self._running.values())
        return max(self._next, self._late) if earlier else self._next


class Patience:
    """Thirty seconds of silence, not of work: a sign of life starts them anew, as long as patience lasts."""

    def __init__(self, rules: Rules, now: float) -> None:
        self._rules = rules
        self._started = self._heard = now
        self.ask_at = now + FIRST_ASK * rules.timeout
        """When to ask the runners what they do."""

    @property
    def over_at(self) -> float:
        """When the race is over."""
        return min(self._heard + self._rules.timeout, self._started + self._rules.longest)

    def asked(self, now: float) -> None:
        self.ask_at = now + ASK_EVERY * self._rules.timeout

    def sign_of_life(self, now: float) -> None:
        self._heard = now

    def held_up(self, seconds: float) -> None:
        """This node itself was, which is nobody's silence: answers may lie unread."""
        self._heard += seconds
