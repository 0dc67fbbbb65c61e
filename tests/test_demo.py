"""`masa-node demo`: a network that needs nothing, in a process of its own: what it shows, that it leaves nothing."""

import asyncio
import re
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from config.settings import Settings
from masa_node.demo import demo_network, settings_of
from peers.network.tokens import Secret
from tests.calls import ask, get
from tests.commands import MASA_NODE, command, ended, terminal
from tests.processes import environment

HOSTILE = {
    "PORT": "x",
    "MASA_HOST": "0.0.0.0",
    "API_KEYS": "a-key-of-somebody",
    "LLM_CHAT_URL": "http://127.0.0.1:9",
    "NETWORK_SECRET": "nonsense",
    "RACE_WIDTH": "-1",
    "PEER_ASK": "off",
    "PEER_SERVE": "none",
    "http_proxy": "http://127.0.0.1:9",
}
RACE = re.compile(r"eliza  won by (\S+) after (\d+) ms, (\d+) asked\n")
STOPPED = re.compile(
    r"    (\S+) +asked at \d+ ms  lost at \d+ ms: another one answered first; its eliza stopped at (\d+) ms"
)
SECONDS = 10.0
"""From the start to the prompt (docs of the command)."""


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """What TMPDIR names: whatever is left there was forgotten."""
    folder = tmp_path / "t"
    folder.mkdir()
    return folder


@asynccontextmanager
async def demo(folder: Path, temporary: Path, *arguments: str) -> AsyncIterator[Process]:
    env = environment(folder, {"TMPDIR": str(temporary)})
    process = await asyncio.create_subprocess_exec(
        *MASA_NODE, "demo", *arguments, cwd=folder, env=env, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def left_in(folder: Path) -> list[str]:
    """Empty too where there is no such folder."""
    return await asyncio.to_thread(lambda: sorted(path.name for path in folder.glob("*")))


async def said(process: Process, *until: bytes) -> bytes:
    assert process.stdout
    return b"".join([await process.stdout.readuntil(text) for text in until])


def test_its_settings_are_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PORT=1\nRACE_WIDTH=1\n")
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    told = settings_of(tmp_path, 1, Secret.new(), "127.0.0.1:4001", serves=True)
    own = {
        *("masa_dir", "node_name", "host", "port", "peer_host", "peer_port", "mdns", "network_secret", "bootnodes"),
        "llm_chat_url",
    }
    assert told.model_fields_set == own
    assert (told.host, told.port, told.peer_host, told.peer_port) == ("127.0.0.1", 0, "127.0.0.1", 0)
    for name, field in Settings.model_fields.items():
        assert name in own or getattr(told, name) == field.get_default(call_default_factory=True), name


async def test_all_know_all_before_anybody_is_asked(tmp_path: Path) -> None:
    async with demo_network(tmp_path, 3, Random(1)) as (asker, *others):
        assert asker.eliza is None
        assert (await get(asker.url, "/api/v1/node")).told["upstreams"] == []
        (model,) = (await get(asker.url, "/api/v1/llm/models")).told["models"]
        assert {node["id"] for node in model["nodes"]} == {one.node.who.id for one in others}
        for one in others:
            peers = (await get(one.url, "/api/v1/peers")).told["peers"]
            assert [peer["status"] for peer in peers] == ["alive", "alive"]


@pytest.mark.parametrize("nodes", ["1", "21", "0", "-3", "two", "9999999999", "٣"])
async def test_too_few_and_too_many_nodes_are_a_usage_error(nodes: str, tmp_path: Path) -> None:
    done = await command(tmp_path, "demo", "--nodes", nodes)
    assert (done.code, done.out) == (2, "")
    assert "a demo has from 2 to 20 nodes" in done.err


async def test_what_it_cannot_do_is_said(tmp_path: Path, temporary: Path) -> None:
    done = await command(tmp_path, "demo", env={"TMPDIR": str(temporary)}, limit="ulimit -f 0;")
    assert done.code == 1
    assert re.fullmatch(
        r"masa-node: the temporary folder cannot be used \(No usable .*; TMPDIR names another one\n", done.err
    )
    assert await left_in(temporary) == []


@pytest.mark.slow
async def test_it_answers_and_tells_who_won_and_when_the_others_stopped(tmp_path: Path, temporary: Path) -> None:
    await asyncio.to_thread((tmp_path / ".env").write_text, "PORT=no number\nLLM_CHAT_URL=off\nexport '\n")
    began = time.monotonic()
    done = await command(tmp_path, "demo", env={**HOSTILE, "TMPDIR": str(temporary)})
    took = time.monotonic() - began
    assert (done.code, done.err) == (0, "")
    assert "I am ELIZA, a small pattern-matching program and no language model." in done.out
    winner, won_at, asked = RACE.findall(done.out)[0]
    stopped = {name: int(at) for name, at in STOPPED.findall(done.out)}
    assert (asked, len(stopped)) == ("3", 2)
    assert winner not in stopped
    assert all(int(won_at) - 5 <= at <= int(won_at) + 1000 for at in stopped.values())
    assert "{" not in done.out, "a line of the log"
    assert await left_in(temporary) == []
    assert await left_in(tmp_path) == [".env", "t"]
    assert took < SECONDS


@pytest.mark.slow
async def test_the_answer_streams(tmp_path: Path, temporary: Path) -> None:
    async with demo(tmp_path, temporary, "--nodes", "2", "my", "mother") as process:
        assert process.stdout
        await said(process, b" is asked: my mother\n\n")
        pieces: list[bytes] = []
        while not b"".join(pieces).endswith(b"small?\n"):
            pieces.append(await process.stdout.read(4096))
        assert len(pieces) > 3
        assert await process.wait() == 0


@pytest.mark.slow
async def test_kept_it_answers_until_ctrl_c(tmp_path: Path) -> None:
    async with terminal(tmp_path, "demo", "--nodes", "3", "--keep") as shown:
        first = await shown.until("The network runs until Ctrl-C.")
        assert RACE.search(first.replace("\r\n", "\n"))
        told = await shown.until("What all of them log: ")
        log = Path(await shown.until("/log"), "log")
        assert "log" in await left_in(log.parent)
        url = re.findall(r"chat --url (\S+) ", told)[0]
        answered = await ask(url, "/v1/chat/completions", model="eliza", stream=True)
        assert (answered.status, answered.route, answered.headers["X-Masa-Asked"]) == (200, "peer", "2")
        races = await command(tmp_path, "races", "--url", url)
        assert len(RACE.findall(races.out)) == 2
        await shown.interrupt()
        assert await ended(shown) == 0
        assert await left_in(log.parent) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("when", [b"Starting", b" is asked: "])
async def test_stopped_at_any_time_it_leaves_nothing(
    number: signal.Signals, code: int, when: bytes, tmp_path: Path, temporary: Path
) -> None:
    async with demo(tmp_path, temporary, "--nodes", "3") as process:
        await said(process, when)
        process.send_signal(number)
        assert await process.wait() == code
        assert process.stderr
        assert await process.stderr.read() == b""
        assert await left_in(temporary) == []
