"""Other nodes' model lists: kept, and asked for in good order."""

from random import Random

import pytest

from peers.network.active import MOST_READ
from peers.network.catalogue import AT_ONCE, LONGEST_PAUSE, PAUSE, Catalogue
from peers.network.offers import BadList, read, write
from peers.network.records import Models
from peers.wire import Dialect, Model, NodeId

ALL: frozenset[Dialect] = frozenset({"anthropic", "ollama", "openai"})
LLAMA = Model("llama3:latest", ALL, "a" * 64, 8192, ("completion", "tools"), True, 4_661_224_676)
QWEN = Model("qwen3", frozenset({"openai"}))
A, B, C, D = (NodeId(name) for name in "abcd")


def test_a_list_is_asked_for_once_and_again_when_it_changes() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    assert catalogue.models(A) == ()
    assert catalogue.wanted([(A, said)], 0) == [A]
    assert catalogue.wanted([(A, said)], 0) == []
    assert catalogue.taken(A, told, said, 1) == (LLAMA,) == catalogue.models(A)
    assert catalogue.wanted([(A, said)], 1000) == []
    changed, told = write([LLAMA, QWEN])
    assert catalogue.wanted([(A, changed)], 1000) == [A]
    catalogue.taken(A, told, changed, 1000)
    assert catalogue.models(A) == (LLAMA, QWEN)


def test_who_changes_its_list_all_the_time_is_asked_now_and_then() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    catalogue.wanted([(A, said)], 0)
    catalogue.taken(A, told, said, 0)
    changed, _ = write([QWEN])
    assert catalogue.wanted([(A, changed)], PAUSE - 0.1) == []
    assert catalogue.wanted([(A, changed)], PAUSE) == [A]


def test_two_at_a_time() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    everybody = [(node, said) for node in (A, B, C, D)]
    assert AT_ONCE == 2
    assert catalogue.wanted(everybody, 0) == [A, B]
    assert catalogue.wanted(everybody, 0) == []
    catalogue.taken(B, told, said, 0)
    assert catalogue.wanted(everybody, 0) == [C]
    catalogue.failed(A, 0)
    assert catalogue.wanted(everybody, 0) == [D]


def test_who_offers_nothing_is_not_asked() -> None:
    assert Catalogue().wanted([(A, Models()), (B, Models(0, "0" * 16))], 0) == []


def test_failures_are_tried_again_after_growing_pauses() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    now = 0.0
    for pause in (PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE, LONGEST_PAUSE, LONGEST_PAUSE):
        assert catalogue.wanted([(A, said)], now) == [A]
        catalogue.failed(A, now)
        assert catalogue.wanted([(A, said)], now + pause - 0.1) == []
        now += pause
    assert catalogue.wanted([(A, said)], now) == [A]
    catalogue.taken(A, told, said, now)
    changed, _ = write([QWEN])
    assert catalogue.wanted([(A, changed)], now + PAUSE) == [A]
    catalogue.failed(A, now + PAUSE)
    assert catalogue.wanted([(A, changed)], now + 2 * PAUSE) == [A]


def test_a_bad_list_leaves_the_one_that_is_held() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    catalogue.wanted([(A, said)], 0)
    catalogue.taken(A, told, said, 0)
    changed, _ = write([QWEN])
    assert catalogue.wanted([(A, changed)], 100) == [A]
    with pytest.raises(BadList):
        catalogue.taken(A, told, changed, 100)
    catalogue.failed(A, 100)
    assert catalogue.models(A) == (LLAMA,)
    assert catalogue.wanted([(A, changed)], 100 + PAUSE) == [A]


def test_the_end_of_a_fetch_is_no_failure_when_the_list_was_taken() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    catalogue.wanted([(A, said)], 0)
    catalogue.taken(A, told, said, 0)
    catalogue.failed(A, 0)
    changed, _ = write([QWEN])
    assert catalogue.wanted([(A, changed)], PAUSE) == [A]


def test_whom_nobody_asks_for_any_more_is_forgotten() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    assert catalogue.wanted([(A, said), (B, said)], 0) == [A, B]
    catalogue.taken(A, told, said, 0)
    assert catalogue.nodes() == {A}
    catalogue.forget([A, B, C])
    assert catalogue.models(A) == ()
    assert catalogue.nodes() == set()
    assert catalogue.wanted([(A, said), (B, said)], 0) == [A]


def test_with_the_network_everything_of_others_is_left_behind() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    catalogue.share([QWEN])
    assert catalogue.wanted([(A, said), (B, said), (C, said)], 0) == [A, B]
    catalogue.taken(A, told, said, 0)
    catalogue.clear()
    assert catalogue.models(A) == ()
    assert catalogue.own.count == 1
    assert catalogue.wanted([(A, said), (B, said), (C, said)], 0) == [A, B]


def test_no_more_members_are_looked_at_than_are_read() -> None:
    catalogue = Catalogue()
    said, told = write([LLAMA])
    members = [(NodeId(f"n{number}"), said) for number in range(MOST_READ + 10)]
    Random(1).shuffle(members)
    while chosen := catalogue.wanted(members, 0):
        for node in chosen:
            catalogue.taken(node, told, said, 0)
    assert len(catalogue.nodes()) == MOST_READ


def test_what_is_shared_is_what_the_record_says() -> None:
    catalogue = Catalogue()
    assert (catalogue.own, catalogue.told) == (Models(), b"[]")
    assert catalogue.share([LLAMA]) == catalogue.own
    assert read(catalogue.told, catalogue.own) == (LLAMA,)
    assert catalogue.share([]) == Models()
