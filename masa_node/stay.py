"""Stay: a node's time in one network: rounds of gossip, the LAN, what it announces, what it keeps on disk."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog

from config.settings import Settings
from handlers.keys import Who
from masa_node.means import held_back
from masa_node.peering import Network, Place
from peers.errors import MasaError
from peers.network.clock import ASLEEP
from peers.network.contact import own_proofs
from peers.network.disk import not_written
from peers.network.outlook import LanView, NetworkView, Notice, core_notices, members_by_status, shut_out
from peers.network.reach import Reach
from peers.network.stake import Certificates, SharedSecret
from peers.network.standing import trouble
from peers.network.store import Store
from peers.upstreams.own import Own
from peers.wire import NodeId

if TYPE_CHECKING:
    from peers.network.discovery import Discovery
    from peers.network.hints import Hint

log = structlog.get_logger(__name__)

ROUND = (0.8, 1.2)
"""Seconds between two rounds of gossip."""
SHORTEST_PAUSE = 0.1
SMALL = 16
"""Nodes: so few gossip at once when one comes; in a larger network the next round is soon enough."""
KEEP_SECONDS = 30.0
TOLD_SECONDS = 60.0
"""Between two warnings that the disk takes nothing (docs/promises.md E6)."""
LOOK_SECONDS = 5.0
"""Between two looks at this machine's addresses."""
LAG_SECONDS = 0.2
"""By which the loop may be late: beyond, it is we who are slow."""


