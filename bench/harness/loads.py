"""The loads, and what one of them costs one proxy."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from harness.home import HOME, PATHS, body_file
from harness.processes import Cpus, cpu_us, rss_bytes, wait_until_quiet
from harness.proxies import Proxy
from harness.serving import Mock, Running

Measured = dict[str, float]
FAILURES = ("refused", "status", "broken", "wrong", "unfinished")
HELP_RUNS = 20
LIMIT_S = 120
"""How long a load may take beyond its plan."""


@dataclass(frozen=True)
class Load:
    """So many connections, each asking again and again: for `seconds`, or `replies` times."""

    name: str
    connections: int
    seconds: float = 0
    replies: int = 0
    ramp_ms: int = 0
    chunks: int | None = None
    """Of each stream; None: whole replies."""
    mock: Mapping[str, int] = field(default_factory=dict)
    prompt: str = "short"

    def shorter(self) -> "Load":
        """For `--quick`."""
        chunks = self.chunks and max(self.chunks // 2, 1)
        return replace(self, seconds=self.seconds / 2, chunks=chunks)


def streams(name: str, connections: int, *, chunks: int, interval: int, ramp_ms: int = 0, replies: int = 1) -> Load:
    """Streams whose first chunk comes after 20 ms, so that all of a ramp have arrived when the chunks do."""
    knobs = {"delay": 20, "interval": interval}
    return Load(name, connections, replies=replies, ramp_ms=ramp_ms, chunks=chunks, mock=knobs)


WARM_UP = (Load("", 8, seconds=0.5), streams("", 8, chunks=10, interval=5))
LOADS = (
    # the first, on a process that has done nothing yet: memory that an earlier load freed would hide what streams take
    streams("s1000", 1000, chunks=25, interval=200, ramp_ms=2000),
    streams("s100", 100, chunks=50, interval=50, ramp_ms=500),
    streams("s1", 1, chunks=50, interval=10, replies=3),
    Load("c1", 1, seconds=1.5),
    Load("c32", 32, seconds=2),
    Load("c256", 256, seconds=2),
    Load("prompt", 1, seconds=1, prompt="long"),
    Load("reply", 1, seconds=1, mock={"reply": 200 << 10}),
)


def help_s(proxy: Proxy, cpus: Cpus) -> Measured:
    """Seconds until a program has told how it is used, from start to exit; nothing where it has no such command."""
    took = []
    for _ in range(HELP_RUNS if proxy.help else 0):
        began = time.monotonic()
        subprocess.run(("taskset", "-c", str(cpus.proxy), *proxy.help), stdout=subprocess.DEVNULL, check=True)
        took.append(time.monotonic() - began)
    return {"help_s": statistics.median(took)} if took else {}


def warm_up(running: Running, mock: Mock, cpus: Cpus, dialect: str) -> None:
    for load in WARM_UP:
        measure(running, load, mock, cpus, dialect)


def measure(running: Running, load: Load, mock: Mock, cpus: Cpus, dialect: str) -> Measured:
    """Put one load on one proxy: what the load generator saw, and what it cost. `each` is a chunk, or a whole reply."""
    mock.configure({**load.mock, **({"chunks": load.chunks} if load.chunks else {})})
    wait_until_quiet(running.pids)
    pids = running.pids
    with peak_rss(pids) as rss:
        before = cpu_us(pids)
        seen = generate(running, load, cpus, dialect)
        cpu = cpu_us(pids) - before
    each = seen["chunks"] if load.chunks else seen["replies"]
    return seen | {
        "failed": sum(seen[kind] for kind in FAILURES),
        "cpu_us": cpu,
        "cpu_each": cpu / max(each, 1),
        "per_s": each / seen["wall_s"],
        "peak_bytes": rss[-1],
        "bytes_each": (rss[-1] - rss[0]) / load.connections,
    }


def generate(running: Running, load: Load, cpus: Cpus, dialect: str) -> Measured:
    """Run the load generator; the first failure it tells is passed on to the screen."""
    stream = load.chunks is not None
    command = ["taskset", "-c", str(cpus.load), str(HOME / "load"), str(running.port), PATHS[dialect]]
    command += [str(body_file(load.prompt, stream=stream)), "-c", str(load.connections), "-r", str(load.ramp_ms)]
    command += ["-d", str(load.seconds), "-n", str(load.replies), "-t", str(LIMIT_S)]
    command += ["-s", str(load.chunks)] if stream else []
    command += [word for header in running.headers for word in ("-H", header)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    if told := seen.pop("told"):
        print(f"bench: {running.proxy.name}, load {load.name or 'warm-up'}: {told}", file=sys.stderr)
    return dict(seen)


@contextmanager
def peak_rss(pids: Sequence[int]) -> Iterator[list[int]]:
    """Two figures, in bytes: resident at the beginning, and the most that was seen since."""
    seen, over = [rss_bytes(pids)] * 2, threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen[1] = max(seen[1], rss_bytes(pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
