"""Stake by secret: members prove themselves to each other, and to nobody else (D8)."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from peers.network.certificates import DAY, read_certificate
from peers.network.seal import MEMBER, payload_of, seal
from peers.network.stake import SharedSecret
from peers.network.tokens import Secret
from tests.test_certificates import CERTIFICATE, NODE, NOW, OTHER, reason

OLD, NEW = Secret(b"o" * 32), Secret(b"n" * 32)


def test_members_of_a_secret_prove_themselves():
    me, peer = SharedSecret([NEW], NODE), SharedSecret([NEW], OTHER)
    assert me.networks == peer.networks == (NEW.network(),)
    proven = peer.proven(NODE, me.proof(NEW.network(), NOW), NOW)
    assert (proven.node, proven.network, proven.amount) == (NODE, NEW.network(), 1)
    assert 59 * DAY <= proven.until - NOW <= 90 * DAY


def test_another_secret_is_another_network():
    stranger = SharedSecret([OLD], NODE).proof(OLD.network(), NOW)
    assert reason(SharedSecret([NEW], OTHER).proven, NODE, stranger, NOW) == "wrong_network"
    claimed = seal(MEMBER, payload_of(SharedSecret([NEW], NODE).proof(NEW.network(), NOW)), OLD.network_key())
    assert reason(SharedSecret([NEW], OTHER).proven, NODE, claimed, NOW) == "forged"
    assert reason(SharedSecret([NEW], OTHER).proven, NODE, CERTIFICATE, NOW) == "wrong_network"


def test_a_proof_cannot_be_borrowed():
    proof = SharedSecret([NEW], NODE).proof(NEW.network(), NOW)
    assert reason(SharedSecret([NEW], OTHER).proven, OTHER, proof, NOW) == "other_node"


def test_while_rotating_both_networks_count():
    both, only_old, only_new = (SharedSecret(secrets, NODE) for secrets in ([NEW, OLD], [OLD], [NEW]))
    assert both.networks == (NEW.network(), OLD.network())
    for other in (only_old, only_new):
        (network,) = other.networks
        assert other.proven(NODE, both.proof(network, NOW), NOW).network == network
        assert both.proven(NODE, other.proof(network, NOW), NOW).network == network


@given(st.integers(0, 2**33), st.floats(0, 30 * DAY), st.sampled_from([NODE, OTHER]))
@settings(deadline=None)
def test_a_members_own_certificate_always_counts(now, later, node):
    """Whatever the time, for the next month, and for a peer whose clock is a day off; the same bytes for 30 days."""
    stake = SharedSecret([NEW], node)
    proof = stake.proof(NEW.network(), now)
    for when in (now, now + later, now - DAY, now + DAY):
        stake.proven(node, proof, when)
    next_one = stake.proof(NEW.network(), now + 30 * DAY)
    assert read_certificate(next_one).nbf - read_certificate(proof).nbf == 30 * DAY
    assert stake.proof(NEW.network(), now + later) in (proof, next_one)


def test_a_restart_proves_with_the_same_bytes_and_members_renew_apart():
    times = [NOW + hour * 3600.3 for hour in range(24 * 30)]
    renewals = {
        node: [a for a, b in pairwise(times) if proof_of(node, a) != proof_of(node, b)] for node in (NODE, OTHER)
    }
    assert [len(when) for when in renewals.values()] == [1, 1]
    assert renewals[NODE] != renewals[OTHER]


def proof_of(node, now):
    return SharedSecret([NEW], node).proof(NEW.network(), now)
