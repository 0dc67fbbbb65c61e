"""bench/races: what an answer costs that comes from raced peers, and how much of their work is in vain."""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.idle import DidNotMeet
from harness.loads import FAILURES, Load, Measured, generate
from harness.processes import Cpus, cpu_us, stolen_s, wait_until_quiet
from harness.race_network import Asker, World, world
from harness.race_report import COSTS, LONG, WHOLE, tell
from harness.runs import parsed, parser, prepared, publish, rounds, turned
from harness.serving import DidNotStart

PROGRAM = "bench/races"
IDLE_S = 3.0
WARM_UP = 2
"""Replies to each caller before a measurement: what a connection costs that is dialled is not a request's cost."""
SPREAD_MS = 20
"""Between the first chunks of two mocks, where they are not equally fast."""
COST_MOCK = {"delay": 20, "interval": 5}
WIDTH_MOCK = {"delay": 40, "interval": 10}


def main() -> int:
    """Exit codes: 0 fine, 1 a reply was wrong or the network did not come up, 2 usage."""
    args = parsed(parser(PROGRAM, "What a raced request costs beside a direct one."))
    cpus, stolen = prepared(), stolen_s()
    try:
        with world(args.node, cpus) as up:
            told = rounds(args.rounds, lambda number: dict(one_round(up, cpus, number, quick=args.quick)))
    except (DidNotStart, DidNotMeet) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    publish(tell(told, up, stolen_s() - stolen), PROGRAM, args.into)
    return 1 if any(got["failed"] for one in told for got in one.values()) else 0


def one_round(up: World, cpus: Cpus, number: int, *, quick: bool) -> Iterator[tuple[str, Measured]]:
    """Another asker begins in each round. First all mocks are alike; then each is slower than the one before."""
    idle = at_rest(up)
    for load in COSTS:
        for mock in up.mocks:
            mock.configure({**COST_MOCK, "chunks": load.chunks or 1})
        for asker in turned(up.raced, number):
            yield f"{asker.name} {load.name}", measure(up, asker, fewer(load, quick), cpus, idle)
    for load in (LONG, WHOLE):
        for place, mock in enumerate(up.mocks):
            delay = WIDTH_MOCK["delay"] + place * SPREAD_MS
            mock.configure({**WIDTH_MOCK, "delay": delay, "chunks": load.chunks or 1})
        for asker in turned(up.widths, number):
            yield f"{asker.name} {load.name}", measure(up, asker, fewer(load, quick), cpus, idle)


def fewer(load: Load, quick: bool) -> Load:
    return replace(load, replies=load.replies // 3) if quick else load


def at_rest(up: World) -> dict[int, float]:
    """CPU-µs per second of each process where nobody asks: gossip, looks at the mocks. It is taken off every cost."""
    pids = [pid for one in (*up.peers, *(asker.running for asker in (*up.raced, *up.widths))) for pid in one.pids]
    before = {pid: cpu_us([pid]) for pid in pids}
    time.sleep(IDLE_S)
    return {pid: (cpu_us([pid]) - before[pid]) / IDLE_S for pid in pids}


def measure(up: World, asker: Asker, load: Load, cpus: Cpus, idle: Mapping[int, float]) -> Measured:
    """One load on one asker: what its caller saw, what it and its peers spent, and what of it was in vain."""
    mine, theirs = asker.running.pids, [pid for peer in asker.peers for pid in peer.pids]
    generate(asker.running, replace(load, replies=WARM_UP), cpus, "openai")
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
        "failed": sum(seen[kind] for kind in FAILURES) + (load.replies * load.connections - seen["replies"]),
        "cpu_asker": spent[0] / replies,
        "cpu_peer": spent[1] / asked if asked else 0,
        "cpu_both": sum(spent) / replies,
        "asked": asked / replies,
        "lost_ms": sum(lost) / replies,
        "lost_chunks": (up.chunks() - chunks - seen["chunks"]) / replies if load.chunks else 0,
    }


def losses(race: Mapping[str, Any]) -> Iterator[float]:
    """Of each that was asked in vain: for how many ms it was at work."""
    for one in race["asked"]:
        if one["node"] != race.get("winner"):
            yield max(0.0, one.get("ended_ms", race.get("ms", 0)) - one["at_ms"])
