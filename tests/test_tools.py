"""The other test tools: the raw wire, the guards of conftest.py, and the process runner."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from blockbuster import BlockingError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import stray_tasks
from tests.fakes import RESET, ModelServer, Script
from tests.processes import running_node
from tests.raw import Wire, exchange, parse, post

MIB = 1024 * 1024

# The raw wire


async def test_bytes_before_a_reset_are_kept(model_server: ModelServer) -> None:
    model_server.next(Script(chunks=[b"x" * 5000, RESET]))
    async with Wire(model_server.port) as wire:
        await wire.send(post(model_server.port, "/api/chat", b'{"model":"llama3"}'))
        await model_server.until(lambda: model_server.open_connections == 0 and bool(model_server.requests))
        assert await wire.until_closed() == "reset"
        assert b"x" * 5000 in wire.buffer


@pytest.mark.parametrize(
    ("data", "body", "whole", "rest"),
    [
        (b"Content-Length: 3\r\n\r\nabcHTTP/1.1 200", b"abc", True, b"HTTP/1.1 200"),
        (b"Content-Length: 3\r\n\r\nab", b"ab", False, b""),
        (b"\r\nabc", b"abc", True, b""),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\nmore", b"abc", True, b"more"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nHTTP/1.1 502", b"abc", False, b"HTTP/1.1 502"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", b"abc", False, b"f\r\n"),
    ],
)
def test_an_answer_is_told_from_what_follows(data: bytes, body: bytes, whole: bool, rest: bytes) -> None:
    assert parse(b"HTTP/1.1 200 OK\r\n" + data)[2:] == (body, whole, rest)


async def test_a_read_does_not_wait_for_ever(model_server: ModelServer) -> None:
    assert await exchange(model_server.port, b"", timeout=0.05) == b""
    async with Wire(model_server.port, timeout=0.05) as wire:
        with pytest.raises(TimeoutError):
            await wire.read_head()


# The guards of conftest.py


async def test_a_blocking_call_fails() -> None:
    with pytest.raises(BlockingError):
        time.sleep(0)  # noqa: ASYNC251


def test_a_test_without_a_loop_may_block() -> None:
    time.sleep(0)


@settings(max_examples=5)
@given(data=st.data())
async def test_hypothesis_may_draw_on_the_loop(data: st.DataObject) -> None:
    assert len(data.draw(st.binary(max_size=9))) < 10
    with pytest.raises(BlockingError):
        time.sleep(0)  # noqa: ASYNC251


async def test_a_task_left_behind_is_seen() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    passing = asyncio.create_task(asyncio.sleep(0.01))
    assert await stray_tasks() == {task}
    assert passing.done()
    task.cancel()


# Processes

SAYS = """import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(os.environ["CODE"])))
print("out", sorted(os.environ), flush=True)
print(json.dumps({"event": "listening", "url": "http://127.0.0.1:4567"}), file=sys.stderr, flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_process_is_started_told_and_waited_for(tmp_path: Path) -> None:
    stand_in = (sys.executable, "-c", SAYS)
    async with running_node(tmp_path, {"CODE": "7", "LLM_CHAT_URL": None}, command=stand_in) as node:
        assert (node.url, node.port) == ("http://127.0.0.1:4567", 4567)
        assert len(node.log) == 1
        assert MIB < node.rss() < 100 * MIB
        assert 3 <= node.open_files() < 20
        node.signal(signal.SIGTERM)
        assert await node.wait() == 7
        assert "'CODE', 'HOME'" in node.output
        assert "LLM_CHAT_URL" not in node.output


async def test_no_process_is_left_behind(tmp_path: Path) -> None:
    async with running_node(tmp_path, command=(sys.executable, "-c", SAYS)) as node:
        assert not gone(node.pid)
    assert gone(node.pid)


async def test_a_process_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="because"):
        async with running_node(tmp_path, command=(sys.executable, "-c", "import sys; sys.exit('because')")):
            pass
    async with running_node(tmp_path, wait=None, command=(sys.executable, "-c", "raise SystemExit(2)")) as node:
        assert await node.wait() == 2
