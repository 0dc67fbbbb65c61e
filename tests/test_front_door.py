"""The front door: who may ask at all, by Host, Origin, content type and key.

docs/security.md C-1, C-2, C-16; docs/promises.md D2.
"""

import pytest

from handlers.middlewares.door import host_name, origin_allowed
from tests.asking import ask, code
from tests.fakes import ModelServer
from tests.nodes import running
from tests.raw import get, post, request

CHAT = b'{"model":"llama3","stream":false}'
LOCAL = "http://localhost:3000"
KEY = "a-key-of-sixteen"
BROWSER = {
    "Origin": LOCAL,
    "Referer": f"{LOCAL}/page",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
}


@pytest.fixture
async def keyed(model_server, tmp_path):
    async with running(tmp_path, LLM_CHAT_URL=model_server.url, API_KEYS=f"another-key-here,{KEY}") as node:
        yield node


class TestHost:
    """A page that rebound its name to this machine has a foreign Host."""

    @pytest.mark.parametrize(
        "host",
        ["localhost", "LOCALHOST:1", "a.localhost:8080", "127.0.0.1:9", "127.9.9.9", "[::1]:8080", "192.168.1.7:8080",
         "host.docker.internal", "host.containers.internal:8080", "localhost.:8080", "localhost:"],
    )  # fmt: skip
    async def test_own_names_and_addresses_are_answered(self, node, host):
        assert (await ask(node.port, get(node.port, "/api/version", {"Host": host}))).status == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example", "printer.local:8080",
         "x.internal", "127.1", "0x7f000001", "2130706433"],
    )  # fmt: skip
    async def test_others_are_refused_before_routing(self, node, model_server, host):
        answer = await ask(node.port, post(node.port, "/api/chat", CHAT, {"Host": host}))
        assert (answer.status, code(answer)) == (403, "bad_host")
        for method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            assert (await ask(node.port, request(method, node.port, "/nowhere", headers={"Host": host}))).status == 403
        assert model_server.inferences == []

    async def test_no_host_at_all_is_refused_even_of_http_1_0(self, node):
        answer = await ask(node.port, b"GET /api/version HTTP/1.0\r\n\r\n")
        assert (answer.status, code(answer)) == (403, "bad_host")
        assert b"has no Host; send one" in answer.body

    async def test_a_websocket_upgrade_is_refused_before_it(self, node):
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "x" * 22 + "=="}  # fmt: skip
        for foreign, why in (({"Host": "evil.example"}, "bad_host"), ({"Origin": "http://evil.example"}, "bad_origin")):
            answer = await ask(node.port, get(node.port, "/ws/chat", {**upgrade, **foreign}))
            assert (answer.status, code(answer)) == (403, why)

    async def test_allowed_hosts_adds_names(self, model_server, tmp_path):
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, ALLOWED_HOSTS="Chat.Example,other.example") as node:
            for host, status in (("chat.example:443", 200), ("CHAT.example", 200), ("x.chat.example", 403)):
                assert (await ask(node.port, get(node.port, "/health", {"Host": host}))).status == status

    async def test_not_applied_where_there_are_keys(self, keyed):
        headers = {"Host": "any.example", "Authorization": f"Bearer {KEY}"}
        assert (await ask(keyed.port, get(keyed.port, "/api/version", headers))).status == 200

    @pytest.mark.parametrize(
        ("host", "name"),
        [("A.B:1", "a.b"), ("[::1]:8080", "::1"), ("[fe80::1]", "fe80::1"), ("localhost.", "localhost"), ("", "")],
    )
    def test_host_name(self, host, name):
        assert host_name(host) == name


