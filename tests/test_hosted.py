"""Cloudflare and the providers: where a call goes, by which key, and how their models are known."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from peers.errors import UpstreamBroken, UpstreamUnreachable
from peers.upstreams.cloudflare import Cloudflare
from peers.upstreams.link import Link, open_link
from peers.upstreams.providers import PROVIDERS, HostedProvider
from peers.upstreams.upstream import LOOK_SECONDS, Hosted
from tests.calls import call, opened
from tests.conftest import StartServer
from tests.fakes import DIE, ModelServer, Script, answer

LLAMA = "@cf/meta/llama-3.1-8b-instruct"
GATEWAY = "/v1/a72433aa3bb83aecaca1bc8acecdb166/masa/workers-ai"
REST = "/client/v4/accounts/a72433aa3bb83aecaca1bc8acecdb166/ai"
SEARCH = f"{REST}/models/search"
LIST = {"success": True, "result": [{"id": "429b9e8b-d99e-44de-91ad-706cf8183658", "name": LLAMA}], "errors": []}

MakeCloudflare = Callable[..., Cloudflare]
MakeProvider = Callable[..., HostedProvider]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    async with open_link(2) as link:
        yield link


@pytest.fixture
def cloudflare(link: Link) -> MakeCloudflare:
    return lambda url, **more: Cloudflare(link, url, **({"token": "tok", "gateway_token": None, "models": ()} | more))


@pytest.fixture
def provider(link: Link) -> MakeProvider:
    def make(name: str, url: str | None = None, models: tuple[str, ...] = ()) -> HostedProvider:
        return HostedProvider(link, PROVIDERS[name], key="sk-1", url=url, models=models)

    return make


def entries(*names: str) -> Script:
    return answer({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


# Cloudflare


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        (f"{GATEWAY}", "/v1/api/chat", f"{GATEWAY}/{LLAMA}"),
        (f"{GATEWAY}", "/api/v1/chat", f"{GATEWAY}/{LLAMA}"),
        (f"{GATEWAY}", "/api/v1/chat/cf", f"{GATEWAY}/{LLAMA}"),
        (f"{GATEWAY}", "/v1/chat/completions", f"{GATEWAY}/v1/chat/completions?a=1"),
        (f"{GATEWAY}", "/v1/embeddings", f"{GATEWAY}/v1/embeddings?a=1"),
        (f"{REST}/run", "/api/v1/chat", f"{REST}/run/{LLAMA}"),
        (f"{REST}/run", "/v1/chat/completions", f"{REST}/v1/chat/completions?a=1"),
        ("/api/v1/chat", "/v1/api/chat", "/api/v1/chat"),
        ("/any/where", "/api/v1/chat/cf", "/any/where"),
        ("", "/v1/api/chat", "/api/v1/chat"),
    ],
)
async def test_where_a_call_to_cloudflare_goes(
    model_server: ModelServer, cloudflare: MakeCloudflare, base: str, path: str, target: str, slash: str
) -> None:
    if base in ("/any/where", "/api/v1/chat"):
        target += slash  # an own Worker's URL is used as it is written
    asked = call(path, LLAMA, query="a=1")
    upstream = cloudflare(model_server.url + base + slash)
    assert upstream.serves(asked)
    model_server.script(target.partition("?")[0], answer({"result": {"response": "Hi"}, "success": True}))
    assert (await opened(upstream, asked))[0] == 200
    seen = model_server.inferences[0]
    assert (seen.target, seen.body) == (target, asked.body)
    assert seen.headers.get("Authorization") == "Bearer tok"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://x.workers.dev?k=%2F", "https://x.workers.dev/api/v1/chat?k=%2F"),
        ("https://x.workers.dev/chat?k=%2F", "https://x.workers.dev/chat?k=%2F"),
    ],
)
def test_a_workers_query_is_kept_and_not_shown(cloudflare: MakeCloudflare, url: str, target: str) -> None:
    upstream = cloudflare(url)
    assert upstream.target(call("/api/v1/chat", LLAMA)) == target
    assert "%2F" not in upstream.address()


@pytest.mark.parametrize(
    ("token", "gateway_token", "sent"),
    [
        ("tok", None, {"authorization": "Bearer tok"}),
        ("tok", "gate", {"authorization": "Bearer tok", "cf-aig-authorization": "Bearer gate"}),
        (None, None, {}),
    ],
)
def test_cloudflares_tokens(
    cloudflare: MakeCloudflare, token: str | None, gateway_token: str | None, sent: dict[str, str]
) -> None:
    upstream = cloudflare("https://x.workers.dev", token=token, gateway_token=gateway_token)
    assert upstream.credentials(call("/api/v1/chat", LLAMA)) == sent


@pytest.mark.parametrize(
    ("base", "path", "model"),
    [
        (GATEWAY, "/v1/api/chat", "llama3"),
        (GATEWAY, "/v1/api/chat", "@cf/meta"),
        (GATEWAY, "/v1/api/chat", "@cf/meta/llama/3"),
        (GATEWAY, "/v1/api/chat", "@cf/../llama"),
        (GATEWAY, "/v1/api/chat", "@cf/meta/..llama"),
        (GATEWAY, "/v1/responses", LLAMA),
        (GATEWAY, "/api/chat", LLAMA),
        (GATEWAY, "/v1/messages", LLAMA),
        ("/api/v1/chat", "/v1/chat/completions", LLAMA),
    ],
)
def test_what_cloudflare_does_not_serve(cloudflare: MakeCloudflare, base: str, path: str, model: str) -> None:
    assert not cloudflare("https://h" + base).serves(call(path, model))


async def test_cloudflares_list_goes_by_name(model_server: ModelServer, cloudflare: MakeCloudflare) -> None:
    """The `id` beside it is a UUID that no door takes."""
    model_server.script(SEARCH, answer(LIST))
    upstream = cloudflare(f"{model_server.url}{REST}/run/")
    await upstream.refresh()
    assert (upstream.status, list(upstream.models)) == ("up", [LLAMA])
    assert model_server.requests[0].headers.get("Authorization") == "Bearer tok"


@pytest.mark.parametrize(
    "more", [{"base": GATEWAY}, {"base": "/chat"}, {"base": f"{REST}/run", "models": (LLAMA, "no-such-name")}]
)
async def test_what_has_no_list_is_taken_at_the_operators_word(
    model_server: ModelServer, cloudflare: MakeCloudflare, more: dict[str, Any]
) -> None:
    upstream = cloudflare(model_server.url + more.pop("base"), **more)
    await upstream.refresh()
    assert (upstream.status, list(upstream.models)) == ("up", [LLAMA] * ("models" in more))
    only_asked_whether_it_is_a_node(model_server)


# Providers


@pytest.mark.parametrize(
    ("name", "path", "target"),
    [
        ("openai", "/v1/api/chat", "/v1/chat/completions"),
        ("openai", "/v1/responses", "/v1/responses?a=1"),
        ("groq", "/api/v1/chat", "/v1/chat/completions"),
        ("deepseek", "/v1/chat/completions", "/v1/chat/completions?a=1"),
        ("anthropic", "/v1/api/chat", "/v1/messages"),
        ("anthropic", "/v1/messages", "/v1/messages?a=1"),
        ("anthropic", "/v1/messages/count_tokens", "/v1/messages/count_tokens?a=1"),
    ],
)
@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/"])
async def test_where_a_call_to_a_provider_goes(
    model_server: ModelServer, provider: MakeProvider, name: str, path: str, target: str, base: str
) -> None:
    upstream = provider(name, model_server.url + base, ("m1",))
    model_server.script(target.partition("?")[0], answer({}))
    assert (await opened(upstream, call(path, "m1", query="a=1")))[0] == 200
    assert model_server.inferences[0].target == target


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("openai", "https://api.openai.com"),
        ("groq", "https://api.groq.com/openai"),
        ("deepseek", "https://api.deepseek.com"),
        ("anthropic", "https://api.anthropic.com"),
    ],
)
def test_the_providers_own_addresses(provider: MakeProvider, name: str, base: str) -> None:
    assert provider(name).address() == base


@pytest.mark.parametrize(
    ("name", "given", "sent"),
    [
        ("openai", {}, {"authorization": "Bearer sk-1"}),
        ("groq", {"anthropic-version": "2099-01-01"}, {"authorization": "Bearer sk-1"}),
        ("anthropic", {}, {"x-api-key": "sk-1", "anthropic-version": "2023-06-01"}),
        ("anthropic", {"anthropic-version": "2099-01-01"}, {"x-api-key": "sk-1", "anthropic-version": "2099-01-01"}),
    ],
)
def test_the_providers_keys(
    provider: MakeProvider, name: str, given: Mapping[str, str], sent: Mapping[str, str]
) -> None:
    assert provider(name).credentials(call("/v1/messages", headers=given)) == sent


@pytest.mark.parametrize(
    ("name", "asked", "header"),
    [
        ("openai", "/v1/models", ("Authorization", "Bearer sk-1")),
        ("anthropic", "/v1/models?limit=1000", ("x-api-key", "sk-1")),
        ("anthropic", "/v1/models?limit=1000", ("anthropic-version", "2023-06-01")),
    ],
)
async def test_a_providers_list(
    model_server: ModelServer, provider: MakeProvider, name: str, asked: str, header: tuple[str, str]
) -> None:
    model_server.script("/v1/models", entries("m1", "m2"))
    upstream = provider(name, model_server.url + "/v1")
    await upstream.refresh()
    assert (upstream.status, list(upstream.models)) == ("up", ["m1", "m2"])
    assert upstream.models["m1"].dialects == {PROVIDERS[name].dialect}
    assert (model_server.requests[0].target, model_server.requests[0].headers.get(header[0])) == (asked, header[1])


async def test_models_that_are_named_are_not_asked_for(model_server: ModelServer, provider: MakeProvider) -> None:
    upstream = provider("openai", model_server.url, ("m1",))
    await upstream.refresh()
    assert (upstream.status, list(upstream.models)) == ("up", ["m1"])
    only_asked_whether_it_is_a_node(model_server)


def only_asked_whether_it_is_a_node(server: ModelServer) -> None:
    (seen,) = server.requests
    assert (seen.method, seen.target) == ("GET", "/")
    assert not {"authorization", "cf-aig-authorization", "x-api-key"} & {name.lower() for name, _ in seen.headers}


# What both do


@pytest.fixture(params=["cloudflare", "openai"])
def hosted(
    request: pytest.FixtureRequest, model_server: ModelServer, cloudflare: MakeCloudflare, provider: MakeProvider
) -> Hosted:
    """One that lists `m1`, each in its own way."""
    model_server.script(SEARCH, answer(LIST))
    model_server.script("/v1/models", entries(LLAMA))
    if request.param == "openai":
        return provider("openai", model_server.url)
    return cloudflare(f"{model_server.url}{REST}/run")


def failing(server: ModelServer, script: Script) -> None:
    for path in (SEARCH, "/v1/models"):
        server.script(path, script)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (answer({}, 401), "refused the key (401). See "),
        (answer({}, 403), "refused the key (403). See "),
        (answer({}, 500), "answered 500 when asked for its models. See "),
        (Script(status=302, headers={"Location": "/"}), "answered 302"),
        (Script(before_head=[DIE]), "could not be reached. See "),
    ],
)
async def test_why_it_is_down(model_server: ModelServer, hosted: Hosted, script: Script, said: str) -> None:
    failing(model_server, script)
    assert await hosted.refresh() == LOOK_SECONDS
    assert hosted.status == "down"
    assert hosted.why.startswith(f"{hosted.name} {said}")


async def test_a_list_is_kept_but_a_failure_is_looked_into_soon(model_server: ModelServer, hosted: Hosted) -> None:
    assert (await hosted.refresh(), await hosted.refresh()) == (LOOK_SECONDS, LOOK_SECONDS)
    assert (hosted.status, len(model_server.requests)) == ("up", 1)
    model_server.next(*[Script(before_head=[DIE])] * 2)
    with pytest.raises(UpstreamUnreachable):
        await hosted.open(call("/api/v1/chat", LLAMA))
    assert (hosted.status, list(hosted.models)) == ("down", [LLAMA])
    await hosted.refresh()
    assert hosted.status == "up"


async def test_a_list_that_cannot_be_read_changes_nothing(model_server: ModelServer, hosted: Hosted) -> None:
    await hosted.refresh()
    hosted.fell("for the test")
    failing(model_server, answer({"result": None, "data": 3}))
    await hosted.refresh()
    assert (hosted.status, list(hosted.models)) == ("up", [LLAMA])


async def test_a_node_is_never_an_upstream(
    model_servers: StartServer, provider: MakeProvider, cloudflare: MakeCloudflare
) -> None:
    server = await model_servers(extra_headers={"X-Masa-Node": "abc"})
    upstream = provider("openai", server.url)
    await upstream.refresh()
    assert (upstream.status, upstream.models) == ("refused", {})
    with pytest.raises(UpstreamBroken, match="is a masa-node"):
        await cloudflare(f"{server.url}/api/v1/chat").open(call("/api/v1/chat", LLAMA))
