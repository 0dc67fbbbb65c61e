"""What becomes of records that come in, and what they may cost (docs/promises.md A5, A11)."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peers.network.frames import Frame, decode, encode, pack
from peers.network.intake import BURST, MOST_CANDIDATES, PER_SECOND
from peers.network.records import seal
from peers.network.roster import Status
from peers.network.table import MOST_MEMBERS, key_of
from tests.members import RNG, A, B, C, core, records_of, refusal, sealed, status
from tests.simnet import START, an_id, fake_sign


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "started"),
        ({"net": A}, "wrong_network"),
        ({"issued": int(START) - 181}, "stale"),
        ({"issued": int(START) + 601}, "early"),
        ({"addrs": ("20.0.0.2:22",)}, "bad_address"),
        ({"proof": "none"}, "candidate"),
        ({"v": (2, 9)}, "started"),
        ({"addrs": ()}, "started"),
    ],
)
def test_what_becomes_of_a_record(changes: dict[str, Any], outcome: str) -> None:
    at = core(address_ok=lambda address: address.endswith(":4001"), staked=lambda node, proof, now: proof != "none")
    text = sealed(**changes)
    assert at.introduced(text, START) == outcome
    assert at.intake.refused == ({} if outcome in ("started", "candidate") else {outcome: 1})
    assert at.introduced("x" + text[1:], START) == "malformed"
    last = text[:-1] + ("g" if text[-1] != "g" else "w")
    assert at.introduced(last, START) in ("bad_signature", "known", "candidate", outcome)


def test_a_forged_record_changes_nothing() -> None:
    at = core()
    at.introduced(sealed(), START)
    forged = seal(at.table.members[B].record, lambda data: fake_sign(C, data))
    newer = msgspec.structs.replace(at.table.members[B].record, seq=9, state="left")
    assert at.introduced(forged, START) == "known"
    assert at.introduced(seal(newer, lambda data: fake_sign(C, data)), START) == "bad_signature"
    assert status(at, B, START) is Status.ALIVE


def test_only_a_newer_record_counts_even_after_its_node_has_left() -> None:
    at = core()
    assert at.introduced(sealed(seq=5), START) == "started"
    assert at.introduced(sealed(seq=4, state="left"), START) == "known"
    assert at.introduced(sealed(seq=6), START) == "renewed"
    assert at.introduced(sealed(seq=7, name="other"), START) == "changed"
    assert at.introduced(sealed(seq=9, state="left"), START) == "changed"
    assert at.introduced(sealed(seq=8), START) == "known"
    assert status(at, B, START) is Status.DEAD
    assert at.introduced(sealed(seq=0, epoch=int(START * 1000) + 1, boot="1" * 16), START) == "started"
    assert status(at, B, START) is Status.ALIVE


def test_a_newer_record_counts_even_when_it_is_stale() -> None:
    at = core()
    at.introduced(sealed(seq=5), START)
    assert at.introduced(sealed(seq=7, issued=int(START) - 999), START) == "stale"
    assert at.introduced(sealed(seq=6), START) == "known"
    assert status(at, B, START) is Status.DEAD


def test_a_record_expires_and_its_version_is_remembered_for_a_day() -> None:
    at = core()
    at.introduced(sealed(), START)
    for now, expected in ((59, Status.ALIVE), (61, Status.DEAD), (86_400, Status.DEAD)):
        at.tick(START + now)
        assert status(at, B, START + now) is expected
    at.tick(START + 180 + 86_401)
    assert B not in at.table.members
    assert at.introduced(sealed(), START + 180 + 86_401) == "stale"


def test_a_record_that_took_long_to_come_expires_no_later_than_others_would_take_it() -> None:
    at = core()
    at.introduced(sealed(issued=int(START) - 150), START)
    assert status(at, B, START + 30) is Status.ALIVE
    assert status(at, B, START + 31) is Status.DEAD


def test_a_candidate_is_never_asked_nor_told_of_until_it_is_proven() -> None:
    proven = {C}
    at = core(staked=lambda node, proof, now: node in proven)
    at.introduced(sealed(C), START)
    assert at.introduced(sealed(B), START) == "candidate"
    assert at.roster.members() == [at.table.members[C]]
    assert B not in {send.node for send in at.tick(START + 1)}
    assert refusal(lambda: at.receive(encode(Frame()), B, START + 1)) == "403 unknown_peer"
    asked = Frame(all=True, want=key_of(B))
    assert not any(text == sealed(B) for text in records_of(at.receive(encode(asked), C, START + 1)))
    proven.add(B)
    at.stake_changed(START + 2)
    assert status(at, B, START + 2) is Status.ALIVE
    proven.discard(B)
    at.stake_changed(START + 3)
    assert status(at, B, START + 3) is Status.DEAD
    assert sealed(B) not in records_of(at.receive(encode(asked), C, START + 3))


def test_candidates_are_bounded_and_not_asked_for_again() -> None:
    at = core(staked=lambda node, proof, now: node == C)
    at.introduced(sealed(C), START)
    some = [an_id(RNG) for _ in range(MOST_CANDIDATES + 50)]
    for node in some:
        at.introduced(sealed(node), START)
    assert len(at.intake.candidates) == MOST_CANDIDATES
    digest = pack([(key_of(some[-1]), decode_version(sealed(some[-1]))), (key_of(A), 0), (b"unknown!", 5)])
    answer = decode(at.receive(encode(Frame(digest=digest)), C, START))
    assert answer.want == b"unknown!"


def decode_version(text: str) -> int:
    at = core(an_id(RNG))
    at.introduced(text, START)
    return next(one.version for one in at.roster.members())


def test_a_full_table_forgets_the_dead_and_takes_no_more_of_the_living() -> None:
    at = core()
    at.table.most = 4
    nodes = [an_id(RNG) for _ in range(5)]
    assert [at.introduced(sealed(node), START) for node in nodes] == ["started"] * 3 + ["table_full"] * 2
    at.tick(START + 200)
    late = [sealed(node, now=START + 200) for node in (nodes[4], nodes[0])]
    assert [at.introduced(text, START + 200) for text in late] == ["started", "started"]
    assert len(at.table.members) == 4
    assert at.introduced(sealed(nodes[1], now=START + 100), START + 200) in ("stale", "started")


def test_one_peer_may_send_only_so_many_records() -> None:
    """A11: what is over its allowance is not even read, then it is told to wait."""
    at = core()
    at.introduced(sealed(B), START)
    batches = [[sealed(an_id(RNG)) for _ in range(60)] for _ in range(4)]
    for batch in batches[:2]:
        at.receive(encode(Frame(records=batch)), B, START)
    assert len(at.roster.members()) == 1 + BURST
    assert refusal(lambda: at.receive(encode(Frame(records=batches[2])), B, START)) == "429 rate_limited"
    at.receive(encode(Frame(records=batches[3])), B, START + 2)
    assert len(at.roster.members()) == 1 + BURST + 2 * PER_SECOND


def test_bad_records_cost_their_sender_more() -> None:
    at = core()
    at.introduced(sealed(B), START)
    at.receive(encode(Frame(records=["garbage"] * 10)), B, START)
    assert at.intake.refused == {"malformed": 10}
    assert refusal(lambda: at.receive(encode(Frame(records=["garbage"])), B, START)) == "429 rate_limited"


def memory() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
def test_a_flood_of_members_is_bounded() -> None:
    """A11: a staked peer sends a million records, each of another node that it made up."""
    at, honest = core(), core(C)
    at.introduced(sealed(B), START)
    before = memory()
    for batch in range(1_000_000 // 64):
        now = START + batch / 10
        body = encode(Frame(records=[sealed(an_id(RNG), now=now) for _ in range(64)]))
        at.receive(body, B, now)
        at.introduced(sealed(B, now=now, seq=batch), now)
        if not batch % 100:
            at.tick(now)
    assert at.intake.refused["rate_limited"] > 950_000
    assert len(at.table.members) == MOST_MEMBERS
    assert memory() - before < 64 * 1024 * 1024
    assert at.introduced(core(C, now=now).sealed, now) == "started"
    honest.introduced(core(A, now=now).sealed, now)
    honest.receive(encode(at.exchange.opening(C, now, now)), A, now)
    assert len(honest.roster.reachable(now)) > 1
