"""bench/idle_network: real nodes in one network on loopback, all see all, and then nobody asks anything."""

import argparse
import base64
import hashlib
import json
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.processes import cpu_us, rss_bytes, stolen_s
from harness.runs import add_node

FIRST_CLIENT_PORT, FIRST_PEER_PORT = 21000, 22000
AT_ONCE = 5
"""Starts under way: more of them only make each other slow."""
START_S, MEET_S, LOOK_S = 60, 120, 0.2
ALONE = "MASA_BENCH_ALONE"
"""In the environment of a bench that runs in a network namespace of its own: nothing else is on its loopback."""
TARGET_CPU, TARGET_BYTES = 10.0, 30_000.0
"""ms of CPU and bytes a second, of one node (docs/promises.md)."""


@dataclass(frozen=True)
class Measured:
    """Of each second and node."""

    cpu_ms: list[float]
    rss_mib: list[float]
    bytes_sent: float
    """On the wire: TLS, TCP and IP with it. As many are received."""
    packets: float
    stolen_s: float


def main() -> int:
    """Exit codes: 0 fine, 1 the nodes did not become one network, or --assert and over the target."""
    args = arguments()
    if ALONE not in os.environ and (code := in_own_namespace()) is not None:
        return code
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        try:
            with network(args.node, args.nodes, Path(folder)) as pids:
                meet(args.nodes)
                time.sleep(args.settle)
                measured = measure(pids, args.seconds)
        except DidNotMeet as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    tell(measured, args.nodes, args.seconds)
    over = statistics.median(measured.cpu_ms) > TARGET_CPU or 2 * measured.bytes_sent > TARGET_BYTES
    return 1 if over and getattr(args, "assert") else 0


class DidNotMeet(Exception):
    """A node did not start, or they did not all see each other."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/idle_network", description="What a node in an idle network costs.")
    parser.add_argument("--nodes", type=int, default=50, help="how many, each a process of its own (50)")
    parser.add_argument("--seconds", type=int, default=60, help="how long it is measured (60)")
    parser.add_argument("--settle", type=int, default=20, help="seconds between all seeing all and that (20)")
    parser.add_argument("--assert", action="store_true", help="exit code 1 when a node costs more than the target")
    add_node(parser)
    return parser.parse_args()


def in_own_namespace() -> int | None:
    """Run this again where loopback is its own; None: that cannot be had here."""
    bring_up = 'ip link set lo up && exec "$@"'
    command = ("unshare", "--map-root-user", "--net", "sh", "-c", bring_up, "sh")
    if not shutil.which("unshare") or subprocess.run((*command, "true"), check=False, capture_output=True).returncode:
        print("bench: no network namespace: all that is on this machine's loopback is counted", file=sys.stderr)
        return None
    again = (sys.executable, *sys.argv)
    return subprocess.run((*command, *again), check=False, env={**os.environ, ALONE: "1"}).returncode


@contextmanager
def network(node: Sequence[str], number: int, folder: Path) -> Iterator[list[int]]:
    """The nodes' process ids. All know the secret, and the first one's address."""
    secret = new_secret()
    with ExitStack() as stack:
        started = []
        for one in range(number):
            started.append(stack.enter_context(running(node, one, secret, folder)))
            wait_for_start(max(0, one - AT_ONCE))
        wait_for_start(*range(number))
        yield [process.pid for process in started]


@contextmanager
def running(node: Sequence[str], number: int, secret: str, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    home = folder / str(number)
    home.mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MASA_DIR": str(home / "masa"),
        "PORT": str(FIRST_CLIENT_PORT + number),
        "PEER_HOST": "127.0.0.1",
        "PEER_PORT": str(FIRST_PEER_PORT + number),
        "MDNS": "false",
        "LLM_CHAT_URL": "off",
        "LOG_FORMAT": "json",
        "NETWORK_SECRET": secret,
        "BOOTNODES": f"127.0.0.1:{FIRST_PEER_PORT}",
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen((*node, "run"), cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def new_secret() -> str:
    """As `masa-node invite` makes one (docs/protocol.md): 32 random bytes, and four of their digest."""
    secret = secrets.token_bytes(32)
    return "masa1" + base64.urlsafe_b64encode(secret + hashlib.sha256(secret).digest()[:4]).decode().rstrip("=")


def peers(number: int) -> int | None:
    """How many others a node takes for alive; None: it does not answer yet."""
    with suppress(OSError, urllib.error.URLError):
        url = f"http://127.0.0.1:{FIRST_CLIENT_PORT + number}/api/v1/peers"
        with urllib.request.urlopen(url, timeout=5) as got:
            alive: int = sum(peer["status"] == "alive" for peer in json.load(got)["peers"])
            return alive
    return None


def wait_for_start(*numbers: int) -> None:
    wait_for(lambda: all(peers(one) is not None for one in numbers), START_S, "not all started")


def meet(number: int) -> None:
    start = time.monotonic()
    wait_for(lambda: all(peers(one) == number - 1 for one in range(number)), MEET_S, "not all see all")
    print(
        f"bench: {number} nodes see each other {time.monotonic() - start:.1f} s after the last start", file=sys.stderr
    )


def wait_for(fact: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise DidNotMeet(f"{otherwise} after {seconds} s")
        time.sleep(LOOK_S)


def measure(pids: Sequence[int], seconds: float) -> Measured:
    stolen, (sent, packets) = stolen_s(), loopback()
    before, start = [cpu_us([pid]) for pid in pids], time.monotonic()
    time.sleep(seconds)
    after, took = [cpu_us([pid]) for pid in pids], time.monotonic() - start
    now_sent, now_packets = loopback()
    return Measured(
        [(last - first) / 1000 / took for first, last in zip(before, after, strict=True)],
        [rss_bytes([pid]) / 2**20 for pid in pids],
        (now_sent - sent) / took / len(pids),
        (now_packets - packets) / took / len(pids),
        stolen_s() - stolen,
    )


def loopback() -> tuple[int, int]:
    """(bytes, packets) that went over loopback so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == "lo":
            return int(fields.split()[8]), int(fields.split()[9])
    raise SystemExit("bench: no loopback")


def tell(measured: Measured, number: int, seconds: int) -> None:
    cpu = sorted(measured.cpu_ms)
    print(f"{number} nodes on loopback, idle, over {seconds} s; each node, each second:\n")
    print("| | median | least | most | target |\n|---|---|---|---|---|")
    print(f"| CPU, ms | {statistics.median(cpu):.1f} | {cpu[0]:.1f} | {cpu[-1]:.1f} | {TARGET_CPU:.0f} |")
    both = 2 * measured.bytes_sent
    print(f"| bytes, both ways, TCP and IP with it | {both:,.0f} | | | {TARGET_BYTES:,.0f} |")
    print(f"| packets, both ways | {2 * measured.packets:.0f} | | | |")
    rss = sorted(measured.rss_mib)
    print(f"| memory held, MiB | {statistics.median(rss):.0f} | {rss[0]:.0f} | {rss[-1]:.0f} | |")
    print(f"\nCPU time that the host took away meanwhile: {measured.stolen_s:.2f} s.")
