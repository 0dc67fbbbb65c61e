"""`masa-node`'s commands as their users run them: to their end, or at a terminal."""

import asyncio
import fcntl
import os
import pty
import random
import socket
import sys
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.processes import environment
from tests.waiting import until

MASA_NODE = (sys.executable, "-m", "masa_node.cli")
PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def command(
    folder: Path, *arguments: str, env: Mapping[str, str | None] | None = None, given: bytes = b"", limit: str = ""
) -> Done:
    """Run `masa-node` to its end in `folder`, with nothing of our environment. `limit`: a shell's `ulimit …;` first."""
    words = ("bash", "-c", f'{limit} exec "$@"', "bash", *MASA_NODE) if limit else MASA_NODE
    process = await asyncio.create_subprocess_exec(
        *words, *arguments, cwd=folder, env=environment(folder, env or {}), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


class Terminal:
    """A command on a pseudo-terminal of its own, and what it shows."""

    def __init__(self, process: Process, handle: int) -> None:
        self.process = process
        self.handle = handle
        self.shown = ""
        self.changed = asyncio.Event()

    def read(self) -> None:
        try:
            self.shown += os.read(self.handle, 65536).decode(errors="replace")
        except OSError:  # How Linux tells that the other side has closed.
            asyncio.get_running_loop().remove_reader(self.handle)
        self.changed.set()

    async def until(self, text: str) -> str:
        """Wait until `text` is shown; everything up to it, which is then behind us."""
        async with asyncio.timeout(PATIENCE):
            while text not in self.shown:
                self.changed.clear()
                await self.changed.wait()
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    async def interrupt(self) -> None:
        """Ctrl-C, once the process waits: a signal that comes just before a wait begins is heard only after it."""
        stat = Path(f"/proc/{self.process.pid}/stat")

        async def waits() -> bool:
            return (await asyncio.to_thread(stat.read_text)).rpartition(") ")[2][0] == "S"

        await until(waits)
        self.type("\x03")


@asynccontextmanager
async def terminal(folder: Path, *arguments: str) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    env = environment(folder, {"TERM": "dumb"})
    process = await asyncio.create_subprocess_exec(
        *MASA_NODE, *arguments, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    shown = Terminal(process, ours)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, shown.read)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        loop.remove_reader(ours)
        os.close(ours)


async def ended(shown: Terminal) -> int:
    async with asyncio.timeout(PATIENCE):
        return await shown.process.wait()


def unused_port() -> int:
    """Below those that systems pick by themselves: nobody takes it meanwhile without asking for it."""
    while True:
        port = random.SystemRandom().randrange(10_240, 32_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
