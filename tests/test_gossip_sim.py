"""Gossip in pretended time: news reaches all, splits heal, nobody is lost (docs/promises.md A1 … A4)."""

from dataclasses import replace
from functools import partial
from random import Random

import pytest

from peers.network import exchange
from peers.network.records import Models
from peers.wire import NodeId
from tests.simnet import NETWORK, SimNet, an_id, warm

long = pytest.mark.reliability


def p99(values: list[int]) -> int:
    return sorted(values)[-1 - len(values) // 100]


# A1


@pytest.mark.parametrize("loss", [0.0, 0.3, 0.5])
@pytest.mark.parametrize(
    ("size", "seeds", "times"),
    [(2, 3, 5), (10, 3, 5), (50, 1, 3), pytest.param(50, 20, 5, marks=long), pytest.param(200, 2, 10, marks=long)],
)
def test_news_reaches_all(size: int, seeds: int, times: int, loss: float) -> None:
    taken = []
    for seed in range(seeds):
        net = warm(size, seed=seed, loss=loss)
        taken += net.spread(times)
        taken.append(joins(net))
        if size > 2:  # of two, one may lose the other's last word
            taken.append(leaves(net))
    assert p99(taken) <= (6 if loss == 0 else 10 if loss == 0.3 else 15)


def joins(net: SimNet) -> int:
    new = net.add()
    return net.rounds(lambda: net.known(new) and net.fresh(new) >= net.everybody(), 60)


def leaves(net: SimNet) -> int:
    gone = net.rng.choice(net.running()[1:])
    for send in gone.core.leave(net.clock(gone)):
        net.deliver(gone, send)
    net.run(0.2)
    gone.up = False
    return net.rounds(lambda: all(gone.id not in net.fresh(node) for node in net.running()), 60)


# A2


@pytest.mark.parametrize(("loss", "seconds"), [(0.0, 8), (0.3, 30)])
@pytest.mark.parametrize("size", [2, 10, 50, pytest.param(200, marks=long)])
def test_a_cold_start_from_one_bootnode(size: int, loss: float, seconds: int) -> None:
    net = SimNet(size, seed=size, loss=loss)
    assert net.rounds(net.whole, 60) <= seconds


# A3


@pytest.mark.parametrize(("size", "loss"), [(10, 0.0), (20, 0.3), pytest.param(200, 0.3, marks=long)])
def test_a_split_heals_by_itself(size: int, loss: float) -> None:
    net = warm(size, seed=3, loss=loss)
    net.cut = set([*net.nodes][: size // 2])
    net.run(180)
    for node in net.running():
        side = {other.id for other in net.running() if (other.name in net.cut) == (node.name in net.cut)}
        assert net.fresh(node) == side
    net.cut = set()
    assert net.rounds(net.whole) <= 10
    if not loss:  # else some have been ejected a second time, which stands
        assert net.rounds(lambda: all(net.alive(node) == net.everybody() for node in net.running())) <= 30


def test_a_node_that_was_alone_finds_its_way_back() -> None:
    net = warm(5, seed=4)
    net.cut = {"n3"}
    net.run(1200)
    assert net.fresh(net.nodes["n3"]) == {net.nodes["n3"].id}
    net.cut = set()
    assert net.rounds(net.whole) <= 10


# A4


@pytest.mark.parametrize("loss", [0.3, 0.5])
@pytest.mark.parametrize(("size", "seconds"), [(20, 90), pytest.param(50, 600, marks=long)])
def test_nobody_is_lost_however_many_messages_are(size: int, seconds: int, loss: float) -> None:
    net = warm(size, seed=5, loss=loss)
    for _ in range(seconds):
        net.run(1)
        assert net.whole()


# Other kinds of members, and of networks


def test_nodes_that_cannot_be_dialled_take_part() -> None:
    net = warm(10, seed=17)
    client = net.add()
    client.core.announce(net.now, addrs=(), models=Models(), name=client.name)
    del net.at[client.address]
    net.run(5)
    for _ in range(120):
        net.run(1)
        assert net.whole()


@pytest.mark.slow
def test_a_network_of_strangers_is_whole_though_nobody_tells_all() -> None:
    net = SimNet(40, seed=18, loss=0.3, strangers=True)
    assert net.rounds(net.whole) <= 60
    for _ in range(30):
        net.run(1)
        assert net.whole()
    assert max(net.spread(3)) <= 10


@pytest.mark.slow
def test_above_256_members_buckets_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MOST_IN_FULL", 12)
    net = warm(30, seed=19, loss=0.3)
    for _ in range(30):
        net.run(1)
        assert net.whole()
    assert p99(net.spread(5)) <= 10
    net.cut = {f"n{number}" for number in range(15)}
    net.run(90)
    net.cut = set()
    assert net.rounds(net.whole) <= 10


@long
def test_300_members_keep_each_other() -> None:
    net = SimNet(300, seed=20, loss=0.3)
    assert net.rounds(net.whole) <= 30
    for _ in range(60):
        net.run(1)
        assert net.whole()
    assert p99(net.spread(5)) <= 12


def test_a_machine_that_slept_is_back_at_once() -> None:
    net = warm(4, seed=21)
    sleeper = net.nodes["n2"]
    sleeper.frozen_until = net.now + 1000
    net.run(995)
    assert sleeper.id not in net.fresh(net.nodes["n1"])
    assert net.rounds(net.whole) <= 10


def test_one_may_leave_and_come_back() -> None:
    net = warm(10, seed=22)
    node = net.nodes["n5"]
    for send in node.core.leave(net.now):
        net.deliver(node, send)
    net.run(1)
    node.up = False
    net.run(5)
    assert all(node.id not in net.fresh(other) for other in net.running())
    net.restart(node, last_epoch=node.core.epoch)
    assert net.rounds(net.whole) <= 5


def test_peers_on_disk_replace_a_bootnode_that_is_gone() -> None:
    net = warm(5, seed=23)
    node = net.nodes["n3"]
    net.run(60)
    kept, epoch = node.core.remembered(), node.core.epoch
    node.up = net.nodes["n0"].up = False
    net.run(1000)
    net.changes["bootnodes"] = ()
    net.restart(node, last_epoch=epoch)
    node.core.restore(kept, net.now)
    assert net.rounds(lambda: len(net.fresh(node)) == 4) <= 10


def test_a_rotated_secret_is_a_second_network_for_a_while() -> None:
    net = warm(6, seed=24)
    old, new = NETWORK, an_id(Random(25))
    known: dict[NodeId, tuple[str, ...]] = {node.id: (old,) for node in net.running()}
    for node in net.running():
        networks = partial(known.__getitem__, node.id)
        node.core.intake.terms = replace(node.core.intake.terms, networks=networks)
        node.core._networks = networks
    away, here = net.running()[-1], net.running()[:-1]
    for node in here:
        known[node.id] = (new, old)
        net.change(node)
        net.run(2)
    assert all(away.id in net.fresh(node) for node in here)
    for node in here:
        known[node.id] = (new,)
        node.core.stake_changed(net.now)
    assert all(net.fresh(node) == {other.id for other in here} for node in here)
    known[away.id] = (new, old)
    net.change(away)
    away.core.stake_changed(net.now)
    assert net.rounds(net.whole) <= 10
