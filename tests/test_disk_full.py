"""A disk that takes nothing: a node serves on and says so, and where it cannot start it says why (docs/promises.md E6).

Real processes, each with a small disk of its own in a mount namespace that ends with it. Needs root and `unshare`.
"""

import asyncio
import os
import shutil
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from masa_node import stay
from masa_node.pausing import Pause
from peers.errors import MasaError
from peers.network.store import Store
from tests.asking import ask
from tests.commands import command
from tests.fleet import QUIET, fleet
from tests.nodes import running
from tests.processes import COMMAND, RunningNode, environment, running_node
from tests.raw import post
from tests.told import events, logged
from tests.waiting import holds, until

ON_A_DISK = ("unshare", "--mount", "sh", "-c")
CHAT = b'{"model":"eliza","messages":[{"role":"user","content":"My disk is full."}]}'
FULL = OSError(28, "No space left on device")
NETWORK = {**QUIET, "LLM_CHAT_URL": "eliza"}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where a process that runs within `small_disk` has a disk of 1 MiB; seen from here it is an empty folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a disk of its own needs root and the command unshare")
    mounted = subprocess.run(small_disk(folder, ending="true"), check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no mount namespaces here: {mounted.stderr.strip()}")
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The folder of another node."""
    folder = tmp_path / "other"
    folder.mkdir()
    return folder


def small_disk(folder: Path, *commands: str, ending: str = 'exec "$@"') -> tuple[str, ...]:
    """A command line: a fresh disk, these shell commands in it, then the node."""
    prepared = " && ".join((f"mount -t tmpfs -o size=1m tmpfs {folder}", f"cd {folder}", *commands, ending))
    return (*ON_A_DISK, prepared, "sh", *COMMAND)


FILL = "{ head -c 2m /dev/zero > filler 2>/dev/null || true; }"
READ_ONLY = "mount -o remount,ro ."
STARTED_ONCE = f"{{ timeout --preserve-status -s TERM 5 {' '.join(COMMAND)} 2>/dev/null; }}"


@asynccontextmanager
async def on_disk(
    tmp_path: Path, disk: Path, *commands: str, ready: bool = True, env: Mapping[str, str] | None = None
) -> AsyncIterator[RunningNode]:
    more = {**NETWORK, "MASA_DIR": str(disk / "masa"), **(env or {})}
    wait = "ready" if ready else None
    async with running_node(tmp_path, more, wait=wait, command=small_disk(disk, *commands)) as node:
        yield node


def inside(node: RunningNode, path: Path) -> Path:
    """The same file as the node sees it."""
    return Path(f"/proc/{node.pid}/root{path}")


async def fill(node: RunningNode, disk: Path) -> Path:
    """Take what is left of it; the file that must go to make room."""
    filler = inside(node, disk / "filler")

    def write() -> None:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with pytest.raises(OSError, match="No space"):
        await asyncio.to_thread(write)
    return filler


async def serves(node: RunningNode) -> bool:
    got = await ask(node.port, post(node.port, "/api/chat", CHAT))
    return got.status == 200 and got.whole


async def kept(node: RunningNode, disk: Path) -> int:
    """How many others a restart would know."""
    return len((await asyncio.to_thread(Store(inside(node, disk / "masa")).peers))[1])


@pytest.mark.slow
async def test_on_a_full_disk_there_is_no_new_identity_and_nothing_half_made(tmp_path: Path, disk: Path) -> None:
    async with on_disk(tmp_path, disk, FILL, ready=False) as node:
        assert await node.wait() == 1
    assert "its disk is full); make room, or set MASA_DIR" in node.output
    assert "Traceback" not in node.output
    shown = small_disk(disk, FILL, ending='{ "$@" 2>/dev/null; ls -A masa; }')
    done = await asyncio.create_subprocess_exec(
        *shown, env=environment(tmp_path, {"MASA_DIR": str(disk / "masa")}), stdout=PIPE
    )
    assert (await done.communicate())[0] == b"", "no half of a key is left behind"


@pytest.mark.slow
async def test_with_its_key_there_it_starts_on_a_full_disk_and_is_in_its_network(tmp_path: Path, disk: Path) -> None:
    async with on_disk(tmp_path, disk, STARTED_ONCE, FILL) as node:
        await node.event("network_open")
        assert await serves(node)
        assert "No space left" in (await node.event("not_kept"))["reason"]
        assert not node.events("network_closed")


@pytest.mark.slow
async def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path: Path, disk: Path) -> None:
    async with on_disk(tmp_path, disk, STARTED_ONCE, READ_ONLY, ready=False) as node:
        assert await node.wait() == 1
    assert "cannot be used (Read-only file system); make it writable, or set MASA_DIR" in node.output
    assert "Traceback" not in node.output


@pytest.mark.slow
@pytest.mark.parametrize("state", ["full", "read-only"])
async def test_a_disk_that_fails_under_a_running_node_stops_nothing(
    tmp_path: Path, disk: Path, other: Path, state: str
) -> None:
    """Who comes meanwhile is met and told of, though not kept; both ways a restart would lose it, and no more."""
    async with on_disk(tmp_path, disk) as node:
        opened = await node.event("network_open")
        if state == "full":
            await fill(node, disk)
        else:
            # What is open for writing cannot be made read-only, but something read-only laid over it.
            laid_over = ("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk / "masa"))
            remount = ("nsenter", "--mount", "--target", str(node.pid), *laid_over)
            done = await asyncio.create_subprocess_exec(*remount)
            assert await done.wait() == 0
        env = {**NETWORK, "BOOTNODES": f"127.0.0.1:{opened['port']}"}
        async with running_node(other, env):
            await node.event("not_kept")
            await holds(lambda: serves(node), 2)
        assert not node.events("step_failed")
        assert not node.events("fault")


@pytest.mark.slow
async def test_a_log_that_cannot_be_written_fails_no_request(tmp_path: Path, disk: Path) -> None:
    """Standard error is a file on a full disk, and standard output too."""
    log_to_disk = "exec >log 2>&1"
    async with on_disk(tmp_path, disk, log_to_disk, ready=False, env={"PORT": "0", "LOG_LEVEL": "debug"}) as node:

        async def told() -> str:
            with suppress(FileNotFoundError):
                return await asyncio.to_thread(inside(node, disk / "log").read_text)
            return ""

        async def listens() -> bool:
            return '"listening"' in await told()

        await until(listens)
        node.log += (await told()).splitlines()
        filler = await fill(node, disk)
        full = len(await told())
        assert all(await asyncio.gather(*(serves(node) for _ in range(100))))
        assert len(await told()) < full + 4096, "no more than the page begun"
        await asyncio.to_thread(filler.unlink)
        full = len(await told())
        assert await serves(node)
        assert len(await told()) > full, "it goes on once there is room"


@pytest.mark.reliability
async def test_a_full_disk_is_told_once_a_minute_and_forgotten_when_there_is_room(
    tmp_path: Path, disk: Path, other: Path
) -> None:
    """At its real pace: three minutes of it."""
    async with on_disk(tmp_path, disk) as node:
        opened = await node.event("network_open")
        filler = await fill(node, disk)
        env = {**NETWORK, "BOOTNODES": f"127.0.0.1:{opened['port']}"}
        async with running_node(other, env):
            await node.event("not_kept")
            await holds(lambda: serves(node), 150)
            assert len(node.events("not_kept")) == 3
            assert await kept(node, disk) == 0
            await asyncio.to_thread(filler.unlink)

            async def is_kept() -> bool:
                return await kept(node, disk) == 1

            await until(is_kept, stay.KEEP_SECONDS + 5)


async def test_it_is_tried_often_and_told_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, tries, full = logged(), [], True
    monkeypatch.setattr(stay, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(stay, "TOLD_SECONDS", 3.0)
    keep = Store.keep_peers

    def keep_peers(self: Store, epoch: int, records: list[str]) -> None:
        tries.append(len(records))
        if full:
            raise FULL
        keep(self, epoch, records)

    monkeypatch.setattr(Store, "keep_peers", keep_peers)
    async with fleet(tmp_path, {"LLM_CHAT_URL": "eliza"}) as nodes:
        await until(lambda: len(tries) >= 6)
        assert 1 <= len(events(log, "not_kept")) <= 3
        full = False
        store = Store(nodes[0].node.settings.masa_dir)
        await until(lambda: asyncio.to_thread(lambda: store.peers()[0] > 0))


async def test_a_pause_counts_though_it_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_pause(self: Store, until: float) -> None:
        raise FULL

    monkeypatch.setattr(Store, "keep_pause", keep_pause)
    pause = Pause(Store(tmp_path), lambda: 1000.0)
    with pytest.raises(MasaError, match="a restart will not know of it: MASA_DIR cannot be written"):
        await pause.begin(60)
    assert pause.until == 1060
    with pytest.raises(MasaError, match="No space"):
        await pause.end()
    assert pause.until is None


async def test_who_asks_for_what_cannot_be_kept_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_secrets(self: Store, *_: object) -> None:
        raise FULL

    async with running(tmp_path):
        monkeypatch.setattr(Store, "keep_secrets", keep_secrets)
        done = await command(tmp_path, "invite")
    assert (done.code, done.out) == (1, "")
    assert done.err == "masa-node: not done: MASA_DIR cannot be written (No space left on device)\n"
