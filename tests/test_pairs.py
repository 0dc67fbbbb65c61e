"""Which sessions a node has: when one is wanted, when it ends, how many are held, and what their counters let in."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.network.dialing import Address
from peers.network.pairing import LIFE, PATH, Agreed
from peers.network.pairs import (
    EARLY,
    MOST,
    NOT_SPOKEN,
    OFTEN,
    PAUSE,
    PER_PEER,
    REQUESTS,
    HeldSessions,
    OwnSessions,
)
from peers.network.replay import WIDTH, Window
from peers.network.signatures import Claim, Refused, parse, sign_by_session
from peers.wire import NodeId
from tests import signing
from tests.signing import ME, NOW, OTHER, SENDER
from tests.simnet import an_id

AT = Address("10.0.0.1", 4001)
KEY = bytes(range(32))


def agreed(name: str = "A" * 22, life: int = LIFE) -> Agreed:
    return Agreed(name, KEY, life)


def claim(name: str = "A" * 22, counter: int = 0, path: str = signing.PATH) -> Claim:
    given = signing.CIMultiDict(sign_by_session(signing.request(path=path), KEY, name, NOW, counter))
    return parse("POST", path, given)


def name(number: int) -> str:
    return f"{number:021}A"


# The window


@given(st.lists(st.integers(0, 3 * WIDTH), max_size=300))
def test_no_counter_counts_twice(counters: list[int]) -> None:
    window, taken = Window(), set[int]()
    for counter in counters:
        old = bool(taken) and counter <= max(taken) - WIDTH
        if old or counter in taken:
            with pytest.raises(Refused):
                window.add(counter)
        else:
            window.add(counter)
            taken.add(counter)


@given(st.permutations(range(64)), st.integers(0, WIDTH - 64))
def test_within_the_window_any_order_is_taken(order: list[int], start: int) -> None:
    window = Window()
    for counter in order:
        window.add(start + counter)
    for counter in order:
        with pytest.raises(Refused):
            window.add(start + counter)


def test_a_leap_forgets_what_is_behind_and_the_window_never_grows() -> None:
    window = Window()
    window.add(0)
    window.add(REQUESTS - 1)
    for old in (0, 1, REQUESTS - 1 - WIDTH):
        with pytest.raises(Refused) as refused:
            window.add(old)
        assert refused.value.code == "replay"
    window.add(REQUESTS - WIDTH)
    assert window._seen.bit_length() <= WIDTH


# Those of peers


def held(now: float = NOW, count: int = 1) -> HeldSessions:
    sessions = HeldSessions()
    for number in range(count):
        sessions.add(SENDER, agreed(name(number)), now)
    return sessions


def refused(sessions: HeldSessions, one: Claim, now: float = NOW) -> bool:
    try:
        sessions.of(one, now)
    except Refused as error:
        return (error.status, error.code) == (401, "session")
    return False


def test_a_session_ends_with_its_life() -> None:
    sessions = held()
    assert sessions.of(claim(name(0)), NOW + LIFE - 1).sender == SENDER
    assert refused(sessions, claim(name(0)), NOW + LIFE)
    assert refused(sessions, claim(name(0)), NOW - 1)


def test_a_session_is_for_so_many_requests() -> None:
    sessions = held()
    assert not refused(sessions, claim(name(0), REQUESTS - 1))
    assert refused(sessions, claim(name(0), REQUESTS))


def test_a_session_begets_no_session() -> None:
    assert refused(held(), claim(name(0), path=PATH))


def test_of_one_peer_the_newest_are_held() -> None:
    sessions = held(count=PER_PEER + 2)
    assert [refused(sessions, claim(name(number))) for number in range(PER_PEER + 2)] == [True, True, False, False]
    assert len(sessions) == PER_PEER


def test_of_all_peers_the_newest_are_held_and_none_that_has_ended() -> None:
    sessions, rng = HeldSessions(), Random(1)
    for number in range(MOST + 3):
        sessions.add(an_id(rng), agreed(name(number)), NOW)
    assert len(sessions) == len(sessions._by_peer) == MOST
    assert refused(sessions, claim(name(2)))
    assert not refused(sessions, claim(name(3)))
    sessions.add(SENDER, agreed(), NOW + LIFE)
    assert len(sessions) == len(sessions._by_peer) == 1


# Those of its own


class Own:
    """OwnSessions, and whom they wanted one with."""

    def __init__(self) -> None:
        self.sessions = OwnSessions()
        self.wanted: list[NodeId] = []
        self.place = True
        self.sessions.wanted = self.want

    def want(self, node: NodeId, at: Address) -> bool:
        self.wanted.append(node)
        return self.place

    def ask(self, now: float, node: NodeId = ME, path: str = signing.PATH) -> str | None:
        session = self.sessions.of(signing.request(to=node, path=path), AT, now)
        return session and session.id


def test_a_peer_that_is_asked_once_is_not_worth_one() -> None:
    own = Own()
    assert [own.ask(NOW), own.ask(NOW, OTHER), own.ask(NOW + OFTEN)] == [None] * 3
    assert own.wanted == []
    assert own.ask(NOW + OFTEN + 1) is None
    assert own.wanted == [ME]


def test_many_requests_at_once_want_one() -> None:
    own = Own()
    assert [own.ask(NOW) for _ in range(50)] == [None] * 50
    assert own.wanted == [ME]
    own.sessions.agreed(ME, agreed(), NOW)
    assert [own.ask(NOW) for _ in range(50)] == ["A" * 22] * 50
    assert own.wanted == [ME]


def test_where_there_was_no_place_to_begin_it_is_wanted_again() -> None:
    own = Own()
    own.place = False
    for _ in range(3):
        own.ask(NOW)
    assert own.wanted == [ME, ME]


def test_the_next_one_is_made_before_this_one_ends() -> None:
    own = Own()
    own.ask(NOW), own.ask(NOW)
    own.sessions.agreed(ME, agreed("B" * 22), NOW)
    end = NOW + LIFE
    own.ask(end - EARLY - 1)
    assert own.ask(end - EARLY) == "B" * 22
    assert own.wanted == [ME]
    assert own.ask(end - EARLY + 1) == "B" * 22
    assert own.wanted == [ME, ME]
    own.sessions.agreed(ME, agreed("C" * 22), end - EARLY + 1)
    assert own.ask(end - EARLY + 2) == "C" * 22


def test_it_is_not_used_beyond_its_end() -> None:
    own = Own()
    own.ask(NOW), own.ask(NOW)
    own.sessions.agreed(ME, agreed(), NOW)
    assert own.ask(NOW + LIFE) is None
    own.sessions.agreed(ME, agreed(), NOW + LIFE)
    session = own.sessions._peers[ME].session
    assert session is not None
    session.used = REQUESTS - 1
    assert own.ask(NOW + LIFE) == "A" * 22
    session.used = REQUESTS
    assert own.ask(NOW + LIFE) is None


@pytest.mark.parametrize(("spoken", "pause"), [(True, PAUSE), (False, NOT_SPOKEN)])
def test_after_a_failure_it_is_left_alone_for_a_while(spoken: bool, pause: float) -> None:
    own = Own()
    own.ask(NOW), own.ask(NOW)
    own.sessions.failed(ME, NOW, spoken=spoken)
    for second in range(1, int(pause)):
        assert own.ask(NOW + second) is None
    assert own.wanted == [ME]
    own.ask(NOW + pause)
    assert own.wanted == [ME, ME]


def test_what_the_peer_does_not_take_is_dropped_and_made_anew() -> None:
    own = Own()
    own.ask(NOW), own.ask(NOW)
    own.sessions.agreed(ME, agreed(), NOW)
    session = own.sessions.of(signing.request(), AT, NOW)
    assert session is not None
    own.sessions.drop(ME, session)
    assert own.ask(NOW + PAUSE - 1) is None
    assert own.wanted == [ME]
    assert own.ask(NOW + PAUSE) is None
    assert own.wanted == [ME, ME]
    own.sessions.agreed(ME, agreed("C" * 22), NOW + PAUSE)
    own.sessions.drop(ME, session)  # by a request that was late: the new one stays
    assert own.ask(NOW + PAUSE) == "C" * 22


def test_a_handshake_is_never_signed_by_a_session() -> None:
    own = Own()
    own.ask(NOW), own.ask(NOW)
    own.sessions.agreed(ME, agreed(), NOW)
    assert own.ask(NOW, path=PATH) is None


def test_who_was_not_asked_for_longest_is_forgotten_first() -> None:
    own, rng = Own(), Random(1)
    peers = [an_id(rng) for _ in range(MOST)]
    for node in [*peers, peers[0], ME]:
        own.ask(NOW, node)
    assert len(own.sessions._peers) == MOST
    assert peers[0] in own.sessions._peers
    assert peers[1] not in own.sessions._peers
    own.sessions.agreed(peers[1], agreed(), NOW)  # its answer came too late
    assert len(own.sessions._peers) == MOST
