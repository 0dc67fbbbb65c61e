"""ModelServer: a scripted model server on a real loopback socket, which can misbehave to the byte."""

import asyncio
import json
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from tests.raw import LINGER_NONE, Headers, Pairs, split_head
from tests.scripts import DIE, HANG, JSON, NDJSON, RESET, SSE, Asked, Item, Move, Script, Speaks, answer, busy, usual

__all__ = ["DIE", "HANG", "JSON", "NDJSON", "RESET", "SSE", "ModelServer", "Script", "Seen", "answer", "busy"]

SLICE = 65536


@dataclass(slots=True, eq=False)
class Seen:
    """One request, as it arrived. It ends `finished` or `abandoned`, or the server was stopped."""

    head: bytes
    method: str
    target: str
    version: str
    headers: Headers
    body: bytes = b""
    whole: bool = False
    """Its body has come to the end."""
    written: int = 0
    """Bytes of the answer's body that the kernel has taken."""
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)
    """The other side closed, or half-closed, before the answer was complete."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    """The script was played to its end; DIE and RESET are ends too."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def asked(self) -> Asked:
        """The body as a JSON object; {} when it is none."""
        with suppress(ValueError):
            body = json.loads(self.body)
            return body if isinstance(body, dict) else {}
        return {}

    @property
    def inference(self) -> bool:
        """It asks for work: not `/api/show`, and not the empty object that asks whether a path is there."""
        return self.method == "POST" and self.path != "/api/show" and self.body.strip() != b"{}"


