"""What commands on this node's folder share: the running node by its control socket, exit codes, what went wrong."""

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from config.settings import ConfigError, Settings, load
from masa_node.control import socket_path
from peers.network.authority import AuthorityError
from peers.network.identity import IdentityError, unusable
from peers.network.tokens import BadToken

TALK_SECONDS = 30.0


class Refused(Exception):
    """The running node said no, in words of its own, or nothing."""


class BadUse(Exception):
    """What was typed cannot be meant, or not here; the text says why."""


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
    except (TimeoutError, ConnectionError, HTTPException):
        raise Refused("the node that runs on this folder did not answer; its log says more") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise Refused(told.get("error", f"the node answered {answer.status}"))
    return dict(told)


def with_settings(work: Callable[[Settings], int]) -> int:
    """Run a command on this folder's settings; 2 where they or its words are wrong, 1 where it cannot be done."""
    try:
        return _with_folder(load(os.environ).settings, work)
    except ConfigError as error:
        hint(error.report())
        return 2
    except BadUse as error:
        hint(f"masa-node: {error}")
        return 2
    except (Refused, IdentityError, AuthorityError, BadToken) as error:
        hint(f"masa-node: {error}")
        return 1


def _with_folder(settings: Settings, work: Callable[[Settings], int]) -> int:
    """Raises IdentityError where the disk refuses, and what `work` raises."""
    try:
        return work(settings)
    except BrokenPipeError:  # standard output's
        raise
    except OSError as error:
        raise unusable(settings.masa_dir, error) from error


def hint(text: str) -> None:
    """For people: standard output holds what is to be copied, and nothing else."""
    print(text, file=sys.stderr)
