"""`masa-node peers`: the members of the node's network, as it judges them."""

import argparse
import time
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from masa_node.commands.node_api import NodeApi, read_object, with_node
from masa_node.commands.screen import cell, console, print_json

NOBODY = "no peers: `masa-node invite` prints a token for another machine, `masa-node join TOKEN` enters a network"


def main(arguments: argparse.Namespace) -> int:
    return with_node(arguments, lambda node: _peers(node, arguments.json))


def _peers(node: NodeApi, as_json: bool) -> None:
    body = node.get("/api/v1/peers")
    if as_json:
        print_json(body)
        return
    peers = read_object(body).get("peers") or []
    console().print(_table(peers, time.time()) if peers else Text(NOBODY))


def _table(peers: Iterable[dict[str, Any]], now: float) -> Table:
    heads = ("name", "state", "stake", "models", "latency", "last heard", "address", "")
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for number in (3, 4):
        table.columns[number].justify = "right"
    for peer in peers:
        heard = peer.get("last_heard")
        table.add_row(
            cell(peer.get("name")),
            cell(peer.get("status")),
            cell(_stake(peer.get("stake") or {}, now)),
            cell(peer.get("models")),
            cell(f"{latency:.0f} ms" if isinstance(latency := peer.get("latency_ms"), int | float) else ""),
            cell(f"{max(0.0, now - heard):.0f} s ago" if isinstance(heard, int | float) else "never"),
            cell(", ".join(map(str, peer.get("addresses", ())))),
            cell(peer.get("why")),
        )
    return table


def _stake(told: dict[str, Any], now: float) -> str:
    if not told.get("proven"):
        return "not proven"
    until = told.get("until")
    return f"for {max(0.0, until - now) / 86400:.0f} d" if isinstance(until, int | float) else "proven"
