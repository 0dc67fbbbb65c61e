"""bench/run: arguments, rounds, report."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.check import check
from harness.home import PATHS
from harness.loads import LOADS, Load, Measured, help_s, measure, warm_up
from harness.processes import Cpus, stolen_s
from harness.proxies import Proxy, known
from harness.report import failures, machine, medians_of, tell
from harness.runs import parsed, parser, prepared, publish, rounds, turned
from harness.serving import DidNotStart, Mock, mock_server, serving

PROGRAM = "bench/run"
Round = dict[str, dict[str, Measured]]


def main() -> int:
    """Exit codes: 0 fine, 1 a reply was wrong, a stream not whole or a proxy not to be started, 2 usage."""
    args = arguments()
    cpus = prepared()
    proxies = chosen(known(args.node), args)
    with mock_server(cpus) as mock:
        try:
            return checked(proxies, mock, cpus) if args.check else measured(proxies, mock, cpus, args)
        except DidNotStart as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1


def arguments() -> argparse.Namespace:
    made = parser(PROGRAM, "What masa-node costs, beside other proxies.")
    made.add_argument("--check", action="store_true", help="no timing: are bodies the same, streams whole?")
    made.add_argument("--only", type=names, default=(), metavar="NAME,NAME", help="only these proxies")
    made.add_argument("--with", type=names, default=(), dest="also", metavar="NAME,NAME", help="these as well")
    made.add_argument("--dialect", choices=list(PATHS), default="openai", help="what the loads speak (openai)")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every figure of every round here")
    return parsed(made)


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def chosen(proxies: Sequence[Proxy], args: argparse.Namespace) -> list[Proxy]:
    """Those asked for that can be measured; the others are named, with the reason."""
    if unknown := {*args.only, *args.also} - {proxy.name for proxy in proxies}:
        every = ", ".join(proxy.name for proxy in proxies)
        print(f"bench: unknown: {', '.join(unknown)}; known: {every}", file=sys.stderr)
        raise SystemExit(2)
    there = []
    for proxy in proxies:
        if proxy.name in args.also or (proxy.name in args.only if args.only else proxy.usual):
            why = "it writes bodies anew" if args.check and proxy.rewrites else proxy.left_out(args.dialect)
            if why:
                print(f"bench: {proxy.name} is left out: {why}", file=sys.stderr)
            else:
                there.append(proxy)
    if not there:
        raise SystemExit("bench: nothing left to measure")
    return there


def checked(proxies: Sequence[Proxy], mock: Mock, cpus: Cpus) -> int:
    with ExitStack() as stack:
        told, right = check([stack.enter_context(serving(proxy, mock, cpus)) for proxy in proxies], mock, cpus)
    print(told)
    return 0 if right else 1


def measured(proxies: Sequence[Proxy], mock: Mock, cpus: Cpus, args: argparse.Namespace) -> int:
    versions = {proxy.name: proxy.told_version() for proxy in proxies}
    stolen = stolen_s()
    told = rounds(args.rounds, lambda number: one_round(turned(proxies, number), mock, cpus, args))
    stolen = stolen_s() - stolen
    in_order = [{proxy.name: one[proxy.name] for proxy in proxies} for one in told]
    publish(tell(in_order, versions, machine(), stolen), PROGRAM, args.into)
    if args.json:
        whole = {"machine": machine(), "versions": versions, "medians": medians_of(told), "rounds": told}
        args.json.write_text(json.dumps(whole, indent=1))
    return 1 if failures(told) else 0


def one_round(proxies: Sequence[Proxy], mock: Mock, cpus: Cpus, args: argparse.Namespace) -> Round:
    """All proxies fresh and up; each load goes to one after the other, so that a noisy moment hits them alike."""
    loads: list[Load] = [load.shorter() for load in LOADS] if args.quick else list(LOADS)
    with ExitStack() as stack:
        up = [stack.enter_context(serving(proxy, mock, cpus)) for proxy in proxies]
        told: Round = {one.proxy.name: {"rest": one.at_rest() | help_s(one.proxy, cpus)} for one in up}
        for one in up:
            warm_up(one, mock, cpus, args.dialect)
        for load in loads:
            for one in up:
                told[one.proxy.name][load.name] = measure(one, load, mock, cpus, args.dialect)
    return told
