"""Asking other nodes: first contact by ping, then signed requests over pinned TLS (docs/security.md C-6, C-7)."""

import asyncio
import base64
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peers.http1 import answer as http1
from peers.http1.client import request_head
from peers.http1.connection import Left
from peers.http1.errors import UnreachedInTime, WrongKey
from peers.network.certificates import NetworkId, NotStaked
from peers.network.dialing import Address
from peers.network.identity import id_text, parse_key, raw_key
from peers.network.pairs import OwnSessions
from peers.network.records import RecordError, read
from peers.network.sessions import Sessions
from peers.network.signatures import Signed, clock_offset, content_digest, date_offset, sign
from peers.network.stake import Stake
from peers.upstreams.link import read_whole
from peers.wire import NodeId

PING = b"masa-ping-v1\0"
LARGEST_PING = 2048
LARGEST_ANSWER = 256 * 1024
CONNECT_SECONDS = 3.0
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
OFFSETS = 1024
"""Peers whose clocks are remembered."""
NO_SESSION = ("session", "signature", "replay")
"""Refusals of what a session signed, after which the node's own key does."""
OTHER_NODE = "another node than the one named answers there"
NO_NODE = "what answers there is no node of a network of ours"


class NoContact(Exception):
    """A node could not be asked; `reason` says why in a word, the text in words."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Met:
    """Whom a ping reached: a staked member of a network of ours."""

    node: NodeId
    record: str
    """Sealed."""
    clock: float
    """Its own, in Unix seconds, by the answer's Date."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A peer's whole answer."""

    status: int
    headers: Mapping[str, str]
    """Found in any case."""
    body: bytes

    @property
    def refused(self) -> str | None:
        """The peer's own refusal, where it is one."""
        return self.headers.get("masa-error")


def ping_answer(key: Ed25519PrivateKey, network: NetworkId, nonce: bytes, record: str) -> bytes:
    """Signature (64 bytes) over PING + nonce + network id, then the sealed record, which holds the proof of stake."""
    return key.sign(PING + nonce + network.encode()) + record.encode()


