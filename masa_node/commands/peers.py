"""`masa-node peers`: the members of the node's network, as it judges them."""

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping
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
    network = read_object(node.get("/api/v1/node")).get("network") or {}
    if peers:
        console().print(_table(peers, network.get("stake") == "secret", time.time()))
    else:
        console().print(Text("\n").join(map(cell, _nobody(network.get("bootnodes") or {}))))
    for notice in network.get("notices") or ():  # as to a node that is shut out, which sees all others alive
        console().print(cell(notice.get("text")), style="yellow")


def _nobody(called: Mapping[str, str]) -> Iterator[str]:
    """`called`: what came of the last call to each bootnode; empty where it answers."""
    in_vain = [f"  {place}: {why}" for place, why in called.items() if why]
    if in_vain:
        yield from ("no peers; of BOOTNODES, or of those that the token names, these were tried:", *in_vain)
        yield "`masa-node doctor` says what to do"
    else:
        yield NOBODY


def _table(peers: Iterable[dict[str, Any]], by_secret: bool, now: float) -> Table:
    heads = ("name", "state", "stake", "models", "latency", "last heard", "address", "")
    table = Table(*heads, box=None, pad_edge=False, header_style="bold")
    for number in (3, 4):
        table.columns[number].justify = "right"
    for peer in peers:
        heard = peer.get("last_heard")
        table.add_row(
            cell(peer.get("name")),
            cell(peer.get("status")),
            cell(_stake(peer.get("stake") or {}, by_secret, now)),
            cell(peer.get("models")),
            cell(f"{latency:.0f} ms" if isinstance(latency := peer.get("latency_ms"), int | float) else ""),
            cell(f"{max(0.0, now - heard):.0f} s ago" if isinstance(heard, int | float) else "never"),
            cell(", ".join(map(str, peer.get("addresses", ())))),
            cell(peer.get("why")),
        )
    return table


def _stake(told: dict[str, Any], by_secret: bool, now: float) -> str:
    """What a member proves by the secret ends too, but it renews that by itself."""
    if not told.get("proven"):
        return "not proven"
    if by_secret:
        return "by secret"
    until = told.get("until")
    return f"ends in {max(0.0, until - now) / 86400:.0f} d" if isinstance(until, int | float) else "proven"
