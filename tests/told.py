"""What nodes in the test's own process log."""

import io
import json
from typing import Any

from config.logs import set_up


def logged() -> io.StringIO:
    """All of it from now on, as `masa-node run` would write it at the level `debug`."""
    out = io.StringIO()
    set_up("debug", "json", out)
    return out


def events(log: io.StringIO, name: str) -> list[dict[str, Any]]:
    return [entry for line in log.getvalue().splitlines() if (entry := json.loads(line))["event"] == name]
