"""What Linux tells about a process and its children: CPU time, memory. And which CPU does what."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")
CPUCLOCK_SCHED = 2
QUIET_S = 0.1
"""What is asleep for this long has done with the load before."""


@dataclass(frozen=True)
class Cpus:
    """One CPU for the mock, the load and the bench itself, one for what is measured."""

    load: int
    proxy: int


def two_cpus() -> Cpus:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("bench: needs two CPUs: one for the load, one for what is measured")
    return Cpus(allowed[0], allowed[1])


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for one in found:
        for task in _tasks(one):
            found += map(int, _read(task / "children").split())
    return found


def cpu_us(pids: Sequence[int]) -> float:
    """CPU time used so far, user and system, in the scheduler's own nanoseconds; threads that have ended count too.

    /proc/PID/stat has the same in ticks of 10 ms.
    """
    return sum(_cpu_ns(pid) for pid in pids) / 1000


def rss_bytes(pids: Sequence[int]) -> int:
    """Resident memory; pages that several processes of one proxy share are counted for each."""
    return sum(int(_read(PROC / str(pid) / "statm").split()[1]) for pid in pids) * PAGE


def wait_until_quiet(pids: Sequence[int], limit_s: float = 10) -> None:
    """What a slow proxy left behind is not charged to the next load."""
    end = time.monotonic() + limit_s
    while pids and time.monotonic() < end:
        before = cpu_us(pids)
        time.sleep(QUIET_S)
        if cpu_us(pids) - before < QUIET_S * 1e6 * 0.02:
            return


def stolen_s() -> float:
    """Seconds that the host of a virtual machine gave to somebody else so far, all CPUs together."""
    return int(_read(PROC / "stat").split()[8]) / os.sysconf("SC_CLK_TCK")


def _cpu_ns(pid: int) -> int:
    """By the process's CPU clock, whose number is made as clock_getcpuclockid(3) does; 0 for what has just ended."""
    try:
        return time.clock_gettime_ns(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return 0


def _tasks(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    """Zeros for what has just ended."""
    try:
        return path.read_text()
    except OSError:
        return "" if path.name == "children" else "0 0"
