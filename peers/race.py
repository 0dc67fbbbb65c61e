"""race(): one call to several runners, in waves. The first answer wins, and everyone else stops."""

import asyncio
from asyncio import Task
from collections.abc import Coroutine, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

import structlog

from peers.errors import MasaError
from peers.meaning import same_refusal
from peers.race_log import LEFT, LOST, PASSED_ON, RUNNING, SILENT, WON, Asked, RaceLog, nobody_won
from peers.runner import Doing, PassedOn, Runner
from peers.waves import Candidate, Patience, Rules, Sends, Waves
from peers.wire import Call, NodeId, Reply

T = TypeVar("T")

log = structlog.get_logger(__name__)

NO_FAILURE = {WON, LOST, LEFT, "definitive", "refused_by_peer"}
"""Ends of a send that say nothing against the next one."""

TICK = 0.001
"""Seconds; a loop may wake a little early, and the clock must have moved on."""


async def race(
    call: Call,
    candidates: Sequence[Candidate],
    runners: Mapping[NodeId, Runner],
    rules: Rules,
    *,
    told: RaceLog,
    sends: Sends,
    rng: Random,
) -> Reply:
    """The first Reply; or a definitive 4xx on which two agree, or which nobody betters. Fills `told` meanwhile.

    Raises MasaError: `no_peer`, `busy`, `no_answer`, `race_timeout`, or `refused_by_peer` when all of them refuse.
    """
    now = asyncio.get_running_loop().time()
    under_way = Race(call, runners, rules, told, sends, Waves(candidates, rules, sends, rng, now), now)
    try:
        return await under_way.winner()
    except MasaError as error:
        told.outcome = error.code
        raise
    finally:
        under_way.stop()


