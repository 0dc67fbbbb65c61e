"""The loads of bench/races, and the report of what they cost, in Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from harness.aims import OWN, RACE_AIMS, aims
from harness.loads import Load, Measured
from harness.race_network import CALLERS, RACED, Asker, World, raced_of
from harness.report import machine
from harness.tables import spread, table

COST_STREAM = Load("streams", 1, replies=100, chunks=10)
COST_WHOLE = Load("whole", CALLERS, replies=40)
COSTS = (COST_WHOLE, COST_STREAM)
LONG = Load("stream, widths", 1, replies=30, chunks=20)
WHOLE = Load("whole, widths", 1, replies=30)
Rounds = Sequence[Mapping[str, Measured]]
"""Per round: what was asked and how → figure → value."""


def tell(rounds: Rounds, up: World, stolen: float) -> str:
    """The whole report."""
    told = {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in rounds[0][name]}
        for name in rounds[0]
    }
    parts = [machine(), "### Aims between nodes", aims(RACE_AIMS, by_asker(told))]
    for load, what in (
        (COST_WHOLE, f"Whole small replies, {CALLERS} callers at once"),
        (COST_STREAM, f"Streams of {COST_STREAM.chunks} chunks, one caller"),
    ):
        parts += [f"### {what}: a request and its cost", cost_table(up.raced, told, load)]
    for load, what in ((LONG, "streams"), (WHOLE, "whole replies")):
        parts += [f"### Work in vain, {what}, each request", width_table(up.widths, told, load)]
    failed = sum(got["failed"] for one in rounds for got in one.values())
    parts.append(f"{len(rounds)} rounds; {failed:.0f} replies failed; the host took {stolen:.1f} s of CPU time.")
    if len(rounds) > 1:
        parts[-1] += f"  \nSpread of the asker's CPU, (most - least) / median: {'; '.join(spreads(rounds, up))}."
    return "\n\n".join(parts) + "\n"


def by_asker(told: Mapping[str, Measured]) -> dict[str, dict[str, float]]:
    """Asker → `load.figure` → value."""
    askers = (OWN, *map(raced_of, RACED))
    return {
        asker: {
            f"{load.name}.{figure}": value for load in COSTS for figure, value in told[f"{asker} {load.name}"].items()
        }
        for asker in askers
    }


def cost_table(raced: Sequence[Asker], told: Mapping[str, Measured], load: Load) -> str:
    first = "first chunk" if load.chunks else "reply"
    titles = ["", "asker CPU-ms", "× k = 1", "each peer CPU-ms", "peers asked", f"all nodes ÷ {OWN}"]
    titles += [f"{first} p50, ms", "added", "p99, ms", "added"]
    return table(titles, [cost_row(asker, raced[0], told, load) for asker in raced])


def cost_row(asker: Asker, direct: Asker, told: Mapping[str, Measured], load: Load) -> list[str]:
    mine, base, own, one = (told[f"{name} {load.name}"] for name in (asker.name, direct.name, OWN, raced_of(RACED[0])))
    through = asker.running.pid is not None
    cells = [asker.name, f"{mine['cpu_asker'] / 1000:.2f}" if through else "–"]
    if asker.peers:
        cells.append(f"{mine['cpu_asker'] / one['cpu_asker']:.2f}")
        cells += [f"{mine['cpu_peer'] / 1000:.2f}", f"{mine['asked']:.1f}"]
        cells.append(f"{mine['cpu_both'] / own['cpu_both']:.2f}")
    else:
        cells += ["–"] * 4
    first = "first" if load.chunks else "whole"
    for figure in (f"{first}_p50", f"{first}_p99"):
        added = f"{(mine[figure] - base[figure]) / 1000:.1f}" if through else "–"
        cells += [f"{mine[figure] / 1000:.1f}", added]
    return cells


def width_table(askers: Sequence[Asker], told: Mapping[str, Measured], load: Load) -> str:
    first = "first chunk" if load.chunks else "reply"
    titles = ["", "peers asked", "ms of work in vain", "chunks in vain", f"{first} p50, ms", "p99, ms"]
    return table(titles, [width_row(asker.name, told[f"{asker.name} {load.name}"], load) for asker in askers])


def width_row(name: str, told: Measured, load: Load) -> list[str]:
    first = "first" if load.chunks else "whole"
    cells = [f"{told['asked']:.2f}", f"{told['lost_ms']:.0f}"]
    cells.append(f"{told['lost_chunks']:.2f}" if load.chunks else "–")
    return [name, *cells, f"{told[f'{first}_p50'] / 1000:.1f}", f"{told[f'{first}_p99'] / 1000:.1f}"]


def spreads(rounds: Rounds, up: World) -> Iterable[str]:
    for asker in up.raced[1:]:
        costs = [[one[f"{asker.name} {load.name}"]["cpu_asker"] for one in rounds] for load in COSTS]
        yield f"{asker.name} {' and '.join(f'{spread(cost):.0%}' for cost in costs)}"