class Contact:
    """Every request this node sends to another one."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        me: NodeId,
        stake: Stake,
        sessions: Sessions,
        clock: Callable[[], float],
    ) -> None:
        self._key = key
        self._me = me
        self._stake = stake
        self._sessions = sessions
        self._clock = clock
        self.agreed = OwnSessions()
        self._offsets: dict[NodeId, float] = {}
        """Seconds that a peer's clock is ahead of ours, where that mattered."""

    async def ping(self, address: Address, expected: NodeId | None = None, *, patience: int = 1) -> Met:
        """Who listens there, if it is a staked member; nothing else is sent to one that is not. Raises NoContact."""
        nonce, network = secrets.token_bytes(16), self._stake.networks[0]
        headers = {"Masa-Nonce": nonce.hex(), "Masa-Network": network, "Connection": "close"}
        head = request_head("GET", "/peer/v1/ping", str(address), headers, None)
        within = CONNECT_SECONDS * patience
        try:
            async with asyncio.timeout(within):
                key, opened = await self._sessions.meet(address, head, silence=within)
                answer = await _whole(opened)
        except (OSError, ValueError) as error:
            raise _no_contact(error) from error
        node = id_text(key)
        if expected is not None and node != expected:
            raise NoContact("wrong_key", OTHER_NODE)
        if node == self._me:
            raise NoContact("self", "this node itself answers there")
        if answer.status != 200 or len(answer.body) > LARGEST_PING:
            raise NoContact("no_node", NO_NODE)
        return self._met(node, nonce, answer)

    async def post(
        self, node: NodeId, address: Address, path: str, body: bytes, *, content_type: str, within: float
    ) -> Answer:
        """One signed request with a small answer; a clock that differs is told once. Raises NoContact."""
        request = Signed(
            "POST", path, content_type, content_digest(body), node, os.urandom(16).hex(), int(within * 1000)
        )
        try:
            async with asyncio.timeout(within):
                return await _whole(await self.open(request, address, body, silence=within))
        except (OSError, ValueError) as error:
            raise _no_contact(error) from error

    async def open(
        self,
        request: Signed,
        address: Address,
        body: bytes,
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        silence: float,
        left: Left | None = None,
    ) -> http1.Answer:
        """A signed request's answer, still open: whoever holds it closes it. Raises NoContact.

        `silence`: seconds, before its first byte and between two. `headers`: others than the signature covers. `left`:
        as Connection has it. A clock that differs is told once, and then allowed for; what the peer does not take from
        a session is signed by our own key at once.
        """
        node = request.to
        session, again = self.agreed.of(request, address, self._clock()), False
        while True:
            now = self._clock() + self._offsets.get(node, 0.0)
            if session is not None:
                signed = session.sign(request, now)
            else:
                signed = sign(request, self._key, self._me, now, secrets.token_bytes(16))
            response = await self._begin(request, address, body, {**headers, **signed}, silence, left)
            code = response.headers.get("Masa-Error")
            if session is not None and code in NO_SESSION:
                response.close()
                self.agreed.drop(node, session)
                session = None
                continue
            if code != "clock" or again:
                return response
            response.close()
            again = True
            offset = clock_offset(response.headers.get("Date", ""), self._clock())
            if offset is None:
                raise NoContact("clock", "the clocks differ by more than 10 minutes")
            self._remember(node, offset)

    def offset(self, node: NodeId) -> float:
        """Seconds that its clock is ahead of ours, as far as we were told."""
        return self._offsets.get(node, 0.0)

    def _met(self, node: NodeId, nonce: bytes, answer: Answer) -> Met:
        """Also of the network that we are leaving: who has not got the new secret yet cannot answer for another."""
        signature, text = answer.body[:64], answer.body[64:].decode("latin-1")
        try:
            record = read(text).record
            if record.net not in self._stake.networks:
                raise NoContact("no_node", NO_NODE)
            parse_key(node).verify(signature, PING + nonce + record.net.encode())
            self._stake.proven(node, proof_bytes(record.proof), self._clock())
        except (InvalidSignature, RecordError):
            raise NoContact("no_node", NO_NODE) from None
        except NotStaked as error:
            raise NoContact(error.reason, error.text) from error
        if record.node != node:
            raise NoContact("no_node", NO_NODE)
        return Met(node, text, self._clock() + (date_offset(answer.headers.get("date", ""), self._clock()) or 0.0))

    async def _begin(
        self,
        request: Signed,
        address: Address,
        body: bytes,
        headers: Mapping[str, str],
        silence: float,
        left: Left | None,
    ) -> http1.Answer:
        try:
            head = request_head("POST", request.path, str(address), headers, len(body))
            key = raw_key(request.to)
            return await self._sessions.ask(
                address, key, head, body, connect=CONNECT_SECONDS, silence=silence, left=left
            )
        except (OSError, ValueError) as error:
            raise _no_contact(error) from error

    def _remember(self, node: NodeId, offset: float) -> None:
        self._offsets.pop(node, None)
        while len(self._offsets) >= OFFSETS:
            del self._offsets[next(iter(self._offsets))]
        self._offsets[node] = offset


async def _whole(opened: http1.Answer) -> Answer:
    """Raises NoContact, OSError."""
    with closing(opened):
        content = await read_whole(opened, LARGEST_ANSWER)
    if len(content) > LARGEST_ANSWER:
        raise NoContact("too_large", "its answer is over 256 KiB")
    return Answer(opened.status, opened.headers, content)


def _no_contact(error: OSError | ValueError) -> NoContact:
    match error:
        case WrongKey():
            return NoContact("wrong_key", OTHER_NODE)
        case UnreachedInTime():
            return NoContact("unreached", "it did not take the connection in time")
        case TimeoutError():
            return NoContact("silent", "it did not answer in time")
    return NoContact("refused", "it cannot be reached")


def proof_text(proof: bytes) -> str:
    """A proof of stake as a record holds it: base64url without padding."""
    return base64.urlsafe_b64encode(proof).decode().rstrip("=")


def own_proofs(stake: Stake, now: float) -> tuple[str, str]:
    """This node's own, for the network it is in, and for the one it is leaving, where there is one."""
    proof, *former = (proof_text(stake.proof(network, now)) for network in stake.networks)
    return proof, former[0] if former else ""


def proof_bytes(text: str) -> bytes:
    """Empty where it is none, which proves nothing."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
