"""The circuit breaker and the quarantine: who is not asked for now, why, and for how long."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.network.trust import DAY, KEPT, MOST_PEERS, PROBE, SWEPT, Trust
from peers.wire import NodeId

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
ALL = (A, B, C)


def out(trust: Trust, now: float, node: NodeId = A) -> bool:
    """Whether it is left out, of three."""
    return node in trust.left_out(ALL, now)


def failing(times: int, now: float = 0.0, *, trust: Trust | None = None, node: NodeId = A) -> Trust:
    trust = trust or Trust()
    for _ in range(times):
        trust.failed(node, now)
    return trust


class TestCircuit:
    def test_three_failures_in_a_row_open_it_for_half_a_minute(self) -> None:
        assert not out(failing(2), 0)
        assert out(failing(3), 0)
        assert out(failing(3), 29.9)
        assert not out(failing(3), 30)

    def test_an_answer_between_them_starts_anew(self) -> None:
        trust = failing(2)
        trust.answered(A, 0)
        assert not out(failing(2, trust=trust), 0)

    def test_who_is_full_is_well(self) -> None:
        trust = Trust()
        for _ in range(11):
            trust.busy(A, 0)
        assert not out(trust, 0)
        trust.busy(A, 0)
        assert out(trust, 0)

    def test_half_open_lets_one_probe_through(self) -> None:
        trust = failing(3)
        trust.asked(A, 30)
        assert out(trust, 30)
        trust.answered(A, 31)
        assert not out(trust, 31)

    def test_a_failed_probe_opens_it_for_longer_each_time_up_to_five_minutes(self) -> None:
        trust, now, stood = failing(3), 0.0, []
        for _ in range(12):
            ends = next(seconds for seconds in range(1, 1000) if not out(trust, now + seconds))
            stood.append(ends)
            now += ends
            trust.asked(A, now)
            trust.failed(A, now)
        assert stood == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]

    def test_a_probe_that_shows_nothing_makes_room_for_another(self) -> None:
        trust = failing(3)
        trust.asked(A, 30)
        trust.dropped(A)
        assert not out(trust, 31)

    def test_a_probe_that_is_never_heard_of_makes_room_in_time(self) -> None:
        trust = failing(3)
        trust.asked(A, 30)
        assert out(trust, 29 + PROBE)
        assert not out(trust, 30 + PROBE)

    def test_failures_of_what_was_sent_before_open_it_no_longer(self) -> None:
        trust = failing(100)
        assert not out(trust, 30)

    def test_when_most_have_failed_the_fault_is_ours(self) -> None:
        trust = failing(3)
        failing(3, trust=trust, node=B)
        assert trust.left_out(ALL, 0) == set()
        assert trust.left_out((A, B, C, NodeId("d")), 0) == {A, B}
        assert trust.left_out((A,), 0) == set()

    def test_the_quarantined_are_not_among_those_of_whom_most_have_failed(self) -> None:
        trust = failing(3)
        failing(3, trust=trust, node=B)
        for liar in ("c", "d"):
            trust.lied(NodeId(liar), 0)
        assert trust.left_out((A, B, C, NodeId("d")), 0) == {C, "d"}
        failing(3, trust=trust, node=C)
        assert trust.left_out((A, C, NodeId("e")), 0) == {A, C}


class TestQuarantine:
    def test_the_first_invalid_answer_is_enough(self) -> None:
        trust = Trust()
        trust.lied(A, 0)
        assert out(trust, 29.9)
        assert not out(trust, 30)

    @pytest.mark.parametrize(("lies", "seconds"), [(1, 30), (2, 240), (3, 3600), (9, 3600)])
    def test_it_grows_with_the_square_of_the_count_up_to_an_hour(self, lies: int, seconds: float) -> None:
        trust = Trust()
        for _ in range(lies):
            trust.lied(A, 0)
        assert out(trust, seconds - 0.1)
        assert not out(trust, seconds)

    def test_the_count_decays(self) -> None:
        """After ten minutes one counts 0.35: with one more 1.35, and 2^(1.35² - 1) = 1.76."""
        trust = Trust()
        trust.lied(A, 0)
        trust.lied(A, 600)
        assert out(trust, 600 + 52)
        assert not out(trust, 600 + 53)

    def test_the_third_of_a_day_lasts_a_day(self) -> None:
        trust = Trust()
        for now in (0, 3600, 7200):
            trust.lied(A, now)
        assert out(trust, 7200 + DAY - 1)
        assert not out(trust, 7200 + DAY)

    def test_one_more_lie_does_not_shorten_it(self) -> None:
        trust = Trust()
        for now in (0, 3600, 7200, 7201):
            trust.lied(A, now)
        assert out(trust, 7200 + DAY - 1)

    def test_the_third_of_two_days_does_not(self) -> None:
        trust = Trust()
        for now in (0.0, 3600.0, DAY):
            trust.lied(A, now)
        assert not out(trust, DAY + 60)

    def test_liars_stay_out_even_when_everybody_lies(self) -> None:
        trust = Trust()
        for node in ALL:
            trust.lied(node, 0)
        assert trust.left_out(ALL, 0) == set(ALL)


EVENTS: dict[str, Callable[[Trust, NodeId, float], None]] = {
    "answered": lambda trust, node, now: trust.answered(node, now),
    "asked": lambda trust, node, now: trust.asked(node, now),
    "dropped": lambda trust, node, now: trust.dropped(node),
    "failed": lambda trust, node, now: trust.failed(node, now),
    "busy": lambda trust, node, now: trust.busy(node, now),
    "lied": lambda trust, node, now: trust.lied(node, now),
}
histories = st.lists(
    st.tuples(st.sampled_from(sorted(EVENTS)), st.sampled_from([0, 1, 29, 31, 600, 4000])), max_size=40
)
"""What happened, and how many seconds after the event before."""


def lived(history: list[tuple[str, float]], without: set[str]) -> tuple[Trust, float]:
    trust, now = Trust(), 0.0
    for event, later in history:
        now += later
        if event not in without:
            EVENTS[event](trust, A, now)
    return trust, now


def quarantined(trust: Trust, now: float) -> bool:
    """Left out even where circuits let everybody pass."""
    return A in trust.left_out((A,), now)


@given(histories, st.sampled_from([0, 10, 29, 31, 300, 3000, 80_000]))
def test_nothing_but_time_shortens_a_quarantine_and_nothing_but_lies_makes_one(
    history: list[tuple[str, float]], later: float
) -> None:
    trust, now = lived(history, set())
    liar, _ = lived(history, set(EVENTS) - {"lied"})
    assert quarantined(trust, now + later) == quarantined(liar, now + later)


@given(histories, st.floats(0, 400))
def test_without_failures_no_circuit_opens_and_none_stands_longer_than_five_minutes(
    history: list[tuple[str, float]], later: float
) -> None:
    fine, now = lived(history, {"failed", "busy", "lied"})
    assert not out(fine, now)
    failing, now = lived(history, {"lied", "asked"})
    assert later < 300 or not out(failing, now + later)


@given(histories)
def test_an_answer_closes_the_circuit(history: list[tuple[str, float]]) -> None:
    trust, now = lived(history, {"lied"})
    trust.answered(A, now)
    assert not out(trust, now)


def test_a_flood_of_liars_is_bounded_and_pushes_no_quarantine_out() -> None:
    trust = Trust()
    for _ in range(3):
        trust.lied(A, 0)
    for number in range(MOST_PEERS + 10):
        trust.failed(NodeId(f"n{number}"), 1 + number)
    assert len(trust._peers) == MOST_PEERS
    assert out(trust, 3000)


def test_what_is_known_is_kept_for_a_week() -> None:
    trust: Any = Trust()
    trust.failed(A, 0)
    trust.forget_old(KEPT - 1)
    assert trust._peers
    trust.forget_old(KEPT - 1 + SWEPT)
    assert not trust._peers


def test_every_race_may_ask_to_forget_and_an_hour_has_one_sweep() -> None:
    trust: Any = Trust()
    trust.forget_old(0)
    trust.failed(A, -KEPT)
    trust.forget_old(SWEPT - 1)
    assert trust._peers
    trust.forget_old(SWEPT)
    assert not trust._peers


def test_a_member_of_ones_own_network_is_left_out_for_a_minute_at_most() -> None:
    trust = Trust()
    for number in range(20):
        trust.lied(B, now=100.0 * number, kin=True)
        why, left = trust.why(B, 100.0 * number)
        assert why == "what it answered was no answer"
        assert 0 < left <= 60
    assert trust.why(B, 2000.0) == ("", 0.0)


def test_failures_are_counted_until_it_answers() -> None:
    trust = Trust()
    trust.failed(A, 0)
    trust.failed(A, 1)
    assert (trust.failures(A), trust.failures(B)) == (2, 0)
    trust.answered(A, 2)
    assert trust.failures(A) == 0
