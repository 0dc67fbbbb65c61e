"""What is measured: one entry per proxy. A new one is one more entry in `known`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.fetched import GO_PROXY, HAPROXY, NGINX, build_go_proxy
from harness.home import BENCH, PATHS
from harness.install import LITELLM, PORTKEY_SERVER


@dataclass(frozen=True)
class Proxy:
    """How to start something in front of the mock.

    In `command`, `env`, `headers` and the text of `files`, `$port` is where it must listen on 127.0.0.1, `$upstream`
    the mock's host:port and `$folder` a fresh folder, in which it is started.
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
    help: Sequence[str] = ()
    """A command that only tells how it is used: how long it takes is measured."""
    fetch: Callable[[], None] | None = None
    """Tries to bring about what is missing."""
    remedy: str = ""
    """What the user can do where something is missing."""
    script: Path | None = None
    """What the program runs, where it is not the program that may be missing."""
    dialects: Sequence[str] = tuple(PATHS)
    usual: bool = True
    """Measured unless it is told otherwise."""
    rewrites: bool = False
    """It reads bodies and writes its own: they are not the mock's, byte for byte."""

    def left_out(self, dialect: str) -> str:
        """Why it cannot be measured, after an attempt to fetch it; "" where it can."""
        if dialect not in self.dialects:
            return f"it does not speak {dialect}"
        if self._missing and self.fetch:
            self.fetch()
        return f"there is no {self._missing}{self.remedy and f': {self.remedy}'}" if self._missing else ""

    @property
    def _missing(self) -> str:
        if self.command and shutil.which(self.command[0]) is None:
            return self.command[0]
        return str(self.script) if self.script and not self.script.exists() else ""

    def told_version(self) -> str:
        if not self.version:
            return ""
        env = {**os.environ, **self.env}
        done = subprocess.run(self.version, env=env, capture_output=True, text=True, timeout=30, check=False)
        return f"{self.name}: {(done.stdout + done.stderr).strip().partition(chr(10))[0]}"


def known(node: Sequence[str]) -> list[Proxy]:
    """Every proxy; `node` is the command line of masa-node, without `run`."""
    return [
        Proxy("direct"),
        Proxy(
            "nginx",
            (NGINX.path, "-p", "$folder", "-e", "$folder/nginx.log", "-c", "$folder/nginx.conf"),
            files=("nginx.conf",),
            version=(NGINX.path, "-v"),
            fetch=NGINX.fetch,
        ),
        Proxy(
            "haproxy",
            (HAPROXY.path, "-f", "$folder/haproxy.cfg"),
            env={"LD_LIBRARY_PATH": HAPROXY.libraries},
            files=("haproxy.cfg",),
            version=(HAPROXY.path, "-v"),
            fetch=HAPROXY.fetch,
        ),
        Proxy(
            "go",
            (str(GO_PROXY), "$port", "$upstream"),
            env={"GOMAXPROCS": "1"},
            version=("go", "version"),
            fetch=build_go_proxy,
            remedy="it is built where Go is installed",
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
            help=(*node, "--help"),
        ),
        _litellm(),
        _portkey(),
    ]


def _litellm() -> Proxy:
    return Proxy(
        "litellm",
        (str(LITELLM / "bin/litellm"), "--config", "$folder/litellm.yaml", "--host", "127.0.0.1", "--port", "$port"),
        ready="/health/liveliness",
        env={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_TELEMETRY": "False",
        },
        files=("litellm.yaml",),
        version=(str(LITELLM / "bin/python"), "-c", LITELLM_VERSION),
        remedy="bench/install litellm",
        dialects=("openai",),
        usual=False,
        rewrites=True,
    )


def _portkey() -> Proxy:
    return Proxy(
        "portkey",
        ("node", str(PORTKEY_SERVER), "--headless", "--port=$port"),
        ready="/",
        env={"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "localhost,127.0.0.1"},
        headers=(
            "x-portkey-provider: openai",
            "x-portkey-custom-host: http://$upstream/v1",
            "Authorization: Bearer none",
        ),
        version=("node", "-p", f"require('{PORTKEY_SERVER.parent.parent / 'package.json'}').version"),
        remedy="bench/install portkey",
        script=PORTKEY_SERVER,
        dialects=("openai",),
        usual=False,
        rewrites=True,
    )


LITELLM_VERSION = "from importlib.metadata import version; print(version('litellm'))"
NODE_VERSION = """
import platform
from importlib.metadata import version
told = [f"{name} {version(name)}" for name in ("masa-node", "aiohttp", "httptools", "uvloop")]
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
