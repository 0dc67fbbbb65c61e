"""Calls that peers hand on: both ways in answer the same (docs/security.md C-22)."""

import asyncio
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from handlers.plain import LARGEST_BODY, Plain
from handlers.quick_forward import PlainCall, QuickForward
from peers.errors import Busy
from peers.http1.client import request_head
from peers.network.gate import Buckets
from peers.network.signatures import Signed, content_digest, sign, sign_by_session
from tests.calls import ask as ask_node
from tests.fakes import DIE, HANG, JSON, RESET, SSE, ModelServer, Script
from tests.nodes import Running
from tests.plainly import noted
from tests.raw import Answer, parse
from tests.raw_tls import dialled
from tests.told import events, logged
from tests.visiting import FORWARD, Visitor, chat, in_work
from tests.waiting import until

CHAT = chat()
LONG_WAY = {"X-Slow": "1"}
"""A header that no node sends along."""
PATHS = ("/api/chat", "/v1/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/embeddings")
PING = b"GET /peer/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True)
class Ask:
    """A call, to be sent by each way."""

    path: str = "/api/chat"
    body: bytes = CHAT
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline_ms: int = 20_000
    kind: str = "application/json"
    request_id: str = ""
    skew: float = 0
    """Seconds by which its asker's clock is ahead."""
    signed: str = "node"
    """By the node's own key, by its `session`, by one that is `forgotten`, or by `nobody`."""


