"""config and peers.network read the same texts, each by itself: what one takes, the other takes."""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from config.network_kinds import (
    address,
    advertised,
    certificate,
    fresh_secret,
    is_dialled,
    network_id,
    network_secret,
    node_id,
)
from peers.network.certificates import LARGEST_CERTIFICATE
from peers.network.dialing import OWN_LAN, Address, DialPolicy
from peers.network.identity import BadKey, id_text, raw_key
from peers.network.seal import SIGNATURE
from peers.network.tokens import (
    BadToken,
    Secret,
    certificate_text,
    parse_certificate,
    parse_secret,
    parse_secrets,
)
from tests.wrong_settings import CERTIFICATE, ID, NO_ADDRESSES, NOT_DIALLED, SECRET

ADDRESSES = [
    *("node.example:4001", "NODE.example:04001", "10.0.0.1:4001", "[2001:DB8::1]:443", "localhost:4001", "a:1", "3a:1"),
    *("[::ffff:10.0.0.1]:65535", "xn--bcher-kva.example:4001", f"{'a.' * 126}a:4001", f"{'a.' * 127}a:4001"),
    f"{'a' * 63}.example:4001",
]
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ODD = st.text() | st.text(BASE64URL + "=+/ ")


def read(reader: Callable[[str], object], text: str) -> str | None:
    """What a reader makes of `text`, None when it refuses it."""
    try:
        return str(reader(text))
    except ValueError:
        return None


@pytest.mark.parametrize("text", [*ADDRESSES, *NO_ADDRESSES])
def test_addresses_are_read_alike(text: str) -> None:
    assert read(address, text) == read(Address.parse, text)


@given(st.text() | st.from_regex(r"\[?[a-z0-9:.%-]{0,12}\]?:[0-9]{0,6}", fullmatch=True))
@example("host:4001\n")
def test_any_address_is_read_alike(text: str) -> None:
    assert read(address, text) == read(Address.parse, text)


def test_the_ports_that_peers_dial() -> None:
    policy = DialPolicy(OWN_LAN)
    assert all(is_dialled(port) == bool(policy.gossiped(f"10.0.0.1:{port}")) for port in range(1, 65536))


@pytest.mark.parametrize("text", [*ADDRESSES, *NO_ADDRESSES, *NOT_DIALLED])
def test_what_peers_dial_may_be_advertised(text: str) -> None:
    """The other way round it depends on the kind of network."""
    assert read(advertised, text) or DialPolicy(OWN_LAN).gossiped(text) is None


@given(st.binary(min_size=32, max_size=32).map(id_text) | st.from_regex(r"[a-z2-7]{51}[a-z2-7]", fullmatch=True) | ODD)
@example(ID)
@example(ID + "\n")
@example(ID.upper())
def test_ids_are_read_alike(text: str) -> None:
    """But for weak keys, and what is no canonical key: those are the network's to refuse."""
    try:
        raw_key(text)
        taken = True
    except BadKey as error:
        taken = not str(error).startswith("not an id")
    assert bool(read(node_id, text)) == bool(read(network_id, text)) == taken


WITHOUT_CHECKSUM = st.text(BASE64URL, min_size=48, max_size=48).map("masa1".__add__)
secrets = st.binary(min_size=32, max_size=32).map(lambda raw: Secret(raw).text)


@given(secrets | ODD | ODD.map("masa1".__add__) | ODD.map(SECRET.__add__) | WITHOUT_CHECKSUM)
@example(SECRET)
@example(SECRET.swapcase())
def test_a_secret_is_read_alike(text: str) -> None:
    text = re.sub(r"[,\r\n]", "", text)
    same = read(lambda text: parse_secret(text).text, text)
    assert read(network_secret, text) == same
    assert same is None or same == text.strip()


def test_every_wrong_character_of_a_secret_is_told() -> None:
    for place in range(len(SECRET)):
        for letter in {"A", "b", "-", "é", " ", "=", SECRET[place].swapcase()} - {SECRET[place]}:
            assert read(network_secret, SECRET[:place] + letter + SECRET[place + 1 :]) is None


@given(st.lists(secrets | st.just(SECRET), max_size=3), st.sampled_from([",", ", ", "\n", " ,\r\n"]))
def test_secrets_by_comma_are_read_alike(texts: list[str], between: str) -> None:
    taken = read(network_secret, between.join(texts))
    assert taken == (",".join(texts) if read(parse_secrets, ",".join(texts)) else None)


def test_a_fresh_secret_makes_a_network() -> None:
    assert parse_secret(fresh_secret()) != parse_secret(fresh_secret())


@given(
    st.binary(max_size=600).map(certificate_text) | ODD | ODD.map("masacert1".__add__) | ODD.map(CERTIFICATE.__add__)
)
@example(CERTIFICATE)
@example(CERTIFICATE[:-1] + "B")
@example(certificate_text(bytes(SIGNATURE)))
@example(certificate_text(bytes(SIGNATURE + 1)))
@example(certificate_text(bytes(LARGEST_CERTIFICATE)))
@example(certificate_text(bytes(LARGEST_CERTIFICATE + 1)))
def test_certificates_are_read_alike(text: str) -> None:
    try:
        taken = text == text.strip() and SIGNATURE < len(parse_certificate(text)) <= LARGEST_CERTIFICATE
    except BadToken:
        taken = False
    assert (read(lambda text: certificate(SecretStr(text)), text) is not None) == taken
