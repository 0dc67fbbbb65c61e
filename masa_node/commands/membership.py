"""What `invite`, `join` and `leave` share: the running node by its control socket, or else its folder."""

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from config.settings import ConfigError, Settings, load
from masa_node.control import socket_path

TALK_SECONDS = 30.0


class Refused(Exception):
    """The running node said no; the text is its own."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TALK_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TALK_SECONDS)
        self.sock.connect(str(self._path))


def ask_node(folder: Path, path: str, body: object) -> dict[str, Any] | None:
    """What the running node answers; None where none runs. Raises Refused."""
    connection = _UnixConnection(socket_path(folder))
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read() or b"{}")
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    finally:
        connection.close()
    if answer.status != 200:
        raise Refused(told.get("error", f"the node answered {answer.status}"))
    return dict(told)


def with_settings(work: Callable[[Settings], int]) -> int:
    """Run a command on this folder's settings; 2 where they are wrong, 1 where the node refuses."""
    try:
        settings = load(os.environ).settings
    except ConfigError as error:
        print(error.report(), file=sys.stderr)
        return 2
    try:
        return work(settings)
    except (Refused, OSError) as error:
        print(f"masa-node: {error}", file=sys.stderr)
        return 1


def hint(text: str) -> None:
    """For people: standard output holds what is to be copied, and nothing else."""
    print(text, file=sys.stderr)
