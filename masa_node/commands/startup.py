"""The start-up block: where to ask, who this node is, what it uses, what is missing and the remedy."""

import sys

from config.settings import Loaded
from rich.console import Console
from rich.table import Table
from rich.text import Text

from masa_node.app import Node

STATUS = {"up": "green", "down": "red", "refused": "red", "unknown": "yellow"}
SHOWN_MODELS = 6


def startup_block(node: Node, loaded: Loaded, url: str) -> None:
    console = Console(file=sys.stderr, highlight=False)
    console.print(f"\n[bold]masa-node {node.who.version}[/]  {node.who.shown}")
    console.print(_addresses(node, url))
    console.print(_upstreams(node))
    console.print(_settings(loaded))
    for note in loaded.gathered.notes:
        console.print(Text(f"  note: {note}", style="yellow"))
    console.print(
        f'\n  try it:  masa-node chat --url {url} "why is the sky blue?"     Ctrl-C stops the node\n', markup=False
    )


def _addresses(node: Node, url: str) -> Table:
    table = _table()
    table.add_row("Ollama, Anthropic clients", url)
    table.add_row("OpenAI clients", f"{url}/v1")
    table.add_row("API", f"{url}/docs   models: {url}/api/v1/llm/models")
    table.add_row("node id", node.who.id)
    table.add_row("network", "none: this version serves this machine's own upstreams")
    return table


def _upstreams(node: Node) -> Table:
    table = _table()
    for upstream in node.own.in_use():
        said = Text(upstream.status, style=STATUS[upstream.status])
        said.append(
            f"  {_models(sorted(upstream.models))}" if upstream.status == "up" else f"  {upstream.why}", style="default"
        )
        table.add_row(f"upstream {upstream.name}", Text(upstream.address()), said)
    if node.own.eliza():
        table.add_row("upstream eliza", "built in", Text("a pattern program to try things with, no language model"))
    if not any(node.own.in_use()):
        table.add_row(
            "",
            "",
            Text("no model server found: start Ollama, or set LLM_CHAT_URL, LLM_CF_URL or PROVIDERS", style="yellow"),
        )
    return table


def _settings(loaded: Loaded) -> Table:
    table = _table()
    table.add_row("settings file", str(loaded.gathered.env_file or "none (.env in this folder would be read)"))
    for name, value, source in loaded.changed():
        table.add_row(name, Text(value), Text(source, style="dim"))
    return table


def _models(names: list[str]) -> str:
    if not names:
        return "no models yet"
    more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
    return ", ".join(names[:SHOWN_MODELS]) + more


def _table() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=26)
    return table
