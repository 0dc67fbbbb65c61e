"""Admission: who may be worked for now. Bounds bodies in memory and calls in flight; callers take turns for a place."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from peers.errors import Busy


class BodyMemory:
    """The bytes of all request bodies held at once, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @contextmanager
    def lease(self, expected: int) -> Iterator["Lease"]:
        """Room for one body of `expected` bytes (0 where its length is not declared). Raises Busy."""
        lease = Lease(self)
        lease.grow(expected)
        try:
            yield lease
        finally:
            lease.release()


class Lease:
    """One body's share of BodyMemory."""

    __slots__ = ("_memory", "size")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.size = 0

    def grow(self, size: int) -> None:
        """Hold `size` bytes, if that is more than now. Raises Busy."""
        more = max(0, size - self.size)
        if self._memory.held + more > self._memory.limit:
            raise Busy(
                "request bodies fill this node's memory for them (MAX_BODY_MEMORY); try again shortly", close=True
            )
        self._memory.held += more
        self.size += more

    def release(self) -> None:
        self._memory.held -= self.size
        self.size = 0


class Turns:
    """At most `places` calls at once. Up to `queue` more wait for `patience` seconds; callers take turns."""

    def __init__(self, places: int, queue: int, patience: float) -> None:
        self.places = places
        self.queue = queue
        self.patience = patience
        self.taken = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Callers in the order of their turns, each with its own waiting calls."""

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Hold a place. Raises Busy: 429 `queue_full` at once, or 503 `busy` when the wait was too long."""
        await self.take(caller)
        try:
            yield
        finally:
            self.release()

    async def take(self, caller: str) -> None:
        """As place(), for who calls release() itself: a generator costs more than all the rest of it."""
        if self.taken >= self.places:
            await self._wait(caller)
        else:
            self.taken += 1

    def release(self) -> None:
        self.taken -= 1
        if self._waiting:
            self._next()

    async def _wait(self, caller: str) -> None:
        if self.waiting >= self.queue and not self._displace(caller):
            raise _full()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(self.patience):
                await turn
        except TimeoutError:
            raise Busy(
                f"no place came free within {self.patience:g} s (QUEUE_TIMEOUT); try again shortly", retry_after=2
            ) from None
        except BaseException:
            self._return_unused(turn)
            raise
        finally:
            self._forget(caller, turn)

    def _next(self) -> None:
        """Give a free place to the caller whose turn it is, who then goes to the end of the line."""
        while self._waiting and self.taken < self.places:
            caller, calls = next(iter(self._waiting.items()))
            del self._waiting[caller]
            turn = calls.popleft()
            if calls:
                self._waiting[caller] = calls
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

    def _displace(self, caller: str) -> bool:
        """The queue is full: who waits for fewer calls takes the last place of who waits for most."""
        if not self._waiting:
            return False
        greedy, calls = max(self._waiting.items(), key=lambda item: len(item[1]))
        if len(self._waiting.get(caller, ())) + 1 >= len(calls):
            return False
        calls.pop().set_exception(_full())
        if not calls:
            del self._waiting[greedy]
        return True

    def _return_unused(self, turn: asyncio.Future[None]) -> None:
        """The place came at the very moment when the caller left."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self.taken -= 1
            self._next()

    def _forget(self, caller: str, turn: asyncio.Future[None]) -> None:
        calls = self._waiting.get(caller)
        if calls and turn in calls:
            calls.remove(turn)
            if not calls:
                del self._waiting[caller]


def _full() -> Busy:
    return Busy(
        "every place and the queue are taken (MAX_INFLIGHT, QUEUE_SIZE)", status=429, code="queue_full", retry_after=1
    )
