"""`pause` and `resume`: peers are told at once, answers finish, a restart keeps it, it ends by the clock."""

import asyncio
import math
from contextlib import closing
from pathlib import Path

import pytest

from masa_node.commands.membership import BadUse
from masa_node.commands.pause import duration
from masa_node.pausing import Pause
from peers.network.store import Store
from peers.upstreams.link import read_whole
from tests.calls import ask, get
from tests.commands import command
from tests.fakes import ModelServer
from tests.nodes import Running, running
from tests.scripts import JSON, Script
from tests.visiting import Visitor
from tests.waiting import until


def folder_of(one: Running) -> Path:
    return one.node.settings.masa_dir


def known_models(asker: Running) -> int:
    return sum(len(models) for _, _, models in asker.node.joined.reach.lists())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172800), (" 1H ", 3600)]
)
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "1", "h", "1.5h", "-1h", "1w", "1h30m", "367d", "99999999s", "١h"])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(BadUse, match="90s, 30m, 1h, 2d"):
        duration(text)


def test_it_is_kept_whatever_becomes_of_the_network(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.paused_until() == 0
    for until_ in (1e9, math.inf):
        store.keep_pause(until_)
        store.forget()
        assert Store(tmp_path).paused_until() == until_
    store.keep_pause(0)
    store.keep_pause(0)
    assert store.paused_until() == 0


@pytest.mark.parametrize("kept", ["", "soon", "nan", "\udcff"])
def test_what_cannot_be_read_is_a_pause(tmp_path: Path, kept: str) -> None:
    (tmp_path / "paused").write_bytes(kept.encode(errors="surrogateescape"))
    assert Store(tmp_path).paused_until() == math.inf


async def test_it_ends_by_the_clock(tmp_path: Path) -> None:
    now = 1000.0
    store = Store(tmp_path)
    pause = await asyncio.to_thread(Pause, store, lambda: now)
    assert pause.refusal() is None
    await pause.begin(10)
    refusal = pause.refusal()
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.retry_after) == (503, "paused", 10)
    now = 1009.5
    assert (await asyncio.to_thread(Pause, store, lambda: now)).until == 1010
    now = 1010.0
    assert (pause.until, pause.refusal()) == (None, None)
    await pause.begin(None)
    now = 1e12
    refusal = pause.refusal()
    assert refusal is not None
    assert refusal.retry_after == 60
    await pause.end()
    assert (pause.until, await asyncio.to_thread(store.paused_until)) == (None, 0)


async def test_peers_are_refused_at_once_and_know_soon(
    two: list[Running], visitor: Visitor, model_server: ModelServer
) -> None:
    folder = folder_of(two[1])
    gate = asyncio.Event()
    model_server.next(Script(headers=JSON, chunks=[b"{", gate, b"}"]))
    with closing(await visitor.open()) as got:
        assert await got.read() == b"{"
        done = await command(folder.parent, "pause", env={"MASA_DIR": str(folder)})
        assert (done.code, done.out) == (0, "")
        assert "1 running answer will finish" in done.err
        refused = await visitor.ask()
        assert (refused.status, refused.refused, refused.headers["retry-after"]) == (503, "paused", "60")
        await until(lambda: known_models(two[0]) == 0, 5)
        assert "paused" in [
            notice["code"] for notice in (await get(two[1].url, "/api/v1/node")).told["network"]["notices"]
        ]
        gate.set()
        assert await read_whole(got, 1 << 20) == b"}"
    assert (await ask(two[1].url, "/api/chat")).status == 200
    done = await command(folder.parent, "resume", env={"MASA_DIR": str(folder)})
    assert done.code == 0
    assert (await visitor.ask()).refused is None
    await until(lambda: known_models(two[0]) == 1, 5)


async def test_a_restart_keeps_it_and_without_a_node_the_folder_does(tmp_path: Path) -> None:
    done = await command(tmp_path, "pause", "--for", "1h", env={"MASA_DIR": str(tmp_path / "masa")})
    assert done.code == 0, done.err
    for _ in range(2):
        async with running(tmp_path) as one:
            refusal = one.node.joined._serving.closed()
            assert refusal is not None
            assert refusal.code == "paused"
    assert (await command(tmp_path, "resume", env={"MASA_DIR": str(tmp_path / "masa")})).code == 0
    async with running(tmp_path) as one:
        assert one.node.joined._serving.closed() is None


async def test_a_wrong_duration_is_a_usage_error(tmp_path: Path) -> None:
    done = await command(tmp_path, "pause", "--for", "soon", env={"MASA_DIR": str(tmp_path / "masa")})
    assert done.code == 2
    assert "90s, 30m, 1h, 2d" in done.err
