"""How soon answers began of late: recent times count more, models and nodes apart, and no more than a bound is kept."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from peers import pace
from peers.pace import Pace
from peers.wire import NodeId

A, B, C = map(NodeId, "abc")
SECONDS = st.floats(0.0, 300.0)


def test_nothing_is_known_of_who_was_never_asked() -> None:
    measured = Pace()
    measured.add(A, "llama3", 1.0)
    assert measured.of(B, "llama3") is None
    assert measured.of(A, "qwen3") is None
    assert measured.usual("qwen3") is None


def test_the_first_time_counts_as_it_is_and_later_ones_by_their_weight() -> None:
    measured = Pace()
    measured.add(A, "llama3", 2.0)
    assert measured.of(A, "llama3") == 2.0
    measured.add(A, "llama3", 4.0)
    assert measured.of(A, "llama3") == 2.0 + pace.WEIGHT * 2.0


def test_a_peer_that_has_become_slow_is_known_for_it_after_a_few_answers() -> None:
    measured = Pace()
    measured.add(A, "llama3", 0.5)
    seen = []
    for _ in range(8):
        measured.add(A, "llama3", 10.0)
        seen.append(measured.of(A, "llama3") or 0.0)
    assert all(before < after < 10.0 for before, after in pairwise(seen))
    assert seen[-1] > 9.0


def test_the_usual_is_the_median_of_those_who_answer_the_model() -> None:
    measured = Pace()
    for node, seconds in ((A, 0.2), (B, 0.4), (C, 30.0)):
        measured.add(node, "llama3", seconds)
    measured.add(A, "qwen3", 9.0)
    assert measured.usual("llama3") == 0.4
    assert measured.usual("qwen3") == 9.0


@given(st.lists(SECONDS, min_size=1, max_size=30))
def test_it_stays_between_the_quickest_and_the_slowest(times: list[float]) -> None:
    measured = Pace()
    for seconds in times:
        measured.add(A, "llama3", seconds)
    told = measured.of(A, "llama3")
    assert told is not None
    assert min(times) - 1e-6 <= told <= max(times) + 1e-6
    assert measured.usual("llama3") == told


def test_beyond_its_bound_the_longest_unused_is_forgotten() -> None:
    measured = Pace()
    measured.add(A, "kept", 1.0)
    measured.add(A, "forgotten", 1.0)
    for number in range(pace.MOST - 3):
        measured.add(B, f"model{number}", 1.0)
    measured.add(A, "kept", 1.0)
    measured.add(C, "one more", 1.0)
    assert measured.of(A, "forgotten") == 1.0
    measured.add(C, "and one", 1.0)
    assert measured.of(A, "forgotten") is None
    assert measured.of(A, "kept") == measured.of(B, "model0") == measured.of(C, "and one") == 1.0
