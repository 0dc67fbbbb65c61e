"""`masa-node demo`: one question to a whole network on this machine, and what became of it."""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from config.logs import set_up
from masa_node.commands.answers import units
from masa_node.commands.chat import Screen
from masa_node.commands.node_api import NodeApi, NodeError
from masa_node.commands.races import race_text
from masa_node.commands.screen import cell, console, printable
from masa_node.demo import DemoError, DemoNode, demo_network, losers_stopped, stopped_at
from masa_node.surroundings import raise_limits
from peers.network.identity import IdentityError
from peers.race_log import LOST, RaceLog, race_view

PROMPT = "why is the sky blue?"
ASK = '{"model": "eliza", "messages": [{"role": "user", "content": "hello"}]}'
SILENCE = 60.0
"""Seconds without a word of the answer."""
MOST_FAULTS = 3
TERMINATED = 128 + signal.SIGTERM


def main(arguments: argparse.Namespace) -> int:
    raise_limits()
    try:
        with tempfile.TemporaryDirectory(prefix="masa-demo-") as name:
            return _run(arguments, Path(name))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _failed(f"the temporary folder cannot be used ({error.strerror}); TMPDIR names another one")


def _run(arguments: argparse.Namespace, folder: Path) -> int:
    """Raises OSError."""
    with (folder / "log").open("w") as log:
        set_up("info", "json", log)
        try:
            return asyncio.run(_demo(arguments, folder))
        except asyncio.CancelledError:
            return TERMINATED
        except (DemoError, NodeError, IdentityError, OSError, ExceptionGroup) as error:
            match first := _first(error):
                case IdentityError(__cause__=OSError() as cause):
                    raise cause from None
                case DemoError():
                    return _failed("\n".join([str(first), *_last_faults(folder / "log")]))
                case NodeError():
                    return _failed(str(first))
            raise first from None


async def _demo(arguments: argparse.Namespace, folder: Path) -> int:
    """Raises DemoError, NodeError; OSError or IdentityError, and groups of these."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    began, rng = time.monotonic(), random.SystemRandom()
    failure: Exception | None = None
    console().print(f"Starting {arguments.nodes} nodes on this machine, in a network of their own …")
    async with demo_network(folder, arguments.nodes, rng) as nodes:
        try:
            _introduce(nodes, time.monotonic() - began)
            await _ask_them(nodes, " ".join(arguments.prompt) or PROMPT, rng)
            if arguments.keep:
                await _keep(nodes, folder)
        except (DemoError, NodeError, BrokenPipeError) as error:
            failure = error  # past the nodes, which would put it into groups
    if failure is not None:
        raise failure
    return 0


def _introduce(nodes: Sequence[DemoNode], took: float) -> None:
    table = Table.grid(padding=(0, 2))
    for one in nodes:
        does = f"serves eliza, who waits {one.eliza.reads:.2f} s before her first word" if one.eliza else "has no model"
        table.add_row(f"  {one.name}", cell(one.url), cell(does))
    screen = console()
    screen.print(f"They listen, and each knows all the others and their models, after {took:.1f} s:\n")
    screen.print(table)


async def _ask_them(nodes: Sequence[DemoNode], prompt: str, rng: random.Random) -> None:
    """Ask the first one, and tell who answered. Raises NodeError, DemoError."""
    asker, screen = nodes[0], console()
    screen.print(Text(f"\n{asker.name} is asked: {printable(prompt)}\n"))
    try:
        await asyncio.to_thread(_ask, asker.url, prompt)
        await losers_stopped(nodes, asker.node.asking.races[-1], rng)
    finally:
        if asker.node.asking.races:
            told = asker.node.asking.races[-1]
            screen.print("\nThe race:\n")
            screen.print(race_text(dict(race_view(told)), _stops(nodes, told)))


def _ask(url: str, prompt: str) -> None:
    """Show the answer as it comes. Raises NodeError."""
    screen = Screen()
    body = {"model": "eliza", "messages": [{"role": "user", "content": prompt}]}
    try:
        with NodeApi(url).asked("POST", "/api/chat", body, within=SILENCE) as response:
            for said in units(response):
                screen.say(said.text)
    finally:
        screen.end_line()


def _stops(nodes: Sequence[DemoNode], told: RaceLog) -> dict[str, str]:
    """When those who lost stopped, by their own word."""
    stops: dict[str, str] = {}
    for one in nodes:
        asked = told.asked.get(one.node.who.id)
        if asked is not None and asked.outcome == LOST:
            at = stopped_at(one, told)
            stops[str(one.node.who.id)] = "its eliza goes on" if at is None else f"its eliza stopped at {at} ms"
    return stops


async def _keep(nodes: Sequence[DemoNode], folder: Path) -> None:
    """Until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    program = "masa-node" if shutil.which("masa-node") else sys.argv[0]
    url = nodes[0].url
    lines = (
        "\nThe network runs until Ctrl-C. From another terminal:\n",
        f'  {program} chat --url {url} "are you a machine?"',
        f"  {program} races --url {url}",
        f"  {program} peers --url {url}",
        f"  curl {url}/v1/api/chat -d '{ASK}'",
        f"  curl {url}/v1/chat/completions -d '{ASK}'",
        f"  curl {url}/api/v1/races",
        f"\nWhat all of them log: {folder / 'log'}",
    )
    console().print(Text("\n".join(lines)), soft_wrap=True)
    sys.stdout.flush()
    await stop.wait()


def _first(error: Exception) -> Exception:
    """Without the groups that running nodes have put it into."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _last_faults(log: Path) -> list[str]:
    """What the nodes last complained of."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if '"level":"info"' not in line][-MOST_FAULTS:]


def _failed(text: str) -> int:
    print(f"masa-node: {printable(text)}", file=sys.stderr)
    return 1
