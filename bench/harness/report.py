"""Medians over the rounds, and the Markdown tables that tell them."""

import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.aims import NODE, RUN_AIMS, aims
from harness.home import BENCH
from harness.loads import Measured
from harness.tables import Column, compared, litellm, spread, times

Rounds = Sequence[Mapping[str, Mapping[str, Measured]]]
"""Per round: proxy → load (or `rest`: what was measured before any) → figure → value."""

TABLES = {
    "Whole replies": (
        Column("CPU-µs/request, 32 connections", "c32.cpu_each", 1),
        times("c32.cpu_each"),
        litellm("c32.cpu_each"),
        Column("256 connections", "c256.cpu_each", 1),
        times("c256.cpu_each"),
        Column("requests/s, 1 connection", "c1.per_s"),
        Column("32 connections", "c32.per_s"),
        Column("256 connections", "c256.per_s"),
        times("c32.per_s", "× nginx, 32"),
        times("c32.per_s", "× direct, 32", "direct"),
        Column("added µs p50, 1 connection", "c1.whole_p50", against="-direct"),
        Column("p99", "c1.whole_p99", against="-direct"),
    ),
    "Streams": (
        Column("CPU-µs/chunk, 1 stream", "s1.cpu_each", 1),
        Column("100 streams", "s100.cpu_each", 1),
        times("s100.cpu_each"),
        litellm("s100.cpu_each"),
        Column("1,000 streams", "s1000.cpu_each", 1),
        times("s1000.cpu_each"),
        litellm("s1000.cpu_each"),
        Column("KiB/open stream", "s1000.bytes_each", 1, 1024),
        Column("chunks/s, 1,000 streams", "s1000.per_s"),
    ),
    "Waiting: first chunk (added), and every chunk's time on its way, ms": (
        Column("added TTFT p50, 100 streams", "s100.first_p50", 2, 1000, "-direct"),
        Column("p99", "s100.first_p99", 2, 1000, "-direct"),
        Column("p50, 1,000 streams", "s1000.first_p50", 2, 1000, "-direct"),
        Column("p99", "s1000.first_p99", 2, 1000, "-direct"),
        Column("chunk p50, 100 streams", "s100.chunk_p50", 2, 1000),
        Column("p99", "s100.chunk_p99", 2, 1000),
        Column("p50, 1,000 streams", "s1000.chunk_p50", 2, 1000),
        Column("p99", "s1000.chunk_p99", 2, 1000),
    ),
    "Large bodies, start, memory": (
        Column("1 MiB prompt CPU-µs", "prompt.cpu_each"),
        times("prompt.cpu_each"),
        Column("ms p50", "prompt.whole_p50", 2, 1000),
        Column("200 KiB reply CPU-µs", "reply.cpu_each"),
        times("reply.cpu_each"),
        Column("ms p50", "reply.whole_p50", 2, 1000),
        Column("start s", "rest.start_s", 2),
        Column("`--help` s", "rest.help_s", 3),
        Column("idle MiB", "rest.idle_bytes", 1, 1 << 20),
        Column("peak MiB", "all.peak_bytes", 1, 1 << 20),
        Column("failed", "all.failed"),
    ),
}


def medians_of(rounds: Rounds) -> dict[str, dict[str, float]]:
    return {name: _medians([one[name] for one in rounds]) for name in rounds[0]}


def _medians(rounds: Sequence[Mapping[str, Measured]]) -> dict[str, float]:
    """Of one proxy. `all.peak_bytes` is the most memory it held in any load, `all.failed` a sum over everything."""
    told = {
        f"{load}.{figure}": statistics.median(one[load][figure] for one in rounds)
        for load, measured in rounds[0].items()
        for figure in measured
    }
    peaks = (max(got.get("peak_bytes", 0) for got in one.values()) for one in rounds)
    return told | {"all.peak_bytes": statistics.median(peaks), "all.failed": _failed(rounds)}


def tell(rounds: Rounds, versions: Mapping[str, str], machine: str, stolen: float) -> str:
    """The whole report, in Markdown."""
    medians = medians_of(rounds)
    parts = [machine, "  \n".join(filter(None, versions.values()))]
    if NODE in medians:
        parts += ["### Aims", aims(RUN_AIMS, medians)]
    for title, columns in TABLES.items():
        parts += [f"### {title}", compared(columns, medians)]
    return "\n\n".join(filter(None, [*parts, trust(rounds, stolen)])) + "\n"


def failures(rounds: Rounds) -> int:
    return int(sum(_failed([loads]) for one in rounds for loads in one.values()))


def _failed(rounds: Sequence[Mapping[str, Measured]]) -> float:
    return sum(got.get("failed", 0) for one in rounds for got in one.values())


def trust(rounds: Rounds, stolen: float) -> str:
    """How much the rounds differ, what failed, and what the host took."""
    told = [
        f"{len(rounds)} rounds; {failures(rounds)} replies or streams failed; the host took {stolen:.1f} s of CPU time."
    ]
    for title, load in (("CPU-µs/request at 32 connections", "c32"), ("CPU-µs/chunk at 100 streams", "s100")):
        costs = {name: [one[name][load]["cpu_each"] for one in rounds] for name in rounds[0]}
        spreads = [f"{name} {spread(values):.0%}" for name, values in costs.items() if any(values)]
        if len(rounds) > 1 and spreads:
            told.append(f"Spread of {title}, (most - least) / median: {', '.join(spreads)}.")
    return "  \n".join(told)


def machine() -> str:
    """One line: processor, kernel, system, the project's commit."""
    model = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0] or platform.machine()
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    return f"{os.cpu_count()} × {model}, {system}, kernel {platform.release()}, {_commit()}"


def _commit() -> str:
    git = ["git", "-C", str(BENCH), "describe", "--always", "--dirty"]
    told = shutil.which("git") and subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return f"commit {told}" if told else "no commit known"
