"""Serving peers: what is taken, what is refused and by which code, who gives way, and that nothing is left behind."""

import asyncio
import gzip
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from masa_node.commands.run import Stop, drain
from peers.http1.errors import Broken
from peers.upstreams.link import read_whole
from tests.calls import HELLO, ask, exchange
from tests.fakes import ModelServer
from tests.fleet import fleet
from tests.nodes import Running
from tests.scripts import DIE, HANG, JSON, NDJSON, Script, answer, busy
from tests.visiting import SOON, Visitor, chat, in_work, visiting
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("way")
INPUT = {"input": "why?"}
BODIES = [
    *(("/api/chat", {**HELLO, "stream": stream}) for stream in (True, False)),
    ("/api/chat", HELLO),
    ("/api/generate", {"prompt": "why?"}),
    ("/api/embed", INPUT),
    ("/api/embeddings", {"prompt": "why?"}),
    ("/api/show", {"verbose": False}),
    *(("/v1/chat/completions", {**HELLO, "stream": stream}) for stream in (True, False)),
    ("/v1/completions", {"prompt": "why?", "stream": True}),
    ("/v1/embeddings", INPUT),
    *(("/v1/responses", {**INPUT, "stream": stream}) for stream in (True, False)),
    *(("/v1/messages", {**HELLO, "max_tokens": 9, "stream": stream}) for stream in (True, False)),
    ("/v1/messages/count_tokens", HELLO),
    ("/v1/api/chat", HELLO),
    ("/api/v1/chat", HELLO),
]
HELD = Script(chunks=[HANG])
NEVER = Script(before_head=[HANG])


async def test_every_dialect_crosses_byte_for_byte(visitor: Visitor, model_server: ModelServer) -> None:
    for number, (path, fields) in enumerate(BODIES):
        body = b'{ "model" : "llama3",\n  "\\u006fdd": 1.50, ' + msgspec.json.encode(fields)[1:]
        direct = "/api/chat" if path in ("/v1/api/chat", "/api/v1/chat") else path
        expected = await exchange("POST", model_server.url, direct, {}, body)
        got = await visitor.ask(path, body, deadline_ms=20_000 + number)
        assert (got.status, got.body) == (expected.status, expected.body), path
        assert got.headers["content-type"] == expected.headers["Content-Type"]
        seen = model_server.requests[-1]
        assert (seen.path, seen.body) == (direct, body)
        assert got.refused is None


async def test_each_chunk_goes_out_as_it_comes(visitor: Visitor, model_server: ModelServer) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    model_server.next(Script(headers=NDJSON, chunks=[b'{"a":1}\n', gates[0], b'{"b":2}\n', gates[1], b'{"c":3}\n']))
    with closing(await visitor.open()) as got:
        assert await got.read() == b'{"a":1}\n'
        assert visitor.server.node.bodies.held == 0
        gates[0].set()
        assert await got.read() == b'{"b":2}\n'
        gates[1].set()
        assert await read_whole(got, 1 << 20) == b'{"c":3}\n'


async def test_a_compressed_body_crosses_as_it_is(visitor: Visitor, model_server: ModelServer) -> None:
    body = gzip.compress(chat())
    got = await visitor.ask(body=body, headers={"content-encoding": "gzip"})
    assert got.refused is None
    assert model_server.inferences[-1].body == body
    bad = gzip.compress(b'{"model":"llama3","messages":[],"keep_alive":0}')
    refused = await visitor.ask(body=bad, headers={"content-encoding": "gzip"})
    assert (refused.status, refused.refused) == (403, "refused_by_peer")


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_what_its_upstream_says_has_no_code_of_ours(
    visitor: Visitor, model_server: ModelServer, status: int
) -> None:
    model_server.next(answer({"error": "odd"}, status))
    got = await visitor.ask()
    assert (got.status, got.body, got.refused) == (status, b'{"error":"odd"}', None)


