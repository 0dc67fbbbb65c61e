"""Requests that peers may send, and the handshakes that make their sessions: taken apart by the code under test."""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from multidict import CIMultiDict

from peers.network.certificates import network_id
from peers.network.gate import Gate
from peers.network.identity import node_id
from peers.network.pairing import LIFE, Agreed, Pair, answered, question, understood
from peers.network.signatures import sign_by_session
from tests import signing

SESSION, SHARED = "A" * 22, bytes(32)


def text(data: bytes) -> str:
    """Any string that JSON or a header could have brought, lone surrogates included."""
    return data.decode("utf-8", "surrogatepass" if len(data) % 2 else "surrogateescape")


def lenient(data: bytes) -> str:
    try:
        return text(data)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def gated(data: bytes) -> object:
    """Headers, a blank line, a body."""
    head, _, body = data.partition(b"\n\n")
    given = CIMultiDict(pair.split(": ", 1) for pair in lenient(head).split("\n") if ": " in pair)
    gate = Gate(signing.ME, lambda node: node == signing.SENDER, strangers=True)
    gate.sessions.add(signing.SENDER, Agreed(SESSION, SHARED, LIFE), signing.NOW)
    knock = gate.head("POST", signing.PATH, given, "192.0.2.1", signing.NOW, known=True)
    return gate.body(knock, body, signing.NOW)


def sent(headers: Mapping[str, str]) -> bytes:
    return "\n".join(f"{name}: {value}" for name, value in headers.items()).encode() + b"\n\n" + signing.BODY


SIGNED = sent(signing.headers())
SIGNED_BY_SESSION = sent(sign_by_session(signing.request(), SHARED, SESSION, signing.NOW, 7))


# Sessions


ANSWERER = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
EPHEMERAL = X25519PrivateKey.from_private_bytes(b"\7" * 32)
PAIR = Pair(network_id(signing.KEY), signing.SENDER, node_id(ANSWERER))


def session_asked(data: bytes) -> tuple[Agreed, bytes]:
    return answered(data, PAIR.asker, ANSWERER, (PAIR.network,), EPHEMERAL, bytes(16))


QUESTION = question(PAIR.network, EPHEMERAL)
ANSWER = session_asked(QUESTION)[1]


def session_answered(data: bytes) -> Agreed:
    return understood(data, PAIR, EPHEMERAL)
