"""Carrier: brings what Membership says to other nodes, and their answers back to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog

from peers.network.contact import Answer, Contact, NoContact
from peers.network.dialing import Address, BadAddress
from peers.network.membership import Membership
from peers.network.terms import Send
from peers.wire import NodeId

log = structlog.get_logger(__name__)

ROUND_SECONDS = 1.0
EXCHANGE_SECONDS = 3.0
LEAVING_SECONDS = 1.0
MOST_AT_ONCE = 32
"""Exchanges under way; a round that finds no place for one counts it as missed."""
JSON = "application/json"


class Identify(msgspec.Struct, omit_defaults=True):
    """What a node says when it is not known yet: its own record."""

    record: str
    models: bool = False
    """It asks for the other's model list."""


class Identified(msgspec.Struct, omit_defaults=True):
    """The answer."""

    record: str
    """Of who answers, sealed."""
    seen: str = ""
    """The address that the question came from."""
    models: msgspec.Raw = msgspec.Raw()
    """The model list, if it was asked for: the record has the hash of exactly these bytes."""


class Carrier:
    """Each exchange is a task of its own, so that a slow peer delays nobody."""

    def __init__(
        self, membership: Membership, contact: Contact, clock: Callable[[], float], group: asyncio.TaskGroup
    ) -> None:
        self.membership = membership
        self._contact = contact
        self._clock = clock
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Exchanges are under way."""
        return bool(self._tasks)

    async def round(self) -> float:
        """One round of gossip, begun. Returns the seconds until the next."""
        self.deliver(self.membership.tick(self._clock()))
        return ROUND_SECONDS

    def deliver(self, sends: list[Send]) -> None:
        for send in sends:
            if len(self._tasks) >= MOST_AT_ONCE:
                self._missed(send, refused=False)
                continue
            task = self._group.create_task(self._exchange(send), name=f"exchange:{(send.node or '?')[:8]}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def finish(self, sends: list[Send]) -> None:
        """Deliver these, and wait for them: the last words of a node that leaves."""
        self.stop()
        self.deliver(sends)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LEAVING_SECONDS)

    def try_hint(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        """Somebody says that this node is at one of these: worth a ping, if there is a place for it."""
        if len(self._tasks) < MOST_AT_ONCE:
            task = self._group.create_task(self._first_contact(node, addresses), name=f"hint:{node[:8]}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _first_contact(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        for address in addresses:
            try:
                await self.meet(address, node)
            except NoContact as error:
                log.debug("hint_missed", peer=node[:8], reason=error.reason)
                continue
            return

    async def meet(self, address: Address, expected: NodeId | None = None) -> NodeId:
        """First contact, both ways: a ping shows us who is there, identify shows us to them. Raises NoContact."""
        met = await self._contact.ping(address, expected)
        self.membership.heard_clock(met.node, met.clock, self._clock())
        self.membership.introduced(met.record, self._clock(), str(address))
        await self._identify(met.node, address)
        return met.node

    async def _exchange(self, send: Send) -> None:
        refused = False
        for text in send.addresses:
            try:
                await self._try(send, Address.parse(text))
            except BadAddress:
                continue
            except NoContact as error:
                refused = error.reason == "refused"
                log.debug("peer_missed", peer=(send.node or "")[:8], reason=error.reason)
                continue
            return
        self._missed(send, refused)

    async def _try(self, send: Send, address: Address) -> None:
        if send.node is None:
            await self.meet(address)
        elif send.body is None:
            met = await self._contact.ping(address, send.node)
            self.membership.introduced(met.record, self._clock())
            self.membership.answered(send.node, b"", self._clock())
        else:
            answer = await self._gossip(send.node, address, send.body)
            self.deliver(self.membership.answered(send.node, answer.body, self._clock()))

    async def _gossip(self, node: NodeId, address: Address, body: bytes) -> Answer:
        for again in (False, True):
            answer = await self._contact.post(
                node, address, "/peer/v1/gossip", body, content_type=JSON, within=EXCHANGE_SECONDS
            )
            if answer.status == 200:
                return answer
            if answer.refused != "unknown_peer" or again:
                break
            await self._identify(node, address)
        raise NoContact(answer.refused or str(answer.status), "it refused to gossip")

    async def _identify(self, node: NodeId, address: Address) -> None:
        body = msgspec.json.encode(Identify(self.membership.sealed))
        answer = await self._contact.post(
            node, address, "/peer/v1/identify", body, content_type=JSON, within=EXCHANGE_SECONDS
        )
        if answer.status != 200:
            raise NoContact(answer.refused or str(answer.status), "it does not take us for a member")

    def _missed(self, send: Send, refused: bool) -> None:
        if send.node is not None:
            self.membership.missed(send.node, self._clock(), refused)


@asynccontextmanager
async def carrying(membership: Membership, contact: Contact, clock: Callable[[], float]) -> AsyncIterator[Carrier]:
    """A Carrier whose exchanges end with the block."""
    async with asyncio.TaskGroup() as group:
        carrier = Carrier(membership, contact, clock, group)
        try:
            yield carrier
        finally:
            carrier.stop()