class ModelServer:
    """Speaks the dialects given, with a whole answer for each path, unless a script says otherwise."""

    def __init__(
        self,
        *,
        models: Sequence[str] = ("llama3:latest",),
        dialects: Sequence[str] = ("ollama", "openai", "anthropic"),
        extra_headers: Pairs = (),
        words: Sequence[str] = ("Hel", "lo"),
        port: int = 0,
    ) -> None:
        self.speaks = Speaks(models, models, dialects, words)
        self.extra_headers = extra_headers
        """On every answer, scripted ones too."""
        self.port = port
        self.requests: list[Seen] = []
        self._scripts: dict[str, Script] = {}
        self._next: deque[Script] = deque()
        self._lines: set[_Line] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def inferences(self) -> list[Seen]:
        """The inference requests that have arrived whole."""
        return [seen for seen in self.requests if seen.whole and seen.inference]

    @property
    def open_connections(self) -> int:
        return len(self._lines)

    def script(self, path: str, script: Script) -> None:
        """Answer every request for `path` so, whatever its method, until another script is given."""
        self._scripts[path] = script

    def next(self, *scripts: Script) -> None:
        """Answer the next inference requests so, once each, before any other script."""
        self._next.extend(scripts)

    async def until(self, fact: Callable[[], bool], timeout: float = 5) -> None:
        """Wait until `fact`, which reads what this server knows, is true."""
        async with asyncio.timeout(timeout):
            while not fact():
                await self._changed.wait()

    async def asked(self, count: int = 1, timeout: float = 5) -> Seen:
        """Wait until `count` inference requests have arrived whole; the last of these."""
        await self.until(lambda: len(self.inferences) >= count, timeout)
        return self.inferences[count - 1]

    async def start(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Line(self), "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Die, and leave the port free: `start()` comes back on the same one."""
        self._server.close()
        self.hang_up()
        await self.until(lambda: not self._lines and not self._serving)
        if self._faults:
            raise self._faults[0]

    def hang_up(self) -> None:
        """Close every connection at once, idle ones too."""
        for task in self._serving:
            task.cancel()
        for line in self._lines:
            line.output.transport.abort()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def chosen(self, seen: Seen) -> Script:
        if self._next and seen.inference:
            return self._next.popleft()
        return self._scripts.get(seen.path) or usual(self.speaks, seen.method, seen.path, seen.asked)

    def tell(self) -> None:
        """Something has changed: all who wait in `until` look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def opened(self, line: "_Line") -> None:
        self._lines.add(line)
        task = asyncio.create_task(line.serve())
        self._serving.add(task)
        task.add_done_callback(self._served)
        self.tell()

    def closed(self, line: "_Line") -> None:
        self._lines.discard(line)
        self.tell()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            self._faults.append(fault)
        self.tell()


class _Line(asyncio.StreamReaderProtocol):
    """One connection. It notices that the other side left also while it is writing or waiting."""

    def __init__(self, server: ModelServer) -> None:
        super().__init__(asyncio.StreamReader(limit=16 * SLICE), self._opened)
        self.server = server
        self.left = False
        self.playing: asyncio.Task[bool] | None = None

    def _opened(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.input, self.output = reader, writer
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() waits until the kernel has taken it all
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SLICE)
        self.server.opened(self)

    def eof_received(self) -> bool | None:
        self._leave()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)
        self.server.closed(self)

    def _leave(self) -> None:
        self.left = True
        if self.playing:
            self.playing.cancel()

    async def serve(self) -> None:
        """Answer one request after another, for as long as both sides keep the connection."""
        try:
            while await self._answer(await self._request()):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side left
        finally:
            self.output.close()

    async def _request(self) -> Seen:
        head = await self.input.readuntil(b"\r\n\r\n")
        start, headers = split_head(head)
        method, target, version = start.split(" ")
        seen = Seen(head, method, target, version, headers)
        self.server.requests.append(seen)
        self.server.tell()
        try:
            seen.body = await self._body(headers)
        except (ConnectionError, asyncio.IncompleteReadError):
            seen.abandoned.set()
            raise
        seen.whole = True
        self.server.tell()
        return seen

    async def _body(self, headers: Headers) -> bytes:
        if (headers.get("Transfer-Encoding") or "").lower() != "chunked":
            return await self.input.readexactly(int(headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int((await self.input.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await self.input.readexactly(size)
            await self.input.readexactly(2)
        await self.input.readexactly(2)
        return bytes(body)

    async def _answer(self, seen: Seen) -> bool:
        """Play the script for as long as somebody listens. Whether the connection can be used again."""
        self.playing = asyncio.create_task(self._play(seen, self.server.chosen(seen)))
        if self.left:
            self.playing.cancel()
        try:
            again = await self.playing
        except (asyncio.CancelledError, ConnectionError):
            if not self.left:
                raise
            again = False
            seen.abandoned.set()
        else:
            seen.finished.set()
        finally:
            self.playing = None
        self.server.tell()
        return again

    async def _play(self, seen: Seen, script: Script) -> bool:
        old = seen.version == "HTTP/1.0"
        framing = "close" if old and script.framing == "chunked" else script.framing
        if not await self._act(script.before_head):
            return False
        await self._write(script.head(framing, self.server.extra_headers))
        if seen.method != "HEAD" and script.status not in (204, 304):
            if not await self._act(script.chunks, seen, chunked=framing == "chunked"):
                return False
            await self._write(b"0\r\n\r\n" if framing == "chunked" else b"")
        last = old or (seen.headers.get("Connection") or "").lower() == "close"
        return not last and framing != "close" and script.length is None

    async def _act(self, items: Sequence[Item], seen: Seen | None = None, *, chunked: bool = False) -> bool:
        """Whether the connection still stands at the end of it."""
        for item in items:
            match item:
                case bytes():
                    await self._write(item, seen, chunked=chunked)
                case asyncio.Event():
                    await item.wait()
                case Move.HANG:
                    await asyncio.Event().wait()
                case Move.RESET:
                    linger = (socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
                    self.output.get_extra_info("socket").setsockopt(*linger)
                    return False
                case Move.DIE:
                    return False
                case _:
                    await asyncio.sleep(item)
        return True

    async def _write(self, data: bytes, seen: Seen | None = None, *, chunked: bool = False) -> None:
        """Slice by slice, so that `written` grows only as the other side reads."""
        for start in range(0, len(data), SLICE):
            piece = data[start : start + SLICE]
            begin = b"%x\r\n" % len(data) if chunked and start == 0 else b""
            end = b"\r\n" if chunked and start + SLICE >= len(data) else b""
            self.output.write(begin + piece + end)
            await self.output.drain()
            if seen:
                seen.written += len(piece)
                self.server.tell()
