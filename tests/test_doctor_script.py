"""What eliza says: the rules, and the engine that plays them."""

import re
from itertools import pairwise
from typing import Any

import pytest

from peers.upstreams.doctor_script import DEFAULTS, GROUPS, RULES, answer, turned


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["Hello!"], "Hello. What is on your mind?"),
        (["why is the sky blue?"], "What do you think yourself?"),
        (["Well, I’m sad"], "That sounds hard. What has made you sad?"),
        (["I am not happy"], "Since when are you not happy?"),
        (["My mom left"], "What was your mother like when you were small?"),
        (["a", "I want you to help me"], "Since when do you want me to help you?"),
        (["I dreamt that you were my boss"], "Waking from having dreamed that I was your boss, what stayed with you?"),
        (["Are you an AI?", "Are you an AI?"], "No person, and no language model: a list of rules. Does that change"),
        (["I guess, because of Anna"], "Suppose that reason fell away: what would be left?"),
        (["I went to Paris", "I went to Paris"], "You went to Paris: what led up to it?"),
        (["you are MEAN"], "What gave you the idea that I am MEAN?"),
        (["sorry"], "No harm done. What were you about to say?"),
        (["everyone knows"], "All of them, without one exception?"),
        (["It always rains"], "When was the last time?"),
        (["yes"], "Good. And what follows from that?"),
        (["no"], "What is behind that no?"),
        (["do computers think?"], "How do you get on with machines in daily life?"),
        (["Привет"], DEFAULTS[0]),
        ([""], DEFAULTS[0]),
        (["my cat Tom died.", "hm"], "Let us go back a little. Your cat Tom died: what about that now?"),
        (["my cat died", "hm", "hm"], DEFAULTS[2]),
        (["x " * 600 + "sorry"], DEFAULTS[0]),
    ],
)
def test_what_it_says(said: list[str], expected: str) -> None:
    assert answer(said).startswith(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("i am your friend", "you are my friend"),
        ("you are mine", "I am yours"),
        ("are you angry with you", "am I angry with me"),
        ("I was where you were", "you were where I was"),
        ("me and myself", "you and yourself"),
    ],
)
def test_words_are_turned_round(words: str, expected: str) -> None:
    assert " ".join(turned(tuple(words.split()))) == expected


@pytest.mark.parametrize("rule", {id(rule): rule for rule in RULES.values()}.values())
def test_every_answer_takes_only_what_its_pattern_gives(rule: Any) -> None:
    assert rule.patterns
    for pattern, answers in rule.patterns:
        places = sum(word in ("*", "+") or word in GROUPS for word in pattern)
        assert answers
        assert all(int(number) <= places for text in answers for number in re.findall(r"\((\d)\)", text))


@pytest.mark.parametrize("text", ["blah", "why?", "i am here", "my house"])
def test_it_does_not_say_the_same_twice_in_a_row(text: str) -> None:
    answers = [answer([text] * turns) for turns in range(1, 9)]
    assert all(one != other for one, other in pairwise(answers))
