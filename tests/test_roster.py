"""Whom to ask, and the limits for strangers (docs/security.md C-11, C-32)."""

from collections import Counter
from typing import Any

import pytest

from peers.network.frames import Frame, decode, encode
from peers.network.membership import Membership
from peers.network.records import Models
from peers.network.strangers import places, share, spread
from peers.network.terms import Bootnode, Send
from peers.wire import NodeId
from tests.members import RNG, B, core, member, records_of, sealed
from tests.simnet import START, an_id


def serving(at: Membership, count: int, **changes: Any) -> list[NodeId]:
    nodes = [an_id(RNG) for _ in range(count)]
    for number, node in enumerate(nodes):
        addrs = (changes.get("address") or f"20.1.{number}.1:4001",)
        at.introduced(sealed(node, models=Models(1, "f" * 16), addrs=addrs), START)
        at.roster.offers(node, {"llama3"}, "f" * 16)
    return nodes


def test_at_most_32_serve_a_model_and_they_stay_the_same() -> None:
    at = core()
    serving(at, 50)
    chosen = {one.node for one in at.roster.serving("llama3", START)}
    assert len(chosen) == 32
    serving(at, 5)
    assert len(chosen & {one.node for one in at.roster.serving("llama3", START)}) >= 27
    other = core(B)
    for one in at.roster.members():
        other.introduced(one.text, START)
        other.roster.offers(one.node, {"llama3"}, "f" * 16)
    assert {one.node for one in other.roster.serving("llama3", START)} != chosen


def test_ejected_members_are_not_asked_unless_most_are_ejected() -> None:
    at = core()
    nodes = serving(at, 4)
    for node in nodes[:2]:
        at.missed(node, START, refused=True)
    assert {one.node for one in at.roster.serving("llama3", START)} == set(nodes[2:])
    at.missed(nodes[2], START, refused=True)
    assert {one.node for one in at.roster.serving("llama3", START)} == set(nodes)


def test_a_model_list_is_asked_for_when_its_hash_changes() -> None:
    at = core()
    (node,) = serving(at, 1)
    assert at.roster.unread(START) == []
    at.introduced(sealed(node, seq=2, models=Models(2, "e" * 16)), START)
    assert [one.node for one in at.roster.unread(START)] == [node]
    at.roster.offers(node, {"qwen3"}, "e" * 16)
    assert at.roster.serving("llama3", START) == []
    at.introduced(sealed(B, models=Models()), START)
    assert at.roster.unread(START) == []


def test_idle_members_of_the_active_set_are_probed_by_ping() -> None:
    at = core()
    nodes = serving(at, 20)
    probed = Counter(send.node for number in range(20) for send in at.tick(START + number) if send.body is None)
    assert sum(probed.values()) <= 6 * 20
    assert len(probed) > 15
    assert set(probed) <= set(nodes)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("20.1.2.3:4001", "20.1.2.0/24"),
        ("[2a00:1:2:3::4]:4001", "2a00:1:2::/48"),
        ("a.b.Example.org:4001", "example.org"),
        ("192.168.1.2:4001", None),
        ("[fd00::1]:4001", None),
    ],
)
def test_what_neighbours_share(address: str, place: str | None) -> None:
    assert places([address]) == ({place} if place else frozenset())


def test_one_place_cannot_fill_the_table_nor_the_active_set_of_strangers() -> None:
    at = core(strangers=True)
    serving(at, 30, address="20.9.9.9:4001")
    assert len(at.roster.members()) == 10
    assert at.intake.refused == {"crowded": 20}
    assert len(at.roster.serving("llama3", START)) == 2
    honest = serving(at, 5)
    assert set(honest) <= {one.node for one in at.roster.serving("llama3", START)}
    owner = core()
    serving(owner, 30, address="20.9.9.9:4001")
    assert len(owner.roster.serving("llama3", START)) == 30


def test_whom_the_operator_named_is_exempt() -> None:
    at = core(strangers=True, bootnodes=(Bootnode("20.9.9.9:4001", B),))
    serving(at, 12, address="20.9.9.9:4001")
    assert at.introduced(sealed(B, addrs=("20.9.9.9:4001",)), START) == "started"
    at.roster.offers(B, {"llama3"}, "")
    assert B in {one.node for one in at.roster.serving("llama3", START)}


def test_a_stranger_hears_of_a_part_of_the_table_in_an_hour() -> None:
    at = core(strangers=True)
    some = [member(an_id(RNG)) for _ in range(400)]
    one, again, next_hour = (share(B, some, b"salt", START + hour, 400) for hour in (0, 60, 3600))
    assert 60 < len(one) < 130
    assert one == again
    assert set(one) != set(next_hour)
    assert len(share(B, some[:16], b"salt", START, 16)) == 16
    assert len(spread(some, (), 32)) == 32
    for node in (an_id(RNG) for _ in range(100)):
        at.introduced(sealed(node, addrs=()), START)
    at.introduced(sealed(B), START)
    heard = {text for _ in range(9) for text in records_of(at.receive(encode(Frame(all=True)), B, START))}
    assert 10 < len(heard) < 45
    assert at.sealed in heard


def test_a_send_says_all_that_a_carrier_needs() -> None:
    at = core()
    at.introduced(sealed(B), START)
    (send,) = at.tick(START + 1)
    assert send == Send(B, ("20.0.0.2:4001",), send.body)
    assert decode(send.body or b"").all
