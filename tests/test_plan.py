"""Where a call goes, and where then: the table of plan(), and what a caller may say of it."""

from itertools import product

import pytest

from peers.plan import Step, narrower, plan
from peers.wire import Ask

ASKS: tuple[Ask, ...] = ("busy", "missing", "off")
EVERYTHING = [*product((True, False), (True, False), ASKS, (True, False))]


@pytest.mark.parametrize(
    ("own", "peers", "ask", "steps"),
    [
        (True, True, "busy", ("own", "peers", "own_queue")),
        (True, True, "missing", ("own_queue",)),
        (True, True, "off", ("own_queue",)),
        (True, False, "busy", ("own_queue",)),
        (True, False, "missing", ("own_queue",)),
        (True, False, "off", ("own_queue",)),
        (False, True, "busy", ("peers",)),
        (False, True, "missing", ("peers",)),
        (False, True, "off", ("own_word",)),
        (False, False, "busy", ("whether", "own_word")),
        (False, False, "missing", ("whether", "own_word")),
        (False, False, "off", ("own_word",)),
    ],
)
def test_where_a_callers_call_goes(own: bool, peers: bool, ask: Ask, steps: tuple[Step, ...]) -> None:
    assert plan(own=own, peers=peers, ask=ask, hop=False) == steps


@pytest.mark.parametrize(("own", "peers", "ask"), [*product((True, False), (True, False), ASKS)])
def test_what_another_node_sent_goes_to_own_upstreams_only(own: bool, peers: bool, ask: Ask) -> None:
    assert plan(own=own, peers=peers, ask=ask, hop=True) == ("own_queue",)


@pytest.mark.parametrize(("own", "peers", "ask", "hop"), EVERYTHING)
def test_whatever_is_known(own: bool, peers: bool, ask: Ask, hop: bool) -> None:
    steps = plan(own=own, peers=peers, ask=ask, hop=hop)
    assert len(set(steps)) == len(steps) > 0
    asked = {"peers", "whether"} & set(steps)
    assert not (asked and (hop or ask == "off")), "a prompt left the node, or the question whether, without leave"
    assert not (own and "whether" in steps), "who has the model is known: this node"
    assert not (own and steps[-1] != "own_queue"), "the own upstream's queue is the last resort"


@pytest.mark.parametrize(
    ("operator", "caller", "counts"),
    [
        ("busy", None, "busy"),
        ("busy", "busy", "busy"),
        ("busy", "missing", "missing"),
        ("busy", "off", "off"),
        ("missing", None, "missing"),
        ("missing", "busy", "missing"),
        ("missing", "missing", "missing"),
        ("missing", "off", "off"),
        ("off", None, "off"),
        ("off", "busy", "off"),
        ("off", "missing", "off"),
        ("off", "off", "off"),
    ],
)
def test_a_caller_narrows_and_never_widens(operator: Ask, caller: Ask | None, counts: Ask) -> None:
    assert narrower(operator, caller) == counts
