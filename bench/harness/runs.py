"""What bench/run and bench/races share: their options, the two CPUs, the rounds, where the report goes."""

import argparse
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from harness.home import build
from harness.processes import Cpus, two_cpus
from harness.proxies import find_node

T = TypeVar("T")


def parser(program: str, about: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=program, description=about)
    made.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the medians are told (3)")
    made.add_argument("--quick", action="store_true", help="one round, smaller loads: a first impression")
    made.add_argument("--into", type=Path, metavar="PAGE", help="also put the report where this page has its marks")
    add_node(made)
    return made


def add_node(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--node", type=shlex.split, default=find_node(), metavar="COMMAND", help="masa-node's command, without `run`"
    )


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Exits with 2 when the options make no sense."""
    args = made.parse_args()
    if args.quick:
        args.rounds = 1
    if args.rounds < 1:
        made.error("--rounds must be 1 or more")
    if args.into and not all(mark in args.into.read_text() for mark in marks(made.prog)):
        made.error(f"{args.into} has no {' … '.join(marks(made.prog))}")
    return args


def prepared() -> Cpus:
    """Everything is compiled, SIGTERM unwinds, and the bench is on the CPU of the load."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_open_files()
    cpus = two_cpus()
    os.sched_setaffinity(0, {cpus.load})
    build()
    return cpus


def raise_open_files() -> None:
    """A thousand streams are two thousand sockets in a proxy."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        print(f"bench: only {hard} open files are allowed: loads with many connections will fail", file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def rounds(number: int, one: Callable[[int], T]) -> list[T]:
    """What `one` says of each round, which it is told the number of, from 0."""
    told = []
    for this in range(number):
        began = time.monotonic()
        told.append(one(this))
        print(f"bench: round {this + 1} of {number}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return told


def turned(all_: Sequence[T], by: int) -> list[T]:
    """Another one begins in each round."""
    by %= len(all_)
    return [*all_[by:], *all_[:by]]


def marks(program: str) -> tuple[str, str]:
    """Between these two a page holds the program's report."""
    return f"<!-- {program}: from here -->", f"<!-- {program}: to here -->"


def publish(report: str, program: str, page: Path | None) -> None:
    """Print it, and put it into the page."""
    print(report)
    if page:
        first, last = marks(program)
        before, _, rest = page.read_text().partition(first)
        _, _, after = rest.partition(last)
        page.write_text(f"{before}{first}\n\n{report}\n{last}{after}")
