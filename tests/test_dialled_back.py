"""Real nodes over TLS: where peers see a node come from, and whether they reach it (docs/security.md C-10)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from peers.network.carrier import JSON, Identified, Identify
from peers.network.contact import Answer
from peers.network.dialing import Address
from peers.network.tokens import Secret
from tests.peers import Peer, peer, rounds

Start = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def one(name: str, **options: object) -> Peer:
            return await stack.enter_async_context(peer(tmp_path / name, **options))  # type: ignore[arg-type]

        yield one


@asynccontextmanager
async def somewhere() -> AsyncIterator[tuple[Address, list[None]]]:
    """An address that is no node's, and how often somebody connected to it."""
    came: list[None] = []

    def came_by(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(None)
        writer.close()

    async with await asyncio.start_server(came_by, "127.0.0.1", 0) as server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1]), came


@asynccontextmanager
async def relay(to: Address) -> AsyncIterator[tuple[Address, list[None]]]:
    """Another address of the same node, and how many connections went through it."""
    came: list[None] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while chunk := await reader.read(65536):
                writer.write(chunk)
            writer.close()

        async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(None)
            behind = await asyncio.open_connection(to.host, to.port)
            group.create_task(pump(reader, behind[1]))
            group.create_task(pump(behind[0], writer))

        server = await stack.enter_async_context(await asyncio.start_server(through, "127.0.0.1", 0))
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1]), came


async def identified(a: Peer, b: Peer, *dial: str, at: Address | None = None) -> Answer:
    body = msgspec.json.encode(Identify(a.network.membership.sealed, dial=dial))
    return await a.network.contact.post(b.id, at or b.address, "/peer/v1/identify", body, content_type=JSON, within=10)


def reached(answer: Answer) -> tuple[str, ...] | None:
    assert answer.status == 200
    return msgspec.json.decode(answer.body, type=Identified).reached


async def test_a_peer_says_where_it_reached_who_asks(start: Start) -> None:
    a, b = await start("a"), await start("b")
    async with somewhere() as (no_node, came):
        answer = await identified(a, b, str(no_node), str(a.address), str(b.address), "169.254.169.254:4001")
    assert reached(answer) == (str(a.address),)
    assert len(came) == 1
    assert msgspec.json.decode(answer.body, type=Identified).seen == "127.0.0.1"
    assert reached(await identified(a, b, str(a.address))) is None  # once a minute
    assert reached(await identified(b, a, str(b.address))) == (str(b.address),)


async def test_who_does_not_ask_is_not_dialled(start: Start) -> None:
    a, b = await start("a"), await start("b")
    assert reached(await identified(a, b)) is None


async def test_who_is_no_member_is_not_dialled_back(start: Start) -> None:
    a, b = await start("a", secret=Secret(bytes(32))), await start("b")
    async with somewhere() as (address, came):
        answer = await identified(a, b, str(address))
    assert (answer.status, came) == (403, [])


async def test_too_many_addresses_are_refused(start: Start) -> None:
    a, b = await start("a"), await start("b")
    answer = await identified(a, b, *[f"127.0.0.1:{port}" for port in range(4001, 4006)])
    assert (answer.status, answer.refused) == (400, "malformed")


async def test_a_node_learns_at_which_of_its_addresses_it_is_reached(start: Start) -> None:
    a = await start("a", addresses=(), hosts=lambda: ["127.0.0.2", "127.0.0.1"])
    b = await start("b", bootnodes=(str(a.address),))
    port = a.address.port
    assert a.network.whereabouts.addresses() == (f"127.0.0.2:{port}", f"127.0.0.1:{port}")
    answers = (f"127.0.0.1:{port}", f"127.0.0.2:{port}")
    await rounds([a, b], lambda: a.network.whereabouts.addresses() == answers)
    assert a.network.whereabouts.reach(time.time()) == "reachable"


async def test_a_peers_request_shows_that_it_reaches_us(start: Start) -> None:
    a, b = await start("a"), await start("b")
    assert a.network.whereabouts.reach(time.time()) == "unknown"
    await identified(b, a)
    assert a.network.whereabouts.reach(time.time()) == "reachable"


async def test_after_a_move_kept_connections_are_used_no_more(start: Start) -> None:
    a, b = await start("a"), await start("b")
    async with relay(b.address) as (address, came):
        for _ in range(3):
            await identified(a, b, at=address)
        kept = len(came)
        assert kept <= 2  # the second is that of the agreement on a key
        a.network.sessions.renew()
        for _ in range(3):
            await identified(a, b, at=address)
        assert kept < len(came) <= kept + 2
        a.network.sessions.close()  # so that the relay ends
