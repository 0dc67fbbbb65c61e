"""Requests signed by a session: an independent library agrees both ways, and whatever is not the profile is refused."""

import time
from types import SimpleNamespace

import pytest
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from multidict import CIMultiDict

from peers.errors import MasaError
from peers.network.gate import Gate
from peers.network.pairing import LIFE, Agreed
from peers.network.pairs import PER_PEER
from peers.network.replay import WIDTH
from peers.network.signatures import content_digest, sign_by_session
from tests.signing import BODY, COVERED, ME, NOW, OTHER, PATH, SENDER, by_library, request
from tests.signing import headers as by_node

KEY = bytes(range(32))
NAME = "AAECAwQFBgcICQoLDA0ODw"
OTHERS = "A" * 22
SOURCE = "192.0.2.1"


class SharedKey(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id):
        return KEY

    def resolve_public_key(self, key_id):
        return KEY


class OtherKey(SharedKey):
    def resolve_private_key(self, key_id):
        return bytes(32)


def headers(counter=0, *, now=NOW, key=KEY, name=NAME, **changes):
    return CIMultiDict(sign_by_session(request(**changes), key, name, now, counter))


def library(**options):
    given = {"algorithm": algorithms.HMAC_SHA256, "keys": SharedKey, "keyid": NAME, "nonce": "0"}
    return by_library(**(given | options))


def a_gate(me=ME):
    """It has agreed sessions with two peers."""
    gate = Gate(me, lambda node: node in (SENDER, OTHER), strangers=True)
    gate.sessions.add(SENDER, Agreed(NAME, KEY, LIFE), NOW - 100)
    gate.sessions.add(OTHER, Agreed(OTHERS, bytes(32), LIFE), NOW - 100)
    return gate


def accept(given, gate=None, *, body=BODY, path=PATH, now=NOW):
    gate = gate or a_gate()
    return gate.body(gate.head("POST", path, given, SOURCE, now, known=True), body, now)


def code(given, gate=None, **options):
    with pytest.raises(MasaError) as refused:
        accept(given, gate, **options)
    return f"{refused.value.status} {refused.value.code}"


def test_the_library_verifies_what_we_sign():
    given = headers(7, now=time.time())
    message = SimpleNamespace(method="POST", url=f"https://10.0.0.1:4001{PATH}", headers=given)
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=SharedKey())
    (result,) = verifier.verify(message, expect_tag="masa-peer-v1", require_components=COVERED, body=BODY)
    assert (result.label, result.parameters["keyid"], result.parameters["nonce"]) == ("masa", NAME, "7")
    assert result.parameters["expires"] - result.parameters["created"] == 30


def test_we_verify_what_the_library_signs():
    assert accept(library()) == SENDER
    assert dict(library()) == dict(headers())


def test_one_of_many_sends_is_accepted():
    """D5: the same request twice, to another node, late, early, and altered."""
    gate, given = a_gate(), headers()
    assert code(given, a_gate(OTHER)) == "403 recipient"
    assert code(given, gate, now=NOW + 95) == "401 clock"
    assert code(given, gate, now=NOW - 95) == "401 clock"
    assert code(given, gate, path=PATH + "x") == "401 signature"
    assert code(given, gate, body=BODY + b" ") == "401 digest"
    assert code(but(given, "Content-Digest", content_digest(b"")), gate, body=b"") == "401 signature"
    assert code(but(given, "Signature-Input", given["Signature-Input"].replace('"0"', '"1"')), gate) == "401 signature"
    assert accept(given, gate) == SENDER
    assert code(given, gate) == "401 replay"
    assert code(given, gate, now=NOW + 29) == "401 replay"


def test_what_overtakes_is_taken_within_the_window():
    gate = a_gate()
    for counter in (0, WIDTH, 5, 1, WIDTH - 1):
        accept(headers(counter), gate)
    for counter in (0, WIDTH, 5, 1):
        assert code(headers(counter), gate) == "401 replay"


def test_a_forged_counter_moves_no_window():
    gate = a_gate()
    assert code(headers(500_000, key=bytes(32)), gate) == "401 signature"
    accept(headers(0), gate)


