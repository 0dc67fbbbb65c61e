"""Two nodes agree a key: both have it, nobody else does, and whatever is not exactly the handshake makes no session."""

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from peers.errors import MasaError
from peers.network.certificates import NetworkId, network_id
from peers.network.identity import node_id
from peers.network.pairing import LIFE, PREFIX, Agreed, NotAgreed, Pair, answered, question, understood

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(5)]
ASKER, ANSWERER, OTHER = map(node_id, KEYS[:3])
NETWORK, ELSEWHERE = map(network_id, KEYS[3:])
OURS, THEIRS = (X25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (7, 8))
NAME = bytes(range(16))
PAIR = Pair(NETWORK, ASKER, ANSWERER)
SMALL_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
]
"""As libraries list them: the shared secret is zero, whatever the other key (RFC 7748 §6.1)."""


def answer_to(
    body: bytes, asker: str = ASKER, networks: tuple[NetworkId, ...] = (NETWORK,), name: bytes = NAME
) -> tuple[Agreed, bytes]:
    return answered(body, asker, KEYS[1], networks, THEIRS, name)


def test_both_have_one_key_and_one_name_for_it() -> None:
    there, answer = answer_to(question(NETWORK, OURS))
    assert understood(answer, PAIR, OURS) == there
    assert (len(there.key), there.id, there.life) == (32, "AAECAwQFBgcICQoLDA0ODw", LIFE)


def test_each_handshake_makes_another_key() -> None:
    def key(ours: X25519PrivateKey, theirs: X25519PrivateKey, name: bytes = NAME, asker: str = ASKER) -> bytes:
        return answered(question(NETWORK, ours), asker, KEYS[1], (NETWORK,), theirs, name)[0].key

    new = X25519PrivateKey.generate()
    others = [key(new, THEIRS), key(OURS, new), key(OURS, THEIRS, bytes(16)), key(OURS, THEIRS, asker=OTHER)]
    assert len({key(OURS, THEIRS), *others}) == 5


@pytest.mark.parametrize(
    "pair",
    [Pair(ELSEWHERE, ASKER, ANSWERER), Pair(NETWORK, OTHER, ANSWERER), Pair(NETWORK, ASKER, OTHER)],
    ids=["another network", "another asker", "another answerer"],
)
def test_an_answer_is_for_its_asker_its_network_and_from_whom_was_asked(pair: Pair) -> None:
    answer = answer_to(question(NETWORK, OURS))[1]
    with pytest.raises(NotAgreed):
        understood(answer, pair, OURS)


def test_an_answer_is_for_one_question() -> None:
    with pytest.raises(NotAgreed):
        understood(answer_to(question(NETWORK, X25519PrivateKey.generate()))[1], PAIR, OURS)


def test_every_bit_of_an_answer_counts() -> None:
    answer = answer_to(question(NETWORK, OURS))[1]
    for place in range(len(answer) * 8):
        spoiled = bytearray(answer)
        spoiled[place // 8] ^= 1 << place % 8
        with pytest.raises(NotAgreed):
            understood(bytes(spoiled), PAIR, OURS)


def test_a_question_that_was_altered_on_its_way_is_noticed() -> None:
    body = question(NETWORK, OURS)
    for place in range(32 * 8):
        spoiled = bytearray(body)
        spoiled[place // 8] ^= 1 << place % 8
        with pytest.raises(NotAgreed):
            understood(answer_to(bytes(spoiled))[1], PAIR, OURS)


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:8])
def test_no_secret_is_agreed_with_a_key_of_small_order(key: bytes) -> None:
    with pytest.raises(MasaError) as refused:
        answer_to(key + NETWORK.encode())
    assert (refused.value.status, refused.value.code) == (400, "malformed")
    said = key + NAME + LIFE.to_bytes(4, "big")
    signed = PREFIX + (NETWORK + ASKER + ANSWERER).encode() + OURS.public_key().public_bytes_raw() + said
    with pytest.raises(NotAgreed):
        understood(said + KEYS[1].sign(signed), PAIR, OURS)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (question(ELSEWHERE, OURS), 403, "wrong_network"),
        (question(NETWORK, OURS) + b"a", 400, "malformed"),
        (question(NETWORK, OURS)[:-1], 400, "malformed"),
        (question(NETWORK, OURS)[:32], 400, "malformed"),
        (b"", 400, "malformed"),
    ],
)
def test_what_is_no_question_is_refused(body: bytes, status: int, code: str) -> None:
    with pytest.raises(MasaError) as refused:
        answer_to(body)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_network_that_is_being_left_counts_too() -> None:
    there, answer = answer_to(question(ELSEWHERE, OURS), networks=(NETWORK, ELSEWHERE))
    assert understood(answer, Pair(ELSEWHERE, ASKER, ANSWERER), OURS) == there


@given(st.binary(max_size=130))
def test_whatever_comes_is_no_session(data: bytes) -> None:
    with pytest.raises(NotAgreed):
        understood(data, PAIR, OURS)
    with pytest.raises(MasaError):
        answer_to(data)


def test_a_longer_life_than_ours_is_cut_to_it() -> None:
    said = THEIRS.public_key().public_bytes_raw() + os.urandom(16) + (2**32 - 1).to_bytes(4, "big")
    signed = PREFIX + (NETWORK + ASKER + ANSWERER).encode() + OURS.public_key().public_bytes_raw() + said
    assert understood(said + KEYS[1].sign(signed), PAIR, OURS).life == LIFE
