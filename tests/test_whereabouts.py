"""Where peers should dial this node, and whether they can, from what they say alone (docs/security.md C-10)."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.network.dialing import OWN_LAN, DialPolicy
from peers.network.whereabouts import CLIENT, LASTS, MOST_PEERS, SAME_PEER, SETTLED, Question, Reach, Whereabouts
from peers.wire import NodeId
from tests.simnet import an_id

RNG = Random(1)
PEERS = [an_id(RNG) for _ in range(6)]
A, B = PEERS[:2]
LAN, VPN, PUBLIC = "192.168.1.5", "100.64.0.5", "8.8.4.4"
AT_LAN, AT_VPN, AT_PUBLIC = (f"{host}:4001" for host in (LAN, VPN, PUBLIC))
OWNER, STRANGERS = DialPolicy(OWN_LAN), DialPolicy()


def allowed(policy: DialPolicy) -> Callable[[str], bool]:
    return lambda text: policy.gossiped(text) is not None


def at(*hosts: str, policy: DialPolicy = OWNER, **options: object) -> Whereabouts:
    made = Whereabouts(4001, allowed(policy), Random(1), **options)  # type: ignore[arg-type]
    assert not made.here(hosts, 0)
    return made


def live(
    node: Whereabouts, until: float, *, open_at: dict[NodeId, tuple[str, ...]], start: float = 0, seen: str = PUBLIC
) -> list[tuple[float, Question]]:
    """A second at a time, with peers that see us at `seen` and reach us where `open_at` says. What each was asked."""
    asked: list[tuple[float, Question]] = []
    for now in range(int(start), int(until)):
        question = node.asks(open_at, now)
        if question is not None:
            asked.append((now, question))
            node.saw(question.node, seen, now)
            reached = tuple(one for one in question.addresses if one in open_at[question.node])
            if question.addresses:
                node.tried(question.node, reached, question.addresses, now)
    return asked


def states(node: Whereabouts, now: float) -> tuple[tuple[str, ...], Reach]:
    return node.addresses(), node.reach(now)


@pytest.mark.parametrize(
    ("own", "open_at", "offered", "reach"),
    [
        pytest.param([LAN], {A: (AT_LAN,)}, (AT_LAN,), "reachable", id="same LAN"),
        pytest.param([LAN], {A: (AT_PUBLIC,)}, (AT_PUBLIC, AT_LAN), "reachable", id="router with a port opened"),
        pytest.param([LAN], {A: ()}, (), "unreachable", id="router without"),
        pytest.param([LAN], {A: (), B: (AT_LAN,)}, (AT_LAN,), "reachable", id="one of two"),
        pytest.param([LAN, VPN], {A: (AT_VPN,)}, (AT_VPN, AT_LAN), "reachable", id="what answers comes first"),
        pytest.param([], {A: (AT_PUBLIC,)}, (AT_PUBLIC,), "reachable", id="nothing but what a peer sees"),
        pytest.param([LAN], {}, (AT_LAN,), "unknown", id="nobody there yet"),
    ],
)
def test_what_is_offered_after_two_minutes(
    own: list[str], open_at: dict[NodeId, tuple[str, ...]], offered: tuple[str, ...], reach: Reach
) -> None:
    node = at(*own)
    live(node, 120, open_at=open_at)
    assert states(node, 120) == (offered, reach)
    assert bool(node.why(120)) is (reach != "reachable")


def test_a_first_peer_tells_within_two_seconds() -> None:
    node = at(LAN)
    asked = live(node, 2, open_at={A: (AT_PUBLIC,)})
    assert asked == [(0, Question(A, ())), (1, Question(A, (AT_PUBLIC, AT_LAN)))]
    assert states(node, 2) == ((AT_PUBLIC, AT_LAN), "reachable")


def test_a_stranger_must_be_seconded() -> None:
    node = at(LAN, policy=STRANGERS, strangers=True)
    node.saw(A, PUBLIC, 0)
    assert node.asks([A], 1) == Question(A, ())
    node.saw(B, PUBLIC, 20)
    assert node.asks([A], 30) == Question(A, (AT_PUBLIC,))
    node.tried(A, [AT_PUBLIC], [AT_PUBLIC], 31)
    assert node.addresses() == (AT_PUBLIC,)


def test_among_strangers_a_private_address_is_never_offered() -> None:
    """Those who dial global addresses alone refuse a record with another one as a whole."""
    node = at(LAN, VPN, PUBLIC, policy=STRANGERS, strangers=True)
    for peer in (A, B):
        node.saw(peer, "10.0.0.9", 0)
    assert node.addresses() == (AT_PUBLIC,)
    assert node.asks([A], 1) == Question(A, (AT_PUBLIC,))


def test_a_containers_address_is_never_offered_whoever_sees_it() -> None:
    node = at("172.17.0.2", contained=True)
    node.saw(A, "172.17.0.2", 0)
    assert states(node, 1) == ((), "unreachable")
    live(node, 20, start=2, open_at={B: (AT_PUBLIC,)})
    assert states(node, 20) == ((AT_PUBLIC,), "reachable")


@pytest.mark.parametrize(
    "seen", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "", "nonsense", "fe80::1%eth0", LAN]
)
def test_what_a_peer_sees_may_be_of_no_use(seen: str) -> None:
    node = at(LAN)
    node.saw(A, seen, 0)
    assert node.asks([A], 1) == Question(A, (AT_LAN,))


@pytest.mark.parametrize(("seen", "found"), [("::ffff:8.8.4.4", AT_PUBLIC), ("2001:4860::8", "[2001:4860::8]:4001")])
def test_it_is_spelt_as_usual(seen: str, found: str) -> None:
    node = at()
    node.saw(A, seen, 0)
    assert node.asks([A], 1) == Question(A, (found,))


# When it is asked


def test_no_peer_is_asked_to_dial_twice_in_a_minute_nor_everybody() -> None:
    node = at(LAN)
    asked = live(node, 600, open_at=dict.fromkeys(PEERS, ()))
    times = {peer: [now for now, question in asked if question.node == peer and question.addresses] for peer in PEERS}
    assert all(later - sooner >= SAME_PEER for of in times.values() for sooner, later in pairwise(of))
    assert sum(len(of) for of in times.values()) <= 4 + 600 / 60
    assert sum(bool(of and of[0] < 60) for of in times.values()) <= 4
    assert all(times.values())  # sure that it is unreachable, it lets others try, too


@pytest.mark.parametrize("peers", [PEERS, [A]])
@pytest.mark.parametrize(("now", "reach"), [(60, "unknown"), (75, "unreachable")])
def test_it_makes_sure_with_those_that_it_asked(peers: list[NodeId], now: float, reach: Reach) -> None:
    node = at(LAN)
    live(node, now, open_at=dict.fromkeys(peers, ()))
    assert node.reach(now) == reach


def test_who_is_reached_asks_every_ten_minutes() -> None:
    node = at(LAN)
    asked = live(node, 3000, open_at=dict.fromkeys(PEERS, (AT_LAN,)), seen=LAN)
    assert [now for now, _ in asked][2:] == pytest.approx([1 + SETTLED * step for step in range(1, 5)], abs=2)


def test_a_new_address_is_asked_about_at_once() -> None:
    node = at(LAN)
    live(node, 100, open_at={A: (AT_LAN,)}, seen=LAN)
    node.saw(B, PUBLIC, 100)
    assert node.asks([B], 101) == Question(B, (AT_PUBLIC, AT_LAN))


@pytest.mark.parametrize("reached", [(), ("192.168.1.0:4001",)])
def test_more_addresses_than_one_question_holds_are_all_tried(reached: tuple[str, ...]) -> None:
    hosts = [f"192.168.1.{number}" for number in range(6)]
    node = at(*hosts)
    asked = live(node, 30, open_at={A: reached, B: reached}, seen=LAN)
    assert {address for _, question in asked for address in question.addresses} == {
        f"{host}:4001" for host in hosts
    } | {AT_LAN}
    assert max(len(question.addresses) for _, question in asked) == 4


def test_where_most_peers_reach_it_comes_first() -> None:
    node = at(LAN, VPN)
    live(node, 2 * SETTLED, open_at={A: (AT_LAN, AT_VPN), B: (AT_VPN,)}, seen=LAN)
    assert node.addresses() == (AT_VPN, AT_LAN)


# What changes


def test_it_recovers_with_the_first_that_reaches_it() -> None:
    node = at(LAN)
    live(node, 300, open_at={A: (), B: ()})
    live(node, 430, start=300, open_at={A: (), B: (AT_PUBLIC,)})
    assert states(node, 430) == ((AT_PUBLIC, AT_LAN), "reachable")


def test_asleep_it_may_have_moved_behind_the_same_address() -> None:
    node = at(LAN)
    live(node, 200, open_at={A: ()})
    node.doubt(200)
    assert states(node, 200) == ((AT_LAN,), "unknown")


def test_it_moves() -> None:
    node = at(LAN)
    live(node, 100, open_at={A: (AT_PUBLIC,)})
    assert not node.here([LAN], 100)
    assert node.here([VPN], 101)
    assert states(node, 101) == ((AT_VPN,), "unknown")
    assert node.asks([A], 101) == Question(A, ())
    node.saw(A, "9.9.9.9", 101)
    assert node.asks([A], 102) == Question(A, ("9.9.9.9:4001", AT_VPN))


def test_what_was_asked_before_it_moved_says_nothing() -> None:
    node = at(LAN)
    node.saw(A, PUBLIC, 0)
    assert node.asks([A], 1) == Question(A, (AT_PUBLIC, AT_LAN))
    node.doubt(2)
    node.saw(B, PUBLIC, 3)
    node.tried(A, [AT_PUBLIC], [AT_PUBLIC], 3)
    assert states(node, 3) == ((AT_LAN,), "unknown")


def test_who_dials_it_has_reached_it() -> None:
    node = at(LAN)
    live(node, 200, open_at={A: ()})
    node.dialled(200)
    assert states(node, 200) == ((AT_LAN,), "reachable")
    assert not node.why(200)
    live(node, 200 + LASTS, start=200, open_at={A: ()})
    assert states(node, 199 + LASTS) == ((AT_LAN,), "reachable")
    live(node, 400 + LASTS, start=200 + LASTS, open_at={A: ()})
    assert states(node, 400 + LASTS) == ((), "unreachable")


def test_what_the_operator_says_is_offered_whoever_fails_there() -> None:
    node = at(LAN, advertised=("node.example:4001", AT_PUBLIC))
    asked = live(node, 200, open_at={A: ()})
    assert asked[0] == (0, Question(A, ("node.example:4001", AT_PUBLIC)))
    assert states(node, 200) == (("node.example:4001", AT_PUBLIC), "unreachable")
    assert "PEER_ADVERTISE" in node.why(200)
    live(node, 400, start=200, open_at={A: (AT_PUBLIC,)})
    assert states(node, 400) == ((AT_PUBLIC, "node.example:4001"), "reachable")


def test_what_peers_do_not_dial_is_left_out_and_told() -> None:
    node = at(LAN, advertised=(AT_LAN,), policy=STRANGERS)
    assert states(node, 0) == ((), "unreachable")
    assert AT_LAN in node.why(0)


def test_a_client_is_never_dialled() -> None:
    node = Whereabouts(None, allowed(OWNER), Random(1))
    node.here([LAN], 0)
    assert live(node, 100, open_at={A: (AT_LAN,)}) == []
    assert (*states(node, 100), node.why(100)) == ((), "unreachable", CLIENT)


def test_the_remedy_is_told_and_what_was_tried_from_where() -> None:
    node = at(LAN)
    live(node, 200, open_at={A: (), B: ()})
    for word in ("TCP port 4001", "PEER_ADVERTISE", "can ask", "not offered", AT_LAN, AT_PUBLIC, A[:6], B[:6]):
        assert word in node.why(200)


hosts = st.lists(st.sampled_from([LAN, VPN, PUBLIC, "10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1"]), max_size=7)
events = st.one_of(
    st.tuples(st.just("here"), hosts),
    st.tuples(st.just("saw"), st.integers(0, 50), st.sampled_from([LAN, PUBLIC, "9.9.9.9", "7.7.7.7", "4.4.4.4", "x"])),
    st.tuples(st.just("asks"), st.booleans(), st.sets(st.integers(0, 10))),
    st.tuples(st.sampled_from(["dialled", "doubt"])),
)


@given(st.lists(st.tuples(st.floats(0, 400), events), max_size=60), st.booleans(), st.booleans())
def test_whatever_happens(happened: list[tuple[float, tuple[object, ...]]], contained: bool, strangers: bool) -> None:
    rng, peers = Random(1), [NodeId(f"{number:052}") for number in range(51)]
    policy = STRANGERS if strangers else OWNER
    node = at(policy=policy, contained=contained, strangers=strangers)
    now, own, confirmed, dials = 0.0, set[str](), set[str](), dict[NodeId, float]()
    for passed, (what, *with_) in happened:
        now += passed
        match what, with_:
            case "here", [list(found)]:
                confirmed = set() if node.here(found, now) else confirmed
                own = {f"{host}:4001" for host in found}
            case "saw", [int(number), str(seen)]:
                node.saw(peers[number], seen, now)
            case "asks", [bool(reached), set(of)]:
                question = node.asks([peers[number] for number in sorted(of)], now)
                if question is not None and question.addresses:
                    assert now - dials.get(question.node, -SAME_PEER) >= 60
                    dials[question.node] = now
                    there = {rng.choice(question.addresses)} if reached else set[str]()
                    confirmed |= there
                    node.tried(question.node, there, question.addresses, now)
                    assert not reached or node.reach(now) == "reachable"
            case "dialled", _:
                node.dialled(now)
            case _:
                node.doubt(now)
                confirmed = set()
        offered = node.addresses()
        assert len(offered) <= 4
        assert len(set(offered)) == len(offered)
        assert all(map(allowed(policy), offered))
        assert set(offered) <= confirmed | (set() if contained else own)
        assert not contained or not own.intersection(offered)
        assert not offered or node.reach(now) != "unreachable"
        assert len(node._words) <= MOST_PEERS
