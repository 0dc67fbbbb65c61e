"""`masa-node pause`: serve no peers for a while."""

import argparse
import math
import re
import time

from config.settings import Settings
from masa_node.commands.membership import BadUse, ask_node, hint, with_settings
from masa_node.pausing import shown
from peers.network.identity import load_identity, locked
from peers.network.store import Store

DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 366 * UNITS["d"]


def main(arguments: argparse.Namespace) -> int:
    return with_settings(lambda settings: _pause(settings, arguments.duration))


def duration(text: str) -> float:
    """Seconds of `90s`, `30m`, `1h`, `2d`. Raises BadUse."""
    matched = DURATION.fullmatch(text.strip().lower())
    seconds = int(matched[1]) * UNITS[matched[2]] if matched else 0.0
    if not 0 < seconds <= LONGEST:
        raise BadUse("--for takes a number and its unit, a year at most: 90s, 30m, 1h, 2d")
    return seconds


def _pause(settings: Settings, wanted: str | None) -> int:
    seconds = None if wanted is None else duration(wanted)
    until = math.inf if seconds is None else time.time() + seconds
    told = ask_node(settings.masa_dir, "/pause", {"seconds": seconds})
    if told is None:
        load_identity(settings.masa_dir)
        with locked(settings.masa_dir):
            Store(settings.masa_dir).keep_pause(until)
        hint(f"No node runs on this folder; the next one serves no peers {shown(until)}.")
        return 0
    running = told["running"]
    finish = f" {running} running answer{'s' * (running != 1)} will finish." if running else ""
    hint(f"This node serves no peers {shown(until)}, nor after a restart.{finish} Own callers are answered as before.")
    return 0
