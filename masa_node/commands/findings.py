"""What the doctor found, and how it is shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from masa_node.commands.screen import cell, console, print_json

Status = Literal["ok", "warn", "fail"]
COLOURS: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`warn`: its operator should know. `fail`: the node cannot run, or something configured does not work."""

    check: str
    status: Status
    what: str
    remedy: str | None = None


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps([asdict(finding) for finding in findings], indent=2).encode())
    else:
        _show_table(findings)


def exit_code(findings: Sequence[Finding]) -> int:
    return 1 if any(finding.status == "fail" for finding in findings) else 0


def _show_table(findings: Sequence[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(Text(finding.status, style=COLOURS[finding.status]), cell(finding.check), cell(finding.what))
        if finding.remedy:
            table.add_row("", "", cell(f"→ {finding.remedy}"))
    screen = console()
    screen.print(table)
    screen.print(_summary(findings))


def _summary(findings: Sequence[Finding]) -> Text:
    counts = {status: sum(finding.status == status for finding in findings) for status in COLOURS}
    if not counts["fail"] and not counts["warn"]:
        return Text("\nall is well", style=COLOURS["ok"])
    return Text(f"\n{counts['fail']} failed, {counts['warn']} to look at, {counts['ok']} fine")
