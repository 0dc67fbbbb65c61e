"""docs/protocol.md: its examples and vectors are what the code makes, and its limits and codes are the code's."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from multidict import CIMultiDict

from peers.network import frames, offers, pairing, pairs, records, replay, signatures, table
from peers.network.certificates import LARGEST_CERTIFICATE, LARGEST_DENY_LIST
from peers.network.contact import PING, ping_answer, proof_text
from peers.network.dialing import NOT_A_NODES, Address
from peers.network.hints import SERVICE, network_tag
from peers.network.identity import node_id, parse_key
from peers.network.intake import Refusal
from peers.network.pairing import answered, question
from peers.network.records import PREFIX, Models, Record, read, seal
from peers.network.seal import DENY, MEMBER
from peers.network.stake import SharedSecret
from peers.network.tokens import LONGEST_TOKEN, Invite, Secret

PAGE = (Path(__file__).parent.parent / "docs/protocol.md").read_text()
NOW = 1_800_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
B_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
A, B = node_id(KEY), node_id(B_KEY)
X_A, X_B = X25519PrivateKey.from_private_bytes(bytes(range(32))), X25519PrivateKey.from_private_bytes(b"\1" * 32)
NAME = bytes(range(16))
RECEIVER = node_id(Ed25519PrivateKey.from_private_bytes(b"\1" * 32))
SECRET = Secret(bytes(range(32)))
HTTP = re.findall(r"^```http\n(.*?)\n```$", PAGE, re.M | re.S)


def vectors() -> dict[str, str]:
    proof = proof_text(SharedSecret((SECRET,), A).proof(SECRET.network(), NOW))
    record = Record(
        net=SECRET.network(),
        id=A,
        boot="00112233aabbccdd",
        epoch=NOW * 1000,
        seq=1,
        issued=NOW,
        ttl=60,
        addrs=("10.0.0.1:4001",),
        models=Models(1, offers.list_hash(a_list())),
        proof=proof,
        name="attic",
    )
    sealed = seal(record, KEY.sign)
    return {
        "id of A": A,
        "key of A in digests": table.key_of(A).hex(),
        "secret": SECRET.text,
        "seed of the network key": SECRET.network_key().private_bytes_raw().hex(),
        "network": SECRET.network(),
        "network on a LAN": network_tag(SECRET.network()).decode(),
        "token naming B": Invite(SECRET, ((B, Address("10.0.0.1", 4001)),)).text(),
        "proof of A": proof,
        "session answered": answered(question(SECRET.network(), X_A), A, B_KEY, (SECRET.network(),), X_B, NAME)[
            1
        ].hex(),
        "session key": answered(question(SECRET.network(), X_A), A, B_KEY, (SECRET.network(),), X_B, NAME)[0].key.hex(),
        "hash of the list": offers.list_hash(a_list()),
        "payload": read(sealed).payload.decode(),
        "record": sealed,
        "version of it": f"{record.version:016x}",
        "ping signature": ping_answer(KEY, SECRET.network(), bytes(range(16)), sealed)[:64].hex(),
    }


def a_list() -> bytes:
    """As it stands in the page's example of an answer."""
    answer = json.loads(re.findall(r"^```json\n(.*?)\n```$", PAGE, re.M | re.S)[1])
    return json.dumps(answer["models"], separators=(",", ":")).encode()


@pytest.mark.parametrize("name", vectors())
def test_a_vector_is_what_the_code_makes(name: str) -> None:
    told = re.search(rf"^{name}:\n(.+)$", PAGE, re.M)
    assert told
    assert told[1] == vectors()[name]


def test_the_signed_request_is_taken_and_what_was_signed_is_shown() -> None:
    first, *lines = HTTP[1].splitlines()
    method, path, _ = first.split()
    claim = signatures.parse(method, path, CIMultiDict(line.split(": ", 1) for line in lines))
    signatures.check_recipient(claim, RECEIVER)
    signatures.check_time(claim, NOW)
    signatures.check_digest(claim, b"{}")
    signatures.check_signature(claim, parse_key(A))
    parse_key(A).verify(claim.signature, HTTP[2].encode())


def test_the_request_that_a_session_signed_is_taken() -> None:
    """It is the one above, with the last two headers changed."""
    first, *lines = [*HTTP[1].splitlines()[:-2], *HTTP[3].splitlines()]
    method, path, _ = first.split()
    claim = signatures.parse(method, path, CIMultiDict(line.split(": ", 1) for line in lines))
    assert (claim.by_session, claim.nonce) == (True, "7")
    signatures.check_recipient(claim, RECEIVER)
    signatures.check_time(claim, NOW)
    signatures.check_digest(claim, b"{}")
    signatures.check_mac(claim, bytes(range(32)))


def test_every_prefix_and_every_refusal_is_told() -> None:
    for prefix in (PREFIX, PING, MEMBER, DENY, pairing.PREFIX):
        assert f"`{prefix[:-1].decode()}`" in PAGE
        assert prefix.endswith(b"\0")
    named = set(re.findall(r"`([^`\n]+)`", PAGE))
    assert {*get_args(Refusal), *get_args(signatures.Code)} <= named


@pytest.mark.parametrize(
    "limit",
    [
        frames.LARGEST,
        frames.MOST_ENTRIES,
        records.LONGEST_PAYLOAD,
        records.LONGEST_SEALED,
        table.MOST_MEMBERS,
        offers.MOST_MODELS,
        LARGEST_CERTIFICATE,
        LARGEST_DENY_LIST,
        LONGEST_TOKEN,
        pairing.LIFE,
        pairs.MOST,
        pairs.REQUESTS,
        replay.WIDTH,
        *NOT_A_NODES,
    ],
)
def test_limits_are_the_codes(limit: int) -> None:
    assert re.search(rf"\b{limit:,}\b|\b{limit}\b", PAGE)


def test_the_lan_service_is_named() -> None:
    assert f"`{SERVICE}`" in PAGE
