"""Headers cross by allow-list, both ways; secrets and injected lines never.

docs/security.md C-15, C-17; docs/promises.md C10, D3.
"""

import asyncio
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.asking import ask, code
from tests.fakes import DIE, ModelServer, Script, answer
from tests.nodes import running
from tests.raw import Headers, Wire, post, split_head

CHAT = b'{"model":"llama3","stream":false}'
CANARY = "c4nary-of-a-caller"
OWN_TOKEN = "t0ken-of-the-operator"

CROSSES = {
    "Content-Type": "application/json; charset=utf-8",
    "Accept": "text/event-stream",
    "Accept-Encoding": "gzip",
    "Anthropic-Version": "2023-06-01",
    "Anthropic-Beta": "tools-2024-04-04",
    "OpenAI-Beta": "assistants=v2",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
DROPPED = (
    *("Authorization", "Proxy-Authorization", "Proxy-Connection", "Cookie", "X-Api-Key", "Api-Key"),
    *("CF-Aig-Authorization", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via", "TE", "Trailer"),
    *("Keep-Alive", "From", "Referer", "User-Agent", "X-Request-Id", "X-Masa-Asked", "X-Masa-Node", "X-Stainless-Os"),
    *("OpenAI-Organization", "If-None-Match", "Range", "DNT", "X-Custom", "Upgrade-Insecure-Requests"),
)
SENT_BY_US = {"host", "content-length", "user-agent", "accept-encoding", "content-type", "masa-hop"}

COMES_BACK = {
    "Content-Type": "application/json; x=y",
    "Retry-After": "7",
    "X-RateLimit-Remaining-Requests": "5",
    "Anthropic-Ratelimit-Tokens-Reset": "2026-01-01T00:00:00Z",
    "RateLimit-Limit": "9",
}
KEPT_BACK = (
    *("Set-Cookie", "WWW-Authenticate", "Proxy-Authenticate", "Location", "Alt-Svc", "Via", "Trailer", "Link"),
    *("Refresh", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Content-Security-Policy"),
    *("ETag", "Age", "Strict-Transport-Security", "X-Frame-Options", "X-Powered-By", "CF-Ray", "X-Custom"),
    *("Content-Disposition", "X-Request-Id", "X-Masa-Name", "X-Masa-Route", "Server", "Cache-Control", "Vary"),
)


def names(headers: Headers) -> set[str]:
    return {name.lower() for name, _ in headers}


class TestToTheUpstream:
    async def test_what_may_cross_does_and_nothing_else(self, node, model_server):
        dropped = dict.fromkeys(DROPPED, CANARY) | {"Connection": "keep-alive, X-Custom"}
        await ask(node.port, post(node.port, "/api/chat", CHAT, CROSSES | dropped))
        seen = model_server.inferences[-1]
        for name, value in CROSSES.items():
            assert seen.headers.all(name) == [value]
        assert names(seen.headers) == SENT_BY_US | {name.lower() for name in CROSSES}
        assert seen.headers.all("User-Agent") == ["masa-node"]
        assert CANARY.encode() not in seen.head

    async def test_what_the_caller_does_not_say(self, node, model_server):
        """No encoding is asked for that the caller did not ask for; every request says that a node sends it."""
        await ask(node.port, post(node.port, "/api/chat", CHAT))
        seen = model_server.inferences[-1]
        assert names(seen.headers) == SENT_BY_US
        assert seen.headers.all("Accept-Encoding") == ["identity"]
        assert {tuple(one.headers.all("Masa-Hop")) for one in model_server.requests} == {("1",)}

    async def test_a_secret_of_the_caller_leaves_in_nothing(self, node, model_server):
        """docs/promises.md D3: on every path, with good and with bad requests, and in what the node asks for itself."""
        secrets = dict.fromkeys(DROPPED, CANARY)
        for path in ("/api/chat", "/api/show", "/api/embed", "/v1/chat/completions", "/v1/messages", "/v1/api/chat"):
            for body in (CHAT, b'{"model":"nobody-has-it"}', b"{}"):
                await ask(node.port, post(node.port, path, body, secrets))
        assert len(model_server.inferences) > 6
        assert not [seen for seen in model_server.requests if CANARY.encode() in seen.head + seen.body]

    async def test_the_key_of_this_node_is_for_this_node(self, model_server, tmp_path):
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, API_KEYS=CANARY) as node:
            for shown in ({"Authorization": f"Bearer {CANARY}"}, {"X-Api-Key": CANARY}):
                assert (await ask(node.port, post(node.port, "/api/chat", CHAT, shown))).status == 200
        assert not [seen for seen in model_server.requests if CANARY.encode() in seen.head]

    async def test_a_hop_is_answered_by_own_upstreams_only(self, node, tmp_path):
        assert (await ask(node.port, post(node.port, "/v1/api/chat", CHAT, {"Masa-Hop": "1"}))).status in (200, 508)
        async with running(tmp_path / "alone") as alone:
            got = await ask(alone.port, post(alone.port, "/api/chat", CHAT, {"Masa-Hop": "1"}))
            assert (got.status, code(got)) == (508, "loop")


class TestToTheCaller:
    async def test_what_may_come_back_does_and_nothing_else(self, node, model_server):
        model_server.next(
            Script(headers=COMES_BACK | dict.fromkeys(KEPT_BACK, CANARY), chunks=[b"{}"], framing="length")
        )
        got = await ask(node.port, post(node.port, "/api/chat", CHAT))
        assert (got.status, got.body) == (200, b"{}")
        for name, value in COMES_BACK.items():
            assert got.headers.all(name) == [value]
        assert not [pair for pair in got.headers if CANARY in pair[1]]
        ours = {"x-masa-node", "x-masa-name", "x-masa-route", "x-request-id", "server", "cache-control", "date", "vary"}
        ours |= {"x-content-type-options", "content-length"}
        assert names(got.headers) == ours | {name.lower() for name in COMES_BACK}

    async def test_an_error_of_the_upstream_too(self, node, model_server):
        headers = {"WWW-Authenticate": f'Bearer realm="{CANARY}"', "Set-Cookie": f"a={CANARY}"}
        model_server.next(answer({"error": "no"}, 401, headers))
        got = await ask(node.port, post(node.port, "/api/chat", CHAT))
        assert (got.status, got.body) == (401, b'{"error":"no"}')
        assert not [pair for pair in got.headers if CANARY in pair[1]]

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    async def test_a_redirect_is_not_followed(self, node, model_server, status):
        async with ModelServer() as other:
            model_server.next(answer({}, status, {"Location": f"{other.url}/api/chat"}))
            got = await ask(node.port, post(node.port, "/api/chat", CHAT))
            assert (got.status, code(got)) == (502, "upstream_broken")
            assert got.headers.get("Location") is None
            assert other.requests == []

    async def test_an_informational_answer_stays_here(self, node, model_server):
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        model_server.next(Script(before_head=[hint, DIE]))
        async with Wire(node.port) as wire:
            await wire.send(post(node.port, "/api/chat", CHAT))
            assert (await wire.read_head()).status == 200
            assert (await wire.read_to_end()).body == b"{}"

    async def test_an_upstream_cannot_leave_http(self, node, model_server):
        switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        model_server.next(Script(before_head=[switch, DIE]))
        got = await ask(node.port, post(node.port, "/api/chat", CHAT))
        assert (got.status, code(got)) == (502, "upstream_broken")

    @pytest.mark.parametrize("status", [204, 200, 404, 599])
    async def test_other_statuses_come_back_as_they_are(self, node, model_server, status):
        model_server.next(Script(status=status, headers={}, framing="length"))
        got = await ask(node.port, post(node.port, "/api/chat", CHAT))
        assert (got.status, got.body, got.whole) == (status, b"", True)


class TestOwnTokens:
    """An upstream's token goes to its own host, and nowhere else."""

    async def test_each_goes_to_its_own(self, model_server, tmp_path):
        async with ModelServer() as worker, ModelServer(models=["gpt-x"], dialects=["openai"]) as openai:
            settings = {
                "LLM_CHAT_URL": model_server.url.replace("//", "//user:pass-of-the-operator@"),
                "LLM_CF_URL": f"{worker.url}/api/chat", "LLM_CF_TOKEN": OWN_TOKEN, "LLM_CF_MODELS": "@cf/a/b",
                "PROVIDERS": "openai", "OPENAI_API_KEY": f"openai-{OWN_TOKEN}", "LLM_OPENAI_URL": openai.url,
            }  # fmt: skip
            async with running(tmp_path, **settings) as node:
                for model in ("llama3", "@cf/a/b", "gpt-x"):
                    await ask(node.port, post(node.port, "/v1/api/chat", b'{"model":"%b"}' % model.encode()))
            told = [
                {value for seen in server.requests for value in seen.headers.all("Authorization")}
                for server in (model_server, worker, openai)
            ]
            assert told == [
                {"Basic dXNlcjpwYXNzLW9mLXRoZS1vcGVyYXRvcg=="},
                {f"Bearer {OWN_TOKEN}"},
                {f"Bearer openai-{OWN_TOKEN}"},
            ]
            assert all(server.inferences for server in (model_server, worker, openai))
            assert not [seen for seen in model_server.requests if OWN_TOKEN.encode() in seen.head]

    async def test_a_redirect_does_not_take_it_along(self, model_server, tmp_path):
        async with ModelServer() as worker:
            worker.script("/ask", answer({}, 307, {"Location": f"{model_server.url}/api/chat"}))
            settings = {"LLM_CF_URL": f"{worker.url}/ask", "LLM_CF_TOKEN": OWN_TOKEN, "LLM_CF_MODELS": "@cf/a/b"}
            async with running(tmp_path, **settings) as node:
                got = await ask(node.port, post(node.port, "/api/v1/chat/cf", b'{"model":"@cf/a/b"}'))
            assert (got.status, code(got)) == (502, "upstream_broken")
            assert worker.inferences
            assert model_server.requests == []


NAMES = st.sampled_from(
    [*CROSSES, "X-Custom", "Host", "Expect", "Content-Encoding", "Origin", "X-Request-Id", "Masa-Hop"]
)
NASTY = st.sampled_from(
    [
        b"\r\nX-Injected: 1",
        b"\nX-Injected: 1",
        b"\rX-Injected: 1",
        b"\0",
        b"\r\n\r\n",
        b"\x7f",
        b"\xff",
        b"\xc4\x8d\xc4\x8a",
    ]
)
VALUES = st.lists(st.binary(max_size=12) | NASTY | st.from_regex(rb"[\t -~]{0,12}", fullmatch=True), max_size=4).map(
    b"".join
)


async def for_any(names, values, example):
    """Hypothesis draws in a thread of its own; `example` runs on the test's loop."""
    loop = asyncio.get_running_loop()

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(names, values)
    def draw(name, value):
        asyncio.run_coroutine_threadsafe(example(name, value), loop).result(20)

    await asyncio.to_thread(draw)


class TestInjection:
    """docs/promises.md C10."""

    async def test_no_header_of_a_caller_becomes_a_line_upstream(self, node, model_server):
        async def example(name: str, value: bytes) -> None:
            before = len(model_server.requests)
            head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            head = re.sub(rb"(?m)^%b: .*\r\n" % name.encode(), b"", head)
            framing = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(CHAT)
            got = await ask(node.port, head + name.encode() + b": " + value + b"\r\n" + framing + CHAT)
            assert got.status < 500
            for seen in model_server.requests[before:]:
                assert names(seen.headers) <= SENT_BY_US | {one.lower() for one in CROSSES} | {"content-encoding"}
                assert b"njected" not in seen.head or seen.headers.get(name) == value.strip(b" \t").decode()

        await for_any(NAMES, VALUES, example)

    async def test_no_header_of_an_upstream_becomes_a_line_to_the_caller(self, node, model_server):
        async def example(name: str, value: bytes) -> None:
            raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b: %b\r\n\r\n{}" % (name.encode(), value)
            model_server.next(Script(before_head=[raw, DIE]))
            got = await ask(node.port, post(node.port, "/api/chat", CHAT))
            assert got.status in (200, 502)
            assert got.headers.get("X-Injected") is None
            assert got.rest == b""
            told = value.strip(b" \t")
            if got.status == 200 and re.fullmatch(rb"[\t -~]*", told) and name in COMES_BACK:
                assert got.headers.get(name) == told.decode()

        kinds = st.sampled_from([*COMES_BACK, *KEPT_BACK, "Content-Encoding", "Content-Length", "Transfer-Encoding"])
        await for_any(kinds, VALUES, example)

    @pytest.mark.parametrize("nasty", ["\x80", "\xff", "\x7f", "\x01"])
    @pytest.mark.parametrize("name", ["Content-Type", "Retry-After", "X-RateLimit-Reset"])
    async def test_a_broken_value_of_an_upstream_is_a_broken_upstream(self, node, model_server, name, nasty):
        raw = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{name}: a{nasty}b\r\n\r\n{{}}".encode("latin-1")
        model_server.next(Script(before_head=[raw, DIE]))
        got = await ask(node.port, post(node.port, "/api/chat", CHAT))
        assert (got.status, code(got)) == (502, "upstream_broken")

    def test_split_head_keeps_what_a_line_holds(self):
        """The tests above stand on it."""
        assert split_head(b"A B C\r\nX: a: b\r\nX-Injected: 1\r\n")[1] == [("X", "a: b"), ("X-Injected", "1")]
