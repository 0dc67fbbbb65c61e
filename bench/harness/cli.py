"""bench/run: arguments, rounds, report."""

import argparse
import json
import os
import resource
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.check import check
from harness.home import PATHS, build
from harness.loads import LOADS, Load, Measured, measure, warm_up
from harness.processes import Cpus, stolen_s, two_cpus
from harness.proxies import Proxy, find_node, known
from harness.report import failures, machine, medians_of, tell
from harness.serving import DidNotStart, Mock, mock_server, serving

Round = dict[str, dict[str, Measured]]


def main() -> int:
    """Exit codes: 0 fine, 1 a reply was wrong, a stream not whole or a proxy not to be started, 2 usage."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_open_files()
    cpus = two_cpus()
    os.sched_setaffinity(0, {cpus.load})
    build()
    proxies = chosen(known(args.node), args.only)
    with mock_server(cpus) as mock:
        try:
            return checked(proxies, mock, cpus) if args.check else measured(proxies, mock, cpus, args)
        except DidNotStart as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run", description="What masa-node costs, beside other proxies.")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the medians are told (3)")
    parser.add_argument("--quick", action="store_true", help="one round, every load half as long: a first impression")
    parser.add_argument("--check", action="store_true", help="no timing: are bodies the same, streams whole?")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,NAME", help="only these proxies")
    parser.add_argument("--dialect", choices=list(PATHS), default="openai", help="what the loads speak (openai)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure of every round here")
    parser.add_argument(
        "--node",
        type=shlex.split,
        default=find_node(),
        metavar="COMMAND",
        help="masa-node's command line, without `run`",
    )
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return args


def chosen(proxies: Sequence[Proxy], names: Sequence[str] | None) -> list[Proxy]:
    """Those asked for that can be started; the others are named."""
    if unknown := set(names or ()) - {proxy.name for proxy in proxies}:
        print(
            f"bench: unknown: {', '.join(unknown)}; known: {', '.join(proxy.name for proxy in proxies)}",
            file=sys.stderr,
        )
        raise SystemExit(2)
    wanted = [proxy for proxy in proxies if not names or proxy.name in names]
    for proxy in wanted:
        if proxy.missing:
            print(f"bench: {proxy.name} is left out: there is no program {proxy.command[0]}", file=sys.stderr)
    if not (there := [proxy for proxy in wanted if not proxy.missing]):
        raise SystemExit("bench: nothing left to measure")
    return there


def checked(proxies: Sequence[Proxy], mock: Mock, cpus: Cpus) -> int:
    with ExitStack() as stack:
        told, right = check([stack.enter_context(serving(proxy, mock, cpus)) for proxy in proxies], mock, cpus)
    print(told)
    return 0 if right else 1


def measured(proxies: Sequence[Proxy], mock: Mock, cpus: Cpus, args: argparse.Namespace) -> int:
    versions = {proxy.name: proxy.told_version() for proxy in proxies}
    stolen, rounds = stolen_s(), []
    for number in range(args.rounds):
        began = time.monotonic()
        rounds.append(one_round(turned(proxies, number), mock, cpus, args))
        print(f"bench: round {number + 1} of {args.rounds}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    stolen = stolen_s() - stolen
    in_order = [{proxy.name: one[proxy.name] for proxy in proxies} for one in rounds]
    print(tell(in_order, versions, machine(), stolen))
    if args.json:
        whole = {"machine": machine(), "versions": versions, "medians": medians_of(rounds), "rounds": rounds}
        args.json.write_text(json.dumps(whole, indent=1))
    return 1 if failures(rounds) else 0


def one_round(proxies: Sequence[Proxy], mock: Mock, cpus: Cpus, args: argparse.Namespace) -> Round:
    """All proxies fresh and up; each load goes to one after the other, so that a noisy moment hits them alike."""
    loads: list[Load] = [load.shorter() for load in LOADS] if args.quick else list(LOADS)
    with ExitStack() as stack:
        up = [stack.enter_context(serving(proxy, mock, cpus)) for proxy in proxies]
        told: Round = {one.proxy.name: {"rest": one.at_rest()} for one in up}
        for one in up:
            warm_up(one, mock, cpus, args.dialect)
        for load in loads:
            for one in up:
                told[one.proxy.name][load.name] = measure(one, load, mock, cpus, args.dialect)
    return told


def turned(proxies: Sequence[Proxy], by: int) -> list[Proxy]:
    """Another one begins in each round."""
    by %= len(proxies)
    return [*proxies[by:], *proxies[:by]]


def raise_open_files() -> None:
    """A thousand streams are two thousand sockets in a proxy."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        print(f"bench: only {hard} open files are allowed: loads with many connections will fail", file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
