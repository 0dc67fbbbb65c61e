"""The words that people copy: they come back whole, and a wrong or missing character is told, never guessed at."""

import hmac
import re
from base64 import b32decode, urlsafe_b64decode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from peers.network.dialing import Address
from peers.network.identity import node_id
from peers.network.tokens import (
    BadToken,
    Invite,
    Secret,
    certificate_text,
    parse_certificate,
    parse_invite,
    parse_secret,
    parse_secrets,
)

SECRET = Secret(bytes(range(32)))
OTHER = Secret(bytes(32))
TEXT = "masa1AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9jDc0p"
NODES = [node_id(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32)) for i in range(5)]
PLACES = [Address("10.0.0.1", 4001), Address("2001:db8::1", 443), Address("node.example", 65535), Address("::1", 1)]
MEMBERS = tuple(zip(NODES, PLACES, strict=False))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"([a-z][a-z0-9]{0,20}\.){0,5}[a-z]{1,20}", fullmatch=True),
)
invites = st.builds(
    Invite,
    st.builds(Secret, st.binary(min_size=32, max_size=32)),
    st.lists(st.tuples(st.sampled_from(NODES), st.builds(Address, hosts, st.integers(1, 65535))), max_size=4).map(
        tuple
    ),
)


def test_a_secret_is_written_in_one_way_for_ever():
    """docs/protocol.md, byte for byte: members of other releases read it too."""
    assert SECRET.text == TEXT
    assert parse_secret(TEXT) == parse_secret(f"  {TEXT}\n") == SECRET
    assert sha256(SECRET.raw).digest()[:4].hex() == "630dcd29"


def test_the_network_key_is_derived_as_the_contract_says():
    extracted = hmac.digest(bytes(32), SECRET.raw, "sha256")
    seed = hmac.digest(extracted, b"masa-network-v1\1", "sha256")
    assert SECRET.network_key().private_bytes_raw() == seed
    assert SECRET.network() == node_id(Ed25519PrivateKey.from_private_bytes(seed))
    assert SECRET.network() == "onobdugf4ngwfpka4lstisnpjfgwjj6tgjqceeuxqbhtl5o2wbma"


def test_no_secret_is_shown():
    assert TEXT[5:] not in repr(SECRET) + repr(Invite(SECRET, MEMBERS))
    assert repr(SECRET.raw) not in repr(SECRET) + repr(Invite(SECRET))


def test_two_secrets_while_rotating():
    assert parse_secrets(TEXT) == (SECRET,)
    assert parse_secrets(f"{OTHER.text}, {TEXT}") == (OTHER, SECRET)
    for wrong in (f"{TEXT},{TEXT}", f"{TEXT},", f",{TEXT}", f"{TEXT},{OTHER.text},{Secret(b'x' * 32).text}", ""):
        with pytest.raises(BadToken):
            parse_secrets(wrong)


def test_a_token_is_one_word():
    text = Invite(SECRET, MEMBERS).text()
    assert re.fullmatch(r"masa1[A-Za-z0-9_-]{48,595}", text)
    assert text.startswith(TEXT)
    assert parse_invite(text) == parse_invite(f"\n{text} ") == Invite(SECRET, MEMBERS)
    assert Invite(SECRET).text() == TEXT
    assert parse_invite(TEXT) == Invite(SECRET)


def test_a_token_is_written_in_one_way_for_ever():
    told = "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ikPoQgxMC4wLjAuMQU6BU8"
    assert Invite(SECRET, MEMBERS[:1]).text() == TEXT + told
    member = b32decode(NODES[0].upper() + "====") + b"\x0f\xa1\x0810.0.0.1"
    assert urlsafe_b64decode(told + "=") == member + sha256(SECRET.raw + member).digest()[:4]


