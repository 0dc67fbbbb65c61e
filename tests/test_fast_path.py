"""The fast path answers as aiohttp and the middlewares do: the same requests down both ways (docs/security.md C-22)."""

import asyncio
import json

import pytest

from handlers.keys import METRICS
from handlers.plain import LARGEST_BODY, Judge, Plain
from tests.fakes import DIE, JSON, RESET, SSE, ModelServer, Script
from tests.nodes import Running, running
from tests.raw import Wire, post
from tests.told import events, logged

CHAT = b'{"model":"llama3","messages":[]}'
LONG_WAY = {"X-Slow": "1"}
"""A header that is not on the list of harmless ones."""
PATHS = ("/api/chat", "/v1/api/chat", "/api/v1/chat", "/v1/chat/completions", "/v1/messages", "/v1/embeddings")


async def told(port: int, data: bytes) -> tuple[object, ...]:
    """All that its caller sees, but for the time."""
    async with Wire(port) as wire:
        await wire.send(data)
        while b"\r\n" not in wire.buffer:
            wire.buffer += await wire.read_some()
        line = bytes(wire.buffer).partition(b"\r\n")[0]
        head = await wire.read_head()
        ending = await wire.read_to_end()
        if head.headers.get("Connection") == "close":
            assert await wire.until_closed() == "fin"
    return line, sorted((name.lower(), value) for name, value in head.headers if name != "Date"), ending


async def both(node: Running, taken: list[Plain], data: dict[bool, bytes], prepare=lambda: None) -> tuple[object, ...]:
    """What both ways say, which is the same, in the log and the metrics too."""
    seen, lines = [], []
    for fast in (True, False):
        prepare()
        log, before = logged(), len(taken)
        seen.append(await told(node.port, data[fast]))
        assert (len(taken) > before) is fast
        (line,) = events(log, "request")
        lines.append({name: fact for name, fact in line.items() if name not in ("ts", "ms", "first_ms")} | {
            "first": "first_ms" in line
        })  # fmt: skip
    assert seen[0] == seen[1]
    assert lines[0] == lines[1]
    counted = node.app[METRICS].requests.labels(lines[0]["path"], str(lines[0]["status"]), lines[0]["outcome"])
    assert counted._value.get() % 2 == 0
    return seen[0]


def ways(port: int, path: str, body: bytes = CHAT, headers: dict[str, str] | None = None) -> dict[bool, bytes]:
    given = {"X-Request-Id": "the-same", **(headers or {})}
    return {True: post(port, path, body, given), False: post(port, path, body, given | LONG_WAY)}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "script",
    [
        Script(chunks=[b'{"a":1}\n', b'{"b":2}\n']),
        Script(headers=SSE, chunks=[b"data: 1\n\n", 0.01, b"data: 2\n\n"]),
        Script(headers=JSON, framing="length", chunks=[b"{}"]),
        Script(headers=JSON, framing="length", chunks=[b"x" * 300_000]),
        Script(headers=JSON, framing="length"),
        Script(headers=JSON, framing="close", chunks=[b"{", b"}"]),
        Script(headers={}, framing="length", chunks=[b"?"]),
        Script(headers={**JSON, "Content-Encoding": "gzip", "Retry-After": "3", "RateLimit-A": "1"}, chunks=[b"\x1f"]),
        Script(headers=[("ratelimit-a", "1"), ("Set-Cookie", "a=b"), ("Server", "x")], chunks=[b"{}"]),
    ],
    ids=["ndjson", "sse", "length", "large", "empty", "close", "untyped", "encoded", "headers"],
)  # fmt: skip
async def test_answers(node, model_server, taken, path, script):
    line, _, ending = await both(node, taken, ways(node.port, path), lambda: model_server.next(script))
    assert line == b"HTTP/1.1 200 OK"
    assert ending.clean
    assert ending.body == b"".join(piece for piece in script.chunks if isinstance(piece, bytes))


