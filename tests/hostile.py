"""What peers may send, decoded: each target of fuzzing, what it may raise, and something valid to spoil.

A target takes bytes and returns for whatever is refused as it should be; anything else that it raises is a fault.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import cast

import msgspec
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from multidict import CIMultiDict

from handlers.between import BETWEEN, Between, identify
from peers.errors import MasaError
from peers.network import certificates, frames, offers, records, tokens
from peers.network.carrier import Identified, Identify
from peers.network.catalogue import Catalogue
from peers.network.certificates import NotStaked, deny, issue, network_id
from peers.network.contact import PING, Answer, Contact, NoContact, proof_text
from peers.network.dialbacks import DialBacks
from peers.network.dialing import Address
from peers.network.fetching import Fetching
from peers.network.gate import Buckets, Gate
from peers.network.identity import node_id
from peers.network.intake import TAKEN
from peers.network.pairing import NotAgreed
from peers.network.records import Models, RecordError
from peers.network.seal import DENY, MEMBER, seal
from peers.network.sessions import Sessions
from peers.network.signatures import clock_offset
from peers.network.stake import SharedSecret
from peers.network.tokens import BadToken, Invite, Secret
from peers.network.traffic import Traffic
from peers.network.whereabouts import Whereabouts
from peers.wire import Model, NodeId
from tests import signing
from tests.hostile_requests import (
    ANSWER,
    QUESTION,
    SIGNED,
    SIGNED_BY_SESSION,
    gated,
    lenient,
    session_answered,
    session_asked,
)
from tests.members import B, core, sealed
from tests.simnet import START, fake_sign

KEY = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
NODE = node_id(KEY)
AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
KEYS = {network_id(AUTHORITY): AUTHORITY.public_key()}
SECRET = Secret(bytes(range(32)))
LLAMA = Model("llama3", frozenset({"ollama"}), "a" * 64, 8192, ("tools",), True, 4_000_000_000)
NONCE = bytes(16)


@dataclass(frozen=True, slots=True)
class Target:
    run: Callable[[bytes], object]
    valid: bytes
    """What it takes, and returns something true for."""


def quietly(act: Callable[[bytes], object], *allowed: type[Exception]) -> Callable[[bytes], object]:
    """What it returned, or False."""

    def run(data: bytes) -> object:
        try:
            return act(data)
        except allowed:
            return False

    return run


def word(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


# Records


def sealed_by_its_owner(payload: bytes, owner: NodeId = B) -> str:
    """As if whoever wrote this had signed it: the checks behind the signature are reached."""
    return f"{word(payload)}.{word(fake_sign(owner, records.PREFIX + payload))}"


def taken(data: bytes) -> object:
    """A member that has a key, and signs what it likes; then life goes on."""
    at = core()
    outcome = at.introduced(sealed_by_its_owner(data), START)
    at.tick(START + 1)
    if outcome in TAKEN:
        at.receive(frames.encode(frames.Frame(all=True)), B, START + 1)
        at.remembered()
    return outcome in TAKEN


RECORD = records.read(sealed(models=Models(1, "f" * 16), name="a name", proof="x" * 40)).payload


# Gossip


def received(data: bytes) -> object:
    at = core()
    at.introduced(sealed(), START)
    return at.receive(data, B, START)


def answered(data: bytes) -> object:
    """A liar whom we asked; then life goes on."""
    at = core()
    at.introduced(sealed(), START)
    at.tick(START + 1)
    at.answered(B, data, START + 2)
    at.tick(START + 3)
    assert abs(at.clock.offset) <= 600
    return not at.intake.refused


FRAME = frames.encode(
    frames.Frame(
        clock=START,
        digest=frames.pack([(b"\1" * 8, 7)]),
        all=True,
        within=[1, 255],
        buckets=frames.pack_sums(range(256)),
        want=b"\2" * 8,
        records=[sealed(seq=3)],
        denials="0" * 32,
        deny_list="abc",
    )
)


# Proofs, words, lists


def member_certificate(data: bytes) -> object:
    """The authority's own word, whatever it says."""
    return certificates.open_certificate(seal(MEMBER, data, AUTHORITY), KEYS, NODE, START)


def denials(data: bytes) -> object:
    return certificates.open_deny_list(seal(DENY, data, AUTHORITY), KEYS)


def invite(data: bytes) -> object:
    """With the right checksum, so that what stands before it is read."""
    made = SECRET.text + word(tokens._checked(SECRET.raw + data)[32:])
    return tokens.parse_invite(made)


def model_list(data: bytes) -> object:
    """With the hash that its record would have."""
    return offers.read(data, Models(1, offers.list_hash(data)))


INVITE = tokens._member_bytes(NODE, Address("node.example", 4001)) + tokens._member_bytes(NODE, Address("::1", 443))


# Answers of a peer that lies