class Race:
    """A task for each runner that has not ended, and one for each that is asked what it does."""

    def __init__(
        self,
        call: Call,
        runners: Mapping[NodeId, Runner],
        rules: Rules,
        told: RaceLog,
        sends: Sends,
        waves: Waves,
        now: float,
    ) -> None:
        self._call = call
        self._runners = runners
        self._told = told
        self._sends = sends
        self._waves = waves
        self._started = now
        self._patience = Patience(rules, now)
        self._open: dict[Task[Reply], NodeId] = {}
        self._asking: dict[Task[Doing | None], NodeId] = {}
        self._given_up: list[NodeId] = []
        self._definitive: list[tuple[NodeId, PassedOn]] = []
        self._rest = LEFT
        """What becomes of those that still run when it stops."""
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()
        """Of the wait for something to happen."""

    async def winner(self) -> Reply:
        while not self._over():
            self._send()
            self._ask_what_they_do()
            await self._next()
            self._hear()
            if (reply := self._first_good()) is not None:
                return reply
        return self._nobody_won()

    def stop(self) -> None:
        """Stop whoever still runs. Never awaits, so that it cannot be cancelled half-way."""
        for task, node in self._open.items():
            self._end(node, self._rest)
            task.cancel()
            task.add_done_callback(close_late_reply)
        for node in self._given_up:
            self._end(node, self._rest)
        for asking in self._asking:
            asking.cancel()
            asking.add_done_callback(ended_badly)
        self._told.ms = self._ms()
        if self._told.outcome == RUNNING:
            self._told.outcome = LEFT

    def _over(self) -> bool:
        now, end = self._loop.time(), self._patience.over_at
        return now >= end or self._waves.spent(now, end)

    def _send(self) -> None:
        for node in self._waves.due(self._loop.time()):
            runner = self._runners[node]
            self._open[self._begun(runner.open(self._call), f"race:{runner.name}")] = node
            at = self._ms()
            asked = self._told.asked.setdefault(node, Asked(node, runner.name, at, at, times=0))
            asked.times, asked.since, asked.outcome, asked.ended = asked.times + 1, at, RUNNING, None

    def _ask_what_they_do(self) -> None:
        if self._loop.time() < self._patience.ask_at:
            return
        self._patience.asked(self._loop.time())
        for node in set(self._open.values()) - set(self._asking.values()):
            runner = self._runners[node]
            self._asking[self._begun(runner.doing(), f"doing:{runner.name}")] = node

    def _begun(self, work: Coroutine[Any, Any, T], name: str) -> Task[T]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._wake)
        return task

    async def _next(self) -> None:
        """Until a task has ended, or it is time for something."""
        now = self._loop.time()
        until = max(min(self._patience.over_at, self._patience.ask_at, self._waves.next_at(now)), now + TICK)
        self._woken = self._loop.create_future()
        timer = self._loop.call_at(until, self._wake)
        try:
            await self._woken
        finally:
            timer.cancel()
        self._patience.held_up(max(0.0, self._loop.time() - until))

    def _wake(self, _ended: object = None) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    def _hear(self) -> None:
        """What those say who were asked what they do."""
        for asking in [task for task in self._asking if task.done()]:
            node = self._asking.pop(asking)
            doing = None if asking.cancelled() else asking.result()
            asked = self._told.asked[node]
            if doing is None or asked.outcome != RUNNING:
                continue
            asked.doing, asked.since = doing.what, self._ms() - round(1000 * doing.seconds)
            if doing.excuses(self._call):
                self._patience.sign_of_life(self._loop.time())

    def _first_good(self) -> Reply | None:
        """Judged in the order in which they were asked; who has ended beside the winner is stopped like the others."""
        for task in [task for task in self._open if task.done()]:
            node = self._open.pop(task)
            error = failure(task)
            if error is None:
                self._end(node, WON)
                return self._won(node, WON, task.result())
            self._failed(node, error)
            if self._two_agree():
                return self._pass_on()
        return None

    def _failed(self, node: NodeId, error: MasaError) -> None:
        if error.code == "deadline":  # it gave up shortly before us: it was silent, and counts as running to the end
            self._given_up.append(node)
            return
        self._end(node, error.code, error.text)
        if isinstance(error, PassedOn):
            self._definitive.append((node, error))
        if error.code == "busy":
            self._waves.busy(node, error.retry_after, self._loop.time())
        else:
            self._waves.failed(node)

    def _two_agree(self) -> bool:
        refusals = [(error.status, error.body) for _, error in self._definitive]
        return any(same_refusal(one, refusals[-1]) for one in refusals[:-1])

    def _pass_on(self) -> Reply:
        """The last one: when two agree, it is one of them."""
        node, error = self._definitive[-1]
        return self._won(node, PASSED_ON, error.reply())

    def _won(self, node: NodeId, outcome: str, reply: Reply) -> Reply:
        self._told.winner, self._told.outcome, self._rest = node, outcome, LOST
        return reply

    def _nobody_won(self) -> Reply:
        if self._definitive:
            reply, self._rest = self._pass_on(), SILENT
            return reply
        self._rest = SILENT
        raise nobody_won(self._told, self._ms(), self._waves.retry_after(self._loop.time()))

    def _end(self, node: NodeId, outcome: str, why: str = "") -> None:
        asked = self._told.asked[node]
        asked.outcome, asked.why, asked.ended = outcome, why, self._ms()
        self._sends.add(outcome not in NO_FAILURE)

    def _ms(self) -> int:
        return round(1000 * (self._loop.time() - self._started))


def failure(task: Task[Reply]) -> MasaError | None:
    """Why it has no answer. Not raised here: an error holds the frames it was raised through, and these the task."""
    if task.cancelled():
        return MasaError(502, "unreachable", "it was stopped")
    error = task.exception()
    if error is not None and not isinstance(error, MasaError):
        raise error
    return error


def close_late_reply(task: Task[Reply]) -> None:
    if not ended_badly(task):
        task.result().close()


def ended_badly(task: Task[Any]) -> bool:
    """After the race an error is nobody's; but one that is not a MasaError is a bug, and told."""
    if task.cancelled():
        return True
    error = task.exception()
    if error is not None and not isinstance(error, MasaError):
        log.error("runner_broke", exc_info=error)
    return error is not None
