"""What the caller hears when nobody is known to have the model, and when the built-in eliza is offered."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.calls import ask, get
from tests.commands import unused_port
from tests.conftest import StartServer
from tests.fakes import ModelServer, answer
from tests.nodes import Running, running

LLAMA = "@cf/meta/llama-3.1-8b-instruct"
WORKERS_AI = "/v1/acc/masa/workers-ai"

Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a node with these settings: `await start(LLM_CHAT_URL=…)`."""
    async with AsyncExitStack() as stack:

        async def started(**settings: str) -> Running:
            return await stack.enter_async_context(running(tmp_path, **settings))

        yield started


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where an Ollama that nobody named is looked for: nowhere, until a test adds to it."""
    places: list[str] = []
    monkeypatch.setattr("masa_node.app.possible_ollamas", lambda root: places)
    return places


async def gone() -> str:
    """The URL of a server that was."""
    async with ModelServer() as server:
        return server.url


async def looked(node: Running) -> None:
    for upstream in node.node.own.upstreams:
        await upstream.refresh()


# An own model server's word


async def test_a_model_server_says_itself_what_it_does_not_have(model_servers: StartServer, start: Start) -> None:
    two = await model_servers(), await model_servers()
    node = await start(LLM_CHAT_URL=f"{two[0].url},{two[1].url}")
    answered = await ask(node.url, "/api/chat", "qwen3")
    assert (answered.status, answered.told) == (404, {"error": "model 'qwen3' not found"})
    assert [len(one.inferences) for one in two] == [1, 0]


async def test_a_model_pulled_a_moment_ago_is_found(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    model_server.speaks.models = ["llama3:latest", "qwen3:latest"]
    assert (await ask(node.url, "/api/chat", "qwen3")).status == 200
    assert "qwen3:latest" in node.node.own.upstreams[0].models


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/api/chat"])
async def test_a_server_that_never_answered_is_named(start: Start, path: str) -> None:
    """Not a 404: nobody knows what it would serve."""
    node = await start(LLM_CHAT_URL=await gone())
    answered = await ask(node.url, path)
    assert answered.status == 502
    assert b"ollama refused the connection" in answered.body


@pytest.mark.parametrize(
    ("dialects", "path", "named"),
    [
        (["openai"], "/api/chat", "/v1/chat/completions or /v1/responses"),
        (["anthropic", "openai"], "/api/show", "/v1/chat/completions or /v1/responses or /v1/messages"),
        (["ollama"], "/v1/messages", "/api/chat"),
    ],
)
async def test_a_model_of_another_dialect(
    model_servers: StartServer, start: Start, dialects: list[str], path: str, named: str
) -> None:
    one = await model_servers(dialects=dialects)
    node = await start(LLM_CHAT_URL=one.url)
    answered = await ask(node.url, path, "llama3:latest")
    assert answered.status == 404
    assert f"not served on this path; ask for it at {named}" in str(answered.told)
    assert one.inferences == []


async def test_who_speaks_the_dialect_is_not_asked_for_anothers_model(model_servers: StartServer, start: Start) -> None:
    ollama, vllm = await model_servers(), await model_servers(models=["qwen3"], dialects=["openai"])
    node = await start(LLM_CHAT_URL=f"{ollama.url},{vllm.url}")
    assert "ask for it at /v1/chat/completions" in (await ask(node.url, "/api/chat", "qwen3")).told["error"]
    assert ollama.inferences == []


async def test_cloudflares_models_on_a_path_it_has_not(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CF_URL=model_server.url + WORKERS_AI, LLM_CF_TOKEN="tok")
    assert "ask for it at /v1/chat/completions" in (await ask(node.url, "/api/chat", LLAMA)).told["error"]
    assert not [seen for seen in model_server.requests if seen.method == "POST"]


async def test_an_own_workers_models_on_a_dialects_path(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CF_URL=model_server.url)
    told = (await ask(node.url, "/v1/chat/completions", LLAMA)).told
    assert "ask for it at /v1/api/chat or /api/v1/chat" in told["error"]["message"]


async def test_the_nearest_names_are_told(start: Start) -> None:
    node = await start(PROVIDERS="openai", OPENAI_API_KEY="sk-1", LLM_OPENAI_MODELS="gpt-5-mini,o9")
    answered = await ask(node.url, "/v1/chat/completions", "gpt-5")
    assert (answered.status, answered.told["error"]["code"]) == (404, "model_not_found")
    assert "Nearest: gpt-5-mini (openai); GET /api/v1/llm/models" in answered.told["error"]["message"]
    assert "gpt-5 " not in answered.told["error"]["message"]
    assert "can be asked for" in (await ask(node.url, "/api/chat", "xxxxxxxx")).told["error"]


async def test_what_is_down_is_told_beside_the_404(start: Start) -> None:
    node = await start(
        PROVIDERS="openai,groq",
        OPENAI_API_KEY="sk-1",
        LLM_OPENAI_MODELS="gpt-5",
        GROQ_API_KEY="k",
        LLM_GROQ_URL=await gone(),
    )
    told = (await ask(node.url, "/v1/chat/completions", "llama3")).told["error"]
    assert told["code"] == "model_not_found"
    assert "groq could not be reached. See GROQ_API_KEY and LLM_GROQ_URL" in told["message"]


# Nobody at all


async def test_nothing_is_set(start: Start) -> None:
    node = await start()
    answered = await ask(node.url, "/api/chat")
    assert (answered.status, answered.told["code"]) == (503, "no_upstream")
    for remedy in ("Start Ollama", "LLM_CHAT_URL", "LLM_CF_URL", "PROVIDERS", "masa-node doctor"):
        assert remedy in answered.told["error"]
    assert "eliza" not in answered.told["error"]
    assert (await get(node.url, "/ready")).status == 503


async def test_all_there_is_cannot_be_asked(start: Start) -> None:
    node = await start(PROVIDERS="groq", GROQ_API_KEY="k", LLM_GROQ_URL=await gone())
    answered = await ask(node.url, "/v1/chat/completions")
    assert (answered.status, answered.told["error"]["code"]) == (503, "no_upstream")
    assert "groq could not be reached. See GROQ_API_KEY" in answered.told["error"]["message"]


async def test_a_node_named_as_upstream_is_never_asked(model_servers: StartServer, start: Start) -> None:
    other = await model_servers(extra_headers={"X-Masa-Node": "abc"})
    node = await start(LLM_CHAT_URL=other.url)
    answered = await ask(node.url, "/v1/api/chat")
    assert (answered.status, answered.told["code"]) == (503, "no_upstream")
    assert "ollama is a masa-node, and a node is never an upstream" in answered.told["error"]
    assert other.inferences == []


async def test_two_nodes_that_name_each_other_do_not_loop(start: Start, tmp_path: Path) -> None:
    """docs/promises.md B9, where neither has looked at the other yet."""
    async with ModelServer() as before:
        node = await start(LLM_CHAT_URL=before.url)
    other = await start(PORT=str(before.port), LLM_CHAT_URL=node.url, MASA_DIR=str(tmp_path / "other"))
    answered = await ask(node.url, "/api/chat")
    assert (answered.status, answered.told["code"]) == (502, "upstream_broken")
    assert "ollama is a masa-node" in answered.told["error"]
    assert other.node.own.upstreams[0].status == "refused"


@pytest.mark.parametrize(
    ("setting", "model", "status", "hops"), [("LLM_CHAT_URL", "llama3", 503, None), ("LLM_CF_URL", LLAMA, 502, 1)]
)
async def test_a_node_that_names_itself_does_not_loop(
    start: Start, setting: str, model: str, status: int, hops: int | None
) -> None:
    """It looks at what it is sent to, and where it never looks the request goes round once."""
    port = unused_port()
    node = await start(PORT=str(port), **{setting: f"http://127.0.0.1:{port}"})
    answered = await ask(node.url, "/api/v1/chat", model)
    assert answered.status == status
    assert "is a masa-node" in answered.told["error"]
    refused = {"path": "/api/v1/chat", "status": "508", "outcome": "failed"}
    assert node.node.metrics.registry.get_sample_value("masa_requests_total", refused) == hops


async def test_what_a_node_sent_is_not_sent_on(start: Start) -> None:
    hop = {"Masa-Hop": "1"}
    node = await start()
    answered = await ask(node.url, "/v1/messages", headers=hop)
    assert (answered.status, answered.told["error"]["type"]) == (508, "api_error")
    assert "came from another node" in answered.told["error"]["message"]
    assert (await ask(node.url, "/api/chat", headers=hop)).told["code"] == "loop"


async def test_what_a_node_sent_is_answered_from_own_upstreams(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    assert (await ask(node.url, "/api/chat", headers={"Masa-Hop": "1"})).status == 200


# Cloudflare's own path


async def test_cloudflares_path(model_servers: StartServer, start: Start) -> None:
    """Only Cloudflare answers on it, even where another upstream lists a model of that name."""
    own, cloudflare = await model_servers(models=[LLAMA]), await model_servers()
    cloudflare.script(f"{WORKERS_AI}/{LLAMA}", answer({"result": {"response": "Hi"}}))
    node = await start(LLM_CHAT_URL=own.url, LLM_CF_URL=cloudflare.url + WORKERS_AI, LLM_CF_TOKEN="tok")
    answered = await ask(node.url, "/api/v1/chat/cf", LLAMA)
    assert (answered.status, answered.route) == (200, "local:cloudflare")
    refused = await ask(node.url, "/api/v1/chat/cf", "llama3")
    assert (refused.status, refused.told["code"]) == (400, "invalid_model")
    assert "named @cf/… or @hf/…; others go to /v1/api/chat" in refused.told["error"]
    assert own.inferences == []


async def test_cloudflares_path_where_it_is_not_set_up(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    answered = await ask(node.url, "/api/v1/chat/cf", LLAMA)
    assert (answered.status, answered.told["code"]) == (503, "no_upstream")
    assert "set LLM_CF_URL and LLM_CF_TOKEN" in answered.told["error"]


# eliza


async def test_eliza_stands_in_while_nothing_is_found(
    start: Start, places: list[str], model_server: ModelServer
) -> None:
    places.append(model_server.url)
    await model_server.stop()
    node = await start(LLM_CHAT_URL="")
    assert (await ask(node.url, "/api/chat", "eliza")).route == "local:eliza"
    missing = await ask(node.url, "/api/chat", "llama3")
    assert (missing.status, missing.told["code"]) == (503, "no_upstream")
    assert "The built-in program `eliza` answers meanwhile." in missing.told["error"]
    assert (await get(node.url, "/ready")).status == 200


async def test_an_ollama_that_is_found_takes_over_and_gives_back(
    start: Start, places: list[str], model_server: ModelServer
) -> None:
    places.append(model_server.url)
    node = await start(LLM_CHAT_URL="")
    assert (await ask(node.url, "/api/chat")).route == "local:ollama"
    assert (await ask(node.url, "/api/chat", "eliza")).told == {"error": "model 'eliza' not found"}
    await model_server.stop()
    await looked(node)
    assert (await ask(node.url, "/api/chat", "eliza")).route == "local:eliza"
    await model_server.start()


async def test_an_ollama_started_a_moment_ago_is_found(
    start: Start, places: list[str], model_server: ModelServer
) -> None:
    """Without waiting for the next look."""
    places.append(model_server.url)
    await model_server.stop()
    node = await start(LLM_CHAT_URL="")
    await model_server.start()
    assert (await ask(node.url, "/api/chat")).route == "local:ollama"


@pytest.mark.parametrize(
    ("settings", "offered"),
    [
        ({"LLM_CHAT_URL": ""}, True),
        ({"LLM_CHAT_URL": "eliza"}, True),
        ({"LLM_CHAT_URL": "SERVER,eliza"}, True),
        ({"LLM_CHAT_URL": "eliza", "LLM_CF_URL": "SERVER"}, True),
        ({"LLM_CHAT_URL": "off"}, False),
        ({"LLM_CHAT_URL": "SERVER"}, False),
        ({"LLM_CHAT_URL": "", "LLM_CF_URL": "SERVER"}, False),
        ({"LLM_CHAT_URL": "", "PROVIDERS": "openai", "OPENAI_API_KEY": "k", "LLM_OPENAI_MODELS": "m"}, False),
    ],
)
async def test_when_eliza_is_offered(
    start: Start, places: list[str], model_server: ModelServer, settings: dict[str, str], offered: bool
) -> None:
    node = await start(**{name: value.replace("SERVER", model_server.url) for name, value in settings.items()})
    listed = (await get(node.url, "/api/v1/llm/models")).told["models"]
    assert ("eliza" in [model["name"] for model in listed]) is offered
    assert ((await ask(node.url, "/api/chat", "eliza")).status == 200) is offered
