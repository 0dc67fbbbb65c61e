"""dial(): a TCP connection, with TLS where it is asked for, by name or address (RFC 8305)."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import aiohappyeyeballs

from peers.http1.connection import Connection
from peers.http1.errors import NoSuchName, Unreached

NEXT_ADDRESS_SECONDS = 0.25
"""Until a name's next address is tried as well."""
HANDSHAKE_SECONDS = 5.0


async def dial(
    connection: Connection,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    make_socket: Callable[[Any], socket.socket] | None = None,
) -> None:
    """Connect it. `make_socket` sees every resolved address that is tried, and may refuse it by an OSError.

    Raises NoSuchName, Unreached; leaves nothing open.
    """
    loop, sock = asyncio.get_running_loop(), None
    # uvloop's timer for a handshake holds everything until it is over, cancelled or not.
    limit = HANDSHAKE_SECONDS if tls else None
    try:
        if make_socket is None and _is_address(host):  # the usual case of a model server: no name, no choice
            await loop.create_connection(
                lambda: connection, host, port, ssl=tls, server_hostname=server_name, ssl_handshake_timeout=limit
            )
            return
        sock = await aiohappyeyeballs.start_connection(
            await _addresses(host, port),
            happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
            loop=loop,
            socket_factory=make_socket,
        )
        await loop.create_connection(
            lambda: connection, sock=sock, ssl=tls, server_hostname=server_name, ssl_handshake_timeout=limit
        )
    except BaseException as error:
        connection.abort()  # it may be there by now: with TLS, closing it in good form would take a while
        if sock is not None:
            sock.close()
        if isinstance(error, OSError) and not isinstance(error, TimeoutError | Unreached):
            raise Unreached(f"no connection to port {port} there ({error.strerror or type(error).__name__})") from error
        raise


async def _addresses(host: str, port: int) -> list[Any]:
    if _is_address(host):  # in its usual spelling it needs no thread to be looked up
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NoSuchName("the name leads to no address") from error


@lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
