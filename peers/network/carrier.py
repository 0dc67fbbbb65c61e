"""Carrier: brings what Membership says to other nodes, and their answers back to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import structlog

from peers.network.contact import Answer, Contact, NoContact
from peers.network.dialbacks import DIAL_BACK_SECONDS, MOST_DIALLED
from peers.network.dialing import Address, BadAddress
from peers.network.membership import Membership
from peers.network.signatures import date_offset
from peers.network.terms import Send
from peers.network.traffic import Traffic
from peers.network.whereabouts import Question, Whereabouts
from peers.wire import NodeId

log = structlog.get_logger(__name__)

ROUND_SECONDS = 1.0
EXCHANGE_SECONDS = 3.0
LEAVING_SECONDS = 1.0
MOST_AT_ONCE = 32
"""Exchanges under way; a round that finds no place for one counts it as missed."""
JSON = "application/json"
SHUT_OUT = ("not_staked", "wrong_network")

_Dialled = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=261)], ...], msgspec.Meta(max_length=MOST_DIALLED)]


class Identify(msgspec.Struct, omit_defaults=True):
    """What a node says when it is not known yet: its own record."""

    record: str
    models: bool = False
    """It asks for the other's model list."""
    dial: _Dialled = ()
    """It asks whether the other reaches it at these."""


class Identified(msgspec.Struct, omit_defaults=True):
    """The answer."""

    record: str
    """Of who answers, sealed."""
    seen: str = ""
    """The address that the question came from."""
    models: msgspec.Raw = msgspec.Raw()
    """The model list, if it was asked for: the record has the hash of exactly these bytes."""
    reached: tuple[str, ...] | None = None
    """Where a ping met the key of who asked; None: that was not tried."""


