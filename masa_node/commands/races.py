"""`masa-node races`: the last races of a node: who was asked when, who won, why each of the others lost."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from masa_node.commands.node_api import NodeApi, read_object, with_node
from masa_node.commands.screen import cell, console, print_json, printable

PATH = "/api/v1/races"
POLL_SECONDS = 1.0
NONE_YET = "no race yet: there is one when a call goes to peers, by PEER_ASK"
WAITING = "new races are shown as they end; Ctrl-C leaves"
ENDS = {
    "won": "won",
    "lost": "lost: another one answered first",
    "left": "stopped: the caller hung up",
    "silent": "silent until the end",
    "definitive": "its model server refused the request itself",
}
"""How it went with one asked, where no error says more."""

Race = dict[str, Any]


def main(arguments: argparse.Namespace) -> int:
    return with_node(arguments, lambda node: (_follow if arguments.follow else _races)(node, arguments.json))


def _races(node: NodeApi, as_json: bool) -> None:
    body = node.get(PATH)
    if as_json:
        print_json(body)
        return
    races, screen = _oldest_first(body), console()
    for race in races:
        screen.print(race_text(race))
    if not races:
        screen.print(NONE_YET)


def _follow(node: NodeApi, as_json: bool) -> None:
    """Until Ctrl-C. Those that have ended before it begins are not shown. Raises NodeError."""
    screen = console()
    with suppress(KeyboardInterrupt):
        seen = {_name(race) for race in _ended(_oldest_first(node.get(PATH)))}
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(WAITING, style="dim"))
        while True:
            time.sleep(POLL_SECONDS)
            ended = list(_ended(_oldest_first(node.get(PATH))))
            for race in ended:
                if _name(race) not in seen:
                    _show(race, screen, as_json)
            seen = {_name(race) for race in ended}


def _show(race: Race, screen: Console, as_json: bool) -> None:
    if as_json:
        print(json.dumps(race), flush=True)
    else:
        screen.print(race_text(race))
        sys.stdout.flush()


def _oldest_first(body: bytes) -> list[Race]:
    return list(reversed(read_object(body).get("races") or []))


def _ended(races: Iterable[Race]) -> Iterator[Race]:
    return (race for race in races if race.get("outcome") != "running")


def _name(race: Race) -> tuple[object, object]:
    """Callers may give two of them one id."""
    return race.get("id"), race.get("at")


def race_text(race: Race, more: Mapping[str, str] = {}) -> Group:
    """A line for the race, and one for each that was asked; `more`: what else is known of these, by node."""
    at = race.get("at")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if isinstance(at, int | float) else "?"
    asked = [one for one in race.get("asked") or () if isinstance(one, dict)]
    line = Text.assemble((f"{when}  ", "dim"), (printable(race.get("model")), "bold"), f"  {_outcome(race, asked)}")
    table = Table.grid(padding=(0, 2))
    for one in asked:
        end = "; ".join(filter(None, (_end(one), more.get(str(one.get("node")), ""))))
        table.add_row(cell(one.get("name")), cell(_asked(one)), cell(end))
    return Group(line, Padding(table, (0, 0, 0, 4), expand=False)) if asked else Group(line)


def _outcome(race: Race, asked: list[dict[str, Any]]) -> str:
    names = {one.get("node"): one.get("name") for one in asked}
    by = printable(names.get(race.get("winner")) or race.get("winner"))
    took, many = f"after {_ms(race.get('ms'))}", f"{len(asked)} asked"
    match race.get("outcome"):
        case "running":
            return f"is running, {many} so far"
        case "won":
            return f"won by {by} {took}, {many}"
        case "passed_on":
            return f"refused by the model server of {by} {took}, {many}"
        case "left":
            return f"its caller left {took}, {many}"
        case code:
            return f"nobody answered: {printable(code)} {took}, {many}"


def _asked(one: dict[str, Any]) -> str:
    times = one.get("times")
    again = f", {times} times" if isinstance(times, int) and times > 1 else ""
    return f"asked at {_ms(one.get('at_ms'))}{again}"


def _end(one: dict[str, Any]) -> str:
    outcome, doing = str(one.get("outcome")), one.get("doing")
    if outcome == "running":
        return f"is running ({doing})"
    at = f" at {_ms(ended)}" if (ended := one.get("ended_ms")) is not None else ""
    if outcome in ENDS:
        end, colon, why = ENDS[outcome].partition(":")
        was = f" ({doing})" if outcome == "silent" and doing not in (None, "silent") else ""
        return f"{end}{was}{at}{colon}{why}"
    return f"{outcome}{at}" + (f": {one['why']}" if one.get("why") else "")


def _ms(value: object) -> str:
    if not isinstance(value, int | float):
        return "?"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"
