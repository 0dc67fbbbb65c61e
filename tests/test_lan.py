"""Discovery between machines: two network namespaces on one cable, a process in each. Needs root."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from peers.network.discovery import NO_INTERFACE
from peers.network.identity import id_text
from peers.wire import NodeId

pytestmark = pytest.mark.slow

A, B = id_text(b"\2" + bytes(31)), id_text(b"\3" + bytes(31))
WITHIN = 20.0


def ip(command: str, check: bool = True) -> None:
    subprocess.run(["ip", *command.split()], check=check, capture_output=True)


class Cable:
    """Two namespaces, and the ends of a cable in them. It is cut and addressed from the tests."""

    def __init__(self) -> None:
        self.spaces = [f"masa-test-{os.getpid()}-{end}" for end in "ab"]

    def lay(self) -> None:
        for space in self.spaces:
            ip(f"netns add {space}")
        ip(f"link add eth9 netns {self.spaces[0]} type veth peer name eth9 netns {self.spaces[1]}")
        for end in (0, 1):
            self.do(end, "link set eth9 up")

    def remove(self) -> None:
        for space in self.spaces:
            ip(f"netns del {space}", check=False)

    def do(self, end: int, command: str) -> None:
        ip(f"-n {self.spaces[end]} {command}")

    async def change(self, end: int, *commands: str) -> None:
        for command in commands:
            await asyncio.to_thread(self.do, end, command)


@pytest.fixture
def cable() -> Iterator[Cable]:
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the ip command")
    laid = Cable()
    try:
        laid.lay()
        yield laid
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode()}")
    finally:
        laid.remove()


class Heard:
    """A process, and the facts it tells."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def fact(self, **expected: object) -> None:
        """Wait for a line that says this; lines before it are passed over."""
        assert self._process.stdout
        seen = []
        try:
            async with asyncio.timeout(WITHIN):
                async for line in self._process.stdout:
                    seen.append(json.loads(line))
                    if seen[-1] | expected == seen[-1]:
                        return
        except TimeoutError:
            pytest.fail(f"not {expected}, but {seen}")
        pytest.fail(f"it ended after {seen}")


@asynccontextmanager
async def machine(cable: Cable, end: int, node: NodeId):
    command = ["ip", "netns", "exec", cable.spaces[end], sys.executable, "-m", "tests.lan_node", node, str(4001 + end)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    try:
        yield Heard(process)
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture
async def machines(cable):
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(machine(cable, end, node)) for end, node in enumerate((A, B))]


@pytest.mark.parametrize("network", ["10.77.0.{}/24", "fd77::{}/64"])
async def test_they_find_each_other_and_notice_what_changes(cable, machines, network):
    """Addresses come, one is replaced, and the cable is pulled and put back."""

    def addressed(last: int) -> str:
        return f"addr {{}} {network.format(last)} dev eth9" + (" nodad" if ":" in network else "")

    def told(last: int, port: int) -> str:
        host = network.format(last).partition("/")[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    a, b = machines
    await a.fact(why=NO_INTERFACE)
    await b.fact(why=NO_INTERFACE)
    await cable.change(0, addressed(1).format("add"))
    await cable.change(1, addressed(2).format("add"))
    await a.fact(why="", hints={B: [told(2, 4002)]})
    await b.fact(why="", hints={A: [told(1, 4001)]})

    await cable.change(1, addressed(2).format("del"), addressed(3).format("add"))
    await a.fact(why="", hints={B: [told(3, 4002)]})

    await cable.change(1, "link set eth9 down")
    await a.fact(why=NO_INTERFACE, hints={})
    await b.fact(why=NO_INTERFACE, hints={})
    await cable.change(1, "link set eth9 up", *([addressed(3).format("replace")] if ":" in network else []))
    await a.fact(why="", hints={B: [told(3, 4002)]})
    await b.fact(why="", hints={A: [told(1, 4001)]})
