"""FastPathServer: plain requests by a short way, everything else through aiohttp (docs/security.md C-22)."""

import asyncio
from typing import Protocol, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from handlers.admission import Lease
from handlers.keys import Sight
from handlers.out import Out
from handlers.plain import Plain
from masa_node import server as shell
from masa_node.accepted import Accepted
from masa_node.fast_path_connection import FastPathConnection
from masa_node.long_way import LongWay
from masa_node.server import NodeServer
from masa_node.within import Within
from peers.errors import MasaError

HOLD_SECONDS = 1.0
"""For how long the beginning of a plain request is held; a slower one goes to aiohttp, whose body has its own pace."""


class ShortWay(Protocol):
    """What answers plain requests: Quick, for callers; QuickForward, for peers."""

    def alone(self) -> bool:
        """Whether one request at most is being answered."""
        ...

    def read(self, data: bytes) -> tuple[Plain, Lease] | None:
        """The plain request that begins with `data`, and room for its body; None: it takes the long way."""
        ...

    def sight(self, plain: Plain) -> Sight: ...

    async def answer(self, plain: Plain, lease: Lease, address: str, out: Out) -> bool:
        """Whether the connection can be used again. Raises ConnectionError: it has to be cut."""
        ...

    def refuse(self, error: MasaError, plain: Plain, out: Out) -> None: ...


class FastPathServer(NodeServer):
    """With a short way in."""

    def __init__(self, app: web.Application, quick: ShortWay, *, most: int, most_per_address: int) -> None:
        super().__init__(app, most=most, most_per_address=most_per_address)
        self.quick = quick
        self.heads = Within(shell.HEAD_SECONDS, FastPathConnection.leave)
        self.holds = Within(HOLD_SECONDS, FastPathConnection.give_up)
        self.idle = Within(shell.IDLE_SECONDS, FastPathConnection.leave)

    def __call__(self) -> "FastPathConnection":  # type: ignore[override]  # it does what a server asks of aiohttp's
        return FastPathConnection(self)

    def admitted(self, address: str) -> Accepted:
        return FastPathConnection(self, address)

    def long_way(self, address: str, *, among_peers: bool, due: float | None) -> LongWay:
        """`due`: the loop's time by which its first head must be there."""
        return LongWay(self, address, among_peers=among_peers, due=due, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Of aiohttp's own none is listed: the connection that it is a part of closes it."""

    def entered(self, connection: "FastPathConnection", transport: asyncio.Transport) -> None:
        self._connections[cast(RequestHandler, connection)] = transport
