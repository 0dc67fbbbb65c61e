"""Own model servers: what LLM_CHAT_URL may say, and which dialects a server is found to speak."""

from collections.abc import AsyncIterator, Callable

import pytest

from peers.errors import UpstreamBroken
from peers.upstreams.link import Link, open_link
from peers.upstreams.ollama import LOOK_WHEN_DOWN, LOOK_WHEN_UP, Address
from peers.upstreams.ollama import ModelServer as Server
from tests.calls import call, opened
from tests.conftest import StartServer
from tests.fakes import ModelServer, Script, answer

NOT_FOUND = Script(status=404, headers={"Content-Type": "text/html"}, chunks=[b"<html>404</html>"], framing="length")
EVERY = frozenset({"ollama", "openai", "anthropic"})

At = Callable[..., Server]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    async with open_link(0.3) as link:
        yield link


@pytest.fixture
def at(link: Link) -> At:
    """The upstream at a URL, as LLM_CHAT_URL names it."""
    return lambda url, **more: Server(link, Address.parse(url), **({"name": "ollama", "parallel": 1} | more))


# What LLM_CHAT_URL may say


@pytest.mark.parametrize(
    ("text", "base", "chat", "dialect"),
    [
        ("http://h:11434", "http://h:11434", None, None),
        ("http://h:11434/", "http://h:11434", None, None),
        ("http://h:8000/v1", "http://h:8000", None, None),
        ("http://h:8000/v1/", "http://h:8000", None, None),
        ("http://h:11434/api", "http://h:11434", None, None),
        ("http://h:11434/api/", "http://h:11434", None, None),
        ("https://h/api/v1", "https://h/api", None, None),
        ("http://api", "http://api", None, None),
        ("http://v1/", "http://v1", None, None),
        ("http://[::1]:11434", "http://[::1]:11434", None, None),
        ("http://h/behind/a%2Fproxy", "http://h/behind/a%2Fproxy", None, None),
        ("http://h/?key=k", "http://h", None, None),
        ("http://h:11434/api/chat", "http://h:11434", "http://h:11434/api/chat", "ollama"),
        ("http://h/api/generate", "http://h", "http://h/api/generate", None),
        ("http://h:8000/v1/chat/completions", "http://h:8000", "http://h:8000/v1/chat/completions", "openai"),
        ("https://h/api/v1/chat/completions", "https://h/api", "https://h/api/v1/chat/completions", "openai"),
        ("https://h/chat/completions", "https://h", "https://h/chat/completions", "openai"),
        ("https://h/v1/completions", "https://h", "https://h/v1/completions", None),
        ("https://h/v1/messages", "https://h", "https://h/v1/messages", "anthropic"),
        ("https://h/x/v1/messages?beta=true", "https://h/x", "https://h/x/v1/messages?beta=true", "anthropic"),
        ("https://x.example/api/v1/chat", "https://x.example", "https://x.example/api/v1/chat", None),
        ("https://x.example/v1/api/chat/", "https://x.example", "https://x.example/v1/api/chat/", None),
        ("https://h/a%2Fb/chat?k=%2f", "https://h/a%2Fb", "https://h/a%2Fb/chat?k=%2f", None),
    ],
)
def test_an_address_is_a_base_or_a_chat_url(text: str, base: str, chat: str | None, dialect: str | None) -> None:
    assert Address.parse(text) == Address(base, chat, dialect)


