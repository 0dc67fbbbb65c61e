"""Calls that a peer answers: handed on as they are, answered from its own upstreams, and never handed on again."""

import asyncio
import json
from pathlib import Path

import pytest

from peers.errors import MasaError
from peers.network.contact import Answer
from peers.network.dialing import Address
from tests.calls import Answered, call, exchange
from tests.fakes import ModelServer
from tests.fleet import address_of, fleet
from tests.nodes import Running
from tests.scripts import DIE, JSON, Script

SHOW = b'{ "model": "llama3",   "verbose": false }'
TOLD = b'{"license": "none",  "model_info": {"general.architecture": "llama"}}'


async def show(asker: Running, body: bytes = SHOW, query: str = "", **headers: str) -> Answered:
    return await exchange("POST", asker.url, f"/api/show{query}", {"Content-Type": "application/json", **headers}, body)


async def post(two: list[Running], path: str, body: bytes = SHOW) -> Answer:
    """A signed request of the first node's own to the second."""
    network = two[0].node.joined.network
    assert network is not None
    place = Address.parse(address_of(two[1]))
    return await network.contact.post(two[1].node.who.id, place, path, body, content_type="application/json", within=5)


async def test_a_peers_model_is_shown_by_that_peer(two: list[Running], model_server: ModelServer) -> None:
    model_server.script("/api/show", Script(headers=JSON, chunks=[TOLD], framing="length"))
    answered = await show(two[0])
    assert (answered.status, answered.body, answered.route) == (200, TOLD, "peer")
    there = two[1].node.who
    assert (answered.headers["X-Masa-Node"], answered.headers["X-Masa-Name"]) == (there.id, there.shown)
    seen = [one for one in model_server.requests if one.path == "/api/show"][-1]
    assert seen.body == SHOW


async def test_a_callers_secrets_and_odd_headers_stay_behind(two: list[Running], model_server: ModelServer) -> None:
    model_server.script("/api/show", Script(headers=JSON, chunks=[TOLD]))
    await show(two[0], query="?verbose=1", Authorization="Bearer canary", Cookie="canary", traceparent="00-ab-cd-01")
    seen = [one for one in model_server.requests if one.path.startswith("/api/show")][-1]
    assert "canary" not in str(seen.headers)
    assert ("traceparent", "00-ab-cd-01") in seen.headers
    assert seen.target.endswith("?verbose=1")


async def test_a_model_that_nobody_has_is_not_found(two: list[Running], model_server: ModelServer) -> None:
    before = len(model_server.requests)
    answered = await show(two[0], b'{"model":"nobodys"}')
    assert answered.status in (404, 503)
    assert len(model_server.requests) == before


async def test_what_a_peer_says_of_its_own_is_passed_on(two: list[Running], model_server: ModelServer) -> None:
    model_server.script("/api/show", Script(status=400, headers=JSON, chunks=[b'{"error":"odd"}']))
    answered = await show(two[0])
    assert (answered.status, answered.body, answered.route) == (400, b'{"error":"odd"}', "peer")


async def test_an_answer_that_breaks_off_never_looks_whole(two: list[Running], model_server: ModelServer) -> None:
    model_server.script("/api/show", Script(headers=JSON, chunks=[TOLD[:20], DIE]))
    answered = await show(two[0])
    assert (answered.status, answered.told["code"]) == (502, "no_answer")


@pytest.mark.parametrize("ask", ["off", "missing"])
async def test_a_caller_may_keep_a_call_here(two: list[Running], model_server: ModelServer, ask: str) -> None:
    answered = await show(two[0], **{"X-Masa-Ask": ask})
    assert answered.status == (200 if ask == "missing" else 404)


async def test_a_misspelt_wish_is_no_wish_to_be_asked_elsewhere(two: list[Running], model_server: ModelServer) -> None:
    answered = await show(two[0], **{"X-Masa-Ask": "Off"})
    assert (answered.status, answered.told["code"]) == (400, "invalid_body")


async def test_only_what_is_shared_and_only_these_paths(two: list[Running]) -> None:
    assert (await post(two, "/peer/v1/forward/api/show")).status == 200
    for path in ("/api/delete", "/api/pull", "/metrics", "/api/show/", "/../api/tags"):
        answer = await post(two, f"/peer/v1/forward{path}")
        assert (answer.status, answer.refused) == (404, "not_found"), path
    answer = await post(two, "/peer/v1/forward/api/show", b'{"model":"secret"}')
    assert (answer.status, answer.refused) == (404, "model_not_found")


async def test_a_model_whose_server_is_down_is_not_unknown(two: list[Running], monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was under way when it fell: its name is right, and another peer may be asked."""
    (upstream,) = two[1].node.own.upstreams
    monkeypatch.setattr(upstream, "rose", lambda: None)  # it is looked at every few seconds
    upstream.fell("it dropped a connection")
    answer = await post(two, "/peer/v1/forward/api/show")
    assert (answer.status, answer.refused) == (502, "upstream_unreachable")
    answer = await post(two, "/peer/v1/forward/api/show", b'{"model":"secret"}')
    assert (answer.status, answer.refused) == (404, "model_not_found")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":1}', b'{"model":"a","Model":"b"}', b'{"model":"../x"}'])
async def test_a_body_that_cannot_be_routed_by_is_refused(two: list[Running], body: bytes) -> None:
    answer = await post(two, "/peer/v1/forward/api/show", body)
    assert answer.status in (400, 401)
    assert answer.refused in ("invalid_body", "invalid_model", "digest")


async def test_a_peer_that_died_is_an_honest_error(two: list[Running], model_server: ModelServer) -> None:
    await two[1].node.joined.leave()
    answered = await show(two[0])
    assert answered.status in (404, 502, 503)
    assert json.loads(answered.body)["code"] in ("model_not_found", "upstream_unreachable", "no_upstream")


async def test_a_caller_who_leaves_stops_the_peers_model(two: list[Running], model_server: ModelServer) -> None:
    held = asyncio.Event()
    model_server.script("/api/show", Script(headers=JSON, chunks=[TOLD[:9], held]))
    before = model_server.open_connections
    asking = asyncio.create_task(show(two[0]))
    await model_server.until(lambda: any(one.path == "/api/show" for one in model_server.requests))
    asking.cancel()
    await asyncio.wait([asking])
    await model_server.until(lambda: model_server.open_connections <= before)


async def test_it_is_never_handed_on_again(tmp_path: Path, model_server: ModelServer) -> None:
    """The one in the middle has no model itself, though it knows who has."""
    async with fleet(tmp_path, {}, {}, {"LLM_CHAT_URL": model_server.url}) as nodes:
        answer = await post(nodes[:2], "/peer/v1/forward/api/show")
        assert (answer.status, answer.refused) == (404, "model_not_found")
        with pytest.raises(MasaError) as refused:
            await nodes[1].node.router.open(call("/api/show", hop=True))
        assert refused.value.code == "loop"


async def test_peers_are_asked_whether_they_serve_what_nobody_is_known_to(
    two: list[Running], model_server: ModelServer
) -> None:
    """Its list was not read: its name alone is asked for, and then the call is handed on."""
    model_server.script("/api/show", Script(headers=JSON, chunks=[TOLD], framing="length"))
    two[0].node.joined.reach.catalogue.models = lambda node: ()  # type: ignore[method-assign, assignment]
    answered = await show(two[0])
    assert (answered.status, answered.body, answered.route) == (200, TOLD, "peer")
