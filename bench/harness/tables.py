"""Markdown tables, and the columns in which proxies are set against each other."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Medians = Mapping[str, Mapping[str, float]]
"""Proxy → `load.figure` → median over the rounds."""


@dataclass(frozen=True)
class Column:
    """One figure, as it is, or against another proxy: `/nginx` divided by nginx's, `-direct` less the direct one's,
    `÷litellm` LiteLLM's divided by it."""

    title: str
    figure: str
    digits: int = 0
    unit: float = 1
    against: str = ""

    def cell(self, name: str, medians: Medians) -> str:
        other = medians.get(self.against[1:], {}).get(self.figure)
        value = medians[name].get(self.figure)
        if value is None or (self.against and other is None):
            return "–"
        if self.against.startswith("/"):
            return f"{value / other:.2f}" if value and other else "–"
        if self.against.startswith("÷"):
            return f"{other / value:.1f}" if value and other else "–"
        less = other if self.against and other else 0
        return f"{(value - less) / self.unit:,.{self.digits}f}"


def litellm(figure: str) -> Column:
    return Column("LiteLLM ÷", figure, against="÷litellm")


def times(figure: str, title: str = "× nginx", to: str = "nginx") -> Column:
    return Column(title, figure, against=f"/{to}")


def compared(columns: Sequence[Column], medians: Medians) -> str:
    """A row for each proxy. What was measured of none has no column."""
    cells = {column: [column.cell(name, medians) for name in medians] for column in columns}
    told = {column: values for column, values in cells.items() if {*values} != {"–"}}
    return table(["proxy", *(column.title for column in told)], list(zip(medians, *told.values(), strict=True)))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---", *["--:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values)
