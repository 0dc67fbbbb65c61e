"""Stake by certificate: who may take part, who no longer may, and why all else is refused (D8)."""

from contextlib import suppress

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.network.certificates import (
    DAY,
    Certificate,
    NotStaked,
    deny,
    issue,
    network_id,
    open_deny_list,
    read_certificate,
    serial_text,
)
from peers.network.identity import BadKey, id_text, node_id
from peers.network.seal import DENY, MEMBER, payload_of, seal
from peers.network.stake import Certificates, Proven, SharedSecret
from peers.network.tokens import Secret

NOW = 1_800_000_000.5
AUTHORITY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)
NETWORK = network_id(AUTHORITY)
NODE = node_id(Ed25519PrivateKey.from_private_bytes(b"\3" * 32))
OTHER = node_id(Ed25519PrivateKey.from_private_bytes(b"\4" * 32))
WEAK = id_text((1).to_bytes(32, "little"))
SERIAL = bytes(range(8))
CERTIFICATE = issue(AUTHORITY, NODE, NOW, SERIAL, amount=7)
NEW = Secret(b"n" * 32)


def reason(prove, *arguments):
    with pytest.raises(NotStaked) as refused:
        prove(*arguments)
    assert (refused.value.status, refused.value.code) == (403, "not_staked")
    assert refused.value.text
    return refused.value.reason


def judged(proof, node=NODE, now=NOW, network=NETWORK):
    return Certificates(network).proven(node, proof, now)


def made(key=AUTHORITY, prefix=MEMBER, **changes):
    """A certificate that somebody signed over whatever they like."""
    said = msgspec.json.decode(payload_of(CERTIFICATE)) | changes
    return seal(prefix, msgspec.json.encode(said), key)


def test_a_certificate_proves_its_node():
    assert judged(CERTIFICATE) == Proven(NODE, NETWORK, 7, int(NOW) + 90 * DAY, serial_text(SERIAL))
    assert read_certificate(CERTIFICATE).node == NODE
    assert judged(made(amount=7)) == judged(CERTIFICATE)


def test_a_certificate_is_written_in_one_way_for_ever():
    assert (
        payload_of(CERTIFICATE)
        == (
            f'{{"v":1,"net":"{NETWORK}","node":"{NODE}","amount":7,"nbf":1800000000,"exp":1807776000,"serial":"AAECAwQFBgc"}}'
        ).encode()
    )
    AUTHORITY.public_key().verify(CERTIFICATE[:64], b"masa-member-v1\0" + CERTIFICATE[64:])
    assert len(made(amount=2**53)) <= 512


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (b"", "missing"),
        (b"x", "malformed"),
        (CERTIFICATE[:64], "malformed"),
        (CERTIFICATE + b" " * 300, "malformed"),
        (made(v=2), "malformed"),
        (made(more=1), "malformed"),
        (made(amount=0), "malformed"),
        (made(amount=2**53 + 1), "malformed"),
        (made(amount="7"), "malformed"),
        (made(serial="short"), "malformed"),
        (made(exp=int(NOW)), "malformed"),
        (made(exp=int(NOW) + 365 * DAY + 1), "malformed"),
        (made(key=STRANGER), "forged"),
        (made(prefix=DENY), "forged"),
        (made(net=network_id(STRANGER), key=STRANGER), "wrong_network"),
        (made(node=OTHER), "other_node"),
        (made(nbf=int(NOW) + 122), "not_yet"),
        (made(nbf=int(NOW) - 365 * DAY, exp=int(NOW) - 121), "expired"),
        (seal(MEMBER, b"[" * 400, AUTHORITY), "malformed"),
        (seal(MEMBER, b'{"v":1,"net":"\xff"}', AUTHORITY), "malformed"),
        (seal(MEMBER, b"null", AUTHORITY), "malformed"),
    ],
)
def test_what_does_not_prove_stake(proof, why):
    assert reason(judged, proof) == why


def test_a_weak_key_proves_nothing():
    assert reason(judged, made(node=WEAK), WEAK) == "weak_key"
    with pytest.raises(BadKey):
        Certificates(WEAK)
    with pytest.raises(BadKey):
        issue(AUTHORITY, WEAK, NOW, SERIAL)


def test_clocks_may_differ_by_two_minutes():
    begin, end = int(NOW), int(NOW) + 90 * DAY
    for now in (begin - 120, begin, end, end + 120):
        judged(CERTIFICATE, now=now)
    assert reason(judged, CERTIFICATE, NODE, begin - 120.5) == "not_yet"
    assert reason(judged, CERTIFICATE, NODE, end + 120.5) == "expired"


def test_every_bit_of_a_certificate_counts():
    """A12, for proofs."""
    stake = Certificates(NETWORK)
    for place in range(len(CERTIFICATE) * 8):
        flipped = bytearray(CERTIFICATE)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(NotStaked):
            stake.proven(NODE, bytes(flipped), NOW)


