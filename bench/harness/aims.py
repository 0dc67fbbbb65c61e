"""What the project wants a node to cost, and the table that sets the measured value beside it (docs/performance.md)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.tables import Medians, table

NODE = "masa-node"
OWN, ONE = "own model", "k = 1"
"""Who is asked in bench/races: a node with a model of its own, one that has one peer."""
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Aim:
    """`must` and `reach` are in `unit`, which a value is divided by `scale` for."""

    what: str
    figure: str
    must: float
    reach: float | None = None
    against: str = ""
    """Another proxy: the value is the node's divided by its own; with `÷` before it the other way round, with `-` the
    difference."""
    unit: str = "×"
    scale: float = 1
    who: str = NODE

    def value(self, medians: Medians) -> float | None:
        """None: it was not measured, or what it is set against was not."""
        own = medians.get(self.who, {}).get(self.figure)
        if not self.against or own is None:
            return None if own is None else own / self.scale
        how = OPERATORS.get(self.against[0], ratio)
        other = medians.get(self.against.lstrip("÷-"), {}).get(self.figure)
        if other is None or (how is not difference and 0 in (own, other)):
            return None
        return how(own, other) / self.scale

    def met(self, value: float) -> bool:
        return value >= self.must if self.against.startswith("÷") else value <= self.must

    def row(self, medians: Medians) -> list[str]:
        sign = "≥" if self.against.startswith("÷") else "≤"
        value, unit = self.value(medians), " " * (self.unit != "×") + self.unit
        reach = "–" if self.reach is None else f"{self.reach:g}{unit}"
        told = "not measured" if value is None else f"{value:.3g}{unit}" if value < 100 else f"{value:,.0f}{unit}"
        return [
            self.what,
            f"{sign} {self.must:g}{unit}",
            reach,
            told,
            "" if value is None else verdict(self.met(value)),
        ]


def verdict(met: bool) -> str:
    return "met" if met else "**not met**"


def ratio(own: float, other: float) -> float:
    return own / other


def difference(own: float, other: float) -> float:
    return own - other


def inverse(own: float, other: float) -> float:
    return other / own


OPERATORS: Mapping[str, Callable[[float, float], float]] = {"÷": inverse, "-": difference}

RUN_AIMS = (
    Aim("CPU/request, 32 connections, against nginx", "c32.cpu_each", 3.5, 2, "nginx"),
    Aim("… against Go's ReverseProxy", "c32.cpu_each", 1, None, "go"),
    Aim("… LiteLLM's divided by ours", "c32.cpu_each", 100, 200, "÷litellm"),
    Aim("CPU/chunk, 100 streams, against nginx", "s100.cpu_each", 1.6, 1.25, "nginx"),
    Aim("… 1,000 streams", "s1000.cpu_each", 1.6, 1.25, "nginx"),
    Aim("… LiteLLM's divided by ours, 100 streams", "s100.cpu_each", 20, 30, "÷litellm"),
    Aim("added time to the first chunk, p50, 100 streams", "s100.first_p50", 0.4, 0.2, "-direct", "ms", 1000),
    Aim("… 1,000 streams", "s1000.first_p50", 0.5, 0.3, "-direct", "ms", 1000),
    Aim("memory per open stream", "s1000.bytes_each", 12, 6, "", "KiB", KIB),
    Aim("memory when idle", "rest.idle_bytes", 80, 55, "", "MiB", MIB),
    Aim("start to the first 200 of `/ready`", "rest.start_s", 0.9, 0.4, "", "s"),
    Aim("1 MiB prompt, CPU, against nginx", "prompt.cpu_each", 2.5, 1.5, "nginx"),
    Aim("`masa-node --help`, from start to exit", "rest.help_s", 0.25, 0.1, "", "s"),
)
RACE_AIMS = (
    Aim("served by a peer, both nodes' CPU, against a locally served one: whole", "whole.cpu_both", 3, 2, OWN, who=ONE),
    Aim("… streams", "streams.cpu_both", 3, 2, OWN, who=ONE),
    Aim("asker's CPU, k = 3 against k = 1: whole", "whole.cpu_asker", 1.8, 1.4, ONE, who="k = 3"),
    Aim("… streams", "streams.cpu_asker", 1.8, 1.4, ONE, who="k = 3"),
    Aim("asker's CPU, k = 10 against k = 1: whole", "whole.cpu_asker", 3, 2, ONE, who="k = 10"),
    Aim("… streams", "streams.cpu_asker", 3, 2, ONE, who="k = 10"),
)


def aims(told: Sequence[Aim], medians: Medians) -> str:
    return table(["aim", "must", "reach for", "measured", ""], [aim.row(medians) for aim in told])