SCRIPTS = [
    Script(chunks=[b'{"a":1}\n', b'{"b":2}\n']),
    Script(headers=SSE, chunks=[b"data: 1\n\n", 0.01, b"data: 2\n\n"]),
    Script(headers=JSON, framing="length", chunks=[b"{}"]),
    Script(headers=JSON, framing="length", chunks=[b"x" * 300_000]),
    Script(headers=JSON, framing="length"),
    Script(headers=JSON),
    Script(headers=JSON, framing="close", chunks=[b"{", b"}"]),
    Script(headers={}, framing="length", chunks=[b"?"]),
    Script(headers={**JSON, "Content-Encoding": "gzip", "Retry-After": "3", "RateLimit-A": "1"}, chunks=[b"\x1f"]),
    Script(headers=SSE, chunks=[b"data: 1\n\n", b"data: ", DIE]),
    Script(headers=JSON, framing="length", length=9, chunks=[b'{"a']),
    Script(headers=SSE, chunks=[b"data: 1\n\n", 0.05, RESET]),
    Script(headers=SSE, chunks=[DIE]),
    Script(before_head=[b"junk\r\n\r\n", DIE]),
]
STATUSES = (201, 204, 299, 302, 304, 400, 404, 418, 429, 500, 503, 599)
REFUSALS = [
    (Ask(signed="nobody"), 401, "signature", True),
    (Ask(signed="forgotten"), 401, "session", False),
    (Ask("/api/tags"), 404, "not_found", False),
    (Ask(body=b"[]"), 400, "invalid_body", True),
    (Ask(body=chat("../../api/delete")), 400, "invalid_model", True),
    (Ask(body=chat("other")), 404, "model_not_found", True),
    (Ask("/api/v1/chat/cf"), 400, "invalid_model", True),
    (Ask(body=b'{"model":"llama3","messages":[],"keep_alive":0}'), 403, "refused_by_peer", True),
    (Ask(body=b""), 400, "invalid_body", False),
    (Ask(body=chat(more="x" * LARGEST_BODY)), 200, None, False),
    (Ask(body=chat(more="x" * (LARGEST_BODY - 200))), 200, None, True),
    (Ask(kind="text/plain"), 415, "unsupported_media_type", False),
    (Ask(deadline_ms=0), 504, "deadline", False),
    (Ask(deadline_ms=999_999_999), 400, "malformed", False),
    (Ask(headers={"masa-query": "a#b"}), 400, "malformed", False),
    (Ask("/v1/messages", headers={"masa-query": "beta=true", "anthropic-beta": "x"}), 200, None, True),
    (Ask(headers={"content-encoding": "br"}), 415, "unsupported_encoding", False),
    (Ask(headers={"Connection": "close"}), 200, None, False),
]
"""A call, its status and code, and whether its head may pass."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Plain]:
    return noted(monkeypatch, QuickForward)


@pytest.fixture
async def ask(visitor: Visitor, taken: list[Plain]) -> Any:
    """Sends a call by both ways, and tells what both say: the same on the wire, in the log, in the metrics."""

    async def both(one: Ask, prepare: Any = lambda: None, *, plain: bool = True) -> Answer:
        seen, lines = [], []
        for quick in (True, False):
            prepare()
            log, before = logged(), len(taken)
            served = counted(visitor)
            seen.append(await told(visitor, request(visitor, one, quick=quick)))
            assert (len(taken) > before) is (quick and plain), one
            lines.append([
                {name: fact for name, fact in line.items() if name not in ("ts", "ms")}
                for line in events(log, "served")
            ])  # fmt: skip
            assert counted(visitor) - served == len(lines[-1])
        assert seen[0][1:] == seen[1][1:]
        assert lines[0] == lines[1]
        return seen[0][0]

    return both


def counted(visitor: Visitor) -> float:
    return sum(sample.value for metric in visitor.server.node.metrics.served.collect() for sample in metric.samples
               if sample.name.endswith("_total"))  # fmt: skip


def request(visitor: Visitor, one: Ask, *, quick: bool) -> bytes:
    contact, path, name = visitor.contact, FORWARD + one.path, one.request_id or secrets.token_hex(16)
    to = visitor.server.node.who.id
    signed = Signed("POST", path, one.kind, content_digest(one.body), to, name, one.deadline_ms)
    session = contact.agreed._peers[to].session if one.signed == "session" else None
    if session is not None:
        headers = session.sign(signed, time.time())
    elif one.signed == "forgotten":
        headers = sign_by_session(signed, bytes(32), "A" * 22, time.time(), 0)
    else:
        headers = sign(signed, contact._key, contact._me, time.time() + one.skew, secrets.token_bytes(16))
    more = {"x-request-id": "the-same"} | dict(one.headers) | ({} if quick else LONG_WAY)
    if one.signed == "nobody":
        headers["Signature"] = f"masa=:{'A' * 86}==:"
    return request_head("POST", path, str(visitor.at), more | headers, len(one.body)) + one.body


async def told(visitor: Visitor, data: bytes) -> tuple[Any, ...]:
    """The answer; all that its asker sees of it, but for the time; and whether the connection takes another request."""
    came, alive = bytearray(), False
    async with dialled(visitor.at, source="127.0.0.1") as (reader, writer), asyncio.timeout(10):
        writer.write(data)
        while not (came and b"\r\n\r\n" in came and parse(bytes(came)).whole):
            if not (some := await read(reader)):
                break
            came += some
        answer = parse(bytes(came))
        if answer.whole:
            writer.write(PING)
            alive = bool(await read(reader))
    headers = sorted((name.lower(), value) for name, value in answer.headers if name != "Date")
    return answer, came.partition(b"\r\n")[0], headers, answer.body, answer.whole, alive


async def read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65_536)
    except (ConnectionError, ssl.SSLError):
        return b""


@pytest.mark.parametrize("path", PATHS)
async def test_answers(ask: Any, model_server: ModelServer, path: str) -> None:
    """docs/promises.md B4 too: what breaks off is cut, and says no more."""
    for script in SCRIPTS:
        answer = await ask(Ask(path), partial(model_server.next, script))
        breaks = script.length is not None or DIE in script.chunks or RESET in script.chunks
        if script.before_head or script.chunks == [DIE]:
            assert (answer.status, answer.whole) == (502, True), script
        else:
            sent = b"".join(piece for piece in script.chunks if isinstance(piece, bytes))
            assert (answer.status, answer.body, answer.whole) == (200, sent, not breaks), script


@pytest.mark.parametrize("signed", ["node", "session"])
async def test_statuses(ask: Any, visitor: Visitor, model_server: ModelServer, signed: str) -> None:
    if signed == "session":
        await agreed(visitor)
    for status in STATUSES:
        script = Script(status=status, headers=JSON, chunks=[] if status in (204, 304) else [b"{}"])
        answer = await ask(Ask("/v1/embeddings", signed=signed), partial(model_server.next, script))
        assert answer.status == (502 if status in (302, 304) else status)


async def agreed(visitor: Visitor) -> None:
    """A session, as two requests make it."""
    for _ in range(2):
        await visitor.ask()
    await until(lambda: visitor.contact.agreed._peers[visitor.server.node.who.id].session is not None)


async def test_refusals(ask: Any) -> None:
    for one, status, code, plain in REFUSALS:
        answer = await ask(one, plain=plain)
        assert (answer.status, answer.headers.get("Masa-Error")) == (status, code), one


async def test_a_call_that_was_sent_before(ask: Any, visitor: Visitor) -> None:
    assert (await visitor.ask(request_id="once")).status == 200
    answer = await ask(Ask(request_id="once"), plain=False)
    assert (answer.status, answer.headers.get("Masa-Error")) == (409, "duplicate")


async def test_a_node_without_a_place(ask: Any, visitor: Visitor, model_server: ModelServer) -> None:
    model_server.next(Script(before_head=[HANG]))
    await visitor.visit()
    await in_work(model_server)
    answer = await ask(Ask())
    assert (answer.status, answer.headers.get("Retry-After")) == (503, "1")


async def test_a_node_without_memory_for_bodies(ask: Any, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor.server.node.joined._serving.bodies, "limit", 10)
    answer = await ask(Ask(), plain=False)
    assert (answer.status, answer.headers.get("Connection")) == (503, "close")


async def test_an_address_that_asks_too_often(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Buckets, "take", refuse)
    answer = await ask(Ask())
    assert (answer.status, answer.headers.get("Masa-Error")) == (429, "rate_limited")


def refuse(*_: object) -> None:
    raise Busy("too many requests", status=429, code="rate_limited")


@pytest.mark.parametrize("skew", [-100, 100])
async def test_clocks_that_differ(ask: Any, skew: int) -> None:
    answer = await ask(Ask(skew=skew))
    assert (answer.status, answer.headers.get("Masa-Error")) == (401, "clock")


async def test_a_fault_of_ours(ask: Any, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(visitor.server.node.router, "open", broken)
    answer = await ask(Ask())
    assert (answer.status, answer.headers.get("Connection")) == (500, "close")
    assert b"canary" not in answer.body


async def test_the_model_server_sees_the_same(ask: Any, model_server: ModelServer) -> None:
    """The body's bytes, and which headers cross (docs/security.md C-15)."""
    headers = {"accept": "text/event-stream \t", "anthropic-version": "1", "anthropic-beta": "x", "traceparent": "t"}
    await ask(Ask("/v1/messages", CHAT + b"\n", {**headers, "openai-beta": "y", "masa-query": "beta=true"}))
    one, other = model_server.inferences
    assert one.body == other.body == CHAT + b"\n"
    assert sorted(one.headers) == sorted(other.headers)
    assert one.target == other.target


async def test_what_a_node_hands_on_is_plain(two: list[Running], taken: list[PlainCall]) -> None:
    """With all that its callers' libraries send along."""
    headers = {"Accept": "*/*", "traceparent": "t", "anthropic-version": "1", "anthropic-beta": "x", "OpenAI-Beta": "y"}
    for path in PATHS:
        assert (await ask_node(two[0].url, path, headers={**headers, "User-Agent": "x"})).status == 200
    assert [plain.handed.door.path for plain in taken] == [*PATHS]
