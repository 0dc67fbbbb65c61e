"""What membership says to a carrier, and what it makes of the answers."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.network.frames import LARGEST, Frame, encode, pack
from peers.network.records import Models
from peers.network.roster import Status
from peers.network.table import key_of
from peers.network.terms import Bootnode
from peers.wire import NodeId
from tests.members import RNG, A, B, C, core, records_of, refusal, sealed, status
from tests.simnet import START, an_id


def test_refusals_of_a_message() -> None:
    at = core()
    assert refusal(lambda: at.receive(b"", B, START)) == "403 unknown_peer"
    assert refusal(lambda: at.receive(encode(Frame()), A, START)) == "403 unknown_peer"
    at.introduced(sealed(B), START)
    assert refusal(lambda: at.receive(b"", B, START)) == "400 malformed"
    assert refusal(lambda: at.receive(b"[]", B, START)) == "400 malformed"
    assert refusal(lambda: at.receive(b" " * (LARGEST + 1), B, START)) == "413 too_large"


@given(st.binary(max_size=200), st.lists(st.text(max_size=40), max_size=5), st.binary(max_size=12))
def test_nothing_a_peer_sends_is_more_than_refused(body: bytes, records: list[str], key: bytes) -> None:
    at = core()
    at.introduced(sealed(B), START)
    frames = [Frame(records=records), Frame(want=key * 8), Frame(digest=key * 16, within=[0, 255], buckets=b"x" * 2048)]
    for message in (body, *map(encode, frames)):
        at.answered(B, message, START)
        at.answered(C, message, START)
        assert refusal(partial(at.receive, message, B, START)) in (None, "400 malformed", "429 rate_limited")
    at.tick(START + 1)
    assert [one.node for one in at.roster.members()] == [B]


def test_garbage_for_an_answer_is_a_failure() -> None:
    at = core()
    at.introduced(sealed(B), START)
    for _ in range(3):
        assert at.answered(B, b"<html>", START) == []
    assert status(at, B, START) is Status.SUSPECT
    assert at.intake.refused == {"malformed": 3}


def test_one_message_follows_an_answer_whatever_it_asks_for() -> None:
    at = core()
    at.introduced(sealed(B), START)
    at.tick(START + 1)
    greedy = encode(Frame(want=key_of(A) + key_of(B)))
    follows = at.answered(B, greedy, START + 1)
    assert [send.node for send in follows] == [B]
    assert at.sealed in records_of(follows[0].body or b"")
    assert at.answered(B, greedy, START + 1) == []


def test_both_ends_of_an_exchange_know_the_union() -> None:
    first, second = core(A), core(B)
    for node in (an_id(RNG) for _ in range(20)):
        first.introduced(sealed(node), START)
    for node in (an_id(RNG) for _ in range(20)):
        second.introduced(sealed(node), START)
    first.introduced(second.sealed, START)
    second.introduced(first.sealed, START)
    body: bytes | None = encode(first.exchange.opening(B, START, START))
    while body:
        follows = first.answered(B, second.receive(body, A, START), START)
        body = follows[0].body if follows else None
    assert first.table.listed.keys() == second.table.listed.keys()
    assert len(first.table.listed) == 42


def test_an_expired_record_is_told_to_nobody_but_its_owner() -> None:
    at = core()
    at.introduced(sealed(B), START)
    at.introduced(sealed(C, now=START + 70), START + 70)
    assert status(at, B, START + 70) is Status.DEAD
    lacking = encode(Frame(all=True, want=key_of(B)))
    assert set(records_of(at.receive(lacking, C, START + 70))) == {at.sealed, sealed(C, now=START + 70)}
    former = encode(Frame(digest=pack([(key_of(B), 1)])))
    assert records_of(at.receive(former, B, START + 70)) == [sealed(B)]
    assert records_of(at.receive(former, C, START + 70)) == []


def test_news_that_everybody_knows_is_told_no_more() -> None:
    at = core()
    at.introduced(sealed(B), START)
    knows = encode(Frame(digest=pack(at.table.entries()), all=True))
    for _ in range(4):
        assert list(at.exchange.news) == [A, B]
        assert records_of(at.receive(knows, B, START)) == []
    assert list(at.exchange.news) == []


def test_a_full_message_stays_within_its_bounds() -> None:
    at = core()
    at.introduced(sealed(B), START)
    for node in (an_id(RNG) for _ in range(300)):
        at.introduced(sealed(node, proof="x" * 600), START)
    for send in at.tick(START + 1):
        assert len(send.body or b"") <= LARGEST
    answer = at.receive(encode(Frame(all=True)), B, START + 1)
    assert len(answer) <= LARGEST
    assert 40 < len(records_of(answer)) <= 64


def test_a_node_that_leaves_says_so_to_eight() -> None:
    at = core()
    for node in (an_id(RNG) for _ in range(20)):
        at.introduced(sealed(node), START)
    sends = at.leave(START + 1)
    assert len({send.node for send in sends}) == 8
    other = core(B)
    other.introduced(core(A).sealed, START)
    other.receive(sends[0].body or b"", A, START + 1)
    assert status(other, A, START + 1) is Status.DEAD
    assert A not in {send.node for _ in range(20) for send in other.tick(START + 2)}


def test_who_cannot_be_dialled_is_a_member_but_never_called() -> None:
    at = core()
    at.introduced(sealed(B, addrs=()), START)
    at.introduced(sealed(C, v=(2, 3)), START)
    assert status(at, B, START) is Status.ALIVE
    assert at.roster.reachable(START) == []
    at.receive(encode(Frame(all=True)), B, START)
    assert [send for number in range(9) for send in at.tick(START + number)] == []


def test_a_record_that_would_be_too_large_is_refused_before_it_is_announced() -> None:
    at = core()
    before = at.sealed
    with pytest.raises(ValueError, match="1 KiB"):
        at.announce(START, addrs=tuple(f"{'x' * 250}{n}:4001" for n in range(4)), models=Models())
    at.tick(START + 30)
    assert at.sealed != before
    assert at.announcer.record.addrs == ("20.0.0.1:4001",)


def test_a_bootnode_is_called_until_who_is_behind_it_is_known() -> None:
    at = core(bootnodes=(Bootnode("boot:4001"), Bootnode("pinned:4001", C)))
    sends = [send for number in range(40) for send in at.tick(START + number)]
    assert {(send.node, *send.addresses) for send in sends} == {(None, "boot:4001"), (C, "pinned:4001")}
    at.introduced(sealed(B, now=START + 40), START + 40, "boot:4001")
    sends = [send for number in range(40, 60) for send in at.tick(START + number)]
    assert "boot:4001" not in {address for send in sends for address in send.addresses}


def test_peers_that_answered_are_called_first_after_a_restart() -> None:
    at = core()
    for node in (B, C):
        at.introduced(sealed(node), START)
    at.answered(C, encode(Frame()), START + 1)
    kept = at.remembered()
    assert kept == [sealed(C)]
    later = core(now=START + 7200)
    later.restore([*kept, "garbage", sealed(an_id(RNG), now=START - 40 * 86_400)], START + 7200)
    assert later.remembered() == kept
    assert status(later, C, START + 7200) is Status.DEAD
    assert [(send.node, send.addresses) for send in later.tick(START + 7201)] == [(C, ("20.0.0.2:4001",))]


def test_a_deny_list_spreads_and_the_newest_counts() -> None:
    denied: dict[NodeId, set[NodeId]] = {A: set(), B: set()}

    def reader(me: NodeId) -> Any:
        def read(text: str) -> str | None:
            if not text.startswith("list"):
                return None
            denied[me] = {C} if "C" in text else set()
            return text[4:8]

        return {"read_denials": read, "staked": lambda node, proof, now: node not in denied[me]}

    first, second = core(A, **reader(A)), core(B, **reader(B))
    for at, other in ((first, second), (second, first)):
        at.introduced(other.sealed, START)
        at.introduced(sealed(C), START)
    first.deny("list0001 C", START)
    assert status(first, C, START) is Status.DEAD
    second.deny("list0000", START)
    second.deny("forged9 C", START)
    (send,) = [send for send in second.tick(START + 1) if send.node == A]
    second.answered(A, first.receive(send.body or b"", B, START + 1), START + 1)
    assert status(second, C, START + 1) is Status.DEAD
    assert second.exchange.deny_list == "list0001 C"


def test_a_rival_that_started_in_the_same_second_is_told_apart_from_a_former_life() -> None:
    """Times in records are whole seconds."""
    ours = core(A, now=START + 0.2)
    ours.introduced(sealed(A, boot="f" * 16, epoch=ours.epoch + 1, now=START + 1), START + 1.3)
    assert ours.announcer.duplicated(ours.clock.local(START + 1.3))
    assert ours.announcer.record.issued == START + 2
