"""`doctor`: what it finds on this machine and of each upstream, what it advises, and what it never shows."""

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from config.settings import load
from masa_node.commands.findings import Finding
from masa_node.commands.machine_checks import check_clock, check_folder, check_host, check_port
from peers.network.identity import KEY_FILE, load_identity, node_id
from tests.commands import Done, command, unused_port
from tests.fakes import ModelServer
from tests.processes import running_node

SECRET = "canary-canary-canary"


async def examined(folder: Path, **env: str) -> tuple[Done, list[Finding]]:
    """What `doctor --json` says, on a free port unless another is named."""
    done = await command(folder, "doctor", "--json", env={"PORT": str(unused_port()), **env})
    return done, [Finding(**finding) for finding in json.loads(done.out)]


def one(findings: Iterable[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


async def test_when_all_is_well_it_says_so(model_server: ModelServer, tmp_path: Path) -> None:
    done, findings = await examined(tmp_path, LLM_CHAT_URL=model_server.url)
    assert done.code == 0
    assert {finding.status for finding in findings} == {"ok"}
    checks = ["configuration", "folder", "port", "host", "network", "upstream ollama", "clock", "open files"]
    assert [finding.check for finding in findings] == checks
    asked = one(findings, "upstream ollama").what
    assert asked == f"{model_server.url} is up: 1 model, spoken to as anthropic, ollama, openai"
    assert "not there yet" in one(findings, "folder").what
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


@pytest.fixture
def odd_file(tmp_path: Path) -> Path:
    return write(tmp_path / "odd.env", f"LLM_PARALEL=2\nRATE_LIMIT=5\nOPENAI_API_KEY={SECRET}\n", 0o644)


async def test_what_is_odd_in_the_settings_file_is_told_with_a_remedy(odd_file: Path, tmp_path: Path) -> None:
    done = await command(tmp_path, "doctor", "--json", "--env-file", odd_file.name, env={"LLM_CHAT_URL": "eliza"})
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


@pytest.mark.parametrize("target", ["nowhere", "masa"])
def test_a_link_that_leads_nowhere_is_no_folder_that_is_yet_to_be_made(target: str, tmp_path: Path) -> None:
    (tmp_path / "masa").symlink_to(tmp_path / target)
    (found,) = check_folder(tmp_path / "masa", running=False)
    assert (found.status, "what is in the way" in (found.remedy or "")) == ("fail", True)


def test_a_folder_where_the_lock_belongs_is_told(tmp_path: Path) -> None:
    load_identity(tmp_path)
    (tmp_path / "lock").mkdir()
    found = list(check_folder(tmp_path, running=False))[-1]
    assert (found.status, f"(Is a directory: {tmp_path / 'lock'})" in found.what) == ("fail", True)


def test_a_full_disk_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    (found,) = check_folder(tmp_path, running=False)
    assert (found.status, found.remedy) == ("fail", "make room, or set MASA_DIR to a folder of your own")


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
    dead = f"http://127.0.0.1:{unused_port()}"
    url = dead.replace("//", f"//u:{SECRET}@")
    done, findings = await examined(
        tmp_path, LLM_CHAT_URL=url, PROVIDERS="groq", GROQ_API_KEY=SECRET, LLM_GROQ_URL=dead
    )
    server, groq = one(findings, "upstream ollama"), one(findings, "upstream groq")
    assert done.code == 1
    assert (server.status, groq.status) == ("fail", "fail")
    assert server.what.endswith("ollama refused the connection")
    assert "LLM_CHAT_URL" in (server.remedy or "")
    assert "GROQ_API_KEY" in (groq.remedy or "")
    assert SECRET not in done.out + done.err
