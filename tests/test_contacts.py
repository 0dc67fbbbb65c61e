"""How often a node speaks, to whom, and what it tells first."""

from collections import Counter

import pytest

from peers.network.announcer import period
from peers.network.contacts import contacts
from peers.network.rumours import Rumours, budget
from peers.network.terms import Bootnode
from tests.members import RNG, A, B, C, core, member
from tests.simnet import START, an_id


@pytest.mark.parametrize(("size", "seconds"), [(1, 10), (500, 10), (1000, 20), (10_000, 200), (100_000, 300)])
def test_the_period_keeps_a_network_at_fifty_records_a_second(size: int, seconds: float) -> None:
    assert period(size) == seconds


@pytest.mark.parametrize(("size", "ttl"), [(1, 60), (500, 60), (1000, 90), (10_000, 630)])
def test_the_ttl_follows_from_the_period(size: int, ttl: int) -> None:
    at = core()
    at.announcer.issue(START, size)
    assert at.announcer.record.ttl == ttl


@pytest.mark.parametrize(("size", "times"), [(1, 4), (9, 4), (10, 8), (99, 8), (100, 12), (999, 12), (10_000, 20)])
def test_the_budget_of_news(size: int, times: int) -> None:
    assert budget(size) == times
    rumours = Rumours()
    rumours.add(A)
    for _ in range(times):
        assert rumours.next(8) == [A]
        rumours.told([A], size)
    assert rumours.next(8) == []


def test_the_least_told_news_goes_first() -> None:
    rumours = Rumours()
    for node in (A, B, C):
        rumours.add(node)
    rumours.told([A, B], 50)
    rumours.told([A], 50)
    assert rumours.next(2) == [C, B]
    rumours.add(A)
    assert rumours.next(2) == [C, A]
    assert rumours.next(2, first=B) == [B, C]


@pytest.mark.parametrize(
    ("alive", "gone", "bootnodes", "most", "always"),
    [
        (0, 0, 0, 0, set()),
        (0, 0, 2, 1, {"bootnode"}),
        (1, 0, 0, 1, {"alive"}),
        (5, 0, 0, 2, {"alive"}),
        (5, 9, 0, 3, {"alive", "gone"}),
        (5, 1, 9, 4, {"alive", "bootnode"}),
        (0, 9, 1, 4, {"gone", "bootnode"}),
    ],
)
def test_whom_a_round_goes_to(alive: int, gone: int, bootnodes: int, most: int, always: set[str]) -> None:
    here, there = ([member(an_id(RNG)) for _ in range(number)] for number in (alive, gone))
    known = [Bootnode(f"b{number}:4001") for number in range(bootnodes)]
    for _ in range(50):
        chosen = contacts(here, there, known, RNG)
        assert len(set(map(id, chosen))) == len(chosen) <= most
        kinds = {"bootnode" if isinstance(one, Bootnode) else "gone" if one in there else "alive" for one in chosen}
        assert always <= kinds


def test_the_gone_and_the_bootnodes_are_called_now_and_then() -> None:
    here, there = [member(an_id(RNG)) for _ in range(9)], [member(C)]
    calls = Counter(
        "bootnode" if isinstance(one, Bootnode) else one in there
        for _ in range(2000)
        for one in contacts(here, there, [Bootnode("b:1")], RNG)
    )
    assert calls[False] == 4000
    assert 120 < calls[True] < 300  # 1 in 10
    assert 120 < calls["bootnode"] < 300  # 1 in 10