@pytest.mark.parametrize("status", [201, 204, 299, 302, 304, 400, 404, 418, 429, 500, 503, 599])
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_statuses(node, model_server, taken, status, framing):
    chunks = [] if status in (204, 304) else [b"{}"]
    script = Script(status=status, headers=JSON, framing=framing, chunks=chunks)
    await both(node, taken, ways(node.port, "/v1/chat/completions"), lambda: model_server.script(
        "/v1/chat/completions", script))  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "script",
    [
        Script(chunks=[b'{"a":1}\n', b'{"b', DIE]),
        Script(headers=SSE, chunks=[b"data: 1\n\n", b"data: ", DIE]),
        Script(headers={**SSE, "Content-Encoding": "gzip"}, chunks=[b"\x1f", DIE]),
        Script(headers=JSON, chunks=[b'{"a', DIE]),
        Script(headers=JSON, framing="length", length=9, chunks=[b'{"a']),
        Script(headers=SSE, chunks=[RESET]),
        Script(headers=SSE, chunks=[DIE]),
    ],
    ids=["ndjson", "sse", "encoded", "json", "length", "reset", "nothing"],
)
async def test_cuts(node, model_server, taken, path, script):
    """docs/promises.md B4: a late error where the dialect has a way to say it, and never a clean end."""
    *_, ending = await both(node, taken, ways(node.port, path), lambda: model_server.next(script))
    assert not ending.clean


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"[]", {}, 400),
        (b'{"model":1}', {}, 400),
        (b'{"Model":"llama3"}', {}, 400),
        (b'{"model":"a b"}', {}, 400),
        (b"\xff", {}, 400),
        (b'{"model":"nobody"}', {}, 404),
        (CHAT, {"X-Masa-Ask": "Off"}, 400),
        (CHAT, {"X-Masa-Ask": "off"}, 200),
    ],
)
async def test_errors(node, taken, path, body, headers, status):
    line, *_ = await both(node, taken, ways(node.port, path, body, headers))
    assert line.split(b" ")[1] == str(status).encode()


@pytest.mark.parametrize("script", [Script(before_head=[DIE]), Script(before_head=[b"junk\r\n\r\n", DIE])])
async def test_a_broken_upstream(node, model_server, taken, script):
    line, *_ = await both(
        node, taken, ways(node.port, "/api/chat"), lambda: model_server.script("/api/chat", script)
    )  # fmt: skip
    assert line.startswith(b"HTTP/1.1 502 ")


async def test_a_full_node(model_server, tmp_path, taken):
    async with running(tmp_path, LLM_CHAT_URL=model_server.url, MAX_INFLIGHT="1", QUEUE_SIZE="0") as node:
        gate = asyncio.Event()
        model_server.next(Script(chunks=[b"{}\n", gate]))
        async with Wire(node.port) as first:
            await first.send(post(node.port, "/api/chat", CHAT))
            await first.read_head()
            line, headers, _ = await both(node, taken, ways(node.port, "/api/chat"))
            gate.set()
            assert (await first.read_to_end()).clean
    assert line.startswith(b"HTTP/1.1 429 ")
    assert ("retry-after", "1") in headers


async def test_a_fault_of_ours(node, taken, monkeypatch):
    async def broken(_: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(node.node.router, "open", broken)
    line, headers, ending = await both(node, taken, ways(node.port, "/v1/chat/completions"))
    assert line == b"HTTP/1.1 500 Internal Server Error"
    assert ("connection", "close") in headers
    assert json.loads(ending.body)["error"]["code"] == "internal"


@pytest.mark.parametrize(("key", "status"), [("secret-key-1", 200), ("secret-key-2", 401), ("", 401)])
async def test_api_keys(model_server, tmp_path, taken, key, status):
    """With keys any Host is answered; a wrong one is for aiohttp to refuse."""
    async with running(tmp_path, LLM_CHAT_URL=model_server.url, API_KEYS="secret-key-1") as node:
        for headers in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}):
            data = post(node.port, "/api/chat", CHAT, headers | {"Host": "rebound.example"})
            line, *_ = await told(node.port, data)
            assert line.split(b" ")[1] == str(status).encode()
    assert len(taken) == (2 if status == 200 else 0)


