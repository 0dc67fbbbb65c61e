"""Accepted: a connection that was accepted, as servers know it; whose it is, and its hard end."""

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from typing import cast

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Accepted(asyncio.Protocol, ABC):
    """A connection that was accepted. aiohttp calls close() and shutdown() of those its server lists."""

    __slots__ = ()

    transport: asyncio.Transport | None
    """None until it is connected."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Something is being answered on it."""


def address_of(transport: asyncio.BaseTransport) -> str:
    """Of the other side, without its port."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


def reset(transport: asyncio.BaseTransport) -> None:
    """Close so that the other side sees a reset, not an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    cast(asyncio.Transport, transport).abort()  # uvloop's transports are no subclass
