"""Starting and stopping what a round needs: the mock, and a proxy in front of it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template

from harness.home import BENCH, HOME
from harness.processes import Cpus, cpu_us, rss_bytes, tree, wait_until_quiet
from harness.proxies import Proxy

START_LIMIT_S = 60
STOP_LIMIT_S = 10


class DidNotStart(Exception):
    """A proxy ended, or was not ready in time; says what it last wrote."""


@dataclass(frozen=True)
class Mock:
    """The mock model server, running."""

    port: int

    def configure(self, knobs: Mapping[str, int]) -> None:
        """Set delay, chunks, interval (ms), reply (bytes) and check; what is not named goes back to zero or one."""
        wanted = {"delay": 0, "chunks": 1, "interval": 0, "reply": 200, "check": 0, **knobs}
        get(self.port, "/_cfg?" + "&".join(f"{name}={value}" for name, value in wanted.items()))

    def counters(self, *, reset: bool = False) -> dict[str, int]:
        return dict(json.loads(get(self.port, "/_stat" + "?reset=1" * reset)[1]))


@dataclass(frozen=True)
class Running:
    """A proxy that answers, or the mock itself when there is none."""

    proxy: Proxy
    port: int
    pid: int | None
    start_s: float
    headers: Sequence[str] = ()
    """What each request to it carries besides."""

    @property
    def pids(self) -> list[int]:
        return tree(self.pid) if self.pid else []

    def at_rest(self) -> dict[str, float]:
        """Start-up seconds, and bytes resident before the first request."""
        wait_until_quiet(self.pids)
        return {"start_s": self.start_s, "idle_bytes": rss_bytes(self.pids), "start_cpu_s": cpu_us(self.pids) / 1e6}


def get(port: int, path: str) -> tuple[int, bytes]:
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        caller.request("GET", path)
        reply = caller.getresponse()
        return reply.status, reply.read()
    finally:
        caller.close()


@contextmanager
def mock_server(cpus: Cpus) -> Iterator[Mock]:
    command = ["taskset", "-c", str(cpus.load), str(HOME / "mock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Mock(int(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def serving(proxy: Proxy, mock: Mock, cpus: Cpus) -> Iterator[Running]:
    """Start the proxy in a fresh folder and wait until it is ready; stop it at the end."""
    if not proxy.command:
        yield Running(proxy, mock.port, None, 0)
        return
    with tempfile.TemporaryDirectory(prefix=f"bench-{proxy.name}-") as name:
        folder, port = Path(name), _free_port()
        filled = {"port": str(port), "upstream": f"127.0.0.1:{mock.port}", "folder": name}
        headers = [Template(line).substitute(filled) for line in proxy.headers]
        process, began = _start(proxy, folder, filled, cpus)
        try:
            _wait_until_ready(proxy, process, port, folder / "log", began + START_LIMIT_S)
            yield Running(proxy, port, process.pid, time.monotonic() - began, headers)
        finally:
            _stop(process)


def _start(proxy: Proxy, folder: Path, filled: Mapping[str, str], cpus: Cpus) -> tuple[subprocess.Popen[bytes], float]:
    for file in proxy.files:
        (folder / file).write_text(Template((BENCH / file).read_text()).substitute(filled))
    command = ["taskset", "-c", str(cpus.proxy), *(Template(word).substitute(filled) for word in proxy.command)]
    env = {name: Template(value).substitute(filled) for name, value in proxy.env.items()}
    base = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        began = time.monotonic()
        return subprocess.Popen(
            command, cwd=folder, env=base | env, stdout=log, stderr=log, start_new_session=True
        ), began


def _wait_until_ready(proxy: Proxy, process: subprocess.Popen[bytes], port: int, log: Path, end: float) -> None:
    while True:
        with suppress(OSError, http.client.HTTPException):
            if get(port, proxy.ready)[0] == 200:
                return
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(errors="replace")[-1500:]
            raise DidNotStart(f"{proxy.name} is not ready (exit code {process.poll()}). Its last words:\n{said}")
        time.sleep(0.005)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the group that was started here, and nothing else."""
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal_)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
