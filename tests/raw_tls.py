"""Raw bytes over TLS to a peer listener, from a loopback address of its own, and a proxy that counts bytes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from peers.network.dialing import Address

ATTACKER = "127.0.0.2"
"""Limits by address are not those of the test's honest nodes."""


def anybody() -> ssl.SSLContext:
    """Any certificate will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@asynccontextmanager
async def dialled(
    address: Address, *, tls: bool = True, source: str = ATTACKER
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=anybody() if tls else None, local_addr=(source, 0)
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def answer_to(address: Address, data: bytes, *, tls: bool = True, source: str = ATTACKER) -> bytes:
    """Send this and close our side's writing where that is possible; all that comes back within 5 seconds."""
    came = b""
    with suppress(OSError):
        async with dialled(address, tls=tls, source=source) as (reader, writer), asyncio.timeout(5):
            writer.write(data)
            while chunk := await reader.read(65_536):
                came += chunk
                if whole(came):
                    break
    return came


def whole(data: bytes) -> bool:
    """An answer with a Content-Length, to its end."""
    head, mark, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return bool(mark) and bool(lengths) and len(body) >= int(lengths[0])


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


@dataclass(slots=True)
class Counted:
    """What passed a proxy, in bytes of TCP payload."""

    address: Address
    there: int = 0
    back: int = 0


@asynccontextmanager
async def counting(to: Address) -> AsyncIterator[Counted]:
    counted = Counted(to)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                counted.back += len(data) if back else 0
                counted.there += 0 if back else len(data)
                writer.write(data)
        writer.close()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(to.host, to.port)
        await asyncio.gather(copy(reader, far_writer, False), copy(far_reader, writer, True))

    server = await asyncio.start_server(passed, "127.0.0.1", 0)
    counted.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield counted
    finally:
        server.close()
        await server.wait_closed()
