"""What an owner is told of the node's own certificate: until when it holds, or why it does not and what to do."""

import pytest

from peers.network.certificates import DAY, deny, issue, read_certificate, serial_text
from peers.network.stake import Certificates
from peers.network.standing import expiry_warning, standing
from peers.network.tokens import deny_list_text
from tests.test_certificates import AUTHORITY, CERTIFICATE, NETWORK, NODE, NOW, OTHER, SERIAL, STRANGER, made

END = int(NOW) + 90 * DAY


def stood(sealed=CERTIFICATE, node=NODE, now=NOW, denied=()):
    stake = Certificates(NETWORK, sealed)
    if denied:
        stake.learn(deny(AUTHORITY, 1, denied))
    return standing(stake, node, now)


def test_a_certificate_that_holds():
    stands = stood()
    assert (stands.reason, stands.trouble) == (None, "")
    assert stands.certificate == read_certificate(CERTIFICATE)


@pytest.mark.parametrize(
    ("stands", "reason", "words"),
    [
        (stood(b""), "missing", ("no certificate", NETWORK, f"stake issue {NODE}")),
        (stood(b"x" * 99), "malformed", ("cannot be read",)),
        (stood(node=OTHER), "other_node", (f"for node {NODE}", f"stake issue {OTHER}")),
        (stood(issue(STRANGER, NODE, NOW, SERIAL)), "wrong_network", (NETWORK, "NETWORK_ID")),
        (stood(made(key=STRANGER)), "forged", ("not signed", "copy all of it")),
        (stood(now=END + DAY), "expired", ("ended on 2027-04-15", f"stake issue {NODE}")),
        (stood(now=NOW - DAY), "not_yet", ("begins on", "clock")),
        (stood(denied=[serial_text(SERIAL)]), "revoked", ("revoked by the authority",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_why_it_does_not_hold_and_what_to_do(stands, reason, words):
    assert stands.reason == reason
    assert all(word in stands.trouble for word in words), stands.trouble
    assert stands.why
    assert stands.remedy


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (14 * DAY + 1, ""),
        (14 * DAY, "in 14 days"),
        (2 * DAY, "in 2 days"),
        (DAY, "in 24 hours"),
        (3600, "in 1 hour:"),
        (-5, "ended on"),
    ],
)
def test_its_end_is_told_from_14_days_before(left, said):
    warning = expiry_warning(read_certificate(CERTIFICATE), END - left)
    assert (said in warning) if said else not warning
    assert not warning or f"stake issue {NODE}" in warning


def test_a_deny_list_is_read_and_tagged_as_the_protocol_says():
    """docs/protocol.md: its number in 16 hexadecimal digits, then those of its first 8 bytes; never raises."""
    stake = Certificates(NETWORK)
    sealed = deny(AUTHORITY, 258, [serial_text(SERIAL)])
    text = deny_list_text(sealed)
    assert stake.read_denials(text) == "0000000000000102" + sealed[:8].hex()
    assert stake.deny_list == sealed
    forged = deny_list_text(deny(STRANGER, 999, []))
    damaged = deny_list_text(sealed[:-1])
    for wrong in ("", "é", "=", text + "=", text[:-2] + "??", text + "AA", forged, damaged, "x" * 6144):
        assert stake.read_denials(wrong) is None, wrong
    older = deny(AUTHORITY, 257, [])
    assert stake.read_denials(deny_list_text(older)) == "0000000000000101" + older[:8].hex()
    assert stake.deny_list == sealed
