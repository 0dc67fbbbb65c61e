"""What every test stands on: no blocking call on the loop, no task left behind, and the fake model servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from config.logs import set_up
from handlers.plain import Plain
from handlers.quick_forward import QuickForward
from tests.fakes import ModelServer
from tests.fleet import fleet
from tests.namespaces import Lans, two_lans
from tests.networks import Machines, machines
from tests.nodes import Running, running
from tests.plainly import noted
from tests.visiting import Visitor, visiting

LEAVE = 0.25
"""Seconds in which a task that is already on its way out may end."""

MAY_BLOCK = [
    *(
        (function, "prometheus_client/process_collector.py", "collect")  # /proc is memory
        for function in ("io.BufferedReader.read", "io.TextIOWrapper.read", "os.listdir", "os.stat")
    ),
    ("io.TextIOWrapper.read", "tests/processes.py", "rss"),  # /proc is memory
    ("os.listdir", "tests/processes.py", "open_files"),
]

ON_BOTH_LOOPS = {
    "test_gossip.py",
    "test_http1_client.py",
    "test_http1_waits.py",
    "test_passthrough.py",
    "test_server.py",
    "test_unsigned_cost.py",
}

StartServer = Callable[..., Awaitable[ModelServer]]


@pytest.fixture(autouse=True)
def guarded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Watch an async test and the fixtures it uses. First in, so last out."""
    if request.node.get_closest_marker("asyncio") is None:
        yield
        return
    request.getfixturevalue("no_stray_tasks")
    with blockbuster_ctx() as blockbuster:
        allow(blockbuster)
        yield


@pytest.fixture(autouse=True)
def logged() -> None:
    """As `run` logs it; pytest shows it when the test fails."""
    set_up("debug", "json")


@pytest.fixture
async def no_stray_tasks() -> AsyncIterator[None]:
    yield
    stray = await stray_tasks()
    assert not len(stray), f"tasks left behind: {[*stray][:5]}"


@pytest.fixture
async def model_server() -> AsyncIterator[ModelServer]:
    """One that has llama3:latest and speaks every dialect."""
    async with ModelServer() as server:
        yield server


@pytest.fixture
async def model_servers() -> AsyncIterator[StartServer]:
    """Start as many as the test asks for: `await model_servers(models=[…], dialects=[…])`."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> ModelServer:
            return await stack.enter_async_context(ModelServer(**options))

        yield start


@pytest.fixture
async def node(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[Running]:
    """One whose model server that is."""
    async with running(tmp_path, LLM_CHAT_URL=model_server.url) as started:
        yield started


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Plain]:
    """The requests that the fast path answers."""
    return noted(monkeypatch)


@pytest.fixture(params=["quick", "aiohttp"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which calls come in that peers hand on."""
    if request.param == "aiohttp":
        monkeypatch.setattr(QuickForward, "read", lambda *_: None)
    return str(request.param)


@pytest.fixture
async def two(model_server: ModelServer, tmp_path: Path) -> AsyncIterator[list[Running]]:
    """One that asks, without a model of its own, and one with the model server."""
    async with fleet(tmp_path, {}, {"LLM_CHAT_URL": model_server.url}) as nodes:
        yield nodes


@pytest.fixture
async def visitor(two: list[Running]) -> AsyncIterator[Visitor]:
    async with visiting(*two) as made:
        yield made


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Machines]:
    """Nodes in processes of their own, as many as the test starts."""
    async with machines(tmp_path) as started:
        yield started


@pytest.fixture
def lans() -> Iterator[Lans]:
    """Two LANs of network namespaces; the test is skipped where there can be none."""
    with two_lans() as laid:
        yield laid


def allow(blockbuster: BlockBuster) -> None:
    for function, file, caller in MAY_BLOCK:
        blockbuster.functions[function].can_block_in(file, caller)


async def stray_tasks() -> set[asyncio.Task[Any]]:
    """Every other task that does not end by itself within LEAVE seconds."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return (await asyncio.wait(others, timeout=LEAVE))[1] if others else set()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """asyncio's own loop; where sockets' small print matters, uvloop too: `run` uses it where it installs."""
    loops: dict[str, Callable[[], Any]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ON_BOTH_LOOPS:
        uvloop = pytest.importorskip("uvloop")
        loops["uvloop"] = uvloop.new_event_loop
    return loops