GOOD = post(1, "/api/chat", CHAT)
NAMED = {
    "many more": GOOD.replace(b"Content-Type", b"X-Stainless-A: a\r\n" * 65 + b"Content-Type"),
    "another path": GOOD.replace(b"/api/chat", b"/api/tags"),
    "a query": GOOD.replace(b"/api/chat", b"/api/chat?a=b"),
    "absolute": GOOD.replace(b"/api/chat", b"http://127.0.0.1:1/api/chat"),
    "HTTP/1.0": GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another method": GOOD.replace(b"POST", b"PUT"),
    "another Host": GOOD.replace(b"127.0.0.1", b"rebound.example"),
    "no Host": GOOD.replace(b"Host", b"Accept"),
    "Host twice": GOOD.replace(b"Content-Type", b"Host: 127.0.0.1\r\nContent-Type"),
    "no length": GOOD.replace(b"Content-Length", b"Accept"),
    "length 0": GOOD.replace(b"Length: 32", b"Length: 0"),
    "a length too much": GOOD.replace(b"Length: 32", b"Length: %d" % (LARGEST_BODY + 1)),
    "a length with a sign": GOOD.replace(b"Length: 32", b"Length: +32"),
    "a length that goes on": GOOD.replace(b"Length: 32", b"Length: 32\r\n 1"),
    "a length that is a list": GOOD.replace(b"Length: 32", b"Length: 32, 32"),
    "a length behind the head's end": GOOD.replace(b"Content-Length", b"\n\nContent-Length"),
    "a length of eight digits": GOOD.replace(b"Length: 32", b"Length: 00000032"),
    "a length in another's name": GOOD.replace(b"Content-Length: 32", b"X-Stainless-Content-Length: 5"),
    "a length in the body": GOOD.replace(b"Content-Length", b"Accept") + b"\r\nContent-Length: 7\r\n",
    "two lengths": GOOD.replace(b"Content-Type", b"Content-Length: 32\r\nContent-Type"),
    "no type": GOOD.replace(b"Content-Type: application/json", b"Accept: */*"),
    "another type": GOOD.replace(b"application/json", b"text/plain"),
    "line feeds": GOOD.replace(b"\r\n", b"\n"),
    "a head too long": GOOD.replace(b"Content-Type", b"Accept: " + b"a" * 8100 + b"\r\nContent-Type"),
    "a folded line": GOOD.replace(b"Content-Type", b"Accept: a\r\n b\r\nContent-Type"),
    "a blank before the colon": GOOD.replace(b"Content-Type:", b"Content-Type :"),
    "half a head": GOOD[:60],
} | {
    line: GOOD.replace(b"Content-Type", line.encode("latin-1") + b"\r\nContent-Type")
    for line in (
        "Transfer-Encoding: chunked", "Content-Encoding: gzip", "Expect: 100-continue", "Origin: http://localhost",
        "Referer: http://localhost/", "Sec-Fetch-Site: none", "Masa-Hop: 1", "Connection: close", "Cookie: a=b",
        "Connection: keep-alive, x", "Upgrade: websocket", "X-A: b", "Accept: a\x00b", "Accept: \xe9", "Accept: \x7f",
    )
}  # fmt: skip


class TestWhatIsPlain:
    @pytest.fixture
    def judge(self):
        return Judge(frozenset({"localhost"}), (), 1 << 20)

    @pytest.mark.parametrize("more", ["", "User-Agent: a", "X-Stainless-Content-Length: 5", "Connection: Keep-Alive"])
    def test_a_plain_one(self, judge, more):
        data = GOOD.replace(b"Content-Type", f"{more}\r\nContent-Type".encode() if more else b"Content-Type")
        plain = judge.read(data)
        assert plain is not None
        assert (plain.head.door.path, data[plain.start :], plain.length) == ("/api/chat", CHAT, len(CHAT))
        assert plain.head.crossing == {"content-type": "application/json"}

    @pytest.mark.parametrize("name", NAMED)
    def test_no_plain_one(self, judge, name):
        assert NAMED[name] != GOOD
        assert judge.read(NAMED[name]) is None

    def test_requests_that_differ_in_their_length_alone(self, judge):
        """Their head is judged once."""
        lengths = [32, 5, 1 << 20, 32]
        plain = [judge.read(GOOD.replace(b"Length: 32", b"Length: %d" % length)) for length in lengths]
        assert [one.length for one in plain] == lengths
        assert all(one.head is plain[0].head for one in plain)
        assert judge.read(GOOD.replace(b"Length: 32", b"Length: %d" % ((1 << 20) + 1))) is None

    def test_a_body_over_the_limit_is_refused_by_aiohttp(self):
        assert Judge(frozenset(), (), 31).read(GOOD) is None


async def test_the_model_server_sees_the_same(node, model_server: ModelServer, taken):
    """The body's bytes, and which headers cross (docs/security.md C-15)."""
    headers = {
        "Content-Type": "application/json; charset=utf-8", "Accept": "text/event-stream \t", "Accept-Encoding": "gzip",
        "Accept-Language": "de", "Anthropic-Version": "1", "anthropic-beta": "x", "OpenAI-Beta": "y", "traceparent": "",
        "User-Agent": "canary", "Authorization": "Bearer canary", "x-api-key": "canary", "X-Stainless-OS": "canary",
    }  # fmt: skip
    await both(node, taken, ways(node.port, "/v1/messages", CHAT + b"\n", headers))
    one, other = model_server.inferences
    assert one.body == other.body == CHAT + b"\n"
    assert sorted(one.headers) == sorted(other.headers)
    assert b"canary" not in one.head
