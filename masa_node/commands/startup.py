"""The start-up block: where to ask, who this node is, what it uses, what is missing and the remedy."""

import shutil
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from config.settings import Loaded
from masa_node.app import Node
from masa_node.stay import Stay

STYLES = {"up": "green", "down": "red", "refused": "red", "unknown": "yellow"}
SHOWN_MODELS = 6

Line = tuple[str, str, str]
"""Label, text, style."""


def startup_block(node: Node, loaded: Loaded, url: str) -> None:
    console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
    console.print(f"\n  [bold]masa-node {node.who.version}[/]  {node.who.shown}\n")
    for label, text, style in (*_addresses(node, url), *_upstreams(node), *_settings(loaded)):
        console.print(Text.assemble((f"  {label:<26}", "dim"), (text, style)))
    for note in loaded.gathered.notes:
        console.print(Text(f"  note: {note}", style="yellow"))
    program = "masa-node" if shutil.which("masa-node") else sys.argv[0]
    console.print(Text(f'\n  Try it: {program} chat --url {url} "why is the sky blue?"   Ctrl-C stops the node.\n'))


def _addresses(node: Node, url: str) -> Iterator[Line]:
    yield "Ollama, Anthropic clients", url, "bold"
    yield "OpenAI clients", f"{url}/v1", "bold"
    yield "documents, models", f"{url}/docs  {url}/api/v1/llm/models", ""
    yield "node id", node.who.id, ""
    yield from _network(node)


def _upstreams(node: Node) -> Iterator[Line]:
    for upstream in node.own.in_use():
        told = _models(sorted(upstream.models)) if upstream.status == "up" else upstream.why
        yield f"upstream {upstream.name}", f"{upstream.address()}  {upstream.status}: {told}", STYLES[upstream.status]
    if node.own.eliza():
        yield "upstream eliza", "built in: a pattern program to try things with, no language model", ""
    if not node.own.in_use():
        yield "missing", "a model server: start Ollama, or set LLM_CHAT_URL, LLM_CF_URL or PROVIDERS", "yellow"


def _settings(loaded: Loaded) -> Iterator[Line]:
    yield "settings file", str(loaded.gathered.env_file or "none (a .env in this folder would be read)"), ""
    for name, value, source in loaded.changed():
        yield name, f"{value}  ({source})", ""


def _network(node: Node) -> Iterator[Line]:
    joined = node.joined
    if joined.stay is None:
        yield "network", joined.why, ""
        return
    told = joined.stay.outlook()
    where = ", ".join(told.addresses)
    dialled = f"peers dial {where}" if where else "nobody can dial this node: it can ask, its models are not offered"
    yield "network", f"{told.id[:8]} by {told.stake}; {dialled}", ""
    yield "tried for peers", ", ".join(_tried(joined.stay)) or "nothing: set BOOTNODES, or MDNS=true", ""
    for notice in told.notices:
        yield notice.code.replace("_", " "), notice.text, "yellow"


def _tried(stay: Stay) -> Iterator[str]:
    if stay.discovery is not None:
        yield f"this LAN (mDNS: {stay.discovery.why or 'open'})"
    known = len(stay.network.membership.roster.members())
    if known:
        yield f"{known} nodes known from before"
    yield from (bootnode.address for bootnode in stay.place.bootnodes)


def _models(names: list[str]) -> str:
    if not names:
        return "it lists no models"
    more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
    return ", ".join(names[:SHOWN_MODELS]) + more