def test_a_session_is_its_own_pairs_alone():
    gate = a_gate()
    assert code(headers(name=OTHERS), gate) == "401 signature"
    assert accept(headers(name=OTHERS, key=bytes(32)), gate) == OTHER
    gate.sessions.add(SENDER, Agreed("B" * 21 + "A", bytes(32), LIFE), NOW)
    assert code(headers(name="B" * 21 + "A"), gate) == "401 signature"


def test_a_session_that_is_over_or_was_forgotten_is_said_to_be_none():
    gate = a_gate()
    assert code(headers(name="C" * 21 + "A"), gate) == "401 session"
    assert code(headers(now=NOW + LIFE), gate, now=NOW + LIFE) == "401 session"
    for number in range(PER_PEER):
        gate.sessions.add(SENDER, Agreed(f"{number:021}A", KEY, LIFE), NOW)
    assert code(headers(), gate) == "401 session"
    assert accept(by_node(), gate) == SENDER


def test_a_session_of_who_is_no_member_any_more_lets_nobody_in():
    members = {SENDER}
    gate = Gate(ME, members.__contains__, strangers=False)
    gate.sessions.add(SENDER, Agreed(NAME, KEY, LIFE), NOW)
    accept(headers(0), gate)
    members.clear()
    assert code(headers(1), gate) == "403 unknown_peer"


DOWNGRADES = {
    "fewer components": lambda: library(covered=COVERED[:-1]),
    "no component": lambda: library(covered=()),
    "one more": lambda: library(covered=(*COVERED, "@authority")),
    "other order": lambda: library(covered=COVERED[::-1]),
    "another label": lambda: library(label="sig1"),
    "another tag": lambda: library(tag="other"),
    "no tag": lambda: library(tag=None),
    "no counter": lambda: library(nonce=None),
    "a nonce": lambda: library(nonce="AAAAAAAAAAAAAAAAAAAAAA"),
    "leading zero": lambda: library(nonce="00"),
    "negative counter": lambda: library(nonce="-1"),
    "no algorithm": lambda: library(include_alg=False),
    "another key": lambda: library(keys=OtherKey),
    "the node's name": lambda: library(keyid=SENDER),
    "a session's name under a node's algorithm": lambda: by_library(keyid=NAME),
    "a counter under a node's algorithm": lambda: by_library(nonce="0"),
    "one year": lambda: library(life=365 * 86_400),
    "backwards": lambda: library(life=-1),
    "both algorithms": lambda: changed("Signature-Input", 'alg="hmac-sha256"', 'alg="hmac-sha256";alg="ed25519"'),
    "another algorithm's name": lambda: changed("Signature-Input", 'alg="hmac-sha256"', 'alg="ed25519"'),
    "algorithm none": lambda: changed("Signature-Input", 'alg="hmac-sha256"', 'alg="none"'),
    "two signatures": lambda: changed("Signature", "masa=:", f"masa=:{'A' * 43}=:, masa=:"),
    "half a signature": lambda: but(headers(), "Signature", f"masa=:{headers()['Signature'][6:28]}=:"),
    "another hop": lambda: changed("Masa-Hop", "1", "2"),
}


def changed(name, old, new):
    given = headers()
    assert given[name].count(old) == 1
    return but(given, name, given[name].replace(old, new))


def but(given, name, value):
    return CIMultiDict({**given, name: value})


@pytest.mark.parametrize("make", DOWNGRADES.values(), ids=DOWNGRADES)
def test_there_is_nothing_to_negotiate(make):
    """D6."""
    assert code(make()) in ("401 malformed", "401 signature")


@pytest.mark.parametrize("name", list(headers()))
def test_exactly_one_of_each_header(name):
    given = headers()
    given.add(name, given[name])
    assert code(given) == "401 malformed"
    del given[name]
    assert code(given) == "401 malformed"
    given[name] = headers()[name] + "\n"
    assert code(given) == "401 malformed"


def test_every_bit_counts():
    """Of headers, path and body."""
    gate, given = a_gate(), headers()
    gate._addresses._burst = gate._nodes._burst = 1e9  # what is tried here is not how often
    flips = [(name, place, bit) for name in given for place in range(len(given[name])) for bit in range(7)]
    for name, place, bit in flips:
        code(but(given, name, flipped(given[name], place, bit)), gate)
    for place in range(len(PATH)):
        code(given, gate, path=flipped(PATH, place, 0))
    code(given, gate, body=BODY[:-1] + b"]")
    assert accept(given, gate) == SENDER


def flipped(text, place, bit):
    return text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]
