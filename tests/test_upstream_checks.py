"""What the doctor finds when it asks each upstream, and what it advises."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from config.settings import load
from masa_node.commands import upstream_checks
from masa_node.commands.findings import Finding
from masa_node.commands.upstream_checks import check_upstreams
from tests.commands import unused_port
from tests.fakes import HANG, ModelServer, Script, answer
from tests.scripts import plain

SECRET = "canary-canary-canary"


async def upstreams(folder: Path, contained: bool = False, **env: str) -> list[Finding]:
    """check_upstreams() in this process."""
    loaded = await asyncio.to_thread(load, env, cwd=folder)
    return await check_upstreams(loaded.settings, contained=contained)


@pytest.mark.parametrize(
    ("server", "status", "what"),
    [
        (ModelServer(dialects=[]), "fail", "not as a model server"),
        (ModelServer(models=[]), "warn", "lists no model"),
        (ModelServer(extra_headers={"X-Masa-Node": "abc"}), "fail", "a node is never an upstream"),
    ],
    ids=["no model server", "no model", "a node"],
)
async def test_an_upstream_that_is_of_no_use_is_told(
    server: ModelServer, status: str, what: str, tmp_path: Path
) -> None:
    async with server:
        (found,) = await upstreams(tmp_path, LLM_CHAT_URL=server.url)
    assert found.status == status
    assert what in found.what
    assert found.remedy


async def test_an_upstream_has_a_limited_time(
    model_server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_checks, "UPSTREAM_SECONDS", 0.2)
    model_server.script("/api/version", Script(before_head=[HANG]))
    (found,) = await upstreams(tmp_path, LLM_CHAT_URL=model_server.url)
    assert found.status == "fail"
    assert "did not answer within" in found.what


async def test_a_provider_is_asked_with_its_key_even_where_its_models_are_named(
    model_server: ModelServer, tmp_path: Path
) -> None:
    env = {"LLM_CHAT_URL": "off", "PROVIDERS": "openai", "OPENAI_API_KEY": SECRET, "LLM_OPENAI_URL": model_server.url}
    (listed,) = await upstreams(tmp_path, **env)
    (named,) = await upstreams(tmp_path, **env, LLM_OPENAI_MODELS="gpt-1,gpt-2")
    model_server.script("/v1/models", answer({"error": {"message": "bad key"}}, 401))
    (refused,) = await upstreams(tmp_path, **env)
    (unlisted,) = await upstreams(tmp_path, **env, LLM_OPENAI_MODELS="gpt-1,gpt-2")
    assert [seen.headers.get("Authorization") for seen in model_server.requests] == [f"Bearer {SECRET}"] * 4
    assert listed == Finding("upstream openai", "ok", f"{model_server.url} is up: 1 model, spoken to as openai")
    assert "2 models named in the settings" in named.what
    assert (refused.status, unlisted.status) == ("fail", "warn")
    assert "401" in refused.what
    assert "OPENAI_API_KEY" in cast(str, refused.remedy)


async def test_an_own_worker_is_looked_for_without_a_prompt(model_server: ModelServer, tmp_path: Path) -> None:
    model_server.script("/worker", plain("POST only", 405))
    env = {"LLM_CHAT_URL": "off", "LLM_CF_TOKEN": SECRET}
    (there,) = await upstreams(tmp_path, **env, LLM_CF_URL=f"{model_server.url}/worker")
    (gone,) = await upstreams(tmp_path, **env, LLM_CF_URL=f"http://127.0.0.1:{unused_port()}/worker")
    assert (there.status, gone.status) == ("ok", "fail")
    assert "could not be reached" in gone.what
    assert "docs/cloudflare.md" in cast(str, gone.remedy)
    told = [(seen.method, seen.target, seen.headers.get("Authorization")) for seen in model_server.requests]
    assert told == [("GET", "/", None), ("GET", "/worker", None)]


@pytest.mark.parametrize(
    ("env", "what"),
    [({}, "only the built-in `eliza` answers"), ({"LLM_CHAT_URL": "off"}, "nothing can answer")],
    ids=["unset", "off"],
)
async def test_without_any_upstream_the_ways_to_one_are_told(
    env: Mapping[str, str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"http://127.0.0.1:{unused_port()}"
    monkeypatch.setattr("masa_node.app.possible_ollamas", lambda root: [place])
    (found,) = await upstreams(tmp_path, **env)
    assert found.status == "warn"
    assert what in found.what
    assert (place in found.what) is not env
    assert "PROVIDERS" in cast(str, found.remedy)


async def test_an_ollama_that_nobody_named_is_found(
    model_server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masa_node.app.possible_ollamas", lambda root: [model_server.url])
    (found,) = await upstreams(tmp_path)
    assert (found.check, found.status) == ("upstream ollama", "ok")


@pytest.mark.parametrize(
    ("host", "contained", "remedy"),
    [
        ("127.0.0.1", False, "ollama serve"),
        ("127.0.0.1", True, "host.docker.internal"),
        ("0.0.0.0", True, "OLLAMA_HOST"),
    ],
)
async def test_the_remedy_fits_the_place(host: str, contained: bool, remedy: str, tmp_path: Path) -> None:
    (found,) = await upstreams(tmp_path, contained, LLM_CHAT_URL=f"http://{host}:{unused_port()}")
    assert remedy in cast(str, found.remedy)
