"""Vigil: a peer that is silent in the middle of its answer is asked what it does with the call.

Thirty seconds of silence, not of work, hold here as they do in a race: who is at work says so, however long its model
is silent; whoever does not say so for RACE_TIMEOUT, since its machine sleeps or is gone, is waited for no longer.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from peers.http1.answer import Answer
from peers.http1.errors import Silent
from peers.http1.watch import Watch
from peers.network.contact import Contact
from peers.network.dialing import Address
from peers.network.questions import doing
from peers.waves import ASK_EVERY, FIRST_ASK
from peers.wire import NodeId

MOST_IN_VAIN = 2
"""Questions at least, before one is given up: this node itself may have slept."""


class Vigil:
    """Over all answers of peers that have begun."""

    def __init__(self, contact: Contact, timeout: float) -> None:
        """`timeout`: RACE_TIMEOUT, seconds."""
        self.contact = contact
        self.timeout = timeout
        self._watch = Watch()
        self._open: dict[Answer, _Watched] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def begin(self, node: NodeId, at: Address, request_id: str, answer: Answer) -> None:
        one = self._open[answer] = _Watched(self, node, at, request_id, answer)
        self.go_on(one)

    def end(self, answer: Answer) -> None:
        """Right at any time."""
        one = self._open.pop(answer, None)
        if one is not None:
            self._watch.end(one)

    def ask(self, one: "_Watched") -> None:
        task = asyncio.create_task(one.ask(), name="vigil")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def go_on(self, one: "_Watched") -> None:
        """With its next due time."""
        if one.answer in self._open and not one.answer.over:
            self._watch.begin(one, one.due(asyncio.get_running_loop().time()))

    def close(self) -> None:
        for answer in [*self._open]:
            self.end(answer)
        for task in self._asking:
            task.cancel()


class _Watched:
    __slots__ = ("_asked_at", "_at", "_in_vain", "_lived", "_node", "_request_id", "_vigil", "answer")

    def __init__(self, vigil: Vigil, node: NodeId, at: Address, request_id: str, answer: Answer) -> None:
        self.answer = answer
        self._vigil = vigil
        self._node = node
        self._at = at
        self._request_id = request_id
        self._lived = self._asked_at = float("-inf")
        """When it last said what it does; when it was last asked, infinite meanwhile."""
        self._in_vain = 0
        """Questions since then."""

    def due(self, now: float) -> float:
        """As Watched has it: when it is to be asked."""
        timeout = self._vigil.timeout
        return max(self._heard(now) + FIRST_ASK * timeout, self._asked_at + ASK_EVERY * timeout)

    def silent(self) -> None:
        self._asked_at = float("inf")
        self._vigil.ask(self)

    async def ask(self) -> None:
        told = await doing(self._vigil.contact, self._node, self._at, self._request_id)
        self._asked_at = now = asyncio.get_running_loop().time()
        if told is not None:
            self._lived, self._in_vain = now, 0
        else:
            self._in_vain += 1
        if self._in_vain >= MOST_IN_VAIN and now - self._heard(now) >= self._vigil.timeout:
            self.answer.give_up(Silent("it does not say any more that it is at work"))
        self._vigil.go_on(self)

    def _heard(self, now: float) -> float:
        return max(self.answer.heard_at(now), self._lived)


@contextmanager
def open_vigil(contact: Contact, timeout: float) -> Iterator[Vigil]:
    """Until the block is left."""
    vigil = Vigil(contact, timeout)
    try:
        yield vigil
    finally:
        vigil.close()