def test_a_token_names_the_first_members_that_fit():
    """At most four, in at most 600 characters; a name as long as names get fits alone."""
    long = Address(".".join(["a" * 49] * 5), 4001)
    assert len(long.host) == 249
    assert parse_invite(Invite(SECRET, MEMBERS + MEMBERS).text()).members == MEMBERS
    assert parse_invite(Invite(SECRET, ((NODES[0], long), *MEMBERS)).text()).members == ((NODES[0], long), *MEMBERS[:2])
    two = Invite(SECRET, ((NODES[0], long), (NODES[1], long), MEMBERS[2])).text()
    assert parse_invite(two).members == ((NODES[0], long), MEMBERS[2])


@given(invites)
def test_a_token_comes_back(invite):
    text = invite.text()
    assert len(text) <= 600
    again = parse_invite(text)
    assert again.secret == invite.secret
    assert again.members == invite.members or len(invite.members) > len(again.members)


@pytest.mark.parametrize("text", [TEXT, Invite(SECRET, MEMBERS).text()], ids=["secret", "token"])
def test_every_wrong_character_is_told(text):
    for place in range(len(text)):
        for letter in {"A", "b", "-", "é", " ", "=", text[place].swapcase()} - {text[place]}:
            with pytest.raises(BadToken) as bad:
                parse_invite(text[:place] + letter + text[place + 1 :])
            assert text[8:40] not in str(bad.value)


def test_every_cut_and_every_swap_is_told():
    text = Invite(SECRET, MEMBERS).text()
    for end in set(range(len(text))) - {len(TEXT)}:
        with pytest.raises(BadToken):
            parse_invite(text[:end])
    for place in (i for i in range(len(text) - 1) if text[i] != text[i + 1]):
        with pytest.raises(BadToken):
            parse_invite(text[:place] + text[place + 1] + text[place] + text[place + 2 :])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "starts with masa1"),
        ("hunter2", "starts with masa1"),
        (TEXT[:-1], "has 53 characters, this one 52"),
        (TEXT[:-1] + "q", "checksum"),
        (TEXT + "A" * 600, "at most 600"),
        (TEXT + "A", "copy it again"),
        (f"{TEXT} {TEXT}", "copy it again"),
        (certificate_text(b"x" * 200), "starts with masa1"),
    ],
)
def test_what_is_wrong_is_said(text, words):
    with pytest.raises(BadToken, match=words):
        parse_invite(text)


@pytest.mark.parametrize(
    "told",
    [
        b"",
        bytes(32) + b"\x0f\xa1\x04host",
        b"\x08" * 31,
        b"\x08" * 34,
        b"\x08" * 32 + b"\x0f\xa1\x05host",
        b"\x08" * 32 + b"\0\0\x04host",
        b"\x08" * 32 + b"\x0f\xa1\x00",
        b"\x08" * 32 + b"\x0f\xa1\x06h\xc3\xb6st!",
        b"\x08" * 32 + b"\x0f\xa1\x06a b/..",
        (b"\x08" * 32 + b"\x0f\xa1\x04host") * 5,
    ],
)
def test_a_whole_token_with_members_that_cannot_be(told):
    """Its checksum fits: whoever made it knows how."""
    text = _made(SECRET.raw, told)
    with pytest.raises(BadToken, match=r"members?"):
        parse_invite(text)


def _made(raw, told):
    """As Invite writes it."""
    checked = told + sha256(raw + told).digest()[:4]
    return TEXT + certificate_text(checked).removeprefix("masacert1")


@given(st.one_of(st.text(), st.text(ALPHABET).map("masa1".__add__), st.text(ALPHABET).map(TEXT.__add__)))
@example(TEXT)
def test_no_text_breaks_a_reader(text):
    for read in (parse_secret, parse_secrets, parse_invite, parse_certificate):
        try:
            read(text)
        except BadToken:
            continue
        assert text == TEXT


@given(st.binary(max_size=600))
def test_no_bytes_behind_a_good_checksum_break_a_reader(told):
    try:
        invite = parse_invite(_made(SECRET.raw, told))
    except BadToken:
        return
    assert parse_invite(invite.text()) == invite


@given(st.binary(max_size=600))
def test_a_certificate_is_one_word(sealed):
    text = certificate_text(sealed)
    assert re.fullmatch(r"masacert1[A-Za-z0-9_-]*", text)
    assert parse_certificate(f" {text}\n") == sealed