@pytest.mark.parametrize("wrong", [{"days": 0}, {"days": 366}, {"amount": 0}, {"amount": 2**53 + 1}])
def test_what_an_authority_cannot_issue(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        issue(AUTHORITY, NODE, NOW, SERIAL, **wrong)
    judged(issue(AUTHORITY, NODE, NOW, SERIAL, days=365))


def test_a_revoked_certificate_counts_no_more():
    stake = Certificates(NETWORK)
    assert stake.learn(deny(AUTHORITY, 1, [serial_text(SERIAL)]))
    assert reason(stake.proven, NODE, CERTIFICATE, NOW) == "revoked"
    stake.proven(NODE, issue(AUTHORITY, NODE, NOW, b"another1"), NOW)


def test_the_highest_deny_list_counts():
    stake = Certificates(NETWORK)
    first, second = deny(AUTHORITY, 1, []), deny(AUTHORITY, 2, [serial_text(SERIAL)])
    assert stake.learn(second)
    assert not stake.learn(second)
    assert not stake.learn(first)
    assert stake.deny_list == second
    assert reason(stake.proven, NODE, CERTIFICATE, NOW) == "revoked"
    assert stake.learn(deny(AUTHORITY, 10, []))
    stake.proven(NODE, CERTIFICATE, NOW)


def test_nodes_agree_on_one_of_two_deny_lists_with_one_number():
    one, other = deny(AUTHORITY, 3, ["AAAAAAAAAAA"]), deny(AUTHORITY, 3, ["BBBBBBBBBBB"])
    kept = []
    for order in ((one, other), (other, one)):
        stake = Certificates(NETWORK)
        news = [stake.learn(listed) for listed in order]
        kept.append((stake.deny_list, news[0]))
    assert kept[0] == kept[1] == (max(one, other), True)


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        (b"", "missing"),
        (deny(STRANGER, 9, []), "wrong_network"),
        (seal(DENY, payload_of(deny(AUTHORITY, 9, [])), STRANGER), "forged"),
        (seal(MEMBER, payload_of(deny(AUTHORITY, 9, [])), AUTHORITY), "forged"),
        (CERTIFICATE, "malformed"),
        (deny(AUTHORITY, 9, []) + b" " * 4096, "malformed"),
        (seal(DENY, payload_of(deny(AUTHORITY, 9, [])).replace(b"9", b"0"), AUTHORITY), "malformed"),
        (seal(DENY, b"[" * 4000, AUTHORITY), "malformed"),
    ],
)
def test_a_deny_list_of_nobody_changes_nothing(listed, why):
    stake = Certificates(NETWORK)
    assert reason(stake.learn, listed) == why
    assert stake.deny_list == b""
    stake.proven(NODE, CERTIFICATE, NOW)


def test_a_deny_list_has_a_bound():
    serials = [serial_text(number.to_bytes(8, "big")) for number in range(1000)]
    fitting = 0
    with suppress(ValueError):
        for count in range(200, 300):
            deny(AUTHORITY, 2**53, serials[:count])
            fitting = count
    assert 270 <= fitting < 299
    with pytest.raises(ValueError, match="too many"):
        deny(AUTHORITY, 1, serials)
    Certificates(NETWORK).learn(deny(AUTHORITY, 2**53, serials[:fitting]))


def test_every_bit_of_a_deny_list_counts():
    listed = deny(AUTHORITY, 4, [serial_text(SERIAL)])
    stake = Certificates(NETWORK)
    for place in range(len(listed) * 8):
        flipped = bytearray(listed)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(NotStaked):
            stake.learn(bytes(flipped))


def test_a_certificate_can_be_replaced():
    stake = Certificates(NETWORK)
    assert stake.networks == (NETWORK,)
    assert reason(stake.proven, NODE, stake.proof(NETWORK, NOW), NOW) == "missing"
    stake.certificate = CERTIFICATE
    assert stake.proven(NODE, stake.proof(NETWORK, NOW), NOW).until == int(NOW) + 90 * DAY


said = st.fixed_dictionaries(
    {},
    optional={
        "v": st.sampled_from([1, 2, True, None]),
        "net": st.sampled_from([NETWORK, NODE, "", 5]),
        "node": st.one_of(st.just(NODE), st.text(max_size=60)),
        "amount": st.one_of(st.integers(), st.floats(), st.text()),
        "nbf": st.one_of(st.integers(), st.just(int(NOW)), st.floats()),
        "exp": st.one_of(st.integers(), st.just(int(NOW) + DAY), st.none()),
        "serial": st.text(max_size=12),
        "number": st.integers(),
        "serials": st.lists(st.text(max_size=12)),
    },
)
payloads = st.one_of(st.binary(max_size=500), said.map(lambda value: msgspec.json.encode(value)))


@settings(deadline=None)
@given(st.binary(max_size=64), payloads, st.sampled_from([AUTHORITY, STRANGER]), st.sampled_from([MEMBER, DENY]))
def test_no_bytes_break_a_reader(head, payload, key, prefix):
    """Of strangers, and of an authority gone mad; NotStaked or an answer, and nothing else."""
    stakes = Certificates(NETWORK), SharedSecret([NEW], OTHER)
    for sealed in (head + payload, seal(prefix, payload, key)):
        for stake in stakes:
            with suppress(NotStaked):
                assert stake.proven(NODE, sealed, NOW).until <= NOW + 366 * DAY
        with suppress(NotStaked):
            open_deny_list(sealed, {})
        with suppress(NotStaked):
            assert stakes[0].learn(sealed) in (True, False)


@given(st.text(max_size=60), st.binary(max_size=31))
def test_whoever_asks_gets_an_answer(text, raw):
    for node in (text, id_text(raw)):
        assert reason(judged, CERTIFICATE, node) == "other_node"
        assert reason(judged, made(node=node), node) in {"malformed", "weak_key"}


def test_what_is_read_is_what_was_written():
    assert read_certificate(CERTIFICATE) == Certificate(
        1, NETWORK, NODE, 7, int(NOW), int(NOW) + 90 * DAY, serial_text(SERIAL)
    )