class TestOrigin:
    """docs/promises.md D2."""

    @pytest.mark.parametrize(
        "origin",
        [LOCAL, "https://localhost", "http://127.0.0.1:5173", "app://obsidian.md", "tauri://localhost",
         "vscode-webview://1a2b3c", "vscode-file://vscode-app"],
    )  # fmt: skip
    async def test_local_pages_and_programs_may_ask(self, node, origin):
        answer = await ask(
            node.port, post(node.port, "/api/chat", CHAT, {"Origin": origin, "Sec-Fetch-Site": "cross-site"})
        )
        assert answer.status == 200
        assert answer.headers.all("Access-Control-Allow-Origin") == [origin]

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.example", "https://evil.example:8080", "null", "", "http://localhost.evil.example",
         "http://localhost:80@evil.example", "http://localhost:3000.evil.example", "http://evil.example/localhost",
         "http://[::1]evil.example", "file://", "moz-extension://abc", "HTTP://localhost", "http://localhost:3000/",
         "*", "//localhost", "http://evil.example http://localhost"],
    )  # fmt: skip
    async def test_others_may_not(self, node, model_server, origin):
        for method, path in (
            ("POST", "/api/chat"),
            ("GET", "/api/tags"),
            ("OPTIONS", "/api/chat"),
            ("GET", "/nowhere"),
        ):
            body = CHAT if method == "POST" else b""
            answer = await ask(node.port, request(method, node.port, path, body, [("Origin", origin)]))
            assert (answer.status, code(answer)) == (403, "bad_origin")
            assert answer.headers.get("Access-Control-Allow-Origin") is None
        assert model_server.inferences == []

    async def test_two_origins_are_none(self, node):
        data = get(node.port, "/api/tags", [("Origin", LOCAL), ("Origin", "http://evil.example")])
        assert (await ask(node.port, data)).status == 403

    async def test_its_own_pages_may_ask(self, model_server, tmp_path):
        async with running(
            tmp_path, LLM_CHAT_URL=model_server.url, CORS_ORIGINS="none", ALLOWED_HOSTS="node.example"
        ) as node:
            own = {"Host": f"node.example:{node.port}", "Origin": f"http://node.example:{node.port}"}
            assert (await ask(node.port, post(node.port, "/api/chat", CHAT, own))).status == 200
            other_port = {**own, "Origin": f"http://node.example:{node.port + 1}"}
            assert (await ask(node.port, post(node.port, "/api/chat", CHAT, other_port))).status == 403
            absolute = f"http://node.example:{node.port}/api/chat"
            assert (await ask(node.port, post(node.port, absolute, CHAT, own))).status == 200

    async def test_cors_origins_stands_in_for_the_usual(self, model_server, tmp_path):
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, CORS_ORIGINS="https://chat.example") as node:
            for origin, status in (("https://chat.example", 200), ("http://chat.example", 403), (LOCAL, 403)):
                assert (await ask(node.port, get(node.port, "/api/tags", {"Origin": origin}))).status == status

    @pytest.mark.parametrize(
        ("site", "status"),
        [("cross-site", 403), ("same-site", 403), ("", 403), ("same-origin", 200), ("none", 200)],
    )
    async def test_without_origin_the_browser_says_where_it_comes_from(self, node, site, status):
        assert (await ask(node.port, get(node.port, "/api/tags", {"Sec-Fetch-Site": site}))).status == status

    def test_entries(self):
        allowed = ("https://a.example", "http://b.example:*", "http://[::1]:*", "app://*")
        for origin in ("https://a.example", "http://b.example", "http://b.example:1", "http://[::1]:80", "app://x.y"):
            assert origin_allowed(origin, allowed)
        for origin in ("https://a.example:443", "http://a.example", "https://b.example:1", "http://[::2]:80", "app:x"):
            assert not origin_allowed(origin, allowed)


class TestCors:
    async def test_a_preflight_of_an_allowed_page(self, keyed):
        """It carries no key, and needs none."""
        headers = {
            "Origin": LOCAL,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
            "Access-Control-Request-Private-Network": "true",
        }
        answer = await ask(keyed.port, request("OPTIONS", keyed.port, "/v1/chat/completions", headers=headers))
        cors = {name.lower(): value for name, value in answer.headers if name.lower().startswith("access-control-")}
        assert (answer.status, answer.body) == (204, b"")
        assert cors["access-control-allow-origin"] == LOCAL
        assert cors["access-control-allow-headers"] == headers["Access-Control-Request-Headers"]
        assert cors["access-control-allow-methods"] == "GET, HEAD, POST"
        assert not {"access-control-allow-credentials", "access-control-allow-private-network"} & set(cors)

    async def test_what_is_no_list_of_names_is_not_given_back(self, node):
        headers = {"Origin": LOCAL, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "<b>: x"}
        answer = await ask(node.port, request("OPTIONS", node.port, "/api/chat", headers=headers))
        assert answer.headers.get("Access-Control-Allow-Headers") == "Content-Type"

    @pytest.mark.parametrize("origin", [{}, {"Origin": LOCAL}, {"Origin": "http://evil.example"}])
    async def test_every_answer_is_guarded(self, node, origin):
        for path in ("/api/tags", "/health", "/nowhere", "/api/chat", "/metrics", "/"):
            answer = await ask(node.port, get(node.port, path, origin))
            assert answer.headers.all("Vary") == ["Origin"]
            assert answer.headers.all("X-Content-Type-Options") == ["nosniff"]
            assert answer.headers.all("Cache-Control") == ["no-store"]
            allowed = [LOCAL] if origin == {"Origin": LOCAL} else []
            assert answer.headers.all("Access-Control-Allow-Origin") == allowed
            assert answer.headers.get("Access-Control-Allow-Credentials") is None


