"""running_node: a real node in a process of its own, its log, and what it holds of memory and files."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

COMMAND = (sys.executable, "-m", "masa_node.cli", "run")
READY = 10.0
"""Seconds until a node listens."""
LAST_WORDS = 1.0
"""Seconds for its outputs to end once it has: something it started may hold them open."""


class RunningNode:
    """A process, and what it has said so far."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.log: list[str] = []
        """The lines on standard error."""
        self.output = ""
        """Standard output and standard error, line by line as they came."""
        self.ended = False
        """It has closed both: nothing more can come."""
        self._changed = asyncio.Event()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return cast(str, self.events("listening")[0]["url"])

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    def events(self, name: str) -> list[dict[str, Any]]:
        """The JSON log entries of this event so far."""
        return [entry for line in self.log if (entry := _entry(line)).get("event") == name]

    async def event(self, name: str, timeout: float = READY) -> dict[str, Any]:
        """Wait until the log has this event; its first entry. RuntimeError, with the whole output: it has not."""
        try:
            async with asyncio.timeout(timeout):
                while not (found := self.events(name)) and not self.ended:
                    await self._changed.wait()
        except TimeoutError:
            raise RuntimeError(f"no {name!r} after {timeout} s:\n{self.output}") from None
        if not found:
            raise RuntimeError(f"it ended without {name!r}:\n{self.output}")
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait(self, timeout: float = READY) -> int:
        """The exit code, once all its output has been read."""
        async with asyncio.timeout(timeout):
            while not self.ended:
                await self._changed.wait()
            return await self.process.wait()

    def rss(self) -> int:
        """Bytes of memory it holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    async def listen(self) -> None:
        """Read what it says until it has closed both outputs."""
        assert self.process.stdout
        assert self.process.stderr
        await asyncio.gather(
            self._read(self.process.stdout, lambda line: None), self._read(self.process.stderr, self.log.append)
        )
        self.ended = True
        self._tell()

    async def _read(self, stream: asyncio.StreamReader, keep: Callable[[str], None]) -> None:
        async for raw in stream:
            line = raw.decode(errors="backslashreplace")
            self.output += line
            keep(line.rstrip("\n"))
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@asynccontextmanager
async def running_node(
    folder: Path,
    env: Mapping[str, str | None] | None = None,
    *,
    wait: Literal["ready"] | None = "ready",
    command: Sequence[str] = COMMAND,
) -> AsyncIterator[RunningNode]:
    """Start `command` in `folder` with a clean environment and `env` (None unsets); gone when the block is left.

    `wait="ready"`: until it logs `listening`. RuntimeError, with all it said: it did not within READY seconds.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment(folder, env or {}), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=2**20
    )
    node = RunningNode(process, folder)
    listening = asyncio.create_task(node.listen())
    try:
        if wait == "ready":
            await node.event("listening")
        yield node
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.wait((listening,), timeout=LAST_WORDS)
        listening.cancel()


def environment(folder: Path, env: Mapping[str, str | None]) -> dict[str, str]:
    """Nothing of the caller's but PATH."""
    usual = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MASA_DIR": str(folder / "masa"),
        "PORT": "0",
        "LOG_FORMAT": "json",
        "LLM_CHAT_URL": "off",
    }
    return {name: value for name, value in (usual | dict(env)).items() if value is not None}


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
