"""Which bodies of peers a node refuses, and for which field."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from peers.doors import BY_PATH, DOORS
from peers.network.policy import refusal

CONTEXT = 8192
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused(
    body: object, path: str = "/api/chat", *, strangers: bool = True, context: int | None = CONTEXT
) -> str | None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal(raw, BY_PATH[path], strangers=strangers, advertised_context=context)


HI = [{"role": "user", "content": "Hi"}]
FOR_ALL: list[tuple[str, str | bytes | dict[str, Any], str | None]] = [
    ("/api/chat", {"messages": HI}, None),
    ("/api/chat", {"messages": []}, None),
    ("/api/chat", {"messages": [], "keep_alive": 0}, "keep_alive"),
    ("/v1/api/chat", {"messages": [], "keep_alive": 0}, "keep_alive"),
    ("/api/chat", {"keep_alive": 0}, "keep_alive"),
    ("/api/chat", {"keep_alive": -0.0}, "keep_alive"),
    ("/api/chat", {"keep_alive": 0.4}, "keep_alive"),
    ("/api/chat", {"keep_alive": "0"}, "keep_alive"),
    ("/api/chat", {"keep_alive": "-0s"}, "keep_alive"),
    ("/api/chat", {"keep_alive": "0h0m"}, "keep_alive"),
    ("/api/chat", {"keep_alive": "400ms"}, "keep_alive"),
    ("/api/chat", {"messages": None, "keep_alive": 0}, "keep_alive"),
    ("/api/chat", {"messages": 5, "keep_alive": 0}, "keep_alive"),
    ("/api/chat", {"prompt": "Hi", "keep_alive": 0}, "keep_alive"),
    ("/api/chat", {"messages": [], "Keep_Alive": 0}, "keep_alive"),
    ("/api/chat", {"messages": [], "\u212aeep_alive": 0}, "keep_alive"),
    ("/api/chat", {"messages": HI, "MESSAGES": [], "keep_alive": 0}, "keep_alive"),
    ("/api/chat", {"messages": HI, "me\u017f\u017fages": [], "keep_alive": 0}, "keep_alive"),
    ("/api/chat", {"messages": [], "keep_alive": 0, "keep_aliv\u0435": "5m"}, "keep_alive"),
    ("/api/chat", b'{"messages":[ ],"keep_alive":5,"keep_alive":0}', "keep_alive"),
    ("/api/chat", b'{"messages":[1],"messages":[],"keep_alive":0}', "keep_alive"),
    ("/api/chat", rb'{"messages":[],"\u006beep_alive":0}', "keep_alive"),
    ("/api/chat", rb'{"messages":[],"keep_alive":0,"x":"\udc00"}', "keep_alive"),
    ("/api/chat", rb'{"messages":[],"keep_alive":0,"\ud800x\\ud800":{"x":"\ud83d\ude00"}}', "keep_alive"),
    ("/api/chat", b'{"messages":[],"keep_alive":0,"keep_alive":5}', None),
    ("/api/chat", {"messages": [], "options": {"keep_alive": 0}}, None),
    ("/api/chat", {"messages": [], "keep_alive": "5m"}, None),
    ("/api/generate", {"keep_alive": 0}, "keep_alive"),
    ("/api/generate", {"prompt": "", "keep_alive": 0}, "keep_alive"),
    ("/api/generate", {"prompt": "", "messages": HI, "keep_alive": "0s"}, "keep_alive"),
    ("/api/generate", {"prompt": " "}, None),
    ("/api/show", {"keep_alive": 0}, None),
    ("/v1/chat/completions", {"keep_alive": 0, "raw": True}, None),
    ("/v1/messages", {"keep_alive": 0, "template": "x"}, None),
    ("/api/chat", b"[]", "body"),
    ("/api/chat", b"", "body"),
    ("/api/chat", b'{"x":NaN}', "body"),
    ("/api/chat", b'{"\xff":1}', "body"),
    ("/api/chat", b'{"x":' + b"[" * 100_000, "body"),
]
OWNERS: list[tuple[str, dict[str, Any] | bytes]] = [
    ("/api/chat", b'{"messages":[],"messages":[1],"keep_alive":0}'),
    ("/api/chat", {"messages": HI, "keep_alive": -1}),
    ("/api/chat", {"messages": [], "keep_alive": -1}),
    ("/api/chat", {"messages": HI, "keep_alive": 0}),
    ("/api/generate", {"prompt": "Hi", "keep_alive": 0}),
    ("/api/chat", {"messages": [], "keep_alive": "nonsense"}),
    ("/api/chat", {"messages": [], "keep_alive": "-1s"}),
    ("/api/chat", {"messages": HI, "keep_alive": "24h", "options": {"num_ctx": 131072, "num_gpu": 99}}),
    ("/api/generate", {"prompt": "Hi", "raw": True, "template": "{{ .Prompt }}"}),
    ("/api/embed", {"input": "Hi", "keep_alive": 0}),
]
STRANGERS: list[tuple[dict[str, Any] | bytes, str | None]] = [
    ({"keep_alive": None, "raw": None, "template": None, "options": None}, None),
    ({"keep_alive": "5m", "raw": False, "template": "", "options": {}}, None),
    ({"keep_alive": 600}, None),
    ({"keep_alive": "10m"}, None),
    ({"keep_alive": "+9m59.9s"}, None),
    ({"keep_alive": "1s"}, None),
    ({"keep_alive": 601}, "keep_alive"),
    ({"keep_alive": "10m1ns"}, "keep_alive"),
    ({"keep_alive": "1h30m"}, "keep_alive"),
    ({"keep_alive": "24h"}, "keep_alive"),
    ({"keep_alive": "36000000ms"}, "keep_alive"),
    ({"keep_alive": "700000000µs"}, "keep_alive"),
    ({"keep_alive": "700000000μs"}, "keep_alive"),
    ({"keep_alive": -1}, "keep_alive"),
    ({"keep_alive": "-1s"}, "keep_alive"),
    ({"keep_alive": "-1h"}, "keep_alive"),
    ({"keep_alive": 0}, "keep_alive"),
    ({"keep_alive": "0s"}, "keep_alive"),
    ({"keep_alive": 36028797018963968}, "keep_alive"),
    (b'{"keep_alive":1e400}', "keep_alive"),
    ({"keep_alive": 10**400}, "keep_alive"),
    ({"keep_alive": True}, "keep_alive"),
    ({"keep_alive": [5]}, "keep_alive"),
    ({"keep_alive": ""}, "keep_alive"),
    ({"keep_alive": "5"}, "keep_alive"),
    ({"keep_alive": "5 m"}, "keep_alive"),
    ({"keep_alive": "5m "}, "keep_alive"),
    ({"keep_alive": ".s"}, "keep_alive"),
    ({"keep_alive": "5d"}, "keep_alive"),
    ({"keep_alive": "٥m"}, "keep_alive"),
    ({"keep_alive": "0" * 64 + "5m"}, "keep_alive"),
    ({"KEEP_ALIVE": -1}, "keep_alive"),
    ({"keep_alive": "5m", "Keep_alive": -1}, "keep_alive"),
    ({"Keep_alive": -1, "keep_alive": "5m"}, "keep_alive"),
    (b'{"keep_alive":-1,"keep_alive":"5m"}', None),
    (b'{"keep_alive":"5m","keep_alive":-1}', "keep_alive"),
    ({"raw": True}, "raw"),
    ({"Raw": True}, "raw"),
    ({"raw": 1}, "raw"),
    (b'{"raw":true,"raw":false}', None),
    (b'{"raw":true,"raw":null}', "raw"),
    ({"template": "{{ .Prompt }}"}, "template"),
    ({"template": []}, "template"),
    (b'{"template":"x","template":null}', "template"),
    ({"options": {"temperature": 0, "num_predict": -1, "seed": 7}}, None),
    ({"options": {"num_gpu": 0}}, "options.num_gpu"),
    ({"options": {"num_gpu": None}}, None),
    ({"options": {"NUM_GPU": 1}}, "options.num_gpu"),
    ({"Option\u017f": {"num_gpu": 1}}, "options.num_gpu"),
    (b'{"options":{"num_gpu":1},"options":{}}', "options.num_gpu"),
    (b'{"options":{"num_gpu":1},"options":null}', "options.num_gpu"),
    ({"options": {"num_ctx": CONTEXT}}, None),
    ({"options": {"num_ctx": CONTEXT + 1}}, "options.num_ctx"),
    ({"options": {"num_ctx": 0.5 + CONTEXT}}, "options.num_ctx"),
    ({"options": {"num_ctx": str(CONTEXT)}}, "options.num_ctx"),
    ({"options": {"num_ctx": True}}, "options.num_ctx"),
    ({"options": {"num_ctx": 10**400}}, "options.num_ctx"),
    (b'{"options":{"num_ctx":99999,"num_ctx":1}}', None),
    (b'{"options":{"num_ctx":1},"options":{"num_ctx":99999}}', "options.num_ctx"),
    ({"options": []}, "options"),
    ({"options": "num_gpu"}, "options"),
    ({"num_gpu": 1, "num_ctx": 99999}, None),
    ({"messages": [{"raw": True, "template": "x", "keep_alive": -1}]}, None),
    ({"raw": True, "keep_alive": -1}, "keep_alive"),
]


@pytest.mark.parametrize("strangers", [True, False])
@pytest.mark.parametrize(("path", "body", "field"), FOR_ALL)
def test_nobody_unloads_a_model(path: str, body: object, field: str | None, strangers: bool) -> None:
    assert refused(body, path, strangers=strangers) == field


@pytest.mark.parametrize(("path", "body"), OWNERS)
def test_one_owners_machines_send_what_ordinary_clients_do(path: str, body: dict[str, Any] | bytes) -> None:
    assert refused(body, path, strangers=False) is None
    assert refused(body, path, strangers=True) is not None


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/embed", "/api/v1/chat"])
@pytest.mark.parametrize(("body", "field"), STRANGERS)
def test_what_strangers_may_say(body: dict[str, Any] | bytes, field: str | None, path: str) -> None:
    full = body if isinstance(body, bytes) else {"messages": HI, "prompt": "Hi", "input": "Hi", **body}
    assert refused(full, path) == field
    if isinstance(body, bytes):
        assert refused(body.replace(b"{", b'{"messages":[1],"prompt":"Hi",', 1), path, strangers=False) is None


@pytest.mark.parametrize(("context", "most"), [(None, 4096), (2048, 2048), (131072, 131072)])
def test_no_more_context_than_is_advertised(context: int | None, most: int) -> None:
    assert refused({"options": {"num_ctx": most}}, context=context) is None
    assert refused({"options": {"num_ctx": most + 1}}, context=context) == "options.num_ctx"


@unhurried
@given(
    hours=st.integers(0, 3),
    minutes=st.integers(0, 70),
    seconds=st.decimals(0, 70, places=3),
    sign=st.sampled_from(["", "+", "-"]),
)
def test_durations_are_summed(hours: int, minutes: int, seconds: object, sign: str) -> None:
    whole = hours * 3600 + minutes * 60 + float(str(seconds))
    may = sign != "-" and 1 <= whole <= 600
    body = {"messages": HI, "keep_alive": f"{sign}{hours}h{minutes}m{seconds}s"}
    assert refused(body) == (None if may else "keep_alive")
    drops = whole == 0 or (whole < 1 and sign != "-")
    assert refused(body | {"messages": []}, strangers=False) == ("keep_alive" if drops else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["keep_alive", "messages", "prompt", "options", "raw", "template", "x"])


@unhurried
@given(body=st.dictionaries(FIELDS, JSON), path=st.sampled_from([door.path for door in DOORS]), strangers=st.booleans())
def test_any_body_is_judged(body: dict[str, object], path: str, strangers: bool) -> None:
    found = refused(body, path, strangers=strangers)
    assert found is None or found.partition(".")[0] in (*body, "keep_alive", "body")
    if found is None and strangers:
        assert refused(body, path, strangers=False) is None


@unhurried
@given(body=st.binary(), strangers=st.booleans())
@example(body=b'{"keep_alive":', strangers=True)
def test_any_bytes_are_judged(body: bytes, strangers: bool) -> None:
    assert refused(body, strangers=strangers) in ("body", None)


@unhurried
@given(name=st.sampled_from(["keep_alive", "raw", "template", "options"]), flips=st.lists(st.booleans(), min_size=16))
def test_no_spelling_gets_by(name: str, flips: list[bool]) -> None:
    spelled = "".join(letter.upper() if flip else letter for letter, flip in zip(name, flips, strict=False))
    bad: dict[str, object] = {"keep_alive": -1, "raw": True, "template": "x", "options": {"num_gpu": 1}}
    good: dict[str, object] = {"keep_alive": 5, "raw": False, "template": "", "options": {}}
    found = refused({"messages": HI, name: good[name], spelled: bad[name]})
    assert found is not None
    assert found.startswith(name)
