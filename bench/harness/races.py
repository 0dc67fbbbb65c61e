"""bench/races: what an answer costs that comes from raced peers, and how much of their work is in vain."""

import argparse
import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from harness.cli import raise_open_files
from harness.home import build
from harness.idle import DidNotMeet
from harness.loads import FAILURES, Load, Measured, generate
from harness.processes import Cpus, cpu_us, stolen_s, two_cpus, wait_until_quiet
from harness.proxies import find_node
from harness.race_network import Asker, World, world
from harness.report import machine, table
from harness.serving import DidNotStart

IDLE_S = 3.0
SPREAD_MS = 20
"""Between the first chunks of two mocks, where they are not equally fast."""
COST = Load("cost", 1, replies=100, chunks=10)
COST_MOCK = {"delay": 20, "interval": 5}
LONG = Load("stream", 1, replies=30, chunks=20)
WHOLE = Load("whole", 1, replies=30)
WIDTH_MOCK = {"delay": 40, "interval": 10}
Rounds = Sequence[Mapping[str, Measured]]
"""Per round: what was asked and how → figure → value."""


def main() -> int:
    """Exit codes: 0 fine, 1 a reply was wrong or the network did not come up, 2 usage."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_open_files()
    cpus = two_cpus()
    os.sched_setaffinity(0, {cpus.load})
    build()
    stolen, rounds = stolen_s(), []
    try:
        with world(args.node, cpus) as up:
            for number in range(args.rounds):
                began = time.monotonic()
                rounds.append(dict(one_round(up, cpus, number, quick=args.quick)))
                print(f"bench: round {number + 1}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    except (DidNotStart, DidNotMeet) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(tell(rounds, up, stolen_s() - stolen))
    return 1 if any(got["failed"] for one in rounds for got in one.values()) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/races", description="What a raced request costs beside a direct one.")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; the medians are told (3)")
    parser.add_argument("--quick", action="store_true", help="one round, a third of the requests: a first impression")
    parser.add_argument(
        "--node", type=shlex.split, default=find_node(), metavar="COMMAND", help="masa-node's command, without `run`"
    )
    args = parser.parse_args()
    if args.quick:
        args.rounds = 1
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return args


def one_round(up: World, cpus: Cpus, number: int, *, quick: bool) -> Iterator[tuple[str, Measured]]:
    """Another asker begins in each round. First all mocks are alike; then each is slower than the one before."""
    idle = at_rest(up)
    for mock in up.mocks:
        mock.configure({**COST_MOCK, "chunks": COST.chunks or 1})
    for asker in turned(up.raced, number):
        yield asker.name, measure(up, asker, fewer(COST, quick), cpus, idle)
    for load in (LONG, WHOLE):
        for place, mock in enumerate(up.mocks):
            delay = WIDTH_MOCK["delay"] + place * SPREAD_MS
            mock.configure({**WIDTH_MOCK, "delay": delay, "chunks": load.chunks or 1})
        for asker in turned(up.widths, number):
            yield f"{asker.name} {load.name}", measure(up, asker, fewer(load, quick), cpus, idle)


def fewer(load: Load, quick: bool) -> Load:
    return Load(load.name, 1, replies=load.replies // 3, chunks=load.chunks) if quick else load


def turned(askers: Sequence[Asker], by: int) -> list[Asker]:
    by %= len(askers)
    return [*askers[by:], *askers[:by]]


def at_rest(up: World) -> dict[int, float]:
    """CPU-µs per second of each process where nobody asks: gossip, looks at the mocks. It is taken off every cost."""
    pids = [pid for one in (*up.peers, *(asker.running for asker in (*up.raced, *up.widths))) for pid in one.pids]
    before = {pid: cpu_us([pid]) for pid in pids}
    time.sleep(IDLE_S)
    return {pid: (cpu_us([pid]) - before[pid]) / IDLE_S for pid in pids}


def measure(up: World, asker: Asker, load: Load, cpus: Cpus, idle: Mapping[int, float]) -> Measured:
    """One load on one asker: what its caller saw, what it and its peers spent, and what of it was in vain."""
    mine, theirs = asker.running.pids, [pid for peer in asker.peers for pid in peer.pids]
    wait_until_quiet(mine)
    began, start = time.time(), time.monotonic()
    before, sends, chunks = (cpu_us(mine), cpu_us(theirs)), asker.sends(), up.chunks()
    seen = generate(asker.running, load, cpus, "openai")
    took = time.monotonic() - start
    spent = [
        max(0.0, cpu_us(pids) - then - took * sum(idle[pid] for pid in pids))
        for pids, then in zip((mine, theirs), before, strict=True)
    ]
    replies, asked = max(seen["replies"], 1), asker.sends() - sends
    lost = [loss for race in asker.races(began) for loss in losses(race)]
    return seen | {
        "failed": sum(seen[kind] for kind in FAILURES) + (load.replies - seen["replies"]),
        "cpu_asker": spent[0] / replies,
        "cpu_peer": spent[1] / asked if asked else 0,
        "asked": asked / replies,
        "busy": sum(outcome == "busy" for outcome, _ in lost) / replies,
        "lost_ms": sum(ms for _, ms in lost) / replies,
        "lost_chunks": (up.chunks() - chunks - seen["chunks"]) / replies if load.chunks else 0,
    }


def losses(race: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Of each that was asked in vain: how it ended, and for how many ms it was at work."""
    asked = race["asked"]
    assert isinstance(asked, list)
    for one in asked:
        if one["node"] != race.get("winner"):
            yield one["outcome"], max(0.0, one.get("ended_ms", race.get("ms", 0)) - one["at_ms"])


