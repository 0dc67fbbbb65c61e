"""Model lists as nodes tell them: written, and read strictly."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peers.network.carrier import Identified
from peers.network.contact import LARGEST_ANSWER
from peers.network.offers import LARGEST, LARGEST_OWN, MOST_MODELS, BadList, list_hash, read, write
from peers.network.records import LONGEST_SEALED, Models
from peers.wire import Dialect, Model, NodeId

ALL: frozenset[Dialect] = frozenset({"anthropic", "ollama", "openai"})
LLAMA = Model("llama3:latest", ALL, "a" * 64, 8192, ("completion", "tools"), True, 4_661_224_676)
QWEN = Model("qwen3", frozenset({"openai"}))
A, B, C, D = (NodeId(name) for name in "abcd")


def listed(*offers: object) -> bytes:
    return json.dumps(offers).encode()


def said_of(told: bytes, count: int = 1) -> Models:
    return Models(count, list_hash(told))


def offer(**changes: object) -> dict[str, object]:
    return {"name": "m", "dialects": ["ollama"]} | changes


def refusal(told: bytes, said: Models) -> str | None:
    try:
        read(told, said)
    except BadList as error:
        return error.code
    return None


# Written


def test_a_list_is_read_as_it_was_written() -> None:
    said, told = write([QWEN, LLAMA])
    assert read(told, said) == (LLAMA, QWEN)
    assert said == Models(2, list_hash(told))
    assert json.loads(told)[1] == {"name": "qwen3", "dialects": ["openai"]}


def test_the_order_of_the_models_does_not_matter() -> None:
    assert write([LLAMA, QWEN]) == write([QWEN, LLAMA])
    assert write([LLAMA]) != write([replace(LLAMA, loaded=False)])


def test_no_models_have_no_hash() -> None:
    assert write([]) == (Models(), b"[]")


def test_one_name_is_told_once_in_the_dialects_of_all() -> None:
    said, told = write([replace(LLAMA, dialects=frozenset({"ollama"})), Model("llama3:latest", frozenset({"openai"}))])
    assert read(told, said) == (replace(LLAMA, dialects=frozenset({"ollama", "openai"})),)


@pytest.mark.parametrize("name", ["", "m" * 129, "\x1b[31mred", "m\n", "\u202egnp.exe", "\ud800"])
def test_names_that_cannot_be_told_are_left_out(name: str) -> None:
    said, told = write([Model(name, ALL), QWEN])
    assert read(told, said) == (QWEN,)


def test_odd_facts_are_left_out_and_the_model_is_told() -> None:
    words = tuple(f"c{number}" for number in range(20))
    odd = Model("m", ALL, "no digest\n", 2**60, ("a b", "", "ä", *words), None, -1)
    said, told = write([odd])
    assert read(told, said) == (Model("m", ALL, capabilities=words[:16]),)


def test_at_most_512_are_told() -> None:
    said, told = write(Model(f"m{number:04}", ALL) for number in range(MOST_MODELS + 100))
    assert said.count == MOST_MODELS
    assert [model.name for model in read(told, said)] == [f"m{number:04}" for number in range(MOST_MODELS)]


def test_a_list_of_the_largest_entries_fits_an_answer() -> None:
    words = tuple("w" * 30 + f"{number:02}" for number in range(16))
    many = [Model("\u4e00" * 120 + f"{number:03}", ALL, "d" * 128, 2**53, words, True, 2**53) for number in range(512)]
    said, told = write(many)
    assert LARGEST_OWN - 1500 < len(told) <= LARGEST_OWN
    assert len(read(told, said)) == said.count < 512
    answer = Identified("r" * LONGEST_SEALED, "f" * 45, msgspec.Raw(told))
    assert len(msgspec.json.encode(answer)) <= LARGEST_ANSWER


# Read


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"[" * 100_000,
        b'[{"name":"\xff","dialects":[]}]',
        b'[{"name":"m","dialects":[],"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}]",
        b'[{"name":"m","dialects":[],"size":NaN}]',
        b'[{"name":"m","dialects":[],"size":' + b"9" * 5000 + b"}]",
        listed({"name": "m"}),
        listed({"dialects": []}),
        *(
            listed(offer(**changes))
            for changes in (
                {"name": ""},
                {"name": "m" * 129},
                {"name": "\x1b[2J"},
                {"name": "m\u202e"},
                {"name": None},
                {"dialects": "ollama"},
                {"dialects": ["a b"]},
                {"dialects": ["o" * 33]},
                {"dialects": ["ollama"] * 9},
                {"size": 0},
                {"size": -1},
                {"size": 1.5},
                {"size": 2**53 + 1},
                {"context": "8192"},
                {"context": True},
                {"digest": "d" * 129},
                {"digest": "d\n"},
                {"digest": 7},
                {"capabilities": ["tools"] * 17},
                {"capabilities": ["\x07"]},
                {"capabilities": [None]},
                {"loaded": 1},
            )
        ),
    ],
    ids=lambda told: told[:40],
)
def test_what_is_no_list_is_refused(told: bytes) -> None:
    assert refusal(told, said_of(told)) == "malformed"


def test_a_list_over_a_limit_is_refused() -> None:
    many = listed(*(offer(name=f"m{number}") for number in range(MOST_MODELS + 1)))
    assert refusal(many, Models(MOST_MODELS, list_hash(many))) == "malformed"
    large = listed(offer(more="x" * LARGEST))
    assert refusal(large, said_of(large)) == "too_large"
    largest = listed(offer()).ljust(LARGEST)
    assert refusal(largest, said_of(largest)) is None


def test_it_must_be_the_list_that_the_record_names() -> None:
    told = listed(offer())
    assert refusal(told + b" ", said_of(told)) == "other_list"
    assert refusal(told, Models()) == "other_list"
    assert refusal(told, said_of(told, count=2)) == "malformed"


def test_a_name_stands_once() -> None:
    told = listed(offer(), offer(size=1))
    assert refusal(told, said_of(told, 2)) == "malformed"


def test_what_later_versions_tell_is_passed_over() -> None:
    told = listed(offer(dialects=["ollama", "telepathy", "any"], licence={"spdx": "MIT"}))
    assert read(told, said_of(told)) == (Model("m", frozenset({"ollama"})),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
WORDS = st.lists(st.sampled_from(["ollama", "openai", "x", "a b", ""]) | st.text(max_size=40), max_size=20)
OFFERS = st.fixed_dictionaries(
    {"name": st.text(max_size=140), "dialects": WORDS},
    optional={
        "size": st.integers() | JSON,
        "digest": st.text(max_size=140) | JSON,
        "context": st.integers() | JSON,
        "capabilities": WORDS | JSON,
        "loaded": st.booleans() | JSON,
        "later": JSON,
    },
)


def holds(told: bytes, count: int) -> None:
    """It is refused, or what was read can be told again and shown to people."""
    try:
        models = read(told, said_of(told, count))
    except BadList:
        return
    assert len(models) == count <= MOST_MODELS
    said, again = write(models)
    assert said.count == count
    assert not count or sorted(read(again, said), key=str) == sorted(models, key=str)
    assert all(model.name.isprintable() and len(model.name) <= 128 for model in models)
    msgspec.json.encode([model.name for model in models])


@given(st.binary(max_size=300), st.integers(0, 3))
def test_any_bytes_are_refused_or_read(told: bytes, count: int) -> None:
    holds(told, count)


@given(st.lists(OFFERS | JSON, max_size=4))
@settings(max_examples=400)
def test_anything_like_a_list_is_refused_or_read(offers: list[Any]) -> None:
    holds(json.dumps(offers).encode(), len(offers))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_list_that_was_damaged_is_refused_or_read(at: int, bytes_: bytes) -> None:
    told = bytearray(write([LLAMA, QWEN])[1])
    told[at % len(told) : at % len(told) + len(bytes_)] = bytes_
    holds(bytes(told), 2)


@given(
    st.lists(
        st.builds(
            Model,
            name=st.text(max_size=140),
            dialects=st.frozensets(st.sampled_from(sorted(ALL))),
            digest=st.none() | st.text(max_size=140),
            context=st.none() | st.integers(),
            capabilities=st.lists(st.text(max_size=40), max_size=20).map(tuple),
            loaded=st.none() | st.booleans(),
            size=st.none() | st.integers(),
        ),
        max_size=8,
    )
)
def test_whatever_a_server_says_a_list_that_peers_take_comes_of_it(models: list[Model]) -> None:
    said, told = write(models)
    read_back = read(told, said) if said.count else ()
    assert {model.name for model in read_back} == {
        m.name for m in models if m.name.isprintable() and 0 < len(m.name) < 129
    }
