"""A node's part in a network: its membership, its peer listener, and the rounds of gossip."""

import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from handlers.between import BETWEEN, Between
from handlers.keys import METRICS, WHO, Who
from handlers.middlewares.refusals import refusals
from handlers.routes import peer_routes
from masa_node.loops import Step
from masa_node.server import NodeServer
from masa_node.tls_accept import accepting_tls
from peers.metrics import Metrics
from peers.network.carrier import Carrier, carrying
from peers.network.catalogue import Catalogue
from peers.network.certificates import NotStaked
from peers.network.contact import Contact, peer_sessions, proof_bytes, proof_text
from peers.network.dialing import DialPolicy
from peers.network.fetching import Fetching, fetching
from peers.network.gate import Buckets, Gate
from peers.network.identity import BadKey, parse_key
from peers.network.membership import Membership
from peers.network.stake import Stake
from peers.network.terms import Bootnode, Terms
from peers.wire import NodeId


@dataclass(slots=True)
class Network:
    """A network this node is in."""

    stake: Stake
    membership: Membership
    carrier: Carrier
    fetching: Fetching
    clock: Callable[[], float]

    def steps(self) -> list[tuple[str, Step]]:
        return [("gossip", self.carrier.round)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a network needs of the node it is opened on."""

    key: Ed25519PrivateKey
    who: Who
    metrics: Metrics
    stake: Stake
    context: ssl.SSLContext
    """The node's own, for its peer listener."""
    sockets: Sequence[socket.socket]
    addresses: tuple[str, ...]
    """At which peers should dial it."""
    policy: DialPolicy
    bootnodes: tuple[Bootnode, ...] = ()
    strangers: bool = False
    allow: frozenset[str] = frozenset()
    """PEER_ALLOW: when there are any, no other node is a member here."""
    deny: frozenset[str] = frozenset()
    most_connections: int = 4096
    most_per_address: int = 300
    catalogue: Catalogue = field(default_factory=Catalogue)


@asynccontextmanager
async def networked(
    place: Place, clock: Callable[[], float], rng: random.Random, last_epoch: int = 0
) -> AsyncIterator[Network]:
    """Be in the network until the block is left; a last word then goes to some members."""
    stake, me = place.stake, place.who.id
    membership = Membership(_terms(place), rng, clock(), last_epoch)
    proof = proof_text(stake.proof(stake.networks[0], clock()))
    membership.announce(clock(), addrs=place.addresses, models=place.catalogue.own, proof=proof, name=place.who.name)

    def corrected() -> float:
        return membership.clock.network(clock())

    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(peer_sessions(place.policy))
        contact = Contact(place.key, me, stake, place.policy, sessions, corrected)
        carrier = await stack.enter_async_context(carrying(membership, contact, clock))
        fetcher = await stack.enter_async_context(fetching(membership, contact, place.catalogue, clock))
        gate = Gate(me, _member(membership), strangers=place.strangers)
        between = Between(me, place.key, stake, membership, gate, Buckets(), clock, place.catalogue)
        server = NodeServer(
            peer_app(between, place), most=place.most_connections, most_per_address=place.most_per_address
        )
        await stack.enter_async_context(accepting_tls(server, place.sockets, place.context))
        stack.push_async_callback(server.shutdown, 0.25)
        yield Network(stake, membership, carrier, fetcher, clock)
        await carrier.finish(membership.leave(clock()))


def peer_app(between: Between, place: Place) -> web.Application:
    app = web.Application(middlewares=[refusals])
    app[BETWEEN], app[WHO], app[METRICS] = between, place.who, place.metrics
    peer_routes(app)
    app.freeze()
    return app


def _terms(place: Place) -> Terms:
    def staked(node: NodeId, proof: str, now: float) -> bool:
        if node in place.deny or (place.allow and node not in {*place.allow, place.who.id}):
            return False
        try:
            place.stake.proven(node, proof_bytes(proof), now)
        except NotStaked:
            return False
        return True

    return Terms(
        me=place.who.id,
        networks=lambda: place.stake.networks,
        sign=place.key.sign,
        verify=_verify,
        staked=staked,
        address_ok=lambda text: place.policy.gossiped(text) is not None,
        strangers=place.strangers,
        bootnodes=place.bootnodes,
    )


def _verify(node: NodeId, signed: bytes, signature: bytes) -> bool:
    try:
        parse_key(node).verify(signature, signed)
    except (InvalidSignature, BadKey):
        return False
    return True


def _member(membership: Membership) -> Callable[[NodeId], bool]:
    def known(node: NodeId) -> bool:
        member = membership.table.members.get(node)
        return member is not None and member.proven

    return known
