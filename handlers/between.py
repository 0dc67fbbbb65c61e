"""Node to node: what other nodes ask of this one, under /peer/v1/."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peers.errors import BadRequest, MasaError
from peers.network.carrier import Identified, Identify
from peers.network.catalogue import Catalogue
from peers.network.contact import ping_answer
from peers.network.frames import LARGEST as LARGEST_FRAME
from peers.network.gate import Buckets, Gate
from peers.network.intake import TAKEN
from peers.network.membership import Membership
from peers.network.records import RecordError, read
from peers.network.stake import Stake
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
    """The network's time, in Unix seconds."""
    catalogue: Catalogue


BETWEEN = web.AppKey("between", Between)


async def ping(request: web.Request) -> web.Response:
    """The one unsigned route: who we are, and that we hold our key and our stake."""
    between = request.app[BETWEEN]
    between.pings.take(request.remote or "", between.clock())
    nonce = request.headers.get("Masa-Nonce", "")
    if len(nonce) != 32 or not nonce.isascii() or not all(digit in "0123456789abcdef" for digit in nonce):
        raise BadRequest("malformed", "Masa-Nonce is 16 bytes in lower-case hexadecimal")
    network = between.stake.networks[0]
    body = ping_answer(between.key, network, bytes.fromhex(nonce), between.membership.sealed)
    return web.Response(body=body, content_type="application/octet-stream")


async def identify(request: web.Request) -> web.Response:
    """A node that we may not know shows its record. Answers with ours, the address it came from, and our models."""
    between = request.app[BETWEEN]
    sender, body = await _received(request, LARGEST_IDENTIFY, known=False)
    try:
        told = msgspec.json.decode(body, type=Identify)
        owner = read(told.record).record.node
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RecordError):
        raise BadRequest("malformed", "send your own sealed record") from None
    if owner != sender:
        raise MasaError(403, "other_node", "the record is not the sender's own")
    outcome = between.membership.introduced(told.record, between.clock())
    if outcome not in TAKEN:
        raise MasaError(403, "not_staked" if outcome == "candidate" else outcome, "the record was not taken")
    answer = Identified(between.membership.sealed, request.remote or "")
    if told.models:
        answer.models = msgspec.Raw(between.catalogue.told)
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


async def gossip(request: web.Request) -> web.Response:
    between = request.app[BETWEEN]
    sender, body = await _received(request, LARGEST_FRAME, known=True)
    answer = between.membership.receive(body, sender, between.clock())
    return web.Response(body=answer, content_type="application/json")


async def _received(request: web.Request, limit: int, *, known: bool) -> tuple[NodeId, bytes]:
    """The sender, proven, and the body. Raises MasaError."""
    between = request.app[BETWEEN]
    claim = between.gate.head(
        request.method, request.raw_path, request.headers, request.remote or "", between.clock(), known=known
    )
    body = await _body(request, limit)
    return between.gate.body(claim, body, between.clock()), body


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
