"""DialBacks: tries for other nodes, when they ask, whether they can be reached (docs/security.md C-10)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from peers.errors import Busy
from peers.network.contact import NoContact
from peers.network.dialing import Address
from peers.network.gate import Buckets
from peers.wire import NodeId

DIAL_BACK_SECONDS = 3.0
"""For all addresses of one question together."""
MOST_DIALLED = 4
"""Addresses in one question, and pings under way."""
PER_SECOND = 10.0
PER_PEER = 1 / 60


class DialBacks:
    def __init__(
        self,
        ping: Callable[[Address, NodeId], Awaitable[object]],
        allowed: Callable[[str], Address | None],
        clock: Callable[[], float],
    ) -> None:
        """`ping`: raises NoContact. `allowed`: whether an address that nobody here named may be dialled."""
        self._ping = ping
        self._allowed = allowed
        self._clock = clock
        self._peers = Buckets(1.0, PER_PEER)
        self._all = Buckets(PER_SECOND, PER_SECOND)
        self._under_way = 0

    async def tried(self, node: NodeId, asked: Sequence[str]) -> tuple[str, ...] | None:
        """At which of these it answered. None: they were not tried, since it asked before, or too many others do."""
        places = {text: place for text in asked[:MOST_DIALLED] if (place := self._allowed(text))}
        if not self._may(node, len(places)):
            return None
        self._under_way += len(places)
        try:
            answers = await asyncio.gather(*(self._answers(place, node) for place in places.values()))
        finally:
            self._under_way -= len(places)
        return tuple(text for text, there in zip(places, answers, strict=True) if there)

    def _may(self, node: NodeId, pings: int) -> bool:
        if self._under_way + pings > MOST_DIALLED:
            return False
        now = self._clock()
        try:
            self._peers.take(node, now)
            for _ in range(pings):
                self._all.take("", now)
        except Busy:
            return False
        return True

    async def _answers(self, address: Address, node: NodeId) -> bool:
        try:
            async with asyncio.timeout(DIAL_BACK_SECONDS):
                await self._ping(address, node)
        except (NoContact, TimeoutError):
            return False
        return True
