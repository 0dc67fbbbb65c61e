"""Many identities of one owner do not come between a node and the others (docs/promises.md D9)."""

from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.network.active import MOST_PER_MODEL, active
from peers.network.contacts import FAN_OUT, contacts
from peers.network.frames import Frame, encode
from peers.network.liveness import AGED
from peers.network.membership import Membership
from peers.network.records import Models
from peers.network.strangers import MOST_ACTIVE, MOST_IN_TABLE, places, spread
from peers.network.table import Member
from peers.network.terms import Bootnode, Send
from peers.wire import NodeId
from tests.members import RNG, core, member, sealed
from tests.simnet import START, SimNet, SimNode, an_id

SYBILS = [an_id(RNG) for _ in range(1000)]
HONEST = [an_id(RNG) for _ in range(30)]
LONG = 1800
"""Seconds: the longest ttl there is."""
CROWDS = {
    "one /24": lambda number: f"20.9.9.{number % 250}:{4001 + number}",
    "the same, in IPv6's spelling": lambda number: f"[::ffff:20.9.9.{number % 250}]:{4001 + number}",
    "one /48": lambda number: f"[2a00:1:2:{number:x}::1]:4001",
    "one domain": lambda number: f"n{number}.sybil.example:4001",
    "addresses of all kinds": lambda number: f"20.9.9.{number % 250}:4001 n{number}.sybil.example:4001",
}


def crowd(at: Membership, address: object, now: float = START, **changes: object) -> Counter[str]:
    """A thousand that come by themselves, and once more by the gossip of one of them."""
    outcomes: Counter[str] = Counter()
    for number, node in enumerate(SYBILS):
        text = sealed(node, addrs=tuple(address(number).split(" ")), ttl=LONG, now=now, **changes)
        outcomes[at.introduced(text, now)] += 1
        if number < MOST_IN_TABLE:
            at.receive(encode(Frame(records=[text])), node, now) if node in at.table.members else None
    return outcomes


def listed(at: Membership, nodes: Iterable[NodeId]) -> set[NodeId]:
    return {one.node for one in at.table.listed.values()} & set(nodes)


def honest(at: Membership) -> None:
    for number, node in enumerate(HONEST):
        assert at.introduced(sealed(node, addrs=(f"20.1.{number}.1:4001",), ttl=LONG), START) == "started"


def serve(at: Membership, model: str) -> None:
    for one in at.table.members.values():
        at.roster.offers(one.node, {model}, "")


@pytest.mark.parametrize("address", CROWDS.values(), ids=CROWDS)
@pytest.mark.parametrize("first", [True, False], ids=["they are first", "they are late"])
def test_a_thousand_in_one_place_are_ten_in_the_table_and_two_who_are_asked(address: object, first: bool) -> None:
    at = core(strangers=True)
    if not first:
        honest(at)
    outcomes = crowd(at, address)
    if first:
        honest(at)
    assert outcomes["started"] == MOST_IN_TABLE == len(listed(at, SYBILS))
    assert outcomes["crowded"] == 1000 - MOST_IN_TABLE
    serve(at, "llama3")
    asked = {one.node for one in at.roster.serving("llama3", START)}
    assert len(asked & set(SYBILS)) == MOST_ACTIVE
    assert asked >= set(HONEST)


def test_taking_turns_lists_no_more() -> None:
    """Ten at a time, the next ten when those have expired; then the first come back with newer records."""
    at, now = core(strangers=True), START
    for turn in range(20):
        now = START + turn * 400
        for node in SYBILS[turn * 10 : turn * 10 + 10]:
            assert at.introduced(sealed(node, addrs=("20.9.9.9:4001",), now=now), now) == "started"
        at.tick(now + 399)
    now += 1
    for number, node in enumerate(SYBILS[:200]):
        at.introduced(sealed(node, addrs=(f"20.9.9.{number}:4001",), now=now, seq=2), now)
    assert len(listed(at, SYBILS)) <= MOST_IN_TABLE
    assert at.table.places["20.9.9.0/24"] <= MOST_IN_TABLE


def test_moving_into_a_crowded_place_is_refused() -> None:
    at = core(strangers=True)
    for number, node in enumerate(SYBILS[:30]):
        assert at.introduced(sealed(node, addrs=(f"20.2.{number}.1:4001",)), START) == "started"
    moved = Counter(at.introduced(sealed(node, addrs=("20.9.9.9:1",), seq=2), START) for node in SYBILS[:30])
    assert moved == {"changed": MOST_IN_TABLE, "crowded": 30 - MOST_IN_TABLE}


def test_a_shared_secret_knows_no_such_limits() -> None:
    at = core()
    assert crowd(at, CROWDS["one /24"])["started"] == 1000
    serve(at, "llama3")
    assert len(at.roster.serving("llama3", START)) == MOST_PER_MODEL


def neighbours(size: int, **options: bool) -> SimNet:
    """All in one /24."""
    net = SimNet(size, seed=1, loss=0.1, **options)
    for number, node in enumerate(net.running()):
        node.address = f"20.0.0.{number + 1}:4001"
        net.at[node.address] = node
        node.core.announce(START, addrs=(node.address,), models=Models(), name=node.name)
    return net


def test_twenty_neighbours_of_one_owner_are_a_whole_network() -> None:
    net = neighbours(20)
    assert net.rounds(net.whole) <= 20
    for node in net.running():
        serve(node.core, "llama3")
        assert len(node.core.roster.serving("llama3", net.now)) == 19


