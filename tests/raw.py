"""Raw HTTP over a bare socket: bytes out, bytes in, and how exactly the other side ended it."""

import asyncio
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

Pairs = Mapping[str, str] | Iterable[tuple[str, str]]
Cut = Literal["fin", "reset"]
How = Literal["chunked", "length", "fin", "reset", "garbage"]
LINGER_NONE = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends RST."""


class Headers(list[tuple[str, str]]):
    """Every pair as it came: order, spelling and repeats kept."""

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self if key.lower() == name.lower()]


class Head(NamedTuple):
    status: int
    headers: Headers


class Ending(NamedTuple):
    """The rest of a body, and how it ended: last chunk, promised length, FIN, RST, or bytes that are no chunk."""

    body: bytes
    how: How
    clean: bool
    """A reader who knows HTTP takes the answer for whole."""


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes
    whole: bool
    rest: bytes
    """What stands after this answer: another one, or garbage."""


def pairs(headers: Pairs) -> list[tuple[str, str]]:
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def split_head(head: bytes) -> tuple[str, Headers]:
    """The start line, and the headers."""
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    named = (line.partition(":") for line in lines)
    return start, Headers((name, value.strip(" \t")) for name, _, value in named)


def parse_head(head: bytes) -> Head:
    start, headers = split_head(head)
    if not re.fullmatch(r"HTTP/1\.[01] [1-5][0-9][0-9]( .*)?", start):
        raise ValueError(f"no status line: {start!r}")
    return Head(int(start.split(" ")[1]), headers)


def parse(data: bytes) -> Answer:
    """The first answer in `data`, which was read until the other side closed."""
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark:
        raise ValueError(f"no head: {data[:200]!r}")
    status, headers = parse_head(head)
    body, buffer = Body.of(status, headers), bytearray(rest)
    content = bytearray()
    with suppress(ValueError):
        while piece := body.take(buffer):
            content += piece
    return Answer(status, headers, bytes(content), body.ended or body.kind == "close", bytes(buffer))


def request(method: str, port: int, path: str, body: bytes = b"", headers: Pairs = ()) -> bytes:
    """A plain request; a header given here stands in for the usual one of that name."""
    given = pairs(headers)
    usual = [("Host", f"127.0.0.1:{port}")]
    if body or method == "POST":
        usual += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    names = {name.lower() for name, _ in given}
    if "transfer-encoding" in names:
        names.add("content-length")
    kept = [pair for pair in usual if pair[0].lower() not in names]
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in kept + given), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def post(port: int, path: str, body: bytes = b"{}", headers: Pairs = ()) -> bytes:
    return request("POST", port, path, body, headers)


def get(port: int, path: str, headers: Pairs = ()) -> bytes:
    return request("GET", port, path, headers=headers)


async def exchange(port: int, data: bytes, *, timeout: float = 5) -> bytes:
    """Send `data`; every byte that comes until the other side closes, or until `timeout` seconds are over."""
    async with Wire(port, timeout=timeout) as wire:
        sending = asyncio.create_task(wire.send(data))
        try:
            async with asyncio.timeout(timeout):
                await wire.until_closed()
        except TimeoutError:
            pass
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return bytes(wire.buffer)


@dataclass(slots=True)
class Body:
    """Takes a body out of the bytes that have come so far."""

    kind: Literal["chunked", "length", "close"]
    left: int = 0
    """Bytes still promised: of the body, or of the chunk begun and its line end."""
    ended: bool = False

    @classmethod
    def of(cls, status: int, headers: Headers) -> Self:
        if status < 200 or status in (204, 304):
            return cls("length", ended=True)
        if (headers.get("Transfer-Encoding") or "").lower() == "chunked":
            return cls("chunked")
        length = headers.get("Content-Length")
        return cls("close") if length is None else cls("length", int(length), ended=int(length) == 0)

    def take(self, buffer: bytearray) -> bytes:
        """Some of the body that stands in `buffer`, removed from it; b"": no more of it there. ValueError: no chunk."""
        if self.ended:
            return b""
        if self.kind == "chunked":
            return self._dechunk(buffer)
        data = _cut(buffer, len(buffer) if self.kind == "close" else self.left)
        self.left -= len(data)
        self.ended = self.kind == "length" and self.left == 0
        return data

    def _dechunk(self, buffer: bytearray) -> bytes:
        if self.left == 2:
            if len(buffer) < 2:
                return b""
            if _cut(buffer, 2) != b"\r\n":
                raise ValueError("a chunk is longer than it says")
            self.left = 0
        if self.left == 0 and not self._begin_chunk(buffer):
            return b""
        piece = _cut(buffer, self.left - 2)
        self.left -= len(piece)
        return piece

    def _begin_chunk(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\r\n")
        if end < 0:
            return False
        size = re.fullmatch(rb"([0-9A-Fa-f]+)(;.*)?", bytes(buffer[:end]))
        if not size:
            raise ValueError(f"no chunk size: {bytes(buffer[:end])!r}")
        if int(size[1], 16):
            del buffer[: end + 2]
            self.left = int(size[1], 16) + 2
            return True
        trailers = buffer.find(b"\r\n\r\n")
        if trailers >= 0:
            del buffer[: trailers + 4]
            self.ended = True
        return False


class Wire:
    """One connection to loopback, read on demand: nothing is taken from the kernel that was not asked for."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, timeout: float = 5, receive_buffer: int = 0) -> None:
        """`timeout`: seconds that one read may wait; then TimeoutError. `receive_buffer`: bytes in the kernel."""
        self.address = (host, port)
        self.timeout = timeout
        self.buffer = bytearray()
        """Come, and not yet read."""
        self.cut: Cut | None = None
        """How the other side closed, once it has been seen."""
        self._body = Body("close")
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.setblocking(False)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def open(self) -> Self:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(self._socket, self.address)
        except BaseException:
            self.close()
            raise
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def half_close(self) -> None:
        """FIN, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        self._socket.close()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def read_some(self, size: int = 65536) -> bytes:
        """What comes next, at most `size` bytes and outside all framing; b"" when the other side has closed."""
        if not self.buffer and not self.cut:
            await self._more(size)
        return _cut(self.buffer, size)

    async def read_head(self) -> Head:
        """The next status line and headers. EOFError: the connection ended before they were whole."""
        while b"\r\n\r\n" not in self.buffer:
            if self.cut:
                raise EOFError(f"{self.cut} before the head was whole: {bytes(self.buffer)!r}")
            await self._more()
        head = parse_head(_cut(self.buffer, self.buffer.index(b"\r\n\r\n") + 4))
        self._body = Body.of(*head)
        return head

    async def read_piece(self) -> bytes:
        """The next bytes of the body, without its framing; b"" when no more can come."""
        while not (data := self._body.take(self.buffer)) and not self._body.ended and not self.cut:
            await self._more()
        return data

    async def read_until(self, mark: bytes) -> bytes:
        """The body up to the piece in which `mark` is whole. EOFError: it ended before."""
        body = b""
        while mark not in body:
            piece = await self.read_piece()
            if not piece:
                raise EOFError(f"the body ended ({self.cut or self._body.kind}) before {mark!r}: {body!r}")
            body += piece
        return body

    async def read_to_end(self) -> Ending:
        """What is left of the body, and how it ended."""
        body = bytearray()
        try:
            while piece := await self.read_piece():
                body += piece
        except ValueError:
            return Ending(bytes(body), "garbage", False)
        if self._body.ended:
            return Ending(bytes(body), "chunked" if self._body.kind == "chunked" else "length", True)
        assert self.cut
        return Ending(bytes(body), self.cut, self._body.kind == "close" and self.cut == "fin")

    async def until_closed(self) -> Cut:
        """Wait until the other side closes, and say how; what comes before stays in `buffer`."""
        while not self.cut:
            await self._more()
        return self.cut

    async def _more(self, size: int = 65536) -> None:
        try:
            async with asyncio.timeout(self.timeout):
                data = await asyncio.get_running_loop().sock_recv(self._socket, size)
        except ConnectionError:
            self.cut = "reset"
            return
        self.buffer += data
        if not data:
            self.cut = "fin"


def _cut(buffer: bytearray, size: int) -> bytes:
    data = bytes(buffer[:size])
    del buffer[:size]
    return data
