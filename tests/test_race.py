"""The race: the first answer wins, everyone else stops, and whoever is silent too long is told so. In virtual time."""

import asyncio
from typing import Any

import pytest

from peers.errors import MasaError
from peers.runner import Doing
from peers.waves import Rules, Sends
from peers.wire import Reply
from tests.runners import (
    Act,
    Scripted,
    a_log,
    answers,
    clings,
    fails,
    hangs,
    hold_up,
    is_busy,
    now,
    result,
    run,
    says,
    virtually,
)

ONE_BY_ONE = Rules(width=1, delay=1.0)


def raised(*runners: Scripted, **more: Any) -> MasaError:
    with pytest.raises(MasaError) as caught:
        virtually(run(*runners, **more))
    return caught.value


class TestWinning:
    def test_the_first_answer_wins_and_everyone_else_stops(self) -> None:
        fast, slow, silent = Scripted("fast", answers(1)), Scripted("slow", answers(2)), Scripted("silent", hangs)
        assert virtually(result(slow, fast, silent)) == ("fast", 1.0)
        assert (slow.stopped, silent.stopped, fast.stopped) == (1, 1, 0)

    def test_whoever_dies_or_lies_costs_a_moment(self) -> None:
        dead, liar = Scripted("dead", fails()), Scripted("liar", fails(code="bad_answer"))
        assert virtually(result(dead, liar, Scripted("good", answers(3)))) == ("good", 3.0)

    def test_of_two_at_the_same_moment_the_first_asked_wins_and_the_other_is_closed(self) -> None:
        first, second = Scripted("first", answers(1)), Scripted("second", answers(1))
        assert virtually(result(first, second)) == ("first", 1.0)
        assert second.open_replies == 0

    def test_who_will_not_stop_holds_nobody_up_and_is_closed_late(self) -> None:
        clinging = Scripted("clinging", clings(5))
        assert virtually(result(clinging, Scripted("good", answers(1)))) == ("good", 1.0)
        assert clinging.open_replies == 0

    def test_a_runner_that_is_stopped_by_something_else_has_failed(self) -> None:
        async def is_cancelled(_runner: Scripted) -> Any:
            raise asyncio.CancelledError

        assert virtually(result(Scripted("odd", is_cancelled), Scripted("good", answers(1)))) == ("good", 1.0)

    def test_a_bug_in_a_runner_is_raised_and_stops_the_others(self) -> None:
        async def breaks(_runner: Scripted) -> Any:
            raise KeyError("a bug")

        other = Scripted("other", hangs)
        with pytest.raises(KeyError):
            virtually(run(other, Scripted("broken", breaks)))
        assert other.stopped == 1


class TestWaves:
    def test_the_next_wave_goes_after_the_delay_and_then_after_twice_as_long(self) -> None:
        runners = [Scripted(f"n{i}", hangs) for i in range(4)]
        assert virtually(result(*runners, rules=ONE_BY_ONE))[0] == "504 race_timeout"
        assert [runner.asked for runner in runners] == [[0], [1], [3], [7]]

    def test_it_goes_at_once_when_all_asked_have_failed(self) -> None:
        last = Scripted("last", answers())
        runners = (Scripted("a", fails(0.25)), Scripted("b", fails(0.25)), last)
        assert virtually(result(*runners, rules=ONE_BY_ONE)) == ("last", 0.5)

    def test_another_stage_waits_for_failure(self) -> None:
        first, other = Scripted("first", fails(7)), Scripted("other", answers())
        assert virtually(result(first, other, stages={"other": 1})) == ("other", 7.0)

    def test_another_stage_does_not_wait_for_ever(self) -> None:
        assert virtually(result(Scripted("hung", hangs), Scripted("other", answers()), stages={"other": 1})) == (
            "other",
            15.0,
        )


class TestBusy:
    def test_who_is_busy_is_asked_again_after_its_retry_after(self) -> None:
        busy = Scripted("busy", is_busy(3), answers())
        name, at = virtually(result(busy))
        assert name == "busy"
        assert 3.0 <= at <= 3.75
        assert len(busy.asked) == 2

    def test_when_everybody_is_busy_to_the_end_it_is_said(self) -> None:
        busy = [Scripted(f"n{i}", is_busy(2)) for i in range(3)]
        error = raised(*busy)
        assert (error.status, error.code) == (503, "busy")
        assert error.retry_after is not None
        assert all(2 < len(runner.asked) <= 15 for runner in busy)

    def test_nobody_waits_for_who_is_busy_for_longer_than_the_race(self) -> None:
        assert virtually(result(Scripted("n", is_busy(60)))) == ("503 busy", 0.0)

    def test_who_gets_free_wins_beside_one_that_hangs(self) -> None:
        name, at = virtually(result(Scripted("hung", hangs), Scripted("busy", is_busy(1), answers())))
        assert name == "busy"
        assert at < 2


