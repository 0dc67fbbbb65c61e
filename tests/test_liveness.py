"""Whom a node leaves out for now, when it is slow itself, and what time it is (docs/promises.md A8, A9, A10)."""

from collections import Counter
from random import Random

import pytest

from peers.network.clock import Clock
from peers.network.liveness import Liveness
from peers.network.roster import Status
from tests.members import RNG, A, B, C, core, sealed, status
from tests.simnet import START, an_id


def test_a_refused_connection_is_out_at_once_and_back_with_its_first_answer() -> None:
    live = Liveness()
    live.missed(B, 0, refused=True)
    assert live.out(B, 0)
    assert live.out(B, 599)
    live.answered(B, 600)
    assert not live.out(B, 600)


def test_three_failures_in_a_row_are_out() -> None:
    live = Liveness()
    for moment in range(2):
        live.missed(B, moment, refused=False)
    live.heard(B, 2)
    for moment in range(3, 5):
        live.missed(B, moment, refused=False)
    assert not live.out(B, 5)
    live.missed(B, 5, refused=False)
    assert live.out(B, 5)
    live.heard(B, 6)  # it came to us
    assert not live.out(B, 6)


def test_a_failure_that_began_before_the_last_success_does_not_count() -> None:
    live = Liveness()
    live.answered(B, 10)
    for at in (11, 12, 12.9):
        live.missed(B, at, refused=False, lasted=3)
    assert not live.out(B, 13)
    for at in (13, 14, 15):
        live.missed(B, at, refused=False, lasted=3)
    assert live.out(B, 15)


def test_later_ejections_stand_longer_whatever_is_heard() -> None:
    live, at, stood = Liveness(), 0.0, []
    live.missed(B, at, refused=True)
    live.answered(B, at)
    for _ in range(5):
        live.missed(B, at, refused=True)
        start = at
        while live.out(B, at):
            at += 1
            live.heard(B, at)
        stood.append(at - start)
    assert stood[:4] == [60, 90, 120, 150]
    assert max(stood) <= 300


def test_ten_quiet_minutes_start_over() -> None:
    live = Liveness()
    for at in (0, 700):
        live.missed(B, at, refused=True)
        live.answered(B, at + 1)
        assert not live.out(B, at + 1)


@pytest.mark.parametrize("refused", [True, False])
def test_a_new_boot_ends_what_a_refused_connection_began(refused: bool) -> None:
    live = Liveness()
    live.missed(B, 0, refused=True)
    live.answered(B, 1)
    for at in (2, 3, 4):
        live.missed(B, at, refused=refused)
    assert live.out(B, 5)
    live.rebooted(B, 5)
    assert live.out(B, 5) is not refused


@pytest.mark.parametrize("boots", [True, False])
@pytest.mark.parametrize("refused", [True, False])
def test_a_flapping_peer_is_damped(boots: bool, refused: bool) -> None:
    """A9: up and down every five seconds for ten minutes."""
    live, readmitted, was_out = Liveness(), 0, False
    for at in range(600):
        up = at // 5 % 2 == 0
        if boots and up and at % 5 == 0:
            live.rebooted(B, at)
        if up:
            live.answered(B, at)
        else:
            live.missed(B, at, refused=refused)
        out = live.out(B, at)
        readmitted += was_out and not out
        was_out = out
    assert 1 <= readmitted <= 6
    assert len(live.of(B).ejections) <= 7


def test_never_more_than_half_are_left_out() -> None:
    live, nodes = Liveness(), [an_id(RNG) for _ in range(10)]
    for node in nodes[:5]:
        live.missed(node, 0, refused=True)
    assert live.usable(nodes, 1) == nodes[5:]
    live.missed(nodes[5], 0, refused=True)
    assert live.usable(nodes, 1) == nodes


def test_own_slowness_is_counted_and_bounded() -> None:
    live = Liveness()
    assert live.patience == 1
    for number in range(20):
        live.missed(an_id(RNG), number, refused=False)
    assert live.patience == 8
    live.missed(B, 0, refused=True)  # it answered quickly: that is not slowness
    for number in range(20):
        live.answered(B, number)
    assert live.patience == 1


def test_what_fails_while_we_slept_is_not_held_against_anybody() -> None:
    """A8, as far as it is pure: frozen for 20 s, everything that was open fails at once."""
    at = core()
    nodes = [an_id(RNG) for _ in range(5)]
    for node in nodes:
        at.introduced(sealed(node), START)
    for now in range(1, 4):
        at.tick(START + now)
    for node in nodes * 3:
        at.missed(node, START + 24)
    assert [status(at, node, START + 24) for node in nodes] == [Status.ALIVE] * 5
    at.tick(START + 24.5)
    for node in nodes * 3:
        at.missed(node, START + 28)
    assert [status(at, node, START + 28) for node in nodes] == [Status.SUSPECT] * 5


def test_members_of_the_active_set_are_probed_when_idle_and_soon_when_they_fail() -> None:
    live = Liveness()
    live.answered(B, 0)
    live.answered(C, 2)
    assert live.due([A, B, C], 4, 9) == [A]
    assert live.due([A, B, C], 7, 9) == [A, B, C]
    assert live.due([A, B, C], 7, 2) == [A, B]
    live.missed(B, 8, refused=False)
    live.tried(B, 8)
    assert B in live.due([B], 9, 9)
    assert live.due([B], 8.5, 9) == []


def test_time_never_goes_back() -> None:
    clock = Clock(1000, Random(1))
    clock.advance(1010)
    assert clock.local(1010) == 1010
    clock.advance(10)
    assert clock.local(10) == 1010
    clock.advance(20)
    assert clock.local(20) == 1020


@pytest.mark.parametrize(
    ("theirs", "offset"),
    [
        ([0, 0, 0], 0),
        ([50, 50, 50], 0),
        ([90, 90], 0),
        ([90, 90, 90], 90),
        ([-600, -600, 0, -600], -600),
        ([700, 700, 700], 0),
        ([1e300, 0, 1, -1], 0),
    ],
)
def test_the_networks_time_is_the_median_of_all_clocks(theirs: list[float], offset: float) -> None:
    clock = Clock(START, Random(1))
    for off in theirs:
        clock.sample(an_id(RNG), START + off, START, alone=False)
    assert clock.network(START) == START + offset


def test_a_node_that_is_alone_mostly_takes_the_time_of_whom_it_meets() -> None:
    clock, taken = Clock(START, Random(1)), Counter[float]()
    for _ in range(100):
        clock.sample(B, START + 300, START, alone=True)
        taken[clock.offset] += 1
    assert taken.keys() == {0, 300}
    assert taken[300] > 60
    assert clock.measured == 300
