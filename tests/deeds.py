"""Deeds: what this process does while it is watched."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Deeds:
    """Connections it makes, names it looks up, files that it opens to write. One for a process: audit hooks stay."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, object]] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def watched(self) -> Iterator[list[tuple[str, object]]]:
        """What it does in the block."""
        self._seen = seen = []
        try:
            yield seen
        finally:
            self._seen = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._seen is None:
            return
        if event in ("socket.connect", "socket.sendto"):
            self._seen.append((event, arguments[1]))
        elif (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ) or event in ("os.rename", "os.remove", "os.mkdir", "subprocess.Popen", "socket.getaddrinfo"):
            self._seen.append((event, arguments[0]))
