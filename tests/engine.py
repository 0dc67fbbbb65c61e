"""A real llama.cpp engine for the suites marked `engine`; MASA_TEST_ENGINE names its folder.

The folder holds `venv/`, `tiny.gguf` (a model that recites SENTENCE) and `ollama_shim.py` (the Ollama dialect).
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.commands import unused_port

SENTENCE = "The sky is blue because air scatters short waves the most ."
MODEL = "llama3"
READY_WITHIN = 60.0
"""Seconds; one to four are usual."""


@contextlib.asynccontextmanager
async def openai_engine() -> AsyncIterator[str]:
    """llama.cpp's own server (OpenAI dialect), answering as MODEL to any model name; its base URL without `/v1`."""
    folder, port = engine_folder(), unused_port()
    # Its default cuts a running stream when another request arrives.
    settings = f"--model_alias {MODEL} --n_threads 1 --n_ctx 4096 --interrupt_requests false"
    where = f"--model {folder / 'tiny.gguf'} --host 127.0.0.1 --port {port}"
    async with serving(folder, port, "-m", "llama_cpp.server", *where.split(), *settings.split()) as url:
        yield url


@contextlib.asynccontextmanager
async def ollama_engine() -> AsyncIterator[str]:
    """The same engine behind /api/chat, /api/tags and /api/version (Ollama dialect); its base URL."""
    folder, port = engine_folder(), unused_port()
    async with serving(folder, port, str(folder / "ollama_shim.py"), str(folder / "tiny.gguf"), str(port)) as url:
        yield url


def engine_folder() -> Path:
    """The folder MASA_TEST_ENGINE names; the test is skipped where it names none."""
    named = os.environ.get("MASA_TEST_ENGINE")
    if not named:
        pytest.skip("MASA_TEST_ENGINE is not set")
    return Path(named)


@contextlib.asynccontextmanager
async def serving(folder: Path, port: int, *arguments: str) -> AsyncIterator[str]:
    """Run the engine's Python with `arguments` until the block ends; entered once the port takes connections."""
    said = os.memfd_create("engine")  # a file in memory: opening one on a disk would block the loop
    try:
        process = await asyncio.create_subprocess_exec(folder / "venv/bin/python", *arguments, stdout=said, stderr=said)
        try:
            await until_listening(process, port, said)
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    finally:
        os.close(said)


async def until_listening(process: asyncio.subprocess.Process, port: int, said: int) -> None:
    """Wait until somebody listens on `port`; fail with the process's last words if it ends or takes too long."""
    ended = asyncio.ensure_future(process.wait())
    try:
        async with asyncio.timeout(READY_WITHIN):
            while not await listens(port):
                await asyncio.wait([ended], timeout=0.05)
                if ended.done():
                    pytest.fail(f"the engine ended with {ended.result()}: {last_words(said)}")
    except TimeoutError:
        pytest.fail(f"the engine does not listen after {READY_WITHIN:.0f} s: {last_words(said)}")
    finally:
        ended.cancel()


async def listens(port: int) -> bool:
    """Whether a connection to `port` of loopback is taken."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def last_words(said: int) -> str:
    """The end of what the process wrote to the file open as `said`."""
    return os.pread(said, 1 << 20, 0)[-2000:].decode(errors="replace")
