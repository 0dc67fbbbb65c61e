"""Pipes: connections of a pretended network: seeded delay, loss and silence between a node's own client and server.

A pipe joins a client's protocol to a server's without sockets: async-solipsism asks each of its own at every step,
which 200 nodes with 20,000 connections could not afford.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from random import Random
from typing import Any, Protocol

from masa_node.server import NodeServer
from peers.http1.connection import Connection
from peers.http1.errors import Unreached
from peers.network.dialing import Address, DialPolicy
from peers.network.sessions import Connect
from peers.network.tls import served_key

HANDSHAKE_TRIPS = 4
"""Ways that TCP and TLS 1.3 go before the first byte of a request does."""


class Air(Protocol):
    """What pipes ask of the network they are in."""

    loss: float
    """How many exchanges fail, 0 to 1: half of them before they arrive, half of them on the way back."""
    rng: Random
    pipes: "dict[Pipe, None]"

    def apart(self, one: str, other: str) -> bool:
        """Whether nothing passes between these hosts now, not even a refusal."""
        ...

    def one_way(self) -> float:
        """Seconds, drawn for each connection."""
        ...

    def listener(self, address: Address) -> "tuple[NodeServer, bytes] | None":
        """Who listens there, and its certificate in DER."""
        ...

    def note(self, *event: object) -> None: ...

    def carried(self, sender: str, receiver: str, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Shown:
    """The part of ssl.SSLObject by which a client judges whom it reached."""

    certificate: bytes

    def version(self) -> str:
        return "TLSv1.3"

    def getpeercert(self, binary_form: bool) -> bytes:
        assert binary_form
        return self.certificate


class End(asyncio.Transport):
    """One end of a pipe."""

    def __init__(self, pipe: "Pipe", host: str, extra: Mapping[str, Any]) -> None:
        super().__init__(extra)
        self.host = host
        self.other = self
        self.protocol: asyncio.Protocol
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self._coming: deque[bytes | ConnectionResetError | None] = deque()
        """On the way here. None: the other end was closed."""
        self._arrived = 0
        """How many of these are not on the way any more."""
        self._closing = False
        self._reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and data:
            self._pipe.carry(self, bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(ConnectionResetError("reset by the other side"))

    def die(self) -> None:
        """Its process is gone, and says nothing more."""
        self._lose(None)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._read)

    def is_reading(self) -> bool:
        return self._reading

    def get_write_buffer_size(self) -> int:
        return 0

    def come(self, item: bytes | ConnectionResetError | None, delay: float) -> None:
        self._coming.append(item)
        self._loop.call_later(delay, self._arrive)

    def _arrive(self) -> None:
        self._arrived += 1
        self._read()

    def _read(self) -> None:
        while self._arrived and self._reading and not self._closing:
            self._arrived -= 1
            item = self._coming.popleft()
            if isinstance(item, bytes):
                self.protocol.data_received(item)
            elif item is not None:
                self._lose(item)
            elif not self.protocol.eof_received():
                self.close()

    def _end(self, last: ConnectionResetError | None) -> None:
        if not self._closing:
            self._pipe.carry(self, last)
            self._lose(None)

    def _lose(self, reason: ConnectionResetError | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self.protocol.connection_lost, reason)
            self._pipe.left(self)


class Pipe:
    """One connection. What is lost of it is never sent again: then it stays silent, as to those who wait it would."""

    def __init__(self, air: Air, asker: str, address: Address, certificate: bytes, chance: float) -> None:
        self.delay = air.one_way()
        names = {"peername": (address.host, address.port), "sockname": (asker, 0), "ssl_object": Shown(certificate)}
        self.client = End(self, asker, names)
        self.server = End(self, address.host, {"peername": (asker, 0), "sockname": names["peername"]})
        self.client.other, self.server.other = self.server, self.client
        self._air = air
        self._rng = Random(air.rng.random())
        self._chance: float | None = chance
        """Of the exchange that begins next, if it was drawn already."""
        self._asking = False
        self._answer_lost = False
        self._silent = False
        air.pipes[self] = None

    def carry(self, sender: End, item: bytes | ConnectionResetError | None) -> None:
        receiver = sender.other
        self._turn(sender, item)
        self._silent = self._silent or self._air.apart(sender.host, receiver.host)
        if isinstance(item, bytes):  # a client closes its connections in no order, so that their ends are no history
            self._air.note("lost" if self._silent else "sent", sender.host, receiver.host, len(item))
            self._air.carried(sender.host, receiver.host, len(item))
        if not self._silent:
            receiver.come(item, self.delay)

    def left(self, end: End) -> None:
        if end.other.is_closing():
            self._air.pipes.pop(self, None)

    def _turn(self, sender: End, item: object) -> None:
        """An exchange fails as a whole, however many writes it has."""
        if not isinstance(item, bytes):
            return
        if sender is self.client and not self._asking:
            chance, self._chance = self._rng.random() if self._chance is None else self._chance, None
            self._silent = self._silent or chance < self._air.loss / 2
            self._answer_lost = chance < self._air.loss
        elif sender is self.server and self._asking:
            self._silent = self._silent or self._answer_lost
        self._asking = sender is self.client


def virtual_connector(air: Air, host: str, policy: DialPolicy) -> Connect:
    """What peer_connector() is, in a pretended network: the same judgement of address and key."""

    async def connect(address: Address, connection: Connection) -> bytes:
        if address not in policy.named and not policy.allows(ip_address(address.host)):
            raise Unreached("this address may not be dialled")
        try:
            pipe = await connected(air, host, address, lambda: connection)
        except ConnectionError as error:
            raise Unreached("nobody takes the connection") from error
        return served_key(pipe.client)

    return connect


async def connected(air: Air, host: str, address: Address, protocol: Callable[[], asyncio.Protocol]) -> Pipe:
    """Dial. Raises ConnectionError where nobody listens, or who does takes no more; waits for ever for the silent."""
    chance, delay = air.rng.random(), air.one_way()
    if chance < air.loss / 2 or air.apart(host, address.host):
        air.note("unanswered", host, address.host)
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(HANDSHAKE_TRIPS * delay)
    found = air.listener(address)
    if found is None or not found[0].admit(host):
        air.note("refused", host, address.host)
        raise ConnectionRefusedError(f"{address} takes no connection")
    server, certificate = found
    pipe = Pipe(air, host, address, certificate, chance)
    for end, made in ((pipe.server, server.admitted(host)), (pipe.client, protocol())):
        end.protocol = made
        made.connection_made(end)
    return pipe
