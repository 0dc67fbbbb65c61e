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
    table = Table("name", "state", "models", "last heard", "address", "", box=None, pad_edge=False, header_style="bold")
    table.columns[2].justify = "right"
    for peer in peers:
        heard = peer.get("last_heard")
        table.add_row(
            cell(peer.get("name")),
            cell(peer.get("status")),
            cell(peer.get("models")),
            cell(f"{max(0.0, now - heard):.0f} s ago" if isinstance(heard, int | float) else "never"),
            cell(", ".join(map(str, peer.get("addresses", ())))),
            cell(peer.get("why")),
        )
    return table