class Carrier:
    """Each exchange is a task of its own, so that a slow peer delays nobody."""

    def __init__(
        self,
        membership: Membership,
        contact: Contact,
        traffic: Traffic,
        whereabouts: Whereabouts,
        clock: Callable[[], float],
        group: asyncio.TaskGroup,
    ) -> None:
        self.membership = membership
        self._contact = contact
        self._traffic = traffic
        self._whereabouts = whereabouts
        self._clock = clock
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self.woken = asyncio.Event()
        """Somebody is here who was not: not all need wait for the next round."""
        membership.on_start = self.woken.set
        self._bootnodes = {bootnode.address for bootnode in membership.bootnodes}
        self.latencies: dict[NodeId, float] = {}
        """Seconds that the last exchange with each took."""
        self.shut_out_by: set[NodeId] = set()
        """Members that do not take us for one, since somebody last did."""
        self.called: dict[str, str] = {}
        """What came of the last call to each bootnode's address: empty, or why nobody is met there."""

    @property
    def busy(self) -> bool:
        """Exchanges are under way."""
        return bool(self._tasks)

    async def round(self) -> float:
        """One round of gossip, begun. Returns the seconds until the next."""
        self.deliver(self.membership.tick(self._clock()))
        self._look_around()
        for node in self.latencies.keys() - self.membership.table.members.keys():
            del self.latencies[node]
        return ROUND_SECONDS

    def deliver(self, sends: list[Send]) -> None:
        for send in sends:
            if len(self._tasks) >= MOST_AT_ONCE:
                self._missed(send, refused=False, lasted=0.0)
                continue
            self._begin(self._exchange(send), f"exchange:{(send.node or '?')[:8]}")

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
            self._begin(self._first_contact(node, addresses), f"hint:{node[:8]}")

    def _begin(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _look_around(self) -> None:
        """Ask a peer where it sees us, and whether it reaches us, when it is time."""
        if len(self._tasks) < MOST_AT_ONCE:
            now = self._clock()
            members = {member.node: member.record.addrs for member in self.membership.roster.routable(now)}
            question = self._whereabouts.asks(members, self.membership.clock.local(now))
            if question is not None:
                self._begin(self._ask(question, members[question.node]), f"whereabouts:{question.node[:8]}")

    async def _ask(self, question: Question, addresses: tuple[str, ...]) -> None:
        for text in addresses:
            try:
                await self._identify(question.node, Address.parse(text), question.addresses)
            except (BadAddress, NoContact):
                continue
            return

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
        met = await self._contact.ping(address, expected, patience=self._patience)
        self.membership.heard_clock(met.node, met.clock, self._clock())
        self.membership.introduced(met.record, self._clock(), str(address))
        await self._identify(met.node, address)
        return met.node

    @property
    def _patience(self) -> int:
        """What time limits are multiplied by, since it may be we who are slow."""
        return self.membership.liveness.patience

    async def _exchange(self, send: Send) -> None:
        began, refused = self._clock(), False
        for text in send.addresses:
            try:
                await self._try(send, Address.parse(text))
            except BadAddress:
                continue
            except NoContact as error:
                refused = error.reason == "refused"
                log.debug("peer_missed", peer=(send.node or "")[:8], reason=error.reason)
                self._call_ended(text, str(error))
                continue
            self._call_ended(text, "")
            return
        self._missed(send, refused, self._clock() - began)

    async def _try(self, send: Send, address: Address) -> None:
        began = self._clock()
        if send.node is None:
            await self.meet(address)
            return
        if send.body is None:
            met = await self._contact.ping(address, send.node, patience=self._patience)
            self.membership.introduced(met.record, self._clock())
            answered = b""
        else:
            answered = (await self._gossip(send.node, address, send.body)).body
        self.latencies[send.node] = max(0.0, self._clock() - began)
        self.deliver(self.membership.answered(send.node, answered, self._clock()))

    async def _gossip(self, node: NodeId, address: Address, body: bytes) -> Answer:
        for again in (False, True):
            answer = await self._post(node, address, "/peer/v1/gossip", body)
            self._traffic.exchanged(answer.body, body)
            if answer.status == 200:
                return answer
            if answer.refused != "unknown_peer" or again:
                break
            await self._identify(node, address)
        raise NoContact(answer.refused or str(answer.status), "it refused to gossip")

    async def _identify(self, node: NodeId, address: Address, dial: tuple[str, ...] = ()) -> None:
        """A record that it holds for untimely is sealed anew by its clock, and shown once more."""
        waits = DIAL_BACK_SECONDS if dial else 0.0
        for again in (False, True):
            body = msgspec.json.encode(Identify(self.membership.sealed_for(node), dial=dial))
            answer = await self._post(node, address, "/peer/v1/identify", body, waits)
            if answer.status == 200:
                self.shut_out_by.clear()
                self._heard_of_us(node, answer.body, dial)
                return
            if answer.refused not in ("stale", "early") or again:
                break
            self._hear_clock(node, answer)
        if answer.refused in SHUT_OUT:
            self.shut_out_by.add(node)
        raise NoContact(answer.refused or str(answer.status), "it does not take us for a member")

    def _heard_of_us(self, node: NodeId, body: bytes, dial: tuple[str, ...]) -> None:
        try:
            told = msgspec.json.decode(body, type=Identified)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        local = self.membership.clock.local(self._clock())
        self._whereabouts.saw(node, told.seen, local)
        if told.reached is not None:
            self._whereabouts.tried(node, told.reached, dial, local)

    async def _post(self, node: NodeId, address: Address, path: str, body: bytes, waits: float = 0.0) -> Answer:
        """`waits`: seconds that the other needs to find its answer."""
        within = waits + EXCHANGE_SECONDS * self._patience
        return await self._contact.post(node, address, path, body, content_type=JSON, within=within)

    def _hear_clock(self, node: NodeId, answer: Answer) -> None:
        now = self._clock()
        offset = date_offset(answer.headers.get("date", ""), now)
        if offset is not None:
            self.membership.heard_clock(node, now + offset, now)

    def _call_ended(self, address: str, why: str) -> None:
        if address in self._bootnodes:
            self.called[address] = why

    def _missed(self, send: Send, refused: bool, lasted: float) -> None:
        if send.node is not None:
            self.membership.missed(send.node, self._clock(), refused, lasted)


@asynccontextmanager
async def carrying(
    membership: Membership, contact: Contact, traffic: Traffic, whereabouts: Whereabouts, clock: Callable[[], float]
) -> AsyncIterator[Carrier]:
    """A Carrier whose exchanges end with the block."""
    async with asyncio.TaskGroup() as group:
        carrier = Carrier(membership, contact, traffic, whereabouts, clock, group)
        try:
            yield carrier
        finally:
            carrier.stop()
