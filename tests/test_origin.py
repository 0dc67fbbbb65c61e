"""What the mission's own document says to type: each value works, or is refused with the reason.

Fake places on loopback stand for Cloudflare and the providers, on the same paths.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from config.settings import ConfigError, Settings, load
from tests.calls import Answered, exchange, get
from tests.conftest import StartServer
from tests.fakes import ModelServer, answer
from tests.nodes import Running, running
from tests.processes import running_node

GATEWAY = "/v1/a72433aa3bb83aecaca1bc8acecdb166/masa/workers-ai/"
ENV = """
export LLM_CF_URL = 'https://gateway.ai.cloudflare.com/v1/a72433aa3bb83aecaca1bc8acecdb166/masa/workers-ai/';
export LLM_CF_TOKEN = 'YOUR_CLOUDFLARE_TOKEN';
"""
BODY = b"""{
    "model": "llama3",
    "messages": [
        {
            "role": "user",
            "content": "why is the sky blue?"
        }
    ],
    "stream": false
}"""
CF_MODEL = "@cf/meta/llama-3-8b-instruct"
CF_BODY = BODY.replace(b"llama3", CF_MODEL.encode())
CF_ANSWER = {"result": {"response": "Hello"}, "success": True, "errors": [], "messages": []}
DOORS = ("/v1/api/chat", "/api/v1/chat")

Start = Callable[..., Awaitable[Running]]
doors = pytest.mark.parametrize("path", DOORS)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a node with this `.env` and these settings."""
    async with AsyncExitStack() as stack:

        async def started(env: str = "", **settings: str) -> Running:
            await asyncio.to_thread((tmp_path / ".env").write_text, env)
            return await stack.enter_async_context(running(tmp_path, **settings))

        yield started


@pytest.fixture
async def cloudflare(model_servers: StartServer) -> ModelServer:
    """Cloudflare's gateway, as far as the document's URL goes."""
    server = await model_servers(dialects=[])
    server.script(GATEWAY + CF_MODEL, answer(CF_ANSWER))
    return server


async def post(node: Running, path: str, body: bytes, headers: dict[str, str] | None = None) -> Answered:
    return await exchange("POST", node.url, path, headers, body)


def here(text: str, server: ModelServer) -> str:
    """The document's text, with a place of this machine instead of Cloudflare's."""
    return text.replace("https://gateway.ai.cloudflare.com", server.url)


def problems(tmp_path: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load(environ, cwd=tmp_path)
    return raised.value.report()


# Its `.env`


def test_its_env_lines_are_read_as_they_are_printed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENV)
    loaded = load({}, cwd=tmp_path)
    assert loaded.settings.llm_cf_url == f"https://gateway.ai.cloudflare.com{GATEWAY}"
    token = loaded.settings.llm_cf_token
    assert token is not None
    assert token.get_secret_value() == "YOUR_CLOUDFLARE_TOKEN"
    assert not [note for note in loaded.gathered.notes if "cannot be read" in note]


def test_cloudflare_without_a_token_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENV.strip().splitlines()[0])
    assert "LLM_CF_TOKEN is not set, and LLM_CF_URL is Cloudflare's own address" in problems(tmp_path)


def test_a_placeholder_that_was_not_filled_in_is_refused_at_the_start(tmp_path: Path) -> None:
    told = problems(tmp_path, LLM_CF_URL="https://<your-worker-subdomain>.workers.dev/api/v1/chat")
    assert "LLM_CF_URL" in told
    assert "not an http:// or https:// URL with a host" in told


@pytest.mark.parametrize("path", [*DOORS, "/api/v1/chat/cf"])
async def test_its_gateway_answers(cloudflare: ModelServer, start: Start, path: str) -> None:
    node = await start(here(ENV, cloudflare))
    answered = await post(node, path, CF_BODY)
    assert (answered.status, answered.told, answered.route) == (200, CF_ANSWER, "local:cloudflare")
    seen = cloudflare.inferences[0]
    assert (seen.target, seen.body) == (GATEWAY + CF_MODEL, CF_BODY)
    assert seen.headers.get("Authorization") == "Bearer YOUR_CLOUDFLARE_TOKEN"


async def test_the_gateway_takes_no_other_models(cloudflare: ModelServer, start: Start) -> None:
    node = await start(here(ENV, cloudflare))
    answered = await post(node, "/v1/api/chat", BODY)
    assert (answered.status, answered.told["code"]) == (404, "model_not_found")
    assert not [seen for seen in cloudflare.requests if seen.method == "POST"]


# An own Ollama


@doors
@pytest.mark.parametrize("url", ["{}", "{}/", "{}/api", "{}/api/chat"])
async def test_its_body_at_an_own_ollama(model_server: ModelServer, start: Start, url: str, path: str) -> None:
    node = await start(f"LLM_CHAT_URL={url.format(model_server.url)}\n", LLM_CHAT_URL="")
    answered = await post(node, path, BODY)
    assert (answered.status, answered.route) == (200, "local:ollama")
    assert answered.told["message"] == {"role": "assistant", "content": "Hello"}
    seen = model_server.inferences[0]
    assert (seen.target, seen.body) == ("/api/chat", BODY)


def test_its_port_is_the_default() -> None:
    assert (Settings().host, Settings().port) == ("127.0.0.1", 8080)


