"""A peer whose listener is looked into, and what who is no member sends it."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from handlers.admission import BodyMemory
from handlers.handed import Serving
from masa_node.server import NodeServer
from masa_node.tls_accept import accepting_tls
from peers.guests import Guests
from peers.upstreams.own import Own
from peers.wire import Answerer, NodeId
from tests import signing
from tests.peers import Peer, peer
from tests.raw_tls import status_of

LARGEST_ANSWER = 2048
SERVES_NOBODY = Serving(cast(Answerer, None), cast(Own, None), Guests(1), BodyMemory(1 << 20), 1 << 20, lambda: None)
"""A call that came as far as work would be a fault."""
REFUSED = {400, 401, 403, 404, 405, 408, 413, 415, 429, 431}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
PATHS = (
    *("/peer/v1/ping", "/peer/v1/identify", "/peer/v1/gossip", "/peer/v1/forward", "/peer/v1/calls", "/peer/v1/secret"),
    *("/peer/v1/forward/v1/chat/completions", "/peer/v1/", "/peer/", "/", "/v1/api/chat", "/api/v1/node", "/metrics"),
    *("/peer/v1/gossip/", "//peer/v1/gossip", "/peer/v1/../v1/gossip", "/peer/v1/%67ossip", "/peer/v1/gossip?a=1", "*"),
)


@asynccontextmanager
async def victim(folder: Path, **options: Any) -> AsyncIterator[tuple[Peer, NodeServer]]:
    """With the server of its peer listener."""
    opened: list[NodeServer] = []

    def seen(server: NodeServer, *rest: Any) -> AbstractAsyncContextManager[None]:
        opened.append(server)
        return accepting_tls(server, *rest)

    async with peer(folder, listen=seen, serving=SERVES_NOBODY, **options) as one:
        yield one, opened[0]


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def forged(to: Peer, path: str, body: bytes = b"{}", keyid: NodeId = signing.SENDER) -> dict[str, str]:
    """Headers in perfect form, signed by another key than the one they name."""
    key = Ed25519PrivateKey.from_private_bytes(b"\5" * 32)
    return signing.sign(signing.request(body, to=to.id, path=path), key, keyid, time.time(), os.urandom(16))


def refused(answer: bytes) -> None:
    """In few bytes, and without a word of who this is."""
    assert status_of(answer) in REFUSED, answer[:300]
    assert len(answer) <= LARGEST_ANSWER
    assert b"X-Masa" not in answer