@dataclass(slots=True, kw_only=True)
class Stay:
    network: Network
    place: Place
    settings: Settings
    who: Who
    store: Store
    reach: Reach
    own: Own
    closed: Callable[[], MasaError | None] = lambda: None
    """Why no peer is served now."""
    clock: Callable[[], float]
    rng: random.Random
    over: asyncio.Event
    """Set when it is to end."""
    left: bool = False
    """The folder has forgotten this network: nothing of it is kept any more."""
    denials: str = ""
    """The deny-list as it is kept on disk."""
    kept_of: set[NodeId] = field(default_factory=set)
    """Who had answered when the members were last kept on disk."""
    keep_at: float = 0.0
    not_kept_at: float = float("-inf")
    """When the log was last told that the disk takes nothing."""
    told: set[str] = field(default_factory=set)
    """The codes of the notices that stand, which were logged."""
    discovery: "Discovery | None" = None
    """None where MDNS is off."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where peers should dial this node."""
        return self.network.whereabouts.addresses()

    async def run(self) -> None:
        """Until `over` is set."""
        try:
            async with self._lan() as self.discovery:
                await self._rounds()
        finally:
            await self._keep()

    def outlook(self) -> NetworkView:
        """How this node stands in the network, for its owner."""
        network, now = self.network, self.clock()
        membership, traffic = network.membership, network.traffic
        return NetworkView(
            id=network.stake.networks[0],
            stake="secret" if isinstance(network.stake, SharedSecret) else "certificate",
            addresses=self.addresses,
            reach=network.whereabouts.reach(membership.clock.local(now)),
            members=members_by_status(membership, now),
            clock_offset=round(membership.clock.measured, 1),
            lan=self._lan_view(),
            bootnodes=dict(network.carrier.called),
            refused=dict(membership.intake.refused),
            requests_refused=dict(traffic.refused),
            turned_away=dict(traffic.turned_away),
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            notices=tuple(self._notices(now)),
        )

    def _lan_view(self) -> LanView | None:
        if self.discovery is None:
            return None
        heard = tuple(hint.node for hint in self.discovery.hints)
        return LanView(self.discovery.why, heard, self.discovery.refused)

    def _notices(self, now: float) -> Iterator[Notice]:
        yield from core_notices(self.network.membership, now)
        if isinstance(self.network.stake, SharedSecret) and (text := held_back(self.settings, self.network.stake)):
            yield Notice("secret_held_back", text)
        if isinstance(self.network.stake, Certificates) and (text := trouble(self.network.stake, self.who.id, now)):
            yield Notice("certificate", text)
        if refusing := len(self.network.carrier.shut_out_by):
            yield shut_out(refusing, "secret" if isinstance(self.network.stake, SharedSecret) else "certificate")
        if (closed := self.closed()) is not None:
            yield Notice(closed.code, closed.text)
        whereabouts, local = self.network.whereabouts, self.network.membership.clock.local(now)
        if whereabouts.reach(local) == "unreachable":
            yield Notice("not_reachable", whereabouts.why(local))

    async def _rounds(self) -> None:
        look_at = looked = self.clock()
        await self._keep()
        while not self.over.is_set():
            looked = await self._look_around(looked)
            self._announce()
            self._tell()
            await self.network.carrier.round()
            self.network.fetching.round()
            if self.network.rotating is not None:
                await self.network.rotating.round()
            if self.discovery is not None and self.clock() >= look_at:
                look_at = self.clock() + await self.discovery.step()
                self._call_again(self.discovery)
            if self._keeps_now():
                await self._keep()
            await self._pause(self.rng.uniform(*ROUND))

    async def _look_around(self, looked: float) -> float:
        """Is this machine still where it was? Returns the time of the last look, which is this one when it was due."""
        now = self.clock()
        slept = not 0 <= now - looked <= LOOK_SECONDS + ASLEEP
        if not slept and now - looked < LOOK_SECONDS:
            return looked
        whereabouts, local = self.network.whereabouts, self.network.membership.clock.local(now)
        moved = whereabouts.here(await asyncio.to_thread(self.place.hosts), local)
        if slept and not moved:
            whereabouts.doubt(local)
        if slept or moved:
            self.network.sessions.renew()
            log.info("whereabouts_changed", reason="moved" if moved else "slept")
        return now

    def _tell(self) -> None:
        """Each notice is logged once while it stands."""
        standing = list(self._notices(self.clock()))
        for notice in standing:
            if notice.code not in self.told:
                log.warning(notice.code, reason=notice.text)
        self.told = {notice.code for notice in standing}

    @asynccontextmanager
    async def _lan(self) -> AsyncIterator["Discovery | None"]:
        """Who is heard on this LAN, where MDNS is on."""
        if not self.settings.mdns:
            yield None
            return
        # Here, since with it comes zeroconf: 2 MiB and 40 ms that a node without a LAN to talk to does without.
        from peers.network.discovery import lan
        from peers.network.hints import Presence

        bound = [sock.getsockname() for sock in self.place.sockets]
        presence = Presence(
            me=self.who.id,
            networks=lambda: self.network.stake.networks,
            port=bound[0][1] if bound else None,
            bound=tuple(ip_address(name[0]) for name in bound),
            allowed=self.place.policy.gossiped,
        )

        def heard(hint: "Hint") -> None:
            self.network.carrier.try_hint(hint.node, hint.addresses)

        async with lan(presence, heard, self.clock) as discovery:
            yield discovery

    def _call_again(self, discovery: "Discovery") -> None:
        """Those who are heard and not alive here: a hint is told once, and its first try may have failed."""
        alive = {member.node for member in self.network.membership.roster.routable(self.clock())}
        for hint in discovery.hints:
            if hint.node not in alive:
                self.network.carrier.try_hint(hint.node, hint.addresses)

    def _announce(self) -> None:
        """What this node says of itself: news only when something has changed."""
        network, now = self.network, self.clock()
        offered = self.own.shared() if self.addresses and self.closed() is None else []
        models = self.reach.catalogue.share(offered)
        proof, former = own_proofs(network.stake, now)
        name = self.who.name if isinstance(network.stake, SharedSecret) else ""
        network.membership.announce(
            now, addrs=self.addresses, models=models, proof=proof, name=name, former_proof=former
        )

    def _keeps_now(self) -> bool:
        """Now and then; and at once when somebody new has answered, or been revoked."""
        membership = self.network.membership
        new = membership.liveness.answered_since().keys() - self.kept_of
        return bool(new) or self.clock() >= self.keep_at or membership.exchange.deny_list != self.denials

    async def _keep(self) -> None:
        """What a full or broken disk does not take is lost at a restart, and no reason to stop."""
        if self.left:
            return
        membership = self.network.membership
        self.kept_of = set(membership.liveness.answered_since())
        self.keep_at = self.clock() + KEEP_SECONDS
        try:
            await asyncio.to_thread(self.store.keep_peers, membership.epoch, membership.remembered())
            await self._keep_denials(membership.exchange.deny_list)
        except OSError as error:
            if self.clock() - self.not_kept_at >= TOLD_SECONDS:
                self.not_kept_at = self.clock()
                log.warning("not_kept", reason=not_written(error))

    async def _keep_denials(self, deny_list: str) -> None:
        """A restart forgets no revocation."""
        if deny_list != self.denials:
            await asyncio.to_thread(self.store.keep_deny_list, self.network.stake.networks[0], deny_list)
            self.denials = deny_list

    def end(self) -> None:
        """`over` is set."""
        self.network.carrier.woken.set()

    async def _pause(self, seconds: float) -> None:
        """Until the next round; in a small network not for as long, when somebody has come."""
        woken, loop = self.network.carrier.woken, asyncio.get_running_loop()
        due = loop.time() + seconds
        await _within(self.over, SHORTEST_PAUSE)
        if len(self.network.membership.table.members) > SMALL:
            woken.clear()
        await _within(woken, due - loop.time())
        woken.clear()
        if loop.time() - due > LAG_SECONDS:
            self.network.membership.liveness.lagged()


async def _within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
