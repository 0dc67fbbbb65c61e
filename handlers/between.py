"""Node to node: what other nodes ask of this one, under /peer/v1/."""

import asyncio
import functools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from peers.errors import BadRequest, MasaError
from peers.network.carrier import Identified, Identify
from peers.network.catalogue import Catalogue
from peers.network.certificates import NetworkId, NotStaked
from peers.network.contact import ping_answer, proof_bytes
from peers.network.dialbacks import DialBacks
from peers.network.frames import LARGEST as LARGEST_FRAME
from peers.network.gate import Buckets, Gate, Knock
from peers.network.intake import TAKEN, Outcome
from peers.network.membership import Membership
from peers.network.pairing import KIND, LONGEST_QUESTION, answered
from peers.network.records import Record, RecordError, read
from peers.network.rotating import Rotating
from peers.network.rotation import LARGEST as LARGEST_ROTATION
from peers.network.stake import Stake
from peers.network.traffic import Traffic
from peers.network.whereabouts import Whereabouts
from peers.wire import NodeId

LARGEST_IDENTIFY = 4096
BODY_SECONDS = 3.0


@dataclass(slots=True)
class Between:
    """What the peer listener works with."""

    me: NodeId
    key: Ed25519PrivateKey
    stake: Stake
    membership: Membership
    gate: Gate
    pings: Buckets
    clock: Callable[[], float]
    """This machine's own, in Unix seconds: the network's time is made of many."""
    catalogue: Catalogue
    traffic: Traffic
    whereabouts: Whereabouts
    dial_backs: DialBacks
    rotating: Rotating | None = None
    """None in a network of certificates."""

    def head(self, request: web.Request, *, known: bool) -> Knock:
        """What it claims, before its body is read. Raises MasaError."""
        source = request.remote or ""
        return self.gate.head(request.method, request.raw_path, request.headers, source, self.clock(), known=known)

    def stamps(self) -> dict[str, str]:
        """On every answer. Its Date is by the clock that judges signatures: who was refused for the time signs again by
        it."""
        return {"Date": _date(int(self.clock())), "Server": "masa-node"}


BETWEEN = web.AppKey("between", Between)


@functools.lru_cache(maxsize=16)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


async def ping(request: web.Request) -> web.Response:
    """The one unsigned route: who we are, and that we hold our key and our stake."""
    between = request.app[BETWEEN]
    between.pings.take(request.remote or "", between.clock())
    nonce = request.headers.get("Masa-Nonce", "")
    if len(nonce) != 32 or not nonce.isascii() or not all(digit in "0123456789abcdef" for digit in nonce):
        raise BadRequest("malformed", "Masa-Nonce is 16 bytes in lower-case hexadecimal")
    networks = between.stake.networks
    asked = NetworkId(request.headers.get("Masa-Network", ""))
    network = asked if asked in networks else networks[0]
    record = between.membership.announcer.text_in(network)
    body = ping_answer(between.key, network, bytes.fromhex(nonce), record)
    return web.Response(body=body, content_type="application/octet-stream")


async def identify(request: web.Request) -> web.Response:
    """A node that we may not know shows its record. Answers with ours, the address it came from, and what it asks for:
    our models, and whether it can be reached."""
    between = request.app[BETWEEN]
    sender, body = await received(request, LARGEST_IDENTIFY, known=False)
    try:
        told = msgspec.json.decode(body, type=Identify)
        record = read(told.record).record
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RecordError):
        raise BadRequest("malformed", "send your own sealed record") from None
    if record.node != sender:
        raise MasaError(403, "other_node", "the record is not the sender's own")
    outcome = between.membership.introduced(told.record, between.clock())
    if outcome not in TAKEN:
        raise _turned_away(between, record, outcome)
    between.traffic.let_in(sender)
    answer = Identified(between.membership.sealed_for(sender), request.remote or "")
    if told.models:
        answer.models = msgspec.Raw(between.catalogue.told)
    if told.dial:
        answer.reached = await between.dial_backs.tried(sender, told.dial)
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _turned_away(between: Between, record: Record, outcome: Outcome) -> MasaError:
    """In words where its stake is at fault: whoever was revoked hears of it here alone."""
    if outcome != "candidate":
        between.traffic.turn_away(record.node, outcome)
        return MasaError(403, outcome, "the record was not taken")
    refusal = _unstaked(between, record)
    between.traffic.turn_away(record.node, refusal.text)
    return refusal


def _unstaked(between: Between, record: Record) -> MasaError:
    try:
        between.stake.proven(record.node, proof_bytes(record.proof), between.clock())
    except NotStaked as error:
        return error
    return MasaError(403, "not_staked", "the record was not taken")


async def gossip(request: web.Request) -> web.Response:
    between = request.app[BETWEEN]
    sender, body = await received(request, LARGEST_FRAME, known=True)
    answer = between.membership.receive(body, sender, between.clock())
    between.traffic.exchanged(body, answer)
    return web.Response(body=answer, content_type="application/json")


async def secret(request: web.Request) -> web.Response:
    """A new secret, which we then show our record of; or nothing: the sender asks whether there is one for it."""
    between = request.app[BETWEEN]
    if between.rotating is None:
        raise MasaError(404, "not_found", "this network has no secret")
    sender, body = await received(request, LARGEST_ROTATION, known=True)
    if not body:
        sealed = between.rotating.sealed_for(sender)
        return web.Response(status=200 if sealed else 204, body=sealed, content_type="application/octet-stream")
    await between.rotating.take(body)
    answer = Identified(between.membership.sealed)
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


async def session(request: web.Request) -> web.Response:
    """Agrees a key with the sender, by which it then signs."""
    between = request.app[BETWEEN]
    sender, body = await received(request, LONGEST_QUESTION, known=True)
    ours, name = X25519PrivateKey.generate(), secrets.token_bytes(16)
    agreed, answer = answered(body, sender, between.key, between.stake.networks, ours, name)
    between.gate.sessions.add(sender, agreed, between.clock())
    return web.Response(body=answer, content_type=KIND)


async def received(request: web.Request, limit: int, *, known: bool) -> tuple[NodeId, bytes]:
    """The sender, proven, and the body. Raises MasaError."""
    between = request.app[BETWEEN]
    knock = between.head(request, known=known)
    body = await _body(request, limit)
    now = between.clock()
    sender = between.gate.body(knock, body, now)
    between.whereabouts.dialled(between.membership.clock.local(now))
    return sender, body


async def _body(request: web.Request, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise MasaError(413, "too_large", f"at most {limit} bytes", close=True)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.content.iter_any():
                body += part
                if len(body) > limit:
                    raise MasaError(413, "too_large", f"at most {limit} bytes", close=True)
    except TimeoutError:
        raise MasaError(408, "slow_body", "the body came too slowly", close=True) from None
    return bytes(body)
