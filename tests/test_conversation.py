"""Who gave the last turn: a longer conversation finds it, another one does not, and no text is kept."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from peers import conversation
from peers.conversation import LastTurns, prefixes
from peers.wire import NodeId
from tests.calls import call

A, B = NodeId("node-a"), NodeId("node-b")

MESSAGES = st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls"]), st.text(max_size=20) | st.lists(st.integers(), max_size=3)
)
TALKS = st.lists(MESSAGES, min_size=1, max_size=12)


def talk(messages: Any, model: str = "llama3", **more: Any) -> list[bytes]:
    return prefixes(call(model=model, body=json.dumps({"model": model, "messages": messages, **more}).encode()))


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


@given(TALKS, st.lists(MESSAGES, min_size=1, max_size=conversation.MOST_NEW))
def test_a_longer_conversation_finds_who_answered_the_shorter(
    before: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    turns = LastTurns()
    turns.answered(talk(before), A)
    assert turns.of(talk(before + more)) == A
    assert turns.of(talk(before + more, stream=True, options={"seed": 1})) == A


@given(TALKS, TALKS)
def test_another_conversation_does_not(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assume(other[: len(one)] != one)
    turns = LastTurns()
    turns.answered(talk(one), A)
    assert turns.of(talk(other)) is None


def test_another_model_is_another_conversation() -> None:
    turns = LastTurns()
    turns.answered(talk(said("hello")), A)
    assert turns.of(talk(said("hello", "hi", "more"), model="qwen3")) is None


def test_the_latest_turn_counts() -> None:
    turns = LastTurns()
    turns.answered(talk(said("one")), A)
    turns.answered(talk(said("one", "two", "three")), B)
    assert turns.of(talk(said("one", "two", "three", "four", "five"))) == B
    assert turns.of(talk(said("one", "other", "three"))) == A


def test_the_same_question_again_is_no_later_turn() -> None:
    turns = LastTurns()
    turns.answered(talk(said("one")), A)
    assert turns.of(talk(said("one"))) is None


def test_messages_do_not_run_into_each_other() -> None:
    """Two messages are not one whose text looks like both."""
    turns = LastTurns()
    turns.answered(talk([1, 23]), A)
    assert turns.of(talk([12, 3, 4])) is None
    assert turns.of(talk([123, 4])) is None
    assert turns.of(talk([1, 23, 4])) == A


@given(TALKS, st.sampled_from([None, 1, "\t"]))
def test_how_the_body_is_written_does_not_matter_around_the_messages(
    before: list[dict[str, Any]], indent: int | str | None
) -> None:
    turns = LastTurns()
    turns.answered(talk(before), A)
    whole = ",\n ".join(json.dumps(message) for message in [*before, {"role": "user", "content": "and?"}])
    assert turns.of(prefixes(call(body=f'{{\n  "messages" : [ {whole} ] , "model":"llama3" }}'.encode()))) == A


ODD = [
    b"",
    b"[]",
    b"null",
    b"{",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'{"messages":null}',
    b'{"messages":{}}',
    b'{"messages":"hello"}',
    b'{"messages":[]}',
    b'{"messages":[null,1,"\xff"]}',
    b'{"prompt":"hello"}',
    b'{"messages":' + b"[" * 100_000,
    b'{"messages":[' + b'{"a":' * 100_000,
]


@given(st.binary(max_size=200) | st.sampled_from(ODD))
def test_an_odd_body_is_no_conversation_and_nobody_falls(body: bytes) -> None:
    turns = LastTurns()
    turns.answered(prefixes(call(body=body)), A)
    assert turns.of(prefixes(call(body=body))) is None


@pytest.mark.parametrize("body", ODD, ids=lambda body: repr(body[:24]))
def test_each_of_these_odd_bodies_too(body: bytes) -> None:
    turns = LastTurns()
    turns.answered(prefixes(call(body=body)), A)
    assert turns.of(prefixes(call(body=body))) is None


def test_a_body_over_the_limit_is_not_looked_at() -> None:
    turns = LastTurns()
    long = said("x" * conversation.LONGEST)
    turns.answered(talk(long), A)
    assert turns.of(talk([*long, *said("more")])) is None


@given(TALKS)
def test_no_text_is_kept(before: list[dict[str, Any]]) -> None:
    turns = LastTurns()
    turns.answered(talk([*before, *said("a-canary-in-the-coal-mine")]), A)
    kept = turns._answered
    assert {len(key) for key in kept} == {16}
    assert "canary" not in repr(kept)


def test_beyond_its_bound_the_oldest_is_forgotten() -> None:
    turns = LastTurns()
    for number in range(conversation.MOST + 1):
        turns.answered(talk(said(f"question {number}")), A)
    assert turns.of(talk(said("question 0", "answer", "more"))) is None
    assert turns.of(talk(said("question 1", "answer", "more"))) == A
    assert turns.of(talk(said(f"question {conversation.MOST}", "answer", "more"))) == A
