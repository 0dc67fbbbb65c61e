"""`masa-node status`: how a running node is."""

import argparse
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from masa_node.commands.node_api import NodeApi, read_object, with_node
from masa_node.commands.screen import cell, console, print_json

PATH = "/api/v1/node"
NO_UPSTREAM = "no upstream of its own: peers answer, where there are any; `masa-node doctor` says what to do"
COLOURS = {"up": "green", "down": "red", "refused": "red", "unknown": "yellow"}


def main(arguments: argparse.Namespace) -> int:
    return with_node(arguments, lambda node: _status(node, arguments.json))


def _status(node: NodeApi, as_json: bool) -> None:
    body = node.get(PATH)
    if as_json:
        print_json(body)
        return
    told = read_object(body)
    screen = console()
    screen.print(_node(node.url, told))
    for notice in (told.get("network") or {}).get("notices", ()):
        screen.print(Text("! ", style="yellow") + cell(notice.get("text")))
    screen.print()
    upstreams = told.get("upstreams") or []
    screen.print(_upstreams(upstreams) if upstreams else Text(NO_UPSTREAM))


def _node(url: str, told: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    for name in ("name", "id", "version"):
        table.add_row(name, cell(told.get(name)))
    table.add_row("url", cell(url))
    table.add_row("uptime", duration(told.get("uptime")))
    table.add_row("network", cell(_network(told.get("network") or {})))
    table.add_row("in flight", cell(f"{told.get('in_flight', 0)}, and {told.get('queued', 0)} in the queue"))
    return table


def _network(told: dict[str, Any]) -> str:
    if "id" not in told:
        return str(told.get("why", "none"))
    members = ", ".join(f"{count} {status}" for status, count in told.get("members", {}).items() if count)
    where = ", ".join(told.get("addresses", ())) or "nowhere"
    return f"{told['id'][:8]} by {told.get('stake')}; peers dial {where}; members: {members or 'nobody else yet'}"


def _upstreams(upstreams: Iterable[dict[str, Any]]) -> Table:
    table = Table(
        "upstream", "address", "status", "models", "in flight", "", box=None, pad_edge=False, header_style="bold"
    )
    for upstream in upstreams:
        status = cell(upstream.get("status"))
        status.stylize(COLOURS.get(status.plain, ""))
        places = f" of {upstream['places']}" if upstream.get("places") is not None else ""
        table.add_row(
            cell(upstream.get("name")), cell(upstream.get("address")), status, cell(upstream.get("models")),
            cell(f"{upstream.get('in_flight', 0)}{places}"), cell(upstream.get("why")),
        )  # fmt: skip
    return table


def duration(seconds: Any) -> str:
    """Its two largest units: `3 h 12 min`."""
    left = int(seconds) if isinstance(seconds, int | float) else 0
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
