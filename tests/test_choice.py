"""Whom to ask, and in which order."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.network.choice import EXPLORED, LARGE_BODY, Facts, Needs, choose
from peers.waves import Candidate
from peers.wire import NodeId


class Straight(Random):
    """Chance that never explores."""

    def random(self) -> float:
        return EXPLORED


def peer(name: str, **facts: Any) -> Facts:
    return Facts(node=NodeId(name), **facts)


def stages(*facts: Facts, **needs: Any) -> list[str]:
    """Who is in each stage, in order; who stands alone in capitals."""
    found: list[str] = []
    for one in choose(facts, Needs(**needs), Straight()):
        found += [""] * (one.stage + 1 - len(found))
        found[one.stage] += one.node.upper() if one.alone else one.node
    return found


@pytest.mark.parametrize(
    ("facts", "needs", "expected"),
    [
        pytest.param([], {}, [], id="nobody"),
        pytest.param([peer("a", left_out=True), peer("b")], {}, ["b"], id="who is left out"),
        pytest.param([peer("a", free=0), peer("b"), peer("c", free=2)], {}, ["cba"], id="the free first"),
        pytest.param(
            [peer("a", free=1), peer("b", free=1, last_turn=True)], {}, ["ba"], id="where the prompt is cached"
        ),
        pytest.param([peer("a", free=1), peer("b", free=0, last_turn=True)], {}, ["ab"], id="… if it is free"),
        pytest.param(
            [peer("a", first_unit=4.0), peer("b", first_unit=0.3), peer("c", first_unit=1.0)],
            {},
            ["bca"],
            id="the fast",
        ),
        pytest.param(
            [peer("a", first_unit=1.1, failures=3), peer("b", first_unit=1.2)],
            {},
            ["ba"],
            id="as fast: fewest failures",
        ),
        pytest.param(
            [peer("a", first_unit=9.0), peer("b", first_unit=1.0), peer("c"), peer("d", first_unit=0.1)],
            {},
            ["dbca"],
            id="the unmeasured in the middle",
        ),
        pytest.param(
            [peer("a", loaded=False, free=4), peer("b", loaded=True, free=0), peer("c")],
            {},
            ["cb", "A"],
            id="loading only when no loaded one is left, one at a time",
        ),
        pytest.param(
            [peer("a", digest="x"), peer("b", digest="y"), peer("c", digest="x")], {}, ["ac", "b"], id="commonest build"
        ),
        pytest.param(
            [peer("a", digest="x"), peer("b", digest="y"), peer("c", digest="x")],
            {"digest": "y"},
            ["b", "ac"],
            id="own build",
        ),
        pytest.param([peer("a"), peer("b", digest="x")], {"digest": "z"}, ["b", "a"], id="a build that is told"),
        pytest.param(
            [peer("a"), peer("b", digest="x"), peer("c", digest="x")], {}, ["bc", "a"], id="no build of our own"
        ),
        pytest.param([peer("a"), peer("b")], {"digest": "z"}, ["ab"], id="builds that nobody tells"),
        pytest.param(
            [peer("a", digest="y"), peer("b", digest="x", loaded=False)],
            {"digest": "x"},
            ["B", "a"],
            id="rather loaded than swapped",
        ),
        pytest.param(
            [peer("a", digest="x"), peer("b", digest="y")], {"digest": "y", "one_build": True}, ["b"], id="embeddings"
        ),
        pytest.param(
            [peer("a", context=4096, free=9), peer("b", loaded=False, context=32768), peer("c")],
            {"prompt": 8000},
            ["c", "B", "a"],
            id="a short context last",
        ),
        pytest.param([peer("a", context=8000), peer("b")], {"prompt": 8000}, ["ab"], id="a context that just does"),
        pytest.param([peer("a"), peer("b")], {"body": LARGE_BODY + 1}, ["AB"], id="a large body"),
        pytest.param([peer("a"), peer("b")], {"body": LARGE_BODY}, ["ab"], id="a body not too large"),
        pytest.param(
            [peer("a", loaded=False), peer("b"), peer("c", digest="x")],
            {"body": LARGE_BODY + 1, "everybody": True, "digest": "x"},
            ["c", "ab"],
            id="all at once, but one build",
        ),
    ],
)
def test_the_order(facts: list[Facts], needs: dict[str, Any], expected: list[str]) -> None:
    assert stages(*facts, **needs) == expected


some_facts = st.builds(
    Facts,
    node=st.sampled_from([NodeId(f"n{i}") for i in range(12)]),
    loaded=st.none() | st.booleans(),
    free=st.none() | st.integers(0, 3),
    last_turn=st.booleans(),
    first_unit=st.none() | st.floats(0, 1e6),
    digest=st.none() | st.sampled_from("xyz"),
    context=st.none() | st.integers(1, 100_000),
    failures=st.integers(0, 9),
    left_out=st.booleans(),
)
some_needs = st.builds(
    Needs,
    body=st.sampled_from([0, LARGE_BODY, LARGE_BODY + 1]),
    prompt=st.none() | st.integers(0, 100_000),
    digest=st.none() | st.sampled_from("xyz"),
    one_build=st.booleans(),
    everybody=st.booleans(),
)
many = st.lists(some_facts, max_size=12, unique_by=lambda peer: peer.node)


@given(many, some_needs, st.integers())
def test_everybody_who_may_be_asked_is_there_once(facts: list[Facts], needs: Needs, seed: int) -> None:
    chosen = [one.node for one in choose(facts, needs, Random(seed))]
    usable = {peer.node for peer in facts if not peer.left_out}
    assert len(chosen) == len(set(chosen))
    assert set(chosen) <= usable
    assert needs.one_build or set(chosen) == usable


@given(many, some_needs, st.integers())
def test_stages_only_rise_and_each_is_of_one_build(facts: list[Facts], needs: Needs, seed: int) -> None:
    chosen = choose(facts, needs, Random(seed))
    builds = {peer.node: peer.digest for peer in facts}
    assert [one.stage for one in chosen] == sorted(one.stage for one in chosen)
    assert len({(one.stage, builds[one.node]) for one in chosen}) == len({one.stage for one in chosen})
    assert {one.stage for one in chosen} == set(range(len({one.stage for one in chosen})))


@given(many, some_needs, st.integers(), st.randoms(use_true_random=False))
def test_the_same_seed_chooses_alike_whatever_order_they_come_in(
    facts: list[Facts], needs: Needs, seed: int, shuffler: Random
) -> None:
    shuffled = [*facts]
    shuffler.shuffle(shuffled)
    assert choose(facts, needs, Random(seed)) == choose(shuffled, needs, Random(seed))


@given(many, some_needs, st.integers())
def test_who_must_load_and_large_bodies_go_alone_unless_all_are_asked(
    facts: list[Facts], needs: Needs, seed: int
) -> None:
    loaded = {peer.node: peer.loaded for peer in facts}

    def alone(one: Candidate) -> bool:
        return not needs.everybody and (needs.body > LARGE_BODY or loaded[one.node] is False)

    assert all(one.alone == alone(one) for one in choose(facts, needs, Random(seed)))


def firsts(*facts: Facts) -> list[str]:
    return [choose(facts, Needs(), Random(seed))[0].node for seed in range(1000)]


def test_now_and_then_another_of_the_best_stage_comes_first() -> None:
    found = firsts(peer("a", first_unit=0.1), peer("b", first_unit=9.0), peer("c", free=0), peer("d", loaded=False))
    assert set(found) == {"a", "b"}
    assert 5 < found.count("b") < 60


def test_between_equals_the_seed_decides_not_the_order_they_come_in() -> None:
    equals = [peer(name) for name in "abcdefgh"]
    assert choose(equals, Needs(), Random(1)) == choose(equals[::-1], Needs(), Random(1))


def test_between_equals_chance_decides() -> None:
    assert 300 < firsts(peer("a"), peer("b")).count("a") < 700