REFUSALS: list[tuple[str, bytes | None, dict[str, Any], int, str]] = [
    ("/api/delete", None, {}, 404, "not_found"),
    ("/api/pull", None, {}, 404, "not_found"),
    ("/api/blobs/sha256:00", None, {}, 404, "not_found"),
    ("/api/tags", None, {}, 404, "not_found"),
    ("/v1/models", None, {}, 404, "not_found"),
    ("/api/chat/", None, {}, 404, "not_found"),
    ("/api/chat", b"[]", {}, 400, "invalid_body"),
    ("/api/chat", b'{"model":"llama3","Model":"x"}', {}, 400, "invalid_body"),
    ("/api/chat", chat("../../api/delete"), {}, 400, "invalid_model"),
    ("/api/chat", chat("@cf/../../client/v4"), {}, 400, "invalid_model"),
    ("/api/chat", chat("other"), {}, 404, "model_not_found"),
    ("/api/v1/chat/cf", chat(), {}, 400, "invalid_model"),
    ("/api/chat", b'{"model":"llama3","messages":[],"keep_alive":0}', {}, 403, "refused_by_peer"),
    ("/api/chat", None, {"kind": "text/plain"}, 415, "unsupported_media_type"),
    ("/api/chat", None, {"deadline_ms": 0}, 504, "deadline"),
    ("/api/chat", None, {"deadline_ms": 999_999_999}, 400, "malformed"),
    ("/api/chat", None, {"headers": {"masa-query": "a b HTTP/1.1"}}, 400, "malformed"),
    ("/api/chat", None, {"headers": {"masa-query": "a#b"}}, 400, "malformed"),
    ("/api/chat", None, {"headers": {"content-encoding": "br"}}, 415, "unsupported_encoding"),
]


async def test_every_refusal_says_its_code_and_no_upstream_hears_of_it(
    visitor: Visitor, model_server: ModelServer
) -> None:
    before = len(model_server.inferences)
    for path, body, more, status, code in REFUSALS:
        got = await visitor.ask(path, body, **more)
        assert (got.status, got.refused) == (status, code), (path, body, more)
        assert len(got.body) < 2048
    refused = await visitor.ask(body=b'{"model":"llama3","messages":[],"keep_alive":0}')
    assert b"keep_alive" in refused.body
    assert len(model_server.inferences) == before


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(model_server: ModelServer, tmp_path: Path) -> None:
    small = {"LLM_CHAT_URL": model_server.url, "MAX_BODY_BYTES": "2048", "MAX_BODY_MEMORY": "2048"}
    async with fleet(tmp_path, {}, small) as nodes, visiting(*nodes) as visitor:
        got = await visitor.ask(body=chat(more="x" * 2048))
        assert (got.status, got.refused) == (413, "body_too_large")


