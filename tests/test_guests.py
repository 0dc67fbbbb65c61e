"""Guests and Places: whose calls are worked on, who gives way to whom, who is answered twice. No sockets."""

from contextlib import ExitStack

import pytest

from peers.errors import Busy
from peers.guests import MOST, MOST_SEEN, SEEN_SECONDS, Guest, Guests
from peers.upstreams.upstream import Places
from tests.members import refusal


def guest(request_id: str = "1", sender: str = "a", halted: list[str] | None = None) -> Guest:
    def halt() -> None:
        if halted is not None:
            halted.append(request_id)

    return Guest(sender, request_id, halt, lambda: True, since=0.0)


def test_a_request_is_taken_once_within_its_time_and_by_sender() -> None:
    guests = Guests(1)
    guests.note("a", "1", 0.0)
    assert refusal(lambda: guests.note("a", "1", SEEN_SECONDS - 0.1)) == "409 duplicate"
    assert refusal(lambda: guests.check_new("a", "1", SEEN_SECONDS - 0.1)) == "409 duplicate"
    guests.note("b", "1", 1.0)
    guests.note("a", "2", 1.0)
    guests.note("a", "1", SEEN_SECONDS)


def test_asking_whether_it_is_new_remembers_nothing() -> None:
    guests = Guests(1)
    guests.check_new("a", "1", 0.0)
    guests.note("a", "1", 0.0)


def test_of_too_many_requests_the_oldest_are_forgotten() -> None:
    guests = Guests(1)
    for number in range(MOST_SEEN + 1):
        guests.note("a", str(number), 0.0)
    guests.check_new("a", "0", 0.0)
    assert refusal(lambda: guests.check_new("a", "1", 0.0)) == "409 duplicate"


def test_only_the_sender_finds_its_calls_and_once_each() -> None:
    guests = Guests(1)
    with guests.entered(guest("1", "a")) as mine, guests.entered(guest("1", "b")) as others:
        assert guests.of("a", ["1", "1", "2"]) == [mine]
        assert guests.of("b", ["1"]) == [others]
        assert guests.of("c", ["1"]) == []
    assert (len(guests), guests.of("a", ["1"])) == (0, [])


def test_more_calls_than_can_be_held_are_refused() -> None:
    guests = Guests(1)
    with ExitStack() as stack:
        for number in range(MOST):
            stack.enter_context(guests.entered(guest(str(number))))
        with pytest.raises(Busy), guests.entered(guest("more")):
            pass
        assert len(guests) == MOST
    assert len(guests) == 0


@pytest.mark.parametrize(("places", "share"), [(1, 2), (8, 2), (11, 2), (12, 3), (100, 25)])
def test_a_stranger_has_a_quarter_of_the_places_and_two_at_least(places: int, share: int) -> None:
    guests = Guests(places)
    with ExitStack() as stack:
        for number in range(share):
            guests.check_share("a")
            stack.enter_context(guests.entered(guest(str(number))))
        assert refusal(lambda: guests.check_share("a")) == "503 busy"
        guests.check_share("b")
    guests.check_share("a")


def test_a_call_is_stopped_once_and_not_once_it_has_begun_to_give_way() -> None:
    halted: list[str] = []
    one = guest(halted=halted)
    one.stop("gave_way")
    one.stop("stopped")
    assert (halted, one.stopped, one.begin(1.0), one.yields) == (["1"], "gave_way", False, False)
    begun = guest(halted=halted)
    assert begun.begin(1.0)
    assert not begun.yields
    begun.stop("stopped")
    assert halted == ["1", "1"]


def test_it_tells_since_when_it_does_what_it_does() -> None:
    one = guest()
    assert one.does("loading", 3.0) == 3.0
    assert one.does("loading", 5.0) == 5.0
    assert one.does("reading", 6.0) == 0.0
    assert one.does("reading", 7.5) == 1.5
    one.begin(9.0)
    assert one.does("silent", 10.0) == 1.0


def test_a_guest_takes_a_free_place_and_never_waits() -> None:
    places = Places(2, guests=1)
    release = places.take(guest("1"))
    assert refusal(lambda: places.take(guest("2"))) == "503 busy"
    release()
    release()
    assert (places.taken, places.guests) == (0, [])
    own = [places.take(), places.take()]
    assert refusal(lambda: places.take(guest("3"))) == "503 busy"
    own[0]()
    places.take(guest("4"))


def test_an_own_caller_is_first() -> None:
    halted: list[str] = []
    places = Places(2, guests=2)
    older, younger = guest("older", halted=halted), guest("younger", halted=halted)
    leave = [places.take(older), places.take(younger)]
    assert places.free
    places.take()
    assert halted == ["younger"]
    assert places.free
    places.take()
    assert halted == ["younger", "older"]
    assert not places.free
    places.take()
    assert halted == ["younger", "older"]
    for release in leave:
        release()
    assert places.taken == 3


def test_a_guest_whose_answer_has_begun_keeps_its_place() -> None:
    halted: list[str] = []
    places = Places(1)
    one = guest(halted=halted)
    places.take(one)
    one.begin(1.0)
    assert not places.free
    places.take()
    assert (halted, places.taken) == ([], 2)


def test_where_places_are_without_number_nobody_gives_way_and_peers_are_bounded() -> None:
    halted: list[str] = []
    places = Places(None, guests=1)
    places.take(guest(halted=halted))
    places.take()
    assert halted == []
    assert refusal(lambda: places.take(guest("2"))) == "503 busy"


def test_who_is_beyond_what_is_done_at_once_is_queued() -> None:
    places = Places(1, guests=3)
    first, second = guest("1"), guest("2")
    leave = places.take(first)
    places.take(second)
    assert (places.queued(first), places.queued(second)) == (False, True)
    leave()
    assert not places.queued(second)
    places.take()
    third = guest("3")
    places.take(third)
    assert places.queued(third)


def test_an_own_caller_comes_before_all_that_wait() -> None:
    halted: list[str] = []
    places = Places(1, guests=3)
    running, *waiting = (guest(name, halted=halted) for name in "123")
    for one in (running, *waiting):
        places.take(one)
    running.begin(1.0)
    places.take()
    assert halted == ["3", "2"]
