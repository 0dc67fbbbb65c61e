"""Sockets, and a FastPathServer run on them."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from masa_node.fast_path import FastPathServer

CUT_SECONDS = 0.25
BACKLOG = 2048


class Runner(web.BaseRunner):
    """Runs a FastPathServer; at the end, what still runs is cut after CUT_SECONDS (aiohttp waits that long twice)."""

    def __init__(self, server: FastPathServer, app: web.Application) -> None:
        super().__init__(shutdown_timeout=CUT_SECONDS)
        self._node_server = server
        self._app = app

    @property
    def node_server(self) -> FastPathServer:
        return self._node_server

    async def shutdown(self) -> None:
        await self._app.shutdown()

    async def _make_server(self) -> web.Server:
        self._app.on_startup.freeze()
        await self._app.startup()
        self._app.freeze()
        return self._node_server

    async def _cleanup_server(self) -> None:
        await self._app.cleanup()


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """One bound socket for each address of `host`. Raises OSError."""
    sockets = []
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # what it accepts has it too
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # With port 0 the first address picks, and the others take the same.
            sock.bind(
                (address[0], sockets[0].getsockname()[1] if port == 0 and len(sockets) > 1 else port, *address[2:])
            )
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def url_of(sock: socket.socket) -> str:
    """As a client on this machine would write it."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - the address is read, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(
    server: FastPathServer, app: web.Application, sockets: Sequence[socket.socket]
) -> AsyncIterator[Runner]:
    """Accept on `sockets` until the block is left; what then still runs is cut."""
    runner = Runner(server, app)
    await runner.setup()
    try:
        for sock in sockets:
            await web.SockSite(runner, sock, backlog=BACKLOG).start()
        yield runner
    finally:
        await runner.cleanup()