class TestContentType:
    @pytest.mark.parametrize(
        "kind", [None, "", "application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"]
    )
    async def test_tools_may_leave_it_out(self, node, model_server, kind):
        """`curl -d` sends the form's type: it reaches the upstream as JSON."""
        data = post(node.port, "/api/chat", CHAT, {} if kind is None else {"Content-Type": kind})
        data = data.replace(b"Content-Type: application/json\r\n", b"") if kind is None else data
        assert (await ask(node.port, data)).status == 200
        seen = model_server.inferences[-1].headers.all("Content-Type")
        assert seen == [kind if kind and kind.lower().startswith("application/json") else "application/json"]

    @pytest.mark.parametrize(
        "kind", ["text/plain", "multipart/form-data; boundary=x", "text/json", "application/json, text/plain", "*/*"]
    )
    async def test_others_never(self, node, model_server, kind):
        for path in ("/api/chat", "/v1/api/chat", "/v1/chat/completions", "/v1/messages"):
            assert (await ask(node.port, post(node.port, path, CHAT, {"Content-Type": kind}))).status == 415
        assert model_server.inferences == []

    @pytest.mark.parametrize("header", BROWSER)
    @pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded"])
    async def test_a_browser_must_say_json(self, node, model_server, header, kind):
        """Which makes it ask first (a preflight)."""
        shown = {header: BROWSER[header]}
        answer = await ask(node.port, post(node.port, "/api/chat", CHAT, {**shown, "Content-Type": kind}))
        assert (answer.status, code(answer)) == (415, "unsupported_media_type")
        assert model_server.inferences == []
        assert (await ask(node.port, post(node.port, "/api/chat", CHAT, shown))).status == 200


class TestKeys:
    @pytest.mark.parametrize(
        "shown", [{"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY}"}, {"X-Api-Key": KEY}]
    )
    async def test_either_header_opens(self, keyed, shown):
        assert (await ask(keyed.port, post(keyed.port, "/api/chat", CHAT, shown))).status == 200

    @pytest.mark.parametrize(
        "shown",
        [{}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}, {"Authorization": f"Bearer {KEY}x"},
         {"Authorization": "Bearer"}, {"X-Api-Key": ""}, {"X-Api-Key": KEY[:-1]}, {"Cookie": f"x-api-key={KEY}"},
         {"X-Api-Key": f"{KEY},another-key-here"}],
    )  # fmt: skip
    async def test_nothing_else_does(self, keyed, model_server, shown):
        for path in ("/api/chat", "/v1/chat/completions", "/nowhere"):
            assert (await ask(keyed.port, post(keyed.port, path, CHAT, shown))).status == 401
        assert model_server.inferences == []

    @pytest.mark.parametrize("path", [f"/api/tags?api_key={KEY}", "/metrics", "/docs", "/openapi.json", "/api/v1/node"])
    async def test_needed_for(self, keyed, path):
        answer = await ask(keyed.port, get(keyed.port, path))
        assert (answer.status, code(answer)) == (401, "invalid_key")

    @pytest.mark.parametrize("path", ["/health", "/ready", "/"])
    async def test_not_needed_for(self, keyed, path):
        for method in ("GET", "HEAD"):
            assert (await ask(keyed.port, request(method, keyed.port, path))).status == 200

    @pytest.mark.parametrize(
        "path", ["/health/", "//health", "/%2Fhealth", "/health/../api/tags", "/health%2f..%2fapi/tags"]
    )
    async def test_a_path_that_looks_open_is_not(self, keyed, path):
        assert (await ask(keyed.port, get(keyed.port, path))).status == 401


class TestOneDoorOnly:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_no_peer_route_answers_here(self, node, method):
        """docs/security.md C-1."""
        for name in ("ping", "identify", "gossip", "forward/api/chat", "calls", "secret"):
            answer = await ask(node.port, request(method, node.port, f"/peer/v1/{name}"))
            assert (answer.status, code(answer)) == (404, "not_found")

    async def test_a_caller_chooses_neither_url_nor_key(self, node, model_server):
        """docs/security.md C-16."""
        async with ModelServer() as other:
            choosing = dict.fromkeys(("X-Base-Url", "X-Forwarded-Host", "X-Original-URL", "Forwarded"), other.url)
            answer = await ask(node.port, post(node.port, f"/api/chat?base_url={other.url}", CHAT, choosing))
            assert answer.status == 200
            assert len(model_server.inferences) == 1
            assert other.requests == []

    async def test_first_the_head_then_host_origin_key_and_length(self, model_server, tmp_path):
        """What is refused early costs nothing, and no body is asked for."""
        async with running(tmp_path, LLM_CHAT_URL=model_server.url, API_KEYS=KEY, MAX_BODY_BYTES="1KiB") as node:
            wrong = {"Expect": "x", "Origin": "null", "Content-Length": "9999", "Content-Encoding": "br"}
            mended = [("Expect", "bad_origin"), ("Origin", "invalid_key"), ("X-Api-Key", "body_too_large")]
            assert code(await ask(node.port, post(node.port, "/api/chat", b"", wrong))) == "expectation_failed"
            for name, then in mended:
                wrong.pop(name, None)
                wrong |= {"X-Api-Key": KEY} if name == "X-Api-Key" else {}
                assert code(await ask(node.port, post(node.port, "/api/chat", b"", wrong))) == then
            del wrong["Content-Length"]
            assert code(await ask(node.port, post(node.port, "/api/chat", b"{}", wrong))) == "unsupported_encoding"