def tell(rounds: Rounds, up: World, stolen: float) -> str:
    """The whole report, in Markdown."""
    told = {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in rounds[0][name]}
        for name in rounds[0]
    }
    direct = told[up.raced[0].name]
    cost = [cost_row(asker, told[asker.name], direct) for asker in up.raced]
    titles = ["", "asker CPU-ms", "each peer CPU-ms", "peers asked", "first chunk p50, ms", "added", "p99, ms", "added"]
    parts = [machine(), "### A request and its cost", table(titles, cost)]
    titles = ["", "peers asked", "of them busy", "ms of work in vain", "chunks in vain"]
    for load, what, first in ((LONG, "streams", "first chunk"), (WHOLE, "whole replies", "reply")):
        rows = [width_row(asker.name, told[f"{asker.name} {load.name}"], load) for asker in up.widths]
        parts.append(f"### Work in vain, {what}, each request")
        parts.append(table([*titles, f"{first} p50, ms", "p99, ms"], rows))
    failed = sum(got["failed"] for one in rounds for got in one.values())
    parts.append(f"{len(rounds)} rounds; {failed:.0f} replies failed; the host took {stolen:.1f} s of CPU time.")
    if len(rounds) > 1:
        parts[-1] += f"  \nSpread of the asker's CPU, (most - least) / median: {spreads(rounds, up)}."
    return "\n\n".join(parts) + "\n"


def cost_row(asker: Asker, told: Measured, direct: Measured) -> list[str]:
    through = asker.running.pid is not None
    cells = [asker.name]
    cells.append(f"{told['cpu_asker'] / 1000:.2f}" if through else "–")
    cells += [f"{told['cpu_peer'] / 1000:.2f}", f"{told['asked']:.1f}"] if asker.peers else ["–", "–"]
    for figure in ("first_p50", "first_p99"):
        cells += [f"{told[figure] / 1000:.1f}", f"{(told[figure] - direct[figure]) / 1000:.1f}" if through else "–"]
    return cells


def width_row(name: str, told: Measured, load: Load) -> list[str]:
    first = "first" if load.chunks else "whole"
    cells = [f"{told['asked']:.2f}", f"{told['busy']:.2f}", f"{told['lost_ms']:.0f}"]
    cells.append(f"{told['lost_chunks']:.2f}" if load.chunks else "–")
    return [name, *cells, f"{told[f'{first}_p50'] / 1000:.1f}", f"{told[f'{first}_p99'] / 1000:.1f}"]


def spreads(rounds: Rounds, up: World) -> str:
    told = []
    for asker in up.raced[1:]:
        costs = sorted(one[asker.name]["cpu_asker"] for one in rounds)
        told.append(f"{asker.name} {(costs[-1] - costs[0]) / statistics.median(costs):.0%}")
    return "; ".join(told)
