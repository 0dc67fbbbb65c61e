"""What a start costs: what is imported for which command, what the collector leaves alone, what the allocator keeps."""

import asyncio
import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from masa_node.memory import OBJECTS, keep_room
from tests.calls import exchange
from tests.fakes import ModelServer
from tests.processes import running_node
from tests.scripts import JSON

ROOT = Path(__file__).parent.parent
HEAVY = {"aiohttp", "asyncio", "cryptography", "msgspec", "prometheus_client", "pydantic", "rich", "structlog", "yarl"}
HELP = "import sys; from masa_node.cli import main; sys.argv = ['masa-node', *{arguments}]; main()"
RUN = "import sys; from masa_node.cli import _command; _command('run')"
PROMPT = 1 << 20
"""Bytes, or nearly."""
PAGE = 4096
TIMES = 100


def after(code: str) -> list[str]:
    """What a fresh Python has to say when `code` is done: one word on each line that begins with `>`."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line[1:] for line in done.stdout.splitlines() if line.startswith(">")]


def imported(code: str) -> set[str]:
    told = "import atexit, sys; atexit.register(lambda: print(*('\\n>' + name for name in sys.modules)))"
    return {name.split(".")[0].strip() for name in after(f"{told}\n{code}")}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["chat", "--help"], ["stake", "issue", "--help"]])
def test_the_parser_needs_nothing_that_is_slow_to_import(arguments: list[str]) -> None:
    names = imported(HELP.format(arguments=arguments))
    assert "argparse" in names
    assert not names & HEAVY


def test_a_node_that_no_lan_hears_does_without_zeroconf() -> None:
    names = imported(RUN)
    assert names > HEAVY
    assert "zeroconf" not in names


def test_the_collector_is_back_after_the_imports() -> None:
    assert after(f"{RUN}; import gc; print('\\n>', gc.isenabled())") == [" True"]


def test_what_start_up_made_is_not_looked_through_again() -> None:
    code = "import gc; from masa_node.memory import settle; settle(); print('\\n>', len(gc.get_objects()) < 100)"
    assert after(f"{code}; print('\\n>', gc.get_freeze_count() > 5000, gc.get_threshold()[0])") == [
        " True", f" True {OBJECTS}",
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc")
def test_large_bodies_take_no_fresh_pages() -> None:
    """Each of their pages would be one page fault, for each prompt anew."""
    faults = "resource.getrusage(resource.RUSAGE_SELF).ru_minflt"
    prompts = f"[bytearray({PROMPT}) for _ in range(4)]"
    asked = f"import resource; {prompts}; before = {faults}; [{prompts} and 0 for _ in range({TIMES})]"
    told = f"{asked}; print('\\n>', {faults} - before)"
    usual, kept = (int(after(first + told)[0]) for first in ("", "from masa_node.memory import *; keep_room(); "))
    assert usual > TIMES * PROMPT / PAGE
    assert kept < TIMES


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_room() is False


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc")
async def test_a_node_keeps_room_for_large_prompts(tmp_path: Path, model_server: ModelServer) -> None:
    async with running_node(tmp_path, {"LLM_CHAT_URL": model_server.url}) as node:
        prompt = b'{"model":"llama3","stream":false,"messages":[{"role":"user","content":"%b"}]}' % (b"a" * 1_000_000)

        async def ask(times: int) -> int:
            before = await asyncio.to_thread(faults, node.pid)
            for _ in range(times):
                assert (await exchange("POST", node.url, "/api/chat", JSON, prompt)).status == 200
            return await asyncio.to_thread(faults, node.pid) - before

        await ask(10)
        assert await ask(20) < 20 * PROMPT / PAGE / 10


def faults(pid: int) -> int:
    """Pages that a process took anew so far."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[7])
