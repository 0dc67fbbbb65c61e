"""The nodes of bench/soak: started, stopped, killed and frozen; and what each of them holds."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.idle import new_secret
from harness.processes import PROC, rss_bytes

START_S, DRAIN_S, LOOK_S = 60.0, 40.0, 0.1
HELD = ("masa_in_flight ", "masa_queued ", "masa_guests ", "masa_body_memory_bytes ")
COUNTED = Path(__file__).parent / "counted_node.py"
IMPATIENT = {"LLM_TIMEOUT": "20", "RACE_TIMEOUT": "10", "RACE_PATIENCE": "20", "QUEUE_TIMEOUT": "10"}
"""Seconds, so that a model that hangs takes no longer than a caller waits."""


class NodeFailed(Exception):
    """A node did not start, or ended by itself; says what it last wrote."""


@dataclass(frozen=True)
class Sample:
    """What a node holds at a moment."""

    at: float
    """Seconds since the load began."""
    node: str
    life: int
    """How often it has been started."""
    rss: int
    files: int
    threads: int
    tasks: int | None
    """Of its loop; None: it had no time to say."""


class Node:
    """One node, in one process after another; its folder, ports and id stay."""

    def __init__(self, name: str, folder: Path, network: dict[str, str], model_port: int | None) -> None:
        self.name, self.folder = name, folder
        self.port, self.peer_port = unused_port(), unused_port()
        self.life = 0
        self.meddled = 0
        """Grows with whatever is done to it: an answer that breaks meanwhile is nobody's fault."""
        self.up = False
        self.id = ""
        self._env = network | (
            {"LLM_CHAT_URL": f"http://127.0.0.1:{model_port}", "LLM_PARALLEL": "4"}
            if model_port
            else {"LLM_CHAT_URL": "off"}
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    async def start(self) -> None:
        """Until it answers. Raises NodeFailed."""
        self._process = self._begun()
        await self._answers()
        self.life, self.up = self.life + 1, True

    def _begun(self) -> "subprocess.Popen[bytes]":
        self.folder.mkdir(exist_ok=True)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "MASA_DIR": str(self.folder / "masa"),
            "NODE_NAME": self.name,
            "PORT": str(self.port),
            "PEER_HOST": "127.0.0.1",
            "PEER_PORT": str(self.peer_port),
            "MDNS": "false",
            "LOG_FORMAT": "json",
            **IMPATIENT,
            **self._env,
        }
        command = (sys.executable, "-P", str(COUNTED), str(self.folder / "tasks"), "run")
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    async def _answers(self) -> None:
        end = asyncio.get_running_loop().time() + START_S
        while True:
            with suppress(OSError, ValueError):
                self.id = (await asyncio.to_thread(_get, f"{self.url}/api/v1/node"))["id"]
                return
            self.check()
            if asyncio.get_running_loop().time() > end:
                raise NodeFailed(f"{self.name} does not answer after {START_S:.0f} s. {self._last_words()}")
            await asyncio.sleep(LOOK_S)

    def check(self) -> None:
        """Raises NodeFailed: it has ended, and nobody ended it."""
        if self._process and (code := self._process.poll()) is not None:
            raise NodeFailed(f"{self.name} ended with exit code {code}. {self._last_words()}")

    def _last_words(self) -> str:
        return "Its last words:\n" + self.log.read_text(errors="replace")[-1500:]

    async def sees(self) -> int:
        """How many others it takes for alive; -1: it did not say."""
        with suppress(OSError, ValueError):
            told = await asyncio.to_thread(_get, f"{self.url}/api/v1/peers")
            return sum(peer["status"] == "alive" for peer in told["peers"])
        return -1

    async def at_rest(self) -> bool:
        """It holds no call, its own callers' or a peer's, and no body."""
        with suppress(OSError):
            told = await asyncio.to_thread(_read, f"{self.url}/metrics")
            values = dict(line.split(" ") for line in told.splitlines() if line.startswith(HELD))
            return len(values) == len(HELD) and not any(float(value) for value in values.values())
        return False

    async def stop(self, number: signal.Signals) -> None:
        """By this signal; SIGKILL follows where it does not end. Raises NodeFailed: a drain that took too long."""
        self.up, self.meddled = False, self.meddled + 1
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            await asyncio.to_thread(process.wait, DRAIN_S)
        except subprocess.TimeoutExpired:
            raise NodeFailed(f"{self.name} has not ended {DRAIN_S:.0f} s after {number.name}") from None
        finally:
            process.kill()
            process.wait()

    async def freeze(self, seconds: float) -> None:
        assert self._process
        self.meddled += 1
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)
            self.meddled += 1

    async def sample(self, at: float) -> Sample | None:
        """None: it does not run now."""
        if not self.up or self._process is None:
            return None
        pid, told = self._process.pid, self.folder / "tasks"
        told.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR2)
        await asyncio.sleep(LOOK_S)
        tasks = None
        with suppress(OSError, ValueError):
            tasks = int(told.read_text())
        with suppress(OSError):
            files, threads = (len(os.listdir(PROC / str(pid) / what)) for what in ("fd", "task"))
            return Sample(round(at, 1), self.name, self.life, rss_bytes([pid]), files, threads, tasks)
        return None

    def faults(self) -> list[str]:
        """What its log says that must never be said."""
        with self.log.open(errors="replace") as lines:
            return [line for line in lines if '"event":"fault"' in line or '"event":"step_failed"' in line]


def five(folder: Path, model_ports: list[int]) -> list[Node]:
    """The first two are left in peace. The first has no model of its own, the others one each."""
    network = {"NETWORK_SECRET": new_secret()}
    first = Node("n0", folder / "n0", network, None)
    network = network | {"BOOTNODES": f"127.0.0.1:{first.peer_port}"}
    return [first, *(Node(f"n{one}", folder / f"n{one}", network, port) for one, port in enumerate(model_ports, 1))]


def as_line(sample: Sample) -> str:
    return json.dumps(asdict(sample))


def unused_port() -> int:
    """Below those that systems pick by themselves: nobody takes it while its node is down."""
    while True:
        port = random.SystemRandom().randrange(10_240, 32_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def _get(url: str) -> Any:
    return json.loads(_read(url))


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=3) as got:
        return str(got.read().decode())
