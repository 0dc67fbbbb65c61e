"""Fetching: asks other nodes for their model lists by `identify`, when their records say that these changed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog

from peers.network.active import MOST_READ, wanted
from peers.network.carrier import JSON, Identified, Identify
from peers.network.catalogue import Catalogue
from peers.network.contact import Contact, NoContact
from peers.network.dialing import Address, BadAddress
from peers.network.membership import Membership
from peers.network.offers import BadList
from peers.network.records import Models
from peers.wire import NodeId

log = structlog.get_logger(__name__)

LIST_SECONDS = 10.0
LOOK_SECONDS = 5.0
"""Between two looks through all members of a large network."""


class Fetching:
    """Each fetch is a task of its own; the catalogue says how many at once."""

    def __init__(
        self,
        membership: Membership,
        contact: Contact,
        catalogue: Catalogue,
        clock: Callable[[], float],
        group: asyncio.TaskGroup,
    ) -> None:
        self._membership = membership
        self._contact = contact
        self.catalogue = catalogue
        self.clock = clock
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: list[tuple[NodeId, Models]] = []
        self._look_at = float("-inf")

    @property
    def busy(self) -> bool:
        """Lists are being asked for."""
        return bool(self._tasks)

    def round(self) -> None:
        """Begin what is due: to be called in every round of gossip."""
        local = self._local()
        if local >= self._look_at:
            large = len(self._membership.table.members) > MOST_READ
            self._look_at = local + (LOOK_SECONDS if large else 0.0)
            self._look()
        self._begin()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _look(self) -> None:
        """Whose lists we want, and what they say of them."""
        now, roster = self.clock(), self._membership.roster
        some = wanted(roster.reachable(now), self._membership.me)
        self._forget(self.catalogue.nodes().difference(member.node for member in some))
        usable = {member.node for member in roster.routable(now)}
        self._said = [(member.node, member.record.models) for member in some if member.node in usable]

    def _begin(self) -> None:
        for node in self.catalogue.wanted(self._said, self._local()):
            task = self._group.create_task(self._fetch(node), name=f"models:{node[:8]}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fetch(self, node: NodeId) -> None:
        """The next one begins when this one ends."""
        silent = False
        try:
            self._take(node, await self._ask(node))
        except NoContact as error:
            silent = error.reason == "silent"
            log.debug("models_missed", peer=node[:8], reason=error.reason)
        except BadList as error:
            log.info("models_refused", peer=node[:8], reason=error.code)
        finally:
            self.catalogue.failed(node, self._local(), silent=silent)
        self._begin()

    async def _ask(self, node: NodeId) -> Identified:
        """Raises NoContact, BadList."""
        body = msgspec.json.encode(Identify(self._membership.sealed_for(node), models=True))
        reason, why = "refused", "it has no address that can be tried"
        member = self._membership.table.members.get(node)
        for text in member.record.addrs if member else ():
            try:
                answer = await self._contact.post(
                    node, Address.parse(text), "/peer/v1/identify", body, content_type=JSON, within=LIST_SECONDS
                )
            except BadAddress:
                continue
            except NoContact as error:
                reason, why = error.reason, str(error)
                continue
            if answer.status != 200:
                raise NoContact(answer.refused or str(answer.status), "it does not tell its models")
            return _identified(answer.body)
        raise NoContact(reason, why)

    def _take(self, node: NodeId, told: Identified) -> None:
        """Its record comes with the list, since the one we hold may be older by now. Raises BadList."""
        self._membership.introduced(told.record, self.clock())
        member = self._membership.table.members.get(node)
        said = member.record.models if member else Models()
        models = self.catalogue.taken(node, bytes(told.models), said, self._local())
        self._membership.roster.offers(node, {model.name for model in models}, said.hash)

    def _forget(self, nodes: set[NodeId]) -> None:
        """They are gone, or offer nothing any more, or others are nearer in a large network."""
        self.catalogue.forget(nodes)
        for node in nodes:
            self._membership.roster.offers(node, frozenset(), "")

    def _local(self) -> float:
        return self._membership.clock.local(self.clock())


@asynccontextmanager
async def fetching(
    membership: Membership, contact: Contact, catalogue: Catalogue, clock: Callable[[], float]
) -> AsyncIterator[Fetching]:
    """A Fetching whose tasks end with the block, and what it fetched with them."""
    try:
        async with asyncio.TaskGroup() as group:
            fetcher = Fetching(membership, contact, catalogue, clock, group)
            try:
                yield fetcher
            finally:
                fetcher.stop()
    finally:
        catalogue.clear()


def _identified(body: bytes) -> Identified:
    try:
        return msgspec.json.decode(body, type=Identified)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadList("malformed") from None