@pytest.mark.parametrize(
    ("text", "authorization"),
    [
        ("http://me:secret@h:1/", "Basic bWU6c2VjcmV0"),
        ("http://me:a%40b@h:1", "Basic bWU6YUBi"),
        ("http://me@h:1", "Basic bWU6"),
    ],
)
def test_a_user_in_the_address_becomes_a_header(text: str, authorization: str) -> None:
    assert Address.parse(text) == Address("http://h:1", authorization=authorization)


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("", "/api/chat", "/api/chat?a=1"),
        ("", "/v1/embeddings", "/v1/embeddings?a=1"),
        ("", "/v1/api/chat", "/api/chat"),
        ("/api/v1/chat", "/v1/api/chat", "/api/v1/chat"),
        ("/api/v1/chat", "/api/chat", "/api/chat?a=1"),
        ("/x/api/chat?k=2", "/api/chat", "/x/api/chat?k=2&a=1"),
        ("/x/api/chat?k=2", "/api/v1/chat", "/x/api/chat?k=2"),
        ("/x/api/chat?k=2", "/v1/chat/completions", "/x/v1/chat/completions?a=1"),
        ("/chat/completions", "/v1/chat/completions", "/chat/completions?a=1"),
        ("/chat/completions", "/v1/responses", "/v1/responses?a=1"),
    ],
)
def test_where_a_call_goes(url: str, path: str, target: str) -> None:
    server = Server(None, Address.parse("http://h:1" + url), name="ollama", parallel=1)  # type: ignore[arg-type]
    assert server.target(call(path, query="a=1")) == "http://h:1" + target


@pytest.mark.parametrize(
    ("dialects", "path"),
    [
        (["ollama", "openai", "anthropic"], "/api/chat"),
        (["openai", "anthropic"], "/v1/chat/completions"),
        (["anthropic"], "/v1/messages"),
    ],
)
async def test_the_missions_doors_lead_to_a_chat_path_it_has(
    model_servers: StartServer, at: At, dialects: list[str], path: str
) -> None:
    server = await model_servers(dialects=dialects)
    upstream = at(server.url)
    await upstream.refresh()
    assert (await opened(upstream, call("/v1/api/chat")))[0] == 200
    assert server.inferences[0].target == path


async def test_a_user_goes_with_every_request_and_shows_nowhere(model_server: ModelServer, at: At) -> None:
    upstream = at(model_server.url.replace("//", "//me:secret@") + "/api/chat?key=hidden")
    await upstream.refresh()
    await opened(upstream, call())
    assert {seen.headers.get("Authorization") for seen in model_server.requests} == {"Basic bWU6c2VjcmV0"}
    assert upstream.address() == model_server.url + "/api/chat?***"


# Which dialects it speaks


async def test_an_ollama_tells_all_there_is_to_know(model_server: ModelServer, at: At) -> None:
    upstream = at(model_server.url)
    assert await upstream.refresh() == LOOK_WHEN_UP
    model = upstream.model("llama3")
    assert model is not None
    assert (upstream.status, upstream.dialects, upstream.version) == ("up", EVERY, "0.20.0")
    assert (model.name, model.dialects, model.context, model.loaded) == ("llama3:latest", EVERY, 8192, True)
    assert len(model.digest or "") == 64
    assert set(model.entries) == {"tags", "ps", "models"}
    assert upstream.model("llama3:8b") is None
    assert upstream.model("library/llama3:latest") is None


LM_STUDIO = {
    path: answer({"error": f"Unexpected endpoint or method. (GET {path}). Returning 200 anyway"})
    for path in ("/api/version", "/api/tags", "/api/ps", "/v1/messages")
}
LLAMA_CPP = {
    "/api/tags": answer({"models": [{"name": "tiny.gguf", "model": "tiny.gguf"}]}),
    "/v1/models": answer({
        "models": [{"name": "tiny.gguf"}],
        "data": [{"id": "tiny.gguf", "object": "model", "meta": {"n_ctx": 4096, "n_ctx_train": 131072}}],
    }),
    "/v1/messages": answer({"error": {"code": 500, "message": "missing messages", "type": "server_error"}}, 500),
}  # fmt: skip
VLLM = {
    "/v1/models": answer({"object": "list", "data": [{"id": "tiny.gguf", "object": "model", "max_model_len": 4096}]}),
    "/v1/messages": answer({"object": "error", "message": "field required"}, 422),
}


