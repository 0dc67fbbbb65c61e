"""Gossip in pretended time: restarts, wrong clocks, liars, copied keys (docs/promises.md A6, A8, A9, A10, A12, A13)."""

from collections.abc import Callable
from random import Random

import msgspec
import pytest

from peers.network.frames import decode, encode
from tests.simnet import SimNet, SimNode, warm

long = pytest.mark.reliability
Mangle = Callable[[bytes, Random], bytes]


# A6


@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("down", [2, 50, 300])
def test_a_restart_with_an_older_clock_and_no_disk_recovers(down: int, loss: float) -> None:
    net = warm(10, seed=6, loss=loss)
    node = net.nodes["n4"]
    node.core.announcer._floor += 3_600_000  # as of a clock an hour ahead
    net.change(node)
    net.run(10)
    node.up = False
    net.run(down)
    net.restart(node)
    before = node.core.epoch
    assert net.rounds(lambda: node.core.epoch > before and net.known(node)) <= 5 + 3 * bool(loss)
    assert not node.core.announcer.duplicated(node.core.clock.local(net.clock(node)))
    epoch = node.core.epoch
    net.run(60)
    assert node.core.epoch == epoch


def test_a_restart_is_back_within_five_rounds() -> None:
    net = warm(20, seed=7)
    for node in net.running()[1:6]:
        node.up = False
        net.run(1)
        net.restart(node, last_epoch=node.core.epoch)
        new = node.core.announcer.record.boot
        assert net.rounds(lambda: net.known(node)) <= 5  # noqa: B023
        assert {other.core.table.members[node.id].record.boot for other in net.running()} == {new}
        assert net.rounds(lambda: all(node.id in net.alive(other) for other in net.running())) <= 5  # noqa: B023


# A7, A8, as far as they are pure


def test_one_that_vanishes_is_out_wherever_it_is_tried_and_dead_within_the_ttl() -> None:
    net = warm(10, seed=8)
    gone = net.nodes["n3"]
    gone.up = False
    net.run(15)
    suspecting = [node for node in net.running() if gone.id not in net.alive(node)]
    assert len(suspecting) > 5
    net.run(60)
    assert all(gone.id not in net.fresh(node) for node in net.running())


def test_one_that_stood_still_blames_nobody_and_is_taken_back() -> None:
    net = warm(20, seed=9)
    for node in net.running():
        for other in net.running():
            node.core.roster.offers(other.id, {"llama3"}, "")
    frozen = net.nodes["n5"]
    frozen.frozen_until = net.now + 20
    net.run(19)
    assert all(frozen.id not in net.alive(node) for node in net.running() if node is not frozen)
    net.run(4)
    assert len(net.everybody() - net.alive(frozen)) <= 1
    assert net.rounds(lambda: all(frozen.id in net.alive(node) for node in net.running())) <= 10


# A9


@pytest.mark.parametrize("restarts", [False, True])
def test_a_flapping_node_is_taken_back_at_most_six_times(restarts: bool) -> None:
    net = warm(8, seed=10)
    node, watchers = net.nodes["n2"], [other for other in net.running() if other.name != "n2"]
    for other in watchers:
        other.core.roster.offers(node.id, {"llama3"}, "")
    back, here = dict.fromkeys([other.name for other in watchers], 0), {other.name: True for other in watchers}
    for second in range(600):
        if second % 10 == 0:
            node.up = False
        elif second % 10 == 5:
            net.restart(node) if restarts else net._begin(node)
        net.run(1)
        for other in watchers:
            now = node.id in net.alive(other)
            back[other.name] += now and not here[other.name]
            here[other.name] = now
    assert 1 <= max(back.values()) <= 6


# A10


@pytest.mark.parametrize("skew", [60, -60, 590, -590])
@pytest.mark.parametrize("size", [2, 10, pytest.param(50, marks=long)])
def test_wrong_clocks_within_ten_minutes_hurt_nobody(size: int, skew: float) -> None:
    net = SimNet(0, seed=11)
    for number in range(size):
        net.add(skew=skew if number % 10 == 1 else 0)
    assert net.rounds(net.whole) <= 10
    for _ in range(90):
        net.run(1)
        assert net.whole()
    wrong = net.nodes["n1"]
    told = wrong.core.clock.measured
    assert told == pytest.approx(-skew, abs=1)


@pytest.mark.parametrize("skew", [3600, -3600])
def test_a_clock_that_is_far_off_is_alone_with_its_view(skew: float) -> None:
    net = warm(10, seed=12)
    right = net.running()
    wrong = net.add(skew=skew)
    net.run(120)
    assert all(net.fresh(node) == {other.id for other in right} for node in right)
    assert wrong.core.clock.measured == pytest.approx(-skew, abs=1)
    assert wrong.core.intake.refused["early" if skew < 0 else "stale"] > 50


def test_a_clock_that_jumps_while_it_runs_is_followed() -> None:
    net = warm(10, seed=13)
    for jump in (-500, 500, -10_000):
        net.nodes["n3"].skew += jump
        net.run(30)
        net.nodes["n3"].skew = 0
        assert net.rounds(net.whole) <= 15


# A12: liars


def flip(body: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(body)) if body else 0
    return body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :] if body else body


