"""Sessions: the only HTTP clients that dial peers; their kept connections can be given up at once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from peers.network.dialing import Address, DialPolicy

MOST_OPEN, MOST_PER_HOST = 0, 0
KEPT_SECONDS = 60.0
"""For which an idle connection is kept."""

Connect = Callable[[DialPolicy, bool], aiohttp.BaseConnector]
"""(what may be dialled, whether the operator named it): what makes the connections and asks KeyCheck about them."""


def peer_connector(policy: DialPolicy, named: bool) -> aiohttp.BaseConnector:
    """TLS to addresses that the operator named, or else to those that `policy` allows."""
    return aiohttp.TCPConnector(
        socket_factory=policy.socket_factory(named),
        limit=MOST_OPEN,
        limit_per_host=MOST_PER_HOST,
        keepalive_timeout=KEPT_SECONDS,
    )


class Sessions:
    def __init__(self, policy: DialPolicy, connect: Connect) -> None:
        self._policy = policy
        self._connect = connect
        self._open: dict[tuple[bool, bool], aiohttp.ClientSession] = {}
        self._closed = False
        self.generation = 0
        """Of the connections that may be used: part of every pin."""

    def to(self, address: Address, *, calls: bool = False) -> aiohttp.ClientSession:
        """By whether the operator named the address; calls apart, so that answers that stream hold up no gossip and
        no stop. Raises aiohttp.ClientConnectionError when the network was left."""
        if self._closed:
            raise aiohttp.ClientConnectionError("this node has left the network")
        key = address in self._policy.named, calls
        if key not in self._open:
            self._open[key] = _session(self._connect(self._policy, key[0]))
        return self._open[key]

    def renew(self) -> None:
        """Those kept lead nowhere once this machine slept or moved: none is used again; what they do, they finish."""
        self.generation += 1

    async def close(self) -> None:
        self._closed = True
        for session in self._open.values():
            await session.close()


@asynccontextmanager
async def peer_sessions(policy: DialPolicy, connect: Connect = peer_connector) -> AsyncIterator[Sessions]:
    sessions = Sessions(policy, connect)
    try:
        yield sessions
    finally:
        await sessions.close()


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