@doors
@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080"])
async def test_its_urls_name_the_node(model_server: ModelServer, start: Start, host: str, path: str) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    assert (await post(node, path, BODY, {"Host": host})).status == 200
    listed = await get(node.url, "/api/v1/llm/models", headers={"Host": host})
    assert [model["name"] for model in listed.told["models"]] == ["llama3:latest"]


async def test_its_list_of_models_has_both(model_server: ModelServer, cloudflare: ModelServer, start: Start) -> None:
    node = await start(here(ENV, cloudflare) + f"LLM_CF_MODELS={CF_MODEL}", LLM_CHAT_URL=model_server.url)
    listed = (await get(node.url, "/api/v1/llm/models")).told["models"]
    assert [(model["name"], model["upstream"]) for model in listed] == [
        ("llama3:latest", "ollama"),
        (CF_MODEL, "cloudflare"),
    ]


@doors
async def test_without_a_model_the_remedy_is_told(start: Start, path: str) -> None:
    node = await start()
    answered = await post(node, path, BODY)
    assert (answered.status, answered.told["code"]) == (503, "no_upstream")
    assert "LLM_CHAT_URL" in answered.told["error"]


async def test_all_of_it_with_curl_at_a_real_process(
    model_server: ModelServer, cloudflare: ModelServer, tmp_path: Path
) -> None:
    env = here(ENV, cloudflare) + f"LLM_CHAT_URL={model_server.url}\n"
    await asyncio.to_thread((tmp_path / ".env").write_text, env)
    async with running_node(tmp_path, {"LLM_CHAT_URL": None}) as node:
        for path in DOORS:
            told = await curl("-d", BODY.decode(), f"localhost:{node.port}{path}")
            assert told["message"]["content"] == "Hello"
        assert await curl("-d", CF_BODY.decode(), f"localhost:{node.port}/api/v1/chat") == CF_ANSWER
        listed = await curl(f"http://localhost:{node.port}/api/v1/llm/models")
        assert [model["name"] for model in listed["models"]] == ["llama3:latest"]


async def curl(*arguments: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--noproxy", "*", *arguments, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(told)


# An own Worker


@doors
@pytest.mark.parametrize("url", ["{}/api/v1/chat", "{}", "{}/"])
async def test_an_own_worker(model_servers: StartServer, start: Start, url: str, path: str) -> None:
    worker = await model_servers(dialects=[])
    worker.script("/api/v1/chat", answer({"response": "Hello"}))
    node = await start(f"LLM_CF_URL={url.format(worker.url)}\n")
    answered = await post(node, path, CF_BODY)
    assert (answered.status, answered.told, answered.route) == (200, {"response": "Hello"}, "local:cloudflare")
    seen = worker.inferences[0]
    assert (seen.target, seen.body, seen.headers.get("Authorization")) == ("/api/v1/chat", CF_BODY, None)


# The other dialects it links to

OPENAI = b'{"model":"gpt-4","messages":[{"role":"user","content":"Hi"}],"temperature":0.7,"max_tokens":9}'
CLAUDE = b'{"model":"claude-3-opus-20240229","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'


@doors
@pytest.mark.parametrize(
    ("provider", "body", "target", "key"),
    [
        ("openai", OPENAI, "/v1/chat/completions", ("Authorization", "Bearer sk-1")),
        ("anthropic", CLAUDE, "/v1/messages", ("x-api-key", "sk-1")),
    ],
)
async def test_a_hosted_model_on_the_missions_doors(
    model_servers: StartServer,
    start: Start,
    provider: str,
    body: bytes,
    target: str,
    key: tuple[str, str],
    path: str,
) -> None:
    place = await model_servers(models=[json.loads(body)["model"]], dialects=[provider])
    place.script("/v1/models", answer({"data": [{"id": json.loads(body)["model"]}]}))
    upper = provider.upper()
    node = await start(PROVIDERS=provider, **{f"{upper}_API_KEY": "sk-1", f"LLM_{upper}_URL": place.url})
    answered = await post(node, path, body)
    assert (answered.status, answered.route) == (200, f"local:{provider}")
    assert "Hello" in str(answered.told)
    seen = place.inferences[0]
    assert (seen.target, seen.body, seen.headers.get(key[0])) == (target, body, key[1])


@doors
@pytest.mark.parametrize(("dialect", "body"), [("openai", OPENAI), ("anthropic", CLAUDE)])
async def test_an_own_server_of_another_dialect_on_the_missions_doors(
    model_servers: StartServer, start: Start, dialect: str, body: bytes, path: str
) -> None:
    server = await model_servers(models=[json.loads(body)["model"]], dialects=[dialect])
    node = await start(LLM_CHAT_URL=server.url)
    answered = await post(node, path, body)
    assert (answered.status, server.inferences[0].body) == (200, body)
    assert "Hello" in str(answered.told)


async def test_a_prompt_alone_goes_to_openais_own_path(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    body = b'{"model":"llama3","prompt":"why is the sky blue?","temperature":0.7,"max_tokens":9}'
    assert (await post(node, "/v1/completions", body)).told["choices"][0]["text"] == "Hello"


async def test_anthropics_older_path_is_refused_with_the_reason(model_server: ModelServer, start: Start) -> None:
    node = await start(LLM_CHAT_URL=model_server.url)
    body = b'{"model":"claude-2","prompt":"\\n\\nHuman: Hi\\n\\nAssistant:","max_tokens_to_sample":9}'
    answered = await post(node, "/v1/complete", body)
    assert answered.status == 404
    assert "this path does not exist" in answered.told["error"]["message"]
