"""TLS on the peer listener: connections are counted when accepted, before their handshake (docs/security.md C-21).

asyncio's own TLS server tells nobody of a connection until its handshake is done, so that stalled ones were free.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from masa_node.accepted import RESET_ON_CLOSE
from masa_node.listening import BACKLOG, CUT_SECONDS
from masa_node.server import NodeServer

HANDSHAKE_SECONDS = 5.0
CLOSE_SECONDS = 2.0
"""Until the other side must have answered our close; asyncio would wait for 30, and the connection counts meanwhile."""
PAUSE_SECONDS = 0.5
"""After an accept that failed: no descriptor was free."""


class TlsAccept:
    """Accepts for one server; each handshake is a task of its own."""

    def __init__(self, server: NodeServer, context: ssl.SSLContext, group: asyncio.TaskGroup) -> None:
        self._server = server
        self._context = context
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, listener: socket.socket) -> None:
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._loop.add_reader(listener, self._accept, listener)

    def stop(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for task in self._tasks:
            task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        """By a reader and not by `sock_accept`, which loses a connection when it is cancelled as one comes."""
        try:
            accepted, peer = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:
            self._loop.remove_reader(listener)
            self._loop.call_later(PAUSE_SECONDS, self._go_on, listener)
            return
        accepted.setblocking(False)
        self._admit(accepted, str(peer[0]))

    def _go_on(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _admit(self, accepted: socket.socket, address: str) -> None:
        if self._server.admit(address):
            handshake = self._group.create_task(self._handshake(accepted, address), name="handshake")
            # One that is cancelled before its first step closes nothing itself.
            handshake.add_done_callback(lambda task: accepted.close() if task.cancelled() else None)
            self._keep(handshake)
        else:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            accepted.close()

    async def _handshake(self, accepted: socket.socket, address: str) -> None:
        """Then the connection is an ordinary one of the server's. One that fails or dawdles is dropped."""
        connection = self._server.admitted(address)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except OSError:
            # It had no connection_made(), and so will have no connection_lost().
            accepted.close()
            self._server.leave(address)
        except asyncio.CancelledError:
            if connection.transport is not None:  # its handshake was over at that very moment
                connection.transport.abort()
            raise

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def accepting_tls(
    server: NodeServer, sockets: Sequence[socket.socket], context: ssl.SSLContext
) -> AsyncIterator[None]:
    """Accept peers on these bound sockets until the block is left; then no more, and what still runs is cut."""
    async with asyncio.TaskGroup() as group:
        accepting = TlsAccept(server, context, group)
        for listener in sockets:
            accepting.start(listener)
        try:
            yield
        finally:
            accepting.stop()
            await server.shutdown(CUT_SECONDS)
