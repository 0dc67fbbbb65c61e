"""The Dockerfile's RUN and HEALTHCHECK lines in an empty venv as another user; what compose.yaml and the locks allow.

No image is built: the two RUN lines that make the image's user and its folder are not run.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.commands import unused_port

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")
PASSED_ON = re.compile(r"PIP_\w+|SSL_\w+|\w+_proxy", re.IGNORECASE)
"""The environment that pip may need here to reach its index; an image build is given it too."""

Instruction = tuple[str, str]


def instructions(text: str) -> list[Instruction]:
    """A Dockerfile's instructions: name and argument, comments dropped and continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    whole = lines.replace("\\\n", "").splitlines()
    return [(name, argument) for name, argument in (line.split(maxsplit=1) for line in whole)]


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, its FROM first."""
    found: list[list[Instruction]] = []
    for name, argument in instructions((ROOT / "Dockerfile").read_text()):
        if name == "FROM":
            found.append([])
        found[-1].append((name, argument))
    return found


def arguments(stage: list[Instruction], name: str) -> list[str]:
    return [argument for found, argument in stage if found == name]


def exec_form(argument: str) -> list[str]:
    """The list of an ENTRYPOINT, CMD or HEALTHCHECK; without one Docker would start a shell."""
    command = json.loads(argument[argument.index("[") :])
    assert isinstance(command, list)
    return command


@dataclass(frozen=True)
class Image:
    """What the image would hold, in a folder of this machine that its user cannot write to, save `state` and `tmp`."""

    base: Path
    user: Mapping[str, Any]
    """Arguments of subprocess that run a program as somebody else; none when we are not root."""

    def env(self, **more: str) -> dict[str, str]:
        """The environment of the image's ENV line."""
        (line,) = arguments(stages()[-1], "ENV")
        env = dict(word.split("=", 1) for word in self.here(line).split())
        return env | {"PATH": env["PATH"].replace("$PATH", "/usr/bin:/bin"), "TMPDIR": str(self.base / "tmp")} | more

    def here(self, text: str) -> str:
        """`text` with the image's folders as they are called here."""
        return text.replace("/opt/venv", f"{self.base}/opt/venv").replace("/var/lib/masa", f"{self.base}/state")

    def run(self, command: list[str], env: dict[str, str], cwd: str = "state") -> "subprocess.CompletedProcess[str]":
        """The program's end, at most two minutes from now."""
        where = self.base / cwd
        return subprocess.run(command, env=env, cwd=where, timeout=120, capture_output=True, text=True, **self.user)

    def start(self) -> list[str]:
        """What the container starts."""
        last = stages()[-1]
        return [word for name in ("ENTRYPOINT", "CMD") for word in exec_form(arguments(last, name)[0])]

    def health(self, env: dict[str, str]) -> int:
        """The exit code of HEALTHCHECK."""
        return self.run(exec_form(arguments(stages()[-1], "HEALTHCHECK")[0]), env).returncode


def somebody_else() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def python_for(user: Mapping[str, Any]) -> str:
    """An interpreter that `user` may run and that can make a venv."""
    usable = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
    for python in (os.path.realpath(sys.executable), shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        with contextlib.suppress(OSError):
            if python and subprocess.run([python, "-c", usable], cwd="/", capture_output=True, **user).returncode == 0:
                return python
    pytest.skip("no Python 3.11 with venv that another user may run")


def copy(argument: str, to: Path) -> None:
    """A COPY of the build stage."""
    *sources, _ = argument.split()
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, to / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, to / source)


