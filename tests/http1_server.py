"""A server of few words on a real socket, and a caller whose connections can be looked at."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from peers.http1.answer import Answer
from peers.http1.client import Client
from peers.http1.connection import Connection
from peers.http1.dial import dial
from tests.http1 import Bucket, read
from tests.waiting import until

HEAD = b"POST / HTTP/1.1\r\nHost: there\r\nContent-Length: %d\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
LARGE = 64 << 20
KERNEL = 16 << 20
"""Bytes that two sockets may hold between them."""
SOON = 0.2
WITHIN = 10.0

Says = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
"""Answers one request; the number says which of its connection it is, the first is 0. It may close the connection."""


@dataclass
class Server:
    says: Says
    port: int = 0
    connections: int = 0
    asked: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        number = 0
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                await self.says(reader, writer, number)
                number += 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()


class Caller:
    """A client of one server."""

    def __init__(self, port: int, kept: float = 30.0) -> None:
        self.port = port
        self.connections: list[Connection] = []
        self.client = Client[int](self._dial, kept)

    async def _dial(self, place: int, connection: Connection) -> None:
        await dial(connection, "127.0.0.1", place)
        self.connections.append(connection)

    async def ask(self, body: bytes = b"", silence: float = WITHIN) -> Answer:
        return await self.client.ask(self.port, HEAD % len(body), body, connect=WITHIN, silence=silence)

    async def told(self, body: bytes = b"") -> bytes:
        content, answer = Bucket(), await self.ask(body)
        await read(answer, content)
        assert answer.whole
        return content.content


@asynccontextmanager
async def serving(says: Says, kept: float = 30.0) -> AsyncIterator[tuple[Server, Caller]]:
    """Nothing is left at the end: the server sees every connection go."""
    there = Server(says)
    server = await asyncio.start_server(there.serve, "127.0.0.1", 0, limit=1 << 16)
    there.port = server.sockets[0].getsockname()[1]
    caller = Caller(there.port, kept)
    async with server:
        try:
            yield there, caller
        finally:
            caller.client.close()
            for writer in [*there.open]:
                writer.transport.abort()
            await until(lambda: not there.open and not caller.client._open)


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(HELLO)


def saying(data: bytes, wait: bool = True) -> Says:
    async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(data)
        if wait:
            await reader.read()

    return says
