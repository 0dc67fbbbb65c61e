"""A node's part in a network: its membership, its peer listener, and the rounds of gossip."""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from handlers.between import BETWEEN, Between
from handlers.forwarded import SERVING
from handlers.handed import Serving
from handlers.keys import METRICS, TRAFFIC, WHO, Who
from handlers.middlewares.refusals import refusals
from handlers.quick_forward import QuickForward
from handlers.routes import peer_routes
from masa_node.fast_path import FastPathServer
from masa_node.loops import Step
from masa_node.server import NodeServer
from masa_node.tls_accept import accepting_tls
from peers.metrics import Metrics
from peers.network.agreeing import agreeing
from peers.network.carrier import Carrier, carrying
from peers.network.catalogue import Catalogue
from peers.network.certificates import NotStaked
from peers.network.contact import Contact, own_proofs, proof_bytes
from peers.network.dialbacks import DialBacks
from peers.network.dialing import DialPolicy
from peers.network.fetching import Fetching, fetching
from peers.network.gate import Buckets, Gate
from peers.network.identity import BadKey, parse_key
from peers.network.membership import Membership
from peers.network.outbox import Outbox, open_outbox
from peers.network.rotating import Keep, Rotating, rotating
from peers.network.sessions import Connect, Sessions, peer_connector, peer_sessions
from peers.network.stake import SharedSecret, Stake
from peers.network.terms import Bootnode, Terms
from peers.network.traffic import Traffic
from peers.network.vigil import Vigil, open_vigil
from peers.network.whereabouts import Whereabouts
from peers.wire import NodeId

Listen = Callable[[NodeServer, Sequence[socket.socket], ssl.SSLContext], AbstractAsyncContextManager[None]]
"""Serves the peer API for as long as the block."""


@dataclass(slots=True)
class Network:
    """A network this node is in."""

    stake: Stake
    membership: Membership
    sessions: Sessions
    contact: Contact
    outbox: Outbox
    vigil: Vigil
    carrier: Carrier
    fetching: Fetching
    traffic: Traffic
    whereabouts: Whereabouts
    clock: Callable[[], float]
    rotating: Rotating | None
    """None in a network of certificates."""

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
    """PEER_ADVERTISE: at which peers should dial it; none: it finds out."""
    policy: DialPolicy
    hosts: Callable[[], Sequence[str]] = tuple
    """This machine's own addresses now, at which it listens; it blocks."""
    contained: bool = False
    """In a container: peers must not hear of those."""
    bootnodes: tuple[Bootnode, ...] = ()
    strangers: bool = False
    allow: frozenset[str] = frozenset()
    """PEER_ALLOW: when there are any, no other node is a member here."""
    deny: frozenset[str] = frozenset()
    most_connections: int = 4096
    most_per_address: int = 300
    race_timeout: float = 30.0
    """RACE_TIMEOUT, seconds."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    serving: Serving | None = None
    """What it does for its peers; None: nothing."""
    keep: Keep = lambda secrets, rotation: None
    listen: Listen = accepting_tls
    connect: Callable[[DialPolicy], Connect] = peer_connector


@asynccontextmanager
async def networked(
    place: Place, clock: Callable[[], float], rng: random.Random, last_epoch: int = 0
) -> AsyncIterator[Network]:
    """Be in the network until the block is left; a last word then goes to some members."""
    stake, me = place.stake, place.who.id
    membership = Membership(_terms(place), rng, clock(), last_epoch)
    proof, former = own_proofs(stake, clock())
    whereabouts = _whereabouts(place, rng)
    whereabouts.here(await asyncio.to_thread(place.hosts), clock())
    membership.announce(
        clock(),
        addrs=whereabouts.addresses(),
        models=place.catalogue.own,
        proof=proof,
        name=place.who.name,
        former_proof=former,
    )

    def corrected() -> float:
        return membership.clock.network(clock())

    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(peer_sessions(place.connect(place.policy)))
        traffic = Traffic()
        contact = Contact(place.key, me, stake, sessions, corrected)
        await stack.enter_async_context(agreeing(contact, me, stake, corrected))
        carrier = await stack.enter_async_context(carrying(membership, contact, traffic, whereabouts, clock))
        outbox = await stack.enter_async_context(open_outbox(contact))
        vigil = stack.enter_context(open_vigil(contact, place.race_timeout))
        fetcher = await stack.enter_async_context(fetching(membership, contact, place.catalogue, clock))
        rotator = None
        if isinstance(stake, SharedSecret):
            rotator = await stack.enter_async_context(rotating(stake, carrier, contact, place.keep, clock))
        gate = Gate(me, _member(membership), strangers=place.strangers)
        between = Between(
            me,
            place.key,
            stake,
            membership,
            gate,
            Buckets(),
            clock,
            place.catalogue,
            traffic,
            whereabouts,
            DialBacks(contact.ping, place.policy.gossiped, clock),
            rotator,
        )
        await stack.enter_async_context(place.listen(_server(between, place), place.sockets, place.context))
        yield Network(
            stake, membership, sessions, contact, outbox, vigil, carrier, fetcher, traffic, whereabouts, clock, rotator
        )
        await carrier.finish(membership.leave(clock()))


def _server(between: Between, place: Place) -> NodeServer:
    app, most, each = peer_app(between, place), place.most_connections, place.most_per_address
    if place.serving is None:
        return NodeServer(app, most=most, most_per_address=each)
    quick = QuickForward(between, place.serving, place.metrics)
    return FastPathServer(app, quick, most=most, most_per_address=each)


def peer_app(between: Between, place: Place) -> web.Application:
    app = web.Application(middlewares=[refusals])
    app[BETWEEN], app[WHO], app[METRICS], app[TRAFFIC] = between, place.who, place.metrics, between.traffic
    if place.serving is not None:
        app[SERVING] = place.serving
    peer_routes(app)
    app.on_response_prepare.append(_stamped)
    app.freeze()
    return app


async def _stamped(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(request.app[BETWEEN].stamps())


def _whereabouts(place: Place, rng: random.Random) -> Whereabouts:
    return Whereabouts(
        place.sockets[0].getsockname()[1] if place.sockets else None,
        lambda text: place.policy.gossiped(text) is not None,
        rng,
        advertised=place.addresses,
        contained=place.contained,
        strangers=place.strangers,
    )


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
        read_denials=place.stake.read_denials,
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
