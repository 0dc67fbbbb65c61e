"""Joined: the network this node is in, if any; it can be entered and left while the node runs."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.settings import Settings
from handlers.handed import Serving
from handlers.keys import Who
from masa_node.means import Means, cannot_listen, contained, hosts_of, listen, means_of
from masa_node.peering import Network, Place, networked
from masa_node.stay import Stay
from peers.asking import Asking
from peers.errors import BadRequest
from peers.metrics import Metrics
from peers.network.certificates import NotStaked
from peers.network.contact import NoContact
from peers.network.dialing import OWN_LAN, Address, DialPolicy
from peers.network.identity import BadKey
from peers.network.reach import Reach, not_spoken
from peers.network.remote import Ways
from peers.network.stake import Certificates, Stake
from peers.network.standing import standing
from peers.network.store import Store
from peers.network.tls import NodeTls
from peers.network.tokens import BadToken, Invite, Secret
from peers.upstreams.own import Own
from peers.wire import NodeId

log = structlog.get_logger(__name__)

BY_CERTIFICATE = "this node takes part by certificate: take NETWORK_ID out of its settings, and start it anew"
NO_NETWORK = "this node is in no network; `masa-node invite` begins one, `masa-node join` enters one"
LEAVE_SECONDS = 2.0
JOIN_SECONDS = 10.0
RETRY_SECONDS = 5.0


class Joined:
    """Its `step` is one of the node's loops: it holds the network open for as long as there is one to be in."""

    def __init__(
        self,
        settings: Settings,
        who: Who,
        key: Ed25519PrivateKey,
        metrics: Metrics,
        own: Own,
        reach: Reach,
        asking: Asking,
        serving: Serving,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random,
    ) -> None:
        self.settings = settings
        self.who = who
        self.store = Store(settings.masa_dir)
        self.reach = reach
        self.stay: Stay | None = None
        """None while it is in no network."""
        self.reach.why = NO_NETWORK
        self._key = key
        self._metrics = metrics
        self._own = own
        self._asking = asking
        self._serving = serving
        self._clock = clock
        self._rng = rng
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = False

    @property
    def network(self) -> Network | None:
        return self.stay.network if self.stay else None

    @property
    def why(self) -> str:
        """Why this node is in no network, in words, with the remedy; empty while it is in one."""
        return self.reach.why

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where peers should dial this node."""
        return self.stay.addresses if self.stay else ()

    # What the control socket asks for

    async def invite(self, address: Address | None) -> Invite:
        """A token for the network this node is in; one is begun where there is none. Raises NotStaked."""
        means = await asyncio.to_thread(means_of, self.settings, self.who.id, self.store)
        if means is None:
            await asyncio.to_thread(self.store.keep_secrets, (Secret.new(),))
            await self.change()
            means = await asyncio.to_thread(means_of, self.settings, self.who.id, self.store)
        if means is None or not means.secrets:
            raise NotStaked("missing")
        return Invite(means.secrets[0], self._members(address))

    async def join(self, invite: Invite) -> None:
        """Enter the network of this token, leaving any other one: `masa-node join` has asked. Raises BadRequest."""
        self._check_free()
        await self._forget()
        await asyncio.to_thread(self.store.keep_secrets, (invite.secret,))
        await asyncio.to_thread(self.store.keep_contacts, list(invite.members))
        await self.change()

    async def try_members(self, invite: Invite) -> dict[str, str]:
        """Call the members that a token names, for JOIN_SECONDS: each address with who answered, or why nobody did."""
        told: dict[str, str] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(JOIN_SECONDS):
                while self.network is not None and not any(text.startswith("joined") for text in told.values()):
                    for node, place in invite.members:
                        told[str(place)] = await self._try_member(self.network, node, place)
                    await self._wait(1.0)
        return told

    def _check_free(self) -> None:
        if self.settings.network_id:
            raise BadRequest("by_certificate", BY_CERTIFICATE)

    async def leave(self) -> None:
        """Raises BadRequest."""
        self._check_free()
        await self._forget()
        await self.change()

    def deny(self, text: str) -> bool:
        """A deny-list of this machine's authority; False: it is not that of the network this node is in."""
        if self.network is None or self.network.stake.read_denials(text) is None:
            return False
        self.network.membership.deny(text, self._clock())
        return True

    async def change(self) -> None:
        """The means have changed: close what is open, open what is to be; wait until that is done."""
        self._settled.clear()
        self._changed.set()
        if self.stay is not None:
            self.stay.end()
        await self.settled()

    async def settled(self) -> None:
        """Wait until the network is open, or it is known why it is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS + RETRY_SECONDS):
                await self._settled.wait()

    async def stop(self) -> None:
        """Say good-bye, before the node ends."""
        self._stopping = True
        if self.network is not None:
            await self.change()

    async def _forget(self) -> None:
        if self.stay is not None:
            self.stay.left = True
            if self.stay.network.rotating is not None:
                await self.stay.network.rotating.close()
        await asyncio.to_thread(self.store.forget)

    async def _try_member(self, network: Network, node: NodeId, place: Address) -> str:
        if node == self.who.id:
            return "this node itself"
        try:
            met = await network.carrier.meet(place, node)
        except NoContact as error:
            return str(error)
        member = network.membership.table.members.get(met)
        if member is not None and not member.record.spoken:
            return not_spoken(member.record)
        return f"joined by node {met[:8]}"

    # The loop

    async def step(self) -> float:
        self._changed.clear()  # first: what changes while this is read is read again
        means = None
        try:
            if not self._stopping:
                means = await asyncio.to_thread(means_of, self.settings, self.who.id, self.store)
        except (BadToken, BadKey) as error:
            self.reach.why = f"the network cannot be entered: {error}"
            log.error("network_closed", reason=self.reach.why)
        if means is None:
            self._settled.set()
            await self._changed.wait()
            return 0.0
        try:
            place = await asyncio.to_thread(self._place, means)
        except OSError as error:
            self.reach.why = cannot_listen(self.settings, error)
            log.error("network_closed", reason=self.reach.why)
            self._settled.set()
            await self._wait(RETRY_SECONDS)
            return 0.0
        await self._live(place)
        return 0.0

    async def _live(self, place: Place) -> None:
        epoch, records = await asyncio.to_thread(self.store.peers)
        async with networked(place, self._clock, self._rng, epoch) as network:
            network.membership.restore(records, self._clock())
            denials = await asyncio.to_thread(self.store.deny_list, place.stake.networks[0])
            network.membership.deny(denials, self._clock())
            stay = Stay(
                network=network,
                place=place,
                settings=self.settings,
                who=self.who,
                store=self.store,
                reach=self.reach,
                own=self._own,
                closed=self._serving.closed,
                clock=self._clock,
                rng=self._rng,
                over=self._changed,
                denials=denials,
            )
            self.stay, self.reach.why = stay, ""
            self.reach.membership, self.reach.latencies = network.membership, network.carrier.latencies
            self.reach.outlook = stay.outlook
            self._asking.unstaked = self._unstaked(place.stake)
            self._asking.ways = Ways(
                contact=network.contact,
                outbox=network.outbox,
                vigil=network.vigil,
                refused=lambda node: network.membership.missed(node, self._clock(), refused=True),
                silence=self.settings.llm_timeout,
            )
            log.info("network_open", port=place.sockets[0].getsockname()[1] if place.sockets else None)
            self._settled.set()
            try:
                await stay.run()
            finally:
                self.stay, self.reach.why = None, NO_NETWORK
                self.reach.membership, self.reach.latencies, self.reach.outlook = None, {}, lambda: None
                self._asking.ways, self._asking.unstaked = None, lambda: ""

    def _unstaked(self, stake: Stake) -> Callable[[], str]:
        """Why no member would take a call of this node's; whoever holds a secret certifies itself."""
        if not isinstance(stake, Certificates):
            return lambda: ""
        return lambda: standing(stake, self.who.id, self._clock()).trouble

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    # What it is made of: these block

    def _place(self, means: Means) -> Place:
        settings = self.settings
        ranges = settings.peer_allow_cidrs
        if ranges is None:
            ranges = OWN_LAN if means.secrets else ()
        serves = settings.mode == "node"
        sockets = listen(settings, self.store) if serves else []
        named = frozenset(Address.parse(bootnode.address) for bootnode in means.bootnodes)
        return Place(
            key=self._key,
            who=self.who,
            metrics=self._metrics,
            stake=means.stake,
            context=NodeTls(settings.masa_dir, self._key, self._clock()).context,
            sockets=sockets,
            addresses=settings.peer_advertise if serves else (),
            hosts=partial(hosts_of, sockets),
            contained=contained(sockets),
            policy=DialPolicy(ranges, named),
            bootnodes=means.bootnodes,
            strangers=not means.secrets,
            allow=frozenset(settings.peer_allow),
            deny=frozenset(settings.peer_deny),
            keep=self.store.keep_secrets,
            catalogue=self.reach.catalogue,
            serving=self._serving,
            most_connections=settings.max_connections,
            most_per_address=settings.max_connections_per_ip,
            race_timeout=settings.race_timeout,
        )

    def _members(self, address: Address | None) -> tuple[tuple[NodeId, Address], ...]:
        """Whom a token names: this node first, then others that are alive."""
        own = [address] if address else [Address.parse(text) for text in self.addresses]
        found = [(self.who.id, place) for place in own[:2]]
        if self.network is not None:
            alive = self.network.membership.roster.routable(self._clock())
            found += [(peer.node, Address.parse(peer.record.addrs[0])) for peer in alive if peer.record.addrs]
        return tuple(found[:4])