def take_away(folder: Path) -> None:
    """Nobody but root can change anything in `folder` from here on."""
    for path in (folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.lchown(path, 0, 0)
        elif not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The build stage, run line by line; then the tree is closed to its user, as a read-only root file system is."""
    user = somebody_else()
    python = python_for(user)
    with tempfile.TemporaryDirectory(prefix="masa-image-") as made:
        image = Image(Path(made), user)
        image.base.chmod(0o755)
        for name in ("bin", "src", "opt", "home", "state", "tmp"):
            (image.base / name).mkdir()
        (image.base / "bin/python").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (image.base / "bin/python").chmod(0o755)
        if user:
            for name in ("opt", "home", "state", "tmp"):
                os.chown(image.base / name, user["user"], user["group"])
        build(image)
        take_away(image.base / "opt")
        yield image


def build(image: Image) -> None:
    env = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    env |= {"PATH": f"{image.base}/bin:/usr/bin:/bin", "HOME": f"{image.base}/home", "TMPDIR": f"{image.base}/tmp"}
    for name, argument in stages()[0]:
        if name == "COPY":
            copy(argument, image.base / "src")
        elif name == "RUN":
            done = image.run(["/bin/sh", "-c", image.here(argument)], env, cwd="src")
            assert done.returncode == 0, f"{argument}\n{done.stdout}{done.stderr}"


@contextlib.contextmanager
def running(image: Image, env: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The container's program, from when it listens."""
    where = image.base / "state"
    with subprocess.Popen(image.start(), env=env, cwd=where, stderr=subprocess.PIPE, text=True, **image.user) as node:
        too_late = threading.Timer(60, node.kill)
        too_late.start()
        try:
            until_listening(node)
            yield node
        finally:
            too_late.cancel()
            node.kill()


def until_listening(node: "subprocess.Popen[str]") -> None:
    assert node.stderr
    said = []
    for line in node.stderr:
        said.append(line)
        if line.startswith("{") and json.loads(line).get("event") == "listening":
            return
    pytest.fail(f"the node ended before it listened:\n{''.join(said)}")


@pytest.mark.slow
def test_the_image_serves_its_health_from_a_tree_it_cannot_write_to(image: Image) -> None:
    env = image.env(PORT=str(unused_port()), ALLOW_OPEN_API="true", LLM_CHAT_URL="eliza", LOG_FORMAT="json")
    assert image.health(env) != 0, "healthy with nobody there"
    with running(image, env) as node:
        assert image.health(env) == 0
        node.terminate()
        assert node.wait(timeout=35) == 0
    assert image.health(env) != 0


@pytest.mark.slow
def test_the_image_alone_asks_for_keys_since_it_listens_on_every_address(image: Image) -> None:
    refused = image.run(image.start(), image.env(PORT=str(unused_port())))
    assert refused.returncode == 2
    assert "API_KEYS" in refused.stderr + refused.stdout


def test_the_image_has_a_pinned_base_no_root_and_no_shell() -> None:
    build, last = stages()
    assert all(re.fullmatch(r"python:3\.\d+-slim( AS build)?", stage[0][1]) for stage in (build, last))
    assert arguments(last, "USER")[-1] not in {"root", "0"}
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert exec_form(arguments(last, name)[0])[0] not in {"sh", "bash", "/bin/sh"}
    assert [folder for folder in arguments(last, "VOLUME") if f"MASA_DIR={folder}" in arguments(last, "ENV")[0]]


def test_the_build_context_is_what_the_dockerfile_copies() -> None:
    copied = {source for argument in arguments(stages()[0], "COPY") for source in argument.split()[:-1]}
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in lines
    assert {line[1:].rstrip("/") for line in lines if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


def test_compose_publishes_on_loopback_alone_and_gives_nothing_away() -> None:
    node = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["node"]
    assert node["ports"]
    assert all(port.startswith("127.0.0.1:") for port in node["ports"])
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert node["security_opt"] == ["no-new-privileges:true"]
    assert arguments(stages()[-1], "VOLUME") == [volume.split(":")[1] for volume in node["volumes"]]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_has_one_version_and_its_hashes(lock: str) -> None:
    pins = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    assert pins
    for pin in pins:
        assert re.match(r"[a-z0-9.\-]+==[\w.]+( ; .+?)? +--hash=sha256:[0-9a-f]{64}", pin), pin


def test_what_runs_is_pinned_alike_for_users_and_developers() -> None:
    run, dev = ({line for line in (ROOT / name).read_text().splitlines() if "==" in line} for name in LOCKS)
    assert run
    assert {line.split()[0] for line in run} <= {line.split()[0] for line in dev}