class TestNobody:
    def test_without_candidates(self) -> None:
        assert virtually(result()) == ("503 no_peer", 0.0)

    def test_all_failed_names_each_with_its_reason(self) -> None:
        error = raised(Scripted("ann", fails()), Scripted("bob", fails(code="bad_answer", text="not JSON")))
        assert (error.status, error.code) == (502, "no_answer")
        assert "ann (unreachable: connection refused), bob (bad_answer: not JSON)" in error.text

    def test_all_refused_is_a_refusal(self) -> None:
        error = raised(*(Scripted(name, fails(code="refused_by_peer", text="keep_alive")) for name in "ab"))
        assert (error.status, error.code) == (403, "refused_by_peer")
        assert "keep_alive" in error.text

    def test_a_long_list_is_cut(self) -> None:
        error = raised(*(Scripted(f"n{i}", fails(text="x" * 1000)) for i in range(32)))
        assert "24 more" in error.text
        assert len(error.text) < 2000


class TestDefinitive:
    """A 4xx that says the call itself is wrong."""

    def test_two_that_agree_end_it(self) -> None:
        told = a_log()
        reply = virtually(run(Scripted("a", says(400)), Scripted("b", says(400, 2)), Scripted("c", hangs), told=told))
        assert (reply.status, reply.headers["content-type"], told.ms) == (400, "application/json", 2000)
        assert told.outcome == "passed_on"

    def test_one_alone_does_not(self) -> None:
        assert virtually(result(Scripted("a", says(400)), Scripted("good", answers(9)))) == ("good", 9.0)

    @pytest.mark.parametrize("other", [says(413), says(400, body=b'{"error":"of another version"}')])
    def test_two_that_differ_do_not(self, other: Act) -> None:
        runners = (Scripted("a", says(400)), Scripted("b", other), Scripted("good", answers(9)))
        assert virtually(result(*runners)) == ("good", 9.0)

    @pytest.mark.parametrize("other", [fails(1), hangs, is_busy(1)])
    def test_when_nobody_does_better_it_is_passed_on_as_it_came(self, other: Act) -> None:
        body = b'{"error":"bad option"}'
        assert virtually(result(Scripted("a", says(422, body=body)), Scripted("b", other)))[0] == body.decode()


def does(*phases: tuple[float, str]) -> Any:
    """What it says it does, until when."""

    def doing(at: float) -> Doing | None:
        return next((Doing(what, at) for until, what in phases if at < until), None)  # type: ignore[arg-type]

    return doing


