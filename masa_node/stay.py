"""Stay: a node's time in one network: rounds of gossip, the LAN, what it announces, what it keeps on disk."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from config.settings import Settings
from handlers.keys import Who
from masa_node.peering import Network, Place
from peers.network.contact import proof_text
from peers.network.discovery import Discovery, lan
from peers.network.hints import Hint, Presence
from peers.network.reach import Reach
from peers.network.records import Models
from peers.network.stake import SharedSecret
from peers.network.store import Store
from peers.upstreams.own import Own

ROUND = (0.8, 1.2)
"""Seconds between two rounds of gossip."""
KEEP_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Stay:
    network: Network
    place: Place
    settings: Settings
    who: Who
    store: Store
    reach: Reach
    own: Own
    clock: Callable[[], float]
    rng: random.Random
    over: asyncio.Event
    """Set when it is to end."""
    left: bool = False
    """The folder has forgotten this network: nothing of it is kept any more."""
    discovery: Discovery | None = None
    """None where MDNS is off."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where peers should dial this node."""
        return self.place.addresses

    async def run(self) -> None:
        """Until `over` is set."""
        try:
            async with self._lan() as self.discovery:
                await self._rounds()
        finally:
            await self._keep()

    async def _rounds(self) -> None:
        kept = self.clock()
        look_at = kept
        await self._keep()
        while not self.over.is_set():
            self._announce()
            await self.network.carrier.round()
            self.network.fetching.round()
            if self.discovery is not None and self.clock() >= look_at:
                look_at = self.clock() + await self.discovery.step()
                self._call_again(self.discovery)
            if self.clock() - kept > KEEP_SECONDS:
                kept = self.clock()
                await self._keep()
            await self._wait(self.rng.uniform(*ROUND))

    @asynccontextmanager
    async def _lan(self) -> AsyncIterator[Discovery | None]:
        """Who is heard on this LAN, where MDNS is on."""
        if not self.settings.mdns:
            yield None
            return
        bound = [sock.getsockname() for sock in self.place.sockets]
        presence = Presence(
            me=self.who.id,
            networks=lambda: self.network.stake.networks,
            port=bound[0][1] if bound else None,
            bound=tuple(ip_address(name[0]) for name in bound),
            allowed=self.place.policy.gossiped,
        )

        def heard(hint: Hint) -> None:
            self.network.carrier.try_hint(hint.node, hint.addresses)

        async with lan(presence, heard, self.clock) as discovery:
            yield discovery

    def _call_again(self, discovery: Discovery) -> None:
        """Those who are heard and not alive here: a hint is told once, and its first try may have failed."""
        alive = {member.node for member in self.network.membership.roster.routable(self.clock())}
        for hint in discovery.hints:
            if hint.node not in alive:
                self.network.carrier.try_hint(hint.node, hint.addresses)

    def _announce(self) -> None:
        """What this node says of itself: news only when something has changed."""
        network, now = self.network, self.clock()
        models = self.reach.catalogue.share(self.own.shared()) if self.addresses else Models()
        proof = proof_text(network.stake.proof(network.stake.networks[0], now))
        name = self.who.name if isinstance(network.stake, SharedSecret) else ""
        network.membership.announce(now, addrs=self.addresses, models=models, proof=proof, name=name)

    async def _keep(self) -> None:
        membership = self.network.membership
        if not self.left:
            await asyncio.to_thread(self.store.keep_peers, membership.epoch, membership.remembered())

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