class Liar:
    """What a Contact brings back from it."""

    def __init__(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.answer = Answer(status, headers or {}, body)

    async def post(self, *_: object, **__: object) -> Answer:
        return self.answer


def met(data: bytes) -> object:
    """It holds its key, and signs the nonce."""
    stake = SharedSecret([SECRET], NODE)
    contact = Contact(KEY, NODE, stake, cast(Sessions, None), lambda: START)
    signature = KEY.sign(PING + NONCE + SECRET.network().encode())
    with suppress(NoContact):
        contact._met(NODE, NONCE, Answer(200, {"date": lenient(data)}, data))
    return contact._met(NODE, NONCE, Answer(200, {"date": lenient(data)}, signature + data))


OWN_PROOF = proof_text(SharedSecret([SECRET], NODE).proof(SECRET.network(), START))
OWN_RECORD = sealed(NODE, net=SECRET.network(), proof=OWN_PROOF).encode()


def identified(data: bytes) -> object:
    """Its answer to `identify`, when we ask for its models."""

    async def ask() -> bool:
        at, catalogue = core(), Catalogue()
        at.introduced(sealed(models=LLAMAS[0]), START)
        async with asyncio.TaskGroup() as group:
            asking = Fetching(at, cast(Contact, Liar(data)), catalogue, lambda: START, group)
            asking.round()
        return bool(catalogue.models(B))

    return asyncio.run(ask())


def asked(data: bytes) -> object:
    """`identify` at our door, signed by a stranger."""

    async def ask() -> bool:
        at = core(node_id(AUTHORITY))
        gate = Gate(at.me, lambda node: True, strangers=False)
        stake = SharedSecret([SECRET], at.me)
        whereabouts = Whereabouts(None, lambda text: False, Random(1))
        tries = DialBacks(lambda *_: asyncio.sleep(0), lambda text: None, lambda: START)
        between = Between(
            at.me, AUTHORITY, stake, at, gate, Buckets(), lambda: START, Catalogue(), Traffic(), whereabouts, tries
        )
        path = "/peer/v1/identify"
        request = signing.request(data, to=at.me, path=path)
        given = signing.sign(request, signing.KEY, signing.SENDER, START, NONCE)
        app = web.Application()
        app[BETWEEN] = between
        mocked = make_mocked_request("POST", path, CIMultiDict(given), payload=_Payload(data), app=app)
        return (await identify(mocked)).status == 200

    return asyncio.run(ask())


class _Payload:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.data


LLAMAS = offers.write([LLAMA])
IDENTIFIED = msgspec.json.encode(Identified(sealed(seq=2, models=LLAMAS[0]), "127.0.0.1", msgspec.Raw(LLAMAS[1])))
IDENTIFY = msgspec.json.encode(Identify(sealed(signing.SENDER), models=True))


def dated(data: bytes) -> object:
    offset = clock_offset(lenient(data), START)
    return offset is not None and abs(offset) <= 600


TARGETS: dict[str, Target] = {
    "a record's text": Target(quietly(lambda data: records.read(lenient(data)), RecordError), sealed().encode()),
    "a record's payload": Target(quietly(taken), RECORD),
    "a frame": Target(quietly(frames.decode, MasaError), FRAME),
    "a gossip message": Target(quietly(received, MasaError), FRAME),
    "a gossip answer": Target(quietly(answered), FRAME),
    "a model list": Target(quietly(model_list, offers.BadList), offers.write([LLAMA])[1]),
    "a certificate": Target(
        quietly(lambda data: certificates.open_certificate(data, KEYS, NODE, START), NotStaked),
        issue(AUTHORITY, NODE, START, bytes(8)),
    ),
    "a certificate's payload": Target(
        quietly(member_certificate, NotStaked),
        issue(AUTHORITY, NODE, START, bytes(8))[64:],
    ),
    "a deny-list's payload": Target(quietly(denials, NotStaked), deny(AUTHORITY, 7, ["a" * 11])[64:]),
    "a token": Target(
        quietly(lambda data: tokens.parse_invite(lenient(data)), BadToken), Invite(SECRET).text().encode()
    ),
    "a token's members": Target(quietly(invite, BadToken), INVITE),
    "secrets": Target(
        quietly(lambda data: tokens.parse_secrets(lenient(data)), BadToken),
        f"{SECRET.text},{Secret(bytes(32)).text}".encode(),
    ),
    "a certificate's word": Target(
        quietly(lambda data: tokens.parse_certificate(lenient(data)), BadToken),
        tokens.certificate_text(issue(AUTHORITY, NODE, START, bytes(8))).encode(),
    ),
    "a signed request": Target(quietly(gated, MasaError), SIGNED),
    "a request signed by a session": Target(quietly(gated, MasaError), SIGNED_BY_SESSION),
    "a session's question": Target(quietly(session_asked, MasaError), QUESTION),
    "a session's answer": Target(quietly(session_answered, NotAgreed), ANSWER),
    "a ping's answer": Target(quietly(met, NoContact), OWN_RECORD),
    "an identify": Target(quietly(asked, MasaError), IDENTIFY),
    "an identify's answer": Target(quietly(identified), IDENTIFIED),
    "a date": Target(quietly(dated), b"Fri, 15 Jan 2027 08:01:00 GMT"),
}
