"""Members as callers are told of them."""

from typing import Any

import pytest

from peers.network.catalogue import Catalogue
from peers.network.membership import Membership
from peers.network.offers import write
from peers.network.reach import MemberView, Reach, member_views
from peers.network.records import Models
from peers.wire import Model
from tests.members import A, B, C, core, sealed
from tests.simnet import START

LLAMA = Model("llama3:latest", frozenset({"ollama"}))


def view(at: Membership, now: float = START) -> MemberView:
    (one,) = member_views(at, now, {})
    return one


def introduced(**changes: Any) -> Membership:
    at = core()
    assert at.introduced(sealed(**changes), START) == "started"
    return at


def test_a_member_that_was_never_asked() -> None:
    one = view(introduced(models=Models(3, "f" * 16)))
    assert (one.id, one.name, one.status, one.why) == (B, B[:6], "alive", "")
    assert (one.models, one.addresses) == (3, ("20.0.0.2:4001",))
    assert (one.latency_ms, one.last_heard) == (None, None)
    assert one.stake.proven


def test_when_it_was_last_heard() -> None:
    at = introduced(name="attic")
    at.answered(B, b"", START + 1)
    one = view(at, START + 4)
    assert (one.name, one.last_heard) == (f"attic-{B[:6]}", START + 1)


@pytest.mark.parametrize(("refused", "why"), [(True, "it refuses connections"), (False, "it does not answer")])
def test_a_member_that_does_not_answer(refused: bool, why: str) -> None:
    at = introduced()
    for _ in range(3):
        at.missed(B, START, refused)
    assert (view(at).status, view(at).why) == ("suspect", why)


def test_a_member_that_is_gone() -> None:
    at = introduced()
    assert (view(at, START + 1000).status, view(at, START + 1000).why) == ("dead", "its record has expired")
    at.introduced(sealed(seq=2, state="left"), START + 1)
    assert (view(at, START + 1).status, view(at, START + 1).why) == ("dead", "it has left")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"addrs": ()}, "it has no address to be asked at"),
        ({"v": (7, 9)}, "it speaks versions 7 to 9 of the peer protocol, this node 1 to 1"),
    ],
)
def test_a_member_that_cannot_be_asked(changes: dict[str, Any], why: str) -> None:
    one = view(introduced(**changes))
    assert (one.status, one.why) == ("alive", why)


def test_a_member_whose_stake_ended_and_one_whose_never_began() -> None:
    trusted = {B}
    at = core(staked=lambda node, proof, now: node in trusted)
    at.introduced(sealed(B), START)
    assert at.introduced(sealed(C), START) == "candidate"
    trusted.clear()
    at.stake_changed(START)
    told = {one.id: (one.status, one.stake.proven, one.why) for one in member_views(at, START, {})}
    assert told == {
        B: ("dead", False, "its stake no longer holds"),
        C: ("dead", False, "its stake is not proven here"),
    }


def test_those_alive_come_first() -> None:
    at = core()
    for node_, name in ((B, "z"), (C, "a")):
        at.introduced(sealed(node_, name=name), START)
    assert [one.id for one in member_views(at, START, {})] == [C, B]
    at.missed(C, START, refused=True)
    assert [one.id for one in member_views(at, START, {})] == [B, C]
    assert A not in {one.id for one in member_views(at, START, {})}


def test_only_lists_of_members_that_can_be_asked_are_told() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    at = core()
    reach = Reach(catalogue, lambda: START, at)
    for node_, seen in ((B, said), (C, Models())):
        at.introduced(sealed(node_, models=seen), START)
        catalogue.wanted([(node_, said)], 0)
        catalogue.taken(node_, told, said, 0)
    assert reach.lists() == [(B, B[:6], (LLAMA,))]
    at.introduced(sealed(B, seq=2, state="left"), START)
    assert reach.lists() == []
