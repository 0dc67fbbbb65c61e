"""Visitor: sends another node signed calls as a peer does, and holds their answers open."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from peers.guests import Guest, Guests
from peers.http1 import answer as http1
from peers.network.contact import Answer, Contact
from peers.network.dialing import Address
from peers.network.signatures import Signed, content_digest
from peers.upstreams.link import read_whole
from tests.calls import HELLO
from tests.fakes import ModelServer
from tests.fleet import address_of
from tests.nodes import Running
from tests.waiting import until

CALLS, FORWARD = "/peer/v1/calls", "/peer/v1/forward"
SOON = 0.5
"""Ten times the 50 ms in which work is to stop (docs/promises.md B5)."""


@dataclass(slots=True)
class Visit:
    """One call, as its asker sees it."""

    request_id: str
    task: asyncio.Task[Answer] = field(repr=False)

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            return await self.task


class Visitor:
    """`asker` sends to `server`; both are in one network, and know each other."""

    def __init__(self, asker: Running, server: Running) -> None:
        network = asker.node.joined.network
        assert network is not None
        self.contact: Contact = network.contact
        self.server = server
        self.at = Address.parse(address_of(server))
        self.visits: list[Visit] = []

    @property
    def guests(self) -> Guests:
        return self.server.node.guests

    def under_way(self, visit: Visit) -> Guest | None:
        found = self.guests.of(self.contact._me, [visit.request_id])
        return found[0] if found else None

    async def open(
        self,
        path: str = "/api/chat",
        body: bytes | None = None,
        *,
        deadline_ms: int = 20_000,
        request_id: str | None = None,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> http1.Answer:
        """An open answer; whoever gets it closes it."""
        sent = chat() if body is None else body
        name = secrets.token_hex(16) if request_id is None else request_id
        to = self.server.node.who.id
        request = Signed("POST", FORWARD + path, kind, content_digest(sent), to, name, deadline_ms)
        return await self.contact.open(request, self.at, sent, headers or {}, silence=10)

    async def ask(self, path: str = "/api/chat", body: bytes | None = None, **more: Any) -> Answer:
        """The whole answer."""
        with closing(await self.open(path, body, **more)) as got:
            content = await read_whole(got, 1 << 20)
            return Answer(got.status, {name.lower(): text for name, text in got.headers.items()}, content)

    async def visit(self, path: str = "/api/chat", body: bytes | None = None, **more: Any) -> Visit:
        """Ask, and wait no further than until the node works on it."""
        name = secrets.token_hex(16)
        visit = Visit(name, asyncio.create_task(self.ask(path, body, request_id=name, **more)))
        self.visits.append(visit)
        await until(lambda: self.under_way(visit) is not None or visit.task.done())
        return visit

    async def calls(self, ask: Sequence[str] = (), stop: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        answer = await self.post(msgspec.json.encode({"ask": ask, "stop": stop}))
        assert answer.status == 200, answer
        told: dict[str, dict[str, Any]] = msgspec.json.decode(answer.body)["calls"]
        return told

    async def post(self, body: bytes) -> Answer:
        to = self.server.node.who.id
        return await self.contact.post(to, self.at, CALLS, body, content_type="application/json", within=5)

    async def close(self) -> None:
        for visit in self.visits:
            visit.task.cancel()
        await asyncio.gather(*(visit.task for visit in self.visits), return_exceptions=True)


@asynccontextmanager
async def visiting(asker: Running, server: Running) -> AsyncIterator[Visitor]:
    """At the end nothing is left behind: no place, no call, no byte of a body."""
    visitor = Visitor(asker, server)
    try:
        yield visitor
    finally:
        await visitor.close()
        await until(lambda: nothing_left(server), 5)


def nothing_left(server: Running) -> bool:
    node = server.node
    return (
        not len(node.guests)
        and node.bodies.held == 0
        and all((up.places.taken, up.places.guests) == (0, []) for up in node.own.upstreams)
    )


def chat(model: str = "llama3", **fields: object) -> bytes:
    return msgspec.json.encode({"model": model, **HELLO, **fields})


async def in_work(server: ModelServer, count: int = 1) -> None:
    """Wait until so many requests for work have arrived there whole."""
    await server.asked(count)
