"""Hints: what is taken from a LAN, what is not, and how much; and on which addresses a LAN is looked for."""

import hashlib
import ipaddress
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from peers.network.dialing import OWN_LAN, Address, DialPolicy
from peers.network.hints import (
    ELSEWHERE,
    HINTS_SECONDS,
    LONGEST_TEXT,
    MOST_HINTS,
    MOST_KNOWN,
    NOT_DIALLED,
    SERVICE,
    UNREADABLE,
    Hint,
    Hints,
    Presence,
    Refused,
    hint,
    network_tag,
    service,
)
from peers.network.identity import id_text
from peers.network.interfaces import addresses, heard_at, of_the_lan
from peers.wire import NodeId

NETWORK, OLD = "the network", "the old network"
ME, THEM = id_text(b"\2" + bytes(31)), id_text(b"\3" + bytes(31))
WEAK = id_text(b"\1" + bytes(31))
PRESENCE = Presence(me=ME, networks=lambda: (NETWORK, OLD), port=4001, bound=(), allowed=DialPolicy(OWN_LAN).gossiped)
TAG = hashlib.sha256(NETWORK.encode()).hexdigest()[:16].encode()
TXT = {b"id": THEM.encode(), b"net": TAG, b"v": b"1"}


def heard(
    *hosts: str, port: int | None = 4001, name: str = f"{THEM[:12]}.{SERVICE}", **txt: bytes | None
) -> ServiceInfo:
    properties = TXT | {key.encode(): value for key, value in txt.items()}
    return ServiceInfo(SERVICE, name, port=port, properties=properties, parsed_addresses=list(hosts or ["192.168.1.7"]))


def theirs(node: NodeId, network: str = NETWORK, host: str = "192.168.1.7") -> ServiceInfo:
    presence = Presence(me=node, networks=tuple, port=4001, bound=(), allowed=lambda _: None)
    return service(presence, network, 4001, [ipaddress.ip_address(host)])


def some_id() -> NodeId:
    return id_text(os.urandom(31) + b"\0")


def test_what_a_node_announces():
    told = theirs(THEM)
    assert told.name == f"{THEM[:12]}._masa-node._tcp.local."
    assert told.properties == TXT
    assert len(told.text) <= 255
    assert NETWORK.encode() not in told.text
    assert hint(told, PRESENCE) == Hint(THEM, (Address("192.168.1.7", 4001),))


def test_while_a_secret_is_rotated_both_networks_are_ours():
    assert hint(theirs(THEM, OLD), PRESENCE)


def test_our_own_voice_is_no_hint():
    assert hint(theirs(ME), PRESENCE) is None


def test_where_we_listen_ourselves_nobody_else_is():
    told = heard("172.17.0.1", "192.168.1.7")
    assert hint(told, PRESENCE, {Address("172.17.0.1", 4001)}) == Hint(THEM, (Address("192.168.1.7", 4001),))


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (heard(net=network_tag("another")), ELSEWHERE),
        (heard(net=b""), ELSEWHERE),
        (heard(net=None), ELSEWHERE),
        (heard(v=b"2"), UNREADABLE),
        (heard(v=None), UNREADABLE),
        (heard(id=None), UNREADABLE),
        (heard(id=THEM.upper().encode()), UNREADABLE),
        (heard(id=THEM.encode() + b"\xff"), UNREADABLE),
        (heard(id=some_id().encode()), UNREADABLE),
        (heard(id=WEAK.encode(), name=f"{WEAK[:12]}.{SERVICE}"), UNREADABLE),
        (heard(more=bytes(LONGEST_TEXT - len(heard().text))), UNREADABLE),
        (heard("8.8.8.8", "2606:4700::1111"), NOT_DIALLED),
        (heard("::ffff:8.8.8.8", "::ffff:192.168.1.7"), NOT_DIALLED),
        (heard("169.254.169.254", "169.254.1.1", "fe80::1", "0.0.0.0", "224.0.0.251", "192.0.2.1"), NOT_DIALLED),
        *((heard(port=port), NOT_DIALLED) for port in (None, 0, 22, 11434, 65536)),
    ],
)
def test_what_is_no_hint(told, why):
    with pytest.raises(Refused) as refused:
        hint(told, PRESENCE)
    assert str(refused.value) == why


def test_unknown_fields_are_left_alone_and_bad_addresses_beside_good_ones():
    told = heard("8.8.8.8", "169.254.1.1", "10.0.0.1", "fd00::7", "127.0.0.1", load=b"7", flag=None)
    hosts = {address.host for address in hint(told, PRESENCE).addresses}
    assert hosts == {"10.0.0.1", "fd00::7", "127.0.0.1"}


def test_addresses_are_bounded():
    assert len(hint(heard(*(f"10.0.0.{n}" for n in range(1, 200))), PRESENCE).addresses) == 8


