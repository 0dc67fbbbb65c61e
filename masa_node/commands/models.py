"""`masa-node models`: what can be asked for, and where it is."""

import argparse
from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from masa_node.commands.node_api import NodeApi, read_object, with_node
from masa_node.commands.screen import cell, console, print_json

PATH = "/api/v1/llm/models"


def main(arguments: argparse.Namespace) -> int:
    return with_node(arguments, lambda node: _models(node, arguments.json))


def _models(node: NodeApi, as_json: bool) -> None:
    body = node.get(PATH)
    if as_json:
        print_json(body)
        return
    models = read_object(body).get("models") or []
    console().print(_table(models) if models else Text("no model in reach: `masa-node doctor` looks why"))


def _table(models: Iterable[dict[str, Any]]) -> Table:
    table = Table("model", "where", "dialects", "context", "loaded", box=None, pad_edge=False, header_style="bold")
    table.columns[3].justify = "right"
    for model in models:
        loaded = "yes" if model.get("loaded") else "no" if model.get("loaded") is False else ""
        table.add_row(
            cell(model.get("name")),
            _where(model),
            cell(" ".join(model.get("dialects", ()))),
            cell(model.get("context")),
            loaded,
        )
    return table


def _where(model: dict[str, Any]) -> Text:
    nodes = ", ".join(str(node.get("name") or node.get("id")) for node in model.get("nodes", ()))
    upstream = model.get("upstream")
    return cell(f"{upstream} on {nodes}" if upstream else nodes)
