"""`doctor`: what it finds on this machine and of each upstream, what it advises, and what it never shows."""

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest

from config.settings import load
from masa_node.commands import upstream_checks
from masa_node.commands.findings import Finding
from masa_node.commands.machine_checks import check_clock, check_folder, check_host, check_port
from masa_node.commands.upstream_checks import check_upstreams
from peers.network.identity import KEY_FILE, load_identity, node_id
from tests.commands import Done, command, unused_port
from tests.fakes import HANG, ModelServer, Script, answer
from tests.processes import running_node
from tests.scripts import plain

SECRET = "canary-canary-canary"


async def examined(folder: Path, **env: str) -> tuple[Done, list[Finding]]:
    """What `doctor --json` says, on a free port unless another is named."""
    done = await command(folder, "doctor", "--json", env={"PORT": str(unused_port()), **env})
    return done, [Finding(**finding) for finding in json.loads(done.out)]


def one(findings: Iterable[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


async def upstreams(folder: Path, **env: str) -> list[Finding]:
    """check_upstreams() in this process."""
    return await check_upstreams(load(env, cwd=folder).settings)


async def test_when_all_is_well_it_says_so(model_server: ModelServer, tmp_path: Path) -> None:
    done, findings = await examined(tmp_path, LLM_CHAT_URL=model_server.url)
    assert done.code == 0
    assert {finding.status for finding in findings} == {"ok"}
    checks = ["configuration", "folder", "port", "host", "upstream ollama", "clock", "open files"]
    assert [finding.check for finding in findings] == checks
    asked = one(findings, "upstream ollama").what
    assert asked == f"{model_server.url} is up: 1 model, spoken to as anthropic, ollama, openai"
    assert not (tmp_path / "masa").exists()
    table = await command(tmp_path, "doctor", env={"LLM_CHAT_URL": model_server.url})
    assert table.code == 0
    assert asked in table.out
    assert "all is well" in table.out
    assert "\x1b" not in table.out + table.err


async def test_a_wrong_configuration_is_told_whole_and_without_its_values(tmp_path: Path) -> None:
    wrong = {"PORT": "http", "HOST": "0.0.0.0", "API_KEYS": "short", "LLM_CHAT_URL": f"ftp://u:{SECRET}@h"}
    done, findings = await examined(tmp_path, **wrong)
    assert done.code == 2
    assert {finding.status for finding in findings} == {"fail"}
    assert {finding.what.split()[0] for finding in findings} >= {"PORT", "API_KEYS", "LLM_CHAT_URL"}
    assert all(finding.remedy for finding in findings)
    assert SECRET not in done.out + done.err
    missing = await command(tmp_path, "doctor", "--env-file", "nowhere.env")
    assert missing.code == 2
    assert "nowhere.env" in missing.out


async def test_what_is_odd_in_the_settings_file_is_told_with_a_remedy(tmp_path: Path) -> None:
    file = write(tmp_path / "odd.env", f"LLM_PARALEL=2\nRATE_LIMIT=5\nOPENAI_API_KEY={SECRET}\n", 0o644)
    done = await command(tmp_path, "doctor", "--json", "--env-file", file.name, env={"LLM_CHAT_URL": "eliza"})
    odd = [finding for finding in json.loads(done.out) if finding["status"] == "warn"]
    assert done.code == 0
    assert all(finding["check"] == "configuration" and finding["remedy"] for finding in odd)
    said = "\n".join(finding["what"] for finding in odd)
    for fact in ("did you mean LLM_PARALLEL", "RATE_LIMIT is for a later version", "chmod 600", "PROVIDERS=openai"):
        assert fact in said
    assert SECRET not in done.out + done.err


def write(path: Path, text: str, mode: int) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_folder_and_key_of_our_own_are_fine_and_the_id_is_told(tmp_path: Path) -> None:
    key = load_identity(tmp_path / "masa")
    folder, found = check_folder(tmp_path / "masa", running=False)
    assert (folder.status, found.status) == ("ok", "ok")
    assert node_id(key) in found.what


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (found,) = check_folder(tmp_path / "a" / "b", running=False)
    assert found.status == "ok"
    assert "not there yet" in found.what
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", ["file", "kernel"])
def test_a_folder_that_cannot_be_used_is_a_failure(kind: str, tmp_path: Path) -> None:
    place = write(tmp_path / "file", "", 0o600) if kind == "file" else Path("/proc")
    (found,) = check_folder(place / "masa", running=False)
    assert found.status == "fail"
    assert "MASA_DIR" in (found.remedy or "")


@pytest.mark.parametrize(
    ("spoil", "check", "status", "remedy"),
    [
        (lambda folder: folder.chmod(0o755), "folder", "warn", "chmod 700"),
        (lambda folder: (folder / KEY_FILE).chmod(0o644), "key", "fail", "chmod 600"),
        (lambda folder: (folder / KEY_FILE).write_text("no key"), "key", "fail", "restore it"),
        (lambda folder: (folder / KEY_FILE).unlink(), "key", "ok", None),
    ],
)
def test_a_folder_or_key_that_is_not_right_is_told(
    spoil: Callable[[Path], object], check: str, status: str, remedy: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "masa"
    load_identity(folder)
    spoil(folder)
    found = one(check_folder(folder, running=False), check)
    assert found.status == status
    assert remedy in found.remedy if remedy and found.remedy else found.remedy is remedy


async def test_a_running_node_is_recognized_at_its_port_and_by_its_folder(tmp_path: Path) -> None:
    env = {"LLM_CHAT_URL": f"http://127.0.0.1:{unused_port()}", "NODE_NAME": "attic", "API_KEYS": SECRET}
    async with running_node(tmp_path, env) as node:
        done, there = await examined(tmp_path, **env, PORT=str(node.port))
        _, elsewhere = await examined(tmp_path, **env)
    assert done.code == 1
    here, unready = [finding for finding in there if finding.check == "node"]
    assert here.status == "ok"
    assert "attic-" in here.what
    assert unready.status == "warn"
    assert "no upstream answers" in unready.what
    assert one(there, "folder").status == "ok"
    assert one(elsewhere, "port").status == "ok"
    held = [finding for finding in elsewhere if finding.check == "folder"][-1]
    assert held.status == "warn"
    assert f"process {node.pid}" in held.what
    assert SECRET not in done.out + done.err


async def test_who_holds_the_port_is_told(model_server: ModelServer, tmp_path: Path) -> None:
    done, findings = await examined(tmp_path, PORT=str(model_server.port), LLM_CHAT_URL="eliza")
    taken = one(findings, "port")
    assert done.code == 1
    assert taken.status == "fail"
    assert f"(process {os.getpid()})" in taken.what
    assert "PORT" in (taken.remedy or "")


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EACCES, "above 1023"), (errno.EADDRNOTAVAIL, "HOST to an address of this machine")]
)
def test_a_port_that_cannot_be_opened_is_a_failure(
    number: int, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(host: str, port: int) -> list[object]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("masa_node.commands.machine_checks.listening_sockets", refuse)
    (found,) = check_port(load({}, cwd=tmp_path).settings)
    assert (found.status, os.strerror(number) in found.what) == ("fail", True)
    assert remedy in (found.remedy or "")


def test_port_0_needs_no_looking(tmp_path: Path) -> None:
    (found,) = check_port(load({"PORT": "0"}, cwd=tmp_path).settings)
    assert found.status == "ok"


@pytest.mark.parametrize(
    ("env", "status"),
    [
        ({}, "ok"),
        ({"HOST": "0.0.0.0", "API_KEYS": SECRET}, "ok"),
        ({"HOST": "0.0.0.0", "ALLOW_OPEN_API": "true"}, "warn"),
    ],
)
def test_an_open_api_is_warned_of(env: Mapping[str, str], status: str, tmp_path: Path) -> None:
    (found,) = check_host(load(env, cwd=tmp_path).settings)
    assert found.status == status
    assert ("API_KEYS" in (found.remedy or "")) is (status == "warn")


@pytest.mark.parametrize(("now", "status"), [(1735689599, "warn"), (1735689600, "ok")], ids=["2024", "2025"])
def test_a_clock_before_this_software_is_warned_of(now: float, status: str) -> None:
    (found,) = check_clock(now)
    assert found.status == status


async def test_few_open_files_are_warned_of(tmp_path: Path) -> None:
    done = await command(tmp_path, "doctor", "--json", env={"LLM_CHAT_URL": "eliza"}, limit="ulimit -n 500;")
    found = one([Finding(**finding) for finding in json.loads(done.out)], "open files")
    assert found.status == "warn"
    assert "500" in found.what


async def test_an_upstream_that_does_not_answer_is_a_failure_with_a_remedy(tmp_path: Path) -> None:
    url = f"http://u:{SECRET}@127.0.0.1:{unused_port()}"
    done, findings = await examined(tmp_path, LLM_CHAT_URL=url, PROVIDERS="groq", GROQ_API_KEY=SECRET, LLM_GROQ_URL=url)
    server, groq = one(findings, "upstream ollama"), one(findings, "upstream groq")
    assert done.code == 1
    assert (server.status, groq.status) == ("fail", "fail")
    assert server.what.endswith("ollama refused the connection")
    assert "LLM_CHAT_URL" in (server.remedy or "")
    assert "GROQ_API_KEY" in (groq.remedy or "")
    assert SECRET not in done.out + done.err


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
    (seen,) = model_server.requests
    assert (seen.method, seen.headers.get("Authorization")) == ("GET", None)


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
