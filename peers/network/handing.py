"""Handing: brings a new secret to the members that lack it, and hears what they say to it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress

import msgspec
import structlog

from peers.network.carrier import Carrier, Identified
from peers.network.contact import Answer, Contact, NoContact
from peers.network.dialing import Address, BadAddress
from peers.network.table import Member
from peers.wire import NodeId

log = structlog.get_logger(__name__)

PATH = "/peer/v1/secret"
OCTETS = "application/octet-stream"
HAND_SECONDS = 3.0
"""For one try at one address."""
MEMBER_SECONDS = 10.0
"""For all of one member's addresses, each tried twice: an answer that was lost is no refusal."""
ALL_SECONDS = 20.0
"""For all members together."""
AT_ONCE = 8
"""Members."""

WORDS = {
    "rotated": "it was handed another new secret before: two rotations were begun at once",
    "not_found": "its release cannot be handed a secret",
    "wrong_network": "it has not got the secret before this one either",
    "unknown_peer": "it does not take us for a member",
}


class Handing:
    """Each member is a task of its own: they end with the group."""

    def __init__(
        self, carrier: Carrier, contact: Contact, clock: Callable[[], float], group: asyncio.TaskGroup
    ) -> None:
        self._carrier = carrier
        self._clock = clock
        self._contact = contact
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work, name="secret")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def to_all(self, members: list[Member], sealed: bytes) -> dict[NodeId, str]:
        """Why each has not got it; empty: it has."""
        told = dict.fromkeys((member.node for member in members), "there was no time left to try it")
        places = asyncio.Semaphore(AT_ONCE)

        async def hand(member: Member) -> None:
            async with places:
                told[member.node] = await self._hand(member, sealed)

        tasks = [self.begin(hand(member)) for member in members]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=ALL_SECONDS)
            for task in late:
                task.cancel()
        return told

    async def to_one(self, member: Member, sealed: bytes) -> None:
        if why := await self._hand(member, sealed):
            log.debug("secret_not_handed", peer=member.node[:8], reason=why)

    async def ask(self, member: Member) -> bytes:
        """The new secret that it has for us, sealed; empty: it has none. Raises NoContact."""
        answer = await self._post(member, b"")
        return answer.body if answer.status == 200 else b""

    async def _hand(self, member: Member, sealed: bytes) -> str:
        if not member.dialable:
            return "it cannot be dialled"
        why = "it did not answer in time"
        with suppress(TimeoutError):
            async with asyncio.timeout(MEMBER_SECONDS):
                for _ in range(2):
                    try:
                        answer = await self._post(member, sealed)
                    except NoContact as error:
                        why = str(error)
                        continue
                    return self._told(answer)
        return why

    def _told(self, answer: Answer) -> str:
        if answer.status != 200:
            return WORDS.get(answer.refused or "", f"it refused ({answer.refused or answer.status})")
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            record = msgspec.json.decode(answer.body, type=Identified).record
            self._carrier.membership.introduced(record, self._clock())
        return ""

    async def _post(self, member: Member, body: bytes) -> Answer:
        """To the first of its addresses that answers. Raises NoContact."""
        reason, why = "refused", "it has no address that can be tried"
        for text in member.record.addrs:
            try:
                return await self._post_to(member.node, Address.parse(text), body)
            except BadAddress:
                continue
            except NoContact as error:
                reason, why = error.reason, str(error)
        raise NoContact(reason, why)

    async def _post_to(self, node: NodeId, address: Address, body: bytes) -> Answer:
        """Where it does not know us, we show ourselves first."""
        for again in (False, True):
            answer = await self._contact.post(node, address, PATH, body, content_type=OCTETS, within=HAND_SECONDS)
            if answer.refused != "unknown_peer" or again:
                break
            await self._carrier.meet(address, node)
        return answer