async def test_it_is_busy_at_once_when_its_places_are_taken(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(NEVER)
    held = await visitor.visit()
    await in_work(model_server)
    started = asyncio.get_running_loop().time()
    got = await visitor.ask()
    assert (got.status, got.refused, got.headers["retry-after"]) == (503, "busy", "1")
    assert asyncio.get_running_loop().time() - started < SOON
    assert len(model_server.inferences) == 1
    assert not held.task.done()


async def test_an_own_callers_place_is_not_for_peers(
    two: list[Running], visitor: Visitor, model_server: ModelServer
) -> None:
    gate = asyncio.Event()
    model_server.next(Script(before_head=[gate], headers=JSON, chunks=[b"{}"]))
    own = asyncio.create_task(ask(two[1].url, "/api/chat"))
    await in_work(model_server)
    assert (await visitor.ask()).refused == "busy"
    gate.set()
    assert (await own).status == 200
    assert (await visitor.ask()).refused is None


async def test_a_call_without_its_first_byte_gives_way(
    two: list[Running], visitor: Visitor, model_server: ModelServer
) -> None:
    model_server.next(HELD)
    visit = await visitor.visit()
    await in_work(model_server)
    own = await ask(two[1].url, "/api/chat")
    assert own.status == 200
    got = await visit.answer()
    assert (got.status, got.refused, got.headers["retry-after"]) == (503, "busy", "1")
    await asyncio.wait_for(model_server.inferences[0].abandoned.wait(), SOON)


async def test_a_call_whose_answer_has_begun_does_not(
    two: list[Running], visitor: Visitor, model_server: ModelServer
) -> None:
    gate = asyncio.Event()
    model_server.next(Script(headers=NDJSON, chunks=[b'{"a":1}\n', gate, b'{"b":2}\n']))
    with closing(await visitor.open()) as got:
        assert await got.read() == b'{"a":1}\n'
        own = await ask(two[1].url, "/api/chat")
        assert own.status == 200
        gate.set()
        assert await read_whole(got, 1 << 20) == b'{"b":2}\n'


async def test_a_request_that_was_sent_before_is_refused(visitor: Visitor, model_server: ModelServer) -> None:
    assert (await visitor.ask(request_id="once")).refused is None
    again = await visitor.ask(request_id="once")
    assert (again.status, again.refused) == (409, "duplicate")
    assert len(model_server.inferences) == 1


async def test_its_asker_gives_up_before_the_first_byte(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(HELD)
    started = asyncio.get_running_loop().time()
    got = await visitor.ask(deadline_ms=300)
    assert (got.status, got.refused) == (504, "deadline")
    assert 0.25 < asyncio.get_running_loop().time() - started < 3
    await asyncio.wait_for(model_server.inferences[0].abandoned.wait(), SOON)


async def test_a_deadline_is_over_with_the_first_byte(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(Script(headers=NDJSON, chunks=[b'{"a":1}\n', 1.3, b'{"b":2}\n']))
    assert (await visitor.ask(deadline_ms=1000)).body == b'{"a":1}\n{"b":2}\n'


async def test_an_asker_who_leaves_stops_the_model(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(HELD)
    visit = await visitor.visit()
    await in_work(model_server)
    visit.task.cancel()
    await asyncio.wait_for(model_server.inferences[0].abandoned.wait(), SOON)


async def test_what_breaks_off_is_cut_and_says_no_more(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(Script(headers=NDJSON, chunks=[b'{"a":1}\n', DIE]))
    with closing(await visitor.open()) as got:
        assert await got.read() == b'{"a":1}\n'
        with pytest.raises(Broken):
            await read_whole(got, 1 << 20)


async def test_what_breaks_off_before_its_first_byte_is_our_word(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(Script(headers=NDJSON, chunks=[DIE]))
    got = await visitor.ask()
    assert (got.status, got.refused) == (502, "upstream_broken")


async def test_a_server_that_is_full_is_told_as_it_says_it(visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(busy(503, 7))
    got = await visitor.ask()
    assert (got.status, got.refused, got.headers["retry-after"]) == (503, None, "7")


async def test_an_operator_may_let_more_peers_in(model_server: ModelServer, tmp_path: Path) -> None:
    settings = {"LLM_CHAT_URL": model_server.url, "PEER_MAX_INFLIGHT": "3"}
    async with fleet(tmp_path, {}, settings) as nodes, visiting(*nodes) as visitor:
        model_server.next(NEVER, NEVER, NEVER)
        visits = [await visitor.visit() for _ in range(3)]
        await in_work(model_server, 3)
        assert (await visitor.ask()).refused == "busy"
        told = await visitor.calls(ask=[visit.request_id for visit in visits])
        assert [told[visit.request_id]["what"] for visit in visits] == ["silent", "queued", "queued"]


async def test_what_is_not_shared_is_not_there(model_server: ModelServer, tmp_path: Path) -> None:
    settings = {"LLM_CHAT_URL": model_server.url, "PEER_SERVE": "none"}
    async with fleet(tmp_path, {}, settings) as nodes, visiting(*nodes) as visitor:
        got = await visitor.ask()
        assert (got.status, got.refused) == (404, "model_not_found")


async def test_a_node_that_stops_takes_no_more_and_finishes_what_runs(
    two: list[Running], visitor: Visitor, model_server: ModelServer
) -> None:
    gate = asyncio.Event()
    model_server.next(Script(headers=JSON, chunks=[b"{", gate, b"}"]))
    with closing(await visitor.open()) as got:
        assert await got.read() == b"{"
        stop = Stop()
        stop.interactive = True
        draining = asyncio.create_task(drain(two[1].node, two[1].runner, stop))
        await until(lambda: two[1].node.life.closed)
        refused = await visitor.ask()
        assert (refused.status, refused.refused) == (503, "draining")
        gate.set()
        assert await read_whole(got, 1 << 20) == b"}"
        await draining
    assert two[1].node.joined.network is None


async def test_it_is_counted(two: list[Running], visitor: Visitor, model_server: ModelServer) -> None:
    metrics = two[1].node.metrics
    model_server.next(NEVER)
    visit = await visitor.visit()
    await in_work(model_server)
    assert metrics.registry.get_sample_value("masa_guests") == 1
    await visitor.ask()
    await visitor.calls(stop=[visit.request_id])
    await asyncio.wait([visit.task])
    await visitor.ask()

    def counted(outcome: str) -> float | None:
        return metrics.registry.get_sample_value("masa_served_total", {"outcome": outcome})

    await until(lambda: counted("stopped") == 1)
    assert (counted("ok"), counted("refused")) == (1, 1)
    assert metrics.registry.get_sample_value("masa_guests") == 0
