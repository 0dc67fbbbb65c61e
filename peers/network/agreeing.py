"""Agreeing: makes sessions with the peers that are asked often, in the background: no request waits for one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from peers.network.contact import Contact, NoContact
from peers.network.dialing import Address
from peers.network.pairing import KIND, PATH, NotAgreed, Pair, question, understood
from peers.network.stake import Stake
from peers.wire import NodeId

log = structlog.get_logger(__name__)

SECONDS = 3.0
MOST_AT_ONCE = 16
NOT_SPOKEN = (404, 405)
"""What a release without sessions answers."""


class Agreeing:
    """One try for each peer at a time, each a task of its own."""

    def __init__(
        self, contact: Contact, me: NodeId, stake: Stake, clock: Callable[[], float], group: asyncio.TaskGroup
    ) -> None:
        self._contact = contact
        self._me = me
        self._stake = stake
        self._clock = clock
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, node: NodeId, at: Address) -> bool:
        if len(self._tasks) >= MOST_AT_ONCE:
            return False
        task = self._group.create_task(self._agree(node, at), name=f"session:{node[:8]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _agree(self, node: NodeId, at: Address) -> None:
        sessions, began = self._contact.agreed, self._clock()
        ours, pair = X25519PrivateKey.generate(), Pair(self._stake.networks[0], self._me, node)
        try:
            body = question(pair.network, ours)
            answer = await self._contact.post(node, at, PATH, body, content_type=KIND, within=SECONDS)
            if answer.status in NOT_SPOKEN:
                sessions.failed(node, began, spoken=False)
                return
            if answer.status != 200:
                raise NotAgreed(answer.refused or str(answer.status))
            sessions.agreed(node, understood(answer.body, pair, ours), began)
        except (NoContact, NotAgreed) as error:
            sessions.failed(node, began)
            log.debug("no_session", peer=node[:8], reason=str(error))


@asynccontextmanager
async def agreeing(contact: Contact, me: NodeId, stake: Stake, clock: Callable[[], float]) -> AsyncIterator[Agreeing]:
    """For as long as the block."""
    async with asyncio.TaskGroup() as group:
        agreeing = Agreeing(contact, me, stake, clock, group)
        contact.agreed.wanted = agreeing.begin
        try:
            yield agreeing
        finally:
            contact.agreed.wanted = lambda node, at: False
            agreeing.stop()