@pytest.mark.parametrize(
    ("scripts", "dialects", "context"),
    [
        (LM_STUDIO | {"/v1/models": answer({"data": [{"id": "tiny.gguf"}]})}, {"openai"}, None),
        (LLAMA_CPP, {"openai", "anthropic"}, 4096),
        (LLAMA_CPP | {"/v1/messages": NOT_FOUND}, {"openai"}, 4096),
        (VLLM, {"openai", "anthropic"}, 4096),
        (VLLM | {"/v1/messages": answer({}, 401)}, {"openai", "anthropic"}, 4096),
        (
            VLLM | {"/v1/models": answer({"data": [{}, 1, {"id": 2}, {"id": "tiny.gguf"}]})},
            {"openai", "anthropic"},
            None,
        ),
    ],
    ids=["lm studio", "llama.cpp", "older llama.cpp", "vllm", "locked messages", "odd entries"],
)
async def test_servers_that_are_no_ollama(
    model_servers: StartServer, at: At, scripts: dict[str, Script], dialects: set[str], context: int | None
) -> None:
    server = await model_servers(dialects=[])
    for path, script in scripts.items():
        server.script(path, script)
    upstream = at(server.url)
    await upstream.refresh()
    assert (upstream.status, upstream.dialects, upstream.version) == ("up", dialects, None)
    assert {(model.name, model.context, model.loaded) for model in upstream.models.values()} == {
        ("tiny.gguf", context, None)
    }
    assert upstream.model("tiny.gguf:latest") is None


@pytest.mark.parametrize("status", [200, 401, 404, 503])
async def test_what_answers_but_is_no_model_server(model_servers: StartServer, at: At, status: int) -> None:
    """A web server, a locked one, one that is loading: looked at again soon, and known once it is ready."""
    server = await model_servers()
    for path in ("/api/version", "/v1/models", "/v1/messages"):
        server.script(path, Script(status=status, headers={"Content-Type": "text/html"}, chunks=[b"{}<html>"]))
    upstream = at(server.url)
    assert await upstream.refresh() == LOOK_WHEN_DOWN
    assert (upstream.status, upstream.models, upstream.dialects) == ("down", {}, frozenset())
    assert f"GET /v1/models with {status}" in upstream.why
    assert "masa-node doctor" in upstream.why
    server.script("/api/version", answer({"version": "0.20.0"}))
    server.script("/v1/models", answer({"data": [{"id": "llama3:latest"}]}))
    server.script("/v1/messages", NOT_FOUND)
    await upstream.refresh()
    assert (upstream.status, upstream.dialects) == ("up", {"ollama", "openai"})


async def test_a_dialect_that_comes_later_is_found(model_servers: StartServer, at: At) -> None:
    server = await model_servers(dialects=["openai"])
    upstream = at(server.url)
    await upstream.refresh()
    assert upstream.dialects == {"openai"}
    server.speaks.dialects = EVERY
    await upstream.refresh()
    assert upstream.dialects == EVERY


async def test_anthropics_path_is_not_tried_at_every_look(model_server: ModelServer, at: At) -> None:
    upstream = at(model_server.url)
    for _ in range(3):
        await upstream.refresh()
    assert [seen.path for seen in model_server.requests].count("/v1/messages") == 1


async def test_a_full_chat_url_says_its_dialect_itself(model_servers: StartServer, at: At) -> None:
    """Nothing but the chat path may be there."""
    server = await model_servers(dialects=[])
    upstream = at(server.url + "/v1/chat/completions")
    await upstream.refresh()
    assert (upstream.status, upstream.dialects) == ("up", {"openai"})
    assert upstream.speaks(call("/v1/chat/completions"))
    assert not upstream.speaks(call("/api/chat"))


async def test_a_node_is_never_an_upstream(model_servers: StartServer, at: At) -> None:
    server = await model_servers(extra_headers={"X-Masa-Node": "abc"})
    upstream = at(server.url)
    assert await upstream.refresh() == LOOK_WHEN_UP
    assert (upstream.status, upstream.models) == ("refused", {})
    assert "is a masa-node" in upstream.why


async def test_a_node_is_told_by_its_answer_too(model_servers: StartServer, at: At) -> None:
    server = await model_servers(extra_headers={"X-Masa-Node": "abc"})
    with pytest.raises(UpstreamBroken, match="is a masa-node"):
        await at(server.url).open(call())
