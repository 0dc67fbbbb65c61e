"""What is measured: one entry per proxy. A new one is one more entry in `known`."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.home import BENCH, find_nginx


@dataclass(frozen=True)
class Proxy:
    """How to start something in front of the mock.

    In `command`, `env` and the text of `files`, `$port` is where it must listen on 127.0.0.1, `$upstream` the mock's
    host:port and `$folder` a fresh folder, in which it is started.
    """

    name: str
    command: Sequence[str] = ()
    """Empty: nothing is started, the load goes to the mock itself."""
    ready: str = "/api/version"
    """Up once a GET of this is a 200."""
    env: Mapping[str, str] = field(default_factory=dict)
    """All it sees of the environment but PATH."""
    files: Sequence[str] = ()
    """Files of bench/ to write into the folder, filled in."""
    headers: Sequence[str] = ()
    """What each request carries besides."""
    version: Sequence[str] = ()
    """A command whose first line of output is the version."""

    @property
    def missing(self) -> bool:
        return bool(self.command) and shutil.which(self.command[0]) is None

    def told_version(self) -> str:
        if not self.version:
            return ""
        done = subprocess.run(self.version, capture_output=True, text=True, timeout=30, check=False)
        return (done.stdout + done.stderr).strip().partition("\n")[0]


def known(node: Sequence[str]) -> list[Proxy]:
    """Every proxy; `node` is the command line of masa-node, without `run`."""
    nginx = find_nginx()
    return [
        Proxy("direct"),
        Proxy(
            "nginx",
            (nginx, "-p", "$folder", "-e", "$folder/nginx.log", "-c", "$folder/nginx.conf"),
            files=("nginx.conf",),
            version=(nginx, "-v"),
        ),
        Proxy(
            "masa-node",
            (*node, "run"),
            ready="/ready",
            env={
                "HOST": "127.0.0.1",
                "PORT": "$port",
                "LLM_CHAT_URL": "http://$upstream",
                "MASA_DIR": "$folder/masa",
                "LOG_FORMAT": "json",
            },
            version=(_python_of(node), "-c", NODE_VERSION),
        ),
    ]


NODE_VERSION = """
import platform
from importlib.metadata import version
told = [f"{name} {version(name)}" for name in ("masa-node", "aiohttp", "uvloop")]
print(", ".join([*told, f"Python {platform.python_version()}"]))
"""


def find_node() -> Sequence[str]:
    """The masa-node of the project's own environment, of the one this runs in, or of the PATH."""
    for folder in (BENCH.parent / ".venv" / "bin", Path(sys.executable).parent):
        if (folder / "masa-node").exists():
            return (str(folder / "masa-node"),)
    return (shutil.which("masa-node") or "masa-node",)


def _python_of(node: Sequence[str]) -> str:
    """The interpreter beside the program, whose packages are the ones measured."""
    beside = Path(shutil.which(node[0]) or "").parent / "python"
    return str(beside) if beside.exists() else sys.executable