parts = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda key, value: key + b"=" + value, st.sampled_from([*TXT, b"ID", b"x"]), st.binary(max_size=60)),
    st.sampled_from([key + b"=" + value for key, value in TXT.items()]),
)
texts = st.one_of(
    st.binary(max_size=400),
    st.lists(parts, max_size=8).map(lambda some: b"".join(bytes([len(part)]) + part for part in some)),
)
hosts = st.one_of(st.ip_addresses(), st.ip_addresses(network="10.0.0.0/8")).map(str)


@given(texts, st.lists(hosts, max_size=4), st.integers(0, 65535), st.sampled_from([THEM, ME, WEAK]))
def test_whatever_is_heard_is_a_hint_that_may_be_tried_or_refused(text, hosts, port, claimed):
    told = ServiceInfo(SERVICE, f"{claimed[:12]}.{SERVICE}", port=port, properties=text, parsed_addresses=hosts)
    try:
        found = hint(told, PRESENCE)
    except Refused:
        return
    if found is None:
        assert ME.encode() in text
        return
    assert found.node == THEM
    assert TAG in text or network_tag(OLD) in text
    for address in found.addresses:
        assert not ipaddress.ip_address(address.host).is_global
        assert DialPolicy(OWN_LAN).gossiped(str(address)) == address


def take(hints: Hints, node: NodeId, now: float, **options: str) -> Hint | None:
    return hints.take(node[:12], theirs(node, **options), now, ())


def test_only_what_is_new_is_told():
    hints = Hints(PRESENCE)
    assert take(hints, THEM, 0)
    assert not take(hints, THEM, 1)
    assert take(hints, THEM, 2, host="192.168.1.8")
    assert [*hints.known] == [THEM[:12]]
    assert not take(hints, THEM, 3, network="another")
    assert not hints.known
    assert hints.refused == {THEM[:12]: ELSEWHERE}
    assert take(hints, THEM, 4)
    assert not hints.refused
    assert hints.take(THEM[:12], heard("192.168.1.7", "10.0.0.1"), 4, ())
    assert not take(hints, THEM, 4), "one of two is not new"
    assert hints.known[THEM[:12]] == Hint(THEM, (Address("192.168.1.7", 4001),))
    hints.forget(THEM[:12])
    assert take(hints, THEM, 5)


def test_so_many_hints_a_minute_and_no_more():
    hints = Hints(PRESENCE)
    crowd = [some_id() for _ in range(MOST_HINTS + 1)]
    assert [bool(take(hints, node, 0)) for node in crowd] == [True] * MOST_HINTS + [False]
    assert not take(hints, crowd[-1], HINTS_SECONDS - 1)
    assert take(hints, crowd[-1], HINTS_SECONDS)


def test_a_clock_that_is_set_back_does_not_silence_it():
    hints = Hints(PRESENCE)
    for node in (some_id() for _ in range(MOST_HINTS)):
        take(hints, node, 1000)
    assert take(hints, some_id(), 0)


def test_what_is_known_is_bounded_and_the_newest_stay():
    hints = Hints(PRESENCE)
    crowd = [some_id() for _ in range(MOST_KNOWN + 10)]
    for n, node in enumerate(crowd):
        assert take(hints, node, n * HINTS_SECONDS)
        take(hints, some_id(), n, network="another")
    assert [*hints.known] == [node[:12] for node in crowd[10:]]
    assert len(hints.refused) == MOST_KNOWN


HERE = ipaddress.ip_address("127.0.0.1")
LAN = [ipaddress.ip_address(text) for text in ("192.168.1.7", "10.0.0.1", "100.64.0.1", "fd00::7", "192.0.2.2")]
LEFT_OUT = [ipaddress.ip_address(text) for text in ("8.8.8.8", "169.254.1.1", "fe80::1", "2606:4700::1111")]
LOOPBACK = [HERE, ipaddress.ip_address("::1")]
ANY4, ANY6 = ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("::")


@pytest.mark.parametrize(
    ("bound", "expected"),
    [((), LAN), ((ANY4, ANY6), LAN), ((HERE,), LOOPBACK), ((HERE, LAN[0]), LAN), ((LOOPBACK[1],), LOOPBACK)],
)
def test_which_addresses_belong_to_a_lan(bound, expected):
    assert list(of_the_lan([*LAN, *LEFT_OUT, *LOOPBACK], bound)) == expected


@pytest.mark.parametrize(
    ("bound", "expected"),
    [((), []), ((ANY4,), [*LAN[:3], LAN[4]]), ((ANY6,), [LAN[3]]), ((LAN[1],), [LAN[1]]), ((ANY4, ANY6), LAN)],
)
def test_at_which_addresses_a_listener_is_reached(bound, expected):
    assert list(heard_at(LAN, bound)) == expected


def test_this_machine_has_addresses():
    assert HERE in addresses()