def lie(body: bytes, rng: Random) -> bytes:
    """Its own idea of everything: forged records, wanted and named at random."""
    frame = decode(body)
    frame.clock += rng.choice([-1e9, 1e6, 300])
    frame.digest = rng.randbytes(16 * rng.randrange(20)) + frame.digest[:160]
    frame.want = rng.randbytes(8 * rng.randrange(8))
    frame.records = [flip(text.encode(), rng).decode("latin-1") for text in frame.records]
    return encode(frame)


@pytest.mark.parametrize("mangle", [flip, lie, lambda body, rng: rng.randbytes(200), lambda body, rng: body[:-1]])
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_liars_reach_nobody_and_spread_nothing(mangle: Mangle, loss: float) -> None:
    net = warm(10, seed=14, loss=loss)
    rng = Random(15)
    liars = net.running()[7:]
    for liar in liars:
        liar.mangle = lambda body: mangle(body, rng)
    taken = []
    for _ in range(5):
        node = net.rng.choice(net.running()[:7])
        net.change(node)
        taken.append(net.rounds(lambda node=node: net.known(node, net.running()[:7]), 60))  # type: ignore[misc]
        net.run(10)
    assert max(taken) <= 15
    for node in net.running():
        for member in node.core.roster.members():
            owner = next(other for other in net.running() if other.id == member.node)
            assert member.version <= owner.core.announcer.record.version
            assert member.record.name == owner.name
        assert node.core.clock.offset == 0


# A13


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_two_machines_with_one_key_both_say_so_and_one_is_silent(seed: int, loss: float) -> None:
    net = warm(10, seed=seed, loss=loss)
    first = net.nodes["n4"]
    net.run(net.rng.uniform(0, 20))
    second = net.add("copy", id=first.id)
    pair = sorted((first, second), key=lambda node: node.core.announcer.record.boot)

    def alarmed(node: SimNode) -> bool:
        return node.core.announcer.duplicated(node.core.clock.local(net.clock(node)))

    assert net.rounds(lambda: all(map(alarmed, pair))) <= 5 + 3 * bool(loss)
    net.run(10)
    seen = set()
    for _ in range(60):
        net.run(1)
        others = [node for node in net.running() if node not in pair]
        seen |= {node.core.table.members[first.id].record.addrs for node in others}
        assert [node.core.announcer.silent(node.core.clock.local(net.clock(node))) for node in pair] == [True, False]
        assert all(first.id in net.fresh(node) for node in others)
    assert seen == {(pair[1].address,)}
    pair[1].up = False
    assert net.rounds(lambda: not alarmed(pair[0]) and net.known(pair[0], others)) <= 90


def test_a_copy_of_a_running_process_is_noticed_too() -> None:
    net = warm(5, seed=16)
    first = net.nodes["n2"]
    second = net.add("copy", id=first.id)
    record = first.core.announcer.record
    second.core.announcer.record = msgspec.structs.replace(
        second.core.announcer.record, boot=record.boot, epoch=record.epoch, seq=record.seq + 1
    )
    net.run(20)
    assert first.core.announcer.record.boot != second.core.announcer.record.boot
    assert all(node.core.announcer.duplicated(node.core.clock.local(net.now)) for node in (first, second))


# Everything at once


def disturb(net: SimNet, rng: Random) -> None:
    node = rng.choice([*net.nodes.values()])
    what = rng.choice(["kill", "kill", "restart", "restart", "cut", "heal", "freeze", "change", "leave", "clock"])
    if what == "kill":
        node.up = False
    elif what == "restart":
        net.restart(node, last_epoch=rng.choice([0, node.core.epoch]), skew=rng.choice([0, 0, 40, -40]))
    elif what == "cut":
        net.cut = set(rng.sample([*net.nodes], rng.randrange(len(net.nodes))))
    elif what == "heal":
        net.cut = set()
    elif what == "freeze":
        node.frozen_until = net.now + rng.choice([3, 20, 200])
    elif what == "clock":
        node.skew += rng.choice([-200, 200, 90])
    elif node.up and what == "change":
        net.change(node)
    elif node.up:
        for send in node.core.leave(net.clock(node)):
            net.deliver(node, send)
        node.up = False
    net.run(rng.choice([0.1, 1, 5, 30, 100]))


@pytest.mark.parametrize("seed", [0, 1, 30, pytest.param(range(2, 80), marks=long)], ids=str)
def test_after_any_faults_the_network_is_whole_again(seed: int | range) -> None:
    for number in seed if isinstance(seed, range) else [seed]:
        rng = Random(number)
        net = warm(10, seed=number, loss=rng.choice([0, 0.3, 0.5]))
        for _ in range(30):
            disturb(net, rng)
        net.cut, net.loss = set(), 0
        for node in net.nodes.values():
            node.frozen_until = node.skew = 0
            if not node.up:
                net.restart(node, last_epoch=node.core.epoch)
        net.run(200)  # what was signed by a wrong clock has ended, and every freeze
        assert net.rounds(net.whole, 60) <= 10, f"seed {number}"
        for _ in range(30):
            net.run(1)
            assert net.whole(), f"seed {number}"
        for node in net.running():
            assert not node.core.announcer.duplicated(node.core.clock.local(net.now)), f"seed {number}"
            assert len(node.core.table.members) == 10, f"seed {number}"
