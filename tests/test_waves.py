"""Whom a race asks when, whom again, and how long it goes on."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.waves import Candidate, Patience, Rules, Sends, Waves, rules
from peers.wire import NodeId
from tests.calls import call

USUAL: dict[str, Any] = {"width": 8, "delay": None, "usual": None, "timeout": 30.0, "patience": 270.0}


def waves(*candidates: Candidate, width: int | None = 2, delay: float = 1.0, sends: Sends | None = None) -> Waves:
    return Waves(candidates, Rules(width, delay), sends or Sends(), Random(1), 0.0)


def some(names: str, **more: Any) -> list[Candidate]:
    return [Candidate(NodeId(name), **more) for name in names]


def asked(at: Waves, now: float) -> str:
    return "".join(at.due(now))


class TestRules:
    @pytest.mark.parametrize(
        ("path", "stream", "given", "width"),
        [
            ("/api/chat", True, 8, 8),
            ("/api/chat", False, 8, 2),
            ("/api/chat", False, 1, 1),
            ("/api/chat", False, None, None),
            ("/api/chat", True, None, None),
            ("/api/embed", False, 8, 1),
            ("/api/embed", False, None, 1),
        ],
    )
    def test_width(self, path: str, stream: bool, given: int | None, width: int | None) -> None:
        assert rules(call(path, stream=stream), **USUAL | {"width": given}).width == width

    @pytest.mark.parametrize(
        ("given", "usual", "delay"),
        [(None, None, 2.0), (None, 0.9, 1.8), (None, 0.01, 0.3), (None, 60.0, 5.0), (0.1, 60.0, 0.1), (9.0, None, 9.0)],
    )
    def test_delay(self, given: float | None, usual: float | None, delay: float) -> None:
        assert rules(call(stream=True), **USUAL | {"delay": given, "usual": usual}).delay == delay

    def test_a_second_embedding_goes_out_late(self) -> None:
        assert rules(call("/api/embed"), **USUAL).delay == 15


class TestWaves:
    def test_the_first_so_many_at_once_then_the_next_with_a_doubling_delay(self) -> None:
        at = waves(*some("abcdefg"))
        assert [(moment, asked(at, moment)) for moment in (0, 0.9, 1, 2.9, 3, 6.9, 7)] == [
            (0, "ab"),
            (0.9, ""),
            (1, "cd"),
            (2.9, ""),
            (3, "ef"),
            (6.9, ""),
            (7, "g"),
        ]

    def test_at_once_when_all_asked_have_failed_and_that_does_not_double_the_delay(self) -> None:
        at = waves(*some("abcdef"))
        assert asked(at, 0) == "ab"
        at.failed(NodeId("a"))
        assert asked(at, 0.1) == ""
        at.failed(NodeId("b"))
        assert asked(at, 0.2) == "cd"
        assert at.next_at(0.2) == 1.2

    def test_all_at_once(self) -> None:
        assert asked(waves(*some("abcdefg"), width=None), 0) == "abcdefg"

    def test_who_stands_alone_is_never_in_a_wave_with_another(self) -> None:
        at = waves(*some("a"), *some("bc", alone=True), *some("de"))
        assert [asked(at, moment) for moment in (0, 1, 3, 7)] == ["a", "b", "c", "de"]

    def test_a_later_stage_waits_for_failure_or_is_late(self) -> None:
        at = waves(*some("a"), *some("b", stage=1), *some("c", stage=2))
        assert asked(at, 0) == "a"
        assert asked(at, 10) == ""
        at.failed(NodeId("a"))
        assert asked(at, 10) == "b"
        assert at.next_at(10) == 15
        assert asked(at, 15) == "c"

    def test_who_is_busy_of_an_earlier_stage_holds_up_no_later_one(self) -> None:
        at = waves(*some("a"), *some("b", stage=1))
        asked(at, 0)
        at.busy(NodeId("a"), 5, 0.5)
        assert asked(at, 0.5) == "b"

    def test_nobody_is_left(self) -> None:
        at = waves(*some("a"))
        asked(at, 0)
        assert not at.spent(0, 30)
        at.failed(NodeId("a"))
        assert at.spent(0, 30)
        assert at.retry_after(0) is None


class TestBusy:
    def test_again_after_its_retry_after_jittered_and_not_before(self) -> None:
        at = waves(*some("a"))
        asked(at, 0)
        at.busy(NodeId("a"), 4, 0)
        assert 4 <= at.next_at(0) <= 5
        assert asked(at, 3.9) == ""
        assert asked(at, 5) == "a"

    @pytest.mark.parametrize(("told", "waits"), [(None, [1, 2, 4, 4]), (0, [1, 2, 4, 4]), (3, [3, 3, 4, 4])])
    def test_the_shortest_wait_grows(self, told: int | None, waits: list[float]) -> None:
        at, now = waves(*some("a")), 0.0
        for wait in waits:
            assert asked(at, now) == "a"
            at.busy(NodeId("a"), told, now)
            assert now + wait <= at.next_at(now) <= now + wait * 1.25
            now = at.next_at(now)

    def test_who_gets_free_after_the_end_is_not_waited_for(self) -> None:
        at = waves(*some("a"))
        asked(at, 0)
        at.busy(NodeId("a"), 60, 0)
        assert at.spent(0, 30)
        assert 60 <= (at.retry_after(0) or 0) <= 75

    def test_one_after_another_also_the_second_time(self) -> None:
        at = waves(*some("abc"), width=1, delay=10.0)
        assert asked(at, 0) == "a"
        at.busy(NodeId("a"), 1, 0)
        assert asked(at, 0) == "b"
        assert asked(at, 5) == ""
        at.failed(NodeId("b"))
        assert asked(at, 5) == "a"

    @given(st.data())
    def test_each_is_asked_once_and_again_only_when_its_time_has_come(self, data: st.DataObject) -> None:
        stages = sorted(data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=8)))
        order = [Candidate(NodeId(f"n{i}"), stage, data.draw(st.booleans())) for i, stage in enumerate(stages)]
        width = data.draw(st.sampled_from([None, 1, 2, 8]))
        at, now, running, since = waves(*order, width=width), 0.0, set(), dict[NodeId, float]()
        while now < 60 and now != float("inf"):
            due = at.due(now)
            assert len(set(due)) == len(due)
            for node in due:
                assert node not in running
                assert since.get(node, now) <= now
            running |= set(due)
            if running:
                node = data.draw(st.sampled_from(sorted(running)))
                running.discard(node)
                if data.draw(st.booleans()):
                    at.busy(node, data.draw(st.integers(0, 9)), now)
                    since[node] = now + 1
                else:
                    at.failed(node)
                    since[node] = float("inf")
            now = now if running else max(at.next_at(now), now)
        assert now == float("inf") or len(since) == len(order)


class TestSends:
    @pytest.mark.parametrize(
        ("failed", "of", "first"), [(25, 50, 8), (26, 50, 4), (26, 26, 4), (25, 25, 8), (26, 76, 8), (50, 50, 4)]
    )
    def test_more_than_half_of_the_last_fifty(self, failed: int, of: int, first: int) -> None:
        sends = Sends()
        for number in range(of):
            sends.add(number < failed)
        assert sends.first_wave(8) == first

    def test_it_halves_down_to_one_and_is_whole_when_the_outage_is_over(self) -> None:
        sends = Sends()
        for _ in range(50):
            sends.add(True)
        assert [sends.first_wave(8) for _ in range(5)] == [4, 2, 1, 1, 1]
        for _ in range(25):
            sends.add(False)
        assert sends.first_wave(8) == 8

    def test_only_the_first_wave_halves(self) -> None:
        sends = Sends()
        for _ in range(50):
            sends.add(True)
        at = waves(*some("abcdef"), width=4, sends=sends)
        assert [asked(at, moment) for moment in (0, 1)] == ["ab", "cdef"]

    def test_of_all_at_once_too(self) -> None:
        sends = Sends()
        for _ in range(50):
            sends.add(True)
        assert asked(waves(*some("abcdef"), width=None, sends=sends), 0) == "abc"


class TestPatience:
    def test_a_sign_of_life_starts_the_timeout_anew_until_patience_ends(self) -> None:
        patience = Patience(Rules(8, 1.0), 100.0)
        assert patience.over_at == 130
        patience.sign_of_life(125)
        assert patience.over_at == 155
        patience.sign_of_life(399)
        assert patience.over_at == 400

    def test_without_patience_nothing_helps(self) -> None:
        patience = Patience(Rules(8, 1.0, patience=0), 0.0)
        patience.sign_of_life(25)
        assert patience.over_at == 30

    def test_it_asks_near_the_end_and_then_every_few_seconds(self) -> None:
        patience = Patience(Rules(8, 1.0), 0.0)
        assert patience.ask_at == 24
        patience.asked(24)
        assert patience.ask_at == 29