class TestPatience:
    def test_silence_is_over_after_thirty_seconds(self) -> None:
        assert virtually(result(Scripted("a", hangs), Scripted("b", hangs))) == ("504 race_timeout", 30.0)

    def test_it_says_who_was_silent_and_since_when(self) -> None:
        error = raised(Scripted("ann", hangs), Scripted("bob", hangs), rules=ONE_BY_ONE)
        assert "ann (silent for 30 s), bob (silent for 29 s)" in error.text

    @pytest.mark.parametrize(
        ("what", "call"),
        [
            ("queued", {}),
            ("loading", {}),
            ("reading", {"body": b"x" * 100_000}),
            ("generating", {"stream": False}),
        ],
    )
    def test_work_is_waited_for(self, what: str, call: dict[str, Any]) -> None:
        slow = Scripted("slow", answers(60), doing=does((60, what)))
        assert virtually(result(slow, Scripted("hung", hangs), **call)) == ("slow", 60.0)

    @pytest.mark.parametrize(
        ("what", "call"),
        [
            ("silent", {}),
            ("reading", {"body": b"x" * 100}),
            ("generating", {"stream": True}),
        ],
    )
    def test_a_loaded_model_silent_on_a_short_streaming_request_is_not(self, what: str, call: dict[str, Any]) -> None:
        slow = Scripted("slow", answers(60), doing=does((60, what)))
        assert virtually(result(slow, **call)) == ("504 race_timeout", 30.0)

    def test_after_the_work_silence_counts_anew(self) -> None:
        slow = Scripted("slow", hangs, doing=does((60, "loading"), (999, "silent")))
        name, at = virtually(result(slow))
        assert name == "504 race_timeout"
        assert 80 < at <= 90

    def test_the_word_of_one_that_has_failed_meanwhile_is_none(self) -> None:
        failed = Scripted("failed", fails(24.05), doing=does((999, "loading")))
        assert virtually(result(failed, Scripted("hung", hangs))) == ("504 race_timeout", 30.0)

    def test_the_time_in_which_this_node_was_held_up_is_not_silence(self) -> None:
        """A busy processor, a stopped process: the question is put late, and its answer is still heard."""

        async def late(runner: Scripted) -> Reply:
            await asyncio.sleep(20)
            hold_up(15)
            return await answers(25)(runner)

        slow = Scripted("slow", late, doing=does((60, "loading")))
        assert virtually(result(slow)) == ("slow", 60.0)

    def test_patience_ends(self) -> None:
        slow = Scripted("slow", hangs, doing=does((999, "loading")))
        assert virtually(result(slow)) == ("504 race_timeout", 300.0)
        assert "slow (loading for 300 s)" in raised(slow).text

    def test_without_patience_it_is_over_in_time_and_still_says_what_was_done(self) -> None:
        error = raised(Scripted("slow", hangs, doing=does((999, "loading"))), rules=Rules(8, 1.0, patience=0))
        assert "slow (loading for 30 s)" in error.text

    def test_a_peer_that_does_not_say_what_it_does_is_not_asked_twice_at_once(self) -> None:
        mute, asked = Scripted("mute", hangs), []

        async def never() -> None:
            asked.append(now())
            await asyncio.Event().wait()

        mute.doing = never  # type: ignore[method-assign]
        assert virtually(result(mute)) == ("504 race_timeout", 30.0)
        assert asked == [24.0]


class TestRecord:
    def test_who_was_asked_when_who_won_and_why_each_lost(self) -> None:
        told, rules = a_log(), Rules(width=3, delay=1.0)
        runners = [
            Scripted("hung", hangs),
            Scripted("busy", is_busy(1), hangs),
            Scripted("bad", fails(0.5, code="bad_answer", text="HTML")),
            Scripted("good", answers(1)),
        ]
        assert virtually(result(*runners, rules=rules, told=told)) == ("good", 2.0)
        assert (told.winner, told.outcome, told.ms, told.sends) == ("good", "won", 2000, 5)
        assert [(one.name, one.at, one.times, one.outcome, one.why) for one in told.asked.values()] == [
            ("hung", 0, 1, "lost", ""),
            ("busy", 0, 2, "lost", ""),
            ("bad", 0, 1, "bad_answer", "HTML"),
            ("good", 1000, 1, "won", ""),
        ]

    def test_the_silent_are_told_from_those_whose_caller_left(self) -> None:
        told = a_log()
        raised(Scripted("a", hangs), told=told)
        assert (told.outcome, told.asked.popitem()[1].outcome) == ("race_timeout", "silent")

        async def left() -> None:
            task = asyncio.create_task(run(Scripted("a", hangs), told=told))
            await asyncio.sleep(1)
            task.cancel()

        told = a_log()
        virtually(left())
        assert (told.outcome, told.asked.popitem()[1].outcome, told.ms) == ("left", "left", 1000)

    def test_in_an_outage_the_first_wave_shrinks_and_losing_is_no_outage(self) -> None:
        sends = Sends()

        async def asked_at_first(act: Act) -> int:
            runners = [Scripted(f"n{i}", act) for i in range(8)]
            await result(*runners, sends=sends)
            return sum(runner.asked[:1] == [runners[0].asked[0]] for runner in runners)

        async def firsts(act: Act, times: int) -> list[int]:
            return [await asked_at_first(act) for _ in range(times)]

        assert virtually(firsts(answers(0.5), 10)) == [8] * 10
        assert virtually(firsts(fails(0.5), 9)) == [8, 8, 8, 8, 4, 2, 1, 1, 1]
        assert virtually(firsts(answers(0.5), 30))[-1] == 8
