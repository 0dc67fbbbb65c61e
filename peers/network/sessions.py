"""Sessions: the only HTTP client that dials peers; its kept connections can be given up at once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from peers.http1.answer import Answer
from peers.http1.client import Client
from peers.http1.connection import Connection, Left
from peers.http1.dial import dial
from peers.http1.errors import WrongKey
from peers.network.dialing import Address, DialPolicy
from peers.network.identity import BadKey, strong
from peers.network.tls import peer_context, served_key

KEPT_SECONDS = 60.0
"""For which an idle connection is kept."""

Connect = Callable[[Address, Connection], Awaitable[bytes]]
"""Connects it to the address; the raw key that is served there, empty where there is none. Raises Unreached."""


class Line(NamedTuple):
    """To whom connections are kept. Those of a later generation are new ones."""

    address: Address
    key: bytes
    generation: int


def peer_connector(policy: DialPolicy) -> Connect:
    """TLS to addresses that the operator named, or else to those that `policy` allows."""
    context = peer_context()

    async def connect(address: Address, connection: Connection) -> bytes:
        make_socket = policy.socket_factory(address in policy.named)
        # No name is told: who listens there is known by its key.
        await dial(connection, address.host, address.port, tls=context, server_name="", make_socket=make_socket)
        return served_key(connection.transport)

    return connect


class Sessions:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._client: Client[Line] = Client(self._dial, KEPT_SECONDS)
        self._generation = 0

    def ask(
        self,
        address: Address,
        key: bytes,
        head: bytes,
        body: bytes,
        *,
        connect: float,
        silence: float,
        left: Left | None = None,
    ) -> Awaitable[Answer]:
        """As Client has it, of the node with this raw key; WrongKey before a byte is sent to any other."""
        line = Line(address, key, self._generation)
        return self._client.ask(line, head, body, connect=connect, silence=silence, left=left)

    async def meet(self, address: Address, head: bytes, *, silence: float) -> tuple[bytes, Answer]:
        """First contact, over a connection of its own: the raw key that is served there, unless it is weak, and what
        its holder answers. Raises as Client does."""
        once = Connection(lambda connection: connection.abort(), lambda connection: None)
        key = await self._connect(address, once)
        try:
            strong(key)
        except BadKey:
            once.abort()
            raise WrongKey("no node answers there") from None
        return key, await once.ask(head, b"", silence)

    @property
    def connections(self) -> int:
        """Open to peers, those that are idle among them."""
        return self._client.connections

    def renew(self) -> None:
        """Those kept lead nowhere once this machine slept or moved: none is used again; what they do, they finish."""
        self._generation += 1

    def close(self) -> None:
        self._client.close()

    async def _dial(self, line: Line, connection: Connection) -> None:
        if await self._connect(line.address, connection) != line.key:
            connection.abort()
            raise WrongKey("another node than the one named answers there")


@asynccontextmanager
async def peer_sessions(connect: Connect) -> AsyncIterator[Sessions]:
    sessions = Sessions(connect)
    try:
        yield sessions
    finally:
        sessions.close()