def test_of_twenty_neighbours_who_are_strangers_ten_are_seen() -> None:
    net = neighbours(20, strangers=True)
    net.run(60)
    assert all(len(net.fresh(node)) <= 1 + MOST_IN_TABLE for node in net.running())


# Eclipse


class Besieged(SimNet):
    """Strangers; `crowd` addresses answer politely, and tell nothing."""

    def __init__(self, size: int, **options: object) -> None:
        self.crowd: set[str] = set()
        self.sent: list[list[Send]] = []
        super().__init__(size, strangers=True, **options)

    def deliver(self, node: SimNode, send: Send) -> None:
        if send.addresses[0] not in self.crowd:
            super().deliver(node, send)
        elif send.node is not None:
            self.later(0.05, lambda: node.core.answered(send.node, b"{}", self.clock(node)))

    def besiege(self, nodes: Iterable[SimNode], places: int) -> None:
        """A thousand that show themselves, from so many /24s."""
        for node in nodes:
            for number, sybil in enumerate(SYBILS):
                address = f"21.{number % places}.0.{number % 250 + 1}:{4001 + number}"
                self.crowd.add(address)
                node.core.introduced(sealed(sybil, addrs=(address,), ttl=LONG, now=self.now), self.now)


@pytest.mark.parametrize("seed", range(5))
def test_a_table_filled_from_the_start_does_not_hide_the_honest_bootnode(seed: int) -> None:
    net = Besieged(6, seed=seed, loss=0.2)
    net.rounds(net.whole, 120)
    victim = net.add()
    net.besiege([victim], 1)
    assert len(listed(victim.core, SYBILS)) == MOST_IN_TABLE
    assert net.rounds(lambda: net.fresh(victim) >= net.everybody(), 60) <= 20
    for _ in range(300):
        net.run(1)
        assert net.fresh(victim) >= net.everybody()


@pytest.mark.slow
def test_a_crowd_from_everywhere_does_not_come_between_old_acquaintances() -> None:
    """100 places hold all the thousand: of those whom we have known for an hour two are called in each round."""
    net = Besieged(8, seed=3, loss=0.1)
    net.rounds(net.whole, 120)
    net.run(30)
    for node in net.running():
        for other in node.core.liveness.answered_since():
            node.core.liveness.of(other).answered_since = net.now - AGED - 1
    old = net.everybody()
    net.besiege(net.running(), 100)
    assert len(listed(net.nodes["n3"].core, SYBILS)) == 1000
    for _ in range(200):
        net.run(1)
        assert all(net.fresh(node) >= old for node in net.running())
    picked = [{send.node for send in net.nodes["n3"].core.tick(net.now + second) if send.body} for second in range(20)]
    assert all(len(nodes & old) >= FAN_OUT for nodes in picked)
    assert any(nodes & set(SYBILS) for nodes in picked)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5), st.integers(0, 3), st.randoms(use_true_random=False))
def test_two_of_those_called_are_aged(aged: int, new: int, gone: int, bootnodes: int, rng: Random) -> None:
    old, late, away = MEMBERS[:aged], MEMBERS[40 : 40 + new], MEMBERS[80 : 80 + gone]
    named = [Bootnode(f"b{number}:1") for number in range(bootnodes)]
    everybody = [*old, *late]
    rng.shuffle(everybody)
    chosen = contacts(everybody, away, named, rng, {one.node for one in old})
    assert len(set(map(id, chosen))) == len(chosen)
    picked = [one for one in chosen if one in old]
    assert len(picked) == min(FAN_OUT, aged)
    assert len([one for one in chosen if one in late]) == min(new, max(FAN_OUT - len(picked), 1))
    assert len([one for one in chosen if one in named]) <= 1


MEMBERS = [member(an_id(RNG)) for _ in range(85)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60), st.integers(1, 32))
def test_two_of_a_place_are_asked_whoever_they_are(made: list[tuple[int, bool]], most: int) -> None:
    some = [placed(one, f"20.0.{place}.0/24") for one, (place, _) in zip(MEMBERS, made, strict=False)]
    named = {one.node for one, (_, by_name) in zip(some, made, strict=True) if by_name}
    taken = spread(some, named, most)
    assert len(taken) <= most
    counted = Counter(place for one in taken if one.node not in named for place in one.places)
    assert all(number <= MOST_ACTIVE for number in counted.values())
    assert {one.node for one in taken} >= named or len(taken) == most


def placed(one: Member, place: str) -> Member:
    one.places = frozenset([place])
    return one


def test_each_model_has_its_own_two() -> None:
    """So that of one place the whole active set holds as many as the table at most."""
    at = core(strangers=True)
    crowd(at, CROWDS["one /24"])
    for number, one in enumerate(at.table.members.values()):
        at.roster.offers(one.node, {f"m{number % 3}"}, "")
    chosen = active(at.roster.reachable(START), at.me, True, set())
    assert len(chosen) == 3 * MOST_ACTIVE <= MOST_IN_TABLE


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("20.9.9.9:1", "20.9.9.0/24"),
        ("[::ffff:20.9.9.9]:1", "20.9.9.0/24"),
        ("[2a00:1:2:3::1]:1", "2a00:1:2::/48"),
        ("a.b.Example.COM:1", "example.com"),
        ("10.0.0.1:1", None),
        ("[::ffff:10.0.0.1]:1", None),
    ],
)
def test_a_place_is_the_same_in_every_spelling(address: str, place: str | None) -> None:
    assert places([address]) == ({place} if place else frozenset())
