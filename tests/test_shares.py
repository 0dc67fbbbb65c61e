"""Which models of which upstreams a node shares with its peers, by PEER_SERVE."""

import asyncio

import pytest

from config.settings import Settings
from masa_node.app import own_upstreams
from peers.network.policy import Shares
from peers.upstreams.link import open_link
from peers.upstreams.own import Own
from peers.wire import Model
from tests.wrong_settings import ALL_PROVIDERS

RELAYED = {"tags": {"remote_host": "https://ollama.com:443"}}


def model(name: str, *, relayed: bool = False) -> Model:
    return Model(name, frozenset({"ollama"}), entries=RELAYED if relayed else {"tags": {}})


@pytest.mark.parametrize(
    ("entries", "kind", "name", "relayed", "shared"),
    [
        (("ollama",), "ollama", "llama3:latest", False, True),
        (("ollama",), "ollama", "gpt-oss:120b-cloud", True, False),
        (("ollama",), "eliza", "eliza", False, False),
        (("ollama",), "cloudflare", "@cf/meta/llama-3.1-8b-instruct", False, False),
        (("ollama",), "openai", "gpt-5", False, False),
        ((), "ollama", "llama3:latest", False, False),
        (("all",), "ollama", "llama3:latest", False, True),
        (("all",), "ollama", "gpt-oss:120b-cloud", True, True),
        (("all",), "groq", "x", False, True),
        (("all",), "eliza", "eliza", False, True),
        (("cloudflare",), "cloudflare", "@cf/meta/x", False, True),
        (("cloudflare:@cf/meta/*",), "cloudflare", "@cf/meta/x", False, True),
        (("cloudflare:@cf/meta/*",), "cloudflare", "@hf/meta/x", False, False),
        (("cloudflare",), "ollama", "llama3:latest", False, False),
        (("openai:gpt-*",), "openai", "gpt-5", False, True),
        (("openai:gpt-*",), "openai", "o4", False, False),
        (("openai:gpt-*",), "ollama", "gpt-oss:20b", False, False),
        (("ollama:qwen3*",), "ollama", "qwen3:8b", False, True),
        (("ollama:Qwen3*",), "ollama", "qwen3:8b", False, True),
        (("ollama:qwen3*",), "ollama", "hf.co/x/qwen3:8b", False, False),
        (("ollama:qwen3:?b",), "ollama", "qwen3:8b", False, True),
        (("ollama:qwen3:?b",), "ollama", "qwen3:14b", False, False),
        (("ollama:llama3",), "ollama", "llama3:latest", False, True),
        (("ollama:llama3",), "ollama", "llama3:8b", False, False),
        (("ollama:llama3:latest",), "ollama", "llama3:latest", False, True),
        (("ollama:qwen3*", "ollama:llama3"), "ollama", "llama3:latest", False, True),
        (("ollama:gpt-oss*",), "ollama", "gpt-oss:20b", False, True),
        (("ollama:gpt-oss*",), "ollama", "gpt-oss:120b-cloud", True, False),
        (("ollama:gpt-oss:120b-clou?",), "ollama", "gpt-oss:120b-cloud", True, False),
        (("ollama:gpt-oss:120b-cloud",), "ollama", "gpt-oss:120b-cloud", True, True),
        (("ollama:kimi",), "ollama", "kimi:latest", True, True),
        (("ollama:*",), "ollama", "gpt-oss:120b-cloud", True, False),
    ],
)
def test_what_is_shared(entries: tuple[str, ...], kind: str, name: str, relayed: bool, shared: bool) -> None:
    assert Shares(entries).cover([kind], model(name, relayed=relayed)) is shared


HOSTED = {
    "LLM_CF_URL": "https://worker.example",
    "LLM_CF_MODELS": "@cf/meta/x",
    "LLM_OPENAI_MODELS": "gpt-5,o4",
    **{key: value for key, value in ALL_PROVIDERS.items() if "OPENAI" in key},
    "PROVIDERS": "openai",
}


@pytest.mark.parametrize(
    ("chat_url", "serve", "names"),
    [
        ("http://a:1,http://b:1", "ollama", {"first", "second"}),
        ("http://a:1,http://b:1", "ollama:second", {"second"}),
        ("http://a:1,http://b:1,eliza", "ollama", {"first", "second", "eliza"}),
        ("http://a:1,http://b:1,eliza", "ollama:second,openai:o*", {"second", "o4"}),
        ("http://a:1,eliza", "eliza", {"eliza"}),
        ("http://a:1,eliza", "ollama:e*", {"eliza"}),
        ("eliza", "ollama", {"eliza"}),
        ("eliza", "none", set()),
        ("http://a:1", "eliza", set()),
        ("http://a:1", "cloudflare,openai", {"@cf/meta/x", "gpt-5", "o4"}),
        ("http://a:1,http://b:1,eliza", "all", {"first", "second", "relayed", "eliza", "@cf/meta/x", "gpt-5", "o4"}),
    ],
)
async def test_what_a_node_shares_of_its_upstreams(chat_url: str, serve: str, names: set[str]) -> None:
    own = await upstreams(LLM_CHAT_URL=chat_url, PEER_SERVE=serve, **HOSTED)
    for server, listed in zip(own.model_servers(), (["first", "relayed"], ["second"]), strict=False):
        server.models = {name: model(name, relayed=name == "relayed") for name in listed}
    for upstream in own.upstreams:
        upstream.rose()
    assert {one.name for one in own.shared()} == names
    for upstream in own.upstreams:
        upstream.fell("gone")
    assert {one.name for one in own.shared()} <= {"eliza"}


@pytest.mark.parametrize(
    ("serve", "shared"), [("ollama", False), ("ollama:e*", False), ("eliza", True), ("eliza:eliza", True)]
)
async def test_eliza_that_nobody_asked_for_is_shared_by_its_name_alone(serve: str, shared: bool) -> None:
    own = await upstreams(PEER_SERVE=serve)
    assert [one.name for one in own.shared()] == (["eliza"] if shared else [])


async def upstreams(**said: str) -> Own:
    settings = Settings.model_validate({name.lower(): value for name, value in said.items()})
    async with open_link(1.0) as link:
        return await asyncio.to_thread(own_upstreams, settings, link)
